"""Which of libcurl's sockets may be used again: libcurl does not say by which socket it makes an exchange."""

import select
import socket
from collections.abc import Callable

Place = tuple[object, ...]  # local address, remote port, local port: what libcurl tells of a connection


class Sockets:
    """libcurl's sockets by their places. `on_open` is called with the number of each new socket.

    A place has no remote address, since libcurl tells a placeholder. So two sockets may be at one place; then neither
    is used again.
    """

    def __init__(self, on_open: Callable[[int], None]) -> None:
        self._on_open = on_open
        self._fds: dict[Place, set[int]] = {}
        self._places: dict[int, Place] = {}
        self._last_ids: dict[Place, str] = {}  # the client-request-id of the last request at each place

    def note(self, sock: socket.socket, fd: int) -> None:
        """libcurl has `sock` as `fd` from now on. OSError where its connection has ended already."""
        self._on_open(fd)
        if (before := self._places.pop(fd, None)) and (there := self._fds.get(before)):
            there.discard(fd)  # libcurl has closed that socket; this one has its number
            if not there:
                self.distrust(before)
        (address, port, *_), (_, port_there, *_) = sock.getsockname(), sock.getpeername()
        self._places[fd] = place = (address, port_there, port)
        self._fds.setdefault(place, set()).add(fd)

    def is_over(self, place: Place) -> bool:
        """Whether the connection there must not be used again: the server has closed it, or has sent something.

        libcurl looks for that too, but not again within a second.
        """
        there = self._fds.get(place, set())
        if len(there) != 1:
            return True
        poll = select.poll()
        poll.register(next(iter(there)), select.POLLIN)
        return bool(poll.poll(0))

    def distrust(self, place: Place) -> None:
        """Makes `is_over` true for the connection there, for good."""
        self._fds.pop(place, None)
        self._last_ids.pop(place, None)

    def is_of_last(self, place: Place, request_id: str, response_id: str) -> bool:
        """Whether a response is a second one to the request before this one, by their client-request-ids.

        It may have stood in libcurl's buffer, behind the first one, where `is_over` does not see it.
        """
        before = self._last_ids.get(place)
        self._last_ids[place] = request_id
        return bool(response_id) and response_id != request_id and response_id == before
