"""The server that Postroom starts for itself, with real processes and real kills."""

import fcntl
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import redis

from postroom.errors import ConfigError, Unavailable
from postroom.store import embedded

STARTER = """
import sys, time
from pathlib import Path
from postroom.store import embedded
print(embedded.ensure(Path(sys.argv[1])), flush=True)
time.sleep(60)
"""


@pytest.fixture
def place(folder: Path) -> Iterator[Path]:
    yield folder
    embedded.stop(folder)


def pid_of(url: str) -> int:
    with redis.Redis.from_url(url) as client:
        return int(client.info("server")["process_id"])


def starter(folder: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen([sys.executable, "-c", STARTER, str(folder)], stdout=subprocess.PIPE, text=True)


def said(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def end(process: "subprocess.Popen[str]") -> None:
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    while Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text().split()[2]:
        time.sleep(0.01)


def test_many_processes_that_start_it_at_once_share_one_server(place: Path) -> None:
    starters = [starter(place) for _ in range(6)]
    urls = {said(process) for process in starters}
    for process in starters:
        end(process)

    assert len(urls) == 1
    log = (place / "redis.log").read_text()
    assert log.count("Ready to accept connections") == 1


def test_a_server_outlives_the_process_that_started_it(place: Path) -> None:
    process = starter(place)
    url = said(process)
    pid = pid_of(url)
    end(process)

    assert pid_of(url) == pid


def test_what_a_server_confirmed_survives_its_kill(place: Path) -> None:
    url = embedded.ensure(place)
    with redis.Redis.from_url(url) as client:
        for i in range(50):
            client.set(f"key-{i}", i)
    kill(pid_of(url))

    assert embedded.ensure(place) == url
    with redis.Redis.from_url(url) as client:
        assert client.dbsize() == 50


def test_stopping_ends_the_server_and_keeps_its_data(place: Path) -> None:
    url = embedded.ensure(place)
    with redis.Redis.from_url(url) as client:
        client.set("key", 1)
    pid = pid_of(url)
    embedded.stop(place)
    embedded.stop(place)  # nobody there: nothing to do

    with redis.Redis.from_url(url) as client, pytest.raises(redis.exceptions.ConnectionError):
        client.ping()
    assert pid_of(embedded.ensure(place)) != pid
    with redis.Redis.from_url(url) as client:
        assert client.get("key") == b"1"


def servers_in(folder: Path) -> list[int]:
    """The processes that work in the folder, those of this test aside."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.cwd() == str(folder.resolve()):
                found.append(process.pid)
    return found


@pytest.fixture
def stalled(place: Path) -> Iterator[int]:
    """The id of a server that lives and does not answer, with one key in it."""
    url = embedded.ensure(place)
    with redis.Redis.from_url(url) as client:
        client.set("key", 1)
    pid = pid_of(url)
    os.kill(pid, signal.SIGSTOP)
    yield pid
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)


def test_beside_a_server_that_stalls_no_second_one_starts(place: Path, stalled: int) -> None:
    attempt = "import sys; from pathlib import Path; from postroom.store import embedded\n"
    attempt += "embedded.ensure(Path(sys.argv[1]), timeout_s=0.5)"
    process = subprocess.run([sys.executable, "-c", attempt, str(place)], capture_output=True, text=True, check=False)

    assert process.stderr.strip().endswith(f"did not answer within 0.5 s; see {place.resolve()}/redis.log")
    assert servers_in(place) == [stalled]
    os.kill(stalled, signal.SIGCONT)
    url = embedded.ensure(place)
    assert pid_of(url) == stalled
    with redis.Redis.from_url(url) as client:
        assert client.get("key") == b"1"


def test_whoever_waits_for_a_stalled_server_gets_it_when_it_wakes(place: Path, stalled: int) -> None:
    threading.Timer(0.5, os.kill, (stalled, signal.SIGCONT)).start()

    assert pid_of(embedded.ensure(place)) == stalled


def test_a_stalled_server_does_not_count_as_stopped(place: Path, stalled: int) -> None:
    with pytest.raises(Unavailable, match=r"did not stop within 0\.3 s; see .*redis\.log"):
        embedded.stop(place, timeout_s=0.3)

    os.kill(stalled, signal.SIGCONT)
    embedded.stop(place)
    assert servers_in(place) == []


def test_a_server_that_asks_for_a_password_counts_as_running(place: Path) -> None:
    url = embedded.ensure(place)
    pid = pid_of(url)
    with redis.Redis.from_url(url) as client:
        client.config_set("requirepass", "sesame")
    assert embedded.ensure(place) == url
    assert servers_in(place) == [pid]

    with redis.Redis.from_url(url, password="sesame") as client:
        client.config_set("requirepass", "")


def test_a_server_that_still_loads_is_waited_for(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener, (folder / "running").open("a") as running:
        fcntl.flock(running, fcntl.LOCK_EX)
        listener.bind(str(folder / "redis.sock"))
        listener.listen()

        def load() -> None:
            with suppress(OSError):
                while True:
                    with listener.accept()[0] as one:
                        one.recv(65536)
                        one.sendall(b"-LOADING Valkey is loading the dataset in memory\r\n" * 4)

        thread = threading.Thread(target=load)
        thread.start()
        with pytest.raises(Unavailable, match="did not answer"):
            embedded.ensure(folder, timeout_s=0.5)
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
    assert servers_in(folder) == []


def test_stopping_does_nothing_where_no_server_ever_ran(folder: Path) -> None:
    embedded.stop(folder)
    embedded.stop(folder / "missing")

    assert not (folder / "missing").exists()


def test_no_other_user_may_read_the_server_s_folder(place: Path) -> None:
    embedded.ensure(place / "new")
    try:
        assert (place / "new").stat().st_mode & 0o777 == 0o700
        assert (place / "new/redis.sock").stat().st_mode & 0o777 == 0o700
    finally:
        embedded.stop(place / "new")


def test_a_path_too_long_for_a_socket_is_a_wrong_setting(folder: Path) -> None:
    with pytest.raises(ConfigError, match="too long"):
        embedded.ensure(folder / ("x" * 100))


def test_a_server_that_cannot_start_is_unavailable_and_says_where_to_look(folder: Path) -> None:
    (folder / "appendonlydir").write_text("not a folder")

    with pytest.raises(Unavailable, match=r"redis\.log"):
        embedded.ensure(folder, timeout_s=0.5)


def test_nobody_else_may_read_what_the_server_keeps(tmp_path: Path) -> None:
    folder = tmp_path / "redis"
    folder.mkdir(mode=0o755)
    try:
        with redis.Redis.from_url(embedded.ensure(folder)) as client:
            client.set("mail", "x")
        kept = [file for file in folder.rglob("*.aof*") if file.is_file()]
        assert kept
        assert {file.stat().st_mode & 0o077 for file in [folder, *kept]} == {0}
    finally:
        embedded.stop(folder)
