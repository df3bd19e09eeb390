"""Tokens come in good time and once for all threads; whatever Entra answers is an outcome with a name."""

import base64
import json
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qs

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import NameOID
from requests.structures import CaseInsensitiveDict

from postroom.graph.credentials import (
    Certificate,
    FederatedToken,
    Identity,
    ManagedIdentity,
    Secret,
    check_credential,
    ends_soon,
)
from postroom.graph.tokens import NoToken, Token, Tokens
from postroom.jobs.outcome import Deferred, Held, Scope, Throttled
from postroom.transport.curl_http import CurlHttp
from postroom.transport.http import Http, Lost, NotSent, Response

from ..scripted_servers import Peer, Servers, all_servers, json_answer, serve

__all__ = ["all_servers", "serve"]
ROOT = "https://entra.example"
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
IDENTITY = Identity(
    tenant_id="contoso",
    client_id="app-1",
    authority_url=ROOT,
    graph_url="https://graph.example",
    credential=Secret("s3cr3t"),
)
DISCOVERY = {
    "issuer": f"{ROOT}/contoso/v2.0",
    "authorization_endpoint": f"{ROOT}/contoso/oauth2/v2.0/authorize",
    "token_endpoint": f"{ROOT}/contoso/oauth2/v2.0/token",
}


class Entra:
    """Stands in for Http. Answers token requests with `answers`, one after the other, the last one for ever."""

    def __init__(self, *answers: Response | Exception, discovery: Response | None = None) -> None:
        self.answers = list(answers) or [token_answer()]
        self.discovery = discovery or reply(200, DISCOVERY)
        self.asked: list[dict[str, Any]] = []
        self.while_asked: Callable[[], object] = lambda: None

    def exchange(self, method: str, url: str, **given: Any) -> Response:
        if method == "GET" and "openid-configuration" in url:
            return self.discovery
        self.asked.append({"method": method, "url": url, **given})
        self.while_asked()
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        if b'"{n}"' in answer.body:
            body = answer.body.replace(b"{n}", b"token-%d" % len(self.asked))
            return Response(answer.status, answer.headers, body)
        return answer

    def form(self) -> dict[str, str]:
        return {name: values[0] for name, values in parse_qs(self.asked[-1]["body"].decode()).items()}


class Clock:
    now = NOW.timestamp()

    def __call__(self) -> float:
        return self.now


def reply(status: int, body: object, **headers: str) -> Response:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    shown = CaseInsensitiveDict({name.replace("_", "-"): value for name, value in headers.items()})
    return Response(status, shown, data)


def token_answer(expires_in: int = 3600) -> Response:
    return reply(200, {"token_type": "Bearer", "expires_in": expires_in, "access_token": "{n}"})


def refusal(status: int, error: str, code: int, **headers: str) -> Response:
    text = f"AADSTS{code}: It is not to be. Trace ID: t-1 Correlation ID: c-1"
    body = {"error": error, "error_description": text, "error_codes": [code], "trace_id": "t-1"}
    return reply(status, body, **headers)


def tokens_from(
    entra: Entra, clock: Clock | None = None, identity: Identity = IDENTITY, deadline_s: float = 20
) -> Tokens:
    return Tokens(identity, cast("Http", entra), deadline_s=deadline_s, clock=clock or Clock())


def value(found: Token | NoToken) -> str:
    assert isinstance(found, Token), found
    return found.value


# --- getting and keeping


def test_a_token_is_asked_for_once_and_kept() -> None:
    entra, clock = Entra(), Clock()
    tokens = tokens_from(entra, clock)

    assert [value(tokens.get()) for _ in range(3)] == ["token-1"] * 3
    clock.now += 1700
    assert value(tokens.get()) == "token-1"
    assert len(entra.asked) == 1
    assert tokens.get() == Token("token-1", NOW.timestamp() + 3600)


def test_a_client_secret_is_sent_as_entra_documents_it() -> None:
    entra = Entra()
    tokens_from(entra).get()

    assert entra.asked[0]["url"] == f"{ROOT}/contoso/oauth2/v2.0/token"
    form = entra.form()
    assert form["grant_type"] == "client_credentials"
    assert form["scope"] == "https://graph.example/.default"
    assert (form["client_id"], form["client_secret"]) == ("app-1", "s3cr3t")


def test_a_token_is_renewed_from_half_of_its_life_on_while_others_go_on_with_it() -> None:
    entra, clock = Entra(), Clock()
    tokens = tokens_from(entra, clock)
    tokens.get()
    clock.now += 1801

    during: list[str] = []
    entra.while_asked = lambda: in_a_thread(lambda: during.append(value(tokens.get())))

    assert value(tokens.get()) == "token-2"
    assert during == ["token-1"]
    assert len(entra.asked) == 2


def in_a_thread(what: Callable[[], object]) -> None:
    thread = threading.Thread(target=what)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()


@pytest.mark.parametrize(
    "fault",
    [
        reply(503, b"<html>"),
        reply(429, {}),
        NotSent("entra.example: refused"),
        Lost("x"),
        refusal(401, "invalid_client", 7000222),
    ],
)
def test_a_good_token_serves_until_it_expires_while_entra_stumbles(fault: Response | Exception) -> None:
    entra, clock = Entra(token_answer(), fault), Clock()
    tokens = tokens_from(entra, clock)
    tokens.get()

    clock.now += 2000
    assert value(tokens.get()) == "token-1"
    assert len(entra.asked) == 2
    clock.now += 59
    assert value(tokens.get()) == "token-1"
    assert len(entra.asked) == 2, "Entra is left alone for a minute"
    clock.now += 2
    assert value(tokens.get()) == "token-1"
    assert len(entra.asked) == 3
    clock.now = NOW.timestamp() + 3600
    assert not isinstance(tokens.get(), Token)


def test_threads_that_need_a_token_at_once_share_one_request() -> None:
    entra = Entra()
    tokens = tokens_from(entra)
    found = all_at_once(tokens, entra, 4, tokens.get)
    assert [value(token) for token in found] == ["token-1"] * 4
    assert len(entra.asked) == 1


def test_threads_that_wait_for_a_refusal_share_it() -> None:
    entra = Entra(refusal(401, "invalid_client", 7000215))
    tokens = tokens_from(entra)
    found = all_at_once(tokens, entra, 4, tokens.get)
    assert {outcome.reason for outcome in found if isinstance(outcome, Held)} == {"invalid_client_secret"}
    assert len(entra.asked) == 1


def all_at_once(tokens: Tokens, entra: Entra, count: int, what: Callable[[], Any]) -> list[Any]:
    """What `count` threads get that all wait at the lock before Entra has answered the first of them."""
    found: list[Any] = []
    door, answer = Door(), threading.Event()
    tokens._one_at_a_time = cast("threading.Lock", door)
    entra.while_asked = lambda: answer.wait(10)
    threads = [threading.Thread(target=lambda: found.append(what())) for _ in range(count)]
    for thread in threads:
        thread.start()
    for _ in threads:
        assert door.arriving.acquire(timeout=10)
    answer.set()
    for thread in threads:
        thread.join(10)
    return found


class Door:
    """A lock that tells who comes to it."""

    def __init__(self) -> None:
        self.lock, self.arriving = threading.Lock(), threading.Semaphore(0)
        self.release = self.lock.release

    def acquire(self, *args: Any, **kwargs: Any) -> bool:
        self.arriving.release()
        return self.lock.acquire(*args, **kwargs)


def test_waiting_for_another_threads_request_has_a_deadline() -> None:
    entra = Entra()
    tokens = tokens_from(entra, deadline_s=0.05)
    waited: list[Token | NoToken] = []
    entra.while_asked = lambda: in_a_thread(lambda: waited.append(tokens.get()))

    tokens.get()

    (outcome,) = waited
    assert isinstance(outcome, Deferred)
    assert (outcome.scope, outcome.free) == (Scope.APP, True)


def test_a_rejected_token_is_renewed_and_everybody_gets_the_new_one() -> None:
    entra = Entra()
    tokens = tokens_from(entra)
    rejected = tokens.get()
    assert isinstance(rejected, Token)

    assert value(tokens.renew(rejected)) == "token-2"
    assert value(tokens.renew(rejected)) == "token-2"
    assert value(tokens.get()) == "token-2"
    assert len(entra.asked) == 2


def test_a_token_that_permits_too_little_is_replaced_by_a_fresh_one_but_not_each_time() -> None:
    entra, clock = Entra(), Clock()
    tokens = tokens_from(entra, clock)

    for at, expected in ((0, "token-1"), (59, "token-1"), (61, "token-2"), (90, "token-2"), (122, "token-3")):
        clock.now = NOW.timestamp() + at
        token = tokens.get()
        assert value(token) == expected
        tokens.distrust(cast("Token", token))


def test_a_token_that_was_replaced_meanwhile_is_distrusted_in_vain() -> None:
    entra, clock = Entra(), Clock()
    tokens = tokens_from(entra, clock)
    first = cast("Token", tokens.get())
    tokens.renew(first)
    clock.now += 61

    tokens.distrust(first)

    assert value(tokens.get()) == "token-2"


def test_threads_whose_token_was_rejected_share_one_request() -> None:
    entra = Entra()
    tokens = tokens_from(entra)
    rejected = tokens.get()
    assert isinstance(rejected, Token)
    found = all_at_once(tokens, entra, 4, lambda: tokens.renew(rejected))
    assert {value(token) for token in found} == {"token-2"}
    assert len(entra.asked) == 2


def test_a_repaired_configuration_works_at_once() -> None:
    entra = Entra(refusal(400, "unauthorized_client", 700016), token_answer())
    tokens = tokens_from(entra)
    assert isinstance(tokens.get(), Held)
    assert value(tokens.get()) == "token-2"


def test_no_secret_shows_in_a_repr() -> None:
    entra = Entra()
    tokens = tokens_from(entra)
    shown = repr((IDENTITY, Certificate("a.pfx", password="s3cr3t"), tokens, tokens.get()))
    assert "s3cr3t" not in shown
    assert "token-1" not in shown


# --- refusals


@pytest.mark.parametrize(
    ("answer", "reason", "code"),
    [
        (refusal(401, "invalid_client", 7000215), "invalid_client_secret", "AADSTS7000215"),
        (refusal(400, "unauthorized_client", 700016), "app_not_found", "AADSTS700016"),
        (reply(400, b"no JSON"), "token_refused", None),
        (reply(400, {"error": "invalid_scope"}), "invalid_scope", "invalid_scope"),
        (reply(404, b""), "token_refused", None),
    ],
)
def test_a_configuration_fault_holds_the_app_by_name(answer: Response, reason: str, code: str | None) -> None:
    outcome = tokens_from(Entra(answer)).get()
    assert isinstance(outcome, Held)
    assert (outcome.reason, outcome.scope, outcome.answer.graph_code) == (reason, Scope.APP, code)
    assert outcome.answer.http_status == answer.status


def test_a_refusal_keeps_what_support_asks_for() -> None:
    outcome = tokens_from(Entra(refusal(401, "invalid_client", 7000215))).get()
    assert not isinstance(outcome, Token)
    assert outcome.answer.request_id == "t-1"
    assert outcome.answer.detail == "AADSTS7000215: It is not to be."


def test_an_unknown_tenant_is_named_though_msal_drops_the_answer() -> None:
    entra = Entra(discovery=refusal(400, "invalid_tenant", 90002))
    outcome = tokens_from(entra).get()
    assert isinstance(outcome, Held)
    assert (outcome.reason, outcome.answer.graph_code) == ("tenant_not_found", "AADSTS90002")


@pytest.mark.parametrize("status", [500, 502, 503, 504])
@pytest.mark.parametrize("where", ["discovery", "token"])
def test_entra_down_defers_and_costs_nothing(status: int, where: str) -> None:
    down = reply(status, b"<html>", Retry_After="17")
    entra = Entra(discovery=down) if where == "discovery" else Entra(down)
    outcome = tokens_from(entra).get()
    assert isinstance(outcome, Deferred)
    assert (outcome.reason, outcome.scope, outcome.free) == ("entra_unavailable", Scope.APP, True)
    assert (outcome.wait_s, outcome.answer.http_status) == (17.0, status)


@pytest.mark.parametrize("where", ["discovery", "token"])
def test_a_throttle_of_entra_waits_as_long_as_it_asked(where: str) -> None:
    throttled = reply(429, {"error": "temporarily_unavailable"}, Retry_After="Sun, 22 Nov 2026 12:00:30 GMT")
    entra = Entra(discovery=throttled) if where == "discovery" else Entra(throttled)
    outcome = tokens_from(entra).get()
    assert isinstance(outcome, Throttled)
    assert (outcome.wait_s, outcome.scope) == (30.0, Scope.APP)


@pytest.mark.parametrize("fault", [NotSent("entra.example: refused"), Lost("entra.example: timed out")])
def test_no_connection_to_entra_defers_and_costs_nothing(fault: Exception) -> None:
    outcome = tokens_from(Entra(fault)).get()
    assert isinstance(outcome, Deferred)
    assert (outcome.reason, outcome.free, outcome.answer.detail) == ("no_connection", True, str(fault))


@pytest.mark.parametrize(
    "nonsense",
    [
        b"<html>welcome</html>",
        b"[]",
        b"{}",
        b"null",
        b'{"access_token": 1, "expires_in": 2}',
        b'{"access_token": "x", "expires_in": "soon"}',
    ],
)
@pytest.mark.parametrize("where", ["discovery", "token"])
def test_a_portals_answer_is_no_token(nonsense: bytes, where: str) -> None:
    odd = reply(200, nonsense)
    outcome = tokens_from(Entra(discovery=odd) if where == "discovery" else Entra(odd)).get()
    assert isinstance(outcome, Deferred)
    assert (outcome.reason, outcome.free) == ("entra_unavailable", True)


def test_an_authority_without_tls_is_held_by_name() -> None:
    outcome = tokens_from(Entra(), identity=replace(IDENTITY, authority_url="http://entra.example")).get()
    assert isinstance(outcome, Held)
    assert (outcome.reason, outcome.scope) == ("invalid_app_settings", Scope.APP)


# --- certificates and other credentials

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
        (key_pem(), None, "wrong password, or no PFX or PEM file"),
        (certificate().public_bytes(PEM), None, "wrong password, or no PFX or PEM file"),
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


# --- over TLS


def test_the_whole_way_over_tls_and_within_its_deadline(serve: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    hang = threading.Event()

    def entra(peer: Peer) -> None:
        while request := peer.request():
            if b"openid-configuration" in request:
                own = json.dumps(DISCOVERY).replace(ROOT, peer.server.url)
                peer.send(json_answer(own.encode()))
            elif hang.is_set():
                peer.drip(b"HTTP/1.1 200 " + b"x" * 1000)
            else:
                peer.send(json_answer(b'{"access_token":"over-tls","expires_in":3599}'))

    server = serve(entra)
    identity = replace(IDENTITY, authority_url=server.url)
    token = Tokens(identity, CurlHttp(serve.ca)).get()
    assert value(token) == "over-tls"
    assert b"client_secret=s3cr3t" in server.requests[-1]

    hang.set()
    outcome = Tokens(identity, CurlHttp(serve.ca), deadline_s=0.4).get()
    assert isinstance(outcome, Deferred)
    assert (outcome.reason, outcome.free) == ("no_connection", True)
