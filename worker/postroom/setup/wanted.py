"""What an administrator asks for: an app, what it may do, and from which mailboxes.

Rights of Exchange: https://learn.microsoft.com/exchange/permissions-exo/application-rbac
"""

import re
from dataclasses import dataclass
from enum import StrEnum

APP_ROLES = {
    "Mail.Send": "b633e1c5-b582-4048-a93e-9f11b44c7e96",
    "Mail.ReadWrite": "e2a3a72e-5f79-4c64-b1b1-878b674786c9",
    "Mail.Read": "810c84a8-4a9e-49e6-bf7d-12d183f40d01",
    "ExchangeMessageTrace.Read.All": "89b20d8a-76e2-4057-867b-9961f800b9a4",
}
TRACE = "ExchangeMessageTrace.Read.All"
GRAPH_APP_ID = "00000003-0000-0000-c000-000000000000"
TRACE_APP_ID = "8bd644d1-64a1-4d4b-ae52-2e0cbf64e373"


class Feature(StrEnum):
    """What an app may do beside sending."""

    DRAFT = "draft"
    LOOK_UP = "look-up"
    TRACE = "trace"


class ScopeKind(StrEnum):
    """What a role is limited to, as `directoryScopeId` spells it."""

    USER = "Users"
    GROUP = "Groups"
    UNIT = "AdministrativeUnits"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Mailboxes that a role is limited to. `mailboxes` are those known now; `warning` is empty or one sentence."""

    kind: ScopeKind
    id: str
    label: str
    mailboxes: tuple[str, ...] = ()
    warning: str = ""

    @property
    def path(self) -> str:
        """The scope as `directoryScopeId`."""
        return f"/{self.kind}/{self.id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The app that is wanted. `name` is its display name; what is made is found again by `unique_name`."""

    name: str
    scopes: tuple[Scope, ...]
    features: frozenset[Feature] = frozenset()
    certificate_days: int = 365

    @property
    def unique_name(self) -> str:
        """The key of the application in the tenant. Nobody can change it, and there is one application with it."""
        return unique_name(self.name)

    @property
    def roles(self) -> tuple[str, ...]:
        """The roles of Exchange that the features need at least."""
        roles = ["Application Mail.Send"]
        if Feature.DRAFT in self.features:
            roles.append("Application Mail.ReadWrite")
        elif Feature.LOOK_UP in self.features:  # who may write may read
            roles.append("Application Mail.Read")
        return tuple(roles)

    @property
    def app_roles(self) -> tuple[str, ...]:
        """The permissions of Entra that there is no role of Exchange for. They hold for the whole tenant."""
        return (TRACE,) if Feature.TRACE in self.features else ()


def slug(name: str) -> str:
    """The name as a part of a file's name or a key: small letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", name.casefold()).strip("-") or "app"


MOST_NAMES = 50


def unique_name(name: str, number: int = 1) -> str:
    """The application's key in the tenant for this name.

    A deleted application keeps its key, by a report even when it was deleted for good. Then the next `number` is taken.
    """
    return f"postroom-{slug(name)}{f'-{number}' if number > 1 else ''}"


def is_ours(key: str | None, name: str) -> bool:
    """Whether this is a key that the app with this name may have got."""
    return key is not None and re.fullmatch(rf"{re.escape(unique_name(name))}(-\d{{1,2}})?", key) is not None
