"""A process that is killed or frozen exactly at a failpoint of a mail. What it needs is in its environment:

HALT_AT      the failpoint; without it the process is as any other
HALT_WITH    the signal that it then sends to itself, KILL or STOP
HALT_AFTER   how often the failpoint is passed before that (0)
TOKEN_FIRST  1: it has a token for Graph before it gets its first mail, as all that have sent one
SHORT_LEASE  seconds: a worker's lease, which may be shorter than any operator may set it, for nobody shall wait for it

`celery -A tests.faults.halting worker` is such a worker, `python -m tests.faults.producer` such a producer.
"""

import os
import signal
import threading
from itertools import count
from typing import Any

from postroom.runtime import failpoints


def obey() -> None:
    """Makes this process halt as its environment says."""
    if "HALT_AT" not in os.environ:
        return
    where, number = failpoints.Failpoint(os.environ["HALT_AT"]), signal.Signals[f"SIG{os.environ['HALT_WITH']}"]
    last = int(os.environ.get("HALT_AFTER", "0"))
    passed = count()

    def halt(failpoint: failpoints.Failpoint) -> None:
        if failpoint is where and next(passed) == last:
            # To this thread: a signal to the process may strike another one first, and this one would run on.
            signal.pthread_kill(threading.get_ident(), number)

    failpoints.listener = halt


def __getattr__(name: str) -> Any:
    """`app`, made only where a worker asks for it: a producer has none."""
    if name != "app":
        raise AttributeError(name)
    from celery.signals import worker_init

    from postroom import tasks

    if "SHORT_LEASE" in os.environ:
        tasks.settings = tasks.settings.model_copy(update={"lease": float(os.environ["SHORT_LEASE"])})
    # A task whose worker died comes back after seconds, not after minutes.
    tasks.app.conf.broker_transport_options |= {
        "visibility_timeout": 3,
        "unacked_restore_interval": 1,
        "unacked_restore_throttle": 1,
    }
    if "TOKEN_FIRST" in os.environ:

        def ask_for_token(**_: object) -> None:
            for an_app in tasks._process_state().round_context.delivery.apps.values():
                an_app.tokens.get()

        worker_init.connect(ask_for_token, weak=False)
    obey()
    return tasks.app
