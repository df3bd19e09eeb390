"""The proxy of the environment is used, unless the environment says otherwise."""

import contextlib
import socket
import threading

import pytest

from postroom.transport.http import Http, NotSent

from ..scripted_servers import OK, Peer, Servers, answering
from .transports import ENDLESS, post


def proxy(peer: Peer) -> None:
    """Lets through whatever is asked for, then answers itself in the other's place."""
    if not peer.request().startswith(b"CONNECT "):
        return
    peer.send(b"HTTP/1.1 200 Connected\r\n\r\n")
    peer.start_tls()
    answering(OK, OK)(peer)


def test_the_environments_proxy_is_used(serve: Servers, http: Http, monkeypatch: pytest.MonkeyPatch) -> None:
    way = serve(proxy, encrypted=False)
    monkeypatch.setenv("HTTPS_PROXY", way.url.replace("//", "//user:pass@"))

    for _ in range(2):
        assert post(http, "https://127.0.0.1:9/v1.0/x").status == 202

    assert [request.split(b" HTTP/1.")[0] for request in way.requests] == [
        b"CONNECT 127.0.0.1:9",
        b"POST /v1.0/x",
        b"POST /v1.0/x",
    ]
    assert b"Proxy-Authorization: Basic" in way.requests[0]


def test_a_proxy_that_itself_speaks_tls_is_used(serve: Servers, http: Http, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = serve(answering(OK))

    def forward(peer: Peer) -> None:
        peer.request()
        peer.send(b"HTTP/1.1 200 Connected\r\n\r\n")
        with socket.create_connection(("127.0.0.1", inner.port)) as onward:
            back = threading.Thread(target=pump, args=(onward, peer.sock))
            back.start()
            pump(peer.sock, onward)
            back.join(10)

    def pump(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    monkeypatch.setenv("HTTPS_PROXY", serve(forward).url)

    assert post(http, inner.url).status == 202


def test_no_proxy_goes_past_it(serve: Servers, http: Http, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert post(http, serve(answering(OK)).url).status == 202


def test_a_proxy_that_refuses_is_not_sent(serve: Servers, http: Http, monkeypatch: pytest.MonkeyPatch) -> None:
    refusing = serve(answering(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"), encrypted=False)
    monkeypatch.setenv("HTTPS_PROXY", refusing.url.replace("//", "//user:secret@"))
    with pytest.raises(NotSent) as refused:
        post(http, "https://graph.example/")
    assert str(refused.value) == (
        f"graph.example by the proxy 127.0.0.1:{refusing.port}: the proxy refused: 407 Proxy Authentication Required"
    )


def test_a_proxy_that_cannot_be_reached_is_named_and_not_the_server_s_host_blamed(
    http: Http, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://user:secret@127.0.0.1:1")
    with pytest.raises(NotSent) as refused:
        post(http, "https://graph.example/")
    assert str(refused.value) == (
        "graph.example by the proxy 127.0.0.1:1: the proxy cannot be reached: Connection refused"
    )


def test_a_fault_beyond_the_proxy_names_both(serve: Servers, http: Http, monkeypatch: pytest.MonkeyPatch) -> None:
    way = serve(proxy, encrypted=False)
    monkeypatch.setenv("HTTPS_PROXY", way.url)
    with pytest.raises(
        NotSent, match=rf"^graph\.example by the proxy 127\.0\.0\.1:{way.port}: .*certificate verify failed"
    ):
        post(http, "https://graph.example/")


def test_the_metadata_service_is_asked_without_a_proxy(http: Http, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def unknown(host: str, port: int, **_: object) -> None:
        asked.append((host, port))
        raise OSError("unknown")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("HTTPS_PROXY", "proxy.example")  # without its port and scheme
    for url in ("http://169.254.169.254/metadata", "http://graph.example/", "https://graph.example/"):
        with pytest.raises(NotSent):
            post(http, url)
    assert asked == [("169.254.169.254", 80), ("proxy.example", 3128), ("proxy.example", 80)]


@pytest.mark.parametrize(
    "proxy", ["socks5://user:secret@127.0.0.1:1", "http://", "nonsense://x", "http://user:secret@"]
)
def test_a_proxy_that_is_none_of_http_is_not_sent(http: Http, monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    with pytest.raises(NotSent, match="the proxy of the environment") as refused:
        post(http, "https://127.0.0.1:9/")
    assert "secret" not in str(refused.value)


def test_a_proxy_that_drips_is_not_sent_at_the_deadline(
    serve: Servers, http: Http, monkeypatch: pytest.MonkeyPatch
) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.drip(b"HTTP/1.1 200 " + ENDLESS)

    monkeypatch.setenv("HTTPS_PROXY", serve(script, encrypted=False).url)
    with pytest.raises(NotSent):
        post(http, "https://127.0.0.1:9/", deadline_s=0.4)
