"""What a worker goes by. All workers should go by the same, so that a mail fares the same with each of them."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerFacts:
    """`settings` and `templates` are fingerprints; `names` are those of its templates.

    `redirect_all_to` is POSTROOM_REDIRECT_ALL_TO, None if it is not set. `expiring` are the apps whose credential ends
    soon, with when it does (milliseconds since 1970).
    """

    version: str
    settings: str
    templates: str
    names: tuple[str, ...] = ()
    redirect_all_to: str | None = None
    expiring: Mapping[str, int] = field(default_factory=dict)

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str | bytes) -> "WorkerFacts":
        """What `to_json` wrote, perhaps in a newer version: what is unknown to this one is left out."""
        facts = json.loads(text)
        known = {name: facts[name] for name in cls.__slots__ if name in facts}
        return cls(**known | {"names": tuple(facts.get("names", ()))})
