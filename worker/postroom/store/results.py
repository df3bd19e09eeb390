"""Celery's results in a backend that is not this Redis: which are due, and what they should show."""

import json
from typing import Any, NamedTuple

from postroom.store.functions import Connection, run


class ResultDue(NamedTuple):
    """A job's result in Celery's words. `state` is None for PENDING; `ids` are the task ids that show it."""

    changed: str
    state: str | None
    result: Any
    ids: tuple[str, ...]


class Results:
    """Results for a backend that is not this Redis. Each raises Unavailable."""

    def __init__(self, connection: Connection) -> None:
        self._redis = connection

    def mirror(self, job_id: str, shown_as: str, now: int | None = None) -> None:
        """Makes the result of `job_id` appear under `shown_as` too (a Celery task id whose key was known already)."""
        run(self._redis, "mirror", now, job_id, shown_as)

    def results_due(self, now: int | None = None) -> list[str]:
        """Jobs whose results another backend should show; the caller has them to itself for half a minute."""
        return [job_id.decode() for job_id in run(self._redis, "results_due", now)]

    def result_due(self, job_id: str) -> ResultDue | None:
        """What another result backend should show for this job; None if its record is gone."""
        answer = run(self._redis, "result_due", None, job_id)
        if not answer:
            return None
        changed, state, result = (part.decode() for part in answer[:3])
        ids = tuple(shown.decode() for shown in answer[3])
        return ResultDue(changed=changed, state=state or None, result=json.loads(result or "null"), ids=ids)

    def result_stored(self, job_id: str, changed: str) -> bool:
        """Takes a job off the list of results due, unless it has changed since; True when it is off the list."""
        return bool(run(self._redis, "result_stored", None, job_id, changed)[0] == b"stored")
