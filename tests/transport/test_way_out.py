"""How far a connection comes, with real servers, proxies and certificates."""

import socket

import pytest

from postroom.transport.way_out import Step, read_connect_answer, way_to

from ..scripted_servers import Peer, Servers, answering
from .test_proxies import proxy


def refusing(answer: bytes) -> object:
    def script(peer: Peer) -> None:
        peer.request()
        peer.send(answer)

    return script


def test_a_connection_that_stands_names_who_issued_the_certificate(serve: Servers) -> None:
    server = serve(answering())
    way = way_to(server.url, serve.ca, 10)

    assert (way.step, way.host, way.port, way.proxy) == (Step.DONE, "127.0.0.1", server.port, None)
    assert way.issuer is not None
    assert "trustme" in way.issuer
    assert server.requests == []


def test_a_ca_that_is_not_trusted_is_named_all_the_same(serve: Servers) -> None:
    way = way_to(serve(answering()).url, None, 10)

    assert (way.step, "self" in way.fault or "issuer" in way.fault) == (Step.TLS, True)
    assert way.issuer is not None
    assert "trustme" in way.issuer


def test_a_certificate_of_another_name_is_told_apart(serve: Servers) -> None:
    way = way_to(serve(answering(), another_name=True).url, serve.ca, 10)
    assert (way.step, "127.0.0.1" in way.fault) == (Step.TLS, True)


def test_a_name_without_an_address_and_a_closed_port_are_told_apart() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    assert way_to("https://nobody.invalid", None, 10).step is Step.LOOK_UP
    assert way_to(f"https://127.0.0.1:{port}", None, 10).step is Step.CONNECT


def test_what_speaks_no_tls_has_no_issuer(serve: Servers) -> None:
    plain = serve(refusing(b"220 mail.example ESMTP\r\n"), encrypted=False)  # type: ignore[arg-type]
    way = way_to(plain.url.replace("http:", "https:"), serve.ca, 10)
    assert (way.step, way.issuer) == (Step.TLS, None)


def test_a_missing_ca_bundle_is_told_by_its_name() -> None:
    way = way_to("https://127.0.0.1:1", "/nowhere/ca.pem", 10)
    assert (way.step, "/nowhere/ca.pem" in way.fault) == (Step.TLS, True)


def test_a_proxy_is_gone_through_with_its_login(serve: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    server = serve(proxy, encrypted=False)
    monkeypatch.setenv("HTTPS_PROXY", server.url.replace("//", "//user:p%40ss@"))

    way = way_to("https://127.0.0.1:9", serve.ca, 10)

    assert (way.step, way.proxy) == (Step.DONE, f"127.0.0.1:{server.port}")
    assert b"CONNECT 127.0.0.1:9 HTTP/1.1\r\n" in server.requests[0]
    assert b"Proxy-Authorization: Basic dXNlcjpwQHNz\r\n" in server.requests[0]


@pytest.mark.parametrize(
    ("answer", "status", "wants"),
    [
        (b"HTTP/1.1 403 Forbidden\r\n\r\n", 403, ()),
        (b"HTTP/1.1 407 Login\r\nProxy-Authenticate: Negotiate\r\nproxy-authenticate: Basic realm=x\r\n\r\n", 407,
         ("Negotiate", "Basic")),
        (b"what?\r\n\r\n", None, ()),
        (b"", None, ()),
        (b"HTTP/1.1 200 OK", 200, ()),
    ],
)  # fmt: skip
def test_a_proxy_s_answer_is_read_whatever_it_is(answer: bytes, status: int | None, wants: tuple[str, ...]) -> None:
    assert read_connect_answer(answer) == (status, wants)


def test_a_proxy_that_refuses_is_named_with_its_status(serve: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    server = serve(refusing(b"HTTP/1.1 407 No\r\nProxy-Authenticate: NTLM\r\n\r\n"), encrypted=False)  # type: ignore[arg-type]
    monkeypatch.setenv("HTTPS_PROXY", server.url.replace("//", "//user:secret@"))

    way = way_to("https://graph.example", serve.ca, 10)

    assert (way.step, way.proxy_status, way.proxy_wants) == (Step.PROXY, 407, ("NTLM",))
    assert "secret" not in str(way)


def test_a_proxy_that_talks_without_end_is_given_up(serve: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    server = serve(refusing(b"x" * 100_000), encrypted=False)  # type: ignore[arg-type]
    monkeypatch.setenv("HTTPS_PROXY", server.url)
    assert way_to("https://graph.example", serve.ca, 10).step is Step.PROXY
