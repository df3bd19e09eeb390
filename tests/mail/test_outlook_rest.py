"""Requests of the Outlook REST API v2.0, and of Graph, become the mail that those services would have sent."""

import base64
from typing import Any

import pytest

from postroom import InvalidMail, Mail

MAILBOX = "shop@contoso.com"
# The forms that Microsoft's pages show for the old service and for Graph.
OUTLOOK: dict[str, Any] = {
    "Message": {
        "Subject": "Meet for lunch?",
        "Body": {"ContentType": "Text", "Content": "The new cafeteria is open."},
        "ToRecipients": [{"EmailAddress": {"Address": "garth@contoso.com"}}],
        "Attachments": [
            {
                "@odata.type": "#Microsoft.OutlookServices.FileAttachment",
                "Name": "menu.txt",
                "ContentBytes": "bWFjIGFuZCBjaGVlc2UgdG9kYXk=",
            }
        ],
    },
    "SaveToSentItems": "false",
}
GRAPH: dict[str, Any] = {
    "message": {
        "subject": "Meet for lunch?",
        "body": {"contentType": "Text", "content": "The new cafeteria is open."},
        "toRecipients": [{"emailAddress": {"address": "garth@contoso.com"}}],
        "attachments": [
            {
                "@odata.type": "#microsoft.graph.fileAttachment",
                "name": "menu.txt",
                "contentBytes": "bWFjIGFuZCBjaGVlc2UgdG9kYXk=",
            }
        ],
    },
    "saveToSentItems": False,
}


def message(**members: Any) -> dict[str, Any]:
    return {"Message": OUTLOOK["Message"] | members}


def person(address: str, name: str | None = None) -> dict[str, Any]:
    return {"EmailAddress": {"Address": address} | ({"Name": name} if name is not None else {})}


@pytest.mark.parametrize("request_body", [OUTLOOK, GRAPH], ids=["Outlook REST v2.0", "Graph"])
def test_both_forms_are_the_same_mail(request_body: dict[str, Any]) -> None:
    mail = Mail.from_outlook_rest(request_body, MAILBOX)

    assert (mail.sender, mail.to, mail.subject, mail.text) == (
        MAILBOX,
        ("garth@contoso.com",),
        "Meet for lunch?",
        "The new cafeteria is open.",
    )
    (menu,) = mail.attachments
    assert (menu.filename, menu.read(), menu.content_id) == ("menu.txt", b"mac and cheese today", None)
    assert mail.save_to_sent_items is False


def test_all_that_a_message_can_say_is_taken() -> None:
    mail = Mail.from_outlook_rest(
        message(
            Body={"ContentType": "HTML", "Content": '<p><img src="cid:logo">'},
            CcRecipients=[person("a@contoso.com", "Lee, Ann"), person("b@contoso.com", "b@contoso.com")],
            BccRecipients=[person("c@contoso.com", 'The "Boss" <x@y>')],
            ReplyTo=[person("help@contoso.com")],
            From=person("SHOP@contoso.com", "The Shop"),
            Importance="High",
            IsReadReceiptRequested=True,
            IsDeliveryReceiptRequested="true",
            InternetMessageHeaders=[{"Name": "x-order", "Value": "17"}],
            Attachments=[
                {"Name": "logo.png", "ContentBytes": base64.b64encode(b"png").decode(), "ContentId": "logo"},
                {"Name": "a.pdf", "ContentBytes": "", "ContentId": "unused", "IsInline": False, "Size": 0},
            ],
        )
    )

    assert (mail.sender, mail.html, mail.text) == ('"The Shop" <SHOP@contoso.com>', '<p><img src="cid:logo">', None)
    assert [(one.name, one.address) for one in mail.cc] == [("Lee, Ann", "a@contoso.com"), ("", "b@contoso.com")]
    assert [(one.name, one.address) for one in mail.bcc] == [('The "Boss" <x@y>', "c@contoso.com")]
    assert mail.reply_to == ("help@contoso.com",)
    assert (mail.importance, mail.read_receipt, mail.delivery_receipt) == ("high", True, True)
    assert mail.headers == {"x-order": "17"}
    assert [(one.filename, one.content_id) for one in mail.attachments] == [("logo.png", "logo"), ("a.pdf", None)]


def test_what_only_a_stored_message_has_and_what_is_null_is_left_out() -> None:
    mail = Mail.from_outlook_rest(
        {
            "@odata.context": "https://outlook.office.com/api/v2.0/$metadata",
            **message(
                Id="AAMk", IsDraft=True, BodyPreview="The", Categories=[], CcRecipients=None, **{"@odata.etag": 1}
            ),
        }
    )
    assert (mail.sender, mail.cc, mail.subject) == (None, (), "Meet for lunch?")


@pytest.mark.parametrize(
    ("request_body", "fault"),
    [
        ({}, "Message: missing"),
        ([], "the request: an object is needed"),
        ({"Message": "x"}, "Message: an object is needed"),
        (message() | {"Comment": "x"}, "Comment: sendMail has no such member"),
        (message(ToRecipient=[]), "Message.ToRecipient: sendMail has no such member"),
        (message(Categories=["red"]), "Message.Categories: only label the copy"),
        (message(InternetMessageId="<x@y>"), "Message.InternetMessageId: is made by Postroom"),
        (message(subject="twice"), "Message.subject: given twice"),
        (message(ToRecipients=["ann@contoso.com"]), "Message.ToRecipients[0]: an object is needed"),
        (message(ToRecipients=person("ann@contoso.com")), "Message.ToRecipients: a list is needed"),
        (message(ToRecipients=[person("nobody")]), "Message.ToRecipients[0].EmailAddress: not an address"),
        (message(ToRecipients=[person("a@contoso.com", "a\nb")]), "line breaks and control characters"),
        (message(ToRecipients=[person("a@contoso.com", 7)]), "Message.ToRecipients[0].EmailAddress.Name: a string"),  # type: ignore[arg-type]
        (message(ToRecipients=[{}] * 1001), "Message.ToRecipients: 1001 entries; at most 1000 are read"),
        (message(ToRecipients=[]), "to: no recipient"),
        (message(Body=None), "template: no content"),
        (message(Body={"ContentType": "RTF", "Content": "x"}), "Message.Body.ContentType: must be Text or HTML"),
        (message(From=person("other@contoso.com")), "Message.From: other@contoso.com is not the mailbox"),
        (message(IsReadReceiptRequested="perhaps"), "Message.IsReadReceiptRequested: must be true or false"),
        (message(Attachments=[{"@odata.type": "#Microsoft.OutlookServices.ItemAttachment", "Name": "x"}]), "ItemAtt"),
        (message(Attachments=[{"ContentBytes": "eA=="}]), "Message.Attachments[0].Name: missing"),
        (message(Attachments=[{"Name": "x"}]), "Message.Attachments[0].ContentBytes: missing"),
        (message(Attachments=[{"Name": "x", "ContentBytes": "%"}]), "base64"),
        (message(InternetMessageHeaders=[{"Name": "x-a", "Value": "1"}, {"Name": "X-A", "Value": "2"}]), "twice"),
        (message(InternetMessageHeaders=[{"Name": "x-a", "Value": None}]), "headers"),
    ],
)
def test_what_cannot_be_sent_says_which_member_is_at_fault(request_body: Any, fault: str) -> None:
    with pytest.raises(InvalidMail) as raised:
        Mail.from_outlook_rest(request_body, MAILBOX)
    assert fault in str(raised.value)


@pytest.mark.parametrize("mailbox", ["Boss <boss@contoso.com>", "\ufffd@contoso.com", "nobody"])
def test_a_mailbox_is_an_address_alone(mailbox: str) -> None:
    with pytest.raises(InvalidMail):
        Mail.from_outlook_rest(OUTLOOK, mailbox)


def test_a_request_full_of_faults_lists_some_of_them() -> None:
    with pytest.raises(InvalidMail) as raised:
        Mail.from_outlook_rest(message(ToRecipients=[{}] * 900))
    assert len(raised.value.faults) == 20
