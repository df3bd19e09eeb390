"""The raw calls in examples/ do what they say, sent by the programs that they are for: httpYac and newman (Postman)."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from postroom.sandbox import SandboxAddress, SandboxOptions, running
from postroom.sandbox.control import Sandbox
from tests.docs.pages import ROOT

pytestmark = pytest.mark.world
CALLS = ROOT / "examples/raw_calls"
STATUSES = [200, 400, 202, 201, 202, 200]


@pytest.fixture(scope="module")
def address() -> Iterator[SandboxAddress]:
    with running(SandboxOptions(roles=("Mail.Send", "Mail.ReadWrite", "Mail.Read"))) as address:
        yield address


def node_program(name: str) -> str:
    """A program of npm; skips the test where there is none."""
    places = [str(Path(os.environ.get("NODE_PATH", "/nowhere")) / ".bin"), os.environ.get("PATH", "")]
    found = shutil.which(name, path=os.pathsep.join(places))
    return found or pytest.skip(f"no {name} on this machine (npm install {name}, NODE_PATH)")


def run(address: SandboxAddress, folder: Path, *command: str) -> str:
    environment = os.environ | {"NODE_EXTRA_CA_CERTS": address.ca_file}
    done = subprocess.run(
        command, env=environment, cwd=folder, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def values(address: SandboxAddress) -> dict[str, str]:
    return {
        "authority": address.authority_url,
        "graph": address.graph_url,
        "tenant": address.tenant_id,
        "client_id": address.client_id,
        "client_secret": address.client_secret,
    }


def test_httpyac_sends_them(address: SandboxAddress, tmp_path: Path) -> None:
    program, text = node_program("httpyac"), (CALLS / "graph.http").read_text(encoding="utf-8")
    for name, value in values(address).items():
        text, changed = re.subn(rf"^@{name} = .*$", f"@{name} = {value}", text, flags=re.MULTILINE)
        assert changed == 1
    (tmp_path / "graph.http").write_text(text, encoding="utf-8")

    told = json.loads(run(address, tmp_path, program, "send", "graph.http", "--all", "--json", "-o", "response"))

    assert [one["response"]["statusCode"] for one in told["requests"]] == STATUSES
    found = json.loads(told["requests"][-1]["response"]["body"])
    assert [(one["subject"], one["isDraft"]) for one in found["value"]] == [("From a raw draft", False)]


def test_newman_sends_them_and_their_own_tests_pass(address: SandboxAddress, tmp_path: Path) -> None:
    program, report = node_program("newman"), tmp_path / "report.json"
    given = [part for name, value in values(address).items() for part in ("--env-var", f"{name}={value}")]
    file = str(CALLS / "graph.postman_collection.json")
    run(address, tmp_path, program, "run", file, *given, "--reporters", "json", "--reporter-json-export", str(report))

    told = json.loads(report.read_text(encoding="utf-8"))["run"]
    assert [one["response"]["code"] for one in told["executions"]] == STATUSES
    with Sandbox.at(address) as sandbox:
        assert "From a raw call" in {message.subject for message in sandbox.messages()}
