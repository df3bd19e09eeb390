"""Reads JSON strictly, so that it has only one meaning: no duplicate names in an object, no NaN, limited nesting."""

import json
import re
from typing import Any

from postroom.mail.json_text import DEEPEST, TOO_DEEP

MOST_VALUES = 500_000  # a value takes up to a hundred bytes of memory, whatever its text


def read(text: bytes) -> Any:
    """The value of a JSON text. ValueError says what is wrong with it."""
    # Each value but the first follows a comma, a colon or an opening bracket. Some of these characters are in strings.
    if sum(map(text.count, (b",", b"[", b"{"))) > MOST_VALUES and _values(text) > MOST_VALUES:
        raise ValueError(f"it has more than {MOST_VALUES:,} values")
    try:
        value = json.loads(text.decode(), object_pairs_hook=_each_name_once, parse_constant=_no_number)
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"it is no JSON: {error.msg} at line {error.lineno}, column {error.colno}") from None
    except RecursionError:
        raise _too_deep() from None
    _check_depth(value)
    return value


def _values(text: bytes) -> int:
    """The approximate number of values in a JSON text: the number of separators outside of strings."""
    return len(re.sub(rb'"(?:[^"\\]|\\.)*"|[^,\[{]', b"", text))


def _each_name_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise ValueError(f"it has {twice[:100]!r} twice in one object")
    return members


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no number in JSON")


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(DEEPEST):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return
    raise _too_deep()


def _too_deep() -> ValueError:
    return ValueError(f"it is {TOO_DEEP}")
