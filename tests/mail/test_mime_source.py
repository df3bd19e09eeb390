"""The source of a message is read as far as needed, strictly, and comes out as it went in."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.mail import mime_source

MESSAGE = (
    b"From: Ann <ann@contoso.com>\r\n"
    b"To: bob@contoso.com,\r\n\tcem@contoso.com\r\n"
    b"subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n"
    b"\r\n"
    b"To: nobody\r\n.\r\n"
)


def test_fields_are_known_by_their_names_and_say_what_they_mean() -> None:
    found = mime_source.parse(MESSAGE)

    assert [field.name for field in found.fields] == ["from", "to", "subject"]
    assert found.text("subject") == "Grüße"
    assert found.people("to") == [("", "bob@contoso.com"), ("", "cem@contoso.com")]
    assert found.people("from") == [("Ann", "ann@contoso.com")]
    assert found.text("date") is None


@given(st.lists(st.sampled_from(["From", "To", "X-A", "x-a"]), max_size=5), st.binary(max_size=40))
def test_a_message_comes_out_byte_for_byte(names: list[str], body: bytes) -> None:
    source = b"".join(f"{name}:  a\r\n  b \r\n".encode() for name in names) + b"\r\n" + body
    assert bytes(mime_source.parse(source)) == source


def test_a_field_goes_with_all_its_lines_and_nothing_else_does() -> None:
    assert bytes(mime_source.parse(MESSAGE).without({"to"})) == MESSAGE.replace(
        b"To: bob@contoso.com,\r\n\tcem@contoso.com\r\n", b""
    )


@pytest.mark.parametrize(
    ("text", "people"),
    [
        ("", []),
        ("a@x.de", [("", "a@x.de")]),
        ("A B <a@x.de>, b@x.de", [("A B", "a@x.de"), ("", "b@x.de")]),
        ('"Lee, Ann" <a@x.de>', [("Lee, Ann", "a@x.de")]),
        ("a@x.de <a@x.de>", [("a@x.de", "a@x.de")]),
        ("a@x.de (a comment (in a comment), with b@x.de)", [("", "a@x.de")]),
        ("undisclosed-recipients:;", []),
        ("Team: a@x.de, B <b@x.de>; c@x.de", [("", "a@x.de"), ("B", "b@x.de"), ("", "c@x.de")]),
        ("=?utf-8?q?B=C3=B6b?= <b@x.de>", [("Böb", "b@x.de")]),
        (" , a@x.de, ", [("", "a@x.de")]),
        ("root", [("", "root")]),
        ("root (Cron Daemon)", [("", "root")]),
        ("[A] 2nd floor <a@x.de>", [("[A] 2nd floor", "a@x.de")]),
        ("A: 2nd floor <a@x.de>", [("A: 2nd floor", "a@x.de")]),
        ("Gr\u00fc\u00dfe <a@x.de>", [("Gr\u00fc\u00dfe", "a@x.de")]),
        # What could be read in two ways.
        ("a@x.de <b@x.de> c@x.de", None),
        ("<a@x.de> <b@x.de>", None),
        ('"unclosed <a@x.de>', None),
        ("<a@x.de", None),
        ("a@x.de>", None),
        ("a@x.de: b@x.de", None),
    ],
)
def test_an_address_list_is_read_as_its_addresses_or_not_at_all(
    text: str, people: list[tuple[str, str]] | None
) -> None:
    assert mime_source.parse(f"To: {text}\r\n\r\n".encode()).people("to") == people


def test_an_address_list_that_was_made_to_take_long_is_not_read() -> None:
    for hostile in (
        '"' + '\\"' * 100_000,
        "(" * 100_000,
        "(\\" * 100_000,
        "<" * 100_000,
        "a:" * 100_000,
        "a:" * 99_999 + ";",
    ):
        began = time.process_time()
        (field,) = mime_source.parse(f"To: {hostile}\r\n\r\n".encode()).fields
        assert (field.people, field.is_list, field.names_one) is not None
        assert time.process_time() - began < 5  # seconds; a quadratic reading takes minutes


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        (b"To: a@x.de\n\r\n\r\nhi\r\n", "line 1 has a LF without CR"),
        (b"To: a@x.de\r\n\r\nhi\n.\n", "line 3 has a LF without CR"),
        (b"To: a@x.de\r\n\r\nhi\rthere\r\n", "line 3 has a CR without LF"),
        (b"To: a@x.de\r\n\r\nhi\r", "line 3 has a CR without LF"),
        (b"To: a@x.de\r\n\r\nh\x00i\r\n", "it contains NUL"),
        (b"Hello\r\nTo: a@x.de\r\n\r\nhi\r\n", "line 1 of its header is no header field"),
        (b" To: a@x.de\r\n\r\nhi\r\n", "line 1 of its header is no header field"),
        (b"To: a@x.de\r\nno field\r\n", "line 2 of its header is no header field"),
        (b"T\xc3\xb6: a@x.de\r\n\r\n", "line 1 of its header is no header field"),
        (b"A: " + b"x" * mime_source.LONGEST_HEADER + b"\r\n\r\n", "larger than 256 kB"),
    ],
)
def test_a_message_that_cannot_be_sent_is_reported_with_its_line(source: bytes, fault: str) -> None:
    assert any(fault in found for found in mime_source.faults(source)), list(mime_source.faults(source))


@pytest.mark.parametrize(
    "source", [MESSAGE, b"\r\nonly a body\r\n", b"Subject: only a header\r\n", b"A : b\r\n\r\n", b""]
)
def test_what_can_be_passed_on_has_no_faults(source: bytes) -> None:
    assert list(mime_source.faults(source)) == []
    assert bytes(mime_source.parse(source)) == source
