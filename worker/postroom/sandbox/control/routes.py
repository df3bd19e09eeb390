"""`/_sandbox`: what tests and tools read from a sandbox, and the switches they set, as JSON."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from postroom.sandbox.control.faults import FaultRule
from postroom.sandbox.control.request_log import Arrival
from postroom.sandbox.exchange.message import Message
from postroom.sandbox.options import CredentialPolicy
from postroom.sandbox.world import World

T = TypeVar("T")

_APP_FIELDS = ("secrets", "expired_secrets", "certificates", "roles", "rbac_mailboxes", "policy_mailboxes")


def control_routes(world: World) -> list[Route]:
    """The routes of the control interface."""
    control = _Control(world)
    paths: list[tuple[str, str, Callable[[Request], Awaitable[Response]]]] = [
        ("GET", "/address", control.address),
        ("GET", "/messages", control.messages),
        ("GET", "/messages/{id}", control.message),
        ("GET", "/requests", control.requests),
        ("GET", "/stats", control.stats),
        ("GET", "/faults", control.faults),
        ("POST", "/faults", control.add_fault),
        ("DELETE", "/faults", control.clear_faults),
        ("DELETE", "/faults/{id}", control.remove_fault),
        ("POST", "/reset", control.reset),
        ("POST", "/revoke-tokens", control.revoke_tokens),
        ("POST", "/app", control.change_app),
        ("POST", "/mailboxes", control.set_mailboxes),
        ("GET", "/sign-ins", control.sign_ins),
        ("POST", "/sign-ins", control.decide_sign_in),
        ("DELETE", "/sign-ins", control.revoke_sign_ins),
        ("POST", "/directory", control.change_directory),
    ]
    return [Route(f"/_sandbox{path}", handler, methods=[method]) for method, path, handler in paths]


class _Control:
    def __init__(self, world: World) -> None:
        self._world = world

    async def address(self, _: Request) -> Response:
        return JSONResponse(self._world.address.to_json())

    async def messages(self, request: Request) -> Response:
        wanted = request.query_params
        found = await self._when_enough(request, lambda: self._messages(wanted))
        return JSONResponse([message_json(one) for one in found])

    async def message(self, request: Request) -> Response:
        message = self._world.exchange.get(request.path_params["id"])
        if message is None:
            return _problem(404, f"no message {request.path_params['id']}; it may have been dropped for newer ones")
        files = [b64encode(one.content).decode() for one in message.mail.attachments]
        source = message.mail.source.decode("utf-8", "replace")
        return JSONResponse({**message_json(message), "contents": files, "source": source})

    async def requests(self, request: Request) -> Response:
        wanted = request.query_params
        found = await self._when_enough(request, lambda: self._arrivals(wanted))
        return JSONResponse([one.to_json() for one in found])

    async def stats(self, _: Request) -> Response:
        return JSONResponse(self._world.stats())

    async def faults(self, _: Request) -> Response:
        return JSONResponse([fault.to_json() for fault in self._world.faults.active()])

    async def add_fault(self, request: Request) -> Response:
        try:
            rule = FaultRule.from_json(await request.json())
        except (TypeError, ValueError) as error:
            return _problem(400, str(error))
        return JSONResponse({"id": self._world.faults.add(rule)}, 201)

    async def clear_faults(self, _: Request) -> Response:
        self._world.faults.clear()
        return Response(status_code=204)

    async def remove_fault(self, request: Request) -> Response:
        fault_id = request.path_params["id"]
        if self._world.faults.remove(fault_id):
            return Response(status_code=204)
        return _problem(404, f"no fault {fault_id} is in force")

    async def reset(self, _: Request) -> Response:
        self._world.reset()
        return Response(status_code=204)

    async def revoke_tokens(self, _: Request) -> Response:
        self._world.mint.revoke_all()
        return Response(status_code=204)

    async def change_app(self, request: Request) -> Response:
        changes = await request.json()
        client_id = changes.pop("client_id", None)
        if unknown := set(changes) - set(_APP_FIELDS):
            return _problem(400, f"an app has no {', '.join(sorted(unknown))}; it has {', '.join(_APP_FIELDS)}")
        values = {name: value if value is None else tuple(value) for name, value in changes.items()}
        try:
            self._world.tenant.change(client_id, **values)
        except ValueError as error:
            return _problem(404, str(error))
        return Response(status_code=204)

    async def set_mailboxes(self, request: Request) -> Response:
        body = await request.json()
        self._world.exchange.set_mailboxes(body.get("mailboxes"), body.get("disabled", ()))
        return Response(status_code=204)

    async def sign_ins(self, _: Request) -> Response:
        waiting = self._world.sign_in.waiting.values()
        return JSONResponse([one.user_code for one in waiting if one.user is None])

    async def revoke_sign_ins(self, request: Request) -> Response:
        """Ends the sign-ins of a person, as a new password does."""
        self._world.sign_in.revoke(request.query_params["user"])
        return JSONResponse({})

    async def decide_sign_in(self, request: Request) -> Response:
        body = await request.json()
        try:
            self._world.sign_in.decide(body["user_code"], body["user"])
        except ValueError as error:
            return _problem(404, str(error))
        return Response(status_code=204)

    async def change_directory(self, request: Request) -> Response:
        changes = await request.json()
        directory = self._world.directory
        directory.ahead += changes.pop("advance", 0.0)
        if "credential_policy" in changes:
            directory.policy = CredentialPolicy(**changes.pop("credential_policy"))
        for name in ("directory_delay", "exchange_delay"):
            if name in changes:
                setattr(directory, name, float(changes.pop(name)))
        if changes:
            return _problem(400, f"the directory has no {', '.join(sorted(changes))}")
        return JSONResponse(directory.summary())

    async def _when_enough(self, request: Request, select: Callable[[], list[T]]) -> list[T]:
        wanted, timeout = request.query_params.get("count"), request.query_params.get("timeout")
        if wanted is not None:
            await self._world.bell.until(lambda: len(select()) >= int(wanted), float(timeout or 10))
        return select()

    def _messages(self, wanted: Mapping[str, str]) -> list[Message]:
        found = [one for one in self._world.exchange.newest() if _fits(one, wanted)]
        return found[::-1]

    def _arrivals(self, wanted: Mapping[str, str]) -> list[Arrival]:
        names = [name for name in ("stage", "mailbox", "job", "status", "accepted") if name in wanted]
        found = [
            one
            for one in self._world.log.newest()
            if all(str(getattr(one, name)).casefold() == wanted[name].casefold() for name in names)
        ]
        return found[::-1]


def message_json(message: Message) -> dict[str, Any]:
    """The message as the control client reads it, without the contents of its attachments."""
    mail = message.mail
    files = [
        {
            "filename": one.filename,
            "content_type": one.content_type,
            "size": len(one.content),
            "content_id": one.content_id,
            "inline": one.inline,
        }
        for one in mail.attachments
    ]
    return {
        "id": message.id,
        "mailbox": message.mailbox,
        "sender": message.sender,
        "to": [one.address for one in mail.to],
        "cc": [one.address for one in mail.cc],
        "bcc": [one.address for one in mail.bcc],
        "reply_to": [one.address for one in mail.reply_to],
        "subject": mail.subject,
        "text": mail.text,
        "html": mail.html,
        "headers": mail.headers,
        "attachments": files,
        "importance": mail.importance,
        "properties": mail.properties,
        "message_id": mail.message_id,
        "job": message.job,
        "form": mail.form,
        "saved": bool(message.folder),
        "accepted_at": message.accepted_at,
        "delayed_by": message.delayed_by,
        "bounced": message.bounced,
        "request_id": message.request_id,
    }


def _fits(message: Message, wanted: Mapping[str, str]) -> bool:
    if "job" in wanted and wanted["job"] != message.job:
        return False
    if "sender" in wanted and wanted["sender"].casefold() != message.sender:
        return False
    if "to" in wanted:
        return any(one.address.casefold() == wanted["to"].casefold() for one in message.mail.recipients())
    return True


def _problem(status: int, message: str) -> Response:
    return JSONResponse({"error": message}, status)
