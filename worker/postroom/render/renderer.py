"""Renders templates in child processes, so that no template and no variable can harm the process that asks.

Expressions of a template can loop for ever or fill memory, and the CSS inliner can overflow its stack. The kernel ends
a child that does so (`child.py`), and the mail is a TemplateFault. All other mail is rendered by another child.

A thread for each child gives it several mails at a time, so that a small mail costs little. A mail that takes long
keeps none of those behind it: they are given to another child, which starts if it must.

A library of process pools is not used: those that can end one task (pebble, billiard) import the main module of the
process anew in each child, which here is Celery or a program of a user, and cost several times as much per call.
"""

import errno
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Self, cast

from postroom.errors import RendererBusy, TemplateFault, TemplateMissing
from postroom.mail.bodies import Bodies
from postroom.render.child import READY, Channel
from postroom.runtime.fibers import await_callback
from postroom.runtime.result import Callback, Result

MOST = 4  # children of one process
OF_ONE = 2  # and so many of them for one sender at the same time
TOGETHER, TOGETHER_BYTES = 16, 64 * 1024  # mails that a child is given at once; so much fits into its socket
MEMORY = 256 * 1024 * 1024  # bytes of one child
CPU_S = 5.0  # of one mail
WALL_S = 60.0  # the same with all its waiting, for a disk that does not answer
SLOW_S = 0.25  # a mail that takes longer is left alone with its child
PATIENCE_S = 30.0  # how long a mail waits for its turn
FORGET_S = 600.0  # how long it is remembered that a sender's mail brought a child down
UNUSED_S = 60.0  # then a child is ended that others can do without
TRIES = 3  # for mail whose child was killed by somebody else, and to start one


class Renderer:
    """The same as `Templates.render`, safely, for many threads and fibers. Children start when they are needed."""

    def __init__(self, folder: Path, *, most: int = MOST, memory: int = MEMORY, cpu_s: float = CPU_S) -> None:
        self._pool = _Pool(lambda: _Child(folder, memory, cpu_s), most, cpu_s)

    def render(self, name: str, variables: Mapping[str, Any], locale: str | None = None, sender: str = "") -> Bodies:
        """Subject and bodies of the template `name`.

        Raises TemplateFault, which names file and line, or says what the mail did to its child. OSError where the disk
        fails, and RendererBusy where it had no turn in time: another try may mend both. `sender` is whose mail it is:
        the mail of one sender that keeps children busy or kills them leaves children for others.
        """
        request = json.dumps([name, dict(variables), locale]).encode()

        def ask(callback: Callback[Any]) -> None:
            self._pool.submit(_Ask(sender, name, request, callback, time.monotonic()))

        return _bodies(await_callback(ask))

    def close(self) -> None:
        """Ends the children, also those that render just now."""
        self._pool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


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


@dataclass(slots=True, eq=False)
class _Ask:
    """A mail that is to be rendered."""

    sender: str
    name: str
    request: bytes
    callback: Callback[Any]
    since: float
    tries: int = 0

    def tell(self, result: Result[Any]) -> None:
        """Gives the result to who asked, if it waits still."""
        with suppress(RuntimeError):  # its event loop is closed
            self.callback(result)

    def fault_of(self, status: int, cpu_s: float) -> TemplateFault:
        """What is said of the mail whose child ended with this status."""
        if -status == signal.SIGPROF:
            return TemplateFault(f"{self.name}: it took more than {cpu_s:g} s to render")
        how = signal.Signals(-status).name if status < 0 else f"exit code {status}"
        return TemplateFault(f"{self.name}: rendering it ended the renderer ({how})")


# All that a child is given of our environment: no setting, no secret.
_ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "PYTHONHOME", "TMPDIR", "TZ")
_PROGRAM = "import sys; from postroom.render.child import main; main(*sys.argv[1:])"


class _Child:
    """A child process, and the channel to it."""

    def __init__(self, folder: Path, memory: int, cpu_s: float) -> None:
        ours, others = socket.socketpair()
        known = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
        with others:
            self.process = subprocess.Popen(  # noqa: S603 - our own command
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
        self._socket, self.channel = ours, Channel(ours)
        self._wait_at_most(WALL_S)
        if not self._is_ready():
            self.kill()
            raise RendererBusy("the renderer does not start")
        self._wait_at_most(SLOW_S)

    def _is_ready(self) -> bool:
        with suppress(OSError):
            return self.channel.receive() == READY
        return False

    def _wait_at_most(self, seconds: float) -> None:
        # Not by `settimeout`, which asks the kernel twice for each piece.
        timeout = struct.pack("ll", int(seconds), int(seconds % 1 * 1e6))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeout)

    def kill(self) -> int:
        """Ends it, if it has not ended by itself. Its exit status."""
        self.process.kill()
        self._socket.close()
        return self.process.wait()

    def died(self) -> int:
        """The exit status of a child that has closed its end."""
        self._socket.close()
        return self.process.wait()

    def disown(self) -> None:
        """Forgets it in a process that was forked: it is the parent's."""
        self._socket.close()
        self.process.returncode = 0


@dataclass(slots=True, eq=False)
class _Hand:
    """A thread with its child: what it is given, and what it renders just now."""

    inbox: "SimpleQueue[list[_Ask] | None]"
    at_work: "deque[_Ask]"
    child: _Child | None = None
    is_slow: bool = False


class _Pool:
    """Which child renders whose mail next: the first that waits, except for senders that have enough children.

    Senders whose mail brought a child down lately share one child, however many they are.
    """

    def __init__(self, start: Callable[[], _Child], most: int, cpu_s: float) -> None:
        self._start, self._most, self._cpu_s = start, most, cpu_s
        self._lock = threading.Lock()
        self._begin()

    def _begin(self) -> None:
        self._pid, self._is_closed, self._failed_starts = os.getpid(), False, 0
        self.hands: list[_Hand] = []
        self._free: list[_Hand] = []
        self._waiting: deque[_Ask] = deque()
        self._harmful: dict[str, float] = {}  # by sender, until when

    def submit(self, ask: _Ask) -> None:
        """Has this rendered. Returns at once."""
        with self._lock:
            if self._pid != os.getpid():  # after a fork: they are the parent's
                for hand in self.hands:
                    if hand.child:
                        hand.child.disown()
                self._begin()
            self._waiting.append(ask)
            self._hand_out()

    def close(self) -> None:
        """Ends all children."""
        with self._lock:
            self._is_closed = True
            hands, waiting = list(self.hands), list(self._waiting)
            self._free, self._waiting = [], deque()
        for ask in waiting:
            ask.tell(Result(error=RendererBusy("the renderer is closed")))
        for hand in hands:
            hand.inbox.put(None)
            if hand.child:
                hand.child.process.kill()

    # With the lock held

    def _hand_out(self) -> None:
        """Gives free children what waits, and starts another child where all others are slow or behind."""
        while self._free and (some := self._pick()):
            hand = self._free.pop()  # the one that rendered last, whose memory is warm
            hand.at_work.extend(some)
            hand.inbox.put(some)
        if self._waiting and not self._free and len(self.hands) < self._most and self._may_grow():
            hand = _Hand(SimpleQueue(), deque())
            self.hands.append(hand)
            threading.Thread(target=self._work, args=(hand,), name="postroom-render", daemon=True).start()

    def _may_grow(self) -> bool:
        if any(hand.child is None for hand in self.hands):  # one starts already
            return False
        if not any(self._may_have_one(ask.sender) for ask in islice(self._waiting, 100)):
            return False
        return all(hand.is_slow for hand in self.hands) or time.monotonic() - self._waiting[0].since > SLOW_S

    def _pick(self) -> list[_Ask]:
        """What a free child is to render next."""
        some, passed, size, now = list[_Ask](), list[_Ask](), 0, time.monotonic()
        while self._waiting and len(some) < TOGETHER:
            ask = self._waiting.popleft()
            size += len(ask.request)
            if now - ask.since > PATIENCE_S:
                ask.tell(Result(error=RendererBusy("others were rendered for too long")))
            elif not self._may_have_one(ask.sender):
                passed.append(ask)
            elif some and (size > TOGETHER_BYTES or self._is_harmful(ask.sender)):
                passed.append(ask)
                break
            else:
                some.append(ask)
                if self._is_harmful(ask.sender):
                    break
        self._waiting.extendleft(reversed(passed))
        return some

    def _may_have_one(self, sender: str) -> bool:
        if len(self.hands) <= OF_ONE and not self._harmful:
            return True
        senders = [{ask.sender for ask in hand.at_work} for hand in self.hands if hand.at_work]
        if self._is_harmful(sender):
            return not any(self._is_harmful(one) for some in senders for one in some)
        return sum(sender in some for some in senders) < OF_ONE

    def _is_harmful(self, sender: str) -> bool:
        if self._harmful and self._harmful.get(sender, 0.0) < time.monotonic():
            self._harmful.pop(sender, None)
        return sender in self._harmful

    # In the thread of a hand

    def _work(self, hand: _Hand) -> None:
        while True:
            if hand.child is None and not self._has_started(hand):
                return
            with self._lock:
                hand.is_slow = False
                self._free.append(hand)
                self._hand_out()
            if not (some := self._given_to(hand)):
                break
            self._render(hand, some)
        if hand.child:
            hand.child.kill()

    def _given_to(self, hand: _Hand) -> list[_Ask] | None:
        """What it is to render next; None if it is to end."""
        while True:
            try:
                return hand.inbox.get(timeout=UNUSED_S)
            except Empty:
                if self._is_unused(hand):
                    return None

    def _has_started(self, hand: _Hand) -> bool:
        """Starts its child. If that fails again and again, those that wait are told, and the hand ends."""
        while not self._is_closed:
            try:
                hand.child = self._start()
            except (OSError, RendererBusy):
                # Somebody may have killed it, so it is tried again.
                self._failed_starts += 1
                if self._failed_starts >= TRIES:
                    break
            else:
                self._failed_starts = 0
                return True
        with self._lock:
            self.hands.remove(hand)
            waiting, self._waiting = (self._waiting, deque()) if not self.hands else (deque(), self._waiting)
            self._hand_out()
        for ask in waiting:
            ask.tell(Result(error=RendererBusy("the renderer does not start")))
        return False

    def _is_unused(self, hand: _Hand) -> bool:
        with self._lock:
            if len(self.hands) == 1 or hand not in self._free:
                return False
            self._free.remove(hand)
            self.hands.remove(hand)
            return True

    def _render(self, hand: _Hand, some: list[_Ask]) -> None:
        """Renders these in its child. What a slow or deadly one leaves undone is given to others."""
        child, expected = cast("_Child", hand.child), deque(some)
        try:
            child.channel.send_raw(ask.request for ask in some)
            while expected and (answer := self._answer(hand, child, expected[0])):
                ask = expected.popleft()
                if self._is_mine(hand, ask):
                    ask.tell(Result(answer))
        except TimeoutError as error:
            child.kill()
            self._lost(hand, expected, error)
        except (OSError, ValueError):
            self._lost(hand, expected, child.died())
        else:
            if expected:
                self._lost(hand, expected, child.died())

    def _answer(self, hand: _Hand, child: _Child, ask: _Ask) -> object | None:
        """The child's answer to this one; None if it has ended. TimeoutError if it does neither for too long."""
        until = time.monotonic() + WALL_S
        while time.monotonic() < until:
            with suppress(BlockingIOError):
                return child.channel.receive()
            self._note_slow(hand, ask)
        raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))

    def _is_mine(self, hand: _Hand, ask: _Ask) -> bool:
        with self._lock:
            if ask not in hand.at_work:
                return False
            hand.at_work.remove(ask)
            return True

    def _note_slow(self, hand: _Hand, slow: _Ask) -> None:
        """This one takes long: those behind it go to others."""
        with self._lock:
            hand.is_slow = True
            behind = [ask for ask in hand.at_work if ask is not slow]
            for ask in behind:
                hand.at_work.remove(ask)
            self._waiting.extendleft(reversed(behind))
            self._hand_out()

    def _lost(self, hand: _Hand, expected: "deque[_Ask]", why: int | OSError) -> None:
        """Its child has ended while it rendered the first of these."""
        hand.child = None
        with self._lock:
            left = [ask for ask in expected if ask in hand.at_work]
            hand.at_work.clear()
            first = expected[0]
            error: Exception | None = None
            if isinstance(why, OSError):
                error = why
            elif why < 0 and -why not in (signal.SIGKILL, signal.SIGTERM):
                self._harmful[first.sender] = time.monotonic() + FORGET_S
                error = first.fault_of(why, self._cpu_s)
            else:
                first.tries += 1
                error = first.fault_of(why, self._cpu_s) if first.tries >= TRIES else None
            again = [ask for ask in left if ask is not first or not error]
            self._waiting.extendleft(reversed(again))
            self._hand_out()
        if error and first in left:
            first.tell(Result(error=error))
