"""Why setting up cannot go on."""

from postroom.errors import PostroomError


class SetupError(PostroomError):
    """Setting up stopped. The text says what was wrong, where, and the next step. Run again, it goes on from there."""


class Refusal(SetupError):
    """Graph refused a request: its HTTP status, code and message."""

    def __init__(self, what: str, status: int, code: str, message: str) -> None:
        super().__init__(f"{what}: Graph answered {status} {code}: {message}")
        self.status = status
        self.code = code


class Unsure(SetupError):
    """A request may have been carried out or not: the connection broke, or Graph failed. Look again."""
