"""Finding a sent mail again, as one does after an unknown outcome."""

from __future__ import annotations

import base64

import pytest
import requests

from postroom.sandbox import SandboxOptions, running
from postroom.sandbox.control import Sandbox

from .sandbox_clients import Office, client, mail

JOB = "String {66f5a359-4659-4830-9070-00047ec6ac6e} Name PostroomJob"


@pytest.fixture
def reader(office: Office, sandbox: Sandbox) -> Office:
    """An app that may send and read."""
    sandbox.set_roles("Mail.Send", "Mail.Read")
    office.log_in()
    return office


def look(office: Office, query: str = "", folder: str | None = "sentitems", **params: str) -> requests.Response:
    place = "messages" if folder is None else f"mailFolders/{folder}/messages"
    url = f"{office.address.graph_url}/v1.0/users/office@contoso.com/{place}"
    return office.session.get(url, params={"$filter": query, **params} if query else params, timeout=10)


def subjects(answer: requests.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [one["subject"] for one in answer.json()["value"]]


def test_a_mail_is_found_by_its_message_id(reader: Office) -> None:
    reader.send(mail(subject="Mine", internetMessageId="<o'1+2@contoso.com>"))
    reader.send(mail(subject="Other"))

    assert subjects(look(reader, "internetMessageId eq '<o''1+2@contoso.com>'")) == ["Mine"]
    assert subjects(look(reader, "internetMessageId eq '<none@contoso.com>'")) == []


def test_a_mail_is_found_by_its_extended_property(reader: Office) -> None:
    reader.send(mail(subject="Mine", singleValueExtendedProperties=[{"id": JOB, "value": "Job-1"}]))
    reader.send(mail(subject="Other", singleValueExtendedProperties=[{"id": JOB, "value": "job-2"}]))

    def find(name: str, value: str) -> list[str]:
        query = f"singleValueExtendedProperties/Any(ep: ep/id eq '{name}' and ep/value eq '{value}')"
        return subjects(look(reader, query))

    assert find(JOB, "job-1") == ["Mine"]
    assert find(JOB.replace("PostroomJob", "postroomjob"), "job-1") == []


def test_the_answer_holds_what_was_selected(reader: Office) -> None:
    reader.send(mail(internetMessageId="<1@contoso.com>"))

    found = look(reader, **{"$select": "id,internetMessageId,sentDateTime"}).json()["value"][0]

    assert found.keys() == {"@odata.etag", "id", "internetMessageId", "sentDateTime"}
    assert found["internetMessageId"] == "<1@contoso.com>"


def test_a_mail_that_was_not_saved_is_not_found(reader: Office) -> None:
    reader.send(parameters={"saveToSentItems": False})

    assert subjects(look(reader)) == []
    assert subjects(look(reader, folder=None)) == []


def test_another_mailbox_is_another_place(reader: Office) -> None:
    reader.send(mailbox="other@contoso.com")

    assert subjects(look(reader)) == []


def test_a_mail_is_in_drafts_until_transport_has_moved_it() -> None:
    options = SandboxOptions(sent_items_after=3600, roles=("Mail.Send", "Mail.ReadBasic.All"))
    with running(options) as address, client(address) as session:
        office = Office(address, session)
        office.log_in()
        office.send()

        assert subjects(look(office)) == []
        assert subjects(look(office, folder="drafts")) == ["Minutes"]
        assert subjects(look(office, folder=None)) == ["Minutes"]


def test_a_mime_message_id_is_kept_unless_the_sandbox_is_set_otherwise() -> None:
    body = base64.b64encode(b"To: ann@fabrikam.com\r\nMessage-ID: <1@contoso.com>\r\n\r\nhello")
    with running(SandboxOptions(keep_mime_message_id=False)) as address, client(address) as session:
        office = Office(address, session)
        office.log_in()
        session.post(office.url(), data=body, headers={"Content-Type": "text/plain"}, timeout=10)
        with Sandbox.at(address) as sandbox:
            assert sandbox.messages()[0].message_id != "<1@contoso.com>"


def test_mail_send_alone_may_not_look(office: Office) -> None:
    answer = look(office)

    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "ErrorAccessDenied")


@pytest.mark.parametrize("query", ["subject eq 'x'", "internetMessageId eq <1>", "contains(subject,'x')"])
def test_a_filter_that_is_not_understood_is_refused(query: str, reader: Office) -> None:
    answer = look(reader, query)

    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "ErrorInvalidUrlQueryFilter")


def test_a_look_up_fails_by_rules_of_its_own(reader: Office, sandbox: Sandbox) -> None:
    sandbox.add_fault(stage="lookup", status=503)

    assert reader.send().status_code == 202
    assert look(reader).status_code == 503
    assert [one.stage for one in sandbox.requests(mailbox="office@contoso.com")] == ["graph", "lookup"]
