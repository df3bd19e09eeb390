"""What Graph takes and refuses in a JSON sendMail, without a server."""

from __future__ import annotations

import json
from base64 import b64encode
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from postroom.sandbox.exchange.errors import GraphError
from postroom.sandbox.exchange.message import Address, Outgoing
from postroom.sandbox.graph.json_mail import read_json_mail

ANN = {"emailAddress": {"name": "Ann", "address": "ann@fabrikam.com"}}
FILE = {"@odata.type": "#microsoft.graph.fileAttachment", "name": "a.txt", "contentBytes": "YQ=="}
PROPERTY = "String {66f5a359-4659-4830-9070-00047ec6ac6e} Name PostroomJob"


def read(message: Any = None, **parameters: Any) -> Outgoing:
    body = {"message": message, **parameters}
    return read_json_mail(json.dumps(body).encode())


def refusal(message: dict[str, Any], **parameters: Any) -> GraphError:
    with pytest.raises(GraphError) as caught:
        read({"toRecipients": [ANN], **message}, **parameters)
    return caught.value


def test_a_complete_mail_is_read() -> None:
    mail = read(
        {
            "subject": "Minutes",
            "body": {"contentType": "HTML", "content": "<p>As agreed.</p>"},
            "toRecipients": [ANN],
            "ccRecipients": [{"emailAddress": {"address": "cc@fabrikam.com"}}],
            "bccRecipients": [{"emailAddress": {"address": "bcc@fabrikam.com"}}],
            "replyTo": [{"emailAddress": {"address": "desk@contoso.com"}}],
            "importance": "high",
            "internetMessageId": "<1@contoso.com>",
            "internetMessageHeaders": [{"name": "x-postroom-job", "value": "job-1"}],
            "attachments": [{**FILE, "isInline": True, "contentId": "logo", "contentType": "image/png"}],
            "singleValueExtendedProperties": [{"id": PROPERTY, "value": "job-1"}],
            "isReadReceiptRequested": True,
            "categories": ["red"],
        },
        saveToSentItems=False,
    )

    assert mail.subject == "Minutes"
    assert (mail.html, mail.text) == ("<p>As agreed.</p>", None)
    assert mail.to == [Address("Ann", "ann@fabrikam.com")]
    assert [one.address for one in mail.recipients()] == ["ann@fabrikam.com", "cc@fabrikam.com", "bcc@fabrikam.com"]
    assert [one.address for one in mail.reply_to] == ["desk@contoso.com"]
    assert (mail.importance, mail.message_id, mail.job()) == ("high", "<1@contoso.com>", "job-1")
    assert mail.properties == {PROPERTY: "job-1"}
    assert (mail.attachments[0].content, mail.attachments[0].inline) == (b"a", True)
    assert mail.save is False


def test_the_job_id_is_found_in_an_extended_property() -> None:
    message = {"toRecipients": [ANN], "singleValueExtendedProperties": [{"id": PROPERTY, "value": "job-7"}]}

    assert read(message).job() == "job-7"


def test_an_action_parameter_may_be_spelled_as_in_the_metadata() -> None:
    body = json.dumps({"Message": {"toRecipients": [ANN]}, "SaveToSentItems": False}).encode()

    assert read_json_mail(body).save is False


def test_the_string_of_microsofts_own_examples_passes_for_a_boolean() -> None:
    assert read({"toRecipients": [ANN]}, saveToSentItems="false").save is False


@pytest.mark.parametrize(
    ("message", "part"),
    [
        ({"Subject": "x"}, "The property 'Subject' does not exist on type 'microsoft.graph.message'"),
        ({"subject": 0}, "Cannot convert the literal '0' to the expected type 'Edm.String'"),
        ({"subject": ["x"]}, "'StartArray' node was found"),
        ({"body": "x"}, "A 'StartObject' node was expected"),
        ({"body": {"ContentType": "text"}}, "does not exist on type 'microsoft.graph.itemBody'"),
        ({"body": {"contentType": "markdown"}}, "Cannot convert the literal 'markdown'"),
        ({"toRecipients": ANN}, "A 'StartArray' node was expected"),
        ({"toRecipients": None}, "A null value was found for the property named 'toRecipients'"),
        ({"toRecipients": [None]}, "A null value was found"),
        ({"toRecipients": [{"address": "a@b.c"}]}, "does not exist on type 'microsoft.graph.recipient'"),
        ({"toRecipients": ["a@b.c"]}, "A 'StartObject' node was expected"),
        ({"importance": "urgent"}, "microsoft.graph.importance"),
        ({"isReadReceiptRequested": "yes"}, "Edm.Boolean"),
        ({"receivedDateTime": "yesterday"}, "Edm.DateTimeOffset"),
        ({"attachments": [{"name": "a", "contentBytes": "YQ=="}]}, "'contentBytes' does not exist on type"),
        ({"attachments": [{"@odata.type": "#microsoft.graph.file", "name": "a"}]}, "could not be resolved"),
        ({"attachments": [{**FILE, "contentBytes": "%%%"}]}, "Edm.Binary"),
        ({"attachments": [{**FILE, "isInline": "true"}]}, "Edm.Boolean"),
        ({"attachments": [{"name": "a", **FILE}]}, "'odata.type' was found"),
    ],
)
def test_what_does_not_fit_the_type_is_refused(message: dict[str, Any], part: str) -> None:
    error = refusal(message)

    assert (error.status, error.code) == (400, "RequestBodyRead")
    assert part in error.message


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ({"toRecipients": []}, "ErrorInvalidRecipients"),
        ({"toRecipients": [{"emailAddress": {"address": "ann"}}]}, "ErrorInvalidRecipients"),
        ({"toRecipients": [{"emailAddress": {"address": "a..n@b.c"}}]}, "ErrorInvalidRecipients"),
        ({"toRecipients": [{"emailAddress": {"name": "Ann"}}]}, "ErrorInvalidRecipients"),
        ({"toRecipients": [{}]}, "ErrorInvalidRecipients"),
        ({"toRecipients": [ANN] * 501}, "ErrorInvalidRecipients"),
        ({"replyTo": [{"emailAddress": {"address": "nobody"}}]}, "ErrorInvalidRecipients"),
        ({"internetMessageHeaders": []}, "InvalidInternetMessageHeaderCollection"),
        ({"internetMessageHeaders": [{"name": "List-Id", "value": "x"}]}, "InvalidInternetMessageHeader"),
        (
            {"internetMessageHeaders": [{"name": f"x-{n}", "value": "x"} for n in range(6)]},
            "InvalidInternetMessageHeaderCollection",
        ),
        ({"attachments": [{**FILE, "name": None}]}, "ErrorRequiredPropertyMissing"),
        ({"singleValueExtendedProperties": [{"id": "PostroomJob", "value": "1"}]}, "ErrorInvalidProperty"),
    ],
)
def test_what_exchange_cannot_send_is_refused_with_its_code(message: dict[str, Any], code: str) -> None:
    error = refusal(message)

    assert (error.status, error.code) == (400, code)


def test_five_hundred_recipients_in_all_are_taken() -> None:
    assert len(read({"toRecipients": [ANN] * 300, "bccRecipients": [ANN] * 200}).recipients()) == 500


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b"\xff", b"null"])
def test_a_body_that_is_no_json_object_cannot_be_deserialized(body: bytes) -> None:
    with pytest.raises(GraphError) as caught:
        read_json_mail(body)

    assert caught.value.code == "UnableToDeserializePostBody"


def test_a_missing_message_is_named() -> None:
    with pytest.raises(GraphError) as caught:
        read_json_mail(b'{"saveToSentItems": true}')

    assert caught.value.code == "ErrorInvalidParameter"


def test_an_unknown_action_parameter_is_refused() -> None:
    assert "'savetosentitems'" in refusal({}, savetosentitems=True).message


def test_base64_may_hold_line_breaks() -> None:
    wrapped = b64encode(b"a" * 90).decode()
    message = {"toRecipients": [ANN], "attachments": [{**FILE, "contentBytes": f"{wrapped[:76]}\r\n{wrapped[76:]}"}]}

    assert read(message).attachments[0].content == b"a" * 90


ANYTHING = st.none() | st.booleans() | st.integers() | st.text(max_size=5)
NAMES = st.sampled_from(
    ["subject", "body", "toRecipients", "from", "attachments", "internetMessageHeaders", "flag", "emailAddress",
     "singleValueExtendedProperties", "@odata.type", "address", "contentBytes", "name", "id"]
)  # fmt: skip
OBJECTS = st.dictionaries(NAMES, ANYTHING | st.dictionaries(NAMES, ANYTHING, max_size=2), max_size=3)
PROPERTIES = st.dictionaries(NAMES, ANYTHING | OBJECTS | st.lists(ANYTHING | OBJECTS, max_size=2), max_size=4)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(PROPERTIES)
def test_whatever_comes_it_is_a_mail_or_a_graph_error(message: dict[str, Any]) -> None:
    with suppress(GraphError):
        read(message)
