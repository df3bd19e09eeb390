"""Microsoft Graph, as far as sending needs it.

https://learn.microsoft.com/graph/api/user-sendmail, https://learn.microsoft.com/graph/api/message-send,
https://learn.microsoft.com/graph/api/user-list-messages
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from typing import TypeVar
from urllib.parse import quote, urlencode

from postroom.graph import answers
from postroom.graph.requests import Call, GraphRequest
from postroom.graph.searches import Search
from postroom.jobs.outcome import CleanedUp, Deferred, Drafted, LookupResult, Outcome, Session, SessionLost, Uploaded
from postroom.transport.http import Http, Lost, NotSent

_USER_AGENT = f"postroom/{version('postroom')}"
# Else a message changes its id when it moves to another folder, as it does when it is sent.
_KEEP_IDS = {"Prefer": 'IdType="ImmutableId"'}

Said = TypeVar("Said")
Judge = Callable[[int, Mapping[str, str], bytes, datetime], Said]


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Graph:
    """One Graph, by its root URL (`https://graph.microsoft.com`, without version). Each method makes one request."""

    def __init__(self, root_url: str, http: Http, clock: Callable[[], datetime] = _utc_now) -> None:
        self._users = f"{root_url.rstrip('/')}/v1.0/users/"
        self._http = http
        self._clock = clock

    def send_mail(self, mailbox: str, request: GraphRequest, call: Call) -> Outcome:
        """The outcome of posting `request` once, from `mailbox`."""
        return self._sending("sendMail", mailbox, call, request)

    def send_draft(self, mailbox: str, draft_id: str, call: Call) -> Outcome:
        """The outcome of sending this draft. It leaves once, however often it is sent."""
        return self._sending(f"messages/{quote(draft_id, safe='')}/send", mailbox, call)

    def create_draft(self, mailbox: str, request: GraphRequest, call: Call) -> Drafted | Outcome:
        """The draft that `request` made."""
        return self._asking("POST", "messages", mailbox, call, answers.judge_drafted, request)

    def draft_status(self, mailbox: str, draft_id: str, call: Call) -> LookupResult:
        """Whether this draft was sent."""
        path = f"messages/{quote(draft_id, safe='')}?$select=id,isDraft"
        return self._looking(path, mailbox, call, answers.judge_draft_status)

    def search(self, mailbox: str, search: Search, call: Call) -> LookupResult:
        """Whether there are such messages."""
        select = "id" if search.recipients is None else "id,toRecipients,ccRecipients,bccRecipients"
        query = urlencode({"$filter": search.filter, "$select": select, "$top": "10"}, safe="$,", quote_via=quote)
        judge = partial(answers.judge_search, recipients=search.recipients)
        return self._looking(f"mailFolders/{search.folder}/messages?{query}", mailbox, call, judge)

    def add_attachment(self, mailbox: str, draft_id: str, body: bytes, call: Call) -> Uploaded | Outcome:
        """Adds an attachment to a draft. An Unknown may have done so."""
        request = GraphRequest(mode="json", content_type="application/json", body=body)
        path = f"messages/{quote(draft_id, safe='')}/attachments"
        try:
            return self._exchange("POST", path, mailbox, call, answers.judge_added, request)
        except NotSent as fault:
            return answers.not_sent(str(fault))
        except Lost as fault:
            return answers.unclear(answers.lost(str(fault), fault.status))

    def begin_upload(self, mailbox: str, draft_id: str, body: bytes, call: Call) -> Session | Outcome:
        """A session that takes the ranges of a large attachment."""
        request = GraphRequest(mode="json", content_type="application/json", body=body)
        path = f"messages/{quote(draft_id, safe='')}/attachments/createUploadSession"
        return self._asking("POST", path, mailbox, call, answers.judge_session, request)

    def upload(self, url: str, data: bytes, begin: int, size: int, call: Call) -> Uploaded | SessionLost | Outcome:
        """Puts `data`, which begins at byte `begin` of `size`, to a session's URL. That wants no token."""
        headers = {
            "User-Agent": _USER_AGENT,
            "Content-Type": "application/octet-stream",
            "Content-Range": f"bytes {begin}-{begin + len(data) - 1}/{size}",
        }
        return self._at_session("PUT", url, headers, data, call, answers.judge_range)

    def cancel_upload(self, url: str, call: Call) -> CleanedUp | Outcome:
        """Ends a session whose attachment is not wanted any longer."""
        return self._at_session("DELETE", url, {"User-Agent": _USER_AGENT}, None, call, answers.judge_deleted)

    def _at_session(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None, call: Call, judge: Judge[Said]
    ) -> Said | Outcome:
        try:
            answer = self._http.exchange(
                method, url, headers=headers, body=body, deadline_s=call.deadline_s, before_write=call.before_write
            )
        except NotSent as fault:
            return answers.not_sent(str(fault))
        except Lost as fault:
            return answers.sends_nothing(answers.lost(str(fault), fault.status))
        return judge(answer.status, answer.headers, answer.body, self._clock())

    def delete_draft(self, mailbox: str, draft_id: str, call: Call) -> CleanedUp | Outcome:
        """Removes a draft; one that is gone already counts as removed."""
        return self._asking("DELETE", f"messages/{quote(draft_id, safe='')}", mailbox, call, answers.judge_deleted)

    def _sending(self, path: str, mailbox: str, call: Call, request: GraphRequest | None = None) -> Outcome:
        try:
            return self._exchange("POST", path, mailbox, call, answers.judge, request)
        except NotSent as fault:
            return answers.not_sent(str(fault))
        except Lost as fault:
            return answers.lost(str(fault), fault.status)

    def _asking(
        self,
        method: str,
        path: str,
        mailbox: str,
        call: Call,
        judge: Judge[Said],
        request: GraphRequest | None = None,
    ) -> Said | Outcome:
        try:
            return self._exchange(method, path, mailbox, call, judge, request)
        except NotSent as fault:
            return answers.not_sent(str(fault))
        except Lost as fault:
            return answers.sends_nothing(answers.lost(str(fault), fault.status))

    def _looking(self, path: str, mailbox: str, call: Call, judge: Judge[LookupResult]) -> LookupResult:
        try:
            return self._exchange("GET", path, mailbox, call, judge)
        except NotSent as fault:
            return answers.not_sent(str(fault))
        except Lost as fault:
            return Deferred(reason="look_up_failed", answer=answers.lost(str(fault)).answer, free=True)

    def _exchange(
        self,
        method: str,
        path: str,
        mailbox: str,
        call: Call,
        judge: Judge[Said],
        request: GraphRequest | None = None,
    ) -> Said:
        body = request.body if request else b"" if method == "POST" else None
        headers = {
            "Authorization": f"Bearer {call.token}",
            "User-Agent": _USER_AGENT,
            "client-request-id": call.client_request_id,
            "return-client-request-id": "true",
            **({"Content-Type": request.content_type} if request else {}),
            **(_KEEP_IDS if path != "sendMail" else {}),
        }
        answer = self._http.exchange(
            method,
            f"{self._users}{quote(mailbox, safe='@')}/{path}",
            headers=headers,
            body=body,
            deadline_s=call.deadline_s,
            before_write=call.before_write,
        )
        return judge(answer.status, answer.headers, answer.body, self._clock())
