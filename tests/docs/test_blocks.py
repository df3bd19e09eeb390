"""Every block of Python and every command on the pages runs, as a reader would run them beside a `postroom dev`."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from postroom.cli.local_stack import everything, write_variables
from postroom.sandbox.control import Sandbox

from .pages import PAGES, ROOT, blocks, script

PATIENCE_S = 240


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder as a clone is, with templates and an environment; its path is short enough for a socket."""
    with TemporaryDirectory(prefix="pr-") as name:
        for part in ("templates", "examples"):
            shutil.copytree(ROOT / part, Path(name) / part)
        (Path(name) / ".venv").symlink_to(sys.prefix)
        yield Path(name)


def run(page: Path, language: str, folder: Path, environment: dict[str, str]) -> str:
    """What went wrong when the page's blocks of this language ran; empty if nothing did."""
    if not (text := script(page, language)):
        return ""
    file = folder / f"{page.stem}.{language}"
    file.write_text(text, encoding="utf-8")
    interpreter = [sys.executable] if language == "python" else ["bash", "-xeuo", "pipefail"]
    done = subprocess.run(
        [*interpreter, file.name],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    return f"{page.name}: exit {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-4000:]}" if done.returncode else ""


@pytest.mark.world
@pytest.mark.timeout(300)  # more than a hundred commands, of which each starts Python
@pytest.mark.skipif(not (shutil.which("openssl") and shutil.which("curl")), reason="the pages need openssl and curl")
def test_every_block_runs_and_the_mails_of_the_tour_arrive(folder: Path) -> None:
    log_file = folder / "log"
    with log_file.open("wb") as log, everything(folder / ".postroom", folder / "templates", log) as place:
        write_variables(folder / ".postroom/env", place.environment)
        write_variables(folder / ".postroom/api", place.api)
        environment = {"PATH": f"{sys.prefix}/bin:{os.environ['PATH']}", "HOME": str(folder), **place.environment}

        def faults(page: Path) -> list[str]:
            return [run(page, language, folder, environment) for language in ("console", "python")]

        with ThreadPoolExecutor(3) as pool:
            found = [fault for told in pool.map(faults, PAGES) for fault in told if fault]
        assert not found, "\n".join([*found, log_file.read_text(encoding="utf-8")[-4000:]])
        with Sandbox(place.sandbox["url"], place.sandbox["ca_file"]) as sandbox:
            subjects = {mail.subject for mail in sandbox.messages()}

    assert {
        "Welcome to Contoso, Ann",
        "Nightly report",
        "Order 4711 is on its way",
        "Wir schließen um 16:00",
        "By SMTP",
    } <= subjects
    assert "Reminder" not in subjects  # it was cancelled


def test_each_block_is_of_a_kind_that_is_run_or_that_is_known_not_to_be() -> None:
    kinds = {"python", "console", "toml", "sh", "text", ""}
    assert {block.language for page in PAGES for block in blocks(page)} <= kinds


def test_commands_stand_in_console_blocks_alone() -> None:
    for page in PAGES:
        for block in blocks(page):
            assert block.language == "console" or "\n$ " not in f"\n{block.code}", (page.name, block.line)
