"""A TCP port before a Redis, whose connections can be cut, held up, slowed down or robbed of their answers."""

import asyncio
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

CHUNK = 65536


class Proxy:
    """Passes bytes between its port and a unix socket, unless a test says otherwise."""

    def __init__(self, target: Path, loop: asyncio.AbstractEventLoop) -> None:
        self._target, self._loop = target, loop
        self._streams: set[asyncio.StreamWriter] = set()
        self._all: list[asyncio.StreamWriter] = []
        self._serving: set[asyncio.Task[None]] = set()
        self._passing = asyncio.Event()
        self._passing.set()
        self._refusing = self._losing_answers = False
        self.port = 0
        self.delay_s = 0.0

    @property
    def url(self) -> str:
        """The Redis behind it."""
        return f"redis://127.0.0.1:{self.port}/0"

    def cut(self) -> None:
        """Breaks every connection that stands; new ones are welcome."""
        self._do(self._abort_all)

    def refuse(self) -> None:
        """Breaks every connection, and each new one at once."""
        self._refusing = True
        self.cut()

    def hold(self) -> None:
        """Takes connections and bytes and passes nothing on, as a network that swallows packets."""
        self._do(self._passing.clear)

    def lose_answers(self) -> None:
        """Passes requests on and no answers; those that were lost do not come later."""
        self._losing_answers = True

    def forget(self) -> None:
        """Drops all that comes over the connections that stand, without closing them; new connections work."""
        self._do(self._forget_all)

    def resume(self) -> None:
        """Works again. What was held is passed on; a connection that lost an answer is broken, as TCP would."""
        if self._losing_answers:
            self.cut()
        self._refusing = self._losing_answers = False
        self._do(self._passing.set)

    def _do(self, call: Callable[[], None]) -> None:
        done = threading.Event()

        def run() -> None:
            call()
            done.set()

        self._loop.call_soon_threadsafe(run)
        done.wait(10)

    def _abort_all(self) -> None:
        for stream in self._streams:
            stream.transport.abort()

    def _forget_all(self) -> None:
        for stream in self._streams:
            stream.transport.pause_reading()  # type: ignore[attr-defined]

    async def serve(self, ready: threading.Event, stop: asyncio.Event) -> None:
        """Serves until `stop` is set."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setblocking(False)
            self.port = listener.getsockname()[1]
            self._loop.add_reader(listener, self._accept, listener)
            ready.set()
            await stop.wait()
            self._loop.remove_reader(listener)
        self._refusing = True
        self._passing.set()
        while left := asyncio.all_tasks() - {asyncio.current_task()}:  # some may have come in just now
            self._abort_all()
            await asyncio.wait(left, timeout=0.1)
        await asyncio.gather(*(stream.wait_closed() for stream in self._all), return_exceptions=True)

    def _accept(self, listener: socket.socket) -> None:
        # Not asyncio's server: when Python 3.11 closes one, it leaks a connection that comes in at that moment.
        task = self._loop.create_task(self._serve_one(listener.accept()[0]))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve_one(self, connection: socket.socket) -> None:
        await self._connected(*await asyncio.open_connection(sock=connection))

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._streams.add(writer)
        self._all.append(writer)
        try:
            if self._refusing:
                return
            await self._passing.wait()
            there, onward = await asyncio.open_unix_connection(str(self._target))
            self._streams.add(onward)
            self._all.append(onward)
            try:
                await _first(self._pump(reader, onward, answers=False), self._pump(there, writer, answers=True))
            finally:
                self._streams.discard(onward)
                onward.transport.abort()
        except OSError:
            pass  # Redis itself is away
        finally:
            self._streams.discard(writer)
            writer.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool) -> None:
        with suppress(OSError):
            while chunk := await reader.read(CHUNK):
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                await self._passing.wait()
                if not (answers and self._losing_answers):
                    writer.write(chunk)
                    await writer.drain()


async def _first(*pumps: Coroutine[Any, Any, None]) -> None:
    """Until one direction has ended."""
    tasks = [asyncio.ensure_future(pump) for pump in pumps]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


@contextmanager
def proxied(target: Path) -> Iterator[Proxy]:
    """A proxy before the Redis at this unix socket."""
    loop = asyncio.new_event_loop()
    ready, stop = threading.Event(), asyncio.Event()
    proxy = Proxy(target, loop)

    def run() -> None:
        loop.run_until_complete(proxy.serve(ready, stop))
        loop.close()

    thread = threading.Thread(target=run, name="proxy", daemon=True)
    thread.start()
    ready.wait(10)
    try:
        yield proxy
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
