"""Each kind of credential gets a token, and one that cannot be used is named."""

import base64
import json
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import NameOID

from postroom.graph.credentials import (
    Certificate,
    FederatedToken,
    ManagedIdentity,
    Secret,
    StoredSecret,
    check_credential,
    ends_soon,
)
from postroom.graph.tokens import Token
from postroom.jobs.outcome import Held, Scope

from .entra import DISCOVERY, IDENTITY, NOW, Entra, reply, tokens_from, value

KEY = rsa.generate_private_key(65537, 2048)
NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "postroom")])
PEM, NO_PASSWORD = serialization.Encoding.PEM, serialization.NoEncryption()


def certificate(key: Any = KEY, ends: datetime = NOW + timedelta(days=365)) -> x509.Certificate:
    return (
        x509.CertificateBuilder()
        .subject_name(NAME)
        .issuer_name(NAME)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(ends - timedelta(days=365))
        .not_valid_after(ends)
        .sign(key, hashes.SHA256())
    )


def key_pem(key: Any = KEY, password: bytes | None = None) -> bytes:
    how = serialization.BestAvailableEncryption(password) if password else NO_PASSWORD
    data: bytes = key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, how)
    return data


def pfx(password: bytes, key: Any = KEY, ends: datetime = NOW + timedelta(days=365)) -> bytes:
    how = serialization.BestAvailableEncryption(password)
    return pkcs12.serialize_key_and_certificates(b"postroom", key, certificate(key, ends), None, how)


@pytest.fixture(params=["pem", "pem with password", "pfx", "password for nothing"])
def good_certificate(request: pytest.FixtureRequest, tmp_path: Path) -> Certificate:
    path = tmp_path / "app"
    cert = certificate().public_bytes(PEM)
    match request.param:
        case "pem":
            path.write_bytes(key_pem() + cert)
            return Certificate(path)
        case "pem with password":
            path.write_bytes(cert + key_pem(password=b"pass"))
            return Certificate(path, password="pass")
        case "pfx":
            path.write_bytes(pfx(b"pass"))
            return Certificate(str(path), password="pass")
        case _:
            path.write_bytes(cert + key_pem())
            return Certificate(path, password="pass")


def test_a_certificate_signs_as_entra_asks_now(good_certificate: Certificate) -> None:
    entra = Entra()
    assert isinstance(tokens_from(entra, identity=replace(IDENTITY, credential=good_certificate)).get(), Token)

    form = entra.form()
    assert form["client_assertion_type"] == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
    signed, _, signature = form["client_assertion"].rpartition(".")
    header, claims = (json.loads(unpadded(part)) for part in signed.split("."))
    assert (header["alg"], header["typ"]) == ("PS256", "JWT")
    assert unpadded(header["x5t#S256"]) == certificate().fingerprint(hashes.SHA256())
    assert claims["aud"] == DISCOVERY["token_endpoint"]
    assert claims["iss"] == claims["sub"] == "app-1"
    salted = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.AUTO)
    KEY.public_key().verify(unpadded(signature), signed.encode(), salted, hashes.SHA256())
    assert check_credential(replace(IDENTITY, credential=good_certificate), NOW) == []


def unpadded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@pytest.mark.parametrize(
    ("content", "password", "fault"),
    [
        (None, None, "No such file"),
        (b"", None, "wrong password, or no PFX or PEM file"),
        (b"-----BEGIN NONSENSE-----", None, "wrong password, or no PFX or PEM file"),
        (pfx(b"pass"), "wrong", "wrong password, or no PFX or PEM file"),
        (pfx(b"pass"), None, "wrong password, or no PFX or PEM file"),
        (key_pem(password=b"pass") + certificate().public_bytes(PEM), None, "wrong password"),
        (key_pem(password=b"pass") + certificate().public_bytes(PEM), "wrong", "wrong password"),
        (key_pem(), None, "no certificate in it that belongs to its key"),
        (certificate().public_bytes(PEM), None, "a certificate without its private key"),
        (
            key_pem(rsa.generate_private_key(65537, 2048)) + certificate().public_bytes(PEM),
            None,
            "no certificate in it that belongs to its key",
        ),
        (pfx(b"pass", ec.generate_private_key(ec.SECP256R1())), "pass", "no RSA key"),
    ],
    ids=[
        "missing",
        "empty",
        "nonsense",
        "pfx wrong password",
        "pfx no password",
        "pem no password",
        "pem wrong password",
        "key only",
        "certificate only",
        "other key",
        "elliptic",
    ],
)
def test_a_certificate_that_cannot_be_used_is_named(
    tmp_path: Path, content: bytes | None, password: str | None, fault: str
) -> None:
    path = tmp_path / "app.pfx"
    if content is not None:
        path.write_bytes(content)
    identity = replace(IDENTITY, credential=Certificate(path, password=password))
    entra = Entra()

    outcome = tokens_from(entra, identity=identity).get()

    assert isinstance(outcome, Held)
    assert (outcome.reason, outcome.scope) == ("invalid_credential", Scope.APP)
    assert str(path) in str(outcome.answer.detail)
    assert fault in str(outcome.answer.detail)
    assert check_credential(identity, NOW) == [outcome.answer.detail]
    assert entra.asked == []


@pytest.mark.parametrize(
    ("ends_in", "fault"),
    [
        (timedelta(days=-1), "the certificate expired on 2026-11-21; register a new one in Entra"),
        (timedelta(days=400), "the certificate is valid only from 2026-12-27 on"),
    ],
)
def test_a_certificates_dates_are_checked(tmp_path: Path, ends_in: timedelta, fault: str) -> None:
    path = tmp_path / "app.pfx"
    path.write_bytes(pfx(b"pass", ends=NOW + ends_in))
    credential = Certificate(path, password="pass")
    assert check_credential(replace(IDENTITY, credential=credential), NOW) == [f"{path}: {fault}"]


def test_a_certificate_that_ends_soon_is_no_fault_but_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "app.pfx"
    path.write_bytes(pfx(b"pass", ends=NOW + timedelta(days=12)))
    soon = replace(IDENTITY, credential=Certificate(path, password="pass"))
    path.with_name("long.pfx").write_bytes(pfx(b"pass", ends=NOW + timedelta(days=90)))
    late = replace(IDENTITY, credential=Certificate(path.with_name("long.pfx"), password="pass"))

    assert check_credential(soon, NOW) == []
    assert ends_soon(soon, NOW) == f"{path}: the certificate expires on 2026-12-04, in 12 days"
    assert ends_soon(late, NOW) is None
    assert ends_soon(replace(IDENTITY, credential=Secret("s")), NOW) is None


def test_a_renewed_certificate_is_used_without_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "app.pem"
    identity = replace(IDENTITY, credential=Certificate(path))
    tokens = tokens_from(Entra(), identity=identity)
    assert isinstance(tokens.get(), Held)

    path.write_bytes(key_pem() + certificate().public_bytes(PEM))
    assert isinstance(tokens.get(), Token)


def test_a_federated_token_is_read_again_for_each_request(tmp_path: Path) -> None:
    path = tmp_path / "token"
    entra = Entra()
    identity = replace(IDENTITY, credential=FederatedToken(path))
    tokens = tokens_from(entra, identity=identity)
    missing = tokens.get()
    assert isinstance(missing, Held)
    assert missing.answer.detail == f"{path}: No such file or directory"
    assert check_credential(identity, NOW) == [missing.answer.detail]

    for content in ("first\n", "second\n"):
        path.write_text(content)
        token = tokens.get()
        assert isinstance(token, Token)
        tokens.renew(token)
        assert entra.form()["client_assertion"] == content.strip()

    path.write_text("\n")
    assert check_credential(identity, NOW) == [f"{path}: the file with the federated token is empty"]


@pytest.mark.parametrize(
    ("secret", "faults"),
    [
        ("a8Q~something", []),
        (" ", ["the client secret is empty"]),
        (
            "0f8fad5b-d9cb-469f-a165-70867728950e",
            ["the client secret looks like a secret's ID; Entra needs its value"],
        ),
    ],
)
def test_a_secrets_usual_mistakes_are_named(secret: str, faults: list[str]) -> None:
    assert check_credential(replace(IDENTITY, credential=Secret(secret)), NOW) == faults


@pytest.mark.parametrize("client_id", [None, "user-assigned"])
def test_a_managed_identity_asks_the_machine(monkeypatch: pytest.MonkeyPatch, client_id: str | None) -> None:
    for name in ("IDENTITY_ENDPOINT", "MSI_ENDPOINT", "AZURE_POD_IDENTITY_AUTHORITY_HOST"):
        monkeypatch.delenv(name, raising=False)
    entra = Entra(reply(200, {"access_token": "{n}", "expires_in": "3600", "resource": "r"}))
    identity = replace(IDENTITY, credential=ManagedIdentity(client_id))

    assert value(tokens_from(entra, identity=identity).get()) == "token-1"

    url = entra.asked[0]["url"]
    assert url.startswith("http://169.254.169.254/metadata/identity/oauth2/token?")
    found = parse_qs(url.partition("?")[2])
    assert found["resource"] == ["https://graph.example"]
    assert found.get("client_id") == ([client_id] if client_id else None)
    assert entra.asked[0]["headers"]["Metadata"] == "true"
    assert check_credential(identity, NOW) == []


def test_a_machine_without_an_identity_is_held_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("IDENTITY_ENDPOINT", raising=False)
    answer = reply(400, {"error": "invalid_request", "error_description": "Identity not found"})
    outcome = tokens_from(Entra(answer), identity=replace(IDENTITY, credential=ManagedIdentity())).get()
    assert isinstance(outcome, Held)
    assert outcome.scope is Scope.APP
    assert outcome.answer.detail == "Identity not found"


def test_a_secret_s_file_is_read_for_each_token(tmp_path: Path) -> None:
    file, entra = tmp_path / "secret", Entra()
    file.write_text("first\n")
    kept = tokens_from(entra, identity=replace(IDENTITY, credential=StoredSecret(file)))

    kept.probe()
    assert entra.form()["client_secret"] == "first"
    file.write_text("second\n")
    kept.probe()
    assert entra.form()["client_secret"] == "second"


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (None, "secret: No such file or directory"),
        (" \n", "secret: the client secret is empty"),
        ("5a4db0c5-0000-4000-8000-a995a4db0c52\n", "secret: the client secret looks like a secret's ID"),
    ],
)
def test_a_secret_s_file_that_cannot_be_used_is_named(tmp_path: Path, content: str | None, fault: str) -> None:
    if content is not None:
        (tmp_path / "secret").write_text(content)
    (found,) = check_credential(replace(IDENTITY, credential=StoredSecret(tmp_path / "secret")), NOW)
    assert fault in found
