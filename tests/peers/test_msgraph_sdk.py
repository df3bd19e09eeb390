"""Microsoft's own SDK sends through the sandbox: what it asks for is what the sandbox has to answer."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from postroom.sandbox import SandboxAddress, running
from postroom.sandbox.control import Sandbox

# The SDK calls deprecated parts of itself.
pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("default::DeprecationWarning")]

identity = pytest.importorskip("azure.identity", reason="needs requirements/peers.lock")
msgraph = pytest.importorskip("msgraph", reason="needs requirements/peers.lock")


@pytest.fixture(scope="module")
def address() -> Iterator[SandboxAddress]:
    with running() as address:
        yield address


@pytest.fixture
def sandbox(address: SandboxAddress) -> Iterator[Sandbox]:
    with Sandbox.at(address) as sandbox:
        sandbox.reset()
        yield sandbox


def test_a_mail_sent_with_a_secret_is_in_the_inbox(address: SandboxAddress, sandbox: Sandbox) -> None:
    credential = _secret(address, address.client_secret)

    _send(address, credential, _mail())

    message = sandbox.messages()[0]
    assert (message.sender, message.subject) == ("office@contoso.com", "From the SDK")
    assert message.to == ("ann@fabrikam.com",)
    assert message.html == "<p>Hello</p>"
    assert message.job == "job-1"
    assert sandbox.attachment(message) == b"a,b"


def test_a_mail_sent_with_a_certificate_is_in_the_inbox(
    address: SandboxAddress, sandbox: Sandbox, tmp_path: Path
) -> None:
    key_and_certificate, certificate = _certificate()
    sandbox.set_certificates(certificate)
    file = tmp_path / "worker.pem"
    file.write_text(key_and_certificate)
    credential = identity.CertificateCredential(address.tenant_id, address.client_id, str(file), **_here(address))

    _send(address, credential, _mail())

    assert len(sandbox.messages()) == 1


def test_a_refusal_is_read_as_an_odata_error(address: SandboxAddress, sandbox: Sandbox) -> None:
    from msgraph.generated.models.o_data_errors.o_data_error import ODataError

    credential = _secret(address, address.client_secret)
    mail = _mail()
    mail.to_recipients = []

    with pytest.raises(ODataError) as caught:
        _send(address, credential, mail)

    assert caught.value.error.code == "ErrorInvalidRecipients"
    assert caught.value.error.inner_error.request_id == sandbox.requests(stage="graph")[0].request_id


def test_the_sdk_waits_as_long_as_a_throttled_answer_asks(address: SandboxAddress, sandbox: Sandbox) -> None:
    sandbox.add_fault(status=429, retry_after=0, times=1)
    credential = _secret(address, address.client_secret)

    _send(address, credential, _mail())

    assert [one.status for one in sandbox.requests(stage="graph")] == [429, 202]


def test_a_wrong_secret_is_an_authentication_error(address: SandboxAddress, sandbox: Sandbox) -> None:
    from azure.core.exceptions import ClientAuthenticationError

    credential = _secret(address, "wrong")

    with pytest.raises(ClientAuthenticationError, match="AADSTS7000215"):
        _send(address, credential, _mail())


def _secret(address: SandboxAddress, secret: str) -> Any:
    return identity.ClientSecretCredential(address.tenant_id, address.client_id, secret, **_here(address))


def _here(address: SandboxAddress) -> dict[str, Any]:
    return {
        "authority": address.authority_url,
        "disable_instance_discovery": True,
        "connection_verify": address.ca_file,
    }


def _send(address: SandboxAddress, credential: Any, mail: Any) -> None:
    asyncio.run(_send_once(address, credential, mail))


async def _send_once(address: SandboxAddress, credential: Any, mail: Any) -> None:
    import ssl

    import httpx
    from kiota_authentication_azure.azure_identity_authentication_provider import AzureIdentityAuthenticationProvider
    from msgraph import GraphRequestAdapter, GraphServiceClient
    from msgraph.generated.users.item.send_mail.send_mail_post_request_body import SendMailPostRequestBody
    from msgraph_core import GraphClientFactory

    host = address.graph_url.removeprefix("https://")
    scopes = [f"{address.graph_url}/.default"]
    login = AzureIdentityAuthenticationProvider(credential, scopes=scopes, allowed_hosts=[host, host.split(":")[0]])
    trust = ssl.create_default_context(cafile=address.ca_file)
    # A transport of our own, because the SDK wraps it and never closes what it wrapped.
    async with httpx.AsyncHTTPTransport(verify=trust) as transport:
        plain = httpx.AsyncClient(transport=transport, trust_env=False)
        adapter = GraphRequestAdapter(login, client=GraphClientFactory.create_with_default_middleware(client=plain))
        adapter.base_url = f"{address.graph_url}/v1.0"
        body = SendMailPostRequestBody(message=mail, save_to_sent_items=True)
        await GraphServiceClient(request_adapter=adapter).users.by_user_id("office@contoso.com").send_mail.post(body)


def _mail() -> Any:
    from msgraph.generated.models.body_type import BodyType
    from msgraph.generated.models.email_address import EmailAddress
    from msgraph.generated.models.file_attachment import FileAttachment
    from msgraph.generated.models.importance import Importance
    from msgraph.generated.models.internet_message_header import InternetMessageHeader
    from msgraph.generated.models.item_body import ItemBody
    from msgraph.generated.models.message import Message
    from msgraph.generated.models.recipient import Recipient

    return Message(
        subject="From the SDK",
        body=ItemBody(content_type=BodyType.Html, content="<p>Hello</p>"),
        to_recipients=[Recipient(email_address=EmailAddress(address="ann@fabrikam.com", name="Ann"))],
        importance=Importance.High,
        internet_message_headers=[InternetMessageHeader(name="x-postroom-job", value="job-1")],
        attachments=[FileAttachment(name="a.csv", content_type="text/csv", content_bytes=b"a,b")],
    )


def _certificate() -> tuple[str, str]:
    """A key with its certificate in one PEM, and the certificate alone."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "mail worker")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM).decode()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private.decode() + pem, pem
