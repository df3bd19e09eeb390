"""Which steps lead from what is there to what is wanted. Nothing here asks or changes anything."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from postroom.setup.wanted import TRACE, Scope, Wanted

# Permissions of Entra that open every mailbox, whatever Exchange's roles say: the two are added together.
TENANT_WIDE = ("Mail.Send", "Mail.ReadWrite", "Mail.Read")


class Do(StrEnum):
    """A kind of step."""

    REGISTER = "register"
    MAKE_KEY = "make key"
    ADD_CERTIFICATE = "add certificate"
    ADD_PRINCIPAL = "add principal"
    ADD_TRACE = "add message trace"
    GRANT = "grant"
    ASSIGN = "assign"
    UNASSIGN = "unassign"
    REVOKE = "revoke"
    WRITE_SETTINGS = "write settings"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step: what is done, what it allows, and what somebody could do with it who has stolen the app's key.

    `subject` is what the step is about: a role, a permission, the id of an assignment. `asked`: it takes something
    away that somebody else may have given, so it is asked for on its own.
    """

    do: Do
    what: str
    allows: str
    attacker: str
    subject: str = ""
    scope: Scope | None = None
    asked: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Assigned:
    """A role of Exchange that the app has: its name (or its id, if the name is unknown) and its scope's path."""

    id: str
    role: str
    scope: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnCertificate:
    """The certificate in our file: its thumbprint (SHA-1, hex), the application that it was made for, and its end."""

    thumbprint: str
    object_id: str
    ends: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What is there. `grants` are permissions of Entra by name, with the ids of the grants."""

    object_id: str = ""
    app_id: str = ""
    thumbprints: frozenset[str] = frozenset()
    principal_id: str = ""
    grants: dict[str, str] = field(default_factory=dict)
    assigned: tuple[Assigned, ...] = ()
    has_trace: bool = False
    certificate: OwnCertificate | None = None
    settings_written: bool = False
    policy_days: int | None = None
    """The longest life in days that the tenant's policy allows a certificate; None: any."""


def steps(wanted: Wanted, found: Found, now: datetime) -> list[Step]:
    """What has to be done, in order. Empty: all is as it is wanted."""
    return [
        *_application(wanted, found, now),
        *_tenant_permissions(wanted, found),
        *_roles(wanted, found),
        *_too_much(wanted, found),
        *_settings(found, wanted),
    ]


def life(wanted: Wanted, found: Found) -> timedelta:
    """How long a new certificate is valid: as wanted, or as long as the tenant's policy allows."""
    days = wanted.certificate_days if found.policy_days is None else min(wanted.certificate_days, found.policy_days)
    return timedelta(days=days)


def _application(wanted: Wanted, found: Found, now: datetime) -> Iterator[Step]:
    if not found.object_id:
        yield Step(
            do=Do.REGISTER,
            what=f"register the app {wanted.name!r} in Entra (key {wanted.unique_name})",
            allows="nothing yet: it has neither a credential nor a right",
            attacker="nothing",
        )
    own = found.certificate
    # One without an object id was made by `setup certificate`, or by another program; it is as good.
    usable = own is not None and own.object_id in ("", found.object_id) and own.ends > now
    if not usable:
        yield Step(
            do=Do.MAKE_KEY,
            what=f"make a key (RSA 3072) and a certificate for {life(wanted, found).days} days, in a file here (0600)",
            allows="who has the file to sign in as the app",
            attacker="whatever the app may do, until the certificate is removed; so keep the file on the workers only",
        )
    if not (usable and own is not None and own.thumbprint in found.thumbprints):
        yield Step(
            do=Do.ADD_CERTIFICATE,
            what="give the app the certificate (its public part; the key does not leave this machine)",
            allows="the app to get tokens",
            attacker="nothing with the certificate alone",
        )
    if not found.principal_id:
        yield Step(
            do=Do.ADD_PRINCIPAL,
            what="add the app's service principal (enterprise application) to the tenant",
            allows="the app to sign in here; still no mailbox",
            attacker="nothing",
        )


def _tenant_permissions(wanted: Wanted, found: Found) -> Iterator[Step]:
    if wanted.app_roles and not found.has_trace:
        yield Step(
            do=Do.ADD_TRACE,
            what="add Microsoft's own service principal for message traces, without which they cannot be read",
            allows="nothing by itself",
            attacker="nothing",
        )
    for name in wanted.app_roles:
        if name not in found.grants:
            yield Step(
                do=Do.GRANT,
                subject=name,
                what=f"grant {name} in Entra, for the whole tenant: Exchange has no narrower role for it",
                allows="reading who sent what to whom, with subjects, for every mailbox of the last 90 days",
                attacker="the same; no content. If that is too much, leave the feature trace out",
            )


def _roles(wanted: Wanted, found: Found) -> Iterator[Step]:
    has = {(one.role, one.scope.casefold()) for one in found.assigned}
    for scope in wanted.scopes:
        for role in wanted.roles:
            if (role, scope.path.casefold()) not in has:
                yield Step(
                    do=Do.ASSIGN,
                    subject=role,
                    scope=scope,
                    what=f"assign {role!r} for {scope.label} in Exchange",
                    allows=_ALLOWS[role],
                    attacker=_ATTACKER[role],
                )


def _too_much(wanted: Wanted, found: Found) -> Iterator[Step]:
    needed = {(role, scope.path.casefold()) for role in wanted.roles for scope in wanted.scopes}
    for one in found.assigned:
        if (one.role, one.scope.casefold()) not in needed:
            yield Step(
                do=Do.UNASSIGN,
                subject=one.id,
                what=f"take away {one.role!r} in {one.scope}, which is not among what is wanted",
                allows="less than before",
                attacker="less than before",
                asked=True,
            )
    for name in found.grants:
        if name in TENANT_WIDE or (name == TRACE and name not in wanted.app_roles):
            yield Step(
                do=Do.REVOKE,
                subject=name,
                what=f"take away {name} in Entra, which holds for every mailbox of the tenant",
                allows="less than before: only Exchange's roles count then",
                attacker="no longer every mailbox",
                asked=True,
            )


def _settings(found: Found, wanted: Wanted) -> Iterator[Step]:
    if not found.settings_written:
        yield Step(
            do=Do.WRITE_SETTINGS,
            what="write the settings: tenant, client and the certificate's file",
            allows="workers to use the app",
            attacker="nothing: there is no secret among them",
        )


_ALLOWS = {
    "Application Mail.Send": "sending as these mailboxes, without a person signed in",
    "Application Mail.Read": "reading all mail of these mailboxes, to look up what was sent",
    "Application Mail.ReadWrite": "reading, making, changing and deleting mail in these mailboxes (drafts)",
}
_ATTACKER = {
    "Application Mail.Send": "send mail in the name of these mailboxes to anybody; read nothing",
    "Application Mail.Read": "read all mail of these mailboxes",
    "Application Mail.ReadWrite": "read, change and delete all mail of these mailboxes",
}
