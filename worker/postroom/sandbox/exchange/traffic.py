"""How much one app does in one mailbox, and which limits of Graph it reaches. Time is an argument."""

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
    """The limits. `refuse_above` is a rate per minute above which requests are refused; Exchange has none."""

    on: bool = True
    in_flight: int = 4
    per_minute: int = 30
    refuse_above: int | None = None
    retry_after: float = 1.0


class SlidingSum:
    """The sum of amounts over the last `window` seconds, kept in at most 600 parts to limit memory."""

    def __init__(self, window: float) -> None:
        self._window = window
        self._portion = window / 600
        self._portions: deque[tuple[float, int]] = deque()
        self._sum = 0

    def add(self, amount: int, now: float) -> None:
        """Adds this amount now."""
        self._sum += amount
        if self._portions and now < self._portions[-1][0] + self._portion:
            since, before = self._portions.pop()
            self._portions.append((since, before + amount))
        else:
            self._portions.append((now, amount))
            self.total(now)

    def total(self, now: float) -> int:
        """What was added within the last `window` seconds."""
        while self._portions and self._portions[0][0] <= now - self._window:
            self._sum -= self._portions.popleft()[1]
        return self._sum

    def wait(self, now: float) -> float:
        """Seconds until the oldest amount leaves the window."""
        return max(0.0, self._portions[0][0] + self._window - now) if self._portions else 0.0


class BusiestMinute:
    """The largest number of events within any 60 seconds, exactly."""

    def __init__(self) -> None:
        self._moments: deque[float] = deque()
        self.most = 0

    def add(self, now: float) -> int:
        """Counts one event, and returns how many there were within the minute that ends with it."""
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
        """Notes that a request has begun, and returns the 429 for it, if any. Refused requests count too."""
        self.in_flight += 1
        self.highest_in_flight = max(self.highest_in_flight, self.in_flight)
        self._requests.add(1, now)
        self._upload.add(size, now)
        in_this_minute = self.arrivals.add(now)
        return self._over(in_this_minute, now) if self.limits.on else None

    def leave(self) -> None:
        """Notes that a request has ended."""
        self.in_flight -= 1

    def accept(self, recipients: int, now: float) -> float:
        """Counts an accepted mail, and returns by how many seconds Exchange delays it."""
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
        """Whether the last 24 hours had more recipients than a mailbox may have; Exchange returns an NDR 5.1.90."""
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
    """The error for a request that is throttled: Graph's 429."""
    return GraphError(429, "ApplicationThrottled", message, {"retry-after": f"{max(retry_after, 0):g}"})
