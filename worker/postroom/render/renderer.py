"""Renders templates in child processes, so that no template and no variable can harm the process that asks.

Expressions of a template can loop for ever or fill memory, and the CSS inliner can overflow its stack. A child that
does so is ended by the kernel (`child.py`), and the mail is a TemplateFault. All other mail is rendered by another.

A library of process pools is not used: those that can end one task (pebble, billiard) import the main module of the
process anew in each child, which here is Celery or a program of a user, and cost several times as much per call.
"""

import errno
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple, Self

from postroom.errors import RendererBusy, TemplateFault, TemplateMissing
from postroom.mail.bodies import Bodies
from postroom.render.child import READY, receive, send

MOST = 4  # children of one process
OF_ONE = 2  # and so many of them for one sender at the same time
MEMORY = 256 * 1024 * 1024  # bytes of one child
CPU_S = 5.0  # of one mail
WALL_S = 60.0  # the same with all its waiting, for a disk that does not answer
PATIENCE_S = 30.0  # how long a mail waits for its turn
GROW_S = 0.1  # a mail that has waited for so long gets another child
FORGET_S = 600.0  # how long it is remembered that a sender's mail brought a child down
UNUSED_S = 60.0  # then a child is ended that others can do without
TRIES = 3  # for mail whose child was killed by somebody else, and to start one


class Renderer:
    """The same as `Templates.render`, safely, for many threads. Children start when they are needed."""

    def __init__(self, folder: Path, *, most: int = MOST, memory: int = MEMORY, cpu_s: float = CPU_S) -> None:
        self._folder, self._memory, self._cpu_s = folder, memory, cpu_s
        self._pool = _Pool(self._start, most)

    def render(self, name: str, variables: Mapping[str, Any], locale: str | None = None, sender: str = "") -> Bodies:
        """Subject and bodies of the template `name`.

        Raises TemplateFault, which names file and line, or says what the mail did to its child. OSError where the disk
        fails, and RendererBusy where it had no turn in time: another try may mend both. `sender` is whose mail it is:
        the mail of one sender that keeps children busy or kills them leaves children for others.
        """
        request = [name, dict(variables), locale]
        for _ in range(TRIES):
            child = self._pool.take(sender)
            try:
                answer = child.ask(request)
            except _Died as died:
                self._pool.lose(child, by_mail=died.by_mail)
                fault = died.fault(name, self._cpu_s)
                if died.by_mail:
                    raise fault from None
            except BaseException:
                child.kill()
                self._pool.lose(child, by_mail=False)
                raise
            else:
                self._pool.give_back(child)
                return _bodies(answer)
        raise fault

    def close(self) -> None:
        """Ends the children, also those that render just now."""
        self._pool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self) -> "_Child":
        return _Child(self._folder, self._memory, self._cpu_s)


def _bodies(answer: Any) -> Bodies:
    match answer:
        case ["bodies", str(subject), html, text]:
            return Bodies(subject=subject, html=html, text=text)
        case ["missing", str(why)]:
            raise TemplateMissing(why)
        case ["fault", str(why)]:
            raise TemplateFault(why)
        case ["disk", int(number)]:
            raise OSError(number, os.strerror(number))
        case _:
            raise OSError(errno.EPROTO, "a renderer answered what is no answer")


class _Died(Exception):
    """A child has ended instead of answering. `by_mail`: what it rendered ended it, and would again."""

    def __init__(self, status: int) -> None:
        self.status = status
        self.by_mail = status < 0 and -status not in (signal.SIGKILL, signal.SIGTERM)
        super().__init__()

    def fault(self, name: str, cpu_s: float) -> TemplateFault:
        """What is said of the mail."""
        if -self.status == signal.SIGPROF:
            return TemplateFault(f"{name}: it took more than {cpu_s:g} s to render")
        how = signal.Signals(-self.status).name if self.status < 0 else f"exit code {self.status}"
        return TemplateFault(f"{name}: rendering it ended the renderer ({how})")


# All that a child is given of our environment: no setting, no secret.
_ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "PYTHONHOME", "TMPDIR", "TZ")
_PROGRAM = "import sys; from postroom.render.child import main; main(*sys.argv[1:])"


class _Child:
    """A child process and the socket to it."""

    def __init__(self, folder: Path, memory: int, cpu_s: float) -> None:
        self._channel, others = socket.socketpair()
        known = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
        with others:
            self._process = subprocess.Popen(  # noqa: S603 - our own command
                [
                    *(sys.executable, "-B", "-P", "-c", _PROGRAM),
                    *(str(others.fileno()), str(folder.absolute()), str(memory), str(cpu_s)),
                ],
                pass_fds=[others.fileno()],
                env=known | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,  # what a crash prints may quote the mail
                stderr=subprocess.DEVNULL,
            )
        self.idle_since = time.monotonic()
        # Not by `settimeout`, which asks the kernel twice for each piece.
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            self._channel.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", int(WALL_S), 0))
        if not self._is_ready():
            self.kill()
            raise RendererBusy("the renderer does not start")

    def _is_ready(self) -> bool:
        with suppress(OSError):
            return receive(self._channel) == READY
        return False

    def ask(self, request: object) -> Any:
        """Its answer. _Died if it ended instead; BlockingIOError if it neither answers nor ends."""
        try:
            send(self._channel, request)
            answer = receive(self._channel)
        except (ConnectionError, ValueError):
            answer = None
        if answer is None:
            self._channel.close()
            raise _Died(self._process.wait())
        return answer

    def kill(self) -> None:
        """Ends it."""
        self._process.kill()
        self._channel.close()
        self._process.wait()

    def disown(self) -> None:
        """Forgets it in a process that was forked: it is the parent's."""
        self._channel.close()
        self._process.returncode = 0


class _Waiting(NamedTuple):
    sender: str
    turn: "SimpleQueue[_Child]"


class _Pool:
    """Which child renders whose mail next: the first that waits, except for senders that have enough children.

    Senders whose mail brought a child down lately share one child, however many they are.
    """

    def __init__(self, start: Callable[[], _Child], most: int) -> None:
        self._start, self._most = start, most
        self._lock = threading.Lock()
        self._begin()

    def _forget_children(self) -> None:
        for child in (*self._free, *self._busy):
            child.disown()
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._free: list[_Child] = []
        self._busy: dict[_Child, str] = {}  # with whose mail
        self._starting, self._failed_starts = False, 0
        self._waiting: list[_Waiting] = []
        self._harmful: dict[str, float] = {}  # by sender, until when

    def take(self, sender: str) -> _Child:
        """A child, when it is this sender's turn. RendererBusy if that takes too long."""
        with self._lock:
            if self._pid != os.getpid():  # after a fork: they are the parent's
                self._forget_children()
            if self._free and not self._waiting and self._may_have_one(sender):
                return self._hand_to(sender)
            mine = _Waiting(sender, SimpleQueue())
            self._waiting.append(mine)
            self._hand_out()
            wait_s = GROW_S if self._busy or self._starting else 0.0
        try:
            return self._await_turn(mine, wait_s)
        except BaseException:
            self._withdraw(mine)
            raise

    def _await_turn(self, mine: _Waiting, wait_s: float) -> _Child:
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            with suppress(Empty):
                return mine.turn.get(timeout=wait_s)
            self._grow_if_needed(mine)
            wait_s = 1.0
        raise RendererBusy("others were rendered for too long")

    def _withdraw(self, mine: _Waiting) -> None:
        with self._lock:
            if mine in self._waiting:
                self._waiting.remove(mine)
                return
        self.give_back(mine.turn.get())

    def give_back(self, child: _Child) -> None:
        """Notes that a child has answered. Children that nobody needed for long are ended, but for one."""
        with self._lock:
            del self._busy[child]
            child.idle_since = now = time.monotonic()
            self._free.append(child)
            self._hand_out()
            unused = self._free[0] if len(self._free) > 1 and self._free[0].idle_since < now - UNUSED_S else None
            if unused:
                self._free.remove(unused)
        if unused:
            unused.kill()

    def lose(self, child: _Child, *, by_mail: bool) -> None:
        """Notes that a child has died."""
        with self._lock:
            sender = self._busy.pop(child)
            if by_mail:
                self._harmful[sender] = time.monotonic() + FORGET_S
            self._hand_out()

    def close(self) -> None:
        """Ends all children."""
        with self._lock:
            children, self._free = [*self._free, *self._busy], []
        for child in children:
            child.kill()

    def _hand_out(self) -> None:
        """Gives free children to those that wait. With the lock held."""
        for one in list(self._waiting):
            if not self._free:
                return
            if self._may_have_one(one.sender):
                self._waiting.remove(one)
                one.turn.put(self._hand_to(one.sender))

    def _hand_to(self, sender: str) -> _Child:
        child = self._free.pop()  # the one that rendered last, whose memory is warm
        self._busy[child] = sender
        return child

    def _may_have_one(self, sender: str) -> bool:
        if not self._busy:
            return True
        if self._is_harmful(sender):
            return not any(map(self._is_harmful, self._busy.values()))
        return list(self._busy.values()).count(sender) < OF_ONE

    def _is_harmful(self, sender: str) -> bool:
        if self._harmful and self._harmful.get(sender, 0.0) < time.monotonic():
            self._harmful.pop(sender, None)
        return sender in self._harmful

    def _grow_if_needed(self, mine: _Waiting) -> None:
        """Starts another child, if there may be one, and its sender may use it."""
        with self._lock:
            is_needed = mine in self._waiting and not self._free and self._may_have_one(mine.sender)
            if not is_needed or self._starting or len(self._busy) >= self._most:
                return
            self._starting = True
        started: list[_Child] = []
        try:
            started.append(self._start())
        except (OSError, RendererBusy):
            # Somebody may have killed it, so it is tried again.
            self._failed_starts += 1
            if self._failed_starts >= TRIES:
                raise RendererBusy("the renderer does not start") from None
        finally:
            with self._lock:
                self._starting = False
                self._free += started
                self._hand_out()
        self._failed_starts = 0 if started else self._failed_starts
