"""Access tokens: signed as Entra signs them, and checked as Graph checks them."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import jwt
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from postroom.sandbox.options import AppRegistration

GRAPH_APP_ID = "00000003-0000-0000-c000-000000000000"
GRAPH_ROOTS = frozenset(
    {
        "https://graph.microsoft.com",
        "https://graph.microsoft.us",
        "https://dod-graph.microsoft.us",
        "https://microsoftgraph.chinacloudapi.cn",
    }
)


FOR_AN_APP = "api://AzureADTokenExchange"


@dataclass(frozen=True, slots=True)
class Claims:
    """What a valid token says: the app it was issued to, what that may do, and until when.

    In a delegated token `user` is the person who signed in, and `scopes` are what the app may do as that person.
    """

    app_id: str
    roles: frozenset[str]
    not_before: float
    expires_at: float
    scopes: frozenset[str] = frozenset()
    user: str = ""


class TokenMint:
    """Issues tokens and verifies them. A token that was verified once is looked up by its text from then on."""

    def __init__(self, signing_key: rsa.RSAPrivateKey, tenant_id: str, graph_root: str) -> None:
        self._signing_key = signing_key
        self._public_key = signing_key.public_key()
        self._tenant_id = tenant_id
        self._audiences = [GRAPH_APP_ID, graph_root, *GRAPH_ROOTS]
        self._key_id = _key_id(self._public_key)
        self._generation = 0
        self._verified: dict[str, Claims] = {}

    def issue(self, app: AppRegistration, audience: str, now: float, lifetime: int) -> str:
        """A signed token for this app; `audience` is whom it is meant for."""
        payload: dict[str, Any] = {
            "aud": audience,
            "iss": f"https://sts.windows.net/{self._tenant_id}/",
            "iat": int(now),
            "nbf": int(now),
            "exp": int(now) + lifetime,
            "app_displayname": "Postroom sandbox",
            "appid": app.client_id,
            "idtyp": "app",
            "tid": self._tenant_id,
            "uti": secrets.token_urlsafe(16),
            "ver": "1.0",
            "generation": self._generation,
        }
        if app.roles:  # without a permission there is no empty list: the claim is missing
            payload["roles"] = list(app.roles)
        return jwt.encode(payload, self._signing_key, "RS256", {"kid": self._key_id, "x5t": self._key_id})

    def issue_proof(self, identity: str, issuer: str, now: float) -> str:
        """A signed token of a machine's identity, which an app that trusts it shows Entra in place of a secret."""
        payload = {
            "aud": FOR_AN_APP,
            "iss": issuer,
            "sub": identity,
            "iat": int(now),
            "nbf": int(now),
            "exp": int(now) + 3600,
        }
        return jwt.encode(payload, self._signing_key, "RS256", {"kid": self._key_id})

    def issue_delegated(
        self, client_id: str, user: Mapping[str, str], scopes: Iterable[str], audience: str, now: float, lifetime: int
    ) -> str:
        """A signed token for this person's use of a client. `user`: `oid` and `upn`."""
        payload = {
            "aud": audience,
            "iss": f"https://sts.windows.net/{self._tenant_id}/",
            "iat": int(now),
            "nbf": int(now),
            "exp": int(now) + lifetime,
            "appid": client_id,
            "idtyp": "user",
            "scp": " ".join(scopes),
            "tid": self._tenant_id,
            "uti": secrets.token_urlsafe(16),
            "ver": "1.0",
            "generation": self._generation,
            **user,
        }
        return jwt.encode(payload, self._signing_key, "RS256", {"kid": self._key_id, "x5t": self._key_id})

    def issue_id(self, client_id: str, user: Mapping[str, str], issuer: str, now: float, lifetime: int) -> str:
        """A signed ID token: who has signed in, for the client itself."""
        payload = {
            "aud": client_id,
            "iss": issuer,
            "iat": int(now),
            "nbf": int(now),
            "exp": int(now) + lifetime,
            "oid": user["oid"],
            "sub": user["oid"],
            "preferred_username": user["upn"],
            "tid": self._tenant_id,
            "ver": "2.0",
        }
        return jwt.encode(payload, self._signing_key, "RS256", {"kid": self._key_id})

    def revoke_all(self) -> None:
        """Makes all tokens that were issued until now invalid."""
        self._generation += 1
        self._verified.clear()

    def read(self, token: str, now: float) -> Claims | str:
        """The claims of the token, or the message with which Graph refuses it."""
        claims = self._verified.get(token)
        if claims is None:
            checked = self._verify(token)
            if isinstance(checked, str):
                return checked
            if len(self._verified) >= 1000:
                self._verified.clear()
            claims = self._verified[token] = checked
        if now >= claims.expires_at:
            return "Lifetime validation failed, the token is expired."
        if now < claims.not_before - 300:
            return "Access token has expired or is not yet valid."
        return claims

    def jwks(self) -> dict[str, Any]:
        """The public half of the signing key, as Entra publishes its own."""
        key = json.loads(RSAAlgorithm.to_jwk(self._public_key))
        names = {"kid": self._key_id, "x5t": self._key_id, "use": "sig"}
        return {"keys": [{"kty": "RSA", "n": key["n"], "e": key["e"], **names}]}

    def _verify(self, token: str) -> Claims | str:
        try:
            payload = jwt.decode(
                token,
                self._public_key,
                algorithms=["RS256"],
                audience=self._audiences,
                # The clock is an argument of `read`, so that a test can let a token expire.
                options={"verify_exp": False, "verify_nbf": False, "verify_iat": False, "require": ["exp"]},
            )
        except jwt.InvalidAudienceError:
            return "Access token validation failure. Invalid audience."
        except jwt.InvalidSignatureError:
            return "Access token validation failure. Invalid signature."
        except jwt.InvalidTokenError:
            return "CompactToken parsing failed with error code: 80049217"
        if payload.get("generation") != self._generation:
            return "Access token has expired or is not yet valid."
        return Claims(
            app_id=str(payload["appid"]).casefold(),
            roles=frozenset(payload.get("roles", ())),
            not_before=float(payload["nbf"]),
            expires_at=float(payload["exp"]),
            scopes=frozenset(str(payload.get("scp", "")).split()),
            user=str(payload.get("upn", "")).casefold(),
        )


def base64url(data: bytes) -> str:
    """Base64 as JOSE writes it: for URLs, without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _key_id(key: rsa.RSAPublicKey) -> str:
    digest = hashes.Hash(hashes.SHA256())
    digest.update(key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo))
    return base64url(digest.finalize())[:27]
