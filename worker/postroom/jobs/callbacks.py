"""The task that a producer wants called at the end of its mail: a Celery signature, or the dict that one is."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Self

from postroom.errors import InvalidMail
from postroom.jobs.queues import HIGH_QUEUE, NORMAL_QUEUE

DEFAULT_QUEUE = "celery"  # Celery's own
# What is no queue of a producer's: our queues and keys, Celery's results, and what kombu keeps.
_OURS = {NORMAL_QUEUE, HIGH_QUEUE}
_TAKEN = ("{postroom}:", "celery-task-meta-", "_kombu.", "unacked")


class Callbacks(NamedTuple):
    """What a job's record says of them, as JSON; empty where nothing is called."""

    accepted: str = ""
    dead: str = ""

    @classmethod
    def of(cls, on_accepted: object, on_dead: object) -> Self:
        """From two signatures or None. InvalidMail if one is none, or asks for more than a queue."""
        return cls(accepted=_kept("on_accepted", on_accepted), dead=_kept("on_dead", on_dead))


NO_CALLBACKS = Callbacks()


def _kept(field: str, signature: object) -> str:
    if signature is None:
        return ""
    if not isinstance(signature, Mapping):
        raise InvalidMail(f"{field}: a Celery signature, or the dict that one is, not {type(signature).__name__}")
    args, kwargs = signature.get("args") or (), signature.get("kwargs") or {}
    queue = (signature.get("options") or {}).get("queue") or DEFAULT_QUEUE
    try:
        faults = list(_faults(signature, queue))
        texts = {"args": json.dumps(list(args)), "kwargs": json.dumps(dict(kwargs))}
    except (TypeError, ValueError, AttributeError) as error:
        raise InvalidMail(f"{field}: its args and kwargs must be JSON ({error})") from None
    if faults:
        raise InvalidMail([f"{field}: {fault}" for fault in faults])
    immutable = {"immutable": True} if signature.get("immutable") else {}
    return json.dumps({"task": signature["task"], "queue": str(queue), **texts, **immutable})


def _faults(signature: Mapping[str, Any], queue: object) -> Iterator[str]:
    task, options = signature.get("task"), signature.get("options") or {}
    if not isinstance(task, str) or not task:
        yield "task: the name of a task is needed"
    if signature.get("subtask_type"):
        yield f"one task can be called, not a {signature['subtask_type']}"
    if not isinstance(queue, str) or queue in _OURS or queue.startswith(_TAKEN):
        yield "options.queue: the name of a queue of your own workers is needed"
    if unknown := sorted(set(options) - {"queue"}):
        yield f"options: only queue can be kept, not {', '.join(unknown)}"
