"""The one mail that the doctor sends, and only where `--send-to` asks for it: past the queue, straight to Graph."""

import uuid
from datetime import datetime

from postroom.doctor.senders import Lane
from postroom.doctor.surroundings import GraphAccess
from postroom.graph.requests import request_for
from postroom.jobs.outcome import Outcome, Refused
from postroom.mail.address import Address
from postroom.mail.message import compose
from postroom.mail.model import Mail

TEXT = (
    "This is the mail that `postroom doctor --send-to` was asked to send.\n\n"
    "It left {mailbox} at {at:%Y-%m-%d %H:%M:%S} UTC. If you read it, this app may send from this mailbox.\n"
)


def trial_mail(access: GraphAccess, lane: Lane, to: Address, now: datetime) -> Outcome:
    """What became of a mail from this mailbox to this one address."""
    mail = Mail(
        sender=lane.mailbox, to=[to.address], subject="Postroom doctor: a trial mail",
        text=TEXT.format(mailbox=lane.mailbox, at=now),
    )  # fmt: skip
    message = compose(mail, Address("", lane.mailbox), f"doctor-{uuid.uuid4()}", None, None, None, lane.mailbox)
    request = request_for(message)
    return request if isinstance(request, Refused) else access.graph.send_mail(lane.mailbox, request, access.call())
