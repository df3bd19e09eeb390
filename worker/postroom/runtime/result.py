"""The outcome of work that somebody waits for, and the callback that gets it."""

from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar, cast

Value = TypeVar("Value")


class Result(NamedTuple, Generic[Value]):
    """What a call returned, or the exception that it raised."""

    value: Value | None = None
    error: BaseException | None = None

    def get(self) -> Value:
        """The value; raises the error if there is one."""
        if self.error is not None:
            raise self.error
        return cast("Value", self.value)

    @classmethod
    def of(cls, call: Callable[[], Value]) -> "Result[Value]":
        """Makes the call. Never raises: every exception, SystemExit too, is in the result."""
        try:
            return cls(call())
        except BaseException as error:  # noqa: BLE001 - it is raised where the result is read
            return cls(error=error)


Callback = Callable[[Result[Value]], object]
