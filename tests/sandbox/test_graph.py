"""sendMail over TLS, as a client sees it."""

from __future__ import annotations

import json
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from email.message import EmailMessage
from threading import Thread

import pytest

from postroom.sandbox import AppRegistration, SandboxOptions, running
from postroom.sandbox.control import Sandbox

from .sandbox_clients import Office, client, mail


def test_a_mail_is_accepted_with_an_empty_body_and_is_in_the_inbox(office: Office, sandbox: Sandbox) -> None:
    answer = office.send(headers={"client-request-id": "c-1"})

    assert (answer.status_code, answer.content) == (202, b"")
    assert answer.headers["client-request-id"] == "c-1"
    assert {"request-id", "date", "x-ms-ags-diagnostic"} <= {name.casefold() for name in answer.headers}
    message = sandbox.messages()[0]
    assert (message.sender, message.to, message.subject) == ("office@contoso.com", ("ann@fabrikam.com",), "Minutes")
    assert (message.text, message.html, message.saved) == ("As agreed.", None, True)
    assert message.request_id == answer.headers["request-id"]


def test_mails_are_found_by_recipient_sender_and_job(office: Office, sandbox: Sandbox) -> None:
    office.send(mail(internetMessageHeaders=[{"name": "X-Postroom-Job", "value": "job-1"}]))
    office.send(mail(toRecipients=[{"emailAddress": {"address": "Bob@fabrikam.com"}}]), mailbox="other@contoso.com")

    assert [one.job for one in sandbox.messages(to="ann@fabrikam.com")] == ["job-1"]
    assert len(sandbox.messages(to="bob@fabrikam.com")) == 1
    assert len(sandbox.messages(sender="Other@contoso.com")) == 1
    assert len(sandbox.messages(job="job-1")) == 1
    assert sandbox.messages(job="job-2") == []


def test_a_mime_mail_is_parsed_for_the_inbox(office: Office, sandbox: Sandbox) -> None:
    message = EmailMessage()
    message["From"], message["To"], message["Bcc"] = "office@contoso.com", "ann@fabrikam.com", "bob@fabrikam.com"
    message["Subject"], message["X-Postroom-Job"] = "Grüße", "job-9"
    message.set_content("Hallo")
    message.add_attachment(b"1,2", maintype="text", subtype="csv", filename="a.csv")

    answer = office.session.post(
        office.url(), data=b64encode(message.as_bytes()), headers={"Content-Type": "text/plain"}, timeout=10
    )

    assert answer.status_code == 202
    found = sandbox.messages(to="bob@fabrikam.com")[0]
    assert (found.subject, found.text, found.job, found.form) == ("Grüße", "Hallo\n", "job-9", "mime")
    assert (found.bcc, found.header("bcc")) == (("bob@fabrikam.com",), None)
    assert found.attachments[0].filename == "a.csv"
    assert sandbox.attachment(found) == b"1,2"
    assert "Subject:" in sandbox.source(found)


@pytest.mark.parametrize(
    ("authorization", "message"),
    [
        (None, "Access token is empty."),
        ("Basic x", "Access token is empty."),
        ("Bearer nonsense", "CompactToken parsing failed with error code: 80049217"),
    ],
)
def test_a_request_without_a_good_token_is_unauthorized(
    authorization: str | None, message: str, office: Office, sandbox: Sandbox
) -> None:
    office.session.headers.pop("Authorization")

    answer = office.send(headers={"Authorization": authorization} if authorization else {})

    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "InvalidAuthenticationToken"
    assert answer.json()["error"]["message"] == message
    assert answer.headers["WWW-Authenticate"].startswith("Bearer ")


def test_a_token_that_another_tenant_signed_is_refused(office: Office) -> None:
    with running() as elsewhere:
        foreign = Office(elsewhere, office.session).token_from()["access_token"]

    answer = office.send(headers={"Authorization": f"Bearer {foreign}"})

    assert "validation failure" in answer.json()["error"]["message"]


def test_an_expired_token_is_refused() -> None:
    with running(SandboxOptions(token_lifetime=0)) as address, client(address) as session:
        office = Office(address, session)
        office.log_in()
        answer = office.send()

    assert answer.status_code == 401
    assert answer.json()["error"]["message"] == "Lifetime validation failed, the token is expired."


def test_revoked_tokens_are_refused_and_new_ones_are_not(office: Office, sandbox: Sandbox) -> None:
    sandbox.revoke_tokens()
    assert office.send().status_code == 401

    office.log_in()
    assert office.send().status_code == 202


def test_an_app_without_mail_send_is_denied(office: Office, sandbox: Sandbox) -> None:
    sandbox.set_roles()
    office.log_in()

    answer = office.send()

    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "ErrorAccessDenied")


def test_rbac_lets_an_app_send_from_its_mailboxes_without_a_role(office: Office, sandbox: Sandbox) -> None:
    sandbox.set_roles()
    sandbox.set_access(rbac_mailboxes=["office@contoso.com"])
    office.log_in()

    assert office.send().status_code == 202
    assert office.send(mailbox="other@contoso.com").status_code == 403


def test_an_access_policy_leaves_only_its_mailboxes(office: Office, sandbox: Sandbox) -> None:
    sandbox.set_access(policy_mailboxes=["office@contoso.com"])

    assert office.send().status_code == 202
    assert "[RAOP]" in office.send(mailbox="other@contoso.com").json()["error"]["message"]


def test_a_mailbox_that_is_none_is_an_invalid_user(office: Office, sandbox: Sandbox) -> None:
    sandbox.set_mailboxes(["office@contoso.com"], disabled=["former@contoso.com"])

    assert office.send().status_code == 202
    assert office.send(mailbox="info@contoso.com").status_code == 202
    assert office.send(mailbox="x@contoso.com").json()["error"]["code"] == "ErrorInvalidUser"
    former = office.send(mailbox="former@contoso.com")
    assert (former.status_code, former.json()["error"]["code"]) == (404, "MailboxNotEnabledForRESTAPI")


def test_from_may_be_the_mailbox_or_its_alias_and_nobody_else(office: Office, sandbox: Sandbox) -> None:
    def sent_as(address: str) -> int:
        return office.send(mail(**{"from": {"emailAddress": {"address": address}}})).status_code

    assert sent_as("Office@contoso.com") == 202
    assert sent_as("info@contoso.com") == 202
    assert sent_as("boss@contoso.com") == 403


def test_a_refusal_has_graphs_shape(office: Office) -> None:
    answer = office.send({"x": 1}, headers={"client-request-id": "c-2"})

    error = answer.json()["error"]
    assert answer.headers["Content-Type"] == "application/json"
    assert error.keys() == {"code", "message", "innerError"}
    assert error["innerError"].keys() == {"date", "request-id", "client-request-id"}
    assert error["innerError"]["client-request-id"] == "c-2"
    assert error["innerError"]["request-id"] == answer.headers["request-id"]


@pytest.mark.parametrize(("content_type", "status"), [("", 400), ("application/xml", 415), ("application/json", 202)])
def test_the_content_type_decides_how_the_body_is_read(content_type: str, status: int, office: Office) -> None:
    body = json.dumps({"message": mail()}).encode()

    answer = office.session.post(office.url(), data=body, headers={"Content-Type": content_type}, timeout=10)

    assert answer.status_code == status


def test_a_request_above_4_mb_is_too_large_and_one_below_is_not(office: Office) -> None:
    def padded(size: int) -> bytes:
        empty = json.dumps({"message": mail(body={"contentType": "text", "content": ""})})
        return empty.replace('"content": ""', f'"content": "{"x" * (size - len(empty))}"').encode()

    def post(body: bytes) -> int:
        headers = {"Content-Type": "application/json"}
        return office.session.post(office.url(), data=body, headers=headers, timeout=30).status_code

    assert post(padded(4 * 1024 * 1024 + 1)) == 413
    assert post(padded(4 * 1024 * 1024)) == 202


def test_other_paths_and_methods_are_refused(office: Office) -> None:
    assert office.session.get(office.url(), timeout=10).status_code == 405
    me = office.session.post(f"{office.address.graph_url}/v1.0/me/sendMail", json={}, timeout=10)
    assert (me.status_code, me.json()["error"]["code"]) == (400, "BadRequest")
    assert office.session.get(f"{office.address.graph_url}/v1.0/nothing", timeout=10).status_code == 400


def test_the_fifth_request_in_flight_is_throttled_and_frees_nobody_elses_slot(office: Office, sandbox: Sandbox) -> None:
    sandbox.add_fault(effect="hang", times=4)
    hanging = [Thread(target=_give_up, args=(office,), daemon=True) for _ in range(4)]
    for thread in hanging:
        thread.start()
    sandbox.wait_for_requests(4, stage="graph")

    fifth = office.send()
    other = office.send(mailbox="other@contoso.com")

    assert (fifth.status_code, fifth.json()["error"]["code"]) == (429, "ApplicationThrottled")
    assert fifth.headers["Retry-After"] == "1"
    assert other.status_code == 202
    stats = sandbox.stats()
    assert stats["mailboxes"]["office@contoso.com"]["highest_in_flight"] == 5
    assert stats["throttled"] == 1


def test_four_clients_that_send_one_mail_after_the_other_are_never_throttled(office: Office, sandbox: Sandbox) -> None:
    def send(_: int) -> list[int]:
        with client(office.address) as session:
            session.headers.update(office.session.headers)
            return [Office(office.address, session).send().status_code for _ in range(25)]

    with ThreadPoolExecutor(4) as four:
        statuses = [status for some in four.map(send, range(4)) for status in some]

    assert statuses == [202] * 100
    assert sandbox.stats()["mailboxes"]["office@contoso.com"]["highest_in_flight"] <= 4


def _give_up(office: Office) -> None:
    with client(office.address) as session:
        session.headers.update(office.session.headers)
        try:
            session.post(office.url(), json={"message": mail()}, timeout=5)
        except OSError:
            return


def test_requests_are_recorded_as_they_arrived(office: Office, sandbox: Sandbox) -> None:
    office.send(
        mail(internetMessageId="<1@contoso.com>"), headers={"client-request-id": "c-3", "x-postroom-job": "job-3"}
    )
    office.send({"x": 1})

    first, second = sandbox.requests(stage="graph")

    assert (first.mailbox, first.status, first.accepted, first.in_flight) == ("office@contoso.com", 202, True, 1)
    assert (first.client_request_id, first.job, first.message_id) == ("c-3", "job-3", "<1@contoso.com>")
    assert (second.status, second.code, second.accepted) == (400, "RequestBodyRead", False)
    assert first.monotonic < second.monotonic
    assert [one.status for one in sandbox.requests(accepted=True)] == [202]


def test_a_job_sent_twice_is_reported(office: Office, sandbox: Sandbox) -> None:
    for job in ("job-1", "job-2", "job-2"):
        office.send(headers={"x-postroom-job": job})

    stats = sandbox.stats()
    assert (stats["accepted"], stats["jobs"], stats["doubled"]) == (3, 2, {"job-2": 2})
    assert stats["mailboxes"]["office@contoso.com"]["most_in_60s"] == 3


def test_old_messages_make_room_and_counters_stay_exact() -> None:
    with (
        running(SandboxOptions(keep_messages=2)) as address,
        client(address) as session,
        Sandbox.at(address) as sandbox,
    ):
        office = Office(address, session)
        office.log_in()
        for number in range(5):
            office.send(mail(subject=str(number)))

        assert [one.subject for one in sandbox.messages()] == ["3", "4"]
        assert sandbox.stats()["accepted"] == 5


def test_apps_are_kept_apart(sandbox: Sandbox) -> None:
    other = AppRegistration(client_id="22222222-2222-4222-8222-222222222222", secrets=("second",), roles=())
    with running(SandboxOptions(more_apps=(other,))) as address, client(address) as session:
        office = Office(address, session)
        token = office.token_from("second", client_id=other.client_id)["access_token"]

        assert office.send(headers={"Authorization": f"Bearer {token}"}).status_code == 403


def test_waiting_for_mail_that_does_not_come_says_how_much_did(sandbox: Sandbox) -> None:
    with pytest.raises(TimeoutError, match="0 of 1 mails"):
        sandbox.wait_for_messages(1, timeout=0.01)


def test_a_rate_is_refused_if_the_sandbox_is_configured_so() -> None:
    with running(SandboxOptions(refuse_above_per_minute=1, retry_after=7)) as address, client(address) as session:
        office = Office(address, session)
        office.log_in()

        assert office.send().status_code == 202
        assert office.send().headers["Retry-After"] == "7"
