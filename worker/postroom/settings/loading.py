"""Reads the settings: the environment (`POSTROOM_…`), a `.env` file beside it, and `postroom.toml`."""

import difflib
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dotenv import dotenv_values
from pydantic import (
    ValidationError,
)

from postroom.errors import ConfigError
from postroom.mail.validation import plainly
from postroom.settings.model import PREFIX, TABLES, Settings

# Of these a `…_FILE` may be given instead. (The client secret's is a setting: it is read for each token.)
SECRETS = {"sign_in_key", "client_certificate_password", "redis_url", "result_backend"}


# Azure's own names, which its SDKs read too: https://learn.microsoft.com/python/api/azure-identity
AZURE = {
    "AZURE_TENANT_ID": "tenant_id",
    "AZURE_CLIENT_ID": "client_id",
    "AZURE_CLIENT_SECRET": "client_secret",
    "AZURE_CLIENT_CERTIFICATE_PATH": "client_certificate",
    "AZURE_CLIENT_CERTIFICATE_PASSWORD": "client_certificate_password",
    "AZURE_FEDERATED_TOKEN_FILE": "federated_token_file",
    "AZURE_AUTHORITY_HOST": "authority_url",
}


# Kubernetes sets such variables in every pod for a service called postroom or postroom-something.
_KUBERNETES = re.compile(
    r"POSTROOM_(\w+_)?(SERVICE_(HOST|PORT(_\w+)?)|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)"
)


def load_settings(environ: Mapping[str, str] | None = None, folder: Path | None = None) -> Settings:
    """The settings of `environ` (this process's environment if not given).

    `.env`, `postroom.toml` and a relative POSTROOM_CONFIG are looked for in `folder` (the current one if not given).
    Raises ConfigError, which lists every fault.
    """
    environ = os.environ if environ is None else environ
    folder = folder or Path.cwd()
    dotenv = {name: value for name, value in dotenv_values(folder / ".env").items() if value is not None}
    faults: list[str] = []
    values: dict[str, Any] = dict(_from_environment({**dotenv, **environ}, faults))
    faults = [f"{fault} (in .env)" if fault.split()[0].rstrip(":") in dotenv else fault for fault in faults]
    config = values.pop("config", "postroom.toml" if (folder / "postroom.toml").is_file() else None)
    values |= dict(_from_file(folder / config if config else None, faults))
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        raise ConfigError([*faults, *_by_name(error)]) from None
    if faults:
        raise ConfigError(faults)
    return settings


def _from_environment(given: Mapping[str, str], faults: list[str]) -> Iterator[tuple[str, str]]:
    names = {PREFIX + field.upper(): field for field in Settings.model_fields if field not in TABLES}
    names[PREFIX + "CONFIG"] = "config"
    files = {f"{name}_FILE": field for name, field in names.items() if field in SECRETS}
    yield from ((field, given[name]) for name, field in AZURE.items() if given.get(name))
    for name, value in given.items():
        if name in names and value:
            yield names[name], value
        elif name in files:
            try:
                yield files[name], Path(value).read_text(encoding="utf-8").strip()
            except OSError as error:
                faults.append(f"{name}: cannot read {value} ({error.strerror})")
        elif name.startswith(PREFIX) and name not in names and not _KUBERNETES.fullmatch(name):
            near = difflib.get_close_matches(name, [*names, *files], n=1, cutoff=0.5)
            faults.append(f"{name} is not a setting" + (f" ({near[0]}?)" if near else ""))


def _from_file(path: Path | None, faults: list[str]) -> Iterator[tuple[str, Any]]:
    if path is None:
        return
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        faults.append(f"{PREFIX}CONFIG: cannot read {path} ({error.strerror})")
        return
    except tomllib.TOMLDecodeError as error:
        faults.append(f"{PREFIX}CONFIG: {path}: {error}")
        return
    for table, rows in content.items():
        if table not in TABLES:
            faults.append(f"{path}: [{table}] is not a table of this file ({', '.join(TABLES)})")
        else:
            yield table, {name: _with_files(row, f"{path}: [{table}.{name}]", faults) for name, row in rows.items()}


def _with_files(row: Any, where: str, faults: list[str]) -> Any:
    if not isinstance(row, dict):
        return row
    values = dict(row)
    for name in [n for n in row if n.endswith("_file") and n.removesuffix("_file") in SECRETS]:
        try:
            values[name.removesuffix("_file")] = Path(values.pop(name)).read_text(encoding="utf-8").strip()
        except OSError as error:
            faults.append(f"{where} {name}: cannot read the file ({error.strerror})")
    return values


def _by_name(error: ValidationError) -> Iterator[str]:
    for fault in error.errors(include_url=False, include_context=False, include_input=False):
        where = [str(part) for part in fault["loc"] if part != "[key]"]
        message = plainly(fault["msg"])
        if not where:
            yield message
        elif where[0] in TABLES:
            name = f'[{where[0]}."{where[1]}"] {".".join(where[2:])}'.strip() if len(where) > 1 else f"[{where[0]}]"
            if fault["type"] == "extra_forbidden":
                fields = list(TABLES[where[0]].model_fields)
                near = difflib.get_close_matches(where[-1], fields, n=1)
                message = "is not a setting" + (f" ({near[0]}?)" if near else "")
            yield f"{name}: {message}"
        elif fault["type"] == "missing":
            yield f"{PREFIX}{where[0].upper()} is missing (redis://localhost:6379/0 is one; `postroom dev` starts one)"
        else:
            yield f"{PREFIX}{where[0].upper()}: {message}"
