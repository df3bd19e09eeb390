"""A new certificate beside the old one: used as soon as Entra takes it, and the old one removed later.

Each step is found again by the files, so a rotation that was killed is finished by the next call:
`NAME.next` is a certificate that Entra does not take yet, `NAME.old` one that is not used any longer but not removed.
An app rolls its own certificates without any permission, by a proof that it has a valid one:
https://learn.microsoft.com/graph/application-rollkey-prooftoken
"""

import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Protocol

import jwt

from postroom.graph.credentials import Certificate, CredentialFault, Identity
from postroom.graph.tokens import Token, Tokens
from postroom.setup import certificates
from postroom.setup.certificates import KeyPair
from postroom.setup.directory import Directory
from postroom.setup.errors import Refusal, SetupError, Unsure
from postroom.transport.http import Http

PROOF_AUDIENCE = "00000002-0000-0000-c000-000000000000"
PROOF_LIFE = timedelta(minutes=10)
# Workers read the file for each token, and a token is good for 90 minutes at most.
GRACE = timedelta(hours=24)
PATIENCE_S = 600.0


class Rotated(StrEnum):
    """What a call did. `NOTHING`: no certificate was due, and none is left to remove."""

    NOTHING = "nothing was due"
    WAITING = "Entra does not take the new certificate yet"
    SWITCHED = "the new certificate is used"
    REMOVED = "the old certificate is removed"


class Keeper(Protocol):
    """Who may change the application's certificates: the app itself, or an administrator."""

    def add(self, pair: KeyPair, current: KeyPair) -> str:
        """Adds a certificate; returns the id of its entry."""

    def remove(self, key_id: str, gone: KeyPair, current: KeyPair) -> None:
        """Removes a certificate; one that is not there any longer counts as removed."""


@dataclass(frozen=True, slots=True)
class OwnKeeper:
    """The app itself, by proof of possession. Its certificate names the application that it was made for."""

    directory: Directory
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    def add(self, pair: KeyPair, current: KeyPair) -> str:
        """See Keeper."""
        body = {"keyCredential": pair.entry("postroom"), "passwordCredential": None, "proof": self._proof(current)}
        answer = self.directory.write("POST", f"{_application(current)}/addKey", body)
        return str(answer.get("keyId") or pair.key_id)

    def remove(self, key_id: str, gone: KeyPair, current: KeyPair) -> None:
        """See Keeper."""
        body = {"keyId": key_id, "proof": self._proof(current)}
        try:
            self.directory.write("POST", f"{_application(current)}/removeKey", body)
        except Refusal as refusal:
            if refusal.status not in (400, 404):
                raise

    def _proof(self, pair: KeyPair) -> str:
        now = self.now()
        claims = {"aud": PROOF_AUDIENCE, "iss": pair.object_id, "nbf": now, "exp": now + PROOF_LIFE}
        return jwt.encode(claims, pair.key, "RS256", {"x5t": pair.x5t, "x5t#S256": pair.x5t_s256})


@dataclass(frozen=True, slots=True)
class AdministratorKeeper:
    """An administrator, who may change the whole list."""

    directory: Directory
    object_id: str
    name: str

    def add(self, pair: KeyPair, current: KeyPair) -> str:
        """See Keeper."""
        kept = self._entries()
        if not any(one.get("customKeyIdentifier") == pair.entry("")["customKeyIdentifier"] for one in kept):
            self._write([*kept, pair.entry(self.name)])
        return pair.key_id

    def remove(self, key_id: str, gone: KeyPair, current: KeyPair) -> None:
        """See Keeper."""
        identifier = gone.entry("")["customKeyIdentifier"]
        kept = self._entries()
        left = [one for one in kept if one.get("customKeyIdentifier") != identifier]
        if len(left) < len(kept):
            self._write(left)

    def _entries(self) -> list[Mapping[str, object]]:
        path = f"/v1.0/applications/{self.object_id}?$select=keyCredentials"
        return list(self.directory.read(path).get("keyCredentials") or [])

    def _write(self, entries: list[Mapping[str, object]]) -> None:
        self.directory.write("PATCH", f"/v1.0/applications/{self.object_id}", {"keyCredentials": entries})


@dataclass(frozen=True, slots=True)
class Rotation:
    """The rotation of one certificate file (PEM). `identity` is the app's, with that file as its credential."""

    identity: Identity
    http: Http
    keeper: Keeper
    path: Path
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    sleep: Callable[[float], None] = time.sleep

    @property
    def next_path(self) -> Path:
        return self.path.with_name(f"{self.path.name}.next")

    @property
    def old_path(self) -> Path:
        return self.path.with_name(f"{self.path.name}.old")

    def run(self, every: timedelta, *, life: timedelta | None = None, patience_s: float = PATIENCE_S) -> Rotated:
        """Takes the rotation as far as it goes now. A certificate is due once it is `every` old.

        The new one lives as long as the old one did, unless `life` is given. Raises SetupError.
        """
        current = self._read(self.path)
        if not self.next_path.exists():
            if self.old_path.exists():
                return self._remove_old(current)
            if self.now() - current.starts < every:
                return Rotated.NOTHING
            fresh = certificates.make(
                _name(current), life or current.ends - current.starts, self.now(), current.object_id
            )
            certificates.write_private(self.next_path, fresh.pem)
        return self._switch(current, patience_s)

    def _switch(self, current: KeyPair, patience_s: float) -> Rotated:
        fresh = self._read(self.next_path)
        waited_s, pause_s = 0.0, 2.0
        while not self._taken():
            if waited_s >= patience_s:
                return Rotated.WAITING
            if waited_s == 0.0:
                fresh = self._add(fresh, current)
            self.sleep(pause_s)
            waited_s, pause_s = waited_s + pause_s, min(pause_s * 2, 30.0)
        certificates.write_private(self.old_path, current.pem)
        self.next_path.replace(self.path)
        return Rotated.SWITCHED

    def _add(self, fresh: KeyPair, current: KeyPair) -> KeyPair:
        try:
            key_id = self.keeper.add(fresh, current)
        except Unsure:
            return fresh  # whether it was added, the next request for a token shows
        except Refusal as refusal:
            if "Duplicate" in refusal.code:  # an earlier call's answer was lost
                return fresh
            if refusal.code.endswith("AsPerAppPolicy"):
                self.next_path.unlink(missing_ok=True)
                hint = "the tenant's app management policy forbids it; a shorter life may be allowed (--days)"
                raise SetupError(f"{hint}: {refusal}") from None
            raise
        noted = replace(fresh, key_id=key_id)
        certificates.write_private(self.next_path, noted.pem)
        return noted

    def _taken(self) -> bool:
        """Whether Entra gives a token for the new certificate."""
        identity = replace(self.identity, credential=Certificate(self.next_path))
        return isinstance(Tokens(identity, self.http).probe(), Token)

    def _remove_old(self, current: KeyPair) -> Rotated:
        if self.now() - current.starts < GRACE:
            return Rotated.NOTHING
        old = self._read(self.old_path)
        self.keeper.remove(old.key_id, old, current)
        self.old_path.unlink()
        return Rotated.REMOVED

    def _read(self, path: Path) -> KeyPair:
        try:
            return certificates.read(path)
        except CredentialFault as fault:
            raise SetupError(str(fault)) from None


def _application(current: KeyPair) -> str:
    if not current.object_id:
        raise SetupError(
            "the certificate does not name the application that it is for, so the app cannot renew it by itself; "
            "let an administrator do it: postroom setup rotate --sign-in code"
        )
    return f"/v1.0/applications/{uuid.UUID(current.object_id)}"


def _name(pair: KeyPair) -> str:
    found = pair.certificate.subject.get_attributes_for_oid(certificates.COMMON_NAME)
    return str(found[0].value) if found else "postroom"
