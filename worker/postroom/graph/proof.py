"""A request that shows whether an app may send from a mailbox, and sends nothing.

A sendMail without any recipient can never be sent. It is answered with 400 where the app may use the mailbox, and with
403 where it may not. Microsoft does not document that rights are asked for first; it was seen on stand-ins.
"""

from postroom.graph.requests import GraphRequest
from postroom.jobs.outcome import Outcome, Refused

TO_NOBODY = GraphRequest(
    mode="json",
    content_type="application/json",
    body=b'{"message":{"subject":"postroom asks whether it may send","toRecipients":[]},"saveToSentItems":false}',
)


def is_let_in(outcome: Outcome) -> bool:
    """Whether the app was let into the mailbox, and only the mail refused: Exchange itself missed the recipients.

    Another 400 may come from a gateway that has not asked for rights yet.
    """
    return isinstance(outcome, Refused) and outcome.reason == "invalid_recipients"
