"""An app's credentials for Entra, and their faults. Files and vaults are read again for each token."""

import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import pkcs12

from postroom.graph.key_vault import VaultFault, VaultItem, certificate_bytes
from postroom.graph.key_vault import read as vault_value
from postroom.graph.sign_in import SignIns

EXPIRES_SOON = timedelta(days=30)
_SECRET_ID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


@dataclass(frozen=True, slots=True)
class Secret:
    """`expires`: when it does, as far as the settings say so."""

    value: str = field(repr=False)
    expires: datetime | None = None


@dataclass(frozen=True, slots=True)
class StoredSecret:
    """A secret in a file, or in a vault."""

    place: Path | VaultItem
    expires: datetime | None = None
    ca_bundle: Path | None = None


@dataclass(frozen=True, slots=True)
class Certificate:
    """`path`: a PFX file, or PEM with the certificate and its key; or a vault's."""

    path: Path | str | VaultItem
    password: str | None = field(default=None, repr=False)
    ca_bundle: Path | None = None


@dataclass(frozen=True, slots=True)
class ManagedIdentity:
    """The identity of the Azure machine itself; with a `client_id` a user-assigned one."""

    client_id: str | None = None


@dataclass(frozen=True, slots=True)
class FederatedToken:
    """A file with a token of another issuer (Kubernetes, GitHub), which that issuer keeps fresh."""

    path: Path | str


@dataclass(frozen=True, slots=True)
class FederatedIdentity:
    """The Azure machine's identity, which the app trusts: the app may be in another tenant."""

    client_id: str | None = None


@dataclass(frozen=True, slots=True)
class SignedInUser:
    """A person who has signed in for the app. `kept`: where that is; None where nobody asks for a token."""

    kept: SignIns | None = None


Credential = Secret | StoredSecret | Certificate | ManagedIdentity | FederatedToken | FederatedIdentity | SignedInUser


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who asks for tokens, and where. URLs are roots: `https://login.microsoftonline.com`."""

    tenant_id: str
    client_id: str
    authority_url: str
    graph_url: str
    credential: Credential


def check_credential(identity: Identity, now: datetime) -> list[str]:
    """What is wrong with the identity's credential, as far as its files show. No vault is asked."""
    match identity.credential:
        case Certificate(path=VaultItem()) | StoredSecret(place=VaultItem()):
            return []
        case StoredSecret() as stored:
            return _faults_in_secret_file(stored)
        case Secret(value):
            return _faults_in_secret(value)
        case Certificate() | FederatedToken():
            return _faults_in_files(identity.credential, now)
    return []


def ends_at(identity: Identity) -> datetime | None:
    """When the identity's certificate ends, or its secret, if that is known. None: it does not end, or nobody knows.

    Its files must be in order (`check_credential`).
    """
    match identity.credential:
        case Certificate(path=VaultItem()):
            return None
        case Certificate():
            return key_and_certificate(identity.credential)[1].not_valid_after_utc
        case Secret(expires=expires) | StoredSecret(expires=expires):
            return expires
    return None


def ends_soon(identity: Identity, now: datetime) -> str | None:
    """A warning if the identity's credential ends within a month. Its files must be in order (`check_credential`)."""
    ends = ends_at(identity)
    if ends is None or ends - now >= EXPIRES_SOON:
        return None
    credential = identity.credential
    what = f"{credential.path}: the certificate" if isinstance(credential, Certificate) else "the client secret"
    return f"{what} expires on {ends:%Y-%m-%d}, in {(ends - now).days} days"


@dataclass(frozen=True, slots=True)
class Thumbprints:
    """The thumbprints of a certificate in hexadecimal: `sha1` is what the Entra portal shows."""

    sha1: str
    sha256: str


def thumbprints(identity: Identity) -> Thumbprints | None:
    """Those of the identity's certificate, if it has one in a file. It must be in order (`check_credential`)."""
    if not isinstance(identity.credential, Certificate) or isinstance(identity.credential.path, VaultItem):
        return None
    certificate = key_and_certificate(identity.credential)[1]
    digests = (certificate.fingerprint(kind).hex().upper() for kind in (hashes.SHA1(), hashes.SHA256()))  # noqa: S303
    return Thumbprints(*digests)


class CredentialFault(Exception):
    """A credential's file that cannot be used; the text names the file and what is wrong with it."""


def _faults_in_secret_file(credential: StoredSecret) -> list[str]:
    try:
        secret = secret_value(credential)
    except CredentialFault as fault:
        return [str(fault)]
    return _faults_in_secret(secret, f"{credential.place}: ")


def _faults_in_secret(value: str, where: str = "") -> list[str]:
    if _SECRET_ID.fullmatch(value):
        return [f"{where}the client secret looks like a secret's ID; Entra needs its value"]
    return [] if value.strip() else [f"{where}the client secret is empty"]


def secret_value(credential: Secret | StoredSecret) -> str:
    """The secret as it is now. Raises CredentialFault, and VaultUnavailable for one in a vault."""
    if isinstance(credential, Secret):
        return credential.value
    if isinstance(credential.place, Path):
        return _read(credential.place).decode(errors="replace").strip()
    try:
        return vault_value(credential.place, credential.ca_bundle)
    except VaultFault as fault:
        raise CredentialFault(str(fault)) from None


def _faults_in_files(credential: Certificate | FederatedToken, now: datetime) -> list[str]:
    try:
        if isinstance(credential, FederatedToken):
            _federated_token(credential)
            return []
        _, certificate = key_and_certificate(credential)
    except CredentialFault as fault:
        return [str(fault)]
    starts, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now < starts:
        return [f"{credential.path}: the certificate is valid only from {starts:%Y-%m-%d} on"]
    if now >= ends:
        return [f"{credential.path}: the certificate expired on {ends:%Y-%m-%d}; register a new one in Entra"]
    return []


def _federated_token(credential: FederatedToken) -> str:
    token = _read(credential.path).decode(errors="replace").strip()
    if not token:
        raise CredentialFault(f"{credential.path}: the file with the federated token is empty")
    return token


def _certificate_bytes(credential: Certificate) -> bytes:
    if not isinstance(credential.path, VaultItem):
        return _read(credential.path)
    try:
        return certificate_bytes(credential.path, credential.ca_bundle)
    except VaultFault as fault:
        raise CredentialFault(str(fault)) from None


def _read(path: Path | str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise CredentialFault(f"{path}: {error.strerror}") from None


def key_and_certificate(credential: Certificate) -> tuple[RSAPrivateKey, x509.Certificate]:
    """The key of this credential, and the certificate that belongs to it. Raises CredentialFault."""
    data = _certificate_bytes(credential)
    password = credential.password.encode() if credential.password else None
    try:
        key, certificates = _from_pem(data, password) if b"-----BEGIN" in data else _from_pfx(data, password)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise CredentialFault(f"{credential.path}: wrong password, or no PFX or PEM file: {error}") from None
    if not isinstance(key, RSAPrivateKey):
        raise CredentialFault(f"{credential.path}: no RSA key in it, which is the kind that Entra takes")
    for certificate in certificates:
        if certificate.public_key() == key.public_key():
            return key, certificate
    raise CredentialFault(f"{credential.path}: no certificate in it that belongs to its key")


def _from_pfx(data: bytes, password: bytes | None) -> tuple[object, list[x509.Certificate]]:
    key, certificate, others = pkcs12.load_key_and_certificates(data, password)
    return key, [*([certificate] if certificate else []), *others]


def _from_pem(data: bytes, password: bytes | None) -> tuple[object, list[x509.Certificate]]:
    if b"PRIVATE KEY-----" not in data:
        raise ValueError("a certificate without its private key")
    encrypted = b"ENCRYPTED" in data  # a password for a key without one is an error to cryptography, not to us
    key = serialization.load_pem_private_key(data, password if encrypted else None)
    return key, x509.load_pem_x509_certificates(data) if b"BEGIN CERTIFICATE" in data else []
