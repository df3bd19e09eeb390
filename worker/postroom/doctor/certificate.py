"""The credential of an app: thumbprints and days left of its certificate, days left of its secret."""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from postroom.doctor.finding import Finding, Group, Reporter
from postroom.doctor.rights import roles_of
from postroom.doctor.surroundings import GraphAccess, Surroundings, Unreachable
from postroom.graph.credentials import (
    EXPIRES_SOON,
    Certificate,
    CredentialFault,
    Secret,
    StoredSecret,
    Thumbprints,
    ends_at,
    secret_value,
    thumbprints,
)
from postroom.graph.key_vault import VaultUnavailable
from postroom.graph.tokens import Token
from postroom.transport.http import Lost, NotSent

_SAY = Reporter(Group.ENTRA)
_REGISTERED = "has the tenant this certificate?"
_DAYS = "how long is the credential valid?"
READS_APPS = "Application.Read.All"


def check_of_app(around: Surroundings, app: str) -> Iterator[Finding]:
    """What is known of this app's credential. Its files must be in order."""
    who, name, now = around.identity(app), f"app {app}", around.clock()
    token = around.token(app)
    prints = thumbprints(who)
    if prints:
        yield of_registration(name, prints, came=isinstance(token, Token))
    ends = ends_at(who)
    is_secret = isinstance(who.credential, Secret | StoredSecret)
    if ends is None and isinstance(who.credential, Secret | StoredSecret):
        ends = _end_by_graph(around, app, who.client_id, who.credential)
    if ends is not None:
        yield of_end(name, ends, now, is_secret=is_secret)
    elif isinstance(who.credential, Certificate):
        yield _SAY.skipped(name, _DAYS, f"it is in a vault, which knows: {who.credential.path}")
    elif is_secret and isinstance(token, Token):
        yield _SAY.skipped(
            name, _DAYS, f"nobody says: set POSTROOM_CLIENT_SECRET_EXPIRES to the day that Entra shows ({READS_APPS}, "
            "which would tell it, is not needed)"
        )  # fmt: skip


def of_registration(name: str, prints: Thumbprints, *, came: bool) -> Finding:
    """Whether the tenant knows the certificate: it does if a token came for it."""
    if came:
        return _SAY.green(name, _REGISTERED, f"yes: a token came for thumbprint {prints.sha1} (SHA-1)")
    seen = f"no token came for it; here SHA-1 {prints.sha1}, SHA-256 {prints.sha256}"
    return _SAY.yellow(
        name, _REGISTERED, seen, "if the portal does not list this thumbprint for the app, Entra refuses it (700027)",
        "compare it in Entra: App registrations, the app, Certificates & secrets; upload it there if it is missing",
    )  # fmt: skip


def of_end(name: str, ends: datetime, now: datetime, *, is_secret: bool) -> Finding:
    """How many days a credential has left."""
    days, what = (ends - now).days, "client secret" if is_secret else "certificate"
    seen = f"the {what} ends on {ends:%Y-%m-%d}, in {days} days"
    renew = "add a new one in Entra beside it, change the setting, restart the workers, and remove the old one then"
    if ends <= now:
        return _SAY.red(name, _DAYS, f"the {what} ended on {ends:%Y-%m-%d}", "Entra gives no token for it", renew)
    if ends - now < EXPIRES_SOON:
        return _SAY.yellow(name, _DAYS, seen, "after that day no mail of this app is sent", renew)
    return _SAY.green(name, _DAYS, seen)


def _end_by_graph(around: Surroundings, app: str, client_id: str, credential: Secret | StoredSecret) -> datetime | None:
    """When the secret ends, where the app may read app registrations: that right is used if it is there, not asked for.

    https://learn.microsoft.com/graph/api/application-get
    """
    access = around.graph_of(app)
    if isinstance(access, Unreachable) or READS_APPS not in roles_of(access.token.value):
        return None
    registered = _registration(access, client_id)
    try:
        return end_of_secret(registered.get("passwordCredentials"), secret_value(credential))
    except (CredentialFault, VaultUnavailable):  # it has gone since the token came
        return None


def _registration(access: GraphAccess, client_id: str) -> Mapping[str, Any]:
    url = f"{access.root.rstrip('/')}/v1.0/applications(appId='{client_id}')?$select=passwordCredentials"
    call = access.call()
    try:
        answer = access.http.exchange(
            "GET", url, headers={"Authorization": f"Bearer {call.token}"}, body=None, deadline_s=call.deadline_s
        )
        value = json.loads(answer.body) if answer.status == 200 else {}
    except (NotSent, Lost, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def end_of_secret(registered: object, secret: str) -> datetime | None:
    """When this secret ends: the only registered one that begins as it does. Graph shows the first three characters."""
    entries: Sequence[Any] = registered if isinstance(registered, list) else []
    ends = [
        entry.get("endDateTime") for entry in entries if isinstance(entry, dict) and entry.get("hint") == secret[:3]
    ]
    if len(ends) != 1 or not isinstance(ends[0], str):
        return None
    try:
        end = datetime.fromisoformat(ends[0])
    except ValueError:
        return None
    return end if end.tzinfo else end.replace(tzinfo=UTC)
