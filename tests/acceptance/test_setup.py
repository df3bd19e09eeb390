"""An app that `postroom setup` has made, in use: a real worker sends with it, and replaces its certificate."""

from collections.abc import Callable
from pathlib import Path

import pytest

from postroom.setup import certificates
from postroom.setup.apply import Site, apply
from postroom.setup.directory import Directory
from postroom.setup.files import Files
from postroom.setup.look import Looker
from postroom.setup.senders import resolve
from postroom.setup.wanted import Wanted
from postroom.transport.requests_http import RequestsHttp
from tests.sandbox.administrator import Administrator

from .conftest import SENDER, Room, until


@pytest.fixture
def registered(open_room: Callable[..., Room], tmp_path: Path) -> tuple[Room, Path]:
    """A room whose workers use an app that may send from SENDER only, and the file of its certificate."""
    room = open_room(device_interval=1)
    admin = Administrator.at(room.sandbox, room.address)
    token = str(admin.session.headers["Authorization"]).removeprefix("Bearer ")
    directory = Directory(room.address.graph_url, RequestsHttp(room.address.ca_file), lambda: token)
    files = Files("Mail worker", tmp_path / "mail-worker.pem", tmp_path / ".env")
    wanted = Wanted(name="Mail worker", scopes=resolve(directory, [SENDER], []))
    found = apply(Site(directory, Looker(directory), files, room.address.tenant_id), wanted)
    del room.environment["POSTROOM_CLIENT_SECRET"]
    room.environment |= {
        "POSTROOM_CLIENT_ID": found.app_id,
        "POSTROOM_CLIENT_CERTIFICATE": str(files.certificate),
    }
    return room, files.certificate


def test_a_mail_from_each_sender_is_followed_to_its_end(registered: tuple[Room, Path]) -> None:
    room, _ = registered
    room.start_worker_process()
    done = room.postroom("setup", "test", "--to", "me@contoso.com")
    assert done.returncode == 0, done.stderr
    assert f"Microsoft 365 has accepted a mail from {SENDER}" in done.stdout
    outside = room.postroom("setup", "test", "--to", "me@contoso.com", "--from", "other@contoso.com", "--timeout", "1s")
    assert outside.returncode == 1
    assert "access_denied" in outside.stdout
    assert [mail.sender for mail in room.sandbox.messages()] == [SENDER]


def test_a_worker_replaces_its_certificate_and_goes_on_sending(registered: tuple[Room, Path]) -> None:
    room, file = registered
    before = certificates.read(file).sha1
    room.start_worker_process(POSTROOM_ROTATE="1min")

    def events() -> list[dict[str, object]]:
        return [line for line in room.log() if str(line["event"]).startswith("certificate.")]

    told = until(events, "the worker to replace the certificate")
    assert (told[0]["event"], told[0]["step"]) == ("certificate.rotated", "the new certificate is used")
    assert certificates.read(file).sha1 != before
    room.start_worker_process()
    assert room.postroom("setup", "test", "--to", "me@contoso.com").returncode == 0
