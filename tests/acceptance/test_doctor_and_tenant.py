"""The doctor beside an administrator who registers an app, gives it rights, and waits until they have arrived."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from postroom.doctor.examination import examine
from postroom.doctor.finding import Finding, Group, Level
from postroom.doctor.surroundings import Wanted
from postroom.mail.address import Address
from postroom.sandbox import SandboxAddress, SandboxOptions, running
from postroom.sandbox.control import Sandbox

from ..sandbox.administrator import Administrator

SENDER, OUTSIDER = "noreply@contoso.com", "office@contoso.com"
READS_APPS = "9a5d68dd-52b0-4cc2-bd40-abcf44ac3a30"


class Registered:
    """An app that an administrator has just registered, with a secret."""

    def __init__(self, sandbox: Sandbox, address: SandboxAddress, redis: str, folder: Path) -> None:
        self.sandbox, self.folder = sandbox, folder
        self.admin = Administrator.at(sandbox, address)
        self.app = self.admin.app()
        body = {"passwordCredential": {"endDateTime": f"{datetime.now(UTC) + timedelta(days=9):%Y-%m-%dT%H:%M:%SZ}"}}
        secret = self.admin.ask("POST", f"/v1.0/applications/{self.app['id']}/addPassword", body).json()["secretText"]
        self.environment = {
            "POSTROOM_REDIS_URL": redis,
            "POSTROOM_SENDER": SENDER,
            "POSTROOM_TENANT_ID": address.tenant_id,
            "POSTROOM_CLIENT_ID": self.app["appId"],
            "POSTROOM_CLIENT_SECRET": secret,
            "POSTROOM_AUTHORITY_URL": address.authority_url,
            "POSTROOM_GRAPH_URL": address.graph_url,
            "POSTROOM_CA_BUNDLE": address.ca_file,
        }

    def examined(self, group: Group, *outsiders: str) -> list[Finding]:
        wanted = Wanted(not_senders=tuple(map(Address.parse, outsiders)))
        return list(examine(wanted, [group], self.environment, self.folder))

    def post(self, path: str, **body: Any) -> None:
        assert self.admin.ask("POST", path, body).status_code == 201

    def grant(self, role: str) -> None:
        """Gives it an app role of Graph, for all of the tenant."""
        graph = self.admin.ask("GET", "/v1.0/servicePrincipals(appId='00000003-0000-0000-c000-000000000000')").json()
        principal = self.app["principal"]
        grants = f"/v1.0/servicePrincipals/{principal}/appRoleAssignments"
        self.post(grants, principalId=principal, resourceId=graph["id"], appRoleId=role)

    def scope(self, group: str) -> None:
        """Lets it send from the mailboxes of a group, by Exchange's RBAC for Applications."""
        found = self.admin.ask("GET", f"/v1.0/groups?$filter=mail eq '{group}'").json()["value"][0]
        self.post(
            "/beta/roleManagement/exchange/roleAssignments", principalId=f"/ServicePrincipals/{self.app['principal']}",
            roleDefinitionId=self.admin.role_id(), directoryScopeId=f"/Groups/{found['id']}",
        )  # fmt: skip


@pytest.fixture
def registered(server: str, connection: object, folder: Path) -> Iterator[Registered]:
    with running(SandboxOptions(exchange_delay=1800)) as address, Sandbox.at(address) as sandbox:
        yield Registered(sandbox, address, server, folder)


def test_a_scope_that_was_made_just_now_is_waited_for_and_then_found(registered: Registered) -> None:
    registered.scope("mail-senders@contoso.com")
    (early,) = registered.examined(Group.MAILBOXES)
    assert (early.level, "no verdict yet" in early.meaning, "look again at" in early.next) == (Level.YELLOW, True, True)

    registered.sandbox.change_directory(advance=1801)
    sender, outsider = registered.examined(Group.MAILBOXES, OUTSIDER)
    assert (sender.level, outsider.level) == (Level.GREEN, Level.GREEN)
    assert registered.sandbox.messages() == []


def test_a_grant_for_all_of_the_tenant_opens_the_outsider_too_and_the_doctor_says_how_to_narrow_it(
    registered: Registered,
) -> None:
    registered.grant("b633e1c5-b582-4048-a93e-9f11b44c7e96")
    sender, outsider = registered.examined(Group.MAILBOXES, OUTSIDER)

    assert (sender.level, outsider.level) == (Level.GREEN, Level.RED)
    assert "remove the Mail.Send consent" in outsider.next
    assert "every mailbox" in registered.examined(Group.RIGHTS)[0].meaning


def test_graph_tells_when_the_secret_ends_where_the_app_may_ask(registered: Registered) -> None:
    def of_days() -> Finding:
        return next(one for one in registered.examined(Group.ENTRA) if "how long" in one.asked)

    assert of_days().level is Level.SKIPPED
    registered.grant(READS_APPS)
    assert (of_days().level, "in 8 days" in of_days().seen) == (Level.YELLOW, True)
