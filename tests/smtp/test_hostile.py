"""Hostile clients: smuggled mail and commands, floods, slowness and guessed passwords; and a server that is stopped."""

import base64
import socket
import threading
import time
import tracemalloc
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from postroom.access.failures import Failures
from postroom.access.smtp_logins import Login
from postroom.jobs.job import Receipt
from postroom.mail.model import Mail
from postroom.smtp.reception import FULL
from postroom.smtp.submission import Reply
from tests.acceptance.conftest import until

from .conftest import MESSAGE, PASSWORD, PATIENCE_S, SHOP, Peer, Server

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


def test_a_command_without_end_is_refused(server: Server) -> None:
    with server.client() as client:
        client.hello()
        assert client.say(b"NOOP " + b"x" * 300_000).startswith(b"500 5.5.2 Command line too long")


@pytest.mark.parametrize(
    "body",
    [
        b"\r\n" * 4_000_000,
        b"--b\r\n\r\n" * 800_000,
        b"--b\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n" * 100_000,
        b"--b\r\n\r\n" + (b"x" * 76 + b"\r\n") * 100_000,
        b"--b\r\nContent-Disposition: attachment\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        + (b"eHh4" * 19 + b"\r\n") * 100_000,
        b"--b\r\nContent-Disposition: attachment\r\n\r\n" + b"." * 8_000_000,
    ],
    ids=["empty lines", "parts", "depth", "text", "a file", "one line"],
)
def test_a_message_takes_at_most_six_times_its_size_of_memory(server: Server, body: bytes) -> None:
    message = b"From: noreply@contoso.com\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n" + body + b"\r\n"
    with server.client() as client:
        client.begin()
        tracemalloc.start()
        try:
            for at in range(0, len(message), 1_000_000):
                client.write(message[at : at + 1_000_000])
            assert client.say(b".")[:3] in {b"250", b"552", b"550"}
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak < 6 * len(message)


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


LARGE = MESSAGE + (b"x" * 76 + b"\r\n") * 2000


def under_way(client: Peer, server: Server, others: int = 0) -> None:
    """Begins a large message, which has its turn once this returns."""
    client.begin()
    client.write(LARGE)
    free = server.reception.limits.receiving - others - 1
    until(lambda: server.reception._receiving._value == free, "the message to have its turn")


def test_a_message_that_does_not_come_takes_nobody_s_turn(open_server: Callable[..., Server]) -> None:
    server = open_server(receiving=1)
    with ExitStack() as stack:
        for _ in range(5):
            stack.enter_context(server.client()).begin()
        client = stack.enter_context(server.client())
        client.begin()
        assert client.say(LARGE + b".").startswith(b"250 ")


def test_one_address_cannot_take_all_places_for_messages(open_server: Callable[..., Server]) -> None:
    server = open_server(receiving=4)
    with ExitStack() as stack:
        slow, slower, waiting = (stack.enter_context(server.client()) for _ in range(3))
        other = stack.enter_context(server.client(source="127.0.0.2"))
        under_way(slow, server)
        under_way(slower, server, 1)
        waiting.begin()
        waiting.write(LARGE + b".\r\n")
        other.begin()
        assert other.say(LARGE + b".").startswith(b"250 ")
        assert slow.say(b".").startswith(b"250 ")
        assert waiting.line().startswith(b"250 ")


def test_a_message_that_waits_too_long_for_its_turn_is_to_be_sent_again(open_server: Callable[..., Server]) -> None:
    server = open_server(receiving=2, turn_s=0.1)
    with server.client() as slow, server.client() as waiting:
        under_way(slow, server)
        waiting.begin()
        assert waiting.say(LARGE + b".").startswith(b"451 4.3.2 ")
        waiting.begin()
        assert waiting.say(MESSAGE + b".").startswith(b"250 "), "a small one needs no turn"
        assert slow.say(b".").startswith(b"250 ")
        waiting.begin()
        assert waiting.say(LARGE + b".").startswith(b"250 ")


def test_clients_without_a_password_leave_a_place_to_those_with_one(open_server: Callable[..., Server]) -> None:
    server = open_server(receiving=4, turn_s=0.1)
    with ExitStack() as stack:
        for number, source in enumerate(("127.0.0.2", "127.0.0.2", "127.0.0.3")):
            under_way(stack.enter_context(server.client(source=source)), server, number)
        guest = stack.enter_context(server.client(source="127.0.0.4"))
        guest.begin()
        assert guest.say(LARGE + b".").startswith(b"451 4.3.2 ")
        shop = stack.enter_context(server.client(secure=True))
        shop.hello()
        assert shop.say(credentials("shop", PASSWORD)).startswith(b"235 ")
        shop.begin(b"<shop@contoso.com>")
        assert shop.say(LARGE.replace(b"noreply@", b"shop@") + b".").startswith(b"250 ")


def test_a_message_that_comes_too_slowly_is_cut_off(open_server: Callable[..., Server]) -> None:
    server = open_server(pace_s=0.2)
    with server.client() as client:
        client.begin()
        client.write(MESSAGE)
        assert client.line().startswith(b"421 4.4.2 ")
        assert client.gone()
    assert server.kept.mails == []


def test_where_all_places_are_taken_the_client_goes_that_has_not_logged_in_for_longest(
    open_server: Callable[..., Server],
) -> None:
    server = open_server(SHOP, connections=2)
    with server.client(secure=True) as shop, server.client() as stranger:
        shop.hello()
        assert shop.say(credentials("shop", PASSWORD)).startswith(b"235 ")
        with server.client() as newest:
            assert stranger.line().startswith(b"421 4.7.0 ")
            assert newest.hello()
            assert shop.say(b"NOOP").startswith(b"250 ")


def test_connections_that_never_shake_hands_are_counted(open_server: Callable[..., Server]) -> None:
    server = open_server(of_one_address=2)
    with ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(socket.create_connection(("127.0.0.1", server.tls_port)))
        until(lambda: len(server.reception._guests) == 2, "both to be counted")
        third = stack.enter_context(socket.create_connection(("127.0.0.1", server.tls_port), PATIENCE_S))
        assert not third.recv(1)
    until(lambda: not server.reception._guests, "both to be gone")


@dataclass(eq=False)
class Somebody:
    host: str
    login: Login | None = None
    in_transaction = False

    def dismiss(self, reply: Reply) -> None: ...


def test_a_network_of_ipv6_counts_as_one_address(server: Server) -> None:
    reception = server.reception
    most = reception.limits.of_one_address
    guests = [Somebody(f"2001:db8::{number:x}") for number in range(most + 1)]
    assert [reply for guest in guests if (reply := reception.admit(guest))] == [FULL]
    guests.append(Somebody("2001:db8:0:1::1"))
    assert reception.admit(guests[-1]) is None
    for guest in guests:
        reception.leave(guest)


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


def test_a_message_that_stops_in_its_turn_gives_it_up(open_server: Callable[..., Server]) -> None:
    server = open_server(receiving=1, pace_s=0.3, turn_s=20.0)
    with server.client() as slow, server.client(source="127.0.0.2") as other:
        under_way(slow, server)
        other.begin()
        assert other.say(LARGE + b".").startswith(b"250 ")
        assert slow.line().startswith(b"421 4.4.2 ")
