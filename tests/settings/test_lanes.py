"""The lanes that settings name are those that mail goes into."""

import pytest
from pydantic import ValidationError

from postroom.mail.address import Address
from postroom.settings.lanes import Lanes
from postroom.settings.model import Settings


@pytest.mark.parametrize("text", ["Noreply@Contoso.com", "stra\u00dfe@contoso.com", "H\u00c4NS@contoso.com"])
def test_a_sender_s_settings_are_those_of_its_mail(text: str) -> None:
    settings = Settings.model_validate({"redis_url": "redis://localhost", "senders": {text: {"parallel": 1}}})

    published = Lanes(settings=settings).rules(results_here=True)

    assert published.lanes[Address.parse(text).lane].parallel == 1


def test_a_rule_for_a_domain_counts_for_each_of_its_senders_without_a_section() -> None:
    senders = {
        "*@web1.example": {"mailbox": "noreply@contoso.com"},
        "*@contoso.com": {"mailbox": "main@contoso.com"},
        "hr@contoso.com": {"parallel": 1},
    }
    settings = Settings.model_validate({"redis_url": "redis://localhost", "senders": senders})

    assert Lanes(settings=settings).rules(results_here=True).aliases == {
        "*@web1.example": "noreply@contoso.com",
        "*@contoso.com": "main@contoso.com",
        "hr@contoso.com": "hr@contoso.com",
        "main@contoso.com": "main@contoso.com",
        "noreply@contoso.com": "noreply@contoso.com",
    }
    with pytest.raises(ValidationError, match="mailbox: missing"):
        Settings.model_validate({"redis_url": "redis://localhost", "senders": {"*@web1.example": {}}})
