"""What the workers publish of their settings, so that every script of every process goes by the same rules."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from postroom.jobs.job import milliseconds
from postroom.mail.validation import MAX_MESSAGE


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneLimits:
    """What a lane keeps to. `rates` are (requests, seconds); none means no limit."""

    app: str
    parallel: int
    daily_recipients: int
    rates: tuple[tuple[int, float], ...]
    by_draft: bool = False  # each mail is sent from a draft

    @property
    def fields(self) -> dict[str, object]:
        """As the scripts read them; times are in milliseconds."""
        rates = [[count, milliseconds(seconds)] for count, seconds in self.rates]
        limits = {"app": self.app, "parallel": self.parallel, "daily": self.daily_recipients, "rates": rates or {}}
        return limits | ({"by_draft": True} if self.by_draft else {})

    def to_json(self) -> str:
        return json.dumps(self.fields)


# The defaults of settings. The Lua functions use them too where no worker has published any settings yet.
HOLD_PROBE_S, HOLD_PATIENCE_S = 60.0, 72 * 3600.0
UNKNOWN_LOOKUPS_S = (10.0, 60.0, 300.0)
# Exchange Online's limits.
DEFAULT_LIMITS = LaneLimits(app="default", parallel=4, daily_recipients=10_000, rates=((30, 60.0),))


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedSettings:
    """Limits, aliases, retention, and where results are kept."""

    defaults: LaneLimits
    lanes: Mapping[str, LaneLimits]
    aliases: Mapping[str, str]
    retention_accepted_s: float
    retention_dead_s: float
    results_here: bool  # Celery's results are in this Redis and db
    hold_probe_s: float  # from the start of a fault's hold to its first probe
    hold_patience_s: float  # how long a fault's hold keeps a job waiting
    first_look_s: float  # how long after an unknown outcome it is looked up first
    max_message: int = MAX_MESSAGE  # bytes of a whole mail, as Exchange counts them

    def to_json(self) -> str:
        """The fields that every script reads by config.lua."""
        fields = {
            "*": self.defaults.to_json(),
            "results": "redis" if self.results_here else "elsewhere",
            "hold_probe": str(milliseconds(self.hold_probe_s)),
            "hold_patience": str(milliseconds(self.hold_patience_s)),
            "first_look": str(milliseconds(self.first_look_s)),
            "max_message": str(self.max_message),
            "retention_accepted": str(milliseconds(self.retention_accepted_s)),
            "retention_dead": str(milliseconds(self.retention_dead_s)),
            **{f"lane:{lane}": limits.to_json() for lane, limits in self.lanes.items()},
            **{f"alias:{address}": lane for address, lane in self.aliases.items()},
        }
        return json.dumps(fields)
