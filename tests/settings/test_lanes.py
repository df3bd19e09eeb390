"""The lanes that settings name are those that mail goes into."""

import pytest

from postroom.mail.address import Address
from postroom.settings.lanes import Lanes
from postroom.settings.model import Settings


@pytest.mark.parametrize("text", ["Noreply@Contoso.com", "stra\u00dfe@contoso.com", "H\u00c4NS@contoso.com"])
def test_a_sender_s_settings_are_those_of_its_mail(text: str) -> None:
    settings = Settings.model_validate({"redis_url": "redis://localhost", "senders": {text: {"parallel": 1}}})

    published = Lanes(settings=settings).rules(results_here=True)

    assert published.lanes[Address.parse(text).lane].parallel == 1
