"""A token is ready before it is needed, and all threads share one request for it."""

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import pytest

from postroom.graph.credentials import Certificate
from postroom.graph.tokens import NoToken, Token, Tokens
from postroom.jobs.outcome import Deferred, Held, Scope
from postroom.transport.curl_http import CurlHttp
from postroom.transport.http import Lost, NotSent, Response

from ..scripted_servers import Peer, Servers, all_servers, json_answer, serve
from .entra import DISCOVERY, IDENTITY, NOW, ROOT, Clock, Entra, refusal, reply, token_answer, tokens_from, value

__all__ = ["all_servers", "serve"]


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


def test_distrust_of_a_token_that_was_replaced_meanwhile_changes_nothing() -> None:
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


def test_a_token_comes_over_tls_within_the_deadline(serve: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
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
