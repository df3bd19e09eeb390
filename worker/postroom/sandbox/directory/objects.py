"""What the directory holds: applications, service principals, people, grants, and the roles that Exchange assigns."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from uuid import NAMESPACE_URL, uuid4, uuid5

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from postroom.sandbox.entra.tokens import GRAPH_APP_ID, Claims
from postroom.sandbox.options import Account, AppRegistration, People, SandboxOptions

TRACE_APP_ID = "8bd644d1-64a1-4d4b-ae52-2e0cbf64e373"

# https://learn.microsoft.com/graph/permissions-reference
APP_ROLES = {
    "Mail.Send": "b633e1c5-b582-4048-a93e-9f11b44c7e96",
    "Mail.ReadWrite": "e2a3a72e-5f79-4c64-b1b1-878b674786c9",
    "Mail.Read": "810c84a8-4a9e-49e6-bf7d-12d183f40d01",
    "Application.Read.All": "9a5d68dd-52b0-4cc2-bd40-abcf44ac3a30",
    "ExchangeMessageTrace.Read.All": "89b20d8a-76e2-4057-867b-9961f800b9a4",
}
# What each role of Exchange stands for: https://learn.microsoft.com/exchange/permissions-exo/application-rbac
EXCHANGE_ROLES = {
    "Application Mail.Send": ("Mail.Send",),
    "Application Mail.Read": ("Mail.Read",),
    "Application Mail.ReadBasic": ("Mail.ReadBasic",),
    "Application Mail.ReadWrite": ("Mail.ReadWrite",),
    "Application Mail Full Access": ("Mail.ReadWrite", "Mail.Send"),
}
# Roles that have nothing to do with apps. There are more than a page of them, as in a real tenant.
OTHER_EXCHANGE_ROLES = tuple(f"Sandbox Role {number:03}" for number in range(120))


def fixed_id(name: str) -> str:
    """The same GUID for the same name in every sandbox."""
    return str(uuid5(NAMESPACE_URL, f"sandbox:{name.casefold()}"))


def new_id() -> str:
    """A GUID that nothing else has."""
    return str(uuid4())


@dataclass(slots=True, kw_only=True)
class Key:
    """A certificate of an application. Times are in seconds since 1970."""

    id: str
    thumbprint: bytes
    der: bytes
    name: str
    starts: float
    ends: float
    counts_from: float = 0.0


@dataclass(slots=True, kw_only=True)
class Password:
    """A client secret of an application."""

    id: str
    text: str
    name: str
    starts: float
    ends: float


@dataclass(slots=True, kw_only=True)
class Application:
    """An app registration."""

    id: str
    app_id: str
    name: str
    created: float
    seen_from: float
    unique_name: str | None = None
    audience: str = "AzureADMyOrg"
    notes: str | None = None
    tags: list[str] = field(default_factory=list)
    keys: list[Key] = field(default_factory=list)
    passwords: list[Password] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class Principal:
    """A service principal: an application's presence in the tenant."""

    id: str
    app_id: str
    name: str
    seen_from: float = 0.0


@dataclass(slots=True, kw_only=True)
class Grant:
    """An app role of one service principal (the resource) that another one has."""

    id: str
    principal_id: str
    resource_id: str
    role_id: str


@dataclass(slots=True, kw_only=True)
class Assignment:
    """A role of Exchange that a service principal has in a scope."""

    id: str
    principal_id: str
    role: str
    scope: str
    counts_from: float


class Directory:
    """The objects of one tenant. Its clock can be put forward, so that nobody has to wait for a propagation."""

    def __init__(self, options: SandboxOptions, has_mailbox: Callable[[str], bool]) -> None:
        self._options = options
        self._has_mailbox = has_mailbox
        self.reset()

    def reset(self) -> None:
        """Sets all back to the start: the accounts, groups and units of the options, and no application."""
        self.ahead = 0.0
        self._known: set[str] = set()
        self.directory_delay = self._options.directory_delay
        self.exchange_delay = self._options.exchange_delay
        self.policy = self._options.credential_policy
        self.accounts: dict[str, Account] = {one.address.casefold(): one for one in self._options.accounts}
        self.groups = {fixed_id(f"group/{one.address or one.name}"): one for one in self._options.groups}
        self.units = {fixed_id(f"unit/{one.name}"): one for one in self._options.units}
        self.applications: dict[str, Application] = {}
        self.deleted: dict[str, Application] = {}
        # A deleted application keeps its unique name; by one report also after it was deleted for good.
        self.names_taken: set[str] = set()
        graph = Principal(id=fixed_id("Microsoft Graph"), app_id=GRAPH_APP_ID, name="Microsoft Graph")
        self.principals: dict[str, Principal] = {graph.id: graph}
        self.grants: dict[str, Grant] = {}
        self.assignments: dict[str, Assignment] = {}

    def now(self) -> float:
        """The directory's time, in seconds since 1970."""
        return time.time() + self.ahead

    def summary(self) -> dict[str, int]:
        """How many objects administrators have made."""
        return {
            "applications": len(self.applications),
            "deleted": len(self.deleted),
            "principals": len(self.principals) - 1,
            "grants": len(self.grants),
            "assignments": len(self.assignments),
        }

    def find_application(self, **wanted: str) -> Application | None:
        """The application with this value of this field, whether or not it is seen everywhere yet."""
        return next((one for one in self.applications.values() if _fits(one, wanted)), None)

    def find_principal(self, **wanted: str) -> Principal | None:
        """The service principal with this value of this field."""
        return next((one for one in self.principals.values() if _fits(one, wanted)), None)

    def user_id(self, address: str) -> str | None:
        """The object id of the mailbox with this address, or this id; None if there is none."""
        given = address.casefold()
        if "@" not in given:
            return given if self.address_of(given) else None
        people = (*self.groups.values(), *self.units.values())
        if any(one.address.casefold() == given for one in people):
            return None
        if given in self.accounts or self._has_mailbox(given):
            self._known.add(given)
            return fixed_id(f"user/{given}")
        return None

    def address_of(self, user_id: str) -> str | None:
        """The address of the user with this object id. A user whom nobody has asked for has none."""
        members = (member for one in (*self.groups.values(), *self.units.values()) for member in one.members)
        known = {*self.accounts, *self._known, *(member.casefold() for member in members)}
        return next((one for one in known if fixed_id(f"user/{one}") == user_id.casefold()), None)

    def members(self, people: People) -> Iterator[tuple[str, str]]:
        """The direct members: `user` or `group`, and the object id."""
        by_address = {one.address.casefold(): group_id for group_id, one in self.groups.items()}
        for member in people.members:
            nested = by_address.get(member.casefold())
            yield ("group", nested) if nested else ("user", fixed_id(f"user/{member.casefold()}"))

    def registration(self, client_id: str, now: float) -> AppRegistration | None:
        """The app with this client id, as the token endpoint sees it; None unless it has a service principal."""
        now += self.ahead
        app, principal = self.find_application(app_id=client_id.casefold()), self.find_principal(app_id=client_id)
        if app is None or principal is None or max(app.seen_from, principal.seen_from) > now:
            return None
        names = {role_id: name for name, role_id in APP_ROLES.items()}
        roles = {names[one.role_id] for one in self.grants.values() if one.principal_id == principal.id}
        return AppRegistration(
            client_id=app.app_id,
            secrets=tuple(one.text for one in app.passwords if one.ends > now),
            expired_secrets=tuple(one.text for one in app.passwords if one.ends <= now),
            certificates=tuple(_pem(one) for one in app.keys if one.counts_from <= now),
            roles=tuple(sorted(roles)),
        )

    def with_exchange_roles(self, claims: Claims, mailbox: str) -> Claims:
        """The claims, with what Exchange's roles add to them in this mailbox: the two are added together."""
        now, principal = self.now(), self.find_principal(app_id=claims.app_id)
        added = {
            permission
            for one in self.assignments.values()
            if principal and one.principal_id == principal.id and one.counts_from <= now and self._covers(one, mailbox)
            for permission in EXCHANGE_ROLES[one.role]
        }
        return replace(claims, roles=claims.roles | added) if added else claims

    def _covers(self, assignment: Assignment, mailbox: str) -> bool:
        _, kind, object_id = f"{assignment.scope}//".split("/")[:3]
        match kind.casefold():
            case "":
                return True
            case "users":
                return fixed_id(f"user/{mailbox}") == object_id.casefold() or mailbox == object_id.casefold()
            case "groups":
                people = self.groups.get(object_id.casefold())
            case _:
                people = self.units.get(object_id.casefold())
        # Direct members only: those of a group in the group do not count.
        return people is not None and ("user", fixed_id(f"user/{mailbox}")) in self.members(people)


def _fits(one: Application | Principal, wanted: dict[str, str]) -> bool:
    return all(str(getattr(one, name)).casefold() == value.casefold() for name, value in wanted.items())


def _pem(key: Key) -> str:
    return x509.load_der_x509_certificate(key.der).public_bytes(Encoding.PEM).decode()
