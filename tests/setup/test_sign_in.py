"""The token of the Azure CLI, and what is told where it cannot be used."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import jwt
import pytest

from postroom.setup.errors import SetupError
from postroom.setup.sign_in import PERMISSIONS, by_azure_cli


def az(out: str, code: int = 0, err: str = "") -> Any:
    """What stands in for running `az`."""
    return lambda *_, **__: subprocess.CompletedProcess((), code, out, err)


def token(*permissions: str) -> str:
    claims = {"scp": " ".join(permissions), "tid": "the tenant", "upn": "admin@contoso.com"}
    return jwt.encode(claims, "k" * 32, "HS256")


def test_a_token_with_the_permissions_is_taken() -> None:
    value = token(*PERMISSIONS)
    person = by_azure_cli("https://graph.microsoft.com", az(json.dumps({"accessToken": value})))
    assert (person.tenant_id, person.person, person.token()) == ("the tenant", "admin@contoso.com", value)


@pytest.mark.parametrize(
    ("out", "code", "err", "message"),
    [
        (json.dumps({"accessToken": token("User.Read")}), 0, "", r"lacks Application\.ReadWrite\.All, RoleManagement"),
        ("", 1, "Please run 'az login'", "az login"),
        ("[]", 0, "", "printed no token"),
        ("?", 0, "", "printed no token"),
    ],
)
def test_what_is_wrong_with_it_is_told(out: str, code: int, err: str, message: str) -> None:
    with pytest.raises(SetupError, match=message):
        by_azure_cli("https://graph.microsoft.com", az(out, code, err))


def test_where_there_is_no_azure_cli_that_is_told() -> None:
    def missing(*_: Any, **__: Any) -> Any:
        raise FileNotFoundError(2, "No such file", "az")

    with pytest.raises(SetupError, match="install the Azure CLI"):
        by_azure_cli("https://graph.microsoft.com", missing)
