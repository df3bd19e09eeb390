"""Tokens for Graph from Entra, through MSAL: one request at a time, in good time, and never an exception.

https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow

MSAL gets a new application object for each request, which one process makes about twice an hour. So nothing of it
outlives a request: its 60-second replay of an error would hide a repaired configuration, its cache would raise while
Entra stumbles although a valid token is there, and files that were replaced (a renewed certificate) are read again.
"""

import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msal
from cryptography.hazmat.primitives import serialization

from postroom.errors import Unavailable
from postroom.graph.answers import not_sent, retry_after
from postroom.graph.credentials import (
    Certificate,
    CredentialFault,
    FederatedIdentity,
    FederatedToken,
    Identity,
    ManagedIdentity,
    Secret,
    SignedInUser,
    StoredSecret,
    _federated_token,
    key_and_certificate,
    secret_value,
)
from postroom.graph.entra_answers import judge_token_error
from postroom.graph.entra_http import EntraHttp
from postroom.graph.key_vault import VaultUnavailable
from postroom.graph.sign_in import NotSignedIn, token_of
from postroom.jobs.outcome import Answer, Deferred, Held, Scope, Throttled
from postroom.runtime.fibers import run_in_thread
from postroom.telemetry.redaction import redact
from postroom.transport.http import Http, Lost, NotSent

# How long to leave Entra alone while there is a token that is still good.
RENEW_AGAIN_S = 60.0

# A token of the machine for this audience proves who an app is:
# https://learn.microsoft.com/entra/workload-id/workload-identity-federation-config-app-trust-managed-identity
_FOR_AN_APP = "api://AzureADTokenExchange"

NoToken = Held | Deferred | Throttled


@dataclass(frozen=True, slots=True)
class Token:
    value: str = field(repr=False)
    expires: float  # seconds, by the clock that Tokens was given


class Tokens:
    """The tokens of one identity. Make it in the process that uses it: its lock must not be held over a fork.

    A token is renewed from half of its life on, by one thread, while the others go on with it; if that fails, it
    serves until it expires. `deadline_s` bounds each wait, for Entra and for another thread that is asking.
    """

    def __init__(
        self,
        identity: Identity,
        http: Http,
        *,
        deadline_s: float = 20.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._identity, self._http, self._deadline_s, self._clock = identity, http, deadline_s, clock
        self._one_at_a_time = threading.Lock()
        self._token: Token | None = None
        self._renew_at = self._not_again_before = 0.0
        self._times_asked = 0
        self._last: Token | NoToken = Deferred(reason="no_token_yet", scope=Scope.APP, free=True)

    @property
    def is_at_hand(self) -> bool:
        """Whether there is a token that `get` gives at once."""
        return self._token is not None and self._clock() < self._renew_at

    def get(self) -> Token | NoToken:
        """A token that has not expired, or the outcome that stands in its place."""
        times_asked, token, now = self._times_asked, self._token, self._clock()
        if token is None or now >= token.expires:
            return run_in_thread(lambda: self._ask(times_asked))
        if now >= self._renew_at and not self._one_at_a_time.locked():
            run_in_thread(lambda: self._ask_if_nobody_does(times_asked))
            return self._token or token
        return token

    def renew(self, rejected: Token) -> Token | NoToken:
        """A token other than `rejected`, which Graph has answered with 401."""
        times_asked, token = self._times_asked, self._token
        if token is not None and token != rejected and self._clock() < token.expires:
            return token
        return run_in_thread(lambda: self._ask(times_asked))

    def distrust(self, refused: Token) -> None:
        """Graph refused what this token permits: what was granted since is in a fresh one, which `get` asks for.

        A token that is younger than a minute stays: one mailbox that is closed to the app must not keep Entra busy.
        """
        if refused == self._token:
            self._renew_at = min(self._renew_at, self._not_again_before)

    def probe(self) -> Token | NoToken:
        """What Entra says now, even if there is a token that is good still."""
        return self._ask(self._times_asked)

    def _ask(self, times_asked: int) -> Token | NoToken:
        """What Entra says now; who waited for another thread's request takes its answer, good or bad."""
        if not self._one_at_a_time.acquire(timeout=self._deadline_s):
            return not_sent("another thread is still waiting for Entra")
        try:
            if self._times_asked == times_asked:
                self._request()
            return self._last
        finally:
            self._one_at_a_time.release()

    def _ask_if_nobody_does(self, times_asked: int) -> None:
        if self._one_at_a_time.acquire(blocking=False):
            try:
                if self._times_asked == times_asked:
                    self._request()
            finally:
                self._one_at_a_time.release()

    def _request(self) -> None:
        now = self._clock()
        self._last = result = _acquire(self._identity, EntraHttp(self._http, total_s=self._deadline_s), now)
        wait_s = result.wait_s or 0.0 if isinstance(result, Deferred | Throttled) else 0.0
        self._not_again_before = self._clock() + max(RENEW_AGAIN_S, wait_s)
        if isinstance(result, Token):
            self._token, self._renew_at = result, (now + result.expires) / 2
        else:
            self._renew_at = self._not_again_before
        self._times_asked += 1


def _acquire(identity: Identity, entra: EntraHttp, now: float) -> Token | NoToken:
    try:
        result = _ask_msal(identity, entra)
    except CredentialFault as fault:
        return Held(reason="invalid_credential", scope=Scope.APP, answer=Answer(detail=str(fault)), no_token=True)
    except NotSignedIn as fault:
        return Held(reason="sign_in_needed", scope=Scope.APP, answer=Answer(detail=str(fault)), no_token=True)
    except (NotSent, Lost, VaultUnavailable) as fault:
        return not_sent(str(fault))
    except Unavailable as fault:
        return not_sent(f"the sign-in cannot be read: {fault}")
    except Exception as error:  # noqa: BLE001 - MSAL meets strange answers with many exceptions; each is a refusal
        return _refusal(entra, {}, error, now)
    value, lifetime = result.get("access_token"), result.get("expires_in")
    if isinstance(value, str) and isinstance(lifetime, int | float):
        return Token(value, now + lifetime)
    return _refusal(entra, result, None, now)


def _ask_msal(identity: Identity, entra: EntraHttp) -> dict[str, Any]:
    if isinstance(identity.credential, ManagedIdentity):
        return _ask_the_machine(identity.credential, identity.graph_url, entra)
    authority = f"{identity.authority_url.rstrip('/')}/{identity.tenant_id}"
    if isinstance(identity.credential, SignedInUser):
        if identity.credential.kept is None:
            raise NotSignedIn("the sign-in is not at hand here")
        return token_of(identity.client_id, authority, identity.graph_url, identity.credential.kept, entra)
    if isinstance(identity.credential, FederatedIdentity):
        proof = _ask_the_machine(identity.credential, _FOR_AN_APP, entra)
        if not isinstance(proof.get("access_token"), str):
            return proof
        for_msal: Any = {"client_assertion": lambda: proof["access_token"]}
    else:
        for_msal = _for_msal(identity.credential)
    app = msal.ConfidentialClientApplication(
        identity.client_id,
        client_credential=for_msal,
        authority=authority,
        # It only asks login.microsoftonline.com whether another host is Microsoft's, which ours need not be.
        instance_discovery=False,
        http_client=entra,
    )
    scope = f"{identity.graph_url.rstrip('/')}/.default"
    result: dict[str, Any] = app.acquire_token_for_client(scopes=[scope])
    return result


def _ask_the_machine(
    credential: ManagedIdentity | FederatedIdentity, resource: str, entra: EntraHttp
) -> dict[str, Any]:
    """https://learn.microsoft.com/entra/identity/managed-identities-azure-resources/how-to-use-vm-token"""
    who = (
        msal.UserAssignedManagedIdentity(client_id=credential.client_id)
        if credential.client_id
        else msal.SystemAssignedManagedIdentity()
    )
    client = msal.ManagedIdentityClient(who, http_client=entra)
    result: dict[str, Any] = client.acquire_token_for_client(resource=resource.rstrip("/"))
    return result


def _for_msal(credential: Secret | StoredSecret | Certificate | FederatedToken) -> Any:
    match credential:
        case Secret() | StoredSecret():
            return secret_value(credential)
        case FederatedToken():
            token = _federated_token(credential)
            return {"client_assertion": lambda: token}
        case Certificate():
            key, certificate = key_and_certificate(credential)
            # This form, without a thumbprint, signs as Entra asks now: PS256 and x5t#S256.
            # https://learn.microsoft.com/entra/identity-platform/certificate-credentials
            return {
                "private_key": key.private_bytes(
                    serialization.Encoding.PEM,
                    serialization.PrivateFormat.PKCS8,
                    serialization.NoEncryption(),
                ).decode(),
                "public_certificate": certificate.public_bytes(serialization.Encoding.PEM).decode(),
            }


def _refusal(entra: EntraHttp, result: Mapping[str, Any], error: Exception | None, now: float) -> NoToken:
    """What stands behind a refusal: in MSAL's result, or else in the last answer, whose body MSAL has dropped."""
    answer = entra.last
    if answer is None:
        # Nothing was asked, so it is MSAL that refuses what it was given.
        text = redact(f"{type(error).__name__}: {error}")
        return Held(reason="invalid_app_settings", scope=Scope.APP, answer=Answer(detail=text), no_token=True)
    answer_fields = result or _as_object(answer.body)
    if answer.status < 300 and "error" not in answer_fields:
        text = "an answer that is no token" + (f" ({type(error).__name__})" if error else "")
        return Deferred(
            reason="entra_unavailable",
            scope=Scope.APP,
            free=True,
            answer=Answer(http_status=answer.status, detail=text),
        )
    codes, name = answer_fields.get("error_codes"), answer_fields.get("error")
    return judge_token_error(
        name if isinstance(name, str) else None,
        [code for code in codes if isinstance(code, int)] if isinstance(codes, list) else [],
        answer.status,
        wait_s=retry_after(answer.headers, datetime.fromtimestamp(now, UTC)),
        text=str(answer_fields.get("error_description", "")),
        trace_id=answer_fields.get("trace_id"),
    )


def _as_object(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
