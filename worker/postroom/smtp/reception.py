"""Shared by all SMTP sessions of a server: limits, connected clients, checked passwords, and how a message is kept."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Protocol
from weakref import WeakValueDictionary

from postroom.access.failures import Failures, site
from postroom.access.smtp_logins import Login, Logins
from postroom.errors import InvalidMail, KeyConflict, Unavailable
from postroom.jobs.job import Receipt
from postroom.mail.address import Address
from postroom.mail.model import Mail
from postroom.mail.validation import MAX_RECIPIENTS
from postroom.smtp import submission
from postroom.smtp.submission import Reply, Submission
from postroom.telemetry.events import Emit
from postroom.telemetry.redaction import mask_actor, place_of

GOODBYE = Reply(code=421, status="4.3.2", text="Postroom is being stopped; connect again in a minute")
FULL = Reply(code=421, status="4.7.0", text="Too many connections; connect again later")
CROWDED = Reply(code=451, status="4.3.2", text="Others are sending their messages still; send it again later")
LATER = Reply(code=451, status="4.3.0", text="The mail could not be kept just now; send it again later")
# How often a command may be sent in one connection. An application may send many mails in one.
COMMANDS = {"MAIL": 10_000, "RCPT": 100_000, "DATA": 10_000, "RSET": 10_000, "NOOP": 1_000, "QUIT": 10, "*": 20}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one server allows."""

    message: int
    connections: int = 400
    of_one_address: int = 100
    receiving: int = 16  # messages that are received at the same time; each is in memory
    turn_s: float = 10.0  # how long a further message waits for its turn
    # At least so many bytes of a message come in a second, on an average of so many seconds.
    pace: int = 1024
    pace_s: float = 20.0
    recipients: int = MAX_RECIPIENTS
    commands: Mapping[str, int] = field(default_factory=lambda: COMMANDS)
    wrong_passwords: int = 3  # in one connection
    unknown_s: float = 60.0  # the longest time between two commands before the login
    idle_s: float = 300.0  # the same after the login; and the longest time that receiving a message may take
    keep_s: float = 60.0
    drain_s: float = 30.0


class Guest(Protocol):
    """The part of a connection that the reception needs. It has no `login` until its client is known."""

    host: str
    login: Login | None

    @property
    def in_transaction(self) -> bool: ...
    def dismiss(self, reply: Reply) -> None: ...


class Reception:
    """The shared state of all SMTP sessions. `take_in` keeps a mail; it may block, and is called in a thread."""

    def __init__(
        self,
        logins: Logins,
        take_in: Callable[[Mail, str | None], Receipt],
        default: Address | None,
        limits: Limits,
        emit: Emit,
        failures: Failures | None = None,
    ) -> None:
        self.logins, self.limits, self.emit = logins, limits, emit
        self._take_in, self._default = take_in, default
        self._failures = failures or Failures()
        self._guests: dict[Guest, str] = {}  # with their sites, in the order of their coming
        self._empty = asyncio.Event()
        self._receiving = asyncio.Semaphore(limits.receiving)
        # Whoever is in an allowed network takes no password's place.
        self._without_password = asyncio.Semaphore(max(1, limits.receiving * 3 // 4))
        self._of_site: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._keepers = ThreadPoolExecutor(32, "keep")
        self._checkers = ThreadPoolExecutor(2, "check")
        self.stopping = False

    def admit(self, guest: Guest) -> Reply | None:
        """Why this connection may not begin; None if it may.

        Where all places are taken, the one that has been without a login for longest makes room.
        """
        if self.stopping:
            return GOODBYE
        place = site(guest.host)
        if Counter(self._guests.values())[place] >= self.limits.of_one_address:
            return FULL
        if len(self._guests) >= self.limits.connections:
            stranger = next((one for one in self._guests if one.login is None), None)
            if stranger is None:
                return FULL
            self.leave(stranger)
            stranger.dismiss(FULL)
        self._guests[guest] = place
        self._empty.clear()
        return None

    def leave(self, guest: Guest) -> None:
        """Notes that this connection has ended."""
        self._guests.pop(guest, None)
        if not self._guests:
            self._empty.set()

    async def check(self, host: str, name: str, password: str) -> Login | None:
        """The login with this name, if the password is right, else None. After wrong passwords from `host` it waits."""
        if login := self.logins.known(name, password):
            return login
        await asyncio.sleep(self._failures.wait(host, time.monotonic()))
        loop = asyncio.get_running_loop()
        login = await loop.run_in_executor(self._checkers, self.logins.check, name, password)
        if login is None:
            self._failures.note(host, time.monotonic())
            self.emit("smtp.rejected", host=host)
        return login

    @asynccontextmanager
    async def receiving(self, host: str, login: Login) -> AsyncIterator[bool]:
        """A context in which a message is received. Gives False if too many others are being received for too long.

        One client address gets at most half of the places, and those without a password at most three quarters.
        """
        of_site = self._of_site.setdefault(site(host), asyncio.Semaphore(max(1, self.limits.receiving // 2)))
        async with AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(self.limits.turn_s):
                    await stack.enter_async_context(of_site)
                    if not login.password_hash and self.logins.by_password:
                        await stack.enter_async_context(self._without_password)
                    await stack.enter_async_context(self._receiving)
            except TimeoutError:
                yield False
            else:
                yield True

    async def keep(self, source: bytes, sender: str, recipients: Sequence[Address], login: Login) -> Reply:
        """The answer to a message: 250 once it is kept."""
        loop = asyncio.get_running_loop()
        kept = loop.run_in_executor(self._keepers, self._keep, source, sender, recipients, login)
        try:
            reply = await asyncio.wait_for(kept, self.limits.keep_s)
        except TimeoutError:
            reply = LATER
        if reply.code != 250:
            self.emit("smtp.refused", login=mask_actor(login.name), code=reply.code, status=reply.status)
        return reply

    def _keep(self, source: bytes, sender: str, recipients: Sequence[Address], login: Login) -> Reply:
        try:
            submitted = submission.read(source, sender, recipients, login, self._default)
            return self._taken_in(submitted) if isinstance(submitted, Submission) else submitted
        except Unavailable:
            return LATER
        except InvalidMail as error:
            return Reply(code=550, status="5.6.0", text=str(error))
        except Exception as error:  # noqa: BLE001 - after any error the client should try again
            self.emit("smtp.failed", error=place_of(error))
            return LATER

    def _taken_in(self, submitted: Submission) -> Reply:
        try:
            receipt = self._take_in(submitted.mail, submitted.key)
        except KeyConflict as error:
            if not submitted.by_content:
                return Reply(code=550, status="5.5.4", text=f"X-Postroom-Key: {error}")
            # It is the same message, but it was read before with other settings or by another version.
            receipt = Receipt(id=error.job_id, known=True)
        again = " (it was kept already)" if receipt.known else ""
        return Reply(code=250, status="2.0.0", text=f"Ok: queued as {receipt.id}{again}")

    async def drain(self) -> None:
        """Ends all sessions: those in a transaction when it is over, or after `drain_s` seconds; all others at once."""
        self.stopping = True
        for guest in [one for one in self._guests if not one.in_transaction]:
            guest.dismiss(GOODBYE)
        if self._guests:
            try:
                await asyncio.wait_for(self._empty.wait(), self.limits.drain_s)
            except TimeoutError:
                for guest in list(self._guests):
                    guest.dismiss(GOODBYE)
        self._keepers.shutdown(wait=False)
        self._checkers.shutdown(wait=False, cancel_futures=True)
