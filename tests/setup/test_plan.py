"""Which steps lead from what is there to what is wanted: values only."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from postroom.setup.look import longest_days
from postroom.setup.plan import Assigned, Do, Found, OwnCertificate, life, steps
from postroom.setup.wanted import Feature, Scope, ScopeKind, Wanted, slug

NOW = datetime(2026, 12, 1, tzinfo=UTC)
GROUP = Scope(kind=ScopeKind.GROUP, id="g", label="the group")
WANTED = Wanted(name="Mail worker", scopes=(GROUP,))
OWN = OwnCertificate(thumbprint="AB", object_id="o", ends=NOW + timedelta(days=9))
WHOLE = Found(
    object_id="o",
    app_id="a",
    thumbprints=frozenset({"AB"}),
    principal_id="p",
    assigned=(Assigned(id="1", role="Application Mail.Send", scope="/groups/G"),),
    certificate=OWN,
    settings_written=True,
)


def todo(wanted: Wanted, found: Found) -> list[Do]:
    return [step.do for step in steps(wanted, found, NOW)]


def test_what_is_whole_needs_nothing() -> None:
    assert todo(WANTED, WHOLE) == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"thumbprints": frozenset()}, [Do.ADD_CERTIFICATE]),
        ({"certificate": None}, [Do.MAKE_KEY, Do.ADD_CERTIFICATE]),
        ({"certificate": replace(OWN, ends=NOW)}, [Do.MAKE_KEY, Do.ADD_CERTIFICATE]),
        ({"certificate": replace(OWN, object_id="other")}, [Do.MAKE_KEY, Do.ADD_CERTIFICATE]),
        ({"certificate": replace(OWN, object_id="")}, []),
        ({"assigned": ()}, [Do.ASSIGN]),
        ({"grants": {"Mail.Send": "1"}}, [Do.REVOKE]),
        ({"grants": {"ExchangeMessageTrace.Read.All": "1"}}, [Do.REVOKE]),
        ({"grants": {"User.Read.All": "1"}}, []),
        ({"settings_written": False}, [Do.WRITE_SETTINGS]),
        ({"assigned": (*WHOLE.assigned, Assigned(id="2", role="x", scope="/"))}, [Do.UNASSIGN]),
    ],
)
def test_each_thing_that_is_missing_or_too_much_is_one_step(changes: dict[str, object], expected: list[Do]) -> None:
    assert todo(WANTED, replace(WHOLE, **changes)) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("features", "roles"),
    [
        ((), ("Application Mail.Send",)),
        ((Feature.LOOK_UP,), ("Application Mail.Send", "Application Mail.Read")),
        ((Feature.DRAFT,), ("Application Mail.Send", "Application Mail.ReadWrite")),
        ((Feature.DRAFT, Feature.LOOK_UP), ("Application Mail.Send", "Application Mail.ReadWrite")),
    ],
)
def test_a_feature_gets_the_least_role(features: tuple[Feature, ...], roles: tuple[str, ...]) -> None:
    assert replace(WANTED, features=frozenset(features)).roles == roles


def test_only_what_takes_something_away_is_asked_for_on_its_own() -> None:
    found = replace(WHOLE, grants={"Mail.Send": "1"}, assigned=(), settings_written=False)
    assert {step.do for step in steps(WANTED, found, NOW) if step.asked} == {Do.REVOKE}


def rule(duration: str | None, state: str = "enabled", kind: str = "asymmetricKeyLifetime") -> dict[str, object]:
    return {"restrictionType": kind, "state": state, "maxLifetime": duration}


@pytest.mark.parametrize(
    ("rules", "enabled", "days"),
    [
        ([rule("P30D")], True, 30),
        ([rule("P1Y"), rule("P6M")], True, 180),
        ([rule("P30D")], False, None),
        ([rule("P30D", "disabled")], True, None),
        ([rule("P30D", kind="trustedCertificateAuthority")], True, None),
        ([rule(None)], True, None),
        ([], True, None),
    ],
)
def test_the_policy_caps_the_life_of_a_certificate(rules: list[object], enabled: bool, days: int | None) -> None:
    policy = {"isEnabled": enabled, "applicationRestrictions": {"keyCredentials": rules}}
    assert longest_days(policy) == days
    assert life(WANTED, replace(WHOLE, policy_days=days)) == timedelta(days=min(365, days or 365))


def test_a_name_becomes_a_key_of_small_letters() -> None:
    assert (slug("Mail Worker (Test)"), slug("…"), WANTED.unique_name) == (
        "mail-worker-test",
        "app",
        "postroom-mail-worker",
    )
