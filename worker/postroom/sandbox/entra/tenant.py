"""The tenant: its app registrations, the tokens they are granted, and what those may do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from postroom.sandbox.entra.credentials import check_assertion, check_secret
from postroom.sandbox.entra.errors import EntraError
from postroom.sandbox.entra.tokens import GRAPH_APP_ID, GRAPH_ROOTS, Claims, TokenMint
from postroom.sandbox.exchange.errors import GraphError
from postroom.sandbox.options import AppRegistration, SandboxOptions

JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


class Tenant:
    """One directory with its registered apps."""

    def __init__(self, options: SandboxOptions, root: str, mint: TokenMint) -> None:
        self._options = options
        self._root = root
        self._mint = mint
        self.apps: dict[str, AppRegistration] = {}
        self.registered: Callable[[str, float], AppRegistration | None] = lambda _client_id, _now: None
        """Finds an app that an administrator has registered; the directory's."""
        self.restore()

    def restore(self) -> None:
        """Sets the registrations back to how they were at the start."""
        machine = AppRegistration(client_id=self._options.machine_id)
        apps = (self._options.app(), machine, *self._options.more_apps)
        self.apps = {app.client_id.casefold(): app for app in apps}

    def change(self, client_id: str | None = None, **changes: Any) -> None:
        """Changes secrets, certificates or roles of one app. Tokens that were issued before do not change."""
        key = (client_id or self._options.client_id).casefold()
        if key not in self.apps:
            raise ValueError(f"no app {key} is registered in the sandbox; registered: {', '.join(self.apps)}")
        self.apps[key] = replace(self.apps[key], **changes)

    def require(self, name: str) -> None:
        """Raises EntraError unless `name`, the tenant in a URL, is this one."""
        if name.casefold() in self._names():
            return
        if not _is_guid(name) and "." not in name:
            text = f"Specified tenant identifier '{name}' is neither a valid DNS name, nor a valid external domain."
            raise EntraError(900023, "invalid_request", text)
        text = (
            f"Tenant '{name}' not found. Check to make sure you have the correct tenant ID and are signing into the "
            "correct cloud. Check with your subscription administrator, this may happen if there are no active "
            "subscriptions for the tenant."
        )
        raise EntraError(90002, "invalid_request", text)

    def grant(self, tenant: str, form: Mapping[str, str], root: str, now: float) -> dict[str, Any]:
        """The token endpoint's answer to this form; `root` is the URL that the caller used. Raises EntraError."""
        self.require(tenant)
        _require_client_credentials(form)
        app = self._app(form["client_id"], now)
        audience = self._audience(form["scope"], root)
        self._authenticate(app, form, root, now)
        lifetime = self._options.token_lifetime
        answer: dict[str, Any] = {
            "token_type": "Bearer",
            "expires_in": lifetime,
            "ext_expires_in": lifetime,
            "access_token": self._mint.issue(app, audience, now, lifetime),
        }
        if self._options.refresh_in is not None:
            answer["refresh_in"] = self._options.refresh_in
        return answer

    def is_public(self, client_id: str) -> bool:
        """Whether people can sign in with this app by a code."""
        app = self.apps.get(client_id.casefold())
        return app is not None and app.is_public

    def in_mailbox(self, claims: Claims, mailbox: str) -> Claims:
        """The claims, with roles for what the person of a delegated token may do in this mailbox.

        That is all in their own, and what a permission `….Shared` allows in those that were shared with them.
        """
        return replace(claims, roles=self._permissions(claims, mailbox)) if claims.user else claims

    def _permissions(self, claims: Claims, mailbox: str) -> frozenset[str]:
        if claims.user == mailbox:
            return claims.scopes
        shared = (people for box, people in self._options.shared_mailboxes.items() if box.casefold() == mailbox)
        if claims.user in (person.casefold() for people in shared for person in people):
            return frozenset(one.removesuffix(".Shared") for one in claims.scopes if one.endswith(".Shared"))
        return frozenset()

    def require_mail_send(self, claims: Claims, mailbox: str) -> None:
        """Raises GraphError unless the token's app may send from this mailbox: by its roles, or by Exchange's RBAC."""
        app = self.apps.get(claims.app_id)
        if app is not None and mailbox in (box.casefold() for box in app.rbac_mailboxes):
            return
        if "Mail.Send" not in claims.roles:
            raise GraphError(403, "ErrorAccessDenied", "Access is denied. Check credentials and try again.")
        policy = None if app is None or claims.user else app.policy_mailboxes
        if policy is not None and mailbox not in (box.casefold() for box in policy):
            message = (
                "Access to OData is disabled: [RAOP] : Blocked by tenant configured AppOnly AccessPolicy settings."
            )
            raise GraphError(403, "ErrorAccessDenied", message)

    def _names(self) -> tuple[str, str]:
        return self._options.tenant_id.casefold(), self._options.tenant_domain.casefold()

    def _app(self, client_id: str, now: float) -> AppRegistration:
        app = self.apps.get(client_id.casefold()) or self.registered(client_id, now)
        if app is None:
            text = (
                f"Application with identifier '{client_id}' was not found in the directory "
                f"'{self._options.tenant_domain}'. This can happen if the application has not been installed by the "
                "administrator of the tenant or consented to by any user in the tenant. You may have sent your "
                "authentication request to the wrong tenant."
            )
            raise EntraError(700016, "unauthorized_client", text)
        return app

    def _audience(self, scope: str, root: str) -> str:
        resource, _, permission = scope.strip().rpartition("/")
        if permission != ".default" or not resource or " " in resource:
            text = (
                f"The provided value for scope {scope} is not valid. Client credential flows must have a scope "
                "value with /.default suffixed to the resource identifier (application ID URI)."
            )
            raise EntraError(1002012, "invalid_scope", text)
        resource = resource.rstrip("/")
        if audience := self.audience_of(resource, root):
            return audience
        text = (
            f"The resource principal named {resource} was not found in the tenant named "
            f"{self._options.tenant_domain}. This can happen if the application has not been installed by the "
            "administrator of the tenant or consented to by any user in the tenant. You might have sent your "
            "authentication request to the wrong tenant."
        )
        raise EntraError(500011, "invalid_resource", text)

    def audience_of(self, resource: str, root: str) -> str | None:
        """For whom a token of this resource is; None: there is no such resource. `root` is how the caller names us."""
        if resource == root:
            return self._root
        return resource if resource in GRAPH_ROOTS or resource in (self._root, GRAPH_APP_ID) else None

    def _authenticate(self, app: AppRegistration, form: Mapping[str, str], root: str, now: float) -> None:
        if secret := form.get("client_secret"):
            check_secret(app, secret)
        elif assertion := form.get("client_assertion"):
            if form.get("client_assertion_type") != JWT_BEARER:
                text = f"The request body must contain the following parameter: 'client_assertion_type={JWT_BEARER}'."
                raise EntraError(900144, "invalid_request", text)
            hosts = {urlsplit(root).netloc, urlsplit(self._root).netloc}
            check_assertion(app, assertion, self._names(), hosts, now)
        elif "client_assertion_type" in form:
            text = "The request body must contain the following parameter: 'client_assertion' or 'client_secret'."
            raise EntraError(7000218, "invalid_request", text)
        else:
            text = (
                "'client_assertion', 'client_secret' or 'request' is required for the 'client_credentials' grant type."
            )
            raise EntraError(7000216, "invalid_client", text)


def _require_client_credentials(form: Mapping[str, str]) -> None:
    if "resource" in form:
        raise EntraError(901002, "invalid_request", "The 'resource' request parameter is not supported.")
    for name in ("grant_type", "client_id", "scope"):
        if not form.get(name):
            text = f"The request body must contain the following parameter: '{name}'."
            raise EntraError(900144, "invalid_request", text)
    if form["grant_type"] != "client_credentials":
        text = f"The app requested an unsupported grant type '{form['grant_type']}'."
        raise EntraError(70003, "unsupported_grant_type", text)


def _is_guid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True
