"""Programs of the Outlook REST API v2.0 send through Postroom by another host name and an API key."""

import json
from typing import Any

import pytest

from postroom.access.rights import Scope

from .conftest import OTHER, SENDER, Door, code

BODY: dict[str, Any] = {
    "Message": {
        "Subject": "Lunch?",
        "Body": {"ContentType": "HTML", "Content": "<p>Today</p>"},
        "ToRecipients": [{"EmailAddress": {"Address": "ann@contoso.com", "Name": "Ann"}}],
    },
    "SaveToSentItems": True,
}


@pytest.mark.parametrize(
    "path",
    [
        f"/v1/compat/outlook/users/{SENDER}/sendmail",
        f"/api/v2.0/users/{SENDER}/sendmail",
        f"/api/v2.0/users/{SENDER.replace('@', '%40')}/sendMail",
    ],
)
def test_a_request_is_answered_as_the_old_service_did_and_is_kept(door: Door, path: str) -> None:
    answer = door.post(path, BODY)

    assert (answer.status_code, answer.content) == (202, b"")
    delivery = door.services.client.status(answer.headers["location"].rpartition("/")[2])
    assert (delivery.sender, delivery.recipients) == (SENDER, 1)


def test_the_signed_in_user_is_the_key_s_only_sender(door: Door) -> None:
    answer = door.post("/api/v2.0/me/sendmail", BODY, key=door.key(Scope.SEND, senders=(OTHER,)))

    assert answer.status_code == 202
    assert door.services.client.status(answer.headers["location"].rpartition("/")[2]).sender == OTHER


def test_the_same_idempotency_key_is_the_same_mail(door: Door) -> None:
    first, again = (
        door.post(f"/api/v2.0/users/{SENDER}/sendmail", BODY, headers={"Idempotency-Key": "17"}) for _ in range(2)
    )
    assert again.headers["location"] == first.headers["location"]
    assert again.headers["idempotent-replay"] == "true"


def test_a_mailbox_that_is_not_the_key_s_is_refused(door: Door) -> None:
    answer = door.post(f"/api/v2.0/users/{SENDER}/sendmail", BODY, key=door.key(Scope.SEND, senders=(OTHER,)))
    assert code(answer) == (403, "sender_not_allowed")


def test_what_cannot_be_sent_names_the_member(door: Door) -> None:
    answer = door.post(f"/api/v2.0/users/{SENDER}/sendmail", {"Message": {**BODY["Message"], "Categories": ["red"]}})

    assert code(answer) == (422, "invalid_mail")
    assert answer.json()["error"]["details"]["faults"][0].startswith("Message.Categories")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/v2.0/me/sendmail", {"\ud800": 1}),
        ("/api/v2.0/me/sendmail", {"Message": {"\ud800": 1}}),
        ("/api/v2.0/me/sendmail", {"Message": {"Attachments": [{"@odata.type": "\ud800"}]}}),
        ("/api/v2.0/me/sendmail", {"Message": {"InternetMessageHeaders": [{"Name": "\ud800"}, {"Name": "\ud800"}]}}),
        ("/v1/emails", {"\ud800": 1}),
        ("/v1/emails/batch", {"\ud800": 1, "emails": []}),
    ],
)
def test_half_a_surrogate_pair_in_a_name_is_the_client_s_fault(door: Door, path: str, body: Any) -> None:
    assert code(door.post(path, content=json.dumps(body), headers={"Content-Type": "application/json"}))[0] == 422
