"""The Lua library as a whole: its modules, and how much room the language's limits leave."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from postroom.runtime.celery_pool import ROUND
from postroom.store import constants, functions

LUA = Path(functions.__file__).parent / "lua"
LUAC = shutil.which("luac5.1") or shutil.which("luac")


def test_every_module_has_its_place_in_the_order() -> None:
    assert sorted(functions.MODULES) == sorted(file.stem for file in (LUA / "lib").glob("*.lua"))
    assert len(set(functions.MODULES)) == len(functions.MODULES)


def test_a_module_needs_only_those_before_it() -> None:
    names = "|".join(functions.MODULES)
    for place, name in enumerate(functions.MODULES):
        code = re.sub(r"--.*", "", (LUA / "lib" / f"{name}.lua").read_text(encoding="utf-8"))
        used = set(re.findall(rf"(?<![.\w'])({names})\.\w", code))
        assert used <= set(functions.MODULES[:place]), name


def test_every_function_has_a_name_of_its_own() -> None:
    names = [file.stem for file in LUA.glob("functions/*/*.lua")]
    assert len(names) == len(set(names))
    assert {file.parent.parent.name for file in LUA.rglob("*.lua")} <= {"lua", "functions"}


@pytest.mark.skipif(LUAC is None, reason="luac not found (Debian and Ubuntu: apt install lua5.1)")
def test_the_language_leaves_room(tmp_path: Path) -> None:
    """A function of Lua has at most 200 locals and 60 upvalues; the library is the body of one."""
    library = tmp_path / "library.lua"
    library.write_text(f"local LIBRARY = ''\n{functions.CODE}", encoding="utf-8")
    listing = subprocess.run([str(LUAC), "-l", "-p", str(library)], capture_output=True, text=True, check=True).stdout

    sizes = list(sizes_in(listing))

    assert len(sizes) > 200
    assert sizes[0][1] <= 50
    assert max(upvalues for upvalues, _ in sizes) <= 30


def sizes_in(listing: str) -> Iterator[tuple[int, int]]:
    """Of each function, the library itself first: how many upvalues and locals it has."""
    for upvalues, count in re.findall(r"(\d+) upvalues?, (\d+) locals?,", listing):
        yield int(upvalues), int(count)


def test_values_that_python_and_lua_share_are_written_in_python_alone() -> None:
    modules = "".join(file.read_text(encoding="utf-8") for file in LUA.rglob("*.lua"))
    for value in (functions.PREFIX, "postroom.high", "4000000", "36700160"):
        assert value not in modules
    for name in re.findall(r"^  (\w+) = ", constants.as_lua(), re.MULTILINE):
        assert f"constants.{name}" in modules, name
    assert f"ROUND_TASK = '{ROUND}'" in constants.as_lua()


def test_only_one_file_spells_keys() -> None:
    assert [file.stem for file in LUA.rglob("*.lua") if "KEY_PREFIX" in file.read_text(encoding="utf-8")] == ["keys"]


def test_there_is_one_place_where_a_mail_ends_and_one_where_an_attempt_is_recorded() -> None:
    texts = {file.stem: file.read_text(encoding="utf-8") for file in LUA.rglob("*.lua")}
    assert [name for name, text in texts.items() if "'RPUSH', keys.attempts" in text] == ["attempts"]
    assert [name for name, text in texts.items() if "place = 'ended', ended" in text] == ["ending"]
    for told, places in (("journal.note_attempt(", ["attempts"]), ("journal.note_end(", ["ending"])):
        assert [name for name, text in texts.items() if told in text] == places
