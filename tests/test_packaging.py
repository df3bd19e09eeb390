"""What is published: the source distribution, and the wheel that is built of it."""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
HERE = "from hatchling import build; print(build.build_{kind}({folder!r}))"


def built(kind: str, source: Path, folder: Path) -> Path:
    """What the build backend that is installed makes, without the network."""
    command = [sys.executable, "-c", HERE.format(kind=kind, folder=str(folder))]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder / done.stdout.split()[-1]


def test_the_source_distribution_builds_the_wheel_that_the_checkout_builds(tmp_path: Path) -> None:
    of_sources, of_checkout = tmp_path / "of-sources", tmp_path / "of-checkout"
    with tarfile.open(built("sdist", ROOT, tmp_path)) as archive:
        archive.extractall(tmp_path, filter="data")
        (unpacked,) = {name.partition("/")[0] for name in archive.getnames()}

    wheel = built("wheel", tmp_path / unpacked, of_sources)

    with zipfile.ZipFile(wheel) as ours, zipfile.ZipFile(built("wheel", ROOT, of_checkout)) as others:
        assert ours.namelist() == others.namelist()
        for name in ("store/lua/functions/worker/tick.lua", "templates/welcome/body.html", "examples/events.toml"):
            assert f"postroom/{name}" in ours.namelist()
