"""Attachments of drafts: added, listed, uploaded in ranges; and messages taken away."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from postroom.sandbox import SandboxOptions, running
from postroom.sandbox.control import Sandbox
from postroom.sandbox.exchange.traffic import UPLOAD

from .sandbox_clients import Office, client, mail

MB = 1024 * 1024
FILE = bytes(range(256)) * (16 * 1024)  # 4 MB


class Drafter:
    """Works on one draft of an app that may write mail."""

    def __init__(self, office: Office, sandbox: Sandbox) -> None:
        sandbox.set_roles("Mail.Send", "Mail.ReadWrite")
        office.log_in()
        self.office, self.sandbox = office, sandbox
        self.bare = client(office.address)
        self.messages = f"{office.address.graph_url}/v1.0/users/office@contoso.com/messages"
        self.draft = self.post("", mail()).json()["id"]

    def post(self, path: str, body: Any = None) -> requests.Response:
        return self.office.session.post(self.messages + path, json=body, timeout=30)

    def begin(self, size: int = len(FILE), **item: Any) -> requests.Response:
        item = {"attachmentType": "file", "name": "plan.pdf", "size": size, **item}
        return self.post(f"/{self.draft}/attachments/createUploadSession", {"AttachmentItem": item})

    def url(self) -> str:
        answer = self.begin()
        assert answer.status_code == 201, answer.text
        return str(answer.json()["uploadUrl"])

    def put(self, url: str, begin: int, end: int, size: int = len(FILE), **headers: str) -> requests.Response:
        sent = {"Content-Range": f"bytes {begin}-{end - 1}/{size}", **headers}
        return self.bare.put(url, data=FILE[begin:end], headers=sent, timeout=30)

    def send(self) -> requests.Response:
        return self.post(f"/{self.draft}/send")


@pytest.fixture
def drafter(office: Office, sandbox: Sandbox) -> Iterator[Drafter]:
    drafter = Drafter(office, sandbox)
    yield drafter
    drafter.bare.close()


def code(answer: requests.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def small(content: bytes) -> dict[str, Any]:
    kind = "#microsoft.graph.fileAttachment"
    return {"@odata.type": kind, "name": "a.txt", "contentBytes": b64encode(content).decode()}


def test_a_file_uploaded_in_ranges_travels_with_the_mail(drafter: Drafter) -> None:
    begun = drafter.begin(contentType="application/pdf", contentId="plan", isInline=True).json()
    url = begun["uploadUrl"]

    middle = drafter.put(url, 0, 3 * MB)
    last = drafter.put(url, 3 * MB, 4 * MB)

    assert begun["nextExpectedRanges"] == ["0-"]
    assert (middle.status_code, middle.json()["NextExpectedRanges"]) == (200, [str(3 * MB)])
    assert (last.status_code, last.content) == (201, b"")
    listed = drafter.office.session.get(f"{drafter.messages}/{drafter.draft}/attachments", timeout=10).json()["value"]
    assert f"Attachments('{listed[0]['id']}')" in last.headers["Location"]
    assert drafter.send().status_code == 202
    message = drafter.sandbox.messages()[0]
    assert drafter.sandbox.attachment(message) == FILE
    shown = message.attachments[0]
    assert (shown.filename, shown.content_type, shown.content_id, shown.inline) == (
        "plan.pdf",
        "application/pdf",
        "plan",
        True,
    )


def test_a_file_that_is_not_complete_is_not_sent(drafter: Drafter) -> None:
    drafter.put(drafter.url(), 0, 3 * MB)
    drafter.send()

    assert drafter.sandbox.messages()[0].attachments == ()


def test_an_upload_url_wants_no_token(drafter: Drafter) -> None:
    answer = drafter.put(drafter.url(), 0, MB, Authorization=drafter.office.session.headers["Authorization"])

    assert code(answer) == (401, "InvalidAuthenticationToken")


def test_an_upload_url_cannot_be_guessed(drafter: Drafter) -> None:
    url = drafter.url()

    assert code(drafter.put(url[:-1], 0, MB)) == (404, "ErrorItemNotFound")
    assert all("authtoken" not in str(one) for one in drafter.sandbox.requests())


@pytest.mark.parametrize(
    ("begin", "end", "size", "status"),
    [(MB, 2 * MB, len(FILE), 416), (0, MB, len(FILE) + 1, 400), (0, 4 * MB + 1, len(FILE), 400)],
)
def test_ranges_come_in_order_and_fit_the_file(drafter: Drafter, begin: int, end: int, size: int, status: int) -> None:
    assert drafter.put(drafter.url(), begin, end, size).status_code == status


def test_a_range_needs_its_place_and_less_than_4_mb(drafter: Drafter) -> None:
    url = drafter.url()

    assert drafter.bare.put(url, data=b"a", timeout=10).status_code == 400
    too_long = {"Content-Range": f"bytes 0-{4 * MB}/{5 * MB}"}
    assert drafter.bare.put(url, data=bytes(4 * MB + 1), headers=too_long, timeout=30).status_code == 413


def test_a_cancelled_session_takes_no_more(drafter: Drafter) -> None:
    url = drafter.url()

    assert drafter.bare.delete(url, timeout=10).status_code == 204
    assert drafter.put(url, 0, MB).status_code == 404


@pytest.mark.parametrize(
    ("size", "refusal"),
    [
        (3 * MB - 1, "ErrorAttachmentSizeShouldNotBeLessThanMinimumSize"),
        (150 * MB + 1, "ErrorAttachmentSizeLimitExceeded"),
    ],
)
def test_a_session_is_for_files_of_3_to_150_mb(drafter: Drafter, size: int, refusal: str) -> None:
    assert code(drafter.begin(size)) == (400, refusal)
    assert drafter.begin(3 * MB).status_code == drafter.begin(150 * MB).status_code == 201


def test_a_small_file_is_added_in_one_request_and_a_large_one_is_not(drafter: Drafter) -> None:
    path = f"/{drafter.draft}/attachments"

    assert drafter.post(path, small(b"abc")).status_code == 201
    assert drafter.post(path, small(bytes(3 * MB))).status_code == 413  # 4 MB in base64
    drafter.send()
    assert drafter.sandbox.attachment(drafter.sandbox.messages()[0]) == b"abc"


def test_attachments_need_mail_readwrite(office: Office) -> None:
    url = f"{office.address.graph_url}/v1.0/users/office@contoso.com/messages/AAMk"

    answers = [
        office.session.post(f"{url}/attachments", json=small(b"a"), timeout=10),
        office.session.post(f"{url}/attachments/createUploadSession", json={}, timeout=10),
        office.session.delete(url, timeout=10),
    ]
    assert [code(answer) for answer in answers] == [(403, "ErrorAccessDenied")] * 3


def test_a_deleted_draft_is_gone_with_its_uploads(drafter: Drafter) -> None:
    url = drafter.url()
    draft = f"{drafter.messages}/{drafter.draft}"

    assert drafter.office.session.delete(draft, timeout=10).status_code == 204
    assert code(drafter.office.session.delete(draft, timeout=10)) == (404, "ErrorItemNotFound")
    assert drafter.put(url, 0, MB).status_code == 404
    assert drafter.send().status_code == 404


def test_of_a_deleted_sent_item_the_recipients_keep_their_copies(drafter: Drafter) -> None:
    drafter.office.send()
    folder = drafter.messages.replace("/messages", "/mailFolders/sentitems/messages")
    sent = drafter.office.session.get(folder, timeout=10).json()["value"][0]["id"]

    assert drafter.office.session.delete(f"{drafter.messages}/{sent}", timeout=10).status_code == 204

    assert drafter.office.session.get(folder, timeout=10).json()["value"] == []
    assert [one.saved for one in drafter.sandbox.messages()] == [False]


def test_a_range_fails_by_rules_of_its_own(drafter: Drafter) -> None:
    url = drafter.url()
    drafter.sandbox.add_fault(stage="upload", status=429, retry_after=7, times=1, after=1)

    assert drafter.put(url, 0, MB).status_code == 200
    throttled = drafter.put(url, MB, 2 * MB)
    assert (throttled.status_code, throttled.headers["Retry-After"]) == (429, "7")
    assert drafter.put(url, MB, 2 * MB).status_code == 200
    met = drafter.sandbox.requests(stage="upload")
    assert [(one.method, one.status, one.mailbox) for one in met] == [
        ("PUT", status, "office@contoso.com") for status in (200, 429, 200)
    ]


def test_a_range_may_be_kept_though_its_answer_is_lost(drafter: Drafter) -> None:
    url = drafter.url()
    drafter.sandbox.add_fault(stage="upload", effect="reset", accepted=True, times=1)

    with pytest.raises(requests.ConnectionError):
        drafter.put(url, 0, MB)

    repeated = drafter.put(url, 0, MB)
    assert (repeated.status_code, str(MB) in repeated.json()["error"]["message"]) == (416, True)
    assert drafter.put(url, MB, 2 * MB).status_code == 200


def test_ranges_take_a_slot_of_the_app_in_the_mailbox(drafter: Drafter) -> None:
    url = drafter.url()
    drafter.sandbox.add_fault(stage="upload", effect="hang", times=1)

    with pytest.raises(requests.ReadTimeout):
        drafter.bare.put(url, data=b"a", headers={"Content-Range": f"bytes 0-0/{len(FILE)}"}, timeout=0.2)

    mailbox = drafter.sandbox.stats()["mailboxes"]["office@contoso.com"]
    assert mailbox["highest_in_flight"] == 1
    assert mailbox["most_requests_in_60s"] == 3  # draft, session, range: one meter


def test_uploads_count_into_what_a_mailbox_takes_in_five_minutes(drafter: Drafter) -> None:
    url = drafter.begin(150 * MB).json()["uploadUrl"]
    range_of = 3 * MB
    answers = []
    for begin in range(0, UPLOAD, range_of):
        head = {"Content-Range": f"bytes {begin}-{begin + range_of - 1}/{150 * MB}"}
        answers.append(drafter.bare.put(url, data=FILE[:range_of], headers=head, timeout=30).status_code)

    assert answers == [200] * 49 + [429]


def test_sessions_end_and_too_large_mails_are_refused() -> None:
    options = SandboxOptions(upload_session_lifetime=0, max_message=5 * MB)
    with running(options) as address, Sandbox.at(address) as sandbox, client(address) as session:
        drafter = Drafter(Office(address, session), sandbox)
        assert drafter.put(drafter.url(), 0, MB).status_code == 404
        for _ in range(2):
            drafter.post(f"/{drafter.draft}/attachments", small(bytes(2 * MB)))
        assert code(drafter.send()) == (413, "ErrorMessageSizeExceeded")
        drafter.bare.close()
        assert sandbox.stats()["accepted"] == 0
