"""Where programs of others are."""

import os
import shutil
from pathlib import Path

import pytest

# Where .ci/run unpacks what cannot be installed together: a machine has one mail server.
UNPACKED = Path(os.environ.get("UNPACKED_PROGRAMS", "/nowhere"))


def unpacked(package: str, program: str) -> Path:
    """The folder in which this package is unpacked, or / if it is installed; skips the test where it is neither."""
    for root in (UNPACKED / package, Path("/")):
        if (root / program).exists():
            return root
    pytest.skip(f"no {package} on this machine (apt-get download {package}, dpkg-deb -x, UNPACKED_PROGRAMS)")


def unpacked_library(package: str, library: str) -> Path:
    """This library of the package, in a folder whose name has the machine's kind in it; skips as `unpacked` does."""
    for root in (UNPACKED / package, Path("/")):
        for found in root.glob(f"usr/lib/*/{library}"):
            return found
    pytest.skip(f"no {package} on this machine (apt-get download {package}, dpkg-deb -x, UNPACKED_PROGRAMS)")


def program(name: str, package: str) -> str:
    """The path of this program; skips the test where there is none."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    return found or pytest.skip(f"no {name} on this machine (apt-get install {package})")
