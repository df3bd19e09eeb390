"""Routes of the Outlook REST API v2.0, for programs that still speak it: `sendmail`, and nothing else of it.

Such a program needs another host name, and an API key instead of its token. Graph's form of the request is taken too.
"""

from functools import partial
from typing import Any

from fastapi import APIRouter, Request, Response

from postroom.access.api_keys import ApiKey
from postroom.api.bringing import answer, brings
from postroom.api.dependencies import Services
from postroom.api.errors import BROUGHT, documented
from postroom.api.routes.emails import REPLAY, checked, default_sender, scoped_key
from postroom.mail.model import Mail

router = APIRouter(tags=["outlook"])
# Our own, and that of the service that ended (https://outlook.office.com/api/v2.0/…).
_ROOTS = ("/v1/compat/outlook", "/api/v2.0")


async def send_from_mailbox(request: Request, mailbox: str) -> Response:
    """Take in one mail as the Outlook REST API v2.0 did. After the empty answer 202 it is kept."""
    return await answer(request, partial(_send, mailbox))


async def send_from_own_mailbox(request: Request) -> Response:
    """The same from the key's only sender, or the default sender."""
    return await answer(request, partial(_send, None))


def _send(
    mailbox: str | None, services: Services, key: ApiKey, given: dict[str, Any], idempotency_key: str | None
) -> Response:
    mail = Mail.from_outlook_rest(given, mailbox).with_sender(default_sender(key, services.sender))
    receipt = services.client.send(checked(mail, key), scoped_key(key, idempotency_key))
    headers = {"Location": f"/v1/emails/{receipt.id}"}
    return Response(status_code=202, headers=headers | ({REPLAY: "true"} if receipt.known else {}))


for root in _ROOTS:
    for path, function in (("/users/{mailbox}", send_from_mailbox), ("/me", send_from_own_mailbox)):
        for action in ("sendmail", "sendMail"):
            router.add_api_route(
                f"{root}{path}/{action}",
                function,
                methods=["POST"],
                status_code=202,
                response_class=Response,
                responses=documented(*BROUGHT, 409),
                openapi_extra=brings("OutlookRestMail"),
                include_in_schema=root == _ROOTS[0] and action == "sendmail",
            )


def schemas() -> dict[str, Any]:
    """The body that these routes take, for OpenAPI."""
    recipient = {
        "type": "object",
        "required": ["EmailAddress"],
        "properties": {
            "EmailAddress": {
                "type": "object",
                "required": ["Address"],
                "properties": {"Address": {"type": "string"}, "Name": {"type": "string"}},
            }
        },
    }
    recipients = {"type": "array", "items": recipient}
    message = {
        "type": "object",
        "required": ["Body"],
        "properties": {
            "Subject": {"type": "string"},
            "Body": {
                "type": "object",
                "required": ["Content"],
                "properties": {"ContentType": {"enum": ["Text", "HTML"]}, "Content": {"type": "string"}},
            },
            **dict.fromkeys(("ToRecipients", "CcRecipients", "BccRecipients", "ReplyTo"), recipients),
            "From": recipient,
            "Importance": {"enum": ["Low", "Normal", "High"]},
            "Attachments": {"type": "array", "items": {"type": "object"}},
        },
    }
    body = {
        "type": "object",
        "title": "OutlookRestMail",
        "description": "The body of a sendMail request of the Outlook REST API v2.0; Graph's names are taken too.",
        "required": ["Message"],
        "properties": {"Message": message, "SaveToSentItems": {"type": ["boolean", "string"]}},
    }
    return {"OutlookRestMail": body}
