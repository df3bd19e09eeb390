"""Hostile clients: smuggled mail and commands, floods, slowness and guessed passwords; and a server that is stopped."""

import base64
import socket
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack

import pytest

from postroom.access.failures import Failures
from postroom.jobs.job import Receipt
from postroom.mail.model import Mail
from tests.acceptance.conftest import until

from .conftest import MESSAGE, PASSWORD, SHOP, Server

SECOND = (
    b"MAIL FROM:<boss@contoso.com>\r\nRCPT TO:<evil@contoso.com>\r\nDATA\r\nFrom: boss@contoso.com\r\n\r\nx\r\n.\r\n"
)


# https://sec-consult.com/blog/detail/smtp-smuggling-spoofing-e-mails-worldwide/
@pytest.mark.parametrize(
    "end", [b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r\n.\r", b"\r.\r\n", b"\n\n.\r\n", b"\r\n\x00.\r\n"]
)
def test_a_false_end_of_data_ends_nothing_and_the_mail_is_refused(server: Server, end: bytes) -> None:
    with server.client() as client:
        client.begin()
        client.write(MESSAGE + b"text" + end + SECOND)
        assert client.line().startswith(b"550 5.6.11 ")
        assert client.say(b"NOOP").startswith(b"250 ")
    assert server.kept.mails == []


@pytest.mark.parametrize("line", [b"NOOP\n", b"NOOP\rNOOP\r\n", b"RSET\nMAIL FROM:<boss@contoso.com>\r\n", b"\r\n"])
def test_a_command_ends_in_crlf_and_has_no_lone_cr_or_lf(server: Server, line: bytes) -> None:
    with server.client() as client:
        client.hello()
        client.write(line)
        assert client.line().startswith(b"500 5.5.2 bad syntax; a command is one line that ends in CRLF")


def test_header_injection_by_an_address_is_no_address(server: Server) -> None:
    with server.client() as client:
        client.hello()
        client.say(b"MAIL FROM:<noreply@contoso.com>")
        for address in (
            b"<a@contoso.com\x00>",
            b"<a@contoso.com\x0bBcc:>",
            b'<"a\tb"@contoso.com>',
        ):
            assert client.say(b"RCPT TO:" + address).startswith(b"5"), address


def test_a_browser_that_sends_http_is_disconnected(server: Server) -> None:
    with server.client() as client:
        client.write(b"POST / HTTP/1.1\r\nHost: localhost\r\n\r\n" + SECOND)
        assert client.line().startswith(b"421 4.7.0 ")
        assert client.gone()
    assert server.kept.mails == []


def test_a_message_that_is_too_large_is_read_to_its_end_and_refused(open_server: Callable[..., Server]) -> None:
    server = open_server(message=100_000)
    with server.client() as client:
        client.begin()
        client.write(MESSAGE + (b"x" * 70 + b"\r\n") * 3000 + b".\r\n")
        assert client.line().startswith(b"552 5.3.4 the message is larger than 100000 bytes; send smaller files")
        client.begin()
        assert client.say(MESSAGE + b".").startswith(b"250 ")
    assert len(server.kept.mails) == 1


def test_a_line_without_end_is_refused(server: Server) -> None:
    with server.client() as client:
        client.begin()
        client.write(b"x" * 300_000 + b"\r\n.\r\n")
        assert client.line().startswith(b"500 5.5.2 Line too long")
        assert client.say(b"NOOP " + b"x" * 300_000).startswith(b"500 5.5.2 Command line too long")


def test_recipients_and_commands_of_a_connection_are_limited(open_server: Callable[..., Server]) -> None:
    server = open_server(recipients=2, commands={"NOOP": 3, "*": 20})
    with server.client() as client:
        client.hello()
        client.say(b"MAIL FROM:<noreply@contoso.com>")
        answers = [client.say(f"RCPT TO:<{name}@contoso.com>".encode())[:9] for name in "abc"]
        assert answers == [b"250 2.1.5", b"250 2.1.5", b"452 4.5.3"]
        assert [client.say(b"NOOP")[:3] for _ in range(4)] == [b"250", b"250", b"250", b"421"]
        assert client.gone()


def test_connections_from_one_address_are_limited(open_server: Callable[..., Server]) -> None:
    server = open_server(of_one_address=1)
    with server.client() as first:
        with server.client(greeting=b"421 4.7.0 Too many connections") as second:
            assert second.gone()
        first.say(b"QUIT")
    until(lambda: not server.reception._guests, "the first to be gone")
    with server.client():
        pass


def test_a_client_that_sends_nothing_is_disconnected(open_server: Callable[..., Server]) -> None:
    server = open_server(SHOP, unknown_s=0.1)
    with server.client() as client:
        assert client.line().startswith(b"421 4.4.2 ")
        assert client.gone()


def test_a_message_that_drips_in_is_cut_off(open_server: Callable[..., Server]) -> None:
    server = open_server(idle_s=0.3)
    over = threading.Event()
    with server.client() as client:
        client.begin()

        def drip() -> None:
            while not over.wait(0.02):
                try:
                    client.write(b"x")
                except OSError:
                    return

        dripping = threading.Thread(target=drip)
        dripping.start()
        try:
            assert client.line().startswith(b"421 4.4.2 ") or client.gone()
        finally:
            over.set()
            dripping.join()
    assert server.kept.mails == []


def test_a_client_that_does_not_read_its_answers_is_disconnected(open_server: Callable[..., Server]) -> None:
    server = open_server(idle_s=0.5, commands={"*": 1_000_000})
    server.listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)  # so that it is full soon
    with socket.create_connection(("127.0.0.1", server.port)) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.settimeout(0.2)
        try:
            while True:
                sock.sendall(b"HELP\r\n" * 1000)
        except OSError:
            pass
        until(lambda: not server.reception._guests, "the one that does not read to be gone")


# Passwords


def credentials(name: str, password: str) -> bytes:
    return b"AUTH PLAIN " + base64.b64encode(f"\0{name}\0{password}".encode())


def test_a_wrong_password_is_answered_like_an_unknown_name_and_tries_are_limited(
    open_server: Callable[..., Server],
) -> None:
    server = open_server(SHOP, failures=Failures(first_s=0.01, longest_s=0.01))
    with server.client(secure=True) as client:
        client.hello()
        assert client.say(credentials("shop", "guess")) == client.say(credentials("nobody", "guess"))
        assert client.say(credentials("shop", "other")).startswith(b"421 4.7.0 ")
        assert client.gone()
    assert [event["event"] for event in server.events] == ["smtp.rejected"] * 3
    assert "shop" not in str(server.events)


def test_a_login_that_was_right_before_does_not_wait_for_wrong_guesses_from_its_address(
    open_server: Callable[..., Server],
) -> None:
    failures = Failures(free=1, first_s=3600, longest_s=3600)
    server = open_server(SHOP, failures=failures)
    for _ in range(2):
        with server.client(secure=True) as client:
            client.hello()
            assert client.say(credentials("shop", PASSWORD)).startswith(b"235 ")
        failures.note("127.0.0.1", time.monotonic())


# Others, and the end


def test_a_mail_that_takes_long_to_keep_holds_up_nobody_else(server: Server) -> None:
    release = threading.Event()

    def wait(mail: Mail, key: str | None) -> Receipt:
        if key == "slow":
            release.wait(20)
        return Receipt(id="job-1", known=False)

    server.kept.answer = wait
    with server.client() as slow, server.client() as quick:
        slow.begin()
        slow.write(b"X-Postroom-Key: slow\r\n" + MESSAGE + b".\r\n")
        quick.begin()
        assert quick.say(MESSAGE + b".").startswith(b"250 ")
        release.set()
        assert slow.line().startswith(b"250 ")


def test_one_address_cannot_take_all_places_for_messages(open_server: Callable[..., Server]) -> None:
    server = open_server(receiving=2)
    with server.client() as slow, server.client() as waiting, ExitStack() as stack:
        slow.begin()
        waiting.hello()
        waiting.write(b"MAIL FROM:<noreply@contoso.com>\r\nRCPT TO:<ann@contoso.com>\r\nDATA\r\n")
        assert [waiting.line()[:3] for _ in range(2)] == [b"250", b"250"]
        other = stack.enter_context(server.client(source="127.0.0.2"))
        other.begin()
        assert other.say(MESSAGE + b".").startswith(b"250 ")
        assert slow.say(MESSAGE + b".").startswith(b"250 ")
        assert waiting.line().startswith(b"354 ")


def test_a_message_that_waits_too_long_for_its_turn_is_to_be_sent_again(open_server: Callable[..., Server]) -> None:
    server = open_server(receiving=2, turn_s=0.1)
    with server.client() as slow, server.client() as waiting:
        slow.begin()
        waiting.hello()
        for command in (b"MAIL FROM:<noreply@contoso.com>", b"RCPT TO:<ann@contoso.com>"):
            assert waiting.say(command).startswith(b"250 ")
        assert waiting.say(b"DATA").startswith(b"451 4.3.2 ")
        assert slow.say(MESSAGE + b".").startswith(b"250 ")
        assert waiting.say(b"DATA").startswith(b"354 "), "the transaction stands"
        assert waiting.say(MESSAGE + b".").startswith(b"250 ")


def test_a_mail_that_takes_too_long_to_keep_is_to_be_sent_again(open_server: Callable[..., Server]) -> None:
    server = open_server(keep_s=0.1)
    release = threading.Event()

    def wait(mail: Mail, key: str | None) -> Receipt:
        release.wait(20)
        return Receipt(id="job-1", known=False)

    server.kept.answer = wait
    with server.client() as client:
        client.begin()
        assert client.say(MESSAGE + b".").startswith(b"451 4.3.0 ")
    release.set()


def test_a_server_that_is_stopped_finishes_what_is_under_way_and_begins_nothing_new(server: Server) -> None:
    with server.client() as busy, server.client() as idle, server.client() as late:
        busy.begin()
        stopped = server.run(server.reception.drain())
        for client in (idle, late):
            assert client.line().startswith(b"421 4.3.2 Postroom is being stopped")
            assert client.gone()
        assert busy.say(MESSAGE + b".").startswith(b"250 2.0.0 ")
        assert busy.line().startswith(b"421 4.3.2 ")
        stopped.result(20)
    assert server.kept.sources == [MESSAGE]


def test_a_transaction_that_does_not_end_holds_up_a_stop_for_a_bounded_time(open_server: Callable[..., Server]) -> None:
    server = open_server(drain_s=0.1)
    with server.client() as client:
        client.begin()
        server.run(server.reception.drain()).result(20)
        assert client.line().startswith(b"421 4.3.2 ")
        assert client.gone()
