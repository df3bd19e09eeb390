"""Sign-in of a person, as whom an app sends: by a code on another device, once; then by refresh tokens.

For tenants that allow no application permissions.
https://learn.microsoft.com/entra/identity-platform/v2-oauth2-device-code
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import msal

from postroom.errors import PostroomError
from postroom.graph.entra_http import EntraHttp
from postroom.graph.seal import Seal
from postroom.transport.http import Http, Lost, NotSent

REQUEST_S = 30.0

# Which delegated permissions a feature needs beside Mail.Send: https://learn.microsoft.com/graph/permissions-reference
FEATURES = {
    "draft": ("Mail.ReadWrite",),
    "look-up": ("Mail.Read",),
    "shared": ("Mail.Send.Shared",),
}
_OF_SHARED = {"draft": "Mail.ReadWrite.Shared", "look-up": "Mail.Read.Shared"}


class SignInFailed(PostroomError):
    """Nobody has signed in; the text says why."""


class NotSignedIn(Exception):
    """There is no sign-in from which a token could come."""


@dataclass(frozen=True, slots=True)
class KeptSignIn:
    """Who has signed in, for which permissions (`Mail.Send` …), and MSAL's tokens as it writes them."""

    user: str
    scopes: tuple[str, ...]
    cache: str = field(repr=False)

    def to_json(self) -> str:
        return json.dumps({"user": self.user, "scopes": self.scopes, "cache": self.cache})

    @classmethod
    def from_json(cls, text: str) -> "KeptSignIn":
        """What `to_json` wrote."""
        values = json.loads(text)
        return cls(values["user"], tuple(values["scopes"]), values["cache"])


class TextStore(Protocol):
    """Where a text is kept."""

    def load(self) -> str | None:
        """The text, if there is one."""

    def save(self, text: str) -> None:
        """Keeps it in place of the one before."""

    def replace(self, before: str, text: str) -> None:
        """Keeps it in place of `before`. If another text is there, or none, that stays so."""


class SignIns:
    """The sign-in of one app, encrypted with a key that the store does not have."""

    def __init__(self, store: TextStore, key: str) -> None:
        self._store, self._seal = store, Seal(key.encode(), b"postroom sign-in")

    def load(self) -> KeptSignIn | None:
        """The sign-in. None if there is none; NotSignedIn if it was encrypted with another key."""
        closed = self._store.load()
        if closed is None:
            return None
        text = self._seal.open(closed)
        if text is None:
            raise NotSignedIn("the sign-in was encrypted with another POSTROOM_SIGN_IN_KEY")
        return KeptSignIn.from_json(text)

    def save(self, sign_in: KeptSignIn) -> None:
        """Keeps it in place of the one before."""
        self._store.save(self._seal.close(sign_in.to_json()))

    def renew(self, before: KeptSignIn, after: KeptSignIn) -> None:
        """Keeps `after` in place of `before`.

        What else is there stays: somebody has signed in meanwhile, another worker was faster, or nobody may send now.
        """
        closed = self._store.load()
        if closed is not None and self._seal.open(closed) == before.to_json():
            self._store.replace(closed, self._seal.close(after.to_json()))


def scopes_for(features: Sequence[str]) -> tuple[str, ...]:
    """The permissions that are asked for, `Mail.Send` first."""
    scopes = ["Mail.Send", *(scope for feature in features for scope in FEATURES[feature])]
    if "shared" in features:
        scopes += [_OF_SHARED[feature] for feature in features if feature in _OF_SHARED]
    return tuple(dict.fromkeys(scopes))


def sign_in(
    client_id: str, authority: str, graph_url: str, scopes: Sequence[str], http: Http, show: Callable[[str], None]
) -> KeptSignIn:
    """Has a person sign in for these permissions, as `by_code` does. Raises SignInFailed."""
    cache = msal.SerializableTokenCache()
    _, result = by_code(client_id, authority, _full(graph_url, scopes), http, show, cache)
    claims = result.get("id_token_claims") or {}
    return KeptSignIn(str(claims.get("preferred_username", "")), tuple(scopes), cache.serialize())


def by_code(
    client_id: str,
    authority: str,
    scopes: Sequence[str],
    http: Http,
    show: Callable[[str], None],
    cache: Any = None,
) -> tuple[Any, dict[str, Any]]:
    """Has a person sign in by a code on any device. Returns MSAL's application, and its result with a token.

    `show` is given the words that tell the person where to enter which code. Waits until they have, for a quarter of
    an hour at most. Raises SignInFailed.
    """
    try:
        app = _app(client_id, authority, EntraHttp(http, each_s=REQUEST_S), cache)
        flow = app.initiate_device_flow(scopes=list(scopes))
        if "user_code" not in flow:
            raise SignInFailed(f"sign-in by a code is not possible: {_words(flow)}")
        show(str(flow["message"]))
        result: dict[str, Any] = app.acquire_token_by_device_flow(flow)
    except (ValueError, OSError, msal.exceptions.MsalError, NotSent, Lost) as error:
        raise SignInFailed(f"{authority}: sign-in failed: {error}") from None
    if "access_token" not in result:
        raise SignInFailed(f"the sign-in was not completed: {_words(result)}")
    return app, result


def token_of(client_id: str, authority: str, graph_url: str, kept: SignIns, http_client: Any) -> dict[str, Any]:
    """MSAL's result with a fresh token of the person who has signed in. Its new refresh token is kept.

    Raises NotSignedIn.
    """
    before = kept.load()
    if before is None:
        raise NotSignedIn("nobody has signed in for this app")
    cache = msal.SerializableTokenCache()
    cache.deserialize(before.cache)
    app = _app(client_id, authority, http_client, cache)
    accounts = app.get_accounts()
    wanted = _full(graph_url, before.scopes)
    result = app.acquire_token_silent_with_error(wanted, accounts[0], force_refresh=True) if accounts else None
    if result is None:
        raise NotSignedIn(f"the sign-in of {before.user or 'somebody'} has no refresh token any more")
    if cache.has_state_changed and "access_token" in result:
        kept.renew(before, replace(before, cache=cache.serialize()))
    answer: dict[str, Any] = result
    return answer


def _app(client_id: str, authority: str, http_client: Any, cache: Any) -> Any:
    return msal.PublicClientApplication(
        client_id, authority=authority, instance_discovery=False, http_client=http_client, token_cache=cache
    )


def _full(graph_url: str, scopes: Sequence[str]) -> list[str]:
    return [f"{graph_url.rstrip('/')}/{scope}" for scope in scopes]


def _words(result: dict[str, Any]) -> str:
    text = str(result.get("error_description") or result.get("error") or "no reason given")
    return text.partition(" Trace ID:")[0].partition("\n")[0]
