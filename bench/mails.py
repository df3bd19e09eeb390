"""The mail that everybody sends: HTML of 2 KB, one recipient, ready bodies, no two alike."""

from collections.abc import Iterator

MAILBOXES = 400
SUBJECT = "Your order is on its way"
_LINE = "<p>It left our house this morning and will be with you in two days; keep this mail to follow it.</p>\n"


def html(number: int, size: int = 2048) -> str:
    """A body of about `size` bytes that only this mail has."""
    start = f"<html><body><h1>Hello customer {number}</h1>\n"
    return (start + _LINE * (size // len(_LINE) + 1))[: size - 14] + "</body></html>"


def mailbox(number: int, of: int = MAILBOXES) -> str:
    return f"box{number % of}@contoso.com"


def recipient(number: int) -> str:
    return f"customer{number}@example.com"


def numbers(first: int, count: int) -> Iterator[int]:
    return iter(range(first, first + count))


def graph_message(number: int) -> dict[str, object]:
    """The same as Graph's sendMail takes it: what those who do without us build themselves."""
    return {
        "message": {
            "subject": SUBJECT,
            "body": {"contentType": "html", "content": html(number)},
            "toRecipients": [{"emailAddress": {"address": recipient(number)}}],
        }
    }
