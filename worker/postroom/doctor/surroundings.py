"""What the checks share: the settings, what was asked for, and what is asked only once (Redis, way out, tokens)."""

import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from postroom.errors import ConfigError, PostroomError
from postroom.graph.client import Graph
from postroom.graph.credentials import Identity, check_credential
from postroom.graph.requests import Call
from postroom.graph.tokens import NoToken, Token, Tokens
from postroom.mail.address import Address
from postroom.settings.model import AppSettings, Credential, Settings
from postroom.store.connection import connect
from postroom.store.functions import or_unavailable
from postroom.transport.http import Http, Lost, NotSent, Response
from postroom.transport.way_out import Step, Way, way_to
from postroom.wiring import apps, identity, sign_ins, transport

ASK_S = 10.0  # how long one question to Redis' or Microsoft's side may take


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What the caller asked for. Without `senders`, those of the settings are looked at."""

    senders: tuple[Address, ...] = ()
    not_senders: tuple[Address, ...] = ()
    send_to: Address | None = None


@dataclass(frozen=True, slots=True)
class Unreachable:
    """Why a question cannot be asked, in words."""

    why: str


@dataclass(frozen=True, slots=True)
class Reached:
    """How far a connection came, and what the host answered to a request without a token, if it did.

    `ahead_s` is how far the host's clock (its Date header) is ahead of ours, None if there is none.
    """

    way: Way
    answer: Response | None
    fault: str = ""
    ahead_s: float | None = None

    @property
    def is_open(self) -> bool:
        return self.answer is not None


@dataclass
class Surroundings:
    """The state of one examination. Nothing is asked before a check wants to know it, and nothing twice."""

    settings: Settings
    wanted: Wanted
    environ: Mapping[str, str]
    folder: Path
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    reached: dict[str, Reached] = field(default_factory=dict)
    tokens: dict[str, Token | NoToken | Unreachable] = field(default_factory=dict)

    @cached_property
    def apps(self) -> dict[str, AppSettings]:
        """The apps whose settings are complete."""
        return apps(self.settings)

    @cached_property
    def http(self) -> Http:
        """What makes the exchanges, as workers make them. Raises ConfigError."""
        bundle = self.settings.ca_bundle
        made: Http = transport(self.settings)(str(bundle) if bundle else None)
        return made

    @cached_property
    def redis(self) -> Any:
        """A connection to Redis, or Unreachable."""
        try:
            connection = connect(self.settings.redis_url, timeout_s=3.0, name="postroom-doctor", max_connections=2)
            with or_unavailable():
                connection.ping()
        except (PostroomError, ConfigError, ValueError) as error:
            return Unreachable(str(error))
        return connection

    def identity(self, app: str) -> Identity:
        """Who this app is. A person's sign-in is with it if Redis answers."""
        given = self.apps[app]
        kept = None
        if given.kind is Credential.USER and not isinstance(self.redis, Unreachable):
            kept = sign_ins(self.settings, app, self.redis)
        return identity(given, self.settings.ca_bundle, kept)

    def reach(self, url: str) -> Reached:
        """How far a request to this URL comes. It carries no token, and asks for nothing that is not public."""
        if url not in self.reached:
            self.reached[url] = self._reach(url)
        return self.reached[url]

    def _reach(self, url: str) -> Reached:
        bundle = self.settings.ca_bundle
        way = way_to(url, str(bundle) if bundle else None, ASK_S)
        if way.step is not Step.DONE:
            return Reached(way, None, way.fault)
        before = self.clock()
        try:
            answer = self.http.exchange("GET", url, headers={}, body=None, deadline_s=ASK_S)
        except (NotSent, Lost, ConfigError) as error:
            return Reached(way, None, str(error))
        middle = before + (self.clock() - before) / 2
        return Reached(way, answer, ahead_s=seconds_ahead(answer.headers, middle))

    def token(self, app: str) -> Token | NoToken | Unreachable:
        """A token for this app, what Entra said instead, or why it was not asked."""
        if app not in self.tokens:
            self.tokens[app] = self._token(app)
        return self.tokens[app]

    def _token(self, app: str) -> Token | NoToken | Unreachable:
        if app not in self.apps:
            return Unreachable("its settings are not complete")
        who = self.identity(app)
        if check_credential(who, self.clock()):
            return Unreachable("its credential cannot be used (entra)")
        if who.tenant_id and not self.reach(discovery_url(who)).is_open:
            return Unreachable("Entra cannot be reached (way-out)")
        return Tokens(who, self.http, deadline_s=2 * ASK_S).probe()

    def graph_of(self, app: str) -> "GraphAccess | Unreachable":
        """Graph with a token of this app, or why there is none."""
        token = self.token(app)
        if isinstance(token, Unreachable):
            return token
        if not isinstance(token, Token):
            return Unreachable("there is no token (entra)")
        root = self.identity(app).graph_url
        if not self.reach(graph_probe_url(root)).is_open:
            return Unreachable("Graph cannot be reached (way-out)")
        return GraphAccess(Graph(root, self.http), token, root, self.http)


@dataclass(frozen=True, slots=True)
class GraphAccess:
    """A Graph, and a token for it."""

    graph: Graph
    token: Token
    root: str
    http: Http

    def call(self) -> Call:
        """What the next request is made with."""
        return Call(token=self.token.value, client_request_id=str(uuid.uuid4()), deadline_s=ASK_S)


def discovery_url(who: Identity) -> str:
    """Where Entra describes the tenant; anybody may read it.

    https://learn.microsoft.com/entra/identity-platform/v2-protocols-oidc
    """
    return f"{who.authority_url.rstrip('/')}/{who.tenant_id}/v2.0/.well-known/openid-configuration"


def graph_probe_url(root: str) -> str:
    """Graph's own root, which says who answers."""
    return f"{root.rstrip('/')}/v1.0/"


def seconds_ahead(headers: Mapping[str, str], now: datetime) -> float | None:
    """How far the Date header is ahead of `now`; None where there is none."""
    given = next((value for name, value in headers.items() if name.lower() == "date"), None)
    if given is None:
        return None
    try:
        told = parsedate_to_datetime(given)
    except (ValueError, TypeError, IndexError):
        return None
    return ((told if told.tzinfo else told.replace(tzinfo=UTC)) - now).total_seconds()


def listed(items: Iterable[str], most: int = 5) -> str:
    """The first items of a list, and how many more there are."""
    names = list(items)
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest
