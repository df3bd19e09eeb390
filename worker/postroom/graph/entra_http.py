"""Lets MSAL make its requests by our transport, with limits of time."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any
from urllib.parse import urlencode

from postroom.transport.http import Http, Response


@dataclass(frozen=True, slots=True)
class EntraAnswer:
    """An answer in the form that MSAL reads."""

    status_code: int
    text: str = field(repr=False)
    headers: Mapping[str, str]


class EntraHttp:
    """MSAL's `http_client`. Each request has `each_s` seconds, and all of them together have `total_s` from now on.

    `last` is the last answer, whose body MSAL may drop. Raises NotSent and Lost.
    """

    def __init__(self, http: Http, *, each_s: float = inf, total_s: float = inf) -> None:
        self._http, self._each_s = http, each_s
        self._deadline = time.monotonic() + total_s
        self.last: Response | None = None

    def get(self, url: str, **given: Any) -> EntraAnswer:
        return self._exchange("GET", url, **given)

    def post(self, url: str, **given: Any) -> EntraAnswer:
        return self._exchange("POST", url, **given)

    def close(self) -> None:
        """The connections are not this object's."""

    def _exchange(
        self,
        method: str,
        url: str,
        *,
        params: Mapping[str, str] | None = None,
        data: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        **_: Any,
    ) -> EntraAnswer:
        form = {"Content-Type": "application/x-www-form-urlencoded"} if data else {}
        self.last = self._http.exchange(
            method,
            f"{url}?{urlencode(params)}" if params else url,
            headers={**(headers or {}), **form},
            body=urlencode(data).encode() if data else None,
            deadline_s=min(self._each_s, self._deadline - time.monotonic()),
        )
        text = self.last.body.decode(errors="replace")
        return EntraAnswer(self.last.status, text, self.last.headers)
