"""Rules for events: which mail an event becomes, and the reason where it becomes none."""

from pathlib import Path
from typing import Any

import pytest

from postroom.cloudevents.parsing import Event, read_sample
from postroom.cloudevents.rules import EventRules, Planned, key_of
from postroom.errors import ConfigError
from postroom.mail.address import Address

EXAMPLES = Path(__file__).parents[2] / "examples"
SENDER = Address.parse("noreply@contoso.com")
RULE = """
[rules.r]
type = "done"
template = "welcome"
to = "data.mail"
"""


def event(data: Any = None, **attributes: Any) -> Event:
    return Event({"specversion": "1.0", "id": "1", "source": "/s", "type": "done", "data": data} | attributes)


def plan(text: str, one: Event) -> list[Planned]:
    return EventRules.parse(text, "events.toml").plan(one, SENDER)


def mail_of(text: str, one: Event) -> Any:
    (planned,) = plan(text, one)
    assert planned.mail is not None, planned
    return planned.mail


def test_requester_and_owner_get_a_mail_for_a_ready_site_and_operators_for_a_failed_one() -> None:
    rules = EventRules.parse((EXAMPLES / "events.toml").read_text(), "events.toml")

    def told(sample: str) -> list[tuple[str, Any, Any]]:
        found = read_sample((EXAMPLES / "events" / sample).read_bytes())
        return [(p.rule, *p.mail.to, p.mail.template) for p in rules.plan(found.events[0], SENDER) if p.mail]

    assert told("completed.json") == [
        ("site-ready", "ben@contoso.com", "provisioning_completed"),
        ("site-ready-owner", "ann@contoso.com", "provisioning_completed"),
    ]
    assert told("failed.json") == [("site-failed", "operators@contoso.com", "provisioning_failed")]


def test_an_event_becomes_a_mail_whose_parts_stand_where_the_rule_says() -> None:
    mail = mail_of(
        """
        [rules.r]
        type = "done"
        template = "welcome"
        from = "HR <hr@contoso.com>"
        to = ["data.people[].mail", "'ops@contoso.com'"]
        cc = "data.nobody"
        subject = "join(' ', ['Welcome', data.name])"
        locale = "data.language"
        priority = "high"
        tags = ["hr"]
        [rules.r.variables]
        name = "data.name"
        count = 3
        missing = "data.nothing"
        nested = { type = "type", list = ["data.name", "'text'"] }
        """,
        event({"name": "Ann", "language": "de", "people": [{"mail": "a@x.example"}, {"mail": "A@x.example"}]}),
    )
    assert (mail.sender.address, [*mail.to], mail.cc) == ("hr@contoso.com", ["a@x.example", "ops@contoso.com"], ())
    assert (mail.subject, mail.locale, mail.priority, mail.tags) == ("Welcome Ann", "de", "high", ("hr",))
    assert mail.variables == {"name": "Ann", "count": 3, "nested": {"type": "done", "list": ["Ann", "text"]}}
    assert mail.metadata == {"event_id": "1", "event_source": "/s", "event_type": "done"}


@pytest.mark.parametrize(
    ("condition", "fits"),
    [
        ('type = "done"', True),
        ('type = "do*"', True),
        ('type = ["other", "done"]', True),
        ('type = "DONE"', False),
        ('type = "done"\nsource = "/s*"', True),
        ('type = "done"\nsource = "/other"', False),
        ('type = "done"\nwhen = "data.kind == \'team\'"', True),
        ('type = "done"\nwhen = "data.kind"', True),
        ('type = "done"\nwhen = "data.zero"', True),
        ('type = "done"\nwhen = "data.nothing"', False),
        ('type = "done"\nwhen = "data.no"', False),
        ('type = "done"\nwhen = "data.empty"', False),
    ],
)
def test_a_rule_is_for_events_by_type_source_and_condition(condition: str, fits: bool) -> None:
    text = RULE.replace('type = "done"', condition)
    data = {"mail": "a@x.example", "kind": "team", "zero": 0, "no": False, "empty": []}
    assert bool(plan(text, event(data))) == fits


@pytest.mark.parametrize("data", [None, {}, {"mail": None}, {"mail": ""}, {"mail": []}, {"mail": [None, ""]}, [], "a"])
def test_a_rule_that_finds_no_recipient_says_where_it_looked(data: Any) -> None:
    (planned,) = plan(RULE, event(data))
    assert (planned.mail, planned.reason) == (None, "no_recipient")
    assert planned.faults == ("to: data.mail finds no address in this event",)


@pytest.mark.parametrize(
    "data", [{"mail": "nobody"}, {"mail": 17}, {"mail": {"a": 1}}, {"mail": "a@b.c\r\nBcc: d@e.f"}]
)
def test_an_invalid_address_that_a_rule_finds_is_reported(data: Any) -> None:
    (planned,) = plan(RULE, event(data))
    assert (planned.mail, planned.reason) == (None, "invalid")
    assert planned.faults[0].startswith("to.0: ")


def test_an_expression_that_fails_is_reported_without_the_data() -> None:
    for field in ('when = "length(data.secret)"', 'subject = "length(data.secret)"', 'cc = "length(data.secret)"'):
        (planned,) = plan(RULE + field, event({"mail": "a@x.example", "secret": 4711}))
        assert planned.reason == "invalid"
        assert planned.faults[0].startswith(field.partition(" ")[0])
        assert "4711" not in str(planned.faults)


def test_an_event_chooses_neither_template_nor_sender() -> None:
    mail = mail_of(RULE, event({"mail": "a@x.example"}, template="other", sender="eve@fabrikam.com"))
    assert (mail.template, mail.sender) == ("welcome", "noreply@contoso.com")


def test_the_same_event_has_the_same_key_and_no_other_has_it() -> None:
    keys = {
        key_of(event(source=source, id=name), rule)
        for source, name, rule in [
            ("a", "b", "r"),
            ("a", "b", "q"),
            ("a/b", "c", "r"),
            ("a", "b/c", "r"),
            ("a", "c", "r"),
        ]
    }
    assert len(keys) == 5
    assert key_of(event({"x": 1}), "r") == key_of(event({"x": 2}, time="later"), "r")
    assert all(len(key) < 200 for key in (key_of(event(source="s" * 1024, id="i" * 1024), "r" * 100),))


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "no rule in it"),
        ("[rules", "at end of document"),
        ("rules = 3", "no rule in it"),
        ("[[rule]]\ntype='a'", "'rule' does not belong here"),
        (RULE + 'tos = "data.mail"', "[rules.r] tos: no such field (to?)"),
        (RULE.replace('type = "done"', ""), "[rules.r] type: missing"),
        (RULE.replace('to = "data.mail"', ""), "[rules.r] to: an expression"),
        (RULE.replace("data.mail", "data."), "[rules.r] to.0: no JMESPath expression"),
        (RULE.replace('"data.mail"', "3"), "[rules.r] to:"),
        (RULE.replace("welcome", "../welcome"), "[rules.r] template:"),
        (RULE.replace("[rules.r]", '[rules."a b"]'), "a name has letters"),
        (RULE + 'from = "nobody"', "[rules.r] from: not an address"),
        (RULE + 'priority = "urgent"', "[rules.r] priority:"),
        (RULE + '[rules.r.variables]\nname = ""', "[rules.r] variables:"),
    ],
)
def test_a_wrong_rules_file_is_reported_by_name(text: str, fault: str) -> None:
    with pytest.raises(ConfigError) as wrong:
        EventRules.parse(text, "events.toml")
    assert any(fault in one for one in wrong.value.faults), wrong.value.faults
    assert all(one.startswith("events.toml: ") for one in wrong.value.faults)


def test_all_faults_of_a_file_are_reported_at_once() -> None:
    with pytest.raises(ConfigError) as wrong:
        EventRules.parse('[rules.a]\nto = "data."\ntype = "t"\ntemplate = "x"\n[rules.b]\ntypo = 1\n[other]', "e")
    assert len(wrong.value.faults) == 5


def test_a_rule_may_have_a_task_called_at_the_end_and_one_that_cannot_be_is_a_fault() -> None:
    call = 'on_dead = {task = "shop.failed", options = {queue = "shop"}}'

    rule = EventRules.parse(RULE + call, "events.toml").rules["r"]

    assert rule.on_dead == {"task": "shop.failed", "options": {"queue": "shop"}}
    with pytest.raises(ConfigError, match="a queue of your own workers"):
        EventRules.parse(RULE + call.replace('"shop"}', '"postroom"}'), "events.toml")
