"""A client for a running sandbox: it reads what arrived there, and makes the sandbox fail."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

import requests

from postroom.sandbox.options import SandboxAddress


@dataclass(frozen=True, slots=True, kw_only=True)
class InboxAttachment:
    """One file of a mail, without its content."""

    filename: str
    content_type: str
    size: int
    content_id: str
    inline: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class InboxMessage:
    """A mail that the sandbox accepted. `bcc` is the envelope's: the recipients' copies do not show it."""

    id: str
    mailbox: str
    sender: str
    to: tuple[str, ...]
    cc: tuple[str, ...]
    bcc: tuple[str, ...]
    reply_to: tuple[str, ...]
    subject: str
    text: str | None
    html: str | None
    headers: tuple[tuple[str, str], ...]
    attachments: tuple[InboxAttachment, ...]
    importance: str
    properties: Mapping[str, str]
    message_id: str
    job: str
    form: str
    saved: bool
    accepted_at: float
    delayed_by: float
    bounced: str
    request_id: str

    def header(self, name: str) -> str | None:
        """The first header of this name."""
        return next((value for key, value in self.headers if key.casefold() == name.casefold()), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRecord:
    """A request that arrived. `in_flight` counts itself; `status` is None where no answer was sent."""

    number: int
    stage: str
    method: str
    path: str
    mailbox: str
    in_flight: int
    client_request_id: str
    request_id: str
    job: str
    message_id: str
    status: int | None
    code: str
    accepted: bool
    fault: str
    wall: float
    monotonic: float
    ended: float | None


class Sandbox:
    """Looks into a sandbox over its control interface."""

    def __init__(self, url: str, ca_file: str, timeout: float = 30) -> None:
        self._url = f"{url.rstrip('/')}/_sandbox"
        self._timeout = timeout
        self._session = requests.Session()
        self._session.verify = ca_file
        self._session.trust_env = False  # REQUESTS_CA_BUNDLE would win over the sandbox's own CA

    @classmethod
    def at(cls, address: SandboxAddress) -> Self:
        """A client for the sandbox at this address."""
        return cls(address.url, address.ca_file)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection."""
        self._session.close()

    def address(self) -> SandboxAddress:
        """Where the sandbox is, and the credentials that it takes."""
        return SandboxAddress(**self._call("GET", "/address"))

    def messages(self, to: str | None = None, sender: str | None = None, job: str | None = None) -> list[InboxMessage]:
        """The mails that were accepted, the oldest first."""
        return [_message(one) for one in self._call("GET", "/messages", to=to, sender=sender, job=job)]

    def wait_for_messages(self, count: int, timeout: float = 10, **filters: str | None) -> list[InboxMessage]:
        """The mails, as soon as there are `count` of them. Raises TimeoutError after `timeout` seconds."""
        found = self._call("GET", "/messages", count=count, timeout=timeout, **filters)
        return [_message(one) for one in _enough(found, count, timeout, "mails")]

    def attachment(self, message: InboxMessage, place: int = 0) -> bytes:
        """The content of the mail's attachment at this place."""
        return b64decode(self._call("GET", f"/messages/{message.id}")["contents"][place])

    def source(self, message: InboxMessage) -> str:
        """What was sent: the request's JSON, or the MIME text."""
        return str(self._call("GET", f"/messages/{message.id}")["source"])

    def requests(self, **filters: str | int | bool | None) -> list[RequestRecord]:
        """Every request that arrived, the oldest first; by `stage`, `mailbox`, `job`, `status`, `accepted`."""
        return [RequestRecord(**one) for one in self._call("GET", "/requests", **filters)]

    def wait_for_requests(
        self, count: int, timeout: float = 10, **filters: str | int | bool | None
    ) -> list[RequestRecord]:
        """The requests, as soon as `count` of them have arrived. Raises TimeoutError after `timeout` seconds."""
        found = self._call("GET", "/requests", count=count, timeout=timeout, **filters)
        return [RequestRecord(**one) for one in _enough(found, count, timeout, "requests")]

    def stats(self) -> dict[str, Any]:
        """Counters that stay exact however many messages were dropped; see `Exchange.stats`."""
        return dict(self._call("GET", "/stats"))

    def add_fault(self, **rule: Any) -> str:
        """Adds a fault, with the fields of `FaultRule`, and returns its id."""
        return str(self._call("POST", "/faults", body=rule)["id"])

    def faults(self) -> list[dict[str, Any]]:
        """The faults, and how many requests each has matched and struck."""
        return list(self._call("GET", "/faults"))

    def remove_fault(self, fault_id: str) -> None:
        """Removes a fault."""
        self._call("DELETE", f"/faults/{fault_id}")

    def clear_faults(self) -> None:
        """Removes all faults."""
        self._call("DELETE", "/faults")

    def reset(self) -> None:
        """Empties inbox and records, and sets faults, credentials and mailboxes back to the start."""
        self._call("POST", "/reset")

    def revoke_tokens(self) -> None:
        """Makes all tokens that were issued until now invalid."""
        self._call("POST", "/revoke-tokens")

    def set_secrets(self, *secrets: str, expired: Iterable[str] = (), client_id: str | None = None) -> None:
        """Sets the app's secrets, and those that Entra calls expired."""
        self._change_app(client_id, secrets=secrets, expired_secrets=list(expired))

    def set_certificates(self, *certificates: str, client_id: str | None = None) -> None:
        """Sets the app's certificates (PEM)."""
        self._change_app(client_id, certificates=certificates)

    def set_roles(self, *roles: str, client_id: str | None = None) -> None:
        """Sets the app's roles. A token keeps those that it was issued with."""
        self._change_app(client_id, roles=roles)

    def set_access(
        self,
        *,
        rbac_mailboxes: Iterable[str] = (),
        policy_mailboxes: Iterable[str] | None = None,
        client_id: str | None = None,
    ) -> None:
        """Sets where Exchange lets the app send: by RBAC in addition to its roles, by access policy only there."""
        policy = None if policy_mailboxes is None else list(policy_mailboxes)
        self._change_app(client_id, rbac_mailboxes=list(rbac_mailboxes), policy_mailboxes=policy)

    def set_mailboxes(self, mailboxes: Iterable[str] | None, disabled: Iterable[str] = ()) -> None:
        """Sets which mailboxes exist (None: any), and which of them Graph cannot reach."""
        body = {"mailboxes": None if mailboxes is None else list(mailboxes), "disabled": list(disabled)}
        self._call("POST", "/mailboxes", body=body)

    def sign_ins(self) -> list[str]:
        """The codes of sign-ins that wait for a person."""
        return list(self._call("GET", "/sign-ins"))

    def sign_in(self, user_code: str, user: str) -> None:
        """Enters a code as this account; with an empty `user` the person declines."""
        self._call("POST", "/sign-ins", body={"user_code": user_code, "user": user})

    def revoke_sign_ins(self, user: str) -> None:
        """Ends all sign-ins of this account, as a new password does."""
        self._call("DELETE", "/sign-ins", user=user)

    def change_directory(self, **changes: Any) -> dict[str, int]:
        """Changes `directory_delay`, `exchange_delay` or `credential_policy`, or puts the directory's clock forward
        (`advance`, in seconds). Returns how many objects of each kind administrators have made."""
        return dict(self._call("POST", "/directory", body=changes))

    def _change_app(self, client_id: str | None, **changes: object) -> None:
        self._call("POST", "/app", body={"client_id": client_id, **changes})

    def _call(self, method: str, path: str, body: object = None, **query: object) -> Any:
        params = {name: str(value) for name, value in query.items() if value is not None}
        timeout = self._timeout + float(params.get("timeout", 0))
        answer = self._session.request(method, self._url + path, params=params, json=body, timeout=timeout)
        if answer.status_code in (400, 404):
            raise ValueError(answer.json()["error"])
        answer.raise_for_status()
        return answer.json() if answer.content else None


def _message(data: dict[str, Any]) -> InboxMessage:
    values = {one.name: data[one.name] for one in fields(InboxMessage)}
    for name in ("to", "cc", "bcc", "reply_to"):
        values[name] = tuple(values[name])
    values["headers"] = tuple((name, value) for name, value in values["headers"])
    values["attachments"] = tuple(InboxAttachment(**one) for one in values["attachments"])
    return InboxMessage(**values)


def _enough(found: list[dict[str, Any]], count: int, timeout: float, what: str) -> list[dict[str, Any]]:
    if len(found) < count:
        raise TimeoutError(f"{len(found)} of {count} {what} reached the sandbox within {timeout:g} s")
    return found
