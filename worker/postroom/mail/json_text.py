"""JSON that somebody else wrote."""

import json
from typing import Any

# The libraries' own limits differ: Python's depends on the version and the stack, pydantic's is 200 levels.
DEEPEST = 180
TOO_DEEP = f"nested more than {DEEPEST} levels deep"


def json_value(text: str | bytes) -> Any:
    """The value of a JSON text. ValueError says what is wrong with it. A mail checks the depth of its variables."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError(TOO_DEEP) from None
