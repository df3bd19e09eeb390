"""Who may send by SMTP: passwords, networks, and how long wrong guesses have to wait."""

from ipaddress import ip_network

import pytest

from postroom.access.failures import Failures
from postroom.access.smtp_logins import Login, Logins, hashed, is_hash, matches

HASH = hashed("sésame")


def test_a_password_is_right_or_wrong_and_its_hash_is_another_each_time() -> None:
    assert matches("sésame", HASH)
    assert not matches("sesame", HASH)
    assert hashed("sésame") != HASH
    assert is_hash(HASH)


def test_a_text_that_is_no_hash_or_would_take_too_much_memory_is_refused() -> None:
    others = [HASH.replace("16384", "1073741824"), HASH.replace("16384", "16383"), HASH[:-9]]
    for text in ["", "sesame", "scrypt$1$1$1$a$b", *others]:
        assert not is_hash(text)


def test_a_name_and_its_password_are_a_login_and_are_known_from_then_on() -> None:
    logins = Logins([Login(name="shop", senders=("*",), password_hash=HASH), Login(name="net", senders=("*",))])

    assert logins.known("shop", "sésame") is None
    assert logins.check("shop", "wrong") is None
    assert logins.check("nobody", "sésame") is None
    assert logins.check("net", "") is None
    login = logins.check("shop", "sésame")
    assert login
    assert logins.known("shop", "sésame") == login
    assert logins.known("shop", "wrong") is None
    assert logins.known("nobody", "sésame") is None


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("10.1.2.3", "printers"),
        ("10.9.9.9", "office"),
        ("::ffff:10.1.2.3", "printers"),
        ("fd00::1", "six"),
        ("fe80::1%eth0", None),
        ("192.0.2.1", None),
        ("", None),
    ],
)
def test_the_login_with_the_narrowest_network_counts(host: str, name: str | None) -> None:
    logins = Logins(
        Login(name=name, senders=("*",), networks=(ip_network(network),))
        for name, network in (("office", "10.0.0.0/8"), ("printers", "10.1.2.0/24"), ("six", "fd00::/8"))
    )
    found = logins.of_network(host)
    assert (found.name if found else None) == name


def test_each_wrong_password_makes_the_next_take_longer_up_to_a_bound_and_is_forgotten() -> None:
    failures = Failures(free=2, first_s=1, longest_s=5, window_s=600)
    waits = []
    for _ in range(6):
        waits.append(failures.wait("192.0.2.1", 100))
        failures.note("192.0.2.1", 100)

    assert waits == [0, 0, 1, 2, 4, 5]
    assert failures.wait("192.0.2.2", 100) == 0
    assert failures.wait("192.0.2.1", 701) == 0


def test_one_site_of_ipv6_counts_as_one_attacker() -> None:
    failures = Failures(free=1)
    failures.note("2001:db8::1", 0)
    assert failures.wait("2001:db8::2", 0) > 0
    assert failures.wait("2001:db8:0:1::1", 0) == 0
