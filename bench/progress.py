"""What the bench says while it runs, so that one sees that it lives; its figures go to standard output."""

import sys
import time

_began = time.monotonic()


class BenchFault(Exception):
    """A measurement could not be made. The text names what failed, and where its log is or what it says."""


def say(text: str) -> None:
    print(f"{time.monotonic() - _began:6.0f} s  {text}", file=sys.stderr, flush=True)
