"""The settings: from the environment (`POSTROOM_…`), a `.env` file, and `postroom.toml` for several senders or apps.

Wrong or unknown settings fail at start: ConfigError lists all faults, each with the name of the setting.
"""

from collections.abc import Iterator, Mapping
from datetime import date
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    model_validator,
)

from postroom.access.smtp_logins import Login, Logins, is_hash
from postroom.jobs.lane_limits import DEFAULT_LIMITS, HOLD_PATIENCE_S, HOLD_PROBE_S, UNKNOWN_LOOKUPS_S
from postroom.jobs.retry import OnUnknown
from postroom.mail.message import DeliveryMode
from postroom.mail.validation import MAX_MESSAGE
from postroom.settings.fields import (
    ASecret,
    DailyRecipients,
    Lease,
    LookUps,
    MessageSize,
    Networks,
    OneAddress,
    Parallel,
    PathOrVault,
    Rates,
    RootUrl,
    Seconds,
    SignInKey,
    checked_redis_url,
    directory_id,
    sender_pattern,
    whole_number,
)

PREFIX = "POSTROOM_"


class Credential(StrEnum):
    SECRET = "secret"  # noqa: S105 - the word, not one
    CERTIFICATE = "certificate"
    MANAGED_IDENTITY = "managed-identity"
    FEDERATED = "federated"
    FEDERATED_IDENTITY = "federated-identity"
    USER = "user"


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


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True, hide_input_in_errors=True)


class AppSettings(_Strict):
    """An app registration and its credential. If `credential` is None, `kind` follows from the other settings."""

    tenant_id: Annotated[str, AfterValidator(directory_id)] | None = None
    client_id: str | None = None
    client_secret: ASecret | None = None
    client_secret_file: Path | None = None
    client_secret_expires: date | None = None
    client_certificate: PathOrVault | None = None
    client_certificate_password: SecretStr | None = None
    rotate: Seconds | None = None
    federated_token_file: Path | None = None
    managed_identity_client_id: str | None = None
    credential: Credential | None = None
    cloud: Cloud = Cloud.GLOBAL
    graph_url: RootUrl | None = None
    authority_url: RootUrl | None = None

    @property
    def kind(self) -> Credential | None:
        """The kind of credential: the one that is set, or the one whose settings are there; None if none are."""
        if self.credential:
            return self.credential
        if self.client_secret or self.client_secret_file:
            return Credential.SECRET
        if self.client_certificate:
            return Credential.CERTIFICATE
        return Credential.FEDERATED if self.federated_token_file else None

    @property
    def _is_pem(self) -> bool:
        file = self.client_certificate
        return isinstance(file, Path) and file.suffix.casefold() not in (".pfx", ".p12")

    def faults(self, where: str) -> Iterator[str]:
        """What is missing for this app to get a token. `where` is a format string for the name of a setting."""
        needs = {
            **({} if self.client_secret_file else {Credential.SECRET: "client_secret"}),
            Credential.CERTIFICATE: "client_certificate",
            Credential.FEDERATED: "federated_token_file",
        }
        if self.kind is None:
            yield f"{where.format('CLIENT_SECRET')} is missing (or CLIENT_CERTIFICATE, or CREDENTIAL=managed-identity)"
        elif self.kind in needs and not getattr(self, needs[self.kind]):
            yield f"{where.format(needs[self.kind].upper())} is missing: credential {self.kind} needs it"
        if self.rotate and not (self.kind is Credential.CERTIFICATE and self._is_pem):
            yield f"{where.format('ROTATE')}: only a certificate in a PEM file can be replaced by the worker itself"
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


class SenderSettings(_Strict):
    """One mailbox of postroom.toml. For what is None, the general settings hold."""

    app: str = "default"
    mailbox: OneAddress | None = None
    aliases: tuple[OneAddress, ...] = ()
    rate: Rates | None = None
    parallel: Parallel | None = None
    daily_recipients: DailyRecipients | None = None
    on_unknown: OnUnknown | None = None
    delivery: DeliveryMode | None = None


class SmtpClient(_Strict):
    """A client of the SMTP door, with a password or a network, and the senders that it may use."""

    senders: Annotated[tuple[Annotated[str, AfterValidator(sender_pattern)], ...], Field(min_length=1)]
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


class Settings(AppSettings, Limits):
    """All settings. The name of a setting is `POSTROOM_` and the field's name in capitals."""

    # left out of the repr: they may contain passwords
    redis_url: Annotated[str, BeforeValidator(checked_redis_url), Field(repr=False)]
    result_backend: Annotated[str | None, Field(repr=False)] = None
    sign_in_key: SignInKey | None = None
    ca_bundle: Path | None = None
    transport: Transport | None = None
    sender: OneAddress | None = None
    templates: Path = Path("templates")
    attachments: Path | None = None
    events: Path | None = None
    max_message: MessageSize = MAX_MESSAGE
    max_attempts: Annotated[int, whole_number(1, 1000)] = 30
    backoff: Seconds = 5.0
    unknown_lookups: LookUps = UNKNOWN_LOOKUPS_S
    lease: Lease = 60.0
    hold_probe: Seconds = HOLD_PROBE_S
    hold_patience: Seconds = HOLD_PATIENCE_S
    redirect_all_to: OneAddress | None = None
    retention_accepted: Seconds = 7 * 86400.0
    retention_dead: Seconds = 90 * 86400.0
    smtp_allow: Networks | None = None
    smtp_certificate: Path | None = None
    smtp_key: Path | None = None
    log_format: LogFormat = LogFormat.JSON
    apps: Mapping[str, AppSettings] = {}
    senders: Mapping[OneAddress, SenderSettings] = {}
    smtp: Mapping[Annotated[str, Field(pattern=r"^[!-.0-~]{1,100}$")], SmtpClient] = {}

    @model_validator(mode="after")
    def _senders_name_apps(self) -> Self:
        for address, sender in self.senders.items():
            if sender.app != "default" and sender.app not in self.apps:
                raise ValueError(f'[senders."{address}"] app: no [apps.{sender.app}] in the file')
            if address.address.startswith("*@") and sender.mailbox is None:
                raise ValueError(
                    f'[senders."{address}"] mailbox: missing; it says which mailbox all of them leave from'
                )
        return self

    @property
    def all_apps(self) -> dict[str, AppSettings]:
        """All apps by name; "default" is the one of the environment."""
        own = AppSettings(**{name: getattr(self, name) for name in AppSettings.model_fields})
        return {"default": own, **{name: self._placed(app) for name, app in self.apps.items()}}

    def _placed(self, app: AppSettings) -> AppSettings:
        """The app with the general settings for where Entra and Graph are, unless it has a cloud of its own."""
        if "cloud" in app.model_fields_set:
            return app
        places = {name: getattr(self, name) for name in ("cloud", "graph_url", "authority_url")}
        return app.model_copy(update={name: v for name, v in places.items() if name not in app.model_fields_set})

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
        """What the SMTP door lacks: clients that may use it, or a certificate for TLS."""
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
        """What a worker lacks and other processes do not need: credentials, templates, files."""
        faults: list[str] = []
        used = {sender.app for sender in self.senders.values()} or {"default"}
        for name, app in self.all_apps.items():
            if name in used or (name == "default" and app.client_id):
                faults += app.faults(PREFIX + "{}" if name == "default" else f"[apps.{name}] {{}}")
        if not self.sign_in_key and any(app.kind is Credential.USER for app in self.all_apps.values()):
            faults.append(f"{PREFIX}SIGN_IN_KEY is missing: credential user needs it (openssl rand -base64 32)")
        if self.ca_bundle and not self.ca_bundle.exists():
            faults.append(f"{PREFIX}CA_BUNDLE: no file or folder {self.ca_bundle}")
        if self.transport is Transport.CURL and not find_spec("pycurl"):
            faults.append(f"{PREFIX}TRANSPORT: curl needs pycurl; pip install 'postroom[curl]'")
        if "templates" in self.model_fields_set and not self.templates.is_dir():
            faults.append(f"{PREFIX}TEMPLATES: no folder {self.templates}")
        if self.attachments and not self.attachments.is_dir():
            faults.append(f"{PREFIX}ATTACHMENTS: no folder {self.attachments}")
        return faults


TABLES: Mapping[str, type[_Strict]] = {"apps": AppSettings, "senders": SenderSettings, "smtp": SmtpClient}
