"""Setting an app up and undoing it, against the sandbox: also killed at every change, and with slow directories."""

from __future__ import annotations

import stat
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from postroom.graph.credentials import Certificate, Identity
from postroom.graph.tokens import Tokens
from postroom.setup import certificates
from postroom.setup.apply import Site, apply, undo
from postroom.setup.errors import SetupError
from postroom.setup.evidence import gather
from postroom.setup.plan import Do, Step, steps
from postroom.setup.wanted import Feature
from postroom.transport.http import Http, Response

from .conftest import NAME, Room

NOTHING = {"applications": 0, "deleted": 0, "principals": 0, "grants": 0, "assignments": 0}
ALL = (Feature.DRAFT, Feature.TRACE)


# "Before" takes long, and finds the tenant as "after" the change before does.
KILLED = pytest.mark.parametrize(
    "after", [pytest.param(False, marks=pytest.mark.world, id="before"), pytest.param(True, id="after")]
)


class Killed(BaseException):
    """The process died here."""


class Dying:
    """HTTP whose process dies at its Nth change: before it was asked for, or after it was carried out."""

    def __init__(self, http: Http, at: int, *, after: bool) -> None:
        self._http, self._left, self._after = http, at, after

    def exchange(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None,
        deadline_s: float,
        before_write: Callable[[], None] | None = None,
    ) -> Response:
        self._left -= method != "GET"  # what is only read leaves everything as it was
        dies = self._left == 0 and method != "GET"
        if dies and not self._after:
            raise Killed
        answer = self._http.exchange(method, url, headers=headers, body=body, deadline_s=deadline_s)
        if dies:
            raise Killed
        return answer


def test_an_app_is_set_up_and_may_send_from_its_mailboxes_only(room: Room) -> None:
    site, wanted, done = room.site(), room.wanted(), list[Step]()
    found = apply(site, wanted, done.append)
    assert [step.do for step in done] == [
        Do.REGISTER,
        Do.MAKE_KEY,
        Do.ADD_CERTIFICATE,
        Do.ADD_PRINCIPAL,
        Do.ASSIGN,
        Do.WRITE_SETTINGS,
    ]
    assert room.made() == {**NOTHING, "applications": 1, "principals": 1, "assignments": 1}
    assert stat.S_IMODE(site.files.certificate.stat().st_mode) == 0o600
    assert site.files.settings.read_text().splitlines()[1:4] == [
        f"POSTROOM_TENANT_ID={room.address.tenant_id}",
        f"POSTROOM_CLIENT_ID={found.app_id}",
        f"POSTROOM_CLIENT_CERTIFICATE={site.files.certificate}",
    ]
    assert steps(wanted, found, datetime.now(UTC)) == []
    shown = gather(room.http, room.address.graph_url, tokens(room, site), ["noreply@contoso.com"], ["ann@contoso.com"])
    assert [(one.mailbox, one.as_wanted) for one in shown if not isinstance(one, str)] == [
        ("noreply@contoso.com", True),
        ("ann@contoso.com", True),
    ]


def tokens(room: Room, site: Site) -> Tokens:
    app_id = site.looker.look(NAME, site.files).app_id
    identity = Identity(
        tenant_id=room.address.tenant_id,
        client_id=app_id,
        authority_url=room.address.authority_url,
        graph_url=room.address.graph_url,
        credential=Certificate(site.files.certificate),
    )
    return Tokens(identity, room.http)


@KILLED
def test_killed_at_any_change_and_run_again_it_comes_to_the_same_end(room: Room, after: bool) -> None:
    wanted = room.wanted(features=ALL)
    end = {"applications": 1, "deleted": 0, "principals": 2, "grants": 1, "assignments": 2}
    at, is_whole = 0, False
    while not is_whole:
        at += 1
        room.sandbox.reset()
        room.sign_in()
        try:
            apply(room.site(Dying(room.http, at, after=after)), wanted)
            is_whole = True
        except Killed:
            found = apply(room.site(), wanted)
            assert len(found.thumbprints) == 1, f"killed at change {at}"
        assert room.made() == end, f"killed at change {at}"
        list(undo(room.site(), NAME))
        left = {**NOTHING, "principals": 1}  # Microsoft's own, for message traces
        assert room.made() == left, f"killed at change {at}"
        assert list(room.folder.iterdir()) == []
    assert at == 8, "one change for each step in the tenant, and a run that nothing disturbs"


@KILLED
def test_an_undo_that_was_killed_at_any_change_is_finished_by_the_next(room: Room, after: bool) -> None:
    wanted = room.wanted()
    at = 0
    while True:
        at += 1
        apply(room.site(), wanted)
        try:
            list(undo(room.site(Dying(room.http, at, after=after)), NAME))
        except Killed:
            list(undo(room.site(), NAME))
            assert room.made() == NOTHING, f"killed at change {at}"
            assert list(room.folder.iterdir()) == []
        else:
            break
    assert at > 3


@pytest.mark.parametrize("status", [500, 503, 504])
def test_lost_answers_and_slow_directories_only_cost_time(room: Room, status: int) -> None:
    wanted = room.wanted(features=(Feature.LOOK_UP,))
    room.sandbox.change_directory(directory_delay=30, exchange_delay=600)
    room.sandbox.add_fault(stage="directory", status=status, accepted=True, probability=0.3, times=15)
    apply(room.site(), wanted)
    assert room.made() == {**NOTHING, "applications": 1, "principals": 1, "assignments": 2}


def test_what_was_undone_can_be_set_up_again_though_its_key_is_taken(room: Room) -> None:
    wanted = room.wanted()
    for _ in range(3):
        found = apply(room.site(), wanted)
        assert apply(room.site(), wanted).app_id == found.app_id
        assert room.made() == {**NOTHING, "applications": 1, "principals": 1, "assignments": 1}
        list(undo(room.site(), NAME))
        assert room.made() == NOTHING


def test_throttling_is_waited_out(room: Room) -> None:
    wanted = room.wanted()
    room.sandbox.add_fault(stage="directory", status=429, retry_after=7, times=3)
    apply(room.site(), wanted)
    assert room.made()["assignments"] == 1


def test_what_is_too_much_is_taken_away_only_if_the_person_agrees(room: Room) -> None:
    apply(room.site(), room.wanted("noreply@contoso.com", "office@contoso.com"))
    site, wanted = room.site(), room.wanted("noreply@contoso.com")
    found = site.looker.look(NAME, site.files)
    graph = site.looker.graph_id()
    grant = {
        "principalId": found.principal_id,
        "resourceId": graph,
        "appRoleId": "b633e1c5-b582-4048-a93e-9f11b44c7e96",
    }
    site.directory.write("POST", f"/v1.0/servicePrincipals/{found.principal_id}/appRoleAssignments", grant)
    asked = list[str]()

    def refuse(step: Step) -> bool:
        asked.append(step.do)
        return False

    apply(room.site(), wanted, agree=refuse)
    assert asked == [Do.UNASSIGN, Do.REVOKE]
    assert (room.made()["assignments"], room.made()["grants"]) == (2, 1)
    found = apply(room.site(), wanted)
    assert (room.made()["assignments"], room.made()["grants"]) == (1, 0)
    assert [one.scope for one in found.assigned] == [wanted.scopes[0].path]


def test_the_life_of_a_certificate_is_what_the_policy_allows(room: Room) -> None:
    room.sandbox.change_directory(credential_policy={"certificate_days": 30})
    site = room.site()
    apply(site, room.wanted())
    pair = certificates.read(site.files.certificate)
    assert (pair.ends - pair.starts).days == 30


def test_a_policy_that_nobody_may_read_is_heard_of_when_the_certificate_is_refused(room: Room) -> None:
    room.sandbox.change_directory(credential_policy={"certificate_days": 30})
    wanted = room.wanted()
    room.sandbox.add_fault(stage="directory", status=403, code="Authorization_RequestDenied", times=1)
    with pytest.raises(SetupError, match="app management policy forbids it"):
        apply(room.site(), wanted)
    room.sandbox.add_fault(stage="directory", status=403, code="Authorization_RequestDenied", times=1)
    apply(room.site(), replace(wanted, certificate_days=30))
    assert room.made()["assignments"] == 1


def test_a_person_without_the_role_is_told_which_it_takes(room: Room) -> None:
    wanted = room.wanted()
    room.sign_in("clerk@contoso.com")
    with pytest.raises(SetupError, match="needs the role Application Administrator"):
        apply(room.site(), wanted)
    assert room.made() == NOTHING


def test_the_key_of_another_app_is_not_overwritten(room: Room) -> None:
    apply(room.site(), room.wanted())
    before = (room.folder / "mail-worker.pem").read_bytes()
    room.sandbox.reset()
    room.sign_in()
    with pytest.raises(SetupError, match="has the key of another app"):
        apply(room.site(), room.wanted())
    assert (room.folder / "mail-worker.pem").read_bytes() == before


def test_settings_that_are_there_already_are_not_touched(room: Room) -> None:
    (room.folder / ".env").write_text("POSTROOM_REDIS_URL=redis://x\nPOSTROOM_CLIENT_ID=other\n")
    with pytest.raises(SetupError, match="sets POSTROOM_CLIENT_ID already"):
        apply(room.site(), room.wanted())
    assert (room.folder / ".env").read_text() == "POSTROOM_REDIS_URL=redis://x\nPOSTROOM_CLIENT_ID=other\n"


def test_a_further_app_gets_a_table_and_other_lines_stay(room: Room) -> None:
    (room.folder / "postroom.toml").write_text('[senders."a@b.c"]\napp = "mail-worker"')
    site = room.site(settings="postroom.toml")
    found = apply(site, room.wanted())
    text = site.files.settings.read_text()
    assert "[apps.mail-worker]" in text
    assert f'client_id = "{found.app_id}"' in text
    list(undo(site, NAME))
    assert site.files.settings.read_text().strip() == '[senders."a@b.c"]\napp = "mail-worker"'


@pytest.mark.parametrize(
    ("senders", "message"),
    [
        (["nobody@contoso.com", "Nowhere"], "nobody@contoso.com: neither .*; Nowhere: neither"),
        (["Twice"], "2 groups have this name"),
    ],
)
def test_senders_that_are_not_there_are_all_named(room: Room, senders: list[str], message: str) -> None:
    with pytest.raises(SetupError, match=message):
        room.wanted(*senders)


def test_nested_groups_are_warned_of(room: Room) -> None:
    (scope,) = room.wanted("Nested").scopes
    assert "do not count" in scope.warning
    (unit,) = room.wanted("Mail senders", units=("Offices",)).scopes[1:]
    assert (unit.kind, unit.mailboxes) == ("AdministrativeUnits", ("office@contoso.com",))
