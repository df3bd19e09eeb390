"""Secrets and certificates that are kept in Azure Key Vault. Needs the extra `keyvault`.

https://learn.microsoft.com/azure/key-vault/secrets/about-secrets. A certificate is read as the secret of the same name,
which has its key, too: https://learn.microsoft.com/azure/key-vault/certificates/about-certificates
"""

import base64
import binascii
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SCHEME = "keyvault:"
# A read asks the vault twice and Entra (or the machine) once; a token waits for it.
WAIT_S = 5
_PLACE = re.compile(r"keyvault:(https://[^/?#@\s]+)/(secrets|certificates)/([A-Za-z0-9-]{1,127})(?:/([0-9a-f]{32}))?/?")


class VaultUnavailable(Exception):
    """A vault that cannot be reached, or asks to wait: it may pass. The text names the place."""


class VaultFault(Exception):
    """A vault that gave nothing that can be used. The text names the place, what was wrong and the next step."""


@dataclass(frozen=True, slots=True)
class VaultItem:
    """A secret or certificate of a vault. Without a `version` it is the newest one."""

    vault: str  # https://NAME.vault.azure.net
    kind: str  # secrets or certificates
    name: str
    version: str | None = None

    @classmethod
    def parse(cls, text: str) -> "VaultItem":
        """The place in `keyvault:https://NAME.vault.azure.net/secrets/NAME`. ValueError if it is none."""
        place = _PLACE.fullmatch(text.strip())
        if not place:
            raise ValueError(
                "keyvault:https://VAULT.vault.azure.net/secrets/NAME (or /certificates/NAME) is needed, as the portal "
                "shows it as identifier"
            )
        return cls(*place.groups())

    def __str__(self) -> str:
        return f"{SCHEME}{self.vault}/{self.kind}/{self.name}" + (f"/{self.version}" if self.version else "")


def read(item: VaultItem, ca_bundle: Path | None = None) -> str:
    """The value of a secret. Raises VaultFault and VaultUnavailable.

    The vault is asked as the machine's managed identity, a workload identity, the variables AZURE_CLIENT_ID and
    AZURE_CLIENT_SECRET, or as who has signed in with `az`: the first of these that there is.
    """
    try:
        from azure.core.exceptions import (  # noqa: PLC0415
            AzureError,
            ClientAuthenticationError,
            HttpResponseError,
            ServiceRequestError,
            ServiceResponseError,
        )
        from azure.core.pipeline.transport import RequestsTransport  # noqa: PLC0415
        from azure.identity import DefaultAzureCredential  # noqa: PLC0415
        from azure.keyvault.secrets import SecretClient  # noqa: PLC0415
    except ImportError:
        raise VaultFault(f"{item}: needs the extra keyvault: pip install 'postroom[keyvault]'") from None
    bounds: dict[str, Any] = {"connection_timeout": WAIT_S, "read_timeout": WAIT_S, "retry_total": 0}
    if ca_bundle:
        bounds["connection_verify"] = str(ca_bundle)
    try:
        with (
            DefaultAzureCredential(
                transport=RequestsTransport(**bounds),
                disable_instance_discovery=True,  # AZURE_AUTHORITY_HOST may be a host of which Microsoft knows nothing
                exclude_interactive_browser_credential=True,
                exclude_powershell_credential=True,
                exclude_developer_cli_credential=True,
                exclude_visual_studio_code_credential=True,
                exclude_shared_token_cache_credential=True,
                process_timeout=WAIT_S,
            ) as credential,
            SecretClient(item.vault, credential, transport=RequestsTransport(**bounds), **bounds) as client,
        ):
            value = client.get_secret(item.name, item.version).value
    except ClientAuthenticationError as error:
        raise VaultFault(
            f"{item}: nobody to ask the vault as ({_first_line(error)}); give the machine an identity"
        ) from None
    except (ServiceRequestError, ServiceResponseError) as error:
        raise VaultUnavailable(f"{item}: {_first_line(error)}") from None
    except HttpResponseError as error:
        if error.status_code is None or error.status_code in (408, 429) or error.status_code >= 500:
            raise VaultUnavailable(f"{item}: {error.status_code or ''} {_first_line(error)}") from None
        raise VaultFault(f"{item}: {_refusal(error)}") from None
    except (AzureError, ValueError) as error:
        raise VaultFault(f"{item}: {_first_line(error)}") from None
    if not value:
        raise VaultFault(f"{item}: is empty")
    return str(value)


def certificate_bytes(item: VaultItem, ca_bundle: Path | None = None) -> bytes:
    """A certificate with its key, as PFX or PEM. Raises VaultFault and VaultUnavailable."""
    value = read(item, ca_bundle)
    if "-----BEGIN" in value:
        return value.encode()
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise VaultFault(f"{item}: neither PFX nor PEM; is it a certificate?") from None


def _refusal(error: Any) -> str:
    match error.status_code:
        case 403:
            return (
                "the vault refused (403); give the identity the role Key Vault Secrets User on this vault, "
                f"and look at the vault's firewall ({_first_line(error)})"
            )
        case 404:
            return "there is no such secret or certificate in the vault, or it is disabled"
        case _:
            return _first_line(error)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:300]
