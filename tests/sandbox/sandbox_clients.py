"""What the sandbox's tests send with: an app with a token, a plain mail, a certificate."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import msal
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import pkcs12

from postroom.sandbox import SandboxAddress


@dataclass
class Office:
    """An app that sends through the sandbox, with its own token."""

    address: SandboxAddress
    session: requests.Session

    def token_from(self, credential: Any = None, **more: Any) -> dict[str, Any]:
        """What MSAL gets for this credential."""
        app = msal.ConfidentialClientApplication(
            more.pop("client_id", self.address.client_id),
            client_credential=credential or self.address.client_secret,
            authority=f"{self.address.authority_url}/{more.pop('tenant', self.address.tenant_id)}",
            instance_discovery=False,
            http_client=client(self.address),
        )
        scope = more.pop("scope", f"{self.address.graph_url}/.default")
        result: dict[str, Any] = app.acquire_token_for_client([scope])
        return result

    def log_in(self) -> None:
        """Takes a token without MSAL, whose discovery and own connections would double the time of most tests."""
        form = {
            "grant_type": "client_credentials",
            "client_id": self.address.client_id,
            "client_secret": self.address.client_secret,
            "scope": f"{self.address.graph_url}/.default",
        }
        url = f"{self.address.authority_url}/{self.address.tenant_id}/oauth2/v2.0/token"
        token = self.session.post(url, data=form, timeout=10).json()["access_token"]
        self.session.headers["Authorization"] = f"Bearer {token}"

    def url(self, mailbox: str = "office@contoso.com") -> str:
        return f"{self.address.graph_url}/v1.0/users/{mailbox}/sendMail"

    def send(self, message: Any = None, mailbox: str = "office@contoso.com", **more: Any) -> requests.Response:
        """The answer to one sendMail; a plain mail where no message is given."""
        body = {"message": message if message is not None else mail(), **more.pop("parameters", {})}
        return self.session.post(self.url(mailbox), json=body, **{"timeout": 10, **more})


def client(address: SandboxAddress) -> requests.Session:
    session = requests.Session()
    session.verify = address.ca_file
    session.trust_env = False
    return session


def mail(**changes: Any) -> dict[str, Any]:
    """A message resource that Graph takes; a change to None leaves the property out."""
    message = {
        "subject": "Minutes",
        "body": {"contentType": "text", "content": "As agreed."},
        "toRecipients": [{"emailAddress": {"address": "ann@fabrikam.com"}}],
        **changes,
    }
    return {name: value for name, value in message.items() if value is not None}


@dataclass
class KeyPair:
    """An RSA key with a self-signed certificate."""

    key: rsa.RSAPrivateKey
    certificate: x509.Certificate

    @classmethod
    def new(cls, valid_for: timedelta = timedelta(days=1)) -> KeyPair:
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "mail worker")])
        now = datetime.now(UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=30))
            .not_valid_after(now + valid_for)
            .sign(key, hashes.SHA256())
        )
        return cls(key, certificate)

    @property
    def certificate_pem(self) -> str:
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    @property
    def key_pem(self) -> str:
        encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        return self.key.private_bytes(encoding, form, serialization.NoEncryption()).decode()

    @property
    def public_pem(self) -> str:
        encoding, form = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        return self.key.public_key().public_bytes(encoding, form).decode()

    @property
    def sha1(self) -> str:
        return self.certificate.fingerprint(hashes.SHA1()).hex()

    def pfx(self, password: str) -> bytes:
        encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
        if password:
            encryption = serialization.BestAvailableEncryption(password.encode())
        return pkcs12.serialize_key_and_certificates(b"worker", self.key, self.certificate, None, encryption)
