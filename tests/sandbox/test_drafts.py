"""Draft, then send: each draft leaves once."""

from __future__ import annotations

from typing import Any

import pytest
import requests

from postroom.sandbox.control import Sandbox

from .sandbox_clients import Office, mail

IMMUTABLE = {"Prefer": 'IdType="ImmutableId"'}


@pytest.fixture
def writer(office: Office, sandbox: Sandbox) -> Office:
    """An app that may write, read and send."""
    sandbox.set_roles("Mail.Send", "Mail.ReadWrite")
    office.log_in()
    return office


def url(office: Office, *parts: str, mailbox: str = "office@contoso.com") -> str:
    return "/".join((f"{office.address.graph_url}/v1.0/users/{mailbox}/messages", *parts))


def create(office: Office, message: Any = None) -> dict[str, Any]:
    answer = office.session.post(url(office), json=message or mail(), headers=IMMUTABLE, timeout=10)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def send(office: Office, draft_id: str) -> requests.Response:
    return office.session.post(url(office, draft_id, "send"), timeout=10)


def get(office: Office, message_id: str) -> requests.Response:
    return office.session.get(url(office, message_id), timeout=10)


def test_a_draft_waits_and_is_in_no_inbox(writer: Office, sandbox: Sandbox) -> None:
    draft = create(writer)

    assert draft["isDraft"] is True
    assert sandbox.messages() == []
    assert get(writer, draft["id"]).json()["isDraft"] is True


def test_a_draft_that_was_sent_is_in_the_inbox_and_keeps_an_immutable_id(writer: Office, sandbox: Sandbox) -> None:
    draft = create(writer, mail(internetMessageId="<1@contoso.com>"))

    answer = send(writer, draft["id"])

    assert (answer.status_code, answer.content) == (202, b"")
    assert sandbox.messages()[0].message_id == "<1@contoso.com>"
    assert get(writer, draft["id"]).json()["isDraft"] is False


def test_a_draft_cannot_be_sent_twice(writer: Office, sandbox: Sandbox) -> None:
    draft = create(writer)
    send(writer, draft["id"])

    again = send(writer, draft["id"])

    assert (again.status_code, again.json()["error"]["code"]) == (404, "ErrorItemNotFound")
    assert len(sandbox.messages()) == 1


def test_without_immutable_ids_a_sent_draft_is_gone_under_its_old_id(writer: Office) -> None:
    draft = writer.session.post(url(writer), json=mail(), timeout=10).json()
    send(writer, draft["id"])

    assert get(writer, draft["id"]).status_code == 404


def test_the_draft_shows_an_unknown_outcome_of_sending(writer: Office, sandbox: Sandbox) -> None:
    lost, sent = create(writer), create(writer)
    sandbox.add_fault(effect="reset", times=1)
    sandbox.add_fault(effect="reset", times=1, accepted=True)

    for draft in (lost, sent):
        with pytest.raises(requests.ConnectionError):
            send(writer, draft["id"])

    assert [get(writer, draft["id"]).json()["isDraft"] for draft in (lost, sent)] == [True, False]


def test_a_draft_needs_recipients_only_when_it_is_sent(writer: Office) -> None:
    draft = create(writer, mail(toRecipients=None))

    assert send(writer, draft["id"]).json()["error"]["code"] == "ErrorInvalidRecipients"


def test_drafts_are_found_by_a_look_up(writer: Office) -> None:
    create(writer, mail(subject="Waiting"))

    folder = url(writer).replace("/messages", "/mailFolders/drafts/messages")
    assert [one["subject"] for one in writer.session.get(folder, timeout=10).json()["value"]] == ["Waiting"]


def test_mail_send_alone_makes_no_drafts(office: Office) -> None:
    answer = office.session.post(url(office), json=mail(), timeout=10)

    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "ErrorAccessDenied")


def test_another_mailboxes_draft_is_neither_found_nor_sent(writer: Office, sandbox: Sandbox) -> None:
    draft = create(writer)
    other = url(writer, draft["id"], mailbox="other@contoso.com")

    assert writer.session.get(other, timeout=10).status_code == 404
    assert writer.session.post(f"{other}/send", timeout=10).status_code == 404
    assert sandbox.messages() == []


def test_the_creation_of_a_draft_fails_by_rules_of_its_own(writer: Office, sandbox: Sandbox) -> None:
    sandbox.add_fault(stage="draft", status=507, code="ErrorQuotaExceeded")

    assert writer.session.post(url(writer), json=mail(), timeout=10).status_code == 507
    assert writer.send().status_code == 202
