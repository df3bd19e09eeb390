"""Wrong passwords and keys: where they come from, and how long such clients must wait."""

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

MOST_KNOWN = 10_000  # addresses


class Failures:
    """How long a client must wait for its next try: the more passwords or keys were wrong lately, the longer.

    What was right before is not checked again (`Logins.known`), or is never made to wait (API keys), so no client waits
    because of others at the same address.
    """

    def __init__(
        self, *, free: int = 2, first_s: float = 1.0, longest_s: float = 10.0, window_s: float = 600.0
    ) -> None:
        self._free, self._first_s, self._longest_s, self._window_s = free, first_s, longest_s, window_s
        self._times: dict[str, list[float]] = {}

    def wait(self, host: str, now: float) -> float:
        """How many seconds to wait. `now` is a monotonic time in seconds."""
        times = [time for time in self._times.get(site(host), []) if time > now - self._window_s]
        more = len(times) - self._free
        return min(self._first_s * 2.0**more, self._longest_s) if more >= 0 else 0.0

    def note(self, host: str, now: float) -> None:
        """Notes a wrong password or key."""
        place = site(host)
        self._times[place] = [*self._times.pop(place, [])[-20:], now]  # the last one is the newest
        if len(self._times) > MOST_KNOWN:
            del self._times[next(iter(self._times))]


def site(host: str) -> str:
    """What one attacker can use: an IPv4 address, or a /64 network of IPv6."""
    address = address_of(host)
    return str(ip_network((address, 64), strict=False)) if isinstance(address, IPv6Address) else str(address or host)


def address_of(host: str) -> IPv4Address | IPv6Address | None:
    """The IP address, or None. An IPv4 address mapped into IPv6 becomes IPv4."""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address
