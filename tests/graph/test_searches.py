"""A mail that may have been sent is looked for among messages to the same people."""

import json
from datetime import UTC, datetime

from postroom.graph.answers import judge_search
from postroom.graph.searches import SENT_ITEMS, searches_by_own_id
from postroom.jobs.outcome import Found
from postroom.mail.address import Address


def test_exchange_may_write_an_address_in_another_case() -> None:
    (search,) = searches_by_own_id("<id@b.com>", [Address.parse("H\u00c4NS@b.com")], SENT_ITEMS)
    message = {"id": "1", "toRecipients": [{"emailAddress": {"address": "h\u00e4ns@B.com"}}]}
    body = json.dumps({"value": [message]}).encode()

    found = judge_search(200, {}, body, datetime(2026, 12, 1, tzinfo=UTC), recipients=search.recipients)

    assert isinstance(found, Found)
