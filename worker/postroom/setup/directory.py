"""Graph as an administrator's client needs it: requests that are tried again where that is safe, and pages."""

import json
import time
import uuid
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Any

from postroom.setup.errors import Refusal, SetupError, Unsure
from postroom.transport.http import Http, Lost, NotSent, Response

DEADLINE_S = 30.0
TRIES = 6
LONGEST_WAIT_S = 60.0
MOST_PAGES = 200
_BUSY = {429, 500, 502, 503, 504}


class Directory:
    """One tenant, by Graph's root URL and a function that gives a token."""

    def __init__(
        self, root: str, http: Http, token: Callable[[], str], sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self.root = root.rstrip("/")
        self._http, self._token, self._sleep = http, token, sleep

    def read(self, path: str) -> dict[str, Any]:
        """The object at this path (with its version: `/v1.0/…`). Raises Refusal."""
        return self._call("GET", path)

    def find(self, path: str) -> dict[str, Any] | None:
        """The object at this path; None if there is none, or none that is seen yet. Raises Refusal."""
        try:
            return self.read(path)
        except Refusal as refusal:
            if refusal.status == 404:
                return None
            raise

    def read_all(self, path: str) -> list[dict[str, Any]]:
        """All rows of a collection, page by page. Raises SetupError where there is no end of pages."""
        rows: list[dict[str, Any]] = []
        url = path
        for _ in range(MOST_PAGES):
            page = self._call("GET", url)
            rows += [row for row in page.get("value", []) if isinstance(row, dict)]
            url = str(page.get("@odata.nextLink") or "")
            if not url:
                return rows
            if not url.startswith(f"{self.root}/"):  # the token is for this Graph alone
                raise SetupError(f"{path}: the next page is said to be at another host; nothing was asked there")
        raise SetupError(f"{path}: more than {MOST_PAGES} pages")

    def write(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, prefer: str = ""
    ) -> dict[str, Any]:
        """The answer to a change. Raises Refusal; Unsure where it may have been carried out or not."""
        return self._call(method, path, body, prefer)

    def _call(self, method: str, path: str, body: Mapping[str, Any] | None = None, prefer: str = "") -> dict[str, Any]:
        what = f"{method} {path.removeprefix(self.root).partition('?')[0]}"
        for attempt in range(1, TRIES + 1):
            try:
                answer = self._exchange(method, path, body, prefer)
            except NotSent as fault:
                again = f"{what}: {fault}"
            except Lost as fault:
                if method != "GET":
                    raise Unsure(f"{what}: {fault}") from None
                again = f"{what}: {fault}"
            else:
                if answer.status not in _BUSY:
                    return _read(what, answer)
                if method != "GET" and answer.status != 429:
                    raise Unsure(f"{what}: Graph answered {answer.status}")
                again = f"{what}: Graph answered {answer.status}"
                self._sleep(_wait(answer, attempt))
                continue
            self._sleep(min(2.0**attempt, LONGEST_WAIT_S))
        raise SetupError(f"{again}, {TRIES} times; try again later")

    def _exchange(self, method: str, path: str, body: Mapping[str, Any] | None, prefer: str) -> Response:
        headers = {
            "Authorization": f"Bearer {self._token()}",
            "User-Agent": f"postroom/{version('postroom')}",
            "client-request-id": str(uuid.uuid4()),
            "Accept": "application/json",
            **({"Content-Type": "application/json"} if body is not None else {}),
            **({"Prefer": prefer} if prefer else {}),
        }
        url = path if path.startswith(f"{self.root}/") else f"{self.root}{path}"
        data = json.dumps(body).encode() if body is not None else b"" if method == "POST" else None
        return self._http.exchange(method, url, headers=headers, body=data, deadline_s=DEADLINE_S)


def quoted(text: str) -> str:
    """A text as OData writes it, for a filter or a key."""
    return "'" + text.replace("'", "''") + "'"


def _read(what: str, answer: Response) -> dict[str, Any]:
    try:
        value = json.loads(answer.body) if answer.body else {}
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise SetupError(f"{what}: the answer ({answer.status}) is no JSON object; is this Graph?")
    if answer.status < 300:
        return value
    error = value.get("error")
    error = error if isinstance(error, dict) else {}
    raise Refusal(what, answer.status, str(error.get("code", "")), str(error.get("message", "")))


def _wait(answer: Response, attempt: int) -> float:
    try:
        asked = float(answer.headers.get("retry-after", ""))
    except ValueError:
        asked = 2.0**attempt
    return max(0.0, min(asked, LONGEST_WAIT_S))
