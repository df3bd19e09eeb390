"""How urgent a mail is: for Postroom, and for its reader."""

from enum import StrEnum


class Priority(StrEnum):
    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


class Importance(StrEnum):
    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"
