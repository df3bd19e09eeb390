"""Workers replace certificates by themselves: from the settings, one process at a time, with an event."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta
from threading import Event
from typing import Any

import pytest

from postroom import wiring
from postroom.settings.loading import load_settings
from postroom.setup.errors import SetupError
from postroom.setup.renewing import alone, renew_for_ever, renewal
from postroom.setup.rotation import Rotated

from .conftest import Room
from .test_rotation import Renewing


class Told:
    """The events of one look at all certificates, after which it stops."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.stop = Event()

    def __call__(self, event: str, **facts: Any) -> None:
        self.events.append({"event": event, **facts})
        self.stop.set()


def settings_of(renewing: Renewing, every: str) -> Any:
    address = renewing.room.address
    return load_settings(
        {
            "POSTROOM_REDIS_URL": "redis://127.0.0.1:1/0",
            "POSTROOM_TENANT_ID": address.tenant_id,
            "POSTROOM_CLIENT_ID": renewing.app_id,
            "POSTROOM_CLIENT_CERTIFICATE": str(renewing.path),
            "POSTROOM_AUTHORITY_URL": address.authority_url,
            "POSTROOM_GRAPH_URL": address.graph_url,
            "POSTROOM_CA_BUNDLE": address.ca_file,
            "POSTROOM_ROTATE": every,
        },
        renewing.room.folder / "none",
    )


def test_a_worker_replaces_a_certificate_that_is_due(room: Room) -> None:
    renewing, told = Renewing(room), Told()
    before = renewing.thumbprint()
    renew_for_ever(wiring.renewals(settings_of(renewing, "1min")), told.stop, told, 0.0)
    assert told.events == [{"event": "certificate.rotated", "app": "default", "step": "the new certificate is used"}]
    assert renewing.registered() == {before, renewing.thumbprint()}
    assert renewing.own_token()


def test_one_that_is_not_due_is_left_alone(room: Room) -> None:
    renewing = Renewing(room)
    (renew,) = wiring.renewals(settings_of(renewing, "60d")).values()
    assert renew() is Rotated.NOTHING
    assert len(renewing.registered()) == 1


def test_a_fault_is_told_and_ends_nothing(room: Room) -> None:
    renewing, told = Renewing(room), Told()
    renewing.room.sandbox.change_directory(credential_policy={"certificate_days": 30})
    renew_for_ever(wiring.renewals(settings_of(renewing, "1min")), told.stop, told, 0.0)
    (event,) = told.events
    assert event["event"] == "certificate.failed"
    assert "app management policy forbids it" in event["error"]


def test_while_another_process_is_at_it_nothing_is_done(room: Room) -> None:
    renewing = Renewing(room)
    code = "import sys; from pathlib import Path; from postroom.setup.renewing import alone\n"
    code += "with alone(Path(sys.argv[1])) as mine: print(mine, flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(renewing.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout
        assert other.stdout.readline() == "True\n"
        assert renewal(renewing.rotation(), timedelta(0))() is Rotated.NOTHING
        other.kill()
    assert renewal(renewing.rotation(), timedelta(0))() is Rotated.SWITCHED


def test_a_folder_that_cannot_be_written_to_is_named(room: Room) -> None:
    with pytest.raises(SetupError, match="make its folder writable"), alone(room.folder / "none" / "a.pem"):
        pass


@pytest.mark.parametrize(
    ("given", "faults"),
    [
        ({"POSTROOM_CLIENT_SECRET": "x"}, 1),
        ({"POSTROOM_CLIENT_CERTIFICATE": "a.pfx"}, 1),
        ({"POSTROOM_CLIENT_CERTIFICATE": "a.pem"}, 0),
    ],
)
def test_only_a_certificate_in_a_pem_file_can_be_replaced(given: dict[str, str], faults: int) -> None:
    settings = load_settings(
        {
            "POSTROOM_REDIS_URL": "redis://127.0.0.1:1/0",
            "POSTROOM_TENANT_ID": "t",
            "POSTROOM_CLIENT_ID": "c",
            "POSTROOM_ROTATE": "60d",
            **given,
        }
    )
    assert len([one for one in settings.worker_faults() if "POSTROOM_ROTATE" in one]) == faults
