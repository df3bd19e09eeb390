"""The tenant: its app registrations, and how a caller proves to be one of them. Errors are Entra's own."""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa

from postroom.sandbox.graph_error import GraphError
from postroom.sandbox.options import AppRegistration, FederatedCredential, SandboxOptions
from postroom.sandbox.tokens import GRAPH_APP_ID, GRAPH_ROOTS, Claims, TokenMint, base64url

JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
CLOCK_SKEW = 300  # seconds that Entra lets a client's clock be off


class EntraError(Exception):
    """Entra says no: the AADSTS number, OAuth's word for it, the text, and the HTTP status."""

    def __init__(self, number: int, error: str, text: str, status: int | None = None) -> None:
        super().__init__(text)
        self.number = number
        self.error = error
        self.text = text
        self.status = status or (401 if error == "invalid_client" else 400)


class Tenant:
    """One directory with its registered apps."""

    def __init__(self, options: SandboxOptions, root: str, mint: TokenMint) -> None:
        self._options = options
        self._root = root
        self._mint = mint
        self.apps: dict[str, AppRegistration] = {}
        self.restore()

    def restore(self) -> None:
        """The registrations as they were at the start."""
        apps = (self._options.app(), *self._options.more_apps)
        self.apps = {app.client_id.casefold(): app for app in apps}

    def change(self, client_id: str | None = None, **changes: Any) -> None:
        """Other secrets, certificates or roles for one app; tokens already issued keep what they say."""
        key = (client_id or self._options.client_id).casefold()
        if key not in self.apps:
            raise ValueError(f"no app {key} is registered in the sandbox; registered: {', '.join(self.apps)}")
        self.apps[key] = replace(self.apps[key], **changes)

    def require(self, name: str) -> None:
        """Passes where `name`, the tenant in a URL, is this one."""
        if name.casefold() in self._names():
            return
        if not _is_guid(name) and "." not in name:
            text = f"Specified tenant identifier '{name}' is neither a valid DNS name, nor a valid external domain."
            raise EntraError(900023, "invalid_request", text)
        text = (
            f"Tenant '{name}' not found. Check to make sure you have the correct tenant ID and are signing into the "
            "correct cloud. Check with your subscription administrator, this may happen if there are no active "
            "subscriptions for the tenant."
        )
        raise EntraError(90002, "invalid_request", text)

    def grant(self, tenant: str, form: Mapping[str, str], root: str, now: float) -> dict[str, Any]:
        """The token endpoint's answer to this form; `root` is how the caller addressed the sandbox."""
        self.require(tenant)
        _require_client_credentials(form)
        app = self._app(form["client_id"])
        audience = self._audience(form["scope"], root)
        self._authenticate(app, form, root, now)
        lifetime = self._options.token_lifetime
        answer: dict[str, Any] = {
            "token_type": "Bearer",
            "expires_in": lifetime,
            "ext_expires_in": lifetime,
            "access_token": self._mint.issue(app, audience, now, lifetime),
        }
        if self._options.refresh_in is not None:
            answer["refresh_in"] = self._options.refresh_in
        return answer

    def require_mail_send(self, claims: Claims, mailbox: str) -> None:
        """Passes where the token's app may send from this mailbox: by its roles, or by Exchange's own."""
        app = self.apps.get(claims.app_id)
        if app is not None and mailbox in (box.casefold() for box in app.rbac_mailboxes):
            return
        if "Mail.Send" not in claims.roles:
            raise GraphError(403, "ErrorAccessDenied", "Access is denied. Check credentials and try again.")
        policy = None if app is None else app.policy_mailboxes
        if policy is not None and mailbox not in (box.casefold() for box in policy):
            message = "Access to OData is disabled: [RAOP] : Blocked by tenant configured AppOnly AccessPolicy settings."
            raise GraphError(403, "ErrorAccessDenied", message)

    def _names(self) -> tuple[str, str]:
        return self._options.tenant_id.casefold(), self._options.tenant_domain.casefold()

    def _app(self, client_id: str) -> AppRegistration:
        app = self.apps.get(client_id.casefold())
        if app is None:
            text = (
                f"Application with identifier '{client_id}' was not found in the directory "
                f"'{self._options.tenant_domain}'. This can happen if the application has not been installed by the "
                "administrator of the tenant or consented to by any user in the tenant. You may have sent your "
                "authentication request to the wrong tenant."
            )
            raise EntraError(700016, "unauthorized_client", text)
        return app

    def _audience(self, scope: str, root: str) -> str:
        resource, _, permission = scope.strip().rpartition("/")
        if permission != ".default" or not resource or " " in resource:
            text = (
                f"The provided value for scope {scope} is not valid. Client credential flows must have a scope "
                "value with /.default suffixed to the resource identifier (application ID URI)."
            )
            raise EntraError(1002012, "invalid_scope", text)
        resource = resource.rstrip("/")
        if resource == root:
            return self._root
        if resource in GRAPH_ROOTS or resource in (self._root, GRAPH_APP_ID):
            return resource
        text = (
            f"The resource principal named {resource} was not found in the tenant named "
            f"{self._options.tenant_domain}. This can happen if the application has not been installed by the "
            "administrator of the tenant or consented to by any user in the tenant. You might have sent your "
            "authentication request to the wrong tenant."
        )
        raise EntraError(500011, "invalid_resource", text)

    def _authenticate(self, app: AppRegistration, form: Mapping[str, str], root: str, now: float) -> None:
        if secret := form.get("client_secret"):
            _check_secret(app, secret)
        elif assertion := form.get("client_assertion"):
            if form.get("client_assertion_type") != JWT_BEARER:
                text = f"The request body must contain the following parameter: 'client_assertion_type={JWT_BEARER}'."
                raise EntraError(900144, "invalid_request", text)
            hosts = {urlsplit(root).netloc, urlsplit(self._root).netloc}
            _check_assertion(app, assertion, self._names(), hosts, now)
        elif "client_assertion_type" in form:
            text = "The request body must contain the following parameter: 'client_assertion' or 'client_secret'."
            raise EntraError(7000218, "invalid_request", text)
        else:
            text = (
                "'client_assertion', 'client_secret' or 'request' is required for the 'client_credentials' grant type."
            )
            raise EntraError(7000216, "invalid_client", text)


def _require_client_credentials(form: Mapping[str, str]) -> None:
    if "resource" in form:
        raise EntraError(901002, "invalid_request", "The 'resource' request parameter is not supported.")
    for name in ("grant_type", "client_id", "scope"):
        if not form.get(name):
            text = f"The request body must contain the following parameter: '{name}'."
            raise EntraError(900144, "invalid_request", text)
    if form["grant_type"] != "client_credentials":
        text = f"The app requested an unsupported grant type '{form['grant_type']}'."
        raise EntraError(70003, "unsupported_grant_type", text)


def _check_secret(app: AppRegistration, secret: str) -> None:
    if _one_of(secret, app.secrets):
        return
    if _one_of(secret, app.expired_secrets):
        text = (
            f"The provided client secret keys for app '{app.client_id}' are expired. Visit the Azure portal to create "
            "new keys for your app: https://aka.ms/NewClientSecret, or consider using certificate credentials for "
            "added security: https://aka.ms/certCreds."
        )
        raise EntraError(7000222, "invalid_client", text)
    text = (
        "Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, "
        f"not the client secret ID, for a secret added to app '{app.client_id}'."
    )
    raise EntraError(7000215, "invalid_client", text)


def _check_assertion(
    app: AppRegistration, assertion: str, tenants: Iterable[str], hosts: Iterable[str], now: float
) -> None:
    try:
        header = jwt.get_unverified_header(assertion)
        claims = jwt.decode(assertion, options={"verify_signature": False})
    except jwt.InvalidTokenError as error:
        raise EntraError(50027, "invalid_request", "JWT token is invalid or malformed.") from error
    federated = [one for one in app.federated if one.issuer == claims.get("iss")]
    if federated:
        _check_federated(federated[0], assertion, claims)
    else:
        _check_signature(app, assertion, header, now)
        if claims.get("iss") != app.client_id or claims.get("sub") != app.client_id:
            text = "Client assertion application identifier doesn't match 'client_id' parameter."
            raise EntraError(700021, "invalid_client", text)
        if not _meant_for_us(claims.get("aud"), tenants, hosts):
            text = (
                "Client assertion audience claim does not match Realm issuer. Review the documentation at "
                "https://docs.microsoft.com/azure/active-directory/develop/active-directory-certificate-credentials ."
            )
            raise EntraError(700023, "invalid_client", text)
        if not claims.get("jti"):
            raise EntraError(50027, "invalid_request", "JWT token doesn't contain 'jti' claim.")
    _check_time(claims, now)


def _check_signature(app: AppRegistration, assertion: str, header: Mapping[str, Any], now: float) -> None:
    thumbprint = str(header.get("x5t#S256") or header.get("x5t") or "").rstrip("=")
    certificate = next((one for one in _certificates(app) if thumbprint in _thumbprints(one)), None)
    if certificate is None:
        text = (
            "The certificate with identifier used to sign the client assertion is not registered on application. "
            f"[Reason - The key was not found., Thumbprint of key used by client: '{thumbprint}']"
        )
        raise EntraError(700027, "invalid_client", text)
    key = certificate.public_key()
    try:
        if not isinstance(key, rsa.RSAPublicKey):
            raise jwt.InvalidKeyError("Entra takes RSA keys only")
        jwt.decode(assertion, key, ["PS256", "RS256"], options={"verify_signature": True, **_UNCHECKED})
    except jwt.InvalidTokenError as error:
        text = (
            "Client assertion contains an invalid signature. [Reason - The key used is not the registered one., "
            f"Thumbprint of key used by client: '{thumbprint}']"
        )
        raise EntraError(700027, "invalid_client", text) from error
    if certificate.not_valid_after_utc.timestamp() < now:
        text = "Client assertion contains an invalid signature. [Reason - The key used is expired.]"
        raise EntraError(700027, "invalid_client", text)


def _check_federated(credential: FederatedCredential, assertion: str, claims: Mapping[str, Any]) -> None:
    if claims.get("sub") != credential.subject or claims.get("aud") not in (
        credential.audience,
        [credential.audience],
    ):
        text = (
            "No matching federated identity record found for presented assertion. "
            f"Assertion Issuer: '{claims.get('iss')}'. Assertion Subject: '{claims.get('sub')}'. "
            f"Assertion Audience: '{claims.get('aud')}'."
        )
        raise EntraError(700213, "invalid_client", text)
    try:
        jwt.decode(assertion, credential.public_key, ["RS256"], options={"verify_signature": True, **_UNCHECKED})
    except jwt.InvalidTokenError as error:
        text = "JWT signature validation failed: the assertion was not signed by its issuer."
        raise EntraError(50013, "invalid_grant", text) from error


def _check_time(claims: Mapping[str, Any], now: float) -> None:
    expires, not_before = claims.get("exp"), claims.get("nbf", claims.get("iat", now))
    numbers = isinstance(expires, int | float) and isinstance(not_before, int | float)
    if numbers and not_before - CLOCK_SKEW <= now <= expires + CLOCK_SKEW:  # type: ignore[operator]
        return
    text = (
        "Client assertion is not within its valid time range. "
        f"Current time: {_time(now)}, assertion valid from {_time(not_before)}, "
        f"expiry time of assertion {_time(expires)}."
    )
    raise EntraError(700024, "invalid_client", text)


# The clock is an argument, and audience and issuer have error numbers of their own.
_UNCHECKED = {f"verify_{name}": False for name in ("exp", "nbf", "iat", "aud", "iss", "sub", "jti")}


def _meant_for_us(audience: object, tenants: Iterable[str], hosts: Iterable[str]) -> bool:
    if not isinstance(audience, str):
        return False
    ends = ("/oauth2/v2.0/token", "/oauth2/token", "/v2.0", "/", "")
    places = {f"https://{host}/{tenant}{end}" for host in hosts for tenant in tenants for end in ends}
    return audience.casefold() in {place.casefold() for place in places}


def _certificates(app: AppRegistration) -> list[x509.Certificate]:
    return [x509.load_pem_x509_certificate(pem.encode()) for pem in app.certificates]


def _thumbprints(certificate: x509.Certificate) -> tuple[str, ...]:
    sha1 = hashes.SHA1()  # noqa: S303  the x5t header is defined as SHA-1
    return base64url(certificate.fingerprint(hashes.SHA256())), base64url(certificate.fingerprint(sha1))


def _one_of(secret: str, secrets: Iterable[str]) -> bool:
    return any(hmac.compare_digest(secret.encode(), one.encode()) for one in secrets)


def _is_guid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True


def _time(moment: object) -> str:
    if not isinstance(moment, int | float):
        return "missing"
    return datetime.fromtimestamp(moment, UTC).isoformat()
