"""The types of the settings' fields: how their text is read, the bounds, and the words for what is wrong."""

import os
import re
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    SecretStr,
)

from postroom.access.smtp_logins import Network
from postroom.graph.key_vault import SCHEME, VaultItem
from postroom.mail.address import Address
from postroom.mail.validation import LARGEST_MESSAGE, MB
from postroom.settings.values import duration, look_ups, rates, size
from postroom.store import url

SHORTEST_KEY = 32


def _root(value: object) -> object:
    if not isinstance(value, str):
        return value
    parts = urlsplit(value if "://" in value else f"https://{value}")
    if parts.scheme != "https" or not parts.netloc or parts.path.strip("/") or parts.query:
        raise ValueError("give the root only, as in https://graph.microsoft.com (no version, no tenant)")
    return f"https://{parts.netloc}"


def _vault_item(value: object) -> object:
    return VaultItem.parse(value) if isinstance(value, str) and value.startswith(SCHEME) else value


def _secret_place(value: object) -> object:
    """Checks the place where it is one; it stays a text."""
    _vault_item(value)
    return value


def _long_enough(key: SecretStr) -> SecretStr:
    if len(key.get_secret_value()) < SHORTEST_KEY:
        raise ValueError(f"at least {SHORTEST_KEY} characters are needed: openssl rand -base64 32")
    return key


SignInKey = Annotated[SecretStr, AfterValidator(_long_enough)]
PathOrVault = Annotated[Path | VaultItem, BeforeValidator(_vault_item)]
ASecret = Annotated[SecretStr, BeforeValidator(_secret_place)]


def checked_redis_url(value: object) -> object:
    if isinstance(value, str) and not re.match("embedded:.", value):
        given = url.parse(value).tls_options
        for name in ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile"):
            if name in given and not os.access(str(given[name]), os.R_OK):
                raise ValueError(f"{name}: cannot read the file {given[name]}")
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


def whole_number(least: int, most: int) -> BeforeValidator:
    """Reads a whole number within these bounds."""

    def read(value: object) -> int:
        if not re.fullmatch(r"\d{1,9}", str(value)) or not least <= int(str(value)) <= most:
            raise ValueError(f"a whole number from {least} to {most} is needed")
        return int(str(value))

    return BeforeValidator(read)


def directory_id(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.-]*", value):
        raise ValueError("the directory's id (a GUID) or one of its domains is needed, as in contoso.onmicrosoft.com")
    return value


Seconds = Annotated[float, BeforeValidator(duration), AfterValidator(_some_time)]


Lease = Annotated[Seconds, AfterValidator(_lease)]


MessageSize = Annotated[int, BeforeValidator(size), AfterValidator(_message_size)]


Parallel = Annotated[int, whole_number(1, 4)]


DailyRecipients = Annotated[int, whole_number(1, 10000)]


Rates = Annotated[tuple[tuple[int, float], ...], BeforeValidator(rates)]


LookUps = Annotated[tuple[float, ...], BeforeValidator(look_ups)]


RootUrl = Annotated[str, BeforeValidator(_root)]


OneAddress = Annotated[Address, BeforeValidator(Address.parse)]


def networks(value: object) -> object:
    """The networks in a text such as `10.0.0.0/8,::1`. A single address is a network of one."""
    given = value.split(",") if isinstance(value, str) else value
    if not isinstance(given, list | tuple):
        return value
    try:
        return tuple(ip_network(one.strip()) if isinstance(one, str) else one for one in given)
    except ValueError as error:
        raise ValueError(f"{error}; 10.1.2.0/24 is a network, 127.0.0.1 an address") from None


def sender_pattern(value: str) -> str:
    if value != "*":
        Address.parse(f"x{value[1:]}" if value.startswith("*@") else value)
    return value


Networks = Annotated[tuple[Network, ...], BeforeValidator(networks)]
