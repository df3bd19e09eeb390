"""docs/data-model.md against the code: each key and field that is used is on the page, with who writes and reads it."""

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from postroom.jobs.lane_limits import DEFAULT_LIMITS, PublishedSettings
from tests.docs.pages import ROOT

PAGE = ROOT / "docs/data-model.md"
SOURCE = ROOT / "worker/postroom"
LUA = SOURCE / "store/lua"
# What note.lua keeps for a worker (delivery/drafts.py, delivery/uploads.py).
NOTED = {"draft", "drafting", "to_add", "upload", "range", "late_draft"}
# Names of keys that are made of others.
GENERIC = {"index", "state"}
# The three hashes that states.lua reads and writes by the same function.
STATES = {"lane", "held_batch"}
Users = dict[str, set[str]]


def lua(file: Path) -> str:
    return re.sub(r"--.*", "", file.read_text(encoding="utf-8"))


def files() -> Iterator[tuple[str, str]]:
    for file in sorted(LUA.rglob("*.lua")):
        yield file.stem, lua(file)


def table(heading: str) -> dict[str, tuple[set[str], set[str]]]:
    """By the name in its first column, the writers and the readers of each row below a heading."""
    text = PAGE.read_text(encoding="utf-8").partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    rows = [line.strip("|").split(" | ") for line in text.splitlines() if line.startswith("| `")]
    names = [re.findall(r"`([^`]+)`", row[0])[0] for row in rows]
    assert len(names) == len(set(names))
    return {name: (named_in(row[-2]), named_in(row[-1])) for name, row in zip(names, rows, strict=True)}


def named_in(cell: str) -> set[str]:
    return set(re.findall(r"[a-z_]+(?:\.py)?", cell))


# Keys


def key_names() -> dict[str, str]:
    """What keys.lua calls each key, and the key without its prefix, such as `ready:<class>:<lane>`."""
    text = lua(LUA / "lib/keys.lua")
    names = dict(re.findall(r"^  (\w+) = P \.\. '([^']+)'", text, re.MULTILINE))
    for name, made_of in re.findall(r"function M\.(\w+)\([^)]*\) return (?:P \.\. )?(.*) end", text):
        parts = [f"<{part}>" if not part.startswith("'") else part.strip("'") for part in made_of.split(" .. ")]
        names[name] = "".join(parts)
    return {name: key for name, key in names.items() if name not in GENERIC}


def users_of_keys() -> Users:
    """By key, the files that name it."""
    names, users = key_names(), defaultdict(set)
    for stem, text in files():
        for name in re.findall(r"(?<![.\w])keys\.(\w+)", text):
            if stem != "keys" and name not in GENERIC:
                users[names[name]].add(stem)
    for name in STATES:
        users[names[name]].add("states")
    for file in SOURCE.rglob("*.py"):
        for key in keys_in_python(file.read_text(encoding="utf-8")):
            name = next((known for known in users if alike(known, key)), key + "<digest>" * key.endswith(":"))
            users[name].add(file.name)
    return users


def keys_in_python(text: str) -> set[str]:
    """What stands behind the prefix of our keys."""
    if "store.functions import PREFIX" not in text and "store.constants import PREFIX" not in text:
        return set()
    formatted = re.findall(r'f"\{PREFIX\}([^"]+)"', text)
    return {re.sub(r"\{[^}]*\}", "<>", key) for key in formatted} | set(re.findall(r'PREFIX \+ "([^"]+)"', text))


def alike(known: str, key: str) -> bool:
    return re.sub(r"<[^>]*>", "", known) == re.sub(r"<[^>]*>", "", key)


def test_every_key_is_on_the_page_with_all_who_use_it() -> None:
    rows = table("Keys")
    used = users_of_keys()
    assert rows.keys() == set(used) | {"app:<app>"}
    assert {key: set.union(*rows[key]) for key in used} == used


def test_only_the_store_and_few_others_name_keys_in_python() -> None:
    names = {file.name for file in SOURCE.rglob("*.py") if keys_in_python(file.read_text(encoding="utf-8"))}
    assert names == {
        "api_keys.py",
        "attachments.py",
        "journal.py",
        "queries.py",
        "sign_ins.py",
        "stats.py",
        "unmatched.py",
    }


# Fields of a record


def balanced(text: str, start: int) -> str:
    """From an opening brace to its end."""
    depth = 0
    for at in range(start, len(text)):
        depth += {"{": 1, "}": -1, "(": 1, ")": -1}.get(text[at], 0)
        if depth == 0:
            return text[start : at + 1]
    raise AssertionError(text[start : start + 80])


def fields_made(text: str) -> Iterator[str]:
    """The names in tables of fields that become part of a record."""
    for made in re.finditer(r"\bupdate\(\s*\w+, \w+, (?=\{)|local (?:job|fields) = (?=\{)|return id, (?=\{)", text):
        inside = balanced(text, made.end())[1:-1]
        while (shorter := re.sub(r"\{[^{}]*\}|\([^()]*\)", "", inside)) != inside:
            inside = shorter
        yield from re.findall(r"(?:^|,)\s*(\w+) = ", inside)
    for command in re.findall(r"'HSET', keys\.job\(\w+\), ([^\n]*)", text):
        yield from re.findall(r"^'(\w+)'", command)


def fields_of_records() -> tuple[Users, Users]:
    """By field of a job's record, who writes and who reads it."""
    writers, readers = defaultdict(set), defaultdict(set)
    for stem, text in files():
        for field in fields_made(text):
            writers[field].add(stem)
        for line in text.splitlines():
            assignment = re.match(r"\s*([\w., ]+?) = ", line)
            if assignment:
                for field in re.findall(r"\bjob\.(\w+)", assignment[1]):
                    writers[field].add(stem)
            for field in re.findall(r"\b(?:job|old)\.(\w+)", line[assignment.end() :] if assignment else line):
                readers[field].add(stem)
        for names in re.findall(r"'HM?GET', keys\.job\([\w.]+\),\s*([^)]*)\)", text):
            for field in re.findall(r"'(\w+)'", names):
                readers[field].add(stem)
    for field in NOTED:
        writers[field].add("note")
    for name in ("jobs/job.py", "store/queries.py"):
        text = (SOURCE / name).read_text(encoding="utf-8")
        for field in re.findall(r'\brecord(?:\.get\(|\[)"(\w+)"|"(\w+)" in record\b', text):
            readers["".join(field)].add(Path(name).name)
    return writers, readers


def test_every_field_of_a_record_is_on_the_page_with_who_writes_and_reads_it() -> None:
    writers, readers = fields_of_records()
    rows = table("The record of a job")
    assert rows.keys() == writers.keys() | readers.keys()
    assert {field: rows[field] for field in rows} == {field: (writers[field], readers[field]) for field in rows}


def test_what_is_noted_for_a_worker_is_what_it_notes() -> None:
    code = "".join(file.read_text(encoding="utf-8") for file in (SOURCE / "delivery").glob("*.py"))
    assert {field for field in NOTED if re.search(rf'"{field}"|\b{field}="1"', code)} == NOTED


# Fields of lanes, apps and held batches


def arguments(text: str, start: int) -> list[str]:
    """The arguments of a call whose bracket opens at `start`."""
    inside, depth, parts = balanced(text, start)[1:-1], 0, [""]
    for sign in inside:
        depth += {"{": 1, "}": -1, "(": 1, ")": -1}.get(sign, 0)
        if sign == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += sign
    return [part.strip() for part in parts]


def fields_of_states() -> tuple[Users, Users]:
    """By field of a lane's, an app's or a held batch's hash, who writes and who reads it."""
    writers, readers = defaultdict(set), defaultdict(set)
    for stem, text in files():
        for call in re.finditer(r"states\.write(?=\()", text):
            command, _, _, *rest = arguments(text, call.end())
            for field in rest[:: 2 if command == "'HSET'" else 1][: None if command != "'HINCRBY'" else 1]:
                writers[state_field(field)].add(stem)
        for field in re.findall(r"'HSET(?:NX)?', key, (.*)\)", text):
            for name in re.findall(r"'(stopped_\w+)'", field):
                writers[name].add(stem)
        if stem == "releasing":
            for name in re.findall(r"'(stopped_\w+)'", text.partition("FIELDS = ")[2].partition("\n")[0]):
                writers[name].add(stem)
        read = r"(?<![.\w'])(?:lane_state|app_state|state|own|apps|app|hold|longest)\.(\w+)"
        for field in re.findall(read, text) + re.findall(r"states\.read\((?:[^()]|\([^()]*\))*\)\.(\w+)", text):
            readers[field].add(stem)
        if "'patience:'" in text:
            readers["patience:<class>"].add(stem)
    return writers, readers


def state_field(argument: str) -> str:
    return "patience:<class>" if argument in ("field", "'patience:' .. class") else argument.strip("'")


def test_every_field_of_lanes_apps_and_holds_is_on_the_page_with_who_writes_and_reads_it() -> None:
    writers, readers = fields_of_states()
    rows = table("Lanes, apps and held batches")
    assert rows.keys() == writers.keys() | readers.keys()
    assert {field: rows[field] for field in rows} == {field: (writers[field], readers[field]) for field in rows}


# Settings


def test_every_published_setting_is_on_the_page_with_who_reads_it() -> None:
    rules = PublishedSettings(
        defaults=DEFAULT_LIMITS, lanes={"<lane>": DEFAULT_LIMITS}, aliases={"<address>": ""}, retention_accepted_s=1,
        retention_dead_s=1, results_here=True, hold_probe_s=1, hold_patience_s=1, first_look_s=1,
    )  # fmt: skip
    published = set(json.loads(rules.to_json()))
    readers = defaultdict(set)
    for stem, text in files():
        for name in re.findall(r"config\.setting\('(\w+)'|'(retention_\w+)'", text):
            readers["".join(name)].add(stem)
    rows = PAGE.read_text(encoding="utf-8").partition("\n## Settings\n")[2].splitlines()
    told = {re.findall(r"`([^`]+)`", row)[0]: named_in(row.split(" | ")[-1]) for row in rows if row.startswith("| `")}
    assert told.keys() == published
    assert {name: told[name] for name in readers} == readers
