"""What `import postroom` costs a producer, beside `import redis`, which it needs anyhow."""

import os
import subprocess
import sys
from collections.abc import Iterator

from bench.graph import Graph
from bench.measures import Plan
from bench.rows import Row, at_most, rounded

TIMES = 15
REDIS = "import redis"
OURS = "from postroom import Client, Mail"


def imports(graph: Graph, plan: Plan) -> Iterator[Row]:
    """CPU of fresh interpreters, in turn; the differences of neighbours."""
    del graph
    _cpu_ms(OURS)  # now it is compiled
    pairs = [(_cpu_ms(REDIS), _cpu_ms(OURS)) for _ in range(plan.of(TIMES))]
    yield Row(
        name="import-postroom",
        what=f"CPU of `{OURS}` beyond `{REDIS}`",
        unit="ms",
        values=[ours - redis for redis, ours in pairs],
        target=at_most(150),
        beside={
            "redis": rounded(min(redis for redis, _ in pairs)),
            "postroom": rounded(min(ours for _, ours in pairs)),
        },
    )


def _cpu_ms(code: str) -> float:
    code = f"{code}\nimport time\nprint(time.process_time() * 1000)"
    # What pip installs is compiled; this checkout is too once it was imported, unless it is told not to be.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-c", code]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True)
    return float(ran.stdout)
