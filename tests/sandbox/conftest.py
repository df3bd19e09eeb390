"""A real sandbox over TLS, shared by the tests of one process and reset before each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from postroom.sandbox import SandboxAddress, SandboxOptions, running
from postroom.sandbox.control import Sandbox

from .sandbox_clients import KeyPair, Office, client

OPTIONS = SandboxOptions(seed=1, aliases={"info@contoso.com": "office@contoso.com"})


@pytest.fixture(scope="session")
def address() -> Iterator[SandboxAddress]:
    with running(OPTIONS) as address:
        yield address


@pytest.fixture(scope="session")
def control(address: SandboxAddress) -> Iterator[Sandbox]:
    with Sandbox.at(address) as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(control: Sandbox) -> Sandbox:
    """The control client of a sandbox in which nothing has happened yet."""
    control.reset()
    return control


@pytest.fixture
def office(sandbox: Sandbox, address: SandboxAddress) -> Iterator[Office]:
    with client(address) as session:
        office = Office(address, session)
        office.log_in()
        yield office


@pytest.fixture(scope="session")
def pair() -> KeyPair:
    return KeyPair.new()
