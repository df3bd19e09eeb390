"""How long Python needs before Postroom can begin: an import of a producer, and the commands that answer at once."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from resource import RUSAGE_CHILDREN, getrusage

from bench.graph import Graph
from bench.measures import Plan
from bench.room import rooms
from bench.rows import Row, at_most, rounded

TIMES = 15
PYTHON = [sys.executable, "-c"]
REDIS = [*PYTHON, "import redis"]
CLICK = [*PYTHON, "import click"]
OURS = [*PYTHON, "from postroom import Client, Mail"]
POSTROOM = [sys.executable, "-m", "postroom"]


def imports(graph: Graph, plan: Plan) -> Iterator[Row]:
    """CPU of whole processes, ours and its measure in turn."""
    with rooms(graph) as room:
        environment = room.environment
        pairs = _pairs(REDIS, OURS, plan, environment)
        yield Row(
            name="import-postroom",
            what="CPU of `from postroom import Client, Mail` beyond `import redis`",
            unit="ms",
            values=[ours - measure for measure, ours in pairs],
            target=at_most(150),
            beside=_beside(pairs),
        )
        for name, measure, command, most in (
            ("--help", CLICK, [*POSTROOM, "--help"], 1.5),
            ("status", REDIS, [*POSTROOM, "status", "none"], 2.0),
            ("jobs", REDIS, [*POSTROOM, "jobs"], 2.0),
        ):
            pairs = _pairs(measure, command, plan, environment)
            yield Row(
                name=f"quick-{name.strip('-')}",
                what=f"CPU of `postroom {name}` to that of `python -c '{measure[-1]}'`",
                unit="times",
                values=[ours / measure for measure, ours in pairs],
                target=at_most(most),
                beside=_beside(pairs),
            )


def _pairs(
    measure: list[str], ours: list[str], plan: Plan, environment: Mapping[str, str]
) -> list[tuple[float, float]]:
    _cpu_ms(ours, environment)  # now it is compiled
    return [(_cpu_ms(measure, environment), _cpu_ms(ours, environment)) for _ in range(plan.of(TIMES))]


def _beside(pairs: list[tuple[float, float]]) -> dict[str, float]:
    return {
        "measure": rounded(min(measure for measure, _ in pairs)),
        "postroom": rounded(min(ours for _, ours in pairs)),
    }


def _cpu_ms(command: list[str], settings: Mapping[str, str]) -> float:
    """CPU of a whole process, in milliseconds."""
    # What pip installs is compiled; this checkout is too once it was imported, unless it is told not to be.
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    before = getrusage(RUSAGE_CHILDREN)
    subprocess.run(command, env={**kept, **settings}, capture_output=True, timeout=60, check=False)
    after = getrusage(RUSAGE_CHILDREN)
    return 1000 * (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
