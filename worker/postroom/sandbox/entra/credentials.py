"""Checks that a caller is an app: by a secret, a certificate's signature, or another issuer's token."""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa

from postroom.sandbox.entra.errors import EntraError
from postroom.sandbox.entra.tokens import base64url
from postroom.sandbox.options import AppRegistration, FederatedCredential

CLOCK_SKEW = 300  # seconds that Entra lets a client's clock be off


def check_secret(app: AppRegistration, secret: str) -> None:
    """Raises EntraError unless this is one of the app's secrets."""
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


def check_assertion(
    app: AppRegistration, assertion: str, tenants: Iterable[str], hosts: Iterable[str], now: float
) -> None:
    """Raises EntraError unless the app, or an issuer that it trusts, has signed this for us, and it is valid now."""
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
        _verify_signature(assertion, key, ["PS256", "RS256"])
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
    audiences = (credential.audience, [credential.audience])
    if claims.get("sub") != credential.subject or claims.get("aud") not in audiences:
        text = (
            "No matching federated identity record found for presented assertion. "
            f"Assertion Issuer: '{claims.get('iss')}'. Assertion Subject: '{claims.get('sub')}'. "
            f"Assertion Audience: '{claims.get('aud')}'."
        )
        raise EntraError(700213, "invalid_client", text)
    try:
        _verify_signature(assertion, credential.public_key, ["RS256"])
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


def _verify_signature(assertion: str, key: rsa.RSAPublicKey | str, algorithms: list[str]) -> None:
    # Times, audience and issuer have error numbers of their own, and the clock is an argument.
    jwt.decode(
        assertion,
        key,
        algorithms,
        options={
            "verify_signature": True,
            "verify_exp": False,
            "verify_nbf": False,
            "verify_iat": False,
            "verify_aud": False,
            "verify_iss": False,
            "verify_sub": False,
            "verify_jti": False,
        },
    )


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


def _time(moment: Any) -> str:
    try:
        return datetime.fromtimestamp(moment, UTC).isoformat()
    except (OSError, OverflowError, TypeError, ValueError):
        return "unknown"
