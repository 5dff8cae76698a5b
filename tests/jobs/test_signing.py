"""The signing key: one for all workers that start together, named as RFC 7638 says, handed over and never lost."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from typer.testing import CliRunner

from jobs import service
from jobs.cli.signing import app
from jobs.db import connect
from jobs.settings import Settings
from jobs.signing import SigningKey, base64url, endorsement, thumbprint
from tests.jobs.world import World


def unpadded(text: str) -> bytes:
    import base64

    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def call(*arguments: object) -> tuple[int, str]:
    """`ladapress signing ...`: exit code, and all that it said."""
    ended = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return ended.exit_code, ended.output


def test_a_key_has_the_name_that_the_rfc_gives_it() -> None:
    """RFC 8037, appendix A.3."""
    assert thumbprint("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo") == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


def test_workers_that_start_together_agree_on_one_key_for_its_owner_only(tmp_path: Path) -> None:
    """Threads and processes; no draft stays behind."""
    path = tmp_path / "secrets" / "signing.pem"
    code = "import pathlib, sys; from jobs.signing import SigningKey as Key"
    code += "; print(Key.load_or_create(pathlib.Path(sys.argv[1])).kid)"
    others = [subprocess.Popen([sys.executable, "-c", code, path], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    with ThreadPoolExecutor(6) as pool:
        found = {key.kid for key in pool.map(SigningKey.load_or_create, [path] * 6)}
    found |= {other.communicate(timeout=60)[0].strip() for other in others}
    assert len(found) == 1
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in path.parent.iterdir()] == ["signing.pem"]


def test_reading_a_key_makes_none(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        SigningKey.load(tmp_path / "signing.pem")
    assert list(tmp_path.iterdir()) == []


def encrypted() -> bytes:
    format_ = (Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    return SigningKey.fresh().private.private_bytes(*format_)


def other_kind() -> bytes:
    return generate_private_key(SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@pytest.mark.parametrize("content", [lambda: b"", lambda: b"changeme", encrypted, other_kind])
def test_a_key_file_with_something_else_stops_the_start(tmp_path: Path, content: Callable[[], bytes]) -> None:
    """It is never written over."""
    path = tmp_path / "signing.pem"
    path.write_bytes(content())
    before = path.read_bytes()
    with pytest.raises(ValueError, match="Ed25519 private key"):
        SigningKey.load_or_create(path)
    assert path.read_bytes() == before


def test_no_text_shows_the_private_key() -> None:
    key = SigningKey.fresh()
    raw = key.private.private_bytes_raw()
    for text in (repr(key), str(key)):
        assert raw.hex() not in text
        assert base64url(raw) not in text


def test_a_signature_is_over_the_exact_bytes_and_says_which_key() -> None:
    key = SigningKey.fresh()
    said = json.loads(key.signature_file(b'{"files": {}}'))
    assert (said["version"], said["algorithm"], said["key_id"]) == (1, "Ed25519", key.kid)
    key.private.public_key().verify(unpadded(said["signature"]), b'{"files": {}}')
    with pytest.raises(InvalidSignature):
        key.private.public_key().verify(unpadded(said["signature"]), b'{"files":{}}')


def test_an_endorsement_is_no_manifest() -> None:
    """What a child may have signed for it is JSON; a line that hands the service over to another key is not."""
    with pytest.raises(ValueError):
        json.loads(endorsement(SigningKey.fresh().kid))


def test_a_key_is_known_once_however_often_it_is_registered(world: World) -> None:
    """Also by several workers at once, and with its endorsement kept."""
    old, new = SigningKey.fresh(), SigningKey.fresh()
    with world.db.sessions.begin() as s:
        service.register_signing_key(s, old)
        service.register_signing_key(s, new, endorsed_by=old)

    def register(key: SigningKey) -> None:
        with world.db.sessions.begin() as s:
            service.register_signing_key(s, key)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(register, [new, old] * 4))
    with world.db.readers() as s:
        rows = service.signing_keys(s)
    known = {row.id: row for row in rows}
    assert len(rows) == 2
    assert {row.id: (row.x, row.endorsed_by) for row in rows} == {old.kid: (old.x, None), new.kid: (new.x, old.kid)}
    old.private.public_key().verify(unpadded(str(known[new.kid].endorsement)), endorsement(new.kid))


@pytest.fixture
def data(sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """An installation that has a key."""
    settings = Settings(data_dir=tmp_path / "data", database_url=sqlite_url)
    monkeypatch.setenv("LADAPRESS_DATA_DIR", str(settings.data_dir))
    monkeypatch.setenv("LADAPRESS_DATABASE_URL", sqlite_url)
    SigningKey.load_or_create(settings.signing_key_file)
    return settings


def test_rotation_endorses_the_new_key_and_retires_the_old_one(data: Settings) -> None:
    """Twice: a chain of three. The file holds the last one, its owner's only, and nothing else is left there."""
    kids = [SigningKey.load(data.signing_key_file).kid]
    for _ in range(2):
        code, said = call("rotate")
        assert code == 0, said
        kids.append(SigningKey.load(data.signing_key_file).kid)
        assert kids[-1] in said
        assert kids[-2] in said
    db = connect(data)
    with db.readers() as s:
        rows = {row.id: row for row in service.signing_keys(s)}
    db.dispose()
    assert [rows[kid].endorsed_by for kid in kids] == [None, *kids[:2]]
    assert [rows[kid].retired_at is None for kid in kids] == [False, False, True]
    assert stat.S_IMODE(data.signing_key_file.stat().st_mode) == 0o600
    assert [file.name for file in data.signing_key_file.parent.iterdir()] == ["signing-key.pem"]
    code, said = call("list")
    assert code == 0
    assert [line[:45] for line in said.splitlines()] == [f"  {kids[0]}", f"  {kids[1]}", f"* {kids[2]}"]


def test_a_rotation_that_fails_leaves_the_old_key_at_work(data: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """The new key is known then, and never signs."""

    def full(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    before = data.signing_key_file.read_bytes()
    monkeypatch.setattr(Path, "replace", full)
    code, said = call("rotate")
    assert (code, "the old key stays" in said) == (1, True)
    assert data.signing_key_file.read_bytes() == before
    assert [file.name for file in data.signing_key_file.parent.iterdir()] == ["signing-key.pem"]
    db = connect(data)
    with db.readers() as s:
        assert all(row.retired_at is None for row in service.signing_keys(s))
    db.dispose()


def test_without_a_key_there_is_nothing_to_rotate_and_asking_makes_none(data: Settings) -> None:
    data.signing_key_file.unlink()
    code, said = call("rotate")
    assert (code, "nothing to rotate" in said) == (1, True)
    code, said = call("list")
    assert (code, "is not there yet" in said) == (0, True)
    assert not data.signing_key_file.exists()
