"""Sign-in of a person by device code, and delegated tokens with refresh.

https://learn.microsoft.com/entra/identity-platform/v2-oauth2-device-code
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from postroom.sandbox.directory.objects import Directory, fixed_id
from postroom.sandbox.entra.errors import EntraError
from postroom.sandbox.entra.tokens import TokenMint, base64url
from postroom.sandbox.options import SandboxOptions

DEVICE_CODE = "urn:ietf:params:oauth:grant-type:device_code"
CODE_LIFETIME = 900.0
REFRESH_LIFETIME = 90 * 86400.0
# Public clients that every tenant knows: Microsoft Graph Command Line Tools, and the Azure CLI.
PUBLIC_CLIENTS = frozenset({"14d82eec-204b-4c2f-b7e8-296a70dab67e", "04b07795-8ddb-461a-bbee-02f9e1bf7b46"})
_RESERVED = frozenset({"openid", "profile", "offline_access", "email"})


@dataclass(slots=True)
class DeviceSignIn:
    """One code that waits for a person. `user` is who entered it, empty where they declined, None before."""

    client_id: str
    scopes: tuple[str, ...]
    user_code: str
    expires: float
    asked: float
    user: str | None = None


@dataclass(frozen=True, slots=True)
class Refresh:
    """What a refresh token stands for."""

    client_id: str
    user: str
    expires: float


class SignIn:
    """The codes and refresh tokens of one tenant. Times are in seconds since 1970."""

    GRANTS = (DEVICE_CODE, "refresh_token")

    def __init__(self, options: SandboxOptions, graph_root: str, mint: TokenMint, directory: Directory) -> None:
        self._options = options
        self._graph_root = graph_root
        self._mint = mint
        self._directory = directory
        self.is_public: Callable[[str], bool] = lambda _client_id: False
        """Whether an app of the tenant is a public client."""
        self.reset()

    def reset(self) -> None:
        """Forgets all codes and refresh tokens."""
        self.waiting: dict[str, DeviceSignIn] = {}
        self._refresh: dict[str, Refresh] = {}

    def begin(self, form: Mapping[str, str], root: str, now: float) -> dict[str, Any]:
        """The answer of the device code endpoint. Raises EntraError."""
        self._require_client(form)
        scopes = self._scopes(form.get("scope", ""), root)
        device_code = secrets.token_urlsafe(48)
        user_code = "".join(secrets.choice("BCDFGHJKLMNPQRSTVWXZ23456789") for _ in range(9))
        self.waiting[device_code] = DeviceSignIn(
            form["client_id"].casefold(), scopes, user_code, now + CODE_LIFETIME, now - self._options.device_interval
        )
        page = f"{root}/device"
        return {
            "user_code": user_code,
            "device_code": device_code,
            "verification_uri": page,
            "expires_in": int(CODE_LIFETIME),
            "interval": self._options.device_interval,
            "message": f"To sign in, open the page {page} and enter the code {user_code} to authenticate.",
        }

    def revoke(self, user: str) -> None:
        """Ends all sign-ins of a person, as a new password does."""
        self._refresh = {token: one for token, one in self._refresh.items() if one.user != user.casefold()}

    def decide(self, user_code: str, user: str) -> None:
        """A person enters a code and signs in as `user`, or declines (empty). Raises ValueError."""
        code = user_code.strip().upper()
        found = next((one for one in self.waiting.values() if one.user_code == code and one.user is None), None)
        if found is None:
            raise ValueError(f"no sign-in waits for the code {code}")
        if user and user.casefold() not in self._directory.accounts:
            raise ValueError(f"{user} is no account; there are {', '.join(self._directory.accounts)}")
        found.user = user.casefold()

    def grant(self, form: Mapping[str, str], root: str, now: float) -> dict[str, Any]:
        """The answer of the token endpoint to a device code or a refresh token. Raises EntraError."""
        self._require_client(form)
        if form["grant_type"] == "refresh_token":
            return self._refreshed(form, root, now)
        device_code = form.get("device_code", "")
        found = self.waiting.get(device_code)
        if found is None or found.client_id != form["client_id"].casefold():
            raise EntraError(900144, "bad_verification_code", "The device code is not one of this tenant.")
        if now > found.expires:
            raise EntraError(70019, "expired_token", "The verification code expired.")
        if found.user is None:
            too_soon = now - found.asked < self._options.device_interval * 0.8
            found.asked = now
            if too_soon:
                raise EntraError(70017, "slow_down", "The client asks too often.")
            text = "OAuth 2.0 device flow error. Authorization is pending. Continue polling."
            raise EntraError(70016, "authorization_pending", text)
        del self.waiting[device_code]
        if not found.user:
            raise EntraError(70018, "authorization_declined", "The end user denied the authorization request.")
        return self._tokens(found.client_id, found.user, found.scopes, root, now)

    def _refreshed(self, form: Mapping[str, str], root: str, now: float) -> dict[str, Any]:
        kept = self._refresh.get(form.get("refresh_token", ""))
        if kept is None and len(form.get("refresh_token", "")) > 40:
            text = "The provided grant has expired due to it being revoked, a fresh auth token is needed."
            raise EntraError(50173, "invalid_grant", text)
        if kept is None or kept.client_id != form["client_id"].casefold():
            raise EntraError(9002313, "invalid_grant", "The refresh token is malformed or not valid.")
        if now > kept.expires:
            raise EntraError(700082, "invalid_grant", "The refresh token has expired due to inactivity.")
        if kept.user not in self._directory.accounts:
            raise EntraError(50034, "invalid_grant", "The user account does not exist in the directory.")
        return self._tokens(kept.client_id, kept.user, self._scopes(form.get("scope", ""), root), root, now)

    def _tokens(self, client_id: str, user: str, scopes: tuple[str, ...], root: str, now: float) -> dict[str, Any]:
        lifetime = self._options.token_lifetime
        who = {"oid": fixed_id(f"user/{user}"), "upn": user}
        refresh_token = secrets.token_urlsafe(64)
        self._refresh[refresh_token] = Refresh(client_id, user, now + REFRESH_LIFETIME)
        issuer = f"{root}/{self._options.tenant_id}/v2.0"
        client_info = json.dumps({"uid": who["oid"], "utid": self._options.tenant_id}).encode()
        return {
            "token_type": "Bearer",
            "scope": " ".join(scopes),
            "expires_in": lifetime,
            "ext_expires_in": lifetime,
            "access_token": self._mint.issue_delegated(client_id, who, scopes, self._graph_root, now, lifetime),
            "refresh_token": refresh_token,
            "id_token": self._mint.issue_id(client_id, who, issuer, now, lifetime),
            "client_info": base64url(client_info),
        }

    def _require_client(self, form: Mapping[str, str]) -> None:
        client_id = form.get("client_id", "")
        if not client_id:
            text = "The request body must contain the following parameter: 'client_id'."
            raise EntraError(900144, "invalid_request", text)
        if client_id.casefold() not in PUBLIC_CLIENTS and not self.is_public(client_id):
            text = (
                f"Application with identifier '{client_id}' was not found in the directory, or is no public client "
                "that people can sign in with by a code."
            )
            raise EntraError(700016, "unauthorized_client", text)

    def _scopes(self, text: str, root: str) -> tuple[str, ...]:
        names = []
        for scope in text.split():
            resource, _, name = scope.rpartition("/")
            if resource and resource.rstrip("/") not in (self._graph_root, root, "https://graph.microsoft.com"):
                raise EntraError(70011, "invalid_scope", f"The provided value for scope {scope} is not valid.")
            if name not in _RESERVED:
                names.append(name)
        if not names:
            text = "The request body must contain the following parameter: 'scope'."
            raise EntraError(900144, "invalid_request", text)
        return tuple(names)
