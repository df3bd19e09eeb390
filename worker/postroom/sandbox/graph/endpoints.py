"""Graph's endpoints for mail. They use no web framework, so that load tests are not limited by one."""

from __future__ import annotations

import time
from contextlib import ExitStack

from postroom.sandbox.connection import Answer, Call
from postroom.sandbox.control.effects import dress, finish, prepare
from postroom.sandbox.control.faults import FaultRule
from postroom.sandbox.entra.tokens import Claims
from postroom.sandbox.exchange.errors import GraphError
from postroom.sandbox.exchange.message import Outgoing
from postroom.sandbox.graph.attachments import AddAttachment, CreateUploadSession, ListAttachments
from postroom.sandbox.graph.drafts import CreateDraft, DeleteMessage, GetMessage, SendDraft
from postroom.sandbox.graph.errors import refuse, unauthorized
from postroom.sandbox.graph.faulty_answers import faulty_answer
from postroom.sandbox.graph.look_up import LookUp
from postroom.sandbox.graph.send_mail import SendMail
from postroom.sandbox.graph.uploads import UPLOADS, CancelUpload, UploadRange, UploadSession
from postroom.sandbox.graph.visit import Operation, Visit
from postroom.sandbox.world import World

MAX_REQUEST = 4 * 1024 * 1024


class Graph:
    """Everything below `/v1.0`, and the URLs of upload sessions, which Graph gives out."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._send_mail = SendMail(world)
        self._all_messages = LookUp(world)
        self._create_draft = CreateDraft(world)

    async def __call__(self, call: Call) -> None:
        """Answers one call to Graph."""
        match call.path.split("/"):
            case ["", _, "users", user, action] if action.casefold() in ("sendmail", "microsoft.graph.sendmail"):
                await self._visit(call, user, self._send_mail)
            case ["", _, "users", user, "messages"] if call.method == "GET":
                await self._visit(call, user, self._all_messages)
            case ["", _, "users", user, "messages"] if call.method == "POST":
                await self._visit(call, user, self._create_draft)
            case ["", _, "users", user, "messages", message_id] if call.method == "DELETE":
                await self._visit(call, user, DeleteMessage(self._world, message_id))
            case ["", _, "users", user, "messages", message_id]:
                await self._visit(call, user, GetMessage(self._world, message_id))
            case ["", _, "users", user, "messages", message_id, "send"]:
                await self._visit(call, user, SendDraft(self._world, message_id))
            case ["", _, "users", user, "messages", message_id, "attachments"]:
                add_or_list = ListAttachments if call.method == "GET" else AddAttachment
                await self._visit(call, user, add_or_list(self._world, message_id))
            case ["", _, "users", user, "messages", message_id, "attachments", "createUploadSession"]:
                await self._visit(call, user, CreateUploadSession(self._world, message_id))
            case _ if call.path.startswith(UPLOADS):
                session = self._world.uploads.admit(call)
                user = session.user if isinstance(session, UploadSession) else ""
                take_or_cancel = CancelUpload if call.method == "DELETE" else UploadRange
                await self._visit(call, user, take_or_cancel(self._world.uploads, session))
            case ["", _, "users", user, "mailFolders", folder, "messages"] if call.method == "GET":
                await self._visit(call, user, LookUp(self._world, folder))
            case _:
                await self._no_such_resource(call)

    async def _visit(self, call: Call, user: str, operation: Operation) -> None:
        world = self._world
        mailbox = world.exchange.mailbox(user)
        claims = self._claims(call)
        meter = world.exchange.meter(claims.app_id if isinstance(claims, Claims) else "", mailbox)
        throttle = meter.enter(call.content_length, time.monotonic())
        arrival = world.log.arrive(operation.stage, call, mailbox, meter.in_flight)
        with ExitStack() as inside:
            inside.callback(meter.leave)
            if throttle is not None:
                meter.throttled += 1
                await finish(world, call, arrival, None, refuse(arrival, throttle), inside.close)
                return
            visit = Visit(call, user, arrival, meter)
            if not await self._read(visit, operation):  # the client left while it was sending
                world.log.end(arrival, None)
                return
            rule = await self._meet_fault(visit, operation)
            answer = self._answer(visit, operation, rule)
            meter.throttled += answer.status == 429
            # "Accept, then fail" has nothing to hide where the request was refused.
            spared = rule is not None and rule.accepted and not visit.done
            await finish(world, call, arrival, None if spared else rule, answer, inside.close)

    async def _read(self, visit: Visit, operation: Operation) -> bool:
        body = b"" if visit.call.content_length > MAX_REQUEST else await visit.call.body()
        if body is None:
            return False
        if max(visit.call.content_length, len(body)) > MAX_REQUEST:
            visit.mail = GraphError(413, "RequestEntityTooLarge", "The maximum request length supported is 4MB.")
            return True
        try:
            visit.mail = operation.read(visit, body)
        except GraphError as error:
            visit.mail = error
        return True

    async def _meet_fault(self, visit: Visit, operation: Operation) -> FaultRule | None:
        world, arrival = self._world, visit.arrival
        mail = visit.mail if isinstance(visit.mail, Outgoing) else None
        if mail is not None:
            arrival.message_id = mail.message_id
            arrival.job = mail.job() or arrival.job
        fault = world.faults.strike(operation.stage, arrival.mailbox, mail, arrival.job)
        rule = await prepare(world, fault, arrival)
        await world.pause(world.options.latency)
        return rule

    def _answer(self, visit: Visit, operation: Operation, rule: FaultRule | None) -> Answer:
        if rule is not None and rule.effect != "pass" and not rule.accepted:
            return faulty_answer(rule, visit.arrival)
        try:
            answer = self._perform(visit, operation)
            visit.done = True
        except GraphError as error:
            return refuse(visit.arrival, error)
        if rule is not None and rule.effect == "answer":
            return faulty_answer(rule, visit.arrival)
        return dress(rule, answer) if rule else answer

    def _perform(self, visit: Visit, operation: Operation) -> Answer:
        # Asked again: a fault may have revoked the token that was good on arrival.
        claims = self._claims(visit.call)
        if isinstance(claims, GraphError):
            raise claims
        claims = self._world.tenant.in_mailbox(claims, visit.arrival.mailbox)
        claims = self._world.directory.with_exchange_roles(claims, visit.arrival.mailbox)
        operation.allow(claims, visit)
        if visit.call.method != operation.method:
            raise GraphError(405, "ErrorInvalidRequest", "The OData request is not supported.")
        return operation.perform(visit)

    def _claims(self, call: Call) -> Claims | GraphError:
        if call.path.startswith(UPLOADS):
            session = self._world.uploads.admit(call)
            return session.claims if isinstance(session, UploadSession) else session
        scheme, _, token = call.header(b"authorization").partition(" ")
        if scheme.casefold() != "bearer" or not token:
            return unauthorized("Access token is empty.")
        claims = self._world.mint.read(token, time.time())
        return unauthorized(claims) if isinstance(claims, str) else claims

    async def _no_such_resource(self, call: Call) -> None:
        arrival = self._world.log.arrive("graph", call)
        error = self._claims(call)
        if not isinstance(error, GraphError):
            message = f"Resource not found for the segment '{call.path.rpartition('/')[2]}'."
            if call.path.startswith("/v1.0/me/"):
                message = "/me request is only valid with delegated authentication flow."
            error = GraphError(400, "BadRequest", message)
        await finish(self._world, call, arrival, None, refuse(arrival, error))
