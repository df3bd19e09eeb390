"""The API's own description is right, whatever it is asked."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import schemathesis
from schemathesis import GenerationMode
from schemathesis.config import SchemathesisConfig

from postroom.api import create_app
from postroom.store.ledger import Ledger

from .conftest import Door

ROOT = Path(__file__).parents[2]


def test_the_api_describes_itself_in_openapi_3_1(door: Door) -> None:
    told = door.http.get("/openapi.json").json()
    assert told["openapi"].startswith("3.1")
    for path, methods in told["paths"].items():
        for method, route in methods.items():
            assert route["summary"], (path, method)
            assert ("security" in route) == path.startswith("/v1/"), path
            for status, answer in route["responses"].items():
                if int(status) >= 400:
                    assert answer["content"]["application/json"]["schema"]["$ref"].endswith("/Error"), (path, status)


@pytest.mark.parametrize(
    ("mode", "examples"),
    [
        (GenerationMode.POSITIVE, 2),
        (GenerationMode.NEGATIVE, 2),
        pytest.param(GenerationMode.POSITIVE, 20, marks=pytest.mark.world),
        # With more of them, the only thing wrong with some is the key's header, which the test sends all the same.
        pytest.param(GenerationMode.NEGATIVE, 4, marks=pytest.mark.world),
    ],
)
def test_the_api_does_what_its_description_says_whatever_it_is_asked(
    door: Door, ledger: Ledger, mode: GenerationMode, examples: int
) -> None:
    config = SchemathesisConfig.from_path(ROOT / "schemathesis.toml")
    schema = schemathesis.openapi.from_asgi("/openapi.json", create_app(door.services), config=config)
    headers = {"Authorization": f"Bearer {door.key()}"}
    asked = set()

    for operation in (found.ok() for found in schema.get_all_operations()):
        ledger.tick("host:1", 8, 60.0)  # a worker that is alive, for /readyz

        @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
        @hypothesis.settings(
            max_examples=examples,
            derandomize=True,
            database=None,
            deadline=None,
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        def holds(case: Any) -> None:
            asked.add(case.operation.label)
            case.call_and_validate(headers=headers)

        with suppress(hypothesis.errors.Unsatisfiable):  # nothing can be wrong with a request that takes nothing
            holds()
    assert len(asked) >= (24 if mode is GenerationMode.POSITIVE else 20), asked
