"""How a sandbox is set up, and where it can be reached once it runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

# Fixed, so that the settings written down for one sandbox fit the next one too.
TENANT_ID = "5a4db0c5-0000-4000-8000-7e5a4db0c501"
CLIENT_ID = "5a4db0c5-0000-4000-8000-a995a4db0c52"
MACHINE_ID = "5a4db0c5-0000-4000-8000-0acb19e0c503"
MACHINE_HEADER = "sandbox-machine"
"""What a machine shows its identity's endpoint: IDENTITY_HEADER."""
CLIENT_SECRET = "sandbox-secret"  # noqa: S105  known to everybody: it opens nothing but the sandbox


@dataclass(frozen=True, slots=True, kw_only=True)
class FederatedCredential:
    """An issuer whose tokens Entra takes in place of a secret (workload identity federation)."""

    issuer: str
    subject: str
    public_key: str
    audience: str = "api://AzureADTokenExchange"


@dataclass(frozen=True, slots=True, kw_only=True)
class AppRegistration:
    """One app registered in the sandbox's tenant, with what it may do there."""

    client_id: str
    secrets: tuple[str, ...] = ()
    expired_secrets: tuple[str, ...] = ()
    certificates: tuple[str, ...] = ()
    federated: tuple[FederatedCredential, ...] = ()
    roles: tuple[str, ...] = ("Mail.Send",)
    rbac_mailboxes: tuple[str, ...] = ()
    """Mailboxes that Exchange's RBAC for Applications lets the app send from, whatever its token says."""
    is_public: bool = False
    """Whether people can sign in with it by a code ("Allow public client flows")."""
    policy_mailboxes: tuple[str, ...] | None = None
    """The only mailboxes that a legacy Application Access Policy leaves to the app; None: there is no policy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A person who can sign in, with directory roles such as `Application Administrator`."""

    address: str
    roles: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class People:
    """A group, or an administrative unit. `members` are addresses; that of another group makes it a nested one."""

    name: str
    address: str = ""
    members: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialPolicy:
    """What the tenant's app management policy allows. None: any life."""

    passwords: bool = True
    password_days: int | None = None
    certificate_days: int | None = None


ADMINISTRATOR = Account(address="admin@contoso.com", roles=("Global Administrator",))
CLERK = Account(address="clerk@contoso.com")


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxOptions:
    """How a sandbox is set up before it starts. By default its app may send from any mailbox."""

    host: str = "127.0.0.1"
    port: int = 0
    public_host: str | None = None
    """The name by which clients reach the sandbox, where that is not `host` (a container's name)."""
    folder: Path | None = None
    """Keeps the CA and the token key over restarts; without it both are new at each start."""

    tenant_id: str = TENANT_ID
    tenant_domain: str = "contoso.onmicrosoft.com"
    client_id: str = CLIENT_ID
    client_secret: str = CLIENT_SECRET
    more_secrets: tuple[str, ...] = ()
    expired_secrets: tuple[str, ...] = ()
    certificates: tuple[str, ...] = ()
    federated: tuple[FederatedCredential, ...] = ()
    roles: tuple[str, ...] = ("Mail.Send",)
    machine_id: str = MACHINE_ID
    """The client id of the machine's own identity. It is an app too: `more_apps` may have it with other roles."""
    vault: Mapping[str, str] = field(default_factory=dict)
    """The secrets of the key vault, by their names; a certificate is one, in PEM or as PFX in base64."""
    vault_readers: tuple[str, ...] | None = None
    """The client ids of the apps that may read the vault; None: all may."""
    is_public: bool = False
    """Whether people can sign in with the app `client_id` by a code."""
    shared_mailboxes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Who may send from each shared mailbox (Full Access and Send As)."""
    more_apps: tuple[AppRegistration, ...] = ()
    token_lifetime: int = 3599
    refresh_in: int | None = None

    mailboxes: tuple[str, ...] | None = None
    """The mailboxes of the tenant; None: any mailbox exists."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    """The mailbox of each alias (proxy address)."""

    accounts: tuple[Account, ...] = (ADMINISTRATOR, CLERK)
    groups: tuple[People, ...] = (
        People(name="Mail senders", address="mail-senders@contoso.com", members=("noreply@contoso.com",)),
    )
    units: tuple[People, ...] = (People(name="Offices", members=("office@contoso.com",)),)
    directory_delay: float = 0.0
    """Seconds until a new object of the directory is seen everywhere."""
    exchange_delay: float = 0.0
    """Seconds until a role that Exchange assigns counts."""
    device_interval: int = 5
    """Seconds that a client has to leave between two questions whether a code was entered."""
    credential_policy: CredentialPolicy = CredentialPolicy()

    latency: float = 0.0
    limits: bool = True
    max_in_flight: int = 4
    retry_after: float = 1.0
    """What a 429 of the sandbox's own limits asks for, in seconds."""
    rate_per_minute: int = 30
    """Above it Exchange accepts mail and delivers it later; it refuses nothing."""
    refuse_above_per_minute: int | None = None
    """A stricter service than Exchange: 429 above this many requests in 60 s to one mailbox."""

    max_message: int = 35 * 1024 * 1024
    """The size in bytes of the largest mail that may be sent, with the third that base64 adds to attachments."""
    upload_session_lifetime: float = 3600.0

    sent_items_after: float = 0.0
    """Seconds that an accepted mail stays in Drafts before transport moves it to Sent Items."""
    keep_mime_message_id: bool = True
    """Whether a Message-ID given in MIME is kept; reports about the real service conflict."""

    faults: tuple[Mapping[str, Any], ...] = ()
    seed: int | None = None
    keep_messages: int = 10_000
    keep_requests: int = 20_000
    keep_bytes: int = 256 * 1024 * 1024

    def app(self) -> AppRegistration:
        """The app that `client_id` and its credentials stand for."""
        return AppRegistration(
            client_id=self.client_id,
            secrets=(self.client_secret, *self.more_secrets),
            expired_secrets=self.expired_secrets,
            certificates=self.certificates,
            federated=self.federated,
            is_public=self.is_public,
            roles=self.roles,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxAddress:
    """What a client needs to use a running sandbox, and where a person finds the inbox."""

    url: str
    authority_url: str
    graph_url: str
    inbox_url: str
    ca_file: str
    tenant_id: str
    client_id: str
    client_secret: str

    def to_json(self) -> dict[str, str]:
        """The address as a JSON object."""
        return asdict(self)
