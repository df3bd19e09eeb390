"""A process that does as it is told: one JSON object a line, and one back with what it took. Producers are such.

What it has imported and connected before the first order is not part of what an order takes.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import psutil

Order = Callable[..., dict[str, Any] | None]


def obey(**orders: Order) -> None:
    """Reads orders from standard input until it ends. An answer has the order's own figures, CPU and wall seconds."""
    own = psutil.Process(os.getpid())
    for line in sys.stdin:
        given = json.loads(line)
        do = orders[given.pop("do")]
        wall, cpu = time.monotonic(), time.process_time()
        found = do(**given) or {}
        took = {"cpu_s": time.process_time() - cpu, "wall_s": time.monotonic() - wall, "rss": own.memory_info().rss}
        # Whatever a library prints goes to standard error with the rest of it.
        os.write(1, json.dumps(took | found).encode() + b"\n")
