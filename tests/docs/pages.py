"""The pages that people read, and the blocks of code in them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")] + sorted(ROOT.glob("docs/**/*.md"))
REFERENCE = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)

_BLOCK = re.compile(
    r"(?P<skip><!-- not run: [^\n]+ -->\n)?^```(?P<language>\w*)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True, slots=True)
class Block:
    """`line` is where its code begins on the page, from 1."""

    language: str
    code: str
    line: int
    runs: bool


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    for match in _BLOCK.finditer(text):
        line = text.count("\n", 0, match.start("code")) + 1
        yield Block(match["language"], match["code"], line, match["skip"] is None)


def script(page: Path, language: str) -> str:
    """The page's blocks of one language as one script, each line where it stands on the page; empty if there are none.

    Of a console block, what follows a `$ ` counts; the rest is output.
    """
    lines: dict[int, str] = {}
    for block in blocks(page):
        if block.language == language and block.runs:
            lines |= dict(enumerate(block.code.splitlines(), block.line))
    if language == "console":
        lines = {number: text.removeprefix("$ ") for number, text in lines.items() if text.startswith("$ ")}
    return "".join(f"{lines.get(number, '')}\n" for number in range(1, max(lines) + 1)) if lines else ""


def prose(page: Path) -> str:
    """The page without its blocks."""
    return _BLOCK.sub("", page.read_text(encoding="utf-8"))


def rows(page: str, heading: str = "") -> dict[str, list[str]]:
    """The rows of the tables below a heading (of the whole page without one), by what stands in their first cell."""
    text = prose(ROOT / page)
    if heading:
        text = re.split(r"^#+ ", text.partition(f"\n{heading}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]
    found = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")] if line.startswith("| ") else []
        if cells and not set(cells[0]) <= {"-", " "}:
            found[cells[0].strip("`")] = cells[1:]
    return found
