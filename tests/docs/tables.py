"""Writes the tables of pages that come from the code: `python -m tests.docs.tables`."""

import re
from itertools import groupby

from postroom.jobs.reasons import REASONS, Kind, Reason
from tests.docs import bounds
from tests.docs.pages import ROOT

PAGE = ROOT / "docs/operations.md"
PLACE = re.compile(r"(<!-- reasons: (\w+) -->\n).*?(<!-- end of reasons -->)", re.DOTALL)


def table(kind: Kind) -> str:
    """The rows of one kind; reasons that mean the same share a row."""
    reasons = [reason for reason in REASONS.values() if reason.kind is kind]
    with_steps = any(reason.next_step for reason in reasons)
    lines = [
        _row("reason", "meaning", *(["what to do"] if with_steps else [])),
        _row(*["---"] * (3 if with_steps else 2)),
    ]
    for _, group in groupby(reasons, _says):
        alike = list(group)
        names = ", ".join(f"`{reason.name}`" for reason in alike)
        lines.append(_row(names, alike[0].meaning, *[alike[0].next_step] * with_steps))
    return "".join(lines)


def written(page: str) -> str:
    """The page with its tables as they should be."""
    return PLACE.sub(lambda place: f"{place[1]}\n{table(Kind(place[2]))}\n{place[3]}", page)


def _says(reason: Reason) -> tuple[str, str]:
    return reason.meaning, reason.next_step


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |\n"


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    bounds.PAGE.write_text(bounds.written(bounds.PAGE.read_text(encoding="utf-8")), encoding="utf-8")
