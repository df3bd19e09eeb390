"""A new certificate beside the old one, by the app itself and by an administrator; killed at each change as well."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from postroom.graph.credentials import Certificate, Identity
from postroom.graph.tokens import Token, Tokens
from postroom.setup import certificates
from postroom.setup.apply import apply
from postroom.setup.directory import Directory
from postroom.setup.errors import SetupError
from postroom.setup.rotation import AdministratorKeeper, Keeper, OwnKeeper, Rotated, Rotation
from postroom.transport.http import Http

from .conftest import NAME, Room
from .test_apply import KILLED, Dying, Killed

YEAR = timedelta(days=365)


class Renewing:
    """An app that was set up, and whose certificate is rotated. `days` is how far its own clock is ahead."""

    def __init__(self, room: Room) -> None:
        self.room = room
        found = apply(room.site(), room.wanted())
        self.path: Path = room.folder / "mail-worker.pem"
        self.object_id, self.app_id = found.object_id, found.app_id
        self.days = 0.0

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(days=self.days)

    def identity(self) -> Identity:
        return Identity(
            tenant_id=self.room.address.tenant_id,
            client_id=self.app_id,
            authority_url=self.room.address.authority_url,
            graph_url=self.room.address.graph_url,
            credential=Certificate(self.path),
        )

    def own_token(self) -> str:
        token = Tokens(self.identity(), self.room.http).get()
        assert isinstance(token, Token)
        return token.value

    def rotation(self, http: Http | None = None, *, by_admin: bool = False) -> Rotation:
        room = self.room
        keeper: Keeper
        if by_admin:
            keeper = AdministratorKeeper(room.directory(http), self.object_id, NAME)
        else:
            keeper = OwnKeeper(Directory(room.address.graph_url, http or room.http, self.own_token, room.sleep))
        return Rotation(self.identity(), room.http, keeper, self.path, self.now, room.sleep)

    def registered(self) -> frozenset[str]:
        site = self.room.site()
        return site.looker.look(NAME, site.files).thumbprints

    def thumbprint(self) -> str:
        return certificates.read(self.path).sha1


@pytest.fixture
def renewing(room: Room) -> Renewing:
    return Renewing(room)


@pytest.mark.parametrize("by_admin", [False, True], ids=["by the app", "by an administrator"])
def test_a_certificate_is_replaced_without_a_gap(renewing: Renewing, by_admin: bool) -> None:
    before = renewing.thumbprint()
    assert renewing.rotation(by_admin=by_admin).run(YEAR) is Rotated.NOTHING
    assert renewing.rotation(by_admin=by_admin).run(timedelta(0)) is Rotated.SWITCHED
    after = renewing.thumbprint()
    assert renewing.registered() == {before, after}
    assert renewing.rotation(by_admin=by_admin).run(YEAR) is Rotated.NOTHING, "the old one is still there"
    renewing.days = 1.1
    assert renewing.rotation(by_admin=by_admin).run(YEAR) is Rotated.REMOVED
    assert renewing.registered() == {after}
    assert renewing.own_token()
    assert sorted(path.name for path in renewing.path.parent.iterdir()) == [".env", "mail-worker.pem"]


@pytest.mark.parametrize("by_admin", [False, True], ids=["by the app", "by an administrator"])
@KILLED
def test_a_rotation_that_was_killed_is_finished_by_the_next(renewing: Renewing, after: bool, by_admin: bool) -> None:
    before = renewing.thumbprint()
    with pytest.raises(Killed):
        renewing.rotation(Dying(renewing.room.http, 1, after=after), by_admin=by_admin).run(timedelta(0))
    assert renewing.thumbprint() == before
    assert renewing.own_token()
    assert renewing.rotation(by_admin=by_admin).run(timedelta(0)) is Rotated.SWITCHED
    assert renewing.registered() == {before, renewing.thumbprint()}
    renewing.days = 1.1
    with pytest.raises(Killed):
        renewing.rotation(Dying(renewing.room.http, 1, after=after), by_admin=by_admin).run(YEAR)
    assert renewing.rotation(by_admin=by_admin).run(YEAR) is Rotated.REMOVED
    # Only the lost answer knew the id of the first new entry; of what is left the app cannot ask.
    assert renewing.registered() == {renewing.thumbprint()}


def test_it_is_used_only_when_entra_takes_it(renewing: Renewing) -> None:
    before = renewing.thumbprint()
    renewing.room.sandbox.change_directory(directory_delay=3600)
    assert renewing.rotation().run(timedelta(0), patience_s=60) is Rotated.WAITING
    assert renewing.thumbprint() == before
    renewing.room.sandbox.change_directory(advance=3600)
    assert renewing.rotation().run(timedelta(0)) is Rotated.SWITCHED


def test_a_policy_that_forbids_the_life_is_named_and_nothing_is_left(renewing: Renewing) -> None:
    renewing.room.sandbox.change_directory(credential_policy={"certificate_days": 30})
    with pytest.raises(SetupError, match="app management policy forbids it; a shorter life"):
        renewing.rotation().run(timedelta(0))
    assert renewing.rotation().run(timedelta(0), life=timedelta(days=30)) is Rotated.SWITCHED


def test_a_certificate_that_names_no_application_is_left_to_an_administrator(renewing: Renewing) -> None:
    made_by_hand = certificates.make("by hand", YEAR, datetime.now(UTC))
    certificates.write_private(renewing.path, made_by_hand.pem)
    with pytest.raises(SetupError, match="let an administrator do it"):
        renewing.rotation().run(timedelta(0))
