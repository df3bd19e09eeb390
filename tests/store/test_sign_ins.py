"""A sign-in is replaced only where it is still the one that was read."""

import pytest
import redis

from postroom.store.connection import connect
from postroom.store.sign_ins import SIGN_INS, SignInText


@pytest.fixture
def text(server: str, connection: "redis.Redis[bytes]") -> SignInText:
    assert connection.ping()
    return SignInText(connect(server, timeout_s=5.0, name="test"), "default")


def test_the_one_that_was_read_is_replaced_and_another_one_stays(text: SignInText) -> None:
    text.save("first")
    text.replace("first", "second")
    text.replace("first", "late")
    assert text.load() == "second"


def test_one_that_was_forgotten_stays_so(text: SignInText) -> None:
    text.save("first")
    assert text.forget()
    text.replace("first", "late")
    assert text.load() is None


def test_what_is_no_text_there_is_no_sign_in_and_no_fault(text: SignInText, connection: "redis.Redis[bytes]") -> None:
    connection.hset(SIGN_INS, "default", b"\xff\xfe")
    assert text.load() == "\ufffd\ufffd"
