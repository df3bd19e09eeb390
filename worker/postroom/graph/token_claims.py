"""What a token says of itself."""

import base64
import json
from collections.abc import Mapping
from typing import Any


def claims_of(token: str) -> dict[str, Any] | None:
    """What a token says of itself, unverified: only Graph can verify it. None if it cannot be read.

    Tokens for Graph are opaque by contract: https://learn.microsoft.com/entra/identity-platform/access-tokens
    """
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        value = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def person_of(claims: Mapping[str, Any]) -> str | None:
    """The person that a delegated token stands for; None if it is an app's own."""
    if not isinstance(claims.get("scp"), str):
        return None
    return str(claims.get("upn") or claims.get("preferred_username") or "who has signed in")
