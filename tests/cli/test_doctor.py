"""What `postroom doctor` prints."""

import json
from collections.abc import Sequence

import pytest
from click.testing import CliRunner
from rich.console import Console

from postroom.cli.doctor import print_findings, watch_until_green
from postroom.cli.main import main
from postroom.doctor.finding import Finding, Group, Level


def finding(level: Level = Level.RED, seen: str = "403", **fields: str) -> Finding:
    texts = {"name": "hr@contoso.com", "asked": "may it?", "meaning": "no scope", "next": "add it"} | fields
    return Finding(group=Group.MAILBOXES, level=level, seen=seen, **texts)


def printed(*found: Finding, width: int = 60) -> str:
    console = Console(width=width, highlight=False)
    with console.capture() as capture:
        list(print_findings(found, console))
    return capture.get()


def test_a_fault_shows_what_was_seen_means_and_is_next_and_the_summary_where_to_begin() -> None:
    lines = printed(finding(Level.GREEN, "yes", meaning="", next=""), finding()).splitlines()

    assert lines == [
        "",
        "mailboxes",
        "  ok      hr@contoso.com: may it? yes",
        "  FAULT   hr@contoso.com: may it?",
        "          seen  403",
        "          means no scope",
        "          next  add it",
        "",
        "1 fault(s), 0 to look at, 1 in order.",
        "Begin with mailboxes, hr@contoso.com: add it",
    ]


def test_what_others_said_cannot_command_the_terminal() -> None:
    told = printed(finding(seen="\x1b[2J\x1b]0;pwned\x07", meaning="\u202eevil", next="\x9b31m"))
    assert all(sign not in told for sign in ("\x1b", "\x07", "\u202e", "\x9b"))


def test_a_narrow_terminal_wraps_and_no_word_is_lost() -> None:
    words = [f"word{number}" for number in range(60)]
    told = printed(finding(seen=" ".join(words)), width=40)
    assert [word for word in told.split() if word.startswith("word")] == words
    assert max(map(len, told.splitlines()[:-1])) <= 40


def test_watching_waits_ever_longer_and_prints_a_line_for_each_change(capsys: pytest.CaptureFixture[str]) -> None:
    looks: list[list[Finding]] = [[finding()]] * 8 + [[finding(Level.YELLOW, "soon")], [finding(Level.GREEN, "yes")]]
    waits: list[float] = []

    last = watch_until_green([finding()], lambda: looks.pop(0), waits.append, as_json=False)

    assert last[0].level is Level.GREEN
    assert waits == [10, 20, 40, 80, 160, 320, 600, 600, 600, 600]
    lines = capsys.readouterr().out.strip().splitlines()
    assert [line.split(" ", 1)[1] for line in lines[1:]] == [
        "LOOK  mailboxes hr@contoso.com: soon -> add it",
        "ok    mailboxes hr@contoso.com: yes",
    ]


def test_ctrl_c_ends_watching_with_what_was_found_last() -> None:
    def interrupted(_: float) -> None:
        raise KeyboardInterrupt

    found = [finding()]
    assert watch_until_green(found, list, interrupted, as_json=False) is found


def test_changes_are_json_lines_where_json_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    watch_until_green([finding()], lambda: [finding(Level.GREEN, "yes")], lambda _: None, as_json=True)
    assert json.loads(capsys.readouterr().out)["level"] == "green"


@pytest.mark.parametrize("arguments", [["--only", "weather"], ["--sender", "nobody"], ["--send-to", "a@b\r\nBcc: c@d"]])
def test_what_cannot_be_meant_is_wrong_usage(arguments: Sequence[str]) -> None:
    assert CliRunner().invoke(main, ["doctor", *arguments]).exit_code == 2
