"""A stand-in for Entra, and an app registration that asks it for tokens."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, cast
from urllib.parse import parse_qs

from requests.structures import CaseInsensitiveDict

from postroom.graph.credentials import Identity, Secret
from postroom.graph.tokens import NoToken, Token, Tokens
from postroom.transport.http import Http, Response

ROOT = "https://entra.example"
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
IDENTITY = Identity(
    tenant_id="contoso",
    client_id="app-1",
    authority_url=ROOT,
    graph_url="https://graph.example",
    credential=Secret("s3cr3t"),
)
DISCOVERY = {
    "issuer": f"{ROOT}/contoso/v2.0",
    "authorization_endpoint": f"{ROOT}/contoso/oauth2/v2.0/authorize",
    "token_endpoint": f"{ROOT}/contoso/oauth2/v2.0/token",
}


class Entra:
    """Stands in for Http. Answers token requests with `answers`, one after the other, the last one for ever."""

    def __init__(self, *answers: Response | Exception, discovery: Response | None = None) -> None:
        self.answers = list(answers) or [token_answer()]
        self.discovery = discovery or reply(200, DISCOVERY)
        self.asked: list[dict[str, Any]] = []
        self.while_asked: Callable[[], object] = lambda: None

    def exchange(self, method: str, url: str, **given: Any) -> Response:
        if method == "GET" and "openid-configuration" in url:
            return self.discovery
        self.asked.append({"method": method, "url": url, **given})
        self.while_asked()
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        if b'"{n}"' in answer.body:
            body = answer.body.replace(b"{n}", b"token-%d" % len(self.asked))
            return Response(answer.status, answer.headers, body)
        return answer

    def form(self) -> dict[str, str]:
        return {name: values[0] for name, values in parse_qs(self.asked[-1]["body"].decode()).items()}


class Clock:
    now = NOW.timestamp()

    def __call__(self) -> float:
        return self.now


def reply(status: int, body: object, **headers: str) -> Response:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    shown = CaseInsensitiveDict({name.replace("_", "-"): value for name, value in headers.items()})
    return Response(status, shown, data)


def token_answer(expires_in: int = 3600) -> Response:
    return reply(200, {"token_type": "Bearer", "expires_in": expires_in, "access_token": "{n}"})


def refusal(status: int, error: str, code: int, **headers: str) -> Response:
    text = f"AADSTS{code}: It is not to be. Trace ID: t-1 Correlation ID: c-1"
    body = {"error": error, "error_description": text, "error_codes": [code], "trace_id": "t-1"}
    return reply(status, body, **headers)


def tokens_from(
    entra: Entra, clock: Clock | None = None, identity: Identity = IDENTITY, deadline_s: float = 20
) -> Tokens:
    return Tokens(identity, cast("Http", entra), deadline_s=deadline_s, clock=clock or Clock())


def value(found: Token | NoToken) -> str:
    assert isinstance(found, Token), found
    return found.value
