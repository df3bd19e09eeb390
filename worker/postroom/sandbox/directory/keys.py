"""Certificates and secrets of applications: what is taken, what a policy forbids, and the proof of possession.

https://learn.microsoft.com/graph/api/resources/keycredential, https://learn.microsoft.com/graph/api/application-addkey
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Mapping
from typing import Any

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa

from postroom.sandbox.directory.asked import Asked, bad, binary, known_only, moment, required, time_text
from postroom.sandbox.directory.objects import Application, Directory, Key, Password, new_id
from postroom.sandbox.exchange.errors import GraphError

PROOF_AUDIENCE = "00000002-0000-0000-c000-000000000000"
PROOF_LIFE = 600
MOST_KEYS = 100
_DAY = 86400.0
_KEY = {
    "customKeyIdentifier": str,
    "displayName": str,
    "endDateTime": str,
    "key": str,
    "keyId": str,
    "startDateTime": str,
    "type": str,
    "usage": str,
}


def key_json(key: Key, *, with_key: bool) -> dict[str, Any]:
    """An entry of keyCredentials. The certificate itself is shown only to who selects the list."""
    return {
        "customKeyIdentifier": base64.b64encode(key.thumbprint).decode(),
        "displayName": key.name,
        "endDateTime": time_text(key.ends),
        "key": base64.b64encode(key.der).decode() if with_key else None,
        "keyId": key.id,
        "startDateTime": time_text(key.starts),
        "type": "AsymmetricX509Cert",
        "usage": "Verify",
    }


def password_json(password: Password) -> dict[str, Any]:
    """An entry of passwordCredentials, without the secret."""
    return {
        "customKeyIdentifier": None,
        "displayName": password.name,
        "endDateTime": time_text(password.ends),
        "hint": password.text[:3],
        "keyId": password.id,
        "secretText": None,
        "startDateTime": time_text(password.starts),
    }


def replaced_keys(asked: Asked, app: Application, entries: list[Any]) -> list[Key]:
    """The list that a PATCH leaves. An entry without its certificate is one that is there already."""
    kept = {one.id: one for one in app.keys}
    keys = []
    for entry in entries:
        if not isinstance(entry, Mapping):
            raise bad("Invalid value specified for property 'keyCredentials' of resource.")
        known = kept.get(str(entry.get("keyId", "")).casefold())
        if known is not None and not (entry.get("key") and binary(entry["key"], "key") != known.der):
            keys.append(known)
        else:
            keys.append(new_key(asked, entry))
    if len(keys) > MOST_KEYS:
        raise bad("The directory object quota limit for the property 'keyCredentials' is exceeded.")
    return keys


def new_key(asked: Asked, entry: Mapping[str, Any]) -> Key:
    """A key of this entry, if Entra takes it and no policy forbids it. Raises GraphError."""
    known_only(entry, _KEY)
    required(entry, "type", "usage", "key")
    if (entry["type"], entry["usage"]) != ("AsymmetricX509Cert", "Verify"):
        raise bad(
            f"Key type {entry['type']} with usage {entry['usage']} is not supported.", "KeyCredentialsInvalidType"
        )
    certificate = _certificate(binary(entry["key"], "key"))
    starts, ends = certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp()
    if "startDateTime" in entry:
        starts = moment(entry["startDateTime"], "startDateTime")
    if "endDateTime" in entry:
        ends = moment(entry["endDateTime"], "endDateTime")
    if ends > certificate.not_valid_after_utc.timestamp() + 1:
        raise bad("Key credential end date is invalid.", "KeyCredentialsInvalidEndDate")
    if ends <= asked.now:
        raise bad("Key credential end date is in the past.", "KeyCredentialsInvalidEndDate")
    _check_life(starts, ends, asked.directory.policy.certificate_days)
    return Key(
        id=str(entry.get("keyId") or new_id()).casefold(),
        thumbprint=_thumbprint(entry, certificate),
        der=binary(entry["key"], "key"),
        name=str(entry.get("displayName") or certificate.subject.rfc4514_string()),
        starts=starts,
        ends=ends,
        counts_from=asked.now + asked.directory.directory_delay,
    )


def new_password(asked: Asked, entry: Mapping[str, Any]) -> Password:
    """A secret, if no policy forbids it. Raises GraphError."""
    policy = asked.directory.policy
    known_only(entry, {"displayName": str, "startDateTime": str, "endDateTime": str})
    if not policy.passwords:
        message = "Credential type not allowed as per assigned policy."
        raise bad(message, "CredentialTypeNotAllowedAsPerAppPolicy")
    starts = moment(entry["startDateTime"], "startDateTime") if "startDateTime" in entry else asked.now
    ends = moment(entry["endDateTime"], "endDateTime") if "endDateTime" in entry else starts + 730 * _DAY
    _check_life(starts, ends, policy.password_days)
    name = str(entry.get("displayName") or "")
    return Password(id=new_id(), text=secrets.token_urlsafe(30), name=name, starts=starts, ends=ends)


def check_proof(asked: Asked, app: Application, directory: Directory) -> None:
    """Raises GraphError unless the body's `proof` was signed with a valid certificate of this application."""
    now = directory.now()
    try:
        header = jwt.get_unverified_header(asked.body["proof"])
        thumbprint = str(header.get("x5t#S256") or header.get("x5t") or header.get("kid") or "")
        for key in app.keys:
            certificate = x509.load_der_x509_certificate(key.der)
            if key.ends > now and thumbprint.rstrip("=") in _names(certificate):
                _check_claims(asked.body["proof"], certificate, app.id, now)
                return
    except (KeyError, TypeError, jwt.InvalidTokenError):
        pass
    raise GraphError(401, "Authentication_MissingOrMalformed", "Access Token missing or malformed.")


def _check_claims(proof: str, certificate: x509.Certificate, issuer: str, now: float) -> None:
    key = certificate.public_key()
    if not isinstance(key, rsa.RSAPublicKey):
        raise jwt.InvalidKeyError("no RSA key")
    claims = jwt.decode(
        proof,
        key,
        ["RS256", "PS256"],
        audience=PROOF_AUDIENCE,
        issuer=issuer,
        options={"verify_exp": False, "verify_nbf": False, "require": ["exp", "nbf", "aud", "iss"]},
    )
    if not claims["nbf"] - 300 <= now <= claims["exp"] or claims["exp"] - claims["nbf"] > PROOF_LIFE:
        raise jwt.ExpiredSignatureError


def _check_life(starts: float, ends: float, most_days: int | None) -> None:
    if most_days is not None and ends - starts > most_days * _DAY + 60:
        message = f"Credential lifetime exceeds the max value allowed as per assigned policy. Max value: P{most_days}D."
        raise bad(message, "CredentialInvalidLifetimeAsPerAppPolicy")


def _certificate(der: bytes) -> x509.Certificate:
    try:
        certificate = x509.load_der_x509_certificate(der)
    except ValueError:
        raise bad("Key credential value is no certificate.", "KeyCredentialsInvalidValue") from None
    key = certificate.public_key()
    if not isinstance(key, rsa.RSAPublicKey) or key.key_size < 2048:
        raise bad("The key of the certificate must be RSA of at least 2048 bits.", "KeyCredentialsInvalidValue")
    return certificate


def _thumbprint(entry: Mapping[str, Any], certificate: x509.Certificate) -> bytes:
    sha1 = certificate.fingerprint(hashes.SHA1())  # noqa: S303  customKeyIdentifier is defined as SHA-1
    return binary(entry["customKeyIdentifier"], "customKeyIdentifier") if entry.get("customKeyIdentifier") else sha1


def _names(certificate: x509.Certificate) -> set[str]:
    sha1 = certificate.fingerprint(hashes.SHA1())  # noqa: S303  the x5t header is defined as SHA-1
    sha256 = certificate.fingerprint(hashes.SHA256())
    return {base64.urlsafe_b64encode(one).rstrip(b"=").decode() for one in (sha1, sha256)} | {sha1.hex().upper()}
