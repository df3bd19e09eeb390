"""Two workers on two hosts; one of them is cut off from Redis, and not from Graph, for longer than its lease."""

import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import NamedTuple

import pytest

from postroom import Client, Status
from tests.acceptance.conftest import Room, a_mail, open_room, until
from tests.store.redis_servers import free_port

pytestmark = [pytest.mark.world, pytest.mark.timeout(600)]
__all__ = ["open_room"]

# Each cut is longer than the lease, and shorter than the two leases more after which another worker sends the mail.
CUTS = {"a short lease": (20, 45), "the default lease": (60, 90)}
GRAPH, REDIS = 1, 2  # the third number of a network's addresses


class Host(NamedTuple):
    """A host of its own, as a network namespace: with a cable to Graph, and one to Redis."""

    name: str
    number: int

    def run(self, *command: str) -> list[str]:
        return ["ip", "netns", "exec", self.name, *command]

    def cable(self, network: int) -> str:
        return f"pr{self.number}{network}"

    def cut_off_from_redis(self) -> None:
        subprocess.run(["ip", "link", "set", self.cable(REDIS), "down"], check=True)

    def connect_again(self) -> None:
        subprocess.run(["ip", "link", "set", self.cable(REDIS), "up"], check=True)


@pytest.fixture
def hosts(worker_id: str) -> Iterator[list[Host]]:
    """Two hosts; Graph is at 10.77.N1.1 and Redis at 10.77.N2.1, where N is the host's number."""
    if not shutil.which("ip"):
        pytest.skip("ip not found (Debian and Ubuntu: apt install iproute2)")
    with ExitStack() as stack:
        first = 1 + 2 * int(worker_id.removeprefix("gw") if worker_id != "master" else 0)  # beside other test processes
        yield [added(Host(f"postroom{number}", number), stack) for number in (first, first + 1)]


def added(host: Host, stack: ExitStack) -> Host:
    def ip(*words: str, inside: bool = False) -> "subprocess.CompletedProcess[bytes]":
        return subprocess.run([*(host.run() if inside else ()), "ip", *words], capture_output=True, check=False)

    if ip("netns", "add", host.name).returncode:
        pytest.skip("network namespaces cannot be made here (needs root)")
    stack.callback(ip, "netns", "del", host.name)
    for network in (GRAPH, REDIS):
        here, there, net = host.cable(network), f"eth{network}", f"10.77.{host.number}{network}"
        ip("link", "add", here, "type", "veth", "peer", "name", there, "netns", host.name)
        stack.callback(ip, "link", "del", here)
        ip("addr", "add", f"{net}.1/24", "dev", here)
        ip("link", "set", here, "up")
        ip("addr", "add", f"{net}.2/24", "dev", there, inside=True)
        ip("link", "set", there, "up", inside=True)
    ip("link", "set", "lo", "up", inside=True)
    # One name for Graph on both hosts: an address of its own, by the cable to Graph.
    ip("addr", "add", "10.77.0.1/32", "dev", "lo")
    ip("route", "add", "10.77.0.1/32", "via", f"10.77.{host.number}{GRAPH}.1", inside=True)
    return host


@pytest.mark.parametrize("kind", CUTS)
def test_a_202_that_a_cut_off_worker_heard_is_recorded_and_its_mail_never_sent_again(
    hosts: list[Host], open_room: Callable[..., Room], kind: str
) -> None:
    lease_s, cut_s = CUTS[kind]
    given = {} if kind == "the default lease" else {"POSTROOM_LEASE": f"{lease_s}s"}
    room = open_room({"POSTROOM_RATE": "off", **given}, host="0.0.0.0", public_host="10.77.0.1", latency=0.5)
    port = free_port()
    room.redis.config_set("bind", "0.0.0.0")
    room.redis.config_set("protected-mode", "no")
    room.redis.config_set("port", port)
    client = room.client()
    jobs = [client.send(a_mail(**{"from": f"m{n % 40}@contoso.com"}), key=f"{n}").id for n in range(400)]
    for host in hosts:
        url = f"redis://postroom:secret@10.77.{host.number}{REDIS}.1:{port}/0"
        log = room.stack.enter_context((room.folder / f"{host.name}.log").open("wb"))
        worker = subprocess.Popen(
            host.run(sys.executable, "-m", "postroom", "worker", "--processes", "1", "--concurrency", "32"),
            env=room.environment | {"POSTROOM_REDIS_URL": url},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        room.stack.callback(room.end, worker)

    until(lambda: len(room.sandbox.messages()) >= 60, "both workers to be at work")
    hosts[0].cut_off_from_redis()
    time.sleep(cut_s)  # a partition has no event to wait for
    hosts[0].connect_again()

    patience = 4 * lease_s + 100
    until(lambda: all_ended(client, jobs), "all mails to end", patience)
    sent = Counter(request.job for request in room.sandbox.requests(accepted=True))
    assert {job: sent[job] for job in jobs if sent[job] != 1} == {}
    assert {client.status(job).status for job in jobs} == {Status.ACCEPTED}


def all_ended(client: Client, jobs: list[str]) -> bool:
    return all(client.status(job).status in (Status.ACCEPTED, Status.DEAD) for job in jobs)
