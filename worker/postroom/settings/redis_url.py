"""Reads only the URL of Redis, for commands that only read: loading all settings takes longer than such a command."""

import os

from dotenv import dotenv_values

from postroom.store import url

_NAME = "POSTROOM_REDIS_URL"


def redis_url() -> str:
    """POSTROOM_REDIS_URL, from the same places as in `load_settings`. Other settings are not checked.

    ConfigError if the URL is missing or wrong; then it lists the faults of all settings.
    """
    values = {**dotenv_values(".env"), **os.environ}
    if f"{_NAME}_FILE" not in values and (text := values.get(_NAME)) and _is_right(text):
        return text
    from postroom.settings.loading import load_settings  # noqa: PLC0415 - see above

    return load_settings().redis_url


def _is_right(text: str) -> bool:
    try:
        url.parse(text)
    except ValueError:
        return text.startswith("embedded:") and text != "embedded:"
    return True
