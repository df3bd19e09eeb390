"""The sandbox's own certificate authority: MSAL and requests insist on TLS."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

import trustme
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """The keys of one sandbox: for its TLS, and to sign its tokens. `ca_file` is its CA's certificate."""

    ca_file: Path
    tls: ssl.SSLContext
    signing_key: rsa.RSAPrivateKey


def open_keys(folder: Path, names: tuple[str, ...]) -> Keys:
    """The keys in this folder; makes those that are missing. The TLS certificate is for `names`."""
    folder.mkdir(parents=True, exist_ok=True)
    ca_file = folder / "ca.pem"
    ca = _kept_or_new_ca(ca_file, folder / "ca.key")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert(*names).configure_cert(tls)
    return Keys(ca_file=ca_file, tls=tls, signing_key=_kept_or_new_signing_key(folder / "tokens.key"))


def _kept_or_new_ca(certificate: Path, key: Path) -> trustme.CA:
    if certificate.exists() and key.exists():
        return trustme.CA.from_pem(certificate.read_bytes(), key.read_bytes())
    ca = trustme.CA(organization_name="Postroom sandbox")
    _write_private(key, ca.private_key_pem.bytes())
    certificate.write_bytes(ca.cert_pem.bytes())
    return ca


def _kept_or_new_signing_key(file: Path) -> rsa.RSAPrivateKey:
    if file.exists():
        kept = serialization.load_pem_private_key(file.read_bytes(), password=None)
        if not isinstance(kept, rsa.RSAPrivateKey):
            raise ValueError(f"{file} holds no RSA key; delete it and the sandbox makes a new one")
        return kept
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    _write_private(file, pem)
    return key


def _write_private(file: Path, content: bytes) -> None:
    file.touch(mode=0o600)
    file.write_bytes(content)
