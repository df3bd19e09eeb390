"""Postroom: durable mail jobs for Microsoft 365."""

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
