"""A worker may open a connection for each slot, however few files its system allows by default."""

import subprocess
import sys


def limit_after(soft: int, hard: int) -> str:
    """What a process of its own has in the end that began with these."""
    code = (
        f"import resource as r; r.setrlimit(r.RLIMIT_NOFILE, ({soft}, {hard}));"
        "from postroom.runtime.file_limit import raise_file_limit; raise_file_limit();"
        "print(*r.getrlimit(r.RLIMIT_NOFILE))"
    )
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_a_worker_asks_for_all_that_it_may_have() -> None:
    assert limit_after(256, 4096) == "4096 4096"


def test_a_worker_with_a_sufficient_limit_asks_for_nothing() -> None:
    assert limit_after(300, 300) == "300 300"
