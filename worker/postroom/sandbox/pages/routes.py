"""The pages: the inbox, each mail with its parts, and the room from which faults are set."""

from __future__ import annotations

import json
import mimetypes
import re
from base64 import b64encode
from collections.abc import Mapping
from datetime import UTC, datetime
from html import unescape
from importlib.resources import files
from typing import Any
from urllib.parse import parse_qsl, quote, unquote

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from postroom.sandbox.control.faults import EFFECTS, STAGES, FaultRule
from postroom.sandbox.exchange.message import Message
from postroom.sandbox.world import World

PAGE = 50
SHOWN_SOURCE = 200_000

_SAFE = {
    "content-security-policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self' data:; "
        "frame-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}
# A mail may be hostile: no script, no form and nothing from the network. A link opens in another tab.
_MAIL_SANDBOX = "allow-popups allow-popups-to-escape-sandbox"
_MAIL_SAFE = {
    "content-security-policy": (
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:; form-action 'none'; "
        f"base-uri 'none'; frame-ancestors 'self'; sandbox {_MAIL_SANDBOX}"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}
_CID = re.compile(r"cid:([^\s\"'()<>]+)", re.IGNORECASE)
_IMAGE = re.compile(r"image/[a-z0-9.+-]+", re.IGNORECASE)
_HEAD = re.compile(r"<head\b[^>]*>", re.IGNORECASE)
_TAGS = re.compile(r"<(style|script|head)\b.*?</\1\s*>|<[^>]*>", re.IGNORECASE | re.DOTALL)

PRESETS: dict[str, dict[str, Any]] = {
    "Graph throttles once": {"status": 429, "retry_after": 10, "times": 1},
    "Graph is busy": {"status": 503},
    "504, though the mail was sent": {"status": 504, "accepted": True, "body": "<h1>504 Gateway Timeout</h1>"},
    "Reset after accepting": {"effect": "reset", "accepted": True, "times": 1},
    "Graph hangs": {"effect": "hang"},
    "One answer in ten fails": {"status": 500, "probability": 0.1},
    "Entra is down": {"stage": "token", "status": 503},
    "Wrong secret": {"stage": "token", "code": "7000215"},
}


def page_routes(world: World) -> list[Route]:
    """The routes of the pages."""
    pages = _Pages(world)
    return [
        Route("/", pages.inbox),
        Route("/messages/{id}", pages.message),
        Route("/messages/{id}/html", pages.mail_html),
        Route("/messages/{id}/source", pages.source),
        Route("/messages/{id}/attachments/{place:int}", pages.attachment),
        Route("/room", pages.room),
        Route("/room/faults", pages.add_fault, methods=["POST"]),
        Route("/room/faults/clear", pages.clear_faults, methods=["POST"]),
        Route("/room/faults/{id}/remove", pages.remove_fault, methods=["POST"]),
        Route("/room/reset", pages.reset, methods=["POST"]),
        Route("/device", pages.device),
        Route("/device", pages.enter_code, methods=["POST"]),
        Route("/static/{name}", pages.static),
    ]


class _Pages:
    # Handlers that only read are plain functions, which Starlette runs in a thread: a search through ten thousand mails
    # must not delay a sendMail. Those that change something are coroutines: all changes are made in the event loop.

    def __init__(self, world: World) -> None:
        self._world = world
        self._templates = Environment(
            loader=PackageLoader("postroom.sandbox.pages"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.globals |= {"address": world.address}
        self._templates.filters |= {"clock": _clock, "size": _size, "snippet": _snippet}
        self._static = {
            name: files("postroom.sandbox.pages").joinpath("static", name).read_bytes()
            for name in ("sandbox.css", "sandbox.js", "icon.svg")
        }

    def inbox(self, request: Request) -> Response:
        query = request.query_params.get("q", "").strip()
        page = _number(request.query_params.get("page"), 1)
        words = query.casefold().split()
        found = [one for one in self._world.exchange.newest() if not words or one.matches(words)]
        shown = found[(page - 1) * PAGE : page * PAGE]
        older = page + 1 if len(found) > page * PAGE else None
        return self._page("inbox.html", query=query, messages=shown, found=len(found), page=page, older=older)

    def message(self, request: Request) -> Response:
        message = self._world.exchange.get(request.path_params["id"])
        if message is None:
            return self._gone()
        tabs = _tabs(message)
        tab = request.query_params.get("tab", "")
        newer, older = self._world.exchange.neighbours(message)
        return self._page(
            "message.html",
            query="",
            message=message,
            mail=message.mail,
            tabs=tabs,
            tab=tab if tab in tabs else next(iter(tabs)),
            headers=_headers(message),
            source=_source(message)[:SHOWN_SOURCE],
            cut=len(message.mail.source) > SHOWN_SOURCE,
            sandbox=_MAIL_SANDBOX,
            newer=newer,
            older=older,
        )

    def mail_html(self, request: Request) -> Response:
        message = self._world.exchange.get(request.path_params["id"])
        if message is None or message.mail.html is None:
            return self._gone()
        return HTMLResponse(_with_base(_with_images(message)), headers=_MAIL_SAFE)

    def source(self, request: Request) -> Response:
        message = self._world.exchange.get(request.path_params["id"])
        if message is None:
            return self._gone()
        name = f"mail-{message.number}.{'eml' if message.mail.form == 'mime' else 'json'}"
        return _download(message.mail.source, name)

    def attachment(self, request: Request) -> Response:
        message = self._world.exchange.get(request.path_params["id"])
        place = request.path_params["place"]
        if message is None or place >= len(message.mail.attachments):
            return self._gone()
        attachment = message.mail.attachments[place]
        return _download(attachment.content, attachment.filename)

    def room(self, request: Request) -> Response:
        return self._room()

    async def add_fault(self, request: Request) -> Response:
        form = dict(parse_qsl((await request.body()).decode("utf-8", "replace")))
        try:
            preset = form.pop("preset", None)
            rule = FaultRule.from_json(PRESETS[preset] if preset in PRESETS else _rule(form))
        except (TypeError, ValueError) as error:
            return self._room(problem=str(error), form=form, status=400)
        self._world.faults.add(rule)
        return _back_to_room()

    async def remove_fault(self, request: Request) -> Response:
        self._world.faults.remove(request.path_params["id"])
        return _back_to_room()

    async def clear_faults(self, _: Request) -> Response:
        self._world.faults.clear()
        return _back_to_room()

    async def reset(self, _: Request) -> Response:
        self._world.reset()
        return RedirectResponse("/", 303)

    def static(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in self._static:
            return self._gone()
        kind = mimetypes.guess_type(name)[0]
        return Response(self._static[name], media_type=kind, headers={**_SAFE, "cache-control": "no-cache"})

    def _room(self, problem: str = "", form: Mapping[str, str] | None = None, status: int = 200) -> Response:
        return self._page(
            "room.html",
            status,
            query="",
            stats=self._world.stats(),
            faults=self._world.faults.active(),
            told=_told,
            stages=STAGES,
            effects=EFFECTS,
            presets=PRESETS,
            problem=problem,
            form=form or {},
        )

    def device(self, request: Request) -> Response:
        return self._page("device.html", query="", **self._sign_ins(), problem="", done="")

    async def enter_code(self, request: Request) -> Response:
        form = dict(parse_qsl((await request.body()).decode("utf-8", "replace")))
        user, problem, done = form.get("user", ""), "", ""
        try:
            self._world.sign_in.decide(form.get("code", ""), user)
            done = f"{user} has signed in. You can close this page." if user else "The sign-in was declined."
        except ValueError as error:
            problem = str(error)
        return self._page("device.html", query="", **self._sign_ins(), problem=problem, done=done)

    def _sign_ins(self) -> dict[str, Any]:
        waiting = [one.user_code for one in self._world.sign_in.waiting.values() if one.user is None]
        return {"waiting": waiting, "accounts": list(self._world.directory.accounts.values())}

    def _page(self, template: str, status: int = 200, **values: Any) -> Response:
        html = self._templates.get_template(template).render(values)
        return HTMLResponse(html, status, headers={**_SAFE, "cache-control": "no-store"})

    def _gone(self) -> Response:
        return self._page("gone.html", 404, query="")


def _rule(form: Mapping[str, str]) -> dict[str, Any]:
    rule: dict[str, Any] = {}
    for name, text in form.items():
        value = text.strip()
        if not value:
            continue
        match name:
            case "accepted" | "revoke_tokens":
                rule[name] = True
            case "status" | "times" | "after":
                rule[name] = int(value)
            case "probability" | "delay" | "drip":
                rule[name] = float(value)
            case "retry_after":
                rule[name] = float(value) if re.fullmatch(r"\d+(\.\d+)?", value) else value
            case _:
                rule[name] = value
    return rule


def _told(rule: FaultRule) -> str:
    """The rule as a sentence."""
    if rule.effect == "answer":
        status = rule.status or "its usual status"
        does = f"answers {status} {rule.code}".rstrip()
    else:
        does = {"hang": "never answers", "reset": "resets the connection", "close": "closes the connection"}.get(
            rule.effect, "lets the service answer"
        )
    extras = [
        (rule.accepted, "though the mail was accepted"),
        (rule.retry_after is not None, f"Retry-After {rule.retry_after}"),
        (rule.delay, f"after {rule.delay:g} s"),
        (rule.drip is not None, f"a byte every {rule.drip or 0:g} s"),
        (rule.revoke_tokens, "revoking all tokens"),
    ]
    return ", ".join([does, *(text for applies, text in extras if applies)])


def _tabs(message: Message) -> dict[str, str]:
    mail = message.mail
    tabs = {}
    if mail.html is not None:
        tabs["html"] = "HTML"
    if mail.text is not None or mail.html is None:
        tabs["text"] = "Text"
    tabs |= {"headers": "Headers", "source": "Source"}
    if mail.attachments:
        tabs["attachments"] = f"Attachments ({len(mail.attachments)})"
    return tabs


def _headers(message: Message) -> list[tuple[str, str]]:
    mail = message.mail
    if mail.form == "mime":
        return mail.headers
    people = {"To": mail.to, "Cc": mail.cc, "Reply-To": mail.reply_to}
    headers = [("From", str(mail.author or message.sender)), ("Subject", mail.subject)]
    headers += [(name, ", ".join(map(str, some))) for name, some in people.items() if some]
    headers += [("Message-ID", mail.message_id), ("Importance", mail.importance)]
    return headers + mail.headers


def _source(message: Message) -> str:
    text = message.mail.source.decode("utf-8", "replace")
    if message.mail.form == "mime" or len(text) > SHOWN_SOURCE:
        return text
    return json.dumps(json.loads(text), indent=2, ensure_ascii=False)


def _with_images(message: Message) -> str:
    images = {
        one.content_id.strip("<>"): one
        for one in message.mail.attachments
        if one.content_id and _IMAGE.fullmatch(one.content_type)
    }

    def in_place(found: re.Match[str]) -> str:
        image = images.get(unquote(found[1]))
        if image is None:
            return found[0]
        return f"data:{image.content_type};base64,{b64encode(image.content).decode()}"

    return _CID.sub(in_place, message.mail.html or "")


def _with_base(html: str) -> str:
    base = '<base target="_blank">'
    head = _HEAD.search(html)
    return html[: head.end()] + base + html[head.end() :] if head else f"<!doctype html>{base}{html}"


def _download(content: bytes, filename: str) -> Response:
    headers = {
        "content-disposition": f"attachment; filename*=UTF-8''{quote(filename, safe='')}",
        "content-security-policy": "default-src 'none'; sandbox",
        "x-content-type-options": "nosniff",
    }
    return Response(content, media_type="application/octet-stream", headers=headers)


def _back_to_room() -> Response:
    return RedirectResponse("/room", 303)


def _number(text: str | None, default: int) -> int:
    return max(1, int(text)) if text and text.isdecimal() else default


def _clock(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _size(count: int) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000  # type: ignore[assignment]
    return f"{count:.1f} GB"


def _snippet(message: Message) -> str:
    mail = message.mail
    text = mail.text if mail.text is not None else _TAGS.sub(" ", (mail.html or "")[:5000])
    return " ".join(unescape(text[:2000]).split())[:140]
