"""Messages as programs of many kinds write them, each with what a reader must find in what leaves of it."""

import base64
import binascii
import quopri
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

TO = "To: Ann <ann@contoso.com>\r\n"
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


@dataclass(frozen=True, kw_only=True)
class Letter:
    """A message. `text` and `html` are what each body shows, None if there is none; `files` have name and content.

    `large` are the fields that differ where the message is so large that it is taken apart; `refused` is why it is not.
    """

    name: str
    source: bytes
    subject: str = "Hello"
    author: str = "Shop <shop@contoso.com>"
    text: str | None = "Hello"
    html: str | None = None
    files: tuple[tuple[str, bytes], ...] = ()
    large: dict[str, Any] = field(default_factory=dict)
    refused: str = ""

    def as_large(self) -> "Letter":
        return replace(self, large={}, **self.large)


def a_head(*lines: str, subject: str = "Subject: Hello", author: str = "From: Shop <shop@contoso.com>") -> bytes:
    fields = [author, subject, "Message-ID: <1@contoso.com>", "Date: Wed, 25 Nov 2026 04:00:00 +0000", *lines]
    return (TO + "".join(f"{one}\r\n" for one in fields if one)).encode("utf-8", "surrogateescape")


def single(kind: str, body: bytes, *lines: str) -> bytes:
    return a_head("MIME-Version: 1.0", *([f"Content-Type: {kind}"] if kind else []), *lines) + b"\r\n" + body


def part(kind: str, body: str | bytes, *lines: str) -> bytes:
    head = "".join(f"{one}\r\n" for one in ([f"Content-Type: {kind}"] if kind else []) + list(lines))
    return head.encode() + b"\r\n" + (body if isinstance(body, bytes) else body.encode())


def multi(kind: str, *parts: bytes, mark: str = "", end: str = "--") -> bytes:
    mark = mark or f"={kind.partition(';')[0]}.{len(parts)}_{sum(map(len, parts))}"
    inner = b"".join(f"--{mark}\r\n".encode() + one + b"\r\n" for one in parts)
    return f'Content-Type: multipart/{kind}; boundary="{mark}"\r\n\r\n'.encode() + inner + f"--{mark}{end}\r\n".encode()


def whole(body: bytes, *lines: str) -> bytes:
    return a_head("MIME-Version: 1.0", *lines) + body


def letters() -> Iterator[Letter]:
    yield from of_charsets()
    yield from of_encodings()
    yield from of_fields()
    yield from of_structures()
    yield from of_reports()
    yield from of_files()
    yield from of_oddities()


def of_charsets() -> Iterator[Letter]:
    texts = {
        "utf-8": "Grüße 😀", "iso-8859-1": "Grüße", "ISO-8859-15": "5 €", "windows-1252": "“5 €”",
        "windows-1251": "Привет", "koi8-r": "Привет", "iso-2022-jp": "日本語", "shift_jis": "日本語",
        "euc-kr": "한국어", "gb18030": "中文", "big5": "中文", "windows-1256": "سلام",
        "iso-8859-8": "שלום", "iso-8859-9": "İstanbul", "utf-7": "Grüße", "macintosh": "Grüße",
    }  # fmt: skip
    for charset, text in texts.items():
        yield Letter(name=charset, source=single(f"text/plain; charset={charset}", text.encode(charset)), text=text)
    other = {
        "iso-8859-8-i": ("שלום", "iso-8859-8"), "windows-874": ("สวัสดี", "cp874"), "us-ascii": ("Grüße", "utf-8"),
        "US-ASCII": ("Grüße", "cp1252"), "x-unknown": ("plain", "ascii"), "unknown-8bit": ("Grüße", "utf-8"),
        '"utf8"': ("Grüße", "utf-8"), "ansi_x3.110-1983": ("Grüße", "cp1252"), "": ("Grüße", "cp1252"),
    }  # fmt: skip
    for charset, (text, codec) in other.items():
        yield Letter(
            name=f"{charset} is {codec}", source=single(f"text/plain; charset={charset}", text.encode(codec)), text=text
        )
    yield Letter(name="no charset", source=single("text/plain", "Grüße".encode()), text="Grüße")
    yield Letter(name="no type", source=single("", "Grüße".encode()), text="Grüße")
    utf_16 = base64.encodebytes("Grüße".encode("utf-16")).replace(b"\n", b"\r\n")
    yield Letter(
        name="utf-16",
        source=single("text/plain; charset=utf-16", utf_16, "Content-Transfer-Encoding: base64"),
        text="Grüße",
    )


def of_encodings() -> Iterator[Letter]:
    text = "Grüße = 5\r\n" + "lang " * 40 + "\r\n.\r\n..\r\nFrom me\r\n"
    data, kind = text.encode(), "text/plain; charset=utf-8"
    lines = base64.encodebytes(data).replace(b"\n", b"\r\n")
    forms = {
        "8bit": data,
        "BINARY": data,
        "base64": lines,
        "Base64 ": lines,
        "quoted-printable": quopri.encodestring(data.replace(b"\r\n", b"\n")).replace(b"\n", b"\r\n"),
    }
    for form, body in forms.items():
        yield Letter(name=f"in {form}", source=single(kind, body, f"Content-Transfer-Encoding: {form}"), text=text)
    in_base64 = "Content-Transfer-Encoding: base64"
    unpadded = base64.b64encode(b"Hello!!").rstrip(b"=")
    yield Letter(name="unpadded base64", source=single(kind, unpadded, in_base64), text="Hello!!")
    long = "x" * 70_000
    yield Letter(name="a line of base64", source=single(kind, base64.b64encode(long.encode()), in_base64), text=long)
    yield Letter(name="a long line", source=single(kind, long.encode()), text=long)
    page = f"<p>{'ä' * 40_000}</p>"
    yield Letter(name="a long page", source=single("text/html; charset=utf-8", page.encode()), text=None, html=page)
    yield Letter(name="an unknown encoding", source=single(kind, b"Hello", "Content-Transfer-Encoding: x-own"))
    yield Letter(name="base64 with blanks", source=single(kind, b"SGVs\r\n bG8=\r\n\r\n", in_base64))


def of_fields() -> Iterator[Letter]:
    def letter(name: str, *lines: str, **more: str) -> Letter:
        head = {key: more.pop(key) for key in ("subject_line", "from_line") if key in more}
        given = {
            "subject": head.get("subject_line", "Subject: Hello"),
            "author": head.get("from_line", "From: Shop <shop@contoso.com>"),
        }
        return Letter(name=name, source=a_head(*lines, **given) + b"\r\nHello", **more)  # type: ignore[arg-type]

    def subject(name: str, line: str, shown: str) -> Letter:
        return letter(name, subject_line=line, subject=shown)

    def author(name: str, line: str, shown: str) -> Letter:
        return letter(name, from_line=line, author=shown)

    shop = "shop@contoso.com"
    yield subject("folded by TAB", "Subject: a\r\n\tb\r\n\tc", "a b c")
    yield subject("no blank after the colon", "Subject:Hello", "Hello")
    yield subject("blanks before the colon", "Subject : Hello", "Hello")
    yield subject("no subject", "", "")
    yield subject("an empty subject", "Subject:", "")
    yield subject("a raw subject", "Subject: Grüße", "Grüße")
    yield subject("a raw Latin subject", "Subject: Gr\udcfc\udcdfe", "Grüße")
    yield subject("a divided letter", "Subject: =?utf-8?q?Gr=C3?=\r\n =?utf-8?q?=BC=C3=9Fe?=", "Grüße")
    yield subject("words of two charsets", "Subject: =?koi8-r?b?8NLJ18XU?= =?iso-8859-1?q?=FC?=", "Приветü")
    yield subject("an unknown charset", "Subject: =?x-nope?q?Hello?=", "Hello")
    yield subject("a long subject", "Subject: " + "word " * 300 + "end", "word " * 300 + "end")
    yield subject("an emoji", "Subject: =?UTF-8?B?8J+YgA==?=", "😀")
    yield author("a comment", f"From: Shop <{shop}> (the shop)", f"Shop <{shop}>")
    yield author("a quoted name", f'From: "Shop, Inc." <{shop}>', f"Shop, Inc. <{shop}>")
    yield author("a quoted pair", f'From: "The \\"Shop\\"" <{shop}>', f'The "Shop" <{shop}>')
    yield author("an address as a name", f"From: {shop} <{shop}>", shop)
    yield author("brackets", f"From: [Printer] 2nd floor <{shop}>", f"[Printer] 2nd floor <{shop}>")
    yield author("a colon", f"From: Printer: 2nd floor <{shop}>", f"Printer: 2nd floor <{shop}>")
    yield author("a raw name", f"From: Sh\udcf6p <{shop}>", f"Shöp <{shop}>")
    yield author("an encoded name", f"From: =?iso-8859-1?q?Sh=F6p?= <{shop}>", f"Shöp <{shop}>")
    yield author("an address alone", f"From: {shop}", shop)
    yield letter(
        "traces",
        "Received: from x\r\n\tby y",
        "ARC-Seal: i=1",
        "DKIM-Signature: v=1;\r\n\tb=x",
        "Resent-To: bob@contoso.com",
    )
    yield letter("a stranger as Sender", "Sender: boss@contoso.com")
    yield letter("a second subject", "Subject: Another")
    yield letter("groups", "Cc: Team: bob@contoso.com, Cem <cem@contoso.com>;")


def of_structures() -> Iterator[Letter]:
    text, page = part("text/plain", "Hello"), part("text/html", "<p>Page</p>")
    footer, other = part("text/plain", "Footer"), part("text/html", "<p>Other</p>")
    both = multi("alternative", text, page)
    image = part(
        "image/png; name=a.png", base64.b64encode(PNG), "Content-ID: <a@x>", "Content-Transfer-Encoding: base64"
    )
    png = (("a.png", PNG),)
    yield Letter(name="both bodies", source=whole(both), html="<p>Page</p>")
    yield Letter(name="a page", source=whole(page), text=None, html="<p>Page</p>")
    yield Letter(
        name="an image in a page", source=whole(multi("related", page, image)), text=None, html="<p>Page</p>", files=png
    )
    related = multi("related", page, image)
    yield Letter(
        name="both and an image", source=whole(multi("alternative", text, related)), html="<p>Page</p>", files=png
    )
    inside = multi("related", both, image)
    yield Letter(name="both within related", source=whole(inside), html="<p>Page</p>", files=png)
    yield Letter(name="two texts", source=whole(multi("mixed", text, footer)), text="HelloFooter")
    below = '<p>Page</p><div style="white-space: pre-wrap">Footer</div>'
    yield Letter(
        name="a page and a footer",
        source=whole(multi("mixed", page, footer)),
        text="Footer",
        html="<p>Page</p>",
        large={"text": None, "html": below},
    )
    yield Letter(
        name="both and a footer",
        source=whole(multi("mixed", both, footer)),
        text="HelloFooter",
        html="<p>Page</p>",
        large={"html": below},
    )
    yield Letter(name="two pages", source=whole(multi("mixed", page, other)), text=None, html="<p>Page</p><p>Other</p>")
    apple = multi("alternative", text, multi("mixed", page, image, other))
    yield Letter(name="as Apple's", source=whole(apple), html="<p>Page</p><p>Other</p>", files=png)
    yield Letter(name="an unknown multipart", source=whole(multi("x-own", text, image)), files=png)
    yield Letter(name="no end", source=whole(multi("mixed", text, image).rpartition(b"\r\n--")[0]), files=png)
    yield Letter(
        name="before and after",
        source=whole(multi("mixed", text)).replace(b"\r\n\r\n--", b"\r\n\r\nold\r\n--") + b"after",
    )
    yield Letter(name="one part", source=whole(multi("mixed", text)))
    yield Letter(name="no part", source=whole(multi("mixed")), text=None)
    yield Letter(name="an empty part", source=whole(multi("mixed", text, part("", ""))), text="Hello")
    odd = "=_(a:b'c)+d,e/f?"
    yield Letter(name="an odd boundary", source=whole(multi("mixed", text, image, mark=odd)), files=png)
    prefix = multi("mixed", multi("alternative", text, page, mark="aa"), image, mark="a")
    yield Letter(name="a boundary that begins another", source=whole(prefix), html="<p>Page</p>", files=png)
    signed = multi(
        "signed; protocol=x",
        text,
        part("application/pgp-signature", "x", "Content-Disposition: attachment; filename=s.asc"),
    )
    yield Letter(
        name="signed",
        source=whole(signed),
        files=(("s.asc", b"x"),),
        refused="it is signed or encrypted (multipart/signed), which must stay byte for byte",
    )
    amp = part("text/x-amp-html", "<html amp4email>")
    yield Letter(name="AMP", source=whole(multi("alternative", text, amp, page)), html="<p>Page</p>")
    yield Letter(
        name="AMP alone",
        source=whole(multi("mixed", text, multi("alternative", amp))),
        large={"files": (("part-1.bin", b"<html amp4email>"),)},
    )
    enriched = part("text/enriched", "<bold>Hello</bold>")
    yield Letter(name="enriched text", source=whole(multi("alternative", text, enriched)))
    picture = part("image/png", base64.encodebytes(PNG).replace(b"\n", b"\r\n"), "Content-Transfer-Encoding: base64")
    yield Letter(
        name="an alternative that is a picture",
        source=whole(multi("alternative", text, picture)),
        large={"files": (("part-1.png", PNG),)},
    )
    smime = part(
        "application/pkcs7-mime; smime-type=enveloped-data; name=smime.p7m", "x", "Content-Disposition: attachment"
    )
    yield Letter(
        name="encrypted",
        source=whole(smime),
        text=None,
        files=(("smime.p7m", b"x"),),
        refused="it is signed or encrypted (S/MIME)",
    )


def of_reports() -> Iterator[Letter]:
    text = part("text/plain", "Hello")
    status = b"Reporting-MTA: dns; mx.example\r\n\r\nFinal-Recipient: rfc822; bob@example.org\r\nAction: failed\r\n"
    bounced = a_head("MIME-Version: 1.0", subject="Subject: Your order") + multi("mixed", text)
    report = multi(
        "report; report-type=delivery-status",
        text,
        part("message/delivery-status", status),
        part("message/rfc822; name=order.eml", bounced),
    )
    returned = (("order.eml", bounced),)
    yield Letter(
        name="a delivery report",
        source=whole(report),
        files=returned,
        large={"files": (("delivery-status.txt", status), *returned)},
    )
    read = b"Final-Recipient: rfc822; bob@example.org\r\nDisposition: manual-action; displayed\r\n"
    receipt = multi(
        "report; report-type=disposition-notification",
        text,
        part("message/disposition-notification", read),
        part("text/rfc822-headers", b"Subject: Your order\r\n"),
    )
    yield Letter(
        name="a read receipt",
        source=whole(receipt),
        large={
            "files": (("disposition-notification.txt", read), ("rfc822-headers.txt", b"Subject: Your order\r\n")),
        },
    )
    complaint = b"Feedback-Type: abuse\r\nVersion: 1\r\n"
    abuse = multi("report; report-type=feedback-report", text, part("message/feedback-report", complaint))
    yield Letter(name="a complaint", source=whole(abuse), large={"files": (("feedback-report.txt", complaint),)})


def of_files() -> Iterator[Letter]:
    text = part("text/plain", "Hello")

    def with_file(name: str, file: bytes, *files: tuple[str, bytes]) -> Letter:
        return Letter(name=name, source=whole(multi("mixed", text, file)), files=files)

    data = base64.encodebytes(PNG).replace(b"\n", b"\r\n")
    coded = "Content-Transfer-Encoding: base64"
    names = {
        "plain": ('filename="plan.png"', "plan.png"),
        "unquoted": ("filename=plan.png", "plan.png"),
        "RFC 2231": ("filename*=utf-8''pl%C3%A4n.png", "plän.png"),
        "RFC 2231 in pieces": ("filename*0*=utf-8''pl%C3%A4;\r\n\tfilename*1=n.png", "plän.png"),
        "an encoded word": ('filename="=?utf-8?q?pl=C3=A4n=2Epng?="', "plän.png"),
        "raw": ('filename="plän.png"', "plän.png"),
        "a path": ('filename="../etc/plan.png"', "../etc/plan.png"),
        "a quote": ('filename="a\\"b.png"', 'a"b.png'),
    }
    for name, (parameter, shown) in names.items():
        file = part("image/png", data, f"Content-Disposition: attachment; {parameter}", coded)
        yield with_file(f"a file name: {name}", file, (shown, PNG))
    yield with_file("a name in the type", part('image/png; name="plan.png"', data, coded), ("plan.png", PNG))
    inner = a_head(subject="Subject: Inner") + b"\r\nInner body"
    forwarded = part("message/rfc822", inner, "Content-Disposition: attachment; filename=fwd.eml")
    yield with_file("a forwarded message", forwarded, ("fwd.eml", inner))
    nested = a_head("MIME-Version: 1.0") + multi("mixed", text, part("message/rfc822; name=deep.eml", inner))
    yield with_file("a message in a message", part("message/rfc822; name=fwd.eml", nested), ("fwd.eml", nested))
    table = part("text/csv; charset=utf-8", "ä;b", "Content-Disposition: attachment; filename=a.csv")
    yield with_file("a text as a file", table, ("a.csv", "ä;b".encode()))
    yield with_file(
        "an empty file", part("application/zip; name=a.zip", "", "Content-Disposition: attachment"), ("a.zip", b"")
    )
    begin = b"begin 644 plan.png\r\n" + b"".join(
        binascii.b2a_uu(PNG[at : at + 45]).replace(b"\n", b"\r\n") for at in range(0, len(PNG), 45)
    )
    uu = part("image/png; name=plan.png", begin + b"`\r\nend\r\n", "Content-Transfer-Encoding: x-uuencode")
    yield with_file("in uuencode", uu, ("plan.png", PNG))
    page = part("text/html", "<p>x</p>", "Content-Disposition: attachment; filename=a.html")
    among = multi("alternative", text, part("text/html", "<p>Page</p>"), page)
    yield Letter(name="among alternatives", source=whole(among), html="<p>Page</p>", files=(("a.html", b"<p>x</p>"),))
    binary = bytes(range(1, 256)).replace(b"\r", b"").replace(b"\n", b"")
    yield with_file("binary", part("application/x; name=b", binary, "Content-Transfer-Encoding: binary"), ("b", binary))


def of_oddities() -> Iterator[Letter]:
    yield Letter(name="an empty body", source=a_head() + b"\r\n", text="")
    yield Letter(name="no empty line", source=a_head(), text="")
    yield Letter(name="blanks", source=a_head() + b"\r\n \r\n\t\r\n", text="")
    yield Letter(name="many lines", source=a_head() + b"\r\n" + b"\r\n" * 5000 + b"end", text="end")
    yield Letter(name="a type that is none", source=single("text", b"Hello"))
    yield Letter(name="a broken parameter", source=single("text/plain; charset=utf-8; =x; y", b"Hello"))
    yield Letter(
        name="a type in capitals", source=single('TEXT/PLAIN; CHARSET="UTF-8"', "Grüße".encode()), text="Grüße"
    )
    yield Letter(name="MIME of another version", source=a_head("MIME-Version: 2.0") + b"\r\nHello")
    many = [part("text/plain; name=f", str(number), "Content-Disposition: attachment") for number in range(200)]
    files = tuple(("f", str(number).encode()) for number in range(200))
    yield Letter(name="200 files", source=whole(multi("mixed", part("text/plain", "Hello"), *many)), files=files)
    deep = part("text/plain", "Hello")
    for _ in range(9):
        deep = multi("mixed", deep)
    yield Letter(name="nine deep", source=whole(deep))
