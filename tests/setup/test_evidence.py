"""What Graph's answer to a mail without recipients shows of an app's rights."""

from __future__ import annotations

import pytest

from postroom.setup.apply import apply
from postroom.setup.evidence import May, gather

from .conftest import Room
from .test_apply import tokens


@pytest.mark.parametrize(
    ("fault", "may"),
    [
        ({}, May.YES),
        ({"status": 403, "code": "ErrorAccessDenied"}, May.NO),
        ({"status": 404, "code": "ErrorInvalidUser"}, May.NOBODY),
        ({"status": 400, "code": "BadRequest"}, May.UNCLEAR),
        ({"status": 503}, May.UNCLEAR),
        ({"effect": "reset"}, May.UNCLEAR),
    ],
)
def test_only_the_answer_of_exchange_itself_proves_something(room: Room, fault: dict[str, object], may: May) -> None:
    site = room.site()
    apply(site, room.wanted())
    if fault:
        room.sandbox.add_fault(stage="graph", **fault)
    shown = gather(room.http, room.address.graph_url, tokens(room, site), ["noreply@contoso.com"], [])
    assert [one.may for one in shown if not isinstance(one, str)] == [may]
    assert room.sandbox.messages() == []


def test_without_a_token_the_reason_is_told(room: Room) -> None:
    site = room.site()
    apply(site, room.wanted())
    room.sandbox.add_fault(stage="token", code="700027")
    told = gather(room.http, room.address.graph_url, tokens(room, site), ["noreply@contoso.com"], [])
    assert isinstance(told, str)
    assert told.startswith("no token: invalid_certificate")
