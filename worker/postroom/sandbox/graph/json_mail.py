"""Reads a mail in JSON: Graph's message resource, and what Exchange requires of it."""

from __future__ import annotations

import json
import re
from typing import Any

from postroom.sandbox.exchange.errors import GraphError, invalid_body, invalid_recipients
from postroom.sandbox.exchange.message import Address, Attachment, Outgoing
from postroom.sandbox.graph import edm

MAX_RECIPIENTS = 500
MAX_HEADERS = 5

_ADDRESS = re.compile(r"[^\s@<>()\[\],;:\\\"]+@[^\s@<>()\[\],;:\\\"]+")
_PROPERTY_TYPE = (
    r"(?:ApplicationTime|Binary|Boolean|CLSID|Currency|Double|Error|Float|Integer|Long|Null|Object|Short|String"
    r"|SystemTime)(?:Array)?"
)
_GUID = r"\{?[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}\}?"
_PROPERTY_ID = re.compile(rf"{_PROPERTY_TYPE} (?:{_GUID} (?:Name .+|Id 0x[0-9A-Fa-f]+)|0x[0-9A-Fa-f]+)")

_email_address = edm.record("microsoft.graph.emailAddress", {"name": edm.text, "address": edm.text})
_recipient = edm.record("microsoft.graph.recipient", {"emailAddress": _email_address})
_recipients = edm.collection(_recipient, "microsoft.graph.recipient")
_body = edm.record(
    "microsoft.graph.itemBody",
    {"contentType": edm.choice("microsoft.graph.bodyType", "text", "html"), "content": edm.text},
)
_header = edm.record("microsoft.graph.internetMessageHeader", {"name": edm.text, "value": edm.text})
_single_property = edm.record("microsoft.graph.singleValueLegacyExtendedProperty", {"id": edm.text, "value": edm.text})
_multi_property = edm.record(
    "microsoft.graph.multiValueLegacyExtendedProperty",
    {"id": edm.text, "value": edm.collection(edm.text, "Edm.String")},
)
_ANY_ATTACHMENT: dict[str, edm.Check] = {
    "id": edm.text,
    "name": edm.text,
    "contentType": edm.text,
    "size": edm.integer,
    "isInline": edm.boolean,
    "lastModifiedDateTime": edm.moment,
}
_attachment = edm.record("microsoft.graph.attachment", _ANY_ATTACHMENT)
_ATTACHMENTS = {
    "#microsoft.graph.fileAttachment": edm.record(
        "microsoft.graph.fileAttachment",
        {**_ANY_ATTACHMENT, "contentBytes": edm.binary, "contentId": edm.text, "contentLocation": edm.text},
    ),
    "#microsoft.graph.itemAttachment": edm.record(
        "microsoft.graph.itemAttachment", {**_ANY_ATTACHMENT, "item": edm.anything}
    ),
    "#microsoft.graph.referenceAttachment": _attachment,
}


def check_attachment(value: Any, name: str) -> None:
    """Raises GraphError unless this is an attachment of one of Graph's types."""
    kind = value.get("@odata.type") if isinstance(value, dict) else None
    if kind is None:
        _attachment(value, name)  # names contentBytes as unknown: the base type has none
        raise invalid_body("An attachment needs its type: '@odata.type': '#microsoft.graph.fileAttachment'.")
    check = _ATTACHMENTS.get("#" + str(kind).lstrip("#"))
    if check is None:
        raise invalid_body(
            f"A type named '{str(kind).lstrip('#')}' could not be resolved by the model. When a model is available, "
            "each type name must resolve to a valid type."
        )
    check(value, name)


MESSAGE: dict[str, edm.Check] = {
    "subject": edm.text,
    "body": _body,
    "toRecipients": _recipients,
    "ccRecipients": _recipients,
    "bccRecipients": _recipients,
    "replyTo": _recipients,
    "from": _recipient,
    "sender": _recipient,
    "importance": edm.choice("microsoft.graph.importance", "low", "normal", "high"),
    "categories": edm.collection(edm.text, "Edm.String"),
    "isReadReceiptRequested": edm.boolean,
    "isDeliveryReceiptRequested": edm.boolean,
    "internetMessageHeaders": edm.collection(_header, "microsoft.graph.internetMessageHeader"),
    "internetMessageId": edm.text,
    "attachments": edm.collection(check_attachment, "microsoft.graph.attachment"),
    "singleValueExtendedProperties": edm.collection(
        _single_property, "microsoft.graph.singleValueLegacyExtendedProperty"
    ),
    "multiValueExtendedProperties": edm.collection(_multi_property, "microsoft.graph.multiValueLegacyExtendedProperty"),
    # Graph accepts these, and ignores them when a mail is sent.
    "id": edm.text,
    "changeKey": edm.text,
    "createdDateTime": edm.moment,
    "lastModifiedDateTime": edm.moment,
    "receivedDateTime": edm.moment,
    "sentDateTime": edm.moment,
    "hasAttachments": edm.boolean,
    "bodyPreview": edm.text,
    "parentFolderId": edm.text,
    "conversationId": edm.text,
    "conversationIndex": edm.binary,
    "uniqueBody": _body,
    "isRead": edm.boolean,
    "isDraft": edm.boolean,
    "webLink": edm.text,
    "inferenceClassification": edm.choice("microsoft.graph.inferenceClassificationType", "focused", "other"),
    "flag": edm.anything,
    "extensions": edm.anything,
}
_message = edm.record("microsoft.graph.message", MESSAGE)


def read_json_mail(body: bytes) -> Outgoing:
    """The mail in the body of a sendMail request. Raises GraphError."""
    parameters = load_json(body)
    message: Any = None
    save: Any = None
    for name, value in parameters.items():
        match name:
            # The metadata spells an action's parameters in PascalCase, the documentation in camelCase.
            case "message" | "Message":
                message = value
            case "saveToSentItems" | "SaveToSentItems":
                save = value
            case _ if not name.startswith("@"):
                raise invalid_body(
                    f"The parameter '{name}' in the request payload is not a valid parameter for the operation "
                    "'sendMail'."
                )
    if message is None:
        raise GraphError(400, "ErrorInvalidParameter", "The value of the parameter 'Message' is empty.")
    _message(message, "message")
    mail = _outgoing(message, body, _save(save))
    check_recipients(mail.recipients())
    return mail


def read_json_message(body: bytes) -> Outgoing:
    """The mail in a body that is a message: a draft, which may have no recipients yet. Raises GraphError."""
    message = load_json(body)
    _message(message, "message")
    return _outgoing(message, body, save=True)


def check_recipients(people: list[Address]) -> None:
    """Raises GraphError unless Exchange would accept these as a mail's recipients."""
    if not people:
        raise invalid_recipients("A message can't be sent because it contains no recipients.")
    if len(people) > MAX_RECIPIENTS:
        raise invalid_recipients(
            f"The message has {len(people)} recipients; the most that it can have is {MAX_RECIPIENTS}."
        )
    check_addresses(people)


def check_addresses(people: list[Address]) -> None:
    """Raises GraphError unless each has the form of an address."""
    for person in people:
        if not _is_address(person.address):
            raise invalid_recipients(
                f"Recipient '{person.address}' is not resolved. All recipients must be resolved before a message can "
                "be submitted."
            )


def load_json(body: bytes) -> dict[str, Any]:
    """The JSON object in a body. Raises GraphError."""
    try:
        parameters = json.loads(body)
    except (ValueError, RecursionError):
        parameters = None
    if not isinstance(parameters, dict):
        raise GraphError(400, "UnableToDeserializePostBody", "were unable to deserialize ")
    return parameters


def _save(value: Any) -> bool:
    # A boolean by type, but the documentation's own examples send the string.
    if isinstance(value, str) and value.casefold() in ("true", "false"):
        return value.casefold() == "true"
    edm.boolean(value, "saveToSentItems")
    return value is not False


def _outgoing(message: dict[str, Any], source: bytes, save: bool) -> Outgoing:
    to, cc, bcc = (_people(message.get(f"{kind}Recipients")) for kind in ("to", "cc", "bcc"))
    reply_to = _people(message.get("replyTo"))
    check_addresses([*to, *cc, *bcc, *reply_to])
    author = _people([message["from"]]) if message.get("from") else []
    body = message.get("body") or {}
    is_html = (body.get("contentType") or "text").casefold() == "html"
    content = body.get("content") or ""
    return Outgoing(
        form="json",
        source=source,
        subject=message.get("subject") or "",
        to=to,
        cc=cc,
        bcc=bcc,
        reply_to=reply_to,
        author=author[0] if author else None,
        html=content if is_html else None,
        text=None if is_html else content,
        headers=_headers(message),
        attachments=[read_attachment(one) for one in message.get("attachments", ())],
        message_id=message.get("internetMessageId") or "",
        importance=(message.get("importance") or "normal").casefold(),
        properties=_properties(message),
        save=save,
    )


def _people(recipients: list[dict[str, Any]] | None) -> list[Address]:
    people = []
    for recipient in recipients or ():
        address = (recipient or {}).get("emailAddress") or {}
        people.append(Address(address.get("name") or "", (address.get("address") or "").strip()))
    return people


def _is_address(address: str) -> bool:
    if not _ADDRESS.fullmatch(address) or ".." in address:
        return False
    local, _, domain = address.rpartition("@")
    return local[0] != "." != local[-1] and domain[0] != "." != domain[-1]


def _headers(message: dict[str, Any]) -> list[tuple[str, str]]:
    if "internetMessageHeaders" not in message:
        return []
    headers = [(one.get("name") or "", one.get("value") or "") for one in message["internetMessageHeaders"]]
    if not headers:
        raise GraphError(
            400,
            "InvalidInternetMessageHeaderCollection",
            "The internet message header collection must not be empty.",
        )
    for name, _ in headers:
        if not name.casefold().startswith("x-"):
            raise GraphError(
                400,
                "InvalidInternetMessageHeader",
                f"The internet message header name '{name}' should start with 'x-' or 'X-'.",
            )
    if len(headers) > MAX_HEADERS:
        raise GraphError(
            400,
            "InvalidInternetMessageHeaderCollection",
            f"Maximum number of headers in one message should be less than or equal to {MAX_HEADERS}.",
        )
    return headers


def read_attachment(attachment: dict[str, Any]) -> Attachment:
    """The file in an attachment that was checked before. Raises GraphError where it lacks a name or content."""
    is_file = str(attachment["@odata.type"]).endswith("fileAttachment")
    name, content = attachment.get("name"), attachment.get("contentBytes")
    if not name or (is_file and content is None):
        missing = "ContentBytes" if name else "Name"
        raise GraphError(400, "ErrorRequiredPropertyMissing", f"Required property is missing: {missing}.")
    return Attachment(
        filename=name,
        content_type=attachment.get("contentType") or "application/octet-stream",
        content=edm.decode_base64(content or "") if is_file else json.dumps(attachment.get("item")).encode(),
        content_id=attachment.get("contentId") or "",
        inline=bool(attachment.get("isInline")),
    )


def _properties(message: dict[str, Any]) -> dict[str, str]:
    single = message.get("singleValueExtendedProperties", ())
    for one in (*single, *message.get("multiValueExtendedProperties", ())):
        if not _PROPERTY_ID.fullmatch(one.get("id") or ""):
            raise GraphError(
                400,
                "ErrorInvalidProperty",
                "PropertyId values may only be in one of the following formats: 'MapiPropertyType namespaceGuid Name "
                "propertyName', 'MapiPropertyType namespaceGuid Id propertyId' or 'MapiPropertyType propertyTag'.",
            )
    return {one["id"]: one.get("value") or "" for one in single}
