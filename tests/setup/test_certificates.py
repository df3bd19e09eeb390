"""Keys and certificates: what is in them, the forms that Entra knows them in, and how they are written."""

from __future__ import annotations

import base64
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from postroom.graph.credentials import Certificate, CredentialFault, Identity, check_credential
from postroom.setup import certificates
from postroom.setup.certificates import KeyPair

NOW = datetime(2026, 12, 1, 12, tzinfo=UTC)
OBJECT_ID = "0b7a3f14-1c6e-4b86-9d57-0a8f7a4f1f11"


@pytest.fixture(scope="module")
def pair() -> KeyPair:
    return certificates.make("Mail worker", timedelta(days=30), NOW, OBJECT_ID)


def test_the_certificate_is_for_the_app_and_as_long_as_was_asked(pair: KeyPair) -> None:
    assert pair.key.key_size == 3072
    assert pair.ends - pair.starts == timedelta(days=30)
    assert pair.starts < NOW
    assert pair.object_id == OBJECT_ID
    assert pair.certificate.verify_directly_issued_by(pair.certificate) is None


def test_the_entry_is_that_of_the_certificate(pair: KeyPair) -> None:
    entry = pair.entry("postroom")
    certificate = x509.load_der_x509_certificate(base64.b64decode(entry["key"]))
    assert certificate == pair.certificate
    assert base64.b64decode(entry["customKeyIdentifier"]).hex().upper() == pair.sha1
    assert certificate.fingerprint(hashes.SHA256()).hex().upper() == pair.sha256
    assert entry["endDateTime"] == "2026-12-31T11:50:00Z"


@pytest.mark.parametrize("name", ["a.pem", "a.pfx"])
def test_workers_can_use_the_file(pair: KeyPair, tmp_path: Path, name: str) -> None:
    path, password = tmp_path / name, "sesame" if name.endswith("pfx") else None
    certificates.write_private(path, pair.pfx("a", password) if password else pair.pem)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    identity = Identity(
        tenant_id="t", client_id="c", authority_url="", graph_url="", credential=Certificate(path, password)
    )
    assert check_credential(identity, NOW) == []
    again = certificates.read(path, password)
    assert (again.sha1, again.object_id, again.key_id) == (pair.sha1, OBJECT_ID, pair.key_id)


def test_the_id_that_entra_has_chosen_is_kept_in_the_file(pair: KeyPair, tmp_path: Path) -> None:
    noted = KeyPair(pair.key, pair.certificate, "6f1c0a7e-7d0b-4a53-8d4e-4f3b1f3f5a11")
    certificates.write_private(tmp_path / "a.pem", noted.pem)
    assert certificates.read(tmp_path / "a.pem").key_id == noted.key_id


def test_what_is_no_certificate_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.pem").write_text("nothing")
    with pytest.raises(CredentialFault, match=r"a\.pem"):
        certificates.read(tmp_path / "a.pem")


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    (tmp_path / "a.pem").mkdir()
    (tmp_path / "a.pem" / "x").touch()
    with pytest.raises(OSError, match="directory"):
        certificates.write_private(tmp_path / "a.pem", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["a.pem"]
