"""Reads the body of a `sendMail` request: of the Outlook REST API v2.0, which ended in 2024, or of Microsoft Graph.

Both have the same model. Outlook's names begin with a capital (`Message`, `ToRecipients`), Graph's do not:
https://learn.microsoft.com/outlook/rest/compare-graph and https://learn.microsoft.com/graph/api/resources/message
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from postroom.errors import InvalidMail
from postroom.mail.address import Address, normal_form

MOST_LISTED = 1000  # entries of a list that are read
MOST_FAULTS = 20
_RECIPIENTS = {"torecipients": "to", "ccrecipients": "cc", "bccrecipients": "bcc", "replyto": "reply_to"}
_RECEIPTS = {"isreadreceiptrequested": "read_receipt", "isdeliveryreceiptrequested": "delivery_receipt"}
# What only a stored message has. Programs that send a message as they read it give these too.
_OF_STORED = {
    "id", "createddatetime", "lastmodifieddatetime", "changekey", "receiveddatetime", "sentdatetime", "hasattachments",
    "bodypreview", "parentfolderid", "conversationid", "conversationindex", "uniquebody", "isread", "isdraft",
    "weblink", "inferenceclassification", "flag", "owneremail",
}  # fmt: skip
_CANNOT = {
    "categories": "only label the copy in Sent Items, and Postroom sets none: leave them out",
    "internetmessageid": "is made by Postroom, which finds the mail again by it: leave it out",
    "singlevalueextendedproperties": "cannot be set through Postroom: leave them out",
    "multivalueextendedproperties": "cannot be set through Postroom: leave them out",
}


def mail_fields(request: object, mailbox: str | None = None) -> dict[str, Any]:
    """The fields of the Mail that this request asks for, as `Mail.model_validate` takes them.

    `mailbox` is the one in the request's path; None for that of the signed-in user (`/me`), who is the default sender
    here. Raises InvalidMail, whose faults name the members of the request that cannot be sent.
    """
    return _Reader().fields(request, mailbox)


class _Reader:
    """Reads one request, and collects its faults."""

    def __init__(self) -> None:
        self._faults: list[str] = []

    def fields(self, request: object, mailbox: str | None) -> dict[str, Any]:
        members = self._members(request, "", {"message", "savetosentitems"})
        if "message" not in members:
            self._fault("Message: missing")
        message = self._message(members.get("message", {}))
        saved = self._boolean(members.get("savetosentitems"), "SaveToSentItems")
        fields = message | ({"save_to_sent_items": False} if saved is False else {})
        fields |= self._sender(fields.pop("from", None), mailbox)
        if self._faults:
            raise InvalidMail(self._faults)
        return fields

    def _message(self, given: object) -> dict[str, Any]:
        known = {"subject", "body", "from", "sender", "importance", "attachments", "internetmessageheaders"}
        members = self._members(given, "Message", known | _RECIPIENTS.keys() | _RECEIPTS.keys())
        fields: dict[str, Any] = {}
        for member, field in _RECIPIENTS.items():
            people = self._list(members.get(member), f"Message.{_SHOWN[member]}")
            fields[field] = [one for where, value in people if (one := self._address(value, where))]
        for member, field in _RECEIPTS.items():
            if self._boolean(members.get(member), f"Message.{_SHOWN[member]}"):
                fields[field] = True
        if (subject := members.get("subject")) is not None:
            fields["subject"] = subject
        if (importance := members.get("importance")) is not None:
            fields["importance"] = importance.lower() if isinstance(importance, str) else importance
        fields |= self._body(members.get("body"))
        attachments = list(self._list(members.get("attachments"), "Message.Attachments"))
        fields["attachments"] = [self._attachment(one, where, fields.get("html", "")) for where, one in attachments]
        fields["headers"] = self._headers(members.get("internetmessageheaders"))
        for member in ("from", "sender"):  # Outlook puts the author into From; Sender is who sends for the author
            if (value := members.get(member)) is not None and "from" not in fields:
                fields["from"] = self._address(value, f"Message.{_SHOWN[member]}")
        return {name: value for name, value in fields.items() if value not in ([], {})}

    def _sender(self, author: Address | None, mailbox: str | None) -> dict[str, Any]:
        if mailbox and ("<" in mailbox or "\ufffd" in mailbox):
            self._fault("the mailbox of the request: an address alone is needed, as in /users/ann@contoso.com/sendmail")
            return {}
        if author and mailbox and normal_form(author.address) != normal_form(mailbox):
            self._fault(
                f"Message.From: {author.address} is not the mailbox of the request, {mailbox}; ask for the mailbox "
                f"{author.address} (which mailbox a sender leaves from is a setting: [senders])"
            )
        sender = author or mailbox
        return {"from": sender} if sender else {}

    def _body(self, given: object) -> dict[str, Any]:
        members = self._members(given, "Message.Body", {"contenttype", "content"}) if given is not None else {}
        kind, content = members.get("contenttype") or "text", members.get("content")
        if not isinstance(kind, str) or kind.lower() not in ("text", "html"):
            self._fault("Message.Body.ContentType: must be Text or HTML")
            return {}
        return {kind.lower(): content} if content is not None else {}

    def _address(self, given: object, where: str) -> Address | None:
        member = self._members(given, where, {"emailaddress"}).get("emailaddress")
        members = self._members(member, f"{where}.EmailAddress", {"address", "name"})
        name, address = members.get("name") or "", members.get("address")
        if not isinstance(name, str):
            self._fault(f"{where}.EmailAddress.Name: a string is needed")
            return None
        try:
            named = Address("" if name.strip() == address else name.strip(), Address.parse(address).address)
            return Address.parse(str(named))  # which checks the name, too
        except ValueError as error:
            self._fault(f"{where}.EmailAddress: {error}")
            return None

    def _attachment(self, given: object, where: str, html: object) -> dict[str, Any]:
        kind = str(given.get("@odata.type", "")) if isinstance(given, Mapping) else ""
        if kind and not kind.lower().endswith("fileattachment"):
            name = kind.rpartition(".")[2][:40]
            self._fault(f"{where}: {name} cannot be sent; give the file itself as FileAttachment, with ContentBytes")
            return {}
        known = {"name", "contentbytes", "contenttype", "contentid", "isinline", "size", "contentlocation"}
        members = self._members(given, where, known)
        fields = {"filename": members.get("name"), "content": members.get("contentbytes")}
        for member, field in (("Name", "filename"), ("ContentBytes", "content")):
            if not isinstance(fields[field], str):
                self._fault(f"{where}.{member}: {'missing' if fields[field] is None else 'a string is needed'}")
        if (content_type := members.get("contenttype")) is not None:
            fields["content_type"] = content_type
        content_id = members.get("contentid")
        inline = self._boolean(members.get("isinline"), f"{where}.IsInline")
        if content_id and (inline or (isinstance(html, str) and f"cid:{content_id}" in html)):
            fields["content_id"] = content_id
        return fields

    def _headers(self, given: object) -> dict[str, Any]:
        headers: dict[str, Any] = {}
        for where, one in self._list(given, "Message.InternetMessageHeaders"):
            members = self._members(one, where, {"name", "value"})
            name = members.get("name")
            if not isinstance(name, str):
                self._fault(f"{where}.Name: a string is needed")
            elif name.lower() in (known.lower() for known in headers):
                self._fault(f"{where}.Name: {name[:80]} is given twice")
            else:
                headers[name] = members.get("value")
        return headers

    def _members(self, given: object, where: str, known: set[str]) -> dict[str, Any]:
        """The members of an object by their names in lower case, without annotations and those that are null."""
        if not isinstance(given, Mapping):
            self._fault(f"{where or 'the request'}: an object is needed")
            return {}
        members: dict[str, Any] = {}
        for name, value in given.items():
            key = str(name).lower()
            if "@odata." in key or key.startswith("odata.") or value is None:
                continue
            place = f"{where}.{str(name)[:80]}".removeprefix(".")
            if key in members:
                self._fault(f"{place}: given twice")
            elif key in known:
                members[key] = value
            elif where == "Message" and key in _CANNOT and value:
                self._fault(f"{place}: {_CANNOT[key]}")
            elif where != "Message" or key not in _OF_STORED | _CANNOT.keys():
                self._fault(f"{place}: sendMail has no such member")
        return members

    def _list(self, given: object, where: str) -> Iterator[tuple[str, object]]:
        """Each entry of a list with its place in the request."""
        if given is None:
            return
        if not isinstance(given, Sequence) or isinstance(given, str):
            self._fault(f"{where}: a list is needed")
        elif len(given) > MOST_LISTED:
            self._fault(f"{where}: {len(given)} entries; at most {MOST_LISTED} are read")
        else:
            yield from ((f"{where}[{place}]", one) for place, one in enumerate(given))

    def _boolean(self, given: object, where: str) -> bool | None:
        """A Boolean. Microsoft's own examples give it as a string, too."""
        if given is None or isinstance(given, bool):
            return given
        if isinstance(given, str) and given.lower() in ("true", "false"):
            return given.lower() == "true"
        self._fault(f"{where}: must be true or false")
        return None

    def _fault(self, fault: str) -> None:
        if len(self._faults) < MOST_FAULTS:
            self._faults.append(fault)


_SHOWN = {
    "torecipients": "ToRecipients",
    "ccrecipients": "CcRecipients",
    "bccrecipients": "BccRecipients",
    "replyto": "ReplyTo",
    "isreadreceiptrequested": "IsReadReceiptRequested",
    "isdeliveryreceiptrequested": "IsDeliveryReceiptRequested",
    "from": "From",
    "sender": "Sender",
}
