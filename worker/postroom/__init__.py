"""Postroom: durable mail jobs for Microsoft 365.

What is named here is imported when it is first asked for, so that `import postroom` costs next to nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from postroom.client import BatchResult, Client
    from postroom.errors import (
        InvalidMail,
        KeyConflict,
        MailDead,
        MailExpired,
        PostroomError,
        TooLate,
        Unavailable,
        UnknownJob,
    )
    from postroom.jobs.job import Delivery, Receipt, Status
    from postroom.mail.model import Attachment, Mail

__all__ = [
    "Attachment",
    "BatchResult",
    "Client",
    "Delivery",
    "InvalidMail",
    "KeyConflict",
    "Mail",
    "MailDead",
    "MailExpired",
    "PostroomError",
    "Receipt",
    "Status",
    "TooLate",
    "Unavailable",
    "UnknownJob",
]

_PLACES = {
    "Attachment": "mail.model",
    "BatchResult": "client",
    "Client": "client",
    "Delivery": "jobs.job",
    "Mail": "mail.model",
    "Receipt": "jobs.job",
    "Status": "jobs.job",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f"{__name__}.{_PLACES.get(name, 'errors')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
