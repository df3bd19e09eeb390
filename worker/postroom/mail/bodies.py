"""What a template renders to. A module of its own, for processes that know nothing else of a mail."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Bodies:
    """What a template renders to. At least one of `html` and `text` is not None."""

    subject: str
    html: str | None
    text: str | None
