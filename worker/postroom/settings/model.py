"""Settings: from the environment (`POSTROOM_…`), a `.env` file beside, and `postroom.toml` for several senders or apps.

A wrong or unknown setting fails at start: ConfigError lists every fault, each by its name.
"""

import difflib
import re
import tomllib
from collections.abc import Iterator, Mapping
from enum import StrEnum
from importlib.util import find_spec
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Self
from urllib.parse import urlsplit

from dotenv import dotenv_values
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)

from postroom.access.smtp_logins import Login, Logins, Network, is_hash
from postroom.errors import ConfigError
from postroom.jobs.lane_limits import DEFAULT_LIMITS
from postroom.jobs.retry import OnUnknown
from postroom.mail.address import Address
from postroom.mail.message import DeliveryMode
from postroom.mail.validation import LARGEST_MESSAGE, MAX_MESSAGE, MB, plainly
from postroom.store import url as redis_url

PREFIX = "POSTROOM_"
SECRETS = {"client_secret", "client_certificate_password", "redis_url", "result_backend"}
# Azure's own names, as its SDKs read them: https://learn.microsoft.com/python/api/azure-identity
AZURE = {
    "AZURE_TENANT_ID": "tenant_id",
    "AZURE_CLIENT_ID": "client_id",
    "AZURE_CLIENT_SECRET": "client_secret",
    "AZURE_CLIENT_CERTIFICATE_PATH": "client_certificate",
    "AZURE_CLIENT_CERTIFICATE_PASSWORD": "client_certificate_password",
    "AZURE_FEDERATED_TOKEN_FILE": "federated_token_file",
    "AZURE_AUTHORITY_HOST": "authority_url",
}
# What Kubernetes puts into every pod for a service called postroom or postroom-something.
_KUBERNETES = re.compile(
    r"POSTROOM_(\w+_)?(SERVICE_(HOST|PORT(_\w+)?)|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)"
)
_UNITS = {"ms": 0.001, "s": 1.0, "sec": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "hour": 3600.0, "d": 86400.0}
_UNITS["day"] = _UNITS["d"]


class Credential(StrEnum):
    SECRET = "secret"  # noqa: S105 - the word, not one
    CERTIFICATE = "certificate"
    MANAGED_IDENTITY = "managed-identity"
    FEDERATED = "federated"


class Cloud(StrEnum):
    GLOBAL = "global"
    USGOV = "usgov"
    DOD = "dod"
    CHINA = "china"

    @property
    def graph_url(self) -> str:
        return _CLOUDS[self][0]

    @property
    def authority_url(self) -> str:
        return _CLOUDS[self][1]


# https://learn.microsoft.com/graph/deployments
_CLOUDS = {
    Cloud.GLOBAL: ("https://graph.microsoft.com", "https://login.microsoftonline.com"),
    Cloud.USGOV: ("https://graph.microsoft.us", "https://login.microsoftonline.us"),
    Cloud.DOD: ("https://dod-graph.microsoft.us", "https://login.microsoftonline.us"),
    Cloud.CHINA: ("https://microsoftgraph.chinacloudapi.cn", "https://login.partner.microsoftonline.cn"),
}


def duration(value: object) -> float:
    """Seconds in `30s`, `5min`, `72h`, `7d` or `1h30min`; ValueError otherwise."""
    if isinstance(value, int | float):
        return float(value)
    parts = re.findall(r"(\d+(?:\.\d+)?)\s*([a-z]+)", str(value).strip().lower())
    whole = "".join(number + unit for number, unit in parts)
    if not parts or whole != re.sub(r"\s", "", str(value).lower()) or any(unit not in _UNITS for _, unit in parts):
        raise ValueError("a duration is a number and a unit, as in 30s, 5min, 72h or 7d")
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def rates(value: object) -> tuple[tuple[int, float], ...]:
    """(requests, seconds) for each part of `30/min` or `30/min,10000/day`; none for `off`."""
    if isinstance(value, tuple):
        return value
    if str(value).strip().lower() == "off":
        return ()
    found = []
    for part in str(value).split(","):
        match = re.fullmatch(r"\s*(\d+)\s*/\s*(\d*)\s*([a-z]+)\s*", part.lower())
        if not match or match[3] not in _UNITS or int(match[1]) < 1:
            raise ValueError("a rate is a count per time, as in 30/min or 30/min,10000/day, or off")
        found.append((int(match[1]), int(match[2] or 1) * _UNITS[match[3]]))
    return tuple(found)


def size(value: object) -> int:
    """Bytes in `35MB` or `500kB`, by 1024 as Exchange counts."""
    if isinstance(value, int):
        return value
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(kb|mb)", str(value).strip().lower())
    if not match:
        raise ValueError("a size is a number and a unit, as in 35MB")
    return round(float(match[1]) * (MB if match[2] == "mb" else 1024))


def look_ups(value: object) -> tuple[float, ...]:
    """Rising seconds in `10s,1min,5min`; none for `off`."""
    if isinstance(value, tuple):
        return value
    if str(value).strip().lower() == "off":
        return ()
    times = tuple(duration(part) for part in str(value).split(","))
    if list(times) != sorted(set(times)) or times[0] <= 0:
        raise ValueError("rising times are needed, as in 10s,1min,5min, or off")
    return times


def _root(value: object) -> object:
    if not isinstance(value, str):
        return value
    parts = urlsplit(value if "://" in value else f"https://{value}")
    if parts.scheme != "https" or not parts.netloc or parts.path.strip("/") or parts.query:
        raise ValueError("give the root only, as in https://graph.microsoft.com (no version, no tenant)")
    return f"https://{parts.netloc}"


def _redis_url(value: object) -> object:
    if isinstance(value, str) and not re.match("embedded:.", value):
        redis_url.parse(value)
    return value


SHORTEST_LEASE_S = 10


def _some_time(seconds: float) -> float:
    if seconds <= 0:
        raise ValueError("longer than 0 s is needed")
    return seconds


def _lease(seconds: float) -> float:
    if seconds < SHORTEST_LEASE_S:
        raise ValueError(
            f"at least {SHORTEST_LEASE_S} s are needed, for a worker that is only slow must not lose its mail"
        )
    return seconds


def _message_size(value: int) -> int:
    if not MB <= value <= LARGEST_MESSAGE:
        raise ValueError(f"1MB to {LARGEST_MESSAGE // MB}MB are possible; more no Exchange can be set to")
    return value


def _whole(least: int, most: int) -> BeforeValidator:
    """Reads a whole number within these bounds."""

    def read(value: object) -> int:
        if not re.fullmatch(r"\d{1,9}", str(value)) or not least <= int(str(value)) <= most:
            raise ValueError(f"a whole number from {least} to {most} is needed")
        return int(str(value))

    return BeforeValidator(read)


def _directory(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.-]*", value):
        raise ValueError("the directory's id (a GUID) or one of its domains is needed, as in contoso.onmicrosoft.com")
    return value


Seconds = Annotated[float, BeforeValidator(duration), AfterValidator(_some_time)]
Lease = Annotated[Seconds, AfterValidator(_lease)]
MessageSize = Annotated[int, BeforeValidator(size), AfterValidator(_message_size)]
Parallel = Annotated[int, _whole(1, 4)]
DailyRecipients = Annotated[int, _whole(1, 10000)]
Rates = Annotated[tuple[tuple[int, float], ...], BeforeValidator(rates)]
LookUps = Annotated[tuple[float, ...], BeforeValidator(look_ups)]
RootUrl = Annotated[str, BeforeValidator(_root)]
OneAddress = Annotated[Address, BeforeValidator(Address.parse)]


def _networks(value: object) -> object:
    """Networks in `10.0.0.0/8,::1`; an address is a network of one."""
    given = value.split(",") if isinstance(value, str) else value
    if not isinstance(given, list | tuple):
        return value
    try:
        return tuple(ip_network(one.strip()) if isinstance(one, str) else one for one in given)
    except ValueError as error:
        raise ValueError(f"{error}; 10.1.2.0/24 is a network, 127.0.0.1 an address") from None


def _sender(value: str) -> str:
    if value != "*":
        Address.parse(f"x{value[1:]}" if value.startswith("*@") else value)
    return value


Networks = Annotated[tuple[Network, ...], BeforeValidator(_networks)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True, hide_input_in_errors=True)


class App(_Strict):
    """An app registration and its credential. `credential` says which kind; found by itself if not given."""

    tenant_id: Annotated[str, AfterValidator(_directory)] | None = None
    client_id: str | None = None
    client_secret: SecretStr | None = None
    client_certificate: Path | None = None
    client_certificate_password: SecretStr | None = None
    federated_token_file: Path | None = None
    credential: Credential | None = None
    cloud: Cloud = Cloud.GLOBAL
    graph_url: RootUrl | None = None
    authority_url: RootUrl | None = None

    @property
    def kind(self) -> Credential | None:
        """The kind of credential: the one that is set, or else the one whose parts are there."""
        if self.credential:
            return self.credential
        if self.client_secret:
            return Credential.SECRET
        if self.client_certificate:
            return Credential.CERTIFICATE
        return Credential.FEDERATED if self.federated_token_file else None

    def faults(self, where: str) -> Iterator[str]:
        """What is missing for this app to get a token."""
        needs = {
            Credential.SECRET: "client_secret",
            Credential.CERTIFICATE: "client_certificate",
            Credential.FEDERATED: "federated_token_file",
        }
        if self.kind is None:
            yield f"{where.format('CLIENT_SECRET')} is missing (or CLIENT_CERTIFICATE, or CREDENTIAL=managed-identity)"
        elif self.kind in needs and not getattr(self, needs[self.kind]):
            yield f"{where.format(needs[self.kind].upper())} is missing: credential {self.kind} needs it"
        if self.kind is not Credential.MANAGED_IDENTITY:
            for name in ("tenant_id", "client_id"):
                if not getattr(self, name):
                    yield f"{where.format(name.upper())} is missing"


class Limits(_Strict):
    """What one mailbox may do; the defaults are Exchange Online's limits."""

    rate: Rates = DEFAULT_LIMITS.rates
    parallel: Parallel = DEFAULT_LIMITS.parallel
    daily_recipients: DailyRecipients = DEFAULT_LIMITS.daily_recipients
    on_unknown: OnUnknown = OnUnknown.RESEND
    delivery: DeliveryMode = DeliveryMode.AUTO


class Sender(_Strict):
    """One mailbox of postroom.toml. What is not set here is as for every mailbox."""

    app: str = "default"
    mailbox: OneAddress | None = None
    aliases: tuple[OneAddress, ...] = ()
    rate: Rates | None = None
    parallel: Parallel | None = None
    daily_recipients: DailyRecipients | None = None
    on_unknown: OnUnknown | None = None
    delivery: DeliveryMode | None = None


class SmtpClient(_Strict):
    """Who may hand mail over by SMTP, and as which senders: with a password, or from a network."""

    senders: Annotated[tuple[Annotated[str, AfterValidator(_sender)], ...], Field(min_length=1)]
    password_hash: SecretStr | None = None
    networks: Networks = ()

    @model_validator(mode="after")
    def _one_way_in(self) -> Self:
        if bool(self.password_hash) == bool(self.networks):
            raise ValueError("needs either password_hash or networks")
        if self.password_hash and not is_hash(self.password_hash.get_secret_value()):
            raise ValueError("password_hash is none; `postroom smtp password` prints one")
        return self


class LogFormat(StrEnum):
    JSON = "json"
    CONSOLE = "console"


class Transport(StrEnum):
    CURL = "curl"
    REQUESTS = "requests"


class Settings(App, Limits):
    """Everything that an operator can set. `POSTROOM_` and the field's name in capitals is its name."""

    # not shown in a repr: they may hold passwords
    redis_url: Annotated[str, BeforeValidator(_redis_url), Field(repr=False)]
    result_backend: Annotated[str | None, Field(repr=False)] = None
    ca_bundle: Path | None = None
    transport: Transport | None = None
    sender: OneAddress | None = None
    templates: Path = Path("templates")
    attachments: Path | None = None
    events: Path | None = None
    max_message: MessageSize = MAX_MESSAGE
    max_attempts: Annotated[int, _whole(1, 1000)] = 30
    backoff: Seconds = 5.0
    unknown_lookups: LookUps = (10.0, 60.0, 300.0)
    lease: Lease = 60.0
    hold_probe: Seconds = 60.0
    hold_patience: Seconds = 72 * 3600.0
    redirect_all_to: OneAddress | None = None
    retention_accepted: Seconds = 7 * 86400.0
    retention_dead: Seconds = 90 * 86400.0
    smtp_allow: Networks | None = None
    smtp_certificate: Path | None = None
    smtp_key: Path | None = None
    log_format: LogFormat = LogFormat.JSON
    apps: Mapping[str, App] = {}
    senders: Mapping[OneAddress, Sender] = {}
    smtp: Mapping[Annotated[str, Field(pattern=r"^[!-.0-~]{1,100}$")], SmtpClient] = {}

    @model_validator(mode="after")
    def _senders_name_apps(self) -> Self:
        for address, sender in self.senders.items():
            if sender.app != "default" and sender.app not in self.apps:
                raise ValueError(f'[senders."{address}"] app: no [apps.{sender.app}] in the file')
        return self

    @property
    def all_apps(self) -> dict[str, App]:
        """Every app by its name; "default" is the one of the environment."""
        own = App(**{name: getattr(self, name) for name in App.model_fields})
        return {"default": own, **self.apps}

    @property
    def logins(self) -> Logins:
        """Who may use the SMTP door."""
        own = [
            Login(
                name=name,
                senders=one.senders,
                password_hash=one.password_hash.get_secret_value() if one.password_hash else None,
                networks=one.networks,
            )
            for name, one in self.smtp.items()
        ]
        return Logins([*own, Login(name="", senders=("*",), networks=self.smtp_allow or ())])

    def smtp_faults(self, *, over_tls: bool) -> list[str]:
        """What the SMTP door lacks: somebody who may use it, and a certificate where there is to be TLS."""
        faults: list[str] = []
        if not self.smtp and not self.smtp_allow:
            faults.append(f"{PREFIX}SMTP_ALLOW is missing (127.0.0.1 is one; or [smtp.NAME] in postroom.toml)")
        passwords = any(one.password_hash for one in self.smtp.values())
        if (passwords or over_tls) and not self.smtp_certificate:
            why = "passwords are taken over TLS" if passwords else "--tls-port needs it"
            faults.append(f"{PREFIX}SMTP_CERTIFICATE is missing: {why}")
        for name in ("smtp_certificate", "smtp_key", "attachments"):
            path: Path | None = getattr(self, name)
            if path and not path.exists():
                faults.append(f"{PREFIX}{name.upper()}: no file or folder {path}")
        return faults

    def worker_faults(self) -> list[str]:
        """What a worker lacks beyond what every process needs: credentials, templates, files that must be there."""
        faults: list[str] = []
        used = {sender.app for sender in self.senders.values()} or {"default"}
        for name, app in self.all_apps.items():
            if name in used or (name == "default" and app.client_id):
                faults += app.faults(PREFIX + "{}" if name == "default" else f"[apps.{name}] {{}}")
        if self.ca_bundle and not self.ca_bundle.exists():
            faults.append(f"{PREFIX}CA_BUNDLE: no file or folder {self.ca_bundle}")
        if self.transport is Transport.CURL and not find_spec("pycurl"):
            faults.append(f"{PREFIX}TRANSPORT: curl needs pycurl; pip install 'postroom[curl]'")
        if "templates" in self.model_fields_set and not self.templates.is_dir():
            faults.append(f"{PREFIX}TEMPLATES: no folder {self.templates}")
        if self.attachments and not self.attachments.is_dir():
            faults.append(f"{PREFIX}ATTACHMENTS: no folder {self.attachments}")
        return faults


TABLES: Mapping[str, type[_Strict]] = {"apps": App, "senders": Sender, "smtp": SmtpClient}


def load(environ: Mapping[str, str], folder: Path) -> Settings:
    """The settings of this environment; `.env`, `postroom.toml` or a relative POSTROOM_CONFIG stand in `folder`."""
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
    found = dict(row)
    for name in [n for n in row if n.endswith("_file") and n.removesuffix("_file") in SECRETS]:
        try:
            found[name.removesuffix("_file")] = Path(found.pop(name)).read_text(encoding="utf-8").strip()
        except OSError as error:
            faults.append(f"{where} {name}: cannot read the file ({error.strerror})")
    return found


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
