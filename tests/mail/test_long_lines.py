"""A message with lines of more than 64 kB leaves with shorter ones, and says the same."""

import base64
from email import message_from_bytes, policy

import pytest

from postroom.mail.mime_tree import LONGEST_LINE, Unreadable, with_short_lines

LONG = b"x" * (LONGEST_LINE + 1)
WORDS = b"a word " * (LONGEST_LINE // 7) + b"the end"
HEAD = b"From: shop@contoso.com\r\nTo: ann@contoso.com\r\n"


def longest(source: bytes) -> int:
    return max(map(len, source.split(b"\r\n")))


@pytest.mark.parametrize("field", [b"X-Words: ", b"X-Folded: first\r\n\tsecond\r\n ", b"References: <1@a>\r\n "])
def test_a_long_header_field_is_folded_and_keeps_its_value(field: bytes) -> None:
    source = HEAD + field + WORDS + b"\r\nSubject: Hello\r\n\r\n" + b"y" * 2000 + b"\r\n"

    found = with_short_lines(source)

    assert longest(found) == 2000  # lines of up to 64 kB stay as they are
    assert longest(found.partition(b"\r\n\r\n")[0]) <= 998
    assert found.replace(b"\r\n", b"") == source.replace(b"\r\n", b"")
    assert message_from_bytes(found, policy=policy.SMTP)["Subject"] == "Hello"


def test_a_long_header_field_of_a_signed_message_is_folded_and_what_is_signed_stays() -> None:
    signed = b'Content-Type: multipart/signed; boundary="a"\r\n\r\n--a\r\n\r\nHello\r\n--a\r\n\r\nproof\r\n--a--\r\n'

    found = with_short_lines(HEAD + b"X-Words: " + WORDS + b"\r\n" + signed)

    assert longest(found) <= 998
    assert found.endswith(signed)


@pytest.mark.parametrize(
    ("source", "why"),
    [
        (HEAD + b"X-Blob: " + LONG + b"\r\n\r\nHello\r\n", "header field X-Blob has 64 kB without a blank: shorten it"),
        (
            HEAD + b"Content-Type: multipart/signed; boundary=a\r\n\r\n--a\r\n\r\n" + LONG + b"\r\n--a--\r\n",
            "a line of what is signed or encrypted is longer than 64 kB.*before it signs",
        ),
        (
            HEAD + b"Content-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\nno field " + LONG + b"\r\n\r\n--a--\r\n",
            "header of a part is no header field",
        ),
    ],
)
def test_what_cannot_be_wrapped_is_refused_with_the_reason_and_what_to_do(source: bytes, why: str) -> None:
    with pytest.raises(Unreadable, match=why):
        with_short_lines(source)


def test_a_long_line_of_a_part_is_in_base64_and_the_parts_beside_it_stay() -> None:
    parts = (
        b"--a\r\nContent-Type: text/plain\r\n\r\n" + LONG + b"\r\n--a\r\nContent-Type: text/css\r\n\r\nb{}\r\n--a--\r\n"
    )

    found = with_short_lines(HEAD + b"Content-Type: multipart/mixed; boundary=a\r\n\r\n" + parts)

    assert longest(found) <= 998
    first, second = message_from_bytes(found, policy=policy.SMTP).iter_parts()  # type: ignore[attr-defined]
    assert (first.get_payload(decode=True), second.get_content()) == (LONG, "b{}")


def test_a_message_within_that_is_one_long_line_of_base64_can_be_read_after_it_was_wrapped() -> None:
    within = b"From: bob@contoso.com\r\nSubject: Hello\r\n\r\n" + b"a line\r\n" * 10_000
    parts = b"--a\r\nContent-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    source = HEAD + b"Content-Type: multipart/mixed; boundary=a\r\n\r\n" + parts + base64.b64encode(within)

    found = with_short_lines(source + b"\r\n--a--\r\n")

    (part,) = message_from_bytes(found, policy=policy.SMTP).iter_parts()  # type: ignore[attr-defined]
    assert "content-transfer-encoding" not in part
    assert part.get_content().as_bytes() == within
