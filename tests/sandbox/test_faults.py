"""Which requests a fault strikes, without a server."""

from __future__ import annotations

from typing import Any

import pytest

from postroom.sandbox.control.faults import FaultRule, Faults
from postroom.sandbox.exchange.message import Outgoing
from postroom.sandbox.graph.json_mail import read_json_mail

MAIL = b"""{"message": {
    "subject": "Your Invoice 7",
    "toRecipients": [{"emailAddress": {"address": "Ann@fabrikam.com"}}],
    "bccRecipients": [{"emailAddress": {"address": "bob@example.com"}}]
}}"""


@pytest.fixture(scope="module")
def mail() -> Outgoing:
    return read_json_mail(MAIL)


@pytest.mark.parametrize(
    ("rule", "struck"),
    [
        ({}, True),
        ({"stage": "token"}, False),
        ({"mailbox": "Office@contoso.com"}, True),
        ({"mailbox": "other@contoso.com"}, False),
        ({"recipient": "ann@fabrikam.com"}, True),
        ({"recipient": "bob@example.com"}, True),
        ({"recipient": "@fabrikam.com"}, True),
        ({"recipient": "@contoso.com"}, False),
        ({"recipient": "fabrikam.com"}, False),
        ({"subject": "invoice"}, True),
        ({"subject": "reminder"}, False),
        ({"subject": "invoice", "recipient": "@contoso.com"}, False),
        ({"job": "job-1"}, True),
        ({"job": "job-2"}, False),
        ({"probability": 0}, False),
    ],
)
def test_a_rule_strikes_what_it_describes(rule: dict[str, Any], struck: bool, mail: Outgoing) -> None:
    faults = Faults()
    faults.add(FaultRule(**rule))

    assert (faults.strike("graph", "office@contoso.com", mail, "job-1") is not None) is struck


def test_a_rule_about_the_mail_spares_a_request_without_a_readable_one() -> None:
    faults = Faults()
    faults.add(FaultRule(subject="invoice"))

    assert faults.strike("graph", "office@contoso.com", None) is None


def test_a_rule_spares_the_first_and_then_strikes_its_number_of_times() -> None:
    faults = Faults()
    faults.add(FaultRule(after=2, times=3))

    struck = [faults.strike("graph") is not None for _ in range(7)]

    assert struck == [False, False, True, True, True, False, False]
    assert (faults.active()[0].met, faults.active()[0].struck) == (7, 3)


def test_the_first_rule_that_strikes_decides() -> None:
    faults = Faults()
    faults.add(FaultRule(status=500, times=1))
    faults.add(FaultRule(status=503))

    met = [faults.strike("graph") for _ in range(2)]

    assert [one.rule.status for one in met if one] == [500, 503]


def test_the_same_seed_throws_the_same_dice() -> None:
    def run(seed: int) -> list[bool]:
        faults = Faults(seed)
        faults.add(FaultRule(probability=0.5))
        return [faults.strike("graph") is not None for _ in range(64)]

    assert run(1) == run(1) != run(2)


@pytest.mark.parametrize(
    ("rule", "part"),
    [
        ({"efect": "hang"}, r"no field 'efect' \(effect\?\)"),
        ({"effect": "explode"}, "it can be answer, hang"),
        ({"stage": "grph"}, "stage is 'grph'"),
        ({"stage": "token", "accepted": True}, "accepted goes with the stages"),
        ({"probability": 2}, "from 0 to 1"),
        ({"status": 99}, "from 200 to 599"),
        ({"times": 0}, "strike at least once"),
        ({"status": "429"}, "status is '429'; it has to be a whole number"),
        ({"delay": "1 s"}, "it has to be a number"),
        ({"delay": -1}, "cannot be negative"),
    ],
)
def test_a_rule_that_makes_no_sense_says_what_is_wrong(rule: dict[str, Any], part: str) -> None:
    with pytest.raises(ValueError, match=part):
        FaultRule.from_json(rule)


def test_a_rule_survives_its_own_json() -> None:
    rule = FaultRule(status=429, retry_after="Sun, 22 Nov 2026 10:00:00 GMT", headers={"X-A": "1"}, times=2)

    assert FaultRule.from_json(rule.to_json()) == rule
