"""How busy one app keeps one mailbox, and where Graph's limits stand in its way. Time is an argument."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from math import ceil

from postroom.sandbox.exchange.errors import GraphError

REQUESTS, REQUESTS_WINDOW = 10_000, 600
UPLOAD, UPLOAD_WINDOW = 150 * 1024 * 1024, 300
DAILY_RECIPIENTS, DAY = 10_000, 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What is refused, and how: `refuse_above` is a rate per minute that Exchange itself does not have."""

    on: bool = True
    in_flight: int = 4
    per_minute: int = 30
    refuse_above: int | None = None
    retry_after: float = 1.0


class SlidingSum:
    """Amounts added up over the last `window` seconds, kept in at most 600 portions so that memory is bounded."""

    def __init__(self, window: float) -> None:
        self._window = window
        self._portion = window / 600
        self._portions: deque[tuple[float, int]] = deque()
        self._sum = 0

    def add(self, amount: int, now: float) -> None:
        """Counts this amount as of now."""
        self._sum += amount
        if self._portions and now < self._portions[-1][0] + self._portion:
            since, before = self._portions.pop()
            self._portions.append((since, before + amount))
        else:
            self._portions.append((now, amount))
            self.total(now)

    def total(self, now: float) -> int:
        """What was added within the window that ends now."""
        while self._portions and self._portions[0][0] <= now - self._window:
            self._sum -= self._portions.popleft()[1]
        return self._sum

    def wait(self, now: float) -> float:
        """Seconds until the oldest amount leaves the window."""
        return max(0.0, self._portions[0][0] + self._window - now) if self._portions else 0.0


class BusiestMinute:
    """The most events that any 60 seconds have held, to the event."""

    def __init__(self) -> None:
        self._moments: deque[float] = deque()
        self.most = 0

    def add(self, now: float) -> int:
        """Counts one event; the number of events in the minute that ends with it."""
        moments = self._moments
        moments.append(now)
        while moments[0] <= now - 60:
            moments.popleft()
        self.most = max(self.most, len(moments))
        return len(moments)


class Meter:
    """The traffic of one app in one mailbox."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.in_flight = 0
        self.highest_in_flight = 0
        self.accepted = 0
        self.throttled = 0
        self.recipients = 0
        self.arrivals = BusiestMinute()
        self.sent = BusiestMinute()
        self._requests = SlidingSum(REQUESTS_WINDOW)
        self._upload = SlidingSum(UPLOAD_WINDOW)
        self._daily = SlidingSum(DAY)
        self._deliveries: deque[float] = deque(maxlen=max(1, limits.per_minute))

    def enter(self, size: int, now: float) -> GraphError | None:
        """Counts a request in; the 429 it earns, if any. A refused request counts against the limits too."""
        self.in_flight += 1
        self.highest_in_flight = max(self.highest_in_flight, self.in_flight)
        self._requests.add(1, now)
        self._upload.add(size, now)
        in_this_minute = self.arrivals.add(now)
        return self._over(in_this_minute, now) if self.limits.on else None

    def leave(self) -> None:
        """Counts a request out."""
        self.in_flight -= 1

    def accept(self, recipients: int, now: float) -> float:
        """Counts an accepted mail; the seconds by which Exchange carries it over into later minutes."""
        self.accepted += 1
        self.recipients += recipients
        self._daily.add(recipients, now)
        self.sent.add(now)
        deliveries = self._deliveries
        full = len(deliveries) == deliveries.maxlen
        delivered_at = max(now, deliveries[0] + 60) if full else now
        deliveries.append(delivered_at)
        return delivered_at - now

    def over_daily_recipients(self, now: float) -> bool:
        """Whether the last 24 hours hold more recipients than Exchange lets a mailbox have: NDR 5.1.90."""
        return self._daily.total(now) > DAILY_RECIPIENTS

    def _over(self, in_this_minute: int, now: float) -> GraphError | None:
        limits = self.limits
        if self.in_flight > limits.in_flight:
            return throttled("Application is over its MailboxConcurrency limit.", limits.retry_after)
        if limits.refuse_above is not None and in_this_minute > limits.refuse_above:
            return throttled("Application is over its request rate for this mailbox.", limits.retry_after)
        if self._requests.total(now) > REQUESTS:
            return throttled("Application is over its MailboxRequests limit.", ceil(self._requests.wait(now)))
        if self._upload.total(now) > UPLOAD:
            return throttled("Application is over its MailboxUpload limit.", ceil(self._upload.wait(now)))
        return None


def throttled(message: str, retry_after: float) -> GraphError:
    """Graph's 429."""
    return GraphError(429, "ApplicationThrottled", message, {"retry-after": f"{max(retry_after, 0):g}"})
