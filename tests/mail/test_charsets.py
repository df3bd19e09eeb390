"""Text is read whatever its charset is called, in time that grows with its length alone."""

import time

import pytest

from postroom.mail.charsets import decoded, text_of, text_of_field


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("plain", "plain"),
        ("=?utf-8?q?Gr=C3=BC=C3=9Fe_an?= alle", "Grüße an alle"),
        ("=?utf-8?q?=C3?= =?utf-8?q?=BC?=", "ü"),
        ("=?utf-8?q?a?=  \t =?iso-8859-1?q?=FC?=", "aü"),
        ("a =?utf-8?b?w7w=?= b =?utf-8?b?w7w?= c", "a ü b ü c"),
        ("=?utf-8*de?q?=C3=BC?=", "ü"),
        ("=?iso-8859-8-i?b?+ezl7Q==?=", "שלום"),
        ("=?windows-874?q?=CA=C7?=", "สว"),
        ("=?iso-2022-jp?b?GyRCRnxLXBsoQg==?=", "日本"),
        ("=?nope?q?abc?=", "abc"),
        ("=?us-ascii?q?=FC?=", "ü"),
        ("=?punycode?q?abc-?=", "abc-"),
        ("=?utf-8?q?=3D=3Futf-8=3Fq=3Fx=3F=3D?=", "=?utf-8?q?x?="),
        ("=?utf-8?x?abc?=", "=?utf-8?x?abc?="),
        ("=?utf-8?b?a?=", "=?utf-8?b?a?="),
        ("=?utf-8?q?unclosed", "=?utf-8?q?unclosed"),
    ],
)
def test_encoded_words_are_decoded_once(value: str, text: str) -> None:
    assert decoded(value) == text


@pytest.mark.parametrize(
    ("data", "charset", "of_body", "of_field"),
    [
        ("ü".encode(), "", "ü", "ü"),
        (b"\xfc", "", "ü", "ü"),
        ("ü".encode(), "iso-8859-1", "Ã¼", "ü"),
        (b"\xe5", "windows-1253", "ε", "ε"),
        (b"\x81", "us-ascii", "\ufffd", "\ufffd"),
        (b"a", "hex", "a", "a"),
    ],
)
def test_bytes_are_read_as_they_say_else_as_utf_8_else_as_latin_letters(
    data: bytes, charset: str, of_body: str, of_field: str
) -> None:
    assert (text_of(data, charset), text_of_field(data, charset)) == (of_body, of_field)


def test_what_was_made_to_take_long_does_not() -> None:
    for hostile in (
        "=?utf-8?q?a?= " * 20_000,
        "=?a?q?" * 40_000,
        "=?" * 120_000,
        "=?a?b?" + "a" * 240_000,
        "=?a" * 80_000,
    ):
        began = time.process_time()
        decoded(hostile)
        assert time.process_time() - began < 5  # seconds; a quadratic reading takes minutes
