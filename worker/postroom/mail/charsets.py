"""Text of bytes whose charset may be missing, wrong or unknown; and text with encoded words (RFC 2047)."""

import binascii
import codecs
import re

# Names that mail programs write and Python does not know.
_OTHER_NAMES = {
    "iso-8859-6-i": "iso-8859-6", "iso-8859-8-i": "iso-8859-8", "iso-8859-8-e": "iso-8859-8", "windows-874": "cp874",
    "x-sjis": "cp932", "x-gbk": "gbk", "ks_c_5601-1987": "cp949", "unicode-1-1-utf-7": "utf-7",
}  # fmt: skip
# Codecs of Python's that no mail is written in. Some of them take long for long text.
_NO_CHARSETS = {"idna", "punycode", "unicode_escape", "raw-unicode-escape", "unicode-escape", "undefined"}
# Each starts after the end of the one before, so a text is read once.
_WORD = re.compile(r"=\?([^?\s]{1,60})\?([BbQq])\?([^?]*)\?=")


def text_of(data: bytes, charset: str) -> str:
    """The text in these bytes of a body: as `charset` says, else UTF-8, else Windows' Latin letters."""
    return _decoded(data, _codec(charset), "utf-8", "cp1252")


def text_of_field(data: bytes, charset: str) -> str:
    """The same for a header field, where bytes that are not ASCII are UTF-8 (RFC 6532) first of all."""
    return _decoded(data, "utf-8", _codec(charset), "cp1252")


def decoded(value: str) -> str:
    """A value with its encoded words decoded, once. Those that cannot be decoded stay as they are."""
    if "=?" not in value:
        return value
    text: list[str] = []
    at, charset, data = 0, "", bytearray()
    for word in _WORD.finditer(value):
        if (meant := _bytes_of(word[2], word[3])) is None:
            continue
        named = word[1].partition("*")[0].lower()  # after the asterisk stands a language (RFC 2231)
        between = value[at : word.start()]
        follows = at > 0 and not between.strip()  # blanks between two encoded words are none of the text
        if not follows or named != charset:  # a letter may be divided among words of one charset
            text += [text_of(bytes(data), charset), "" if follows else between]
            charset, data = named, bytearray()
        data += meant
        at = word.end()
    return "".join([*text, text_of(bytes(data), charset), value[at:]])


def _bytes_of(encoding: str, text: str) -> bytes | None:
    try:
        if encoding in "Qq":
            return binascii.a2b_qp(text.encode(), header=True)
        return binascii.a2b_base64(text + "=" * (-len(text) % 4))
    except ValueError:
        return None


def _codec(charset: str) -> str:
    name = charset.strip().lower()
    try:
        found = codecs.lookup(_OTHER_NAMES.get(name, name)).name
    except (LookupError, ValueError):
        return ""
    return "" if found in _NO_CHARSETS else found


def _decoded(data: bytes, *codecs_in_turn: str) -> str:
    for codec in codecs_in_turn:
        try:
            return data.decode(codec)
        except (LookupError, ValueError):  # LookupError: none, or one that makes no text, such as base64
            pass
    return data.decode("cp1252", "replace")
