"""The same set-up as files to review and run by hand: Azure CLI, Exchange PowerShell, Terraform.

https://learn.microsoft.com/cli/azure/ad/app, https://learn.microsoft.com/exchange/permissions-exo/application-rbac,
https://registry.terraform.io/providers/hashicorp/azuread/latest/docs
"""

import json
import re
import shlex
from dataclasses import dataclass

from postroom.setup.wanted import APP_ROLES, GRAPH_APP_ID, TRACE, TRACE_APP_ID, Feature, Wanted, slug, unique_name


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the files are to set up. `senders` are mailboxes and groups as typed: nobody is asked whether they exist.

    `legacy`: by an Application Access Policy, for a tenant that still has them, instead of RBAC for Applications.
    """

    name: str
    mailboxes: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    features: frozenset[Feature] = frozenset()
    legacy: bool = False

    @property
    def roles(self) -> tuple[str, ...]:
        """The roles of Exchange."""
        return Wanted(name=self.name, scopes=(), features=self.features).roles

    @property
    def app_roles(self) -> tuple[str, ...]:
        """The permissions of Entra: with an access policy, those for mail too."""
        own = (TRACE,) if Feature.TRACE in self.features else ()
        if not self.legacy:
            return own
        return (*(role.removeprefix("Application ") for role in self.roles), *own)


def files(asked: Asked) -> dict[str, str]:
    """The files by name: `entra.sh`, `exchange.ps1` and `main.tf`."""
    return {"entra.sh": _shell(asked), "exchange.ps1": _powershell(asked), "main.tf": _terraform(asked)}


def _shell(asked: Asked) -> str:
    name, key = asked.name, slug(asked.name)
    body = {
        "displayName": name,
        "signInAudience": "AzureADMyOrg",
        "notes": "Sends mail. Made by the files of postroom setup script.",
        "tags": ["postroom"],
    }
    lines = [
        "#!/usr/bin/env bash",
        f"# Registers the app {_comment(name)} with the Azure CLI. Run again, it changes nothing that is there.",
        "# Before it:  az login",
        f"#             postroom setup certificate --name {shlex.quote(name)} --out {key}.pem",
        "# After it:   an Exchange administrator runs exchange.ps1, which this script names with its arguments.",
        "# shellcheck disable=SC2016  # what is in single quotes is meant as it stands",
        "set -euo pipefail",
        "",
        f"GRAPH={shlex.quote('https://graph.microsoft.com')}",
        f"CERTIFICATE={shlex.quote(f'{key}.cer.pem')}",
        f"BODY={shlex.quote(json.dumps(body, ensure_ascii=False))}",
        f"KEY={shlex.quote(unique_name(name))}",
        "",
        "# The app, by a key that only one app can have. It can do nothing yet.",
        "az rest --method patch --url \"$GRAPH/v1.0/applications(uniqueName='$KEY')\" \\",
        "  --headers Prefer=create-if-missing Content-Type=application/json \\",
        '  --body "$BODY" --output none',
        "APP=\"$GRAPH/v1.0/applications(uniqueName='$KEY')\"",
        'APP_ID=$(az rest --method get --url "$APP" --query appId --output tsv)',
        "",
        "# The certificate, beside those that are there. The key stays where it is.",
        'az ad app credential reset --id "$APP_ID" --cert "@$CERTIFICATE" --append --only-show-errors --output none',
        "",
        "# Its service principal (enterprise application), which can sign in but may do nothing.",
        'OBJECT_ID=$(az ad sp list --filter "appId eq \'$APP_ID\'" --query "[0].id" --output tsv)',
        'if [ -z "$OBJECT_ID" ]; then',
        '  OBJECT_ID=$(az ad sp create --id "$APP_ID" --query id --output tsv)',
        "fi",
        "",
        *_shell_grants(asked),
        "TENANT_ID=$(az account show --query tenantId --output tsv)",
        'echo "Now, as an Exchange administrator:"',
        'echo "  pwsh -File exchange.ps1 -AppId $APP_ID -ObjectId $OBJECT_ID"',
        'echo "Settings of the workers:"',
        'echo "POSTROOM_TENANT_ID=$TENANT_ID"',
        'echo "POSTROOM_CLIENT_ID=$APP_ID"',
        f"echo {shlex.quote(f'POSTROOM_CLIENT_CERTIFICATE={key}.pem')}",
        "",
    ]
    return "\n".join(lines)


def _shell_grants(asked: Asked) -> list[str]:
    if not asked.app_roles:
        return []
    lines = [
        "# Permissions in Entra. They hold for the whole tenant.",
        f"GRAPH_ID=$(az ad sp show --id {GRAPH_APP_ID} --query id --output tsv)",
        'HAS=$(az rest --method get --url "$GRAPH/v1.0/servicePrincipals/$OBJECT_ID/appRoleAssignments" \\',
        '  --query "value[].appRoleId" --output tsv)',
        "grant() {",
        '  if ! grep --quiet "$1" <<< "$HAS"; then',
        """    BODY=$(printf '{"principalId": "%s", "resourceId": "%s", "appRoleId": "%s"}' \\""",
        '      "$OBJECT_ID" "$GRAPH_ID" "$1")',
        '    az rest --method post --url "$GRAPH/v1.0/servicePrincipals/$OBJECT_ID/appRoleAssignments" \\',
        '      --headers Content-Type=application/json --output none --body "$BODY"',
        "  fi",
        "}",
        *(f"grant {APP_ROLES[role]} # {role}" for role in asked.app_roles),
    ]
    if TRACE in asked.app_roles:
        lines += [
            "# Microsoft's own service principal for message traces, without which they cannot be read.",
            f"az ad sp show --id {TRACE_APP_ID} --output none 2> /dev/null \\",
            f"  || az ad sp create --id {TRACE_APP_ID} --output none",
        ]
    return [*lines, ""]


def _powershell(asked: Asked) -> str:
    head = [
        f"# Lets the app {_comment(asked.name)} work with these mailboxes only, in Exchange Online PowerShell.",
        "param(",
        "    [Parameter(Mandatory)] [string] $AppId,",
        "    # The id of the enterprise application (service principal), not that of the app registration.",
        "    [Parameter(Mandatory)] [string] $ObjectId",
        ")",
        "$ErrorActionPreference = 'Stop'",
        "Connect-ExchangeOnline",
        "",
    ]
    return "\n".join([*head, *(_policy(asked) if asked.legacy else _rbac(asked)), ""])


def _rbac(asked: Asked) -> list[str]:
    name = _ps(asked.name)
    lines = [
        "if (-not (Get-ServicePrincipal | Where-Object { $_.AppId -eq $AppId })) {",
        f"    New-ServicePrincipal -AppId $AppId -ObjectId $ObjectId -DisplayName {name}",
        "}",
        "function Grant([string] $Name, [string] $Role, [hashtable] $Scope) {",
        "    if (-not (Get-ManagementRoleAssignment -Identity $Name -ErrorAction SilentlyContinue)) {",
        "        New-ManagementRoleAssignment -Name $Name -App $ObjectId -Role $Role @Scope",
        "    }",
        "}",
        "function Limit([string] $Name, [string] $Filter) {",
        "    if (-not (Get-ManagementScope -Identity $Name -ErrorAction SilentlyContinue)) {",
        "        New-ManagementScope -Name $Name -RecipientRestrictionFilter $Filter",
        "    }",
        "}",
        "",
    ]
    scopes: list[tuple[str, str]] = []
    for number, group in enumerate(asked.groups, 1):
        scope = _ps(f"{slug(asked.name)} group {number}")
        lines += [
            f"# Direct members of {_comment(group)}; members of groups in it do not count.",
            f"$dn = (Get-Recipient -Identity {_ps(group)}).DistinguishedName",
            f"Limit {scope} \"MemberOfGroup -eq '$dn'\"",
        ]
        scopes.append((scope, f"@{{ CustomResourceScope = {scope} }}"))
    if asked.mailboxes:
        scope = _ps(f"{slug(asked.name)} mailboxes")
        filters = " -or ".join(f"PrimarySmtpAddress -eq {_ps(box)}" for box in asked.mailboxes)
        lines.append(f"Limit {scope} {_ps(filters)}")
        scopes.append((scope, f"@{{ CustomResourceScope = {scope} }}"))
    for number, unit in enumerate(asked.units, 1):
        scope = _ps(f"{slug(asked.name)} unit {number}")
        scopes.append((scope, f"@{{ RecipientAdministrativeUnitScope = {_ps(unit)} }}"))
    for scope, limit in scopes:
        for role in asked.roles:
            assignment = _ps(f"{scope[1:-1]} {role.removeprefix('Application ')}"[:64])
            lines.append(f"Grant {assignment} {_ps(role)} {limit}")
    for box in asked.mailboxes:
        lines.append(f"Test-ServicePrincipalAuthorization -Identity $ObjectId -Resource {_ps(box)}")
    lines += [
        "# A permission such as Mail.Send in Entra would open every mailbox beside these roles: remove it there.",
        "# A new role counts after 30 minutes, or up to 2 hours if the app is in use.",
    ]
    return lines


def _policy(asked: Asked) -> list[str]:
    lines = [
        "# Application Access Policies are the older way. Microsoft asks not to make new ones: prefer RBAC.",
        "# The permissions of the app in Entra open every mailbox until the policy counts, which may take hours.",
    ]
    for group in asked.groups:
        lines += [
            "New-ApplicationAccessPolicy -AppId $AppId -AccessRight RestrictAccess `",
            f"    -PolicyScopeGroupId {_ps(group)} -Description {_ps(asked.name)}",
        ]
    return [*lines, *(f"Test-ApplicationAccessPolicy -AppId $AppId -Identity {_ps(box)}" for box in asked.mailboxes)]


def _terraform(asked: Asked) -> str:
    key = slug(asked.name)
    lines = [
        f"# Registers the app {_comment(asked.name)} with the provider azuread.",
        "# The roles in Exchange it cannot express: run exchange.ps1 with the two ids that are printed.",
        f"# Before it: postroom setup certificate --out {key}.pem (the key stays out of Terraform's state).",
        "terraform {",
        "  required_providers {",
        "    azuread = {",
        '      source  = "hashicorp/azuread"',
        '      version = "~> 3.0"',
        "    }",
        "  }",
        "}",
        "",
        'resource "azuread_application" "postroom" {',
        f"  display_name     = {_hcl(asked.name)}",
        '  sign_in_audience = "AzureADMyOrg"',
        "}",
        "",
        'resource "azuread_application_certificate" "postroom" {',
        "  application_id = azuread_application.postroom.id",
        '  type           = "AsymmetricX509Cert"',
        '  encoding       = "pem"',
        f"  value          = file({_hcl(f'{key}.cer.pem')})",
        "}",
        "",
        'resource "azuread_service_principal" "postroom" {',
        "  client_id = azuread_application.postroom.client_id",
        "}",
        "",
        *_terraform_grants(asked),
        'output "app_id" {',
        "  value = azuread_application.postroom.client_id",
        "}",
        "",
        'output "object_id" {',
        "  value = azuread_service_principal.postroom.object_id",
        "}",
        "",
    ]
    return "\n".join(lines)


def _terraform_grants(asked: Asked) -> list[str]:
    if not asked.app_roles:
        return []
    lines = ['data "azuread_service_principal" "graph" {', f'  client_id = "{GRAPH_APP_ID}"', "}", ""]
    for role in asked.app_roles:
        lines += [
            f"# {role}, for the whole tenant.",
            f'resource "azuread_app_role_assignment" "{slug(role).replace("-", "_")}" {{',
            f'  app_role_id         = "{APP_ROLES[role]}"',
            "  principal_object_id = azuread_service_principal.postroom.object_id",
            "  resource_object_id  = data.azuread_service_principal.graph.object_id",
            "}",
            "",
        ]
    if TRACE in asked.app_roles:
        lines += ['resource "azuread_service_principal" "message_trace" {', f'  client_id    = "{TRACE_APP_ID}"']
        lines += ["  use_existing = true", "}", ""]
    return lines


def _ps(text: str) -> str:
    """A literal of PowerShell. Its other kinds of quotation mark end a literal too."""
    return "'" + re.sub("(['\u2018\u2019\u201a\u201b])", r"\1\1", " ".join(text.split())) + "'"


def _hcl(text: str) -> str:
    quoted = json.dumps(text, ensure_ascii=False)
    return quoted.replace("${", "$${").replace("%{", "%%{")


def _comment(text: str) -> str:
    """A text in a comment: on one line."""
    return " ".join(text.split())
