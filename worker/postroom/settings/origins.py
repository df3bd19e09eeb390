"""Where each setting has its value from: for people who wonder why another value is in force than they wrote."""

import os
from collections.abc import Mapping
from pathlib import Path

from dotenv import dotenv_values

from postroom.settings.loading import AZURE, SECRETS
from postroom.settings.model import PREFIX, TABLES, Settings


def origins(environ: Mapping[str, str] | None = None, folder: Path | None = None) -> dict[str, str]:
    """By the name of each setting that is set: `environment`, or the `.env` file, with the variable if it is another.

    Takes the same arguments as `load_settings`, whose order it repeats: what comes later in it wins.
    """
    environ = os.environ if environ is None else environ
    dotenv_file = (folder or Path.cwd()) / ".env"
    dotenv = {name: value for name, value in dotenv_values(dotenv_file).items() if value is not None}
    found: dict[str, str] = {}
    variables = _variables()
    for name in [*AZURE, *(name for name in {**dotenv, **environ} if name not in AZURE)]:
        setting = variables.get(name)
        value = environ.get(name, dotenv.get(name))
        if setting and value:
            place = "environment" if name in environ else str(dotenv_file)
            found[setting] = place if name == setting else f"{place} ({name})"
    return found


def config_file(environ: Mapping[str, str] | None = None, folder: Path | None = None) -> Path | None:
    """The `postroom.toml` that is read, whether or not it exists where POSTROOM_CONFIG says; None if none is."""
    environ = os.environ if environ is None else environ
    folder = folder or Path.cwd()
    given = environ.get(f"{PREFIX}CONFIG") or dotenv_values(folder / ".env").get(f"{PREFIX}CONFIG")
    if given:
        return folder / given
    usual = folder / "postroom.toml"
    return usual if usual.is_file() else None


def _variables() -> dict[str, str]:
    """By each variable that is read: the setting that it sets."""
    settings = [PREFIX + field.upper() for field in Settings.model_fields if field not in TABLES]
    return {
        **{name: PREFIX + field.upper() for name, field in AZURE.items()},
        **{name: name for name in [*settings, f"{PREFIX}CONFIG"]},
        **{f"{PREFIX}{field.upper()}_FILE": PREFIX + field.upper() for field in SECRETS},
    }
