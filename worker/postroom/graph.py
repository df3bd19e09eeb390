"""Microsoft Graph, as far as sending needs it: https://learn.microsoft.com/graph/api/user-sendmail."""

from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from urllib.parse import quote

from postroom.http import Http, Lost, NotSent
from postroom.outcome import Outcome
from postroom.verdicts import judge, lost, not_sent
from postroom.wire import GraphRequest

_USER_AGENT = f"postroom/{version('postroom')}"


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Graph:
    """One Graph, by its root URL (`https://graph.microsoft.com`, without version)."""

    def __init__(self, root_url: str, http: Http, clock: Callable[[], datetime] = _utc_now) -> None:
        self._users = f"{root_url.rstrip('/')}/v1.0/users/"
        self._http = http
        self._clock = clock

    def send_mail(
        self,
        mailbox: str,
        request: GraphRequest,
        token: str,
        *,
        client_request_id: str,
        deadline_s: float,
        before_write: Callable[[], None] | None = None,
    ) -> Outcome:
        """The outcome of posting `request` once, from `mailbox`, within `deadline_s` seconds in all.

        `client_request_id` is what Microsoft's support finds the attempt by. What `before_write` raises comes out
        unchanged, and nothing was sent then.
        """
        headers = {
            "Authorization": f"Bearer {token}",
            "Content-Type": request.content_type,
            "User-Agent": _USER_AGENT,
            "client-request-id": client_request_id,
            "return-client-request-id": "true",
        }
        try:
            answer = self._http.exchange(
                "POST",
                f"{self._users}{quote(mailbox, safe='@')}/sendMail",
                headers=headers,
                body=request.body,
                deadline_s=deadline_s,
                before_write=before_write,
            )
        except NotSent as fault:
            return not_sent(str(fault))
        except Lost as fault:
            return lost(str(fault), fault.status)
        return judge(answer.status, answer.headers, answer.body, self._clock())
