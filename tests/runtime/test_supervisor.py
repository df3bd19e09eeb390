"""The supervisor goes on where the system lets it start no process."""

import errno
import subprocess
from typing import Any

import pytest

from postroom.runtime import supervisor


class Running:
    """A process that lives."""

    def poll(self) -> None:
        return None


def test_a_worker_that_cannot_be_started_is_tried_again_later_and_the_others_live_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given: list[Any] = [Running(), OSError(errno.EAGAIN, "no more processes"), Running()]
    said: list[dict[str, object]] = []

    def start(*_: object, **__: object) -> Any:
        if isinstance(found := given.pop(0), OSError):
            raise found
        return found

    monkeypatch.setattr(subprocess, "Popen", start)
    children = [supervisor._Child(1), supervisor._Child(2)]

    def start_due() -> None:
        supervisor._start_due(
            children, lambda _: ["worker"], (), lambda event, **facts: said.append({"event": event, **facts})
        )

    start_due()
    assert [child.process is not None for child in children] == [True, False]
    assert said == [{"event": "worker.died", "number": 2, "error": "no more processes", "restart_in_s": 1.0}]
    children[1].due = 0.0

    start_due()
    assert all(child.process for child in children)
