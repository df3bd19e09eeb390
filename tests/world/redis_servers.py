"""Redis servers as others ship them, for tests that go by the server's own behaviour."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis
import trustme

from tests.store.redis_servers import wait_for


def binary() -> str:
    """The redis-server of this machine; skips the test where there is none."""
    found = shutil.which("redis-server")
    if not found:
        pytest.skip("redis-server not found (Debian and Ubuntu: apt install redis-server)")
    return found


@contextmanager
def serving(folder: Path, *arguments: str, client: "redis.Redis[bytes]") -> Iterator["subprocess.Popen[bytes]"]:
    """The machine's redis-server in this folder, until the end of the block; `client` tells when it answers."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "server.log").open("ab") as log:
        process = subprocess.Popen([binary(), *arguments], cwd=folder, stdout=log, stderr=log)
    try:
        with client:
            wait_for(client)
        yield process
    finally:
        process.kill()
        process.wait()


def certificates(folder: Path) -> Path:
    """Makes a CA and a certificate for this machine; returns the CA's file. See `tls_arguments`."""
    authority = trustme.CA()
    server = authority.issue_cert("127.0.0.1", "localhost")
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    server.private_key_pem.write_to_path(str(folder / "key.pem"))
    server.cert_chain_pems[0].write_to_path(str(folder / "cert.pem"))
    return folder / "ca.pem"


def tls_settings(folder: Path, port: int) -> list[str]:
    """Lines of a configuration: this port with TLS only."""
    files = [("cert-file", "cert.pem"), ("key-file", "key.pem"), ("ca-cert-file", "ca.pem")]
    return [
        *("port 0", f"tls-port {port}", "tls-auth-clients no", "tls-replication yes"),
        *(f"tls-{name} {folder / file}" for name, file in files),
    ]
