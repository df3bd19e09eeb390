"""The list of reasons is complete: it has all reasons that Python and Lua code name, and no others."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from postroom.graph import answers, entra_answers
from postroom.jobs.outcome import Answer
from postroom.jobs.reasons import REASONS, Kind, reason_of
from tests.docs.pages import ROOT
from tests.docs.tables import PAGE, written

SOURCE = ROOT / "worker/postroom"
# These packages have their own reasons: refusals of the HTTP API, events that made no mail, the sandbox.
OTHERS = ("api", "cloudevents", "sandbox")
MAKERS = {"Deferred", "Held", "Refused", "Unknown", "Transition", "Pause", "MakeAnew"}
LUA = (
    r"(?:finish|status\.set)\(\w+, \w+, '\w+', (?:job\.in_doubt and '(\w+)' or )?'(\w+)'\)",
    r"\breason = '(\w+)'",
    r'"reason":"(\w+)"',
    r"\bpause\([^\n]*, '(\w+)'\)",
)


def python_files() -> Iterator[Path]:
    for file in SOURCE.rglob("*.py"):
        if file.relative_to(SOURCE).parts[0] not in OTHERS and file.name != "reasons.py":
            yield file


def reasons_in_python() -> Iterator[tuple[str, str]]:
    """Each reason that is written out, with its file."""
    for file in python_files():
        for call in (
            node for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)
        ):
            name = call.func.id if isinstance(call.func, ast.Name) else ""
            given = [keyword.value for keyword in call.keywords if keyword.arg == "reason" and name in MAKERS]
            given += call.args[:1] if re.fullmatch(r"_(held|refused|deferred|unknown|no_token)|MakeAnew", name) else []
            for value in given:
                if isinstance(value, ast.Constant) and isinstance(value.value, str):
                    yield value.value, file.name


def reasons_in_lua() -> Iterator[tuple[str, str]]:
    for file in SOURCE.rglob("*.lua"):
        text = file.read_text(encoding="utf-8")
        for pattern in LUA:
            for match in re.finditer(pattern, text):
                yield from ((reason, file.name) for reason in match.groups() if reason)


def test_every_reason_in_the_code_is_in_the_list() -> None:
    found = {*reasons_in_python(), *reasons_in_lua()}
    assert len(found) > 60, "the patterns have gone blind"
    assert {(reason, file) for reason, file in found if reason not in REASONS} == set()


def test_every_answer_of_graph_and_entra_has_a_reason_of_the_list() -> None:
    for verdict in [*answers._BY_CODE.values(), *answers._BY_STATUS.values(), *entra_answers._ENTRA.values()]:
        for asked in (None, 1.0):
            reason = getattr(verdict(Answer(), asked), "reason", None)
            assert reason is None or reason in REASONS


def test_every_reason_of_the_list_is_in_the_code() -> None:
    code = "".join(file.read_text(encoding="utf-8") for file in [*python_files(), *SOURCE.rglob("*.lua")])
    assert [name for name in REASONS if name != "http_…" and not re.search(rf"""['"]{name}['"]""", code)] == []


def test_the_page_has_the_tables_of_the_list() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == written(page), "make tables writes them"
    assert all(f"<!-- reasons: {kind} -->" in page for kind in Kind)


@pytest.mark.parametrize(("name", "kind"), [("template", Kind.REFUSED), ("http_418", Kind.PASSING)])
def test_the_entry_of_a_reason_is_found_by_its_name(name: str, kind: Kind) -> None:
    reason = reason_of(name)
    assert reason
    assert reason.kind is kind


def test_a_reason_in_graph_s_own_words_has_no_entry() -> None:
    assert reason_of("something_else") is None
