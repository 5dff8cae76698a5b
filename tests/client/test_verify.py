"""What `ladapress verify` finds in a folder: every changed byte, every file too many, every forgery by another key."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ladapress.keys import PublicKey
from ladapress.trust import GivenKeys
from ladapress.verifier import run

from jobs.signing import SigningKey
from tests.client.artifacts import PLAIN, artifact, jwk, manifest, sealed, write

KEY, FORGER = SigningKey.fresh(), SigningKey.fresh()
WHOLE = {**PLAIN, **sealed(PLAIN, KEY)}
HIDDEN = "a\x1b[2Jb.txt"


def trusted(key: SigningKey = KEY) -> GivenKeys:
    raw = key.private.public_key().public_bytes_raw()
    return GivenKeys(Path("key.pem"), {key.kid: PublicKey(raw)})


def findings(folder: Path) -> list[tuple[str, str]]:
    """(code, file) of everything that is wrong; each says what was expected and what was found."""
    code, verdict = run(folder, trusted())
    if code == 0:
        assert verdict["error"] is None
        return []
    error = verdict["error"]
    assert (code, verdict["status"], error["code"]) == (1, "failed", error["errors"][0]["code"])
    for one in error["errors"]:
        assert one["expected"]
        assert one["found"]
        assert one["detail"] in error["detail"]
    return [(one["code"], one["file"]) for one in error["errors"]]


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return artifact(tmp_path_factory.mktemp("intact") / "artifact", KEY)


@pytest.mark.parametrize("version", [1, 2])
def test_an_artifact_as_it_was_signed_is_verified(tmp_path: Path, version: int) -> None:
    """Further fields of manifest and entries do not matter; the verdict says what it shows and what not."""
    said = json.loads(manifest(PLAIN, seed=7, nested={"a": [1]}))
    said["version"] = version
    said["files"]["model.onnx"]["more"] = True
    signed = json.dumps(said).encode()
    write(tmp_path / "a", {**PLAIN, "manifest.json": signed, "signature.json": KEY.signature_file(signed)})
    code, verdict = run(tmp_path / "a", trusted())
    assert (code, verdict["status"], verdict["key_id"]) == (0, "verified", KEY.kid)
    assert (verdict["files"], verdict["bytes"]) == (len(PLAIN), sum(map(len, PLAIN.values())))
    assert verdict["shows"] == f"these are the bytes that the holder of key {KEY.kid} signed"
    assert verdict["does_not_show"].startswith("that the model is good")


@given(data=st.data())
def test_a_flipped_byte_anywhere_is_found(intact: Path, data: st.DataObject) -> None:
    """Any bit pattern, at any offset of any file, manifest and signature too."""
    name = data.draw(st.sampled_from(sorted(WHOLE)))
    offset = data.draw(st.integers(0, len(WHOLE[name]) - 1))
    flipped = bytearray(WHOLE[name])
    flipped[offset] ^= data.draw(st.integers(1, 255))
    (intact / name).write_bytes(flipped)
    try:
        assert findings(intact)
    finally:
        (intact / name).write_bytes(WHOLE[name])
    assert not findings(intact)


@pytest.mark.parametrize("offset", range(len(WHOLE["signature.json"])))
def test_no_byte_of_the_signature_may_have_another_spelling(intact: Path, offset: int) -> None:
    """Base64url's last bits, blanks, the case of a letter: each bit of each byte."""
    try:
        for bit in range(8):
            flipped = bytearray(WHOLE["signature.json"])
            flipped[offset] ^= 1 << bit
            (intact / "signature.json").write_bytes(flipped)
            assert findings(intact), bytes(flipped)
    finally:
        (intact / "signature.json").write_bytes(WHOLE["signature.json"])


@given(cut=st.integers(1, 40), name=st.sampled_from(sorted(WHOLE)))
def test_a_file_that_was_cut_or_grew_is_found(intact: Path, cut: int, name: str) -> None:
    for body in (WHOLE[name][:-cut], WHOLE[name] + b"\n" * cut):
        (intact / name).write_bytes(body)
        try:
            assert findings(intact)
        finally:
            (intact / name).write_bytes(WHOLE[name])


def test_every_difference_is_told_with_its_file(tmp_path: Path) -> None:
    """All at once: missing, longer, changed, too many; a link is never followed, a name never reaches the terminal."""
    folder = artifact(tmp_path / "artifact", KEY)
    (folder / "model.onnx").unlink()
    (folder / "model.onnx").symlink_to("/etc/hostname")
    (folder / "report.json").write_bytes(b"longer than it was, by some bytes")
    (folder / "verify.py").write_bytes(PLAIN["verify.py"].replace(b"was", b"is "))
    (folder / "pytorch" / "load.py").unlink()
    (folder / "pytorch" / "__pycache__").mkdir()
    (folder / "pytorch" / "__pycache__" / "load.cpython-311.pyc").write_bytes(b"")
    (folder / HIDDEN).write_bytes(b"")
    (folder / "more").symlink_to(tmp_path)
    os.mkfifo(folder / "pipe")
    assert set(findings(folder)) == {
        ("file_illegal", "model.onnx"),
        ("file_illegal", "more"),
        ("file_illegal", "pipe"),
        ("size_mismatch", "report.json"),
        ("sha256_mismatch", "verify.py"),
        ("file_missing", "pytorch/load.py"),
        ("file_unlisted", "pytorch/__pycache__/load.cpython-311.pyc"),
        ("file_unlisted", HIDDEN),
    }
    _, verdict = run(folder, trusted())
    assert "\x1b" not in verdict["error"]["detail"]
    assert "delete the folder" in verdict["error"]["detail"]


@pytest.mark.parametrize("path", ["more.py", ".hidden", "pytorch/more.safetensors", "new/folder/file", "Manifest.json"])
def test_one_file_too_many_is_enough(tmp_path: Path, path: str) -> None:
    """Of whatever name: a runtime might pick it up, and nobody signed it."""
    folder = write(tmp_path / "a", {**WHOLE, path: b""})
    assert findings(folder) == [("file_unlisted", path)]


def test_what_a_hub_and_its_clients_leave_is_no_file_too_many(tmp_path: Path) -> None:
    """Three places that no reader of a model opens; not their neighbours, and not as a link."""
    folder = artifact(tmp_path / "it", KEY)
    for path in (".gitattributes", ".git/HEAD", ".cache/huggingface/download/model.onnx.metadata"):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text("left by a client")
    assert findings(folder) == []
    for path in ("pytorch/.gitattributes", ".github/x", ".cache/other", "pytorch/.git/HEAD", ".gitignore"):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text("")
        assert findings(folder) == [("file_unlisted", path)]
        (folder / path).unlink()
    (folder / ".gitattributes").unlink()
    (folder / ".gitattributes").symlink_to(tmp_path / "elsewhere")
    assert findings(folder) == [("file_illegal", ".gitattributes")]


def test_one_link_is_enough_even_to_the_right_bytes(tmp_path: Path) -> None:
    """What it leads to may change after the check."""
    folder = artifact(tmp_path / "a", KEY)
    (folder / "report.json").rename(tmp_path / "elsewhere")
    (folder / "report.json").symlink_to(tmp_path / "elsewhere")
    assert findings(folder) == [("file_illegal", "report.json")]
    folder = artifact(tmp_path / "b", KEY)
    (folder / "pytorch").rename(tmp_path / "outside")
    (folder / "pytorch").symlink_to(tmp_path / "outside")
    assert ("file_illegal", "pytorch") in findings(folder)


def test_a_linked_manifest_or_signature_is_not_read(tmp_path: Path) -> None:
    for name in ("manifest.json", "signature.json"):
        folder = artifact(tmp_path / name, KEY)
        (folder / name).rename(tmp_path / "elsewhere")
        (folder / name).symlink_to(tmp_path / "elsewhere")
        assert ("file_illegal", name) in findings(folder)


ENTRY = {"size": 1, "sha256": "0" * 64}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"\xff",
        b"[" * 100_000,
        b'{"version": 1, "version": 1, "files": {"a": {"size": 1, "sha256": "%b"}}}' % (b"0" * 64),
        b'{"version": NaN}',
        *(
            json.dumps(each).encode()
            for each in (
                {"files": {"a": ENTRY}},
                {"version": 3, "files": {"a": ENTRY}},
                {"version": True, "files": {"a": ENTRY}},
                {"version": "1", "files": {"a": ENTRY}},
                {"version": 1},
                {"version": 1, "files": {}},
                {"version": 1, "files": []},
                {"version": 1, "files": {"a": None}},
                {"version": 1, "files": {"a": {**ENTRY, "size": -1}}},
                {"version": 1, "files": {"a": {**ENTRY, "size": True}}},
                {"version": 1, "files": {"a": {**ENTRY, "size": 1.0}}},
                {"version": 1, "files": {"a": {**ENTRY, "sha256": "A" * 64}}},
                {"version": 1, "files": {"manifest.json": ENTRY}},
                {"version": 1, "files": {"signature.json": ENTRY}},
                *(
                    {"version": 1, "files": {path: ENTRY}}
                    for path in ("../a", "/a", "a/../b", "./a", "a\\b", "", "c:a")
                ),
            )
        ),
    ],
)
def test_a_manifest_of_another_form_is_refused_even_if_it_is_signed(tmp_path: Path, body: bytes) -> None:
    folder = write(tmp_path / "a", {"manifest.json": body, "signature.json": KEY.signature_file(body)})
    assert findings(folder) == [("manifest_invalid", "manifest.json")]


def test_a_folder_without_a_manifest_or_a_signature_says_so(tmp_path: Path) -> None:
    folder = artifact(tmp_path / "a", KEY)
    (folder / "signature.json").unlink()
    assert findings(folder) == [("not_signed", "signature.json")]
    (folder / "manifest.json").unlink()
    assert findings(folder)[0] == ("manifest_invalid", "manifest.json")


def forged(files: Mapping[str, bytes], fields: Mapping[str, Any] | None = None) -> dict[str, bytes]:
    """Better numbers, a manifest to match, and the forger's own signature."""
    changed = {**files, "report.json": b'{"retention": 1.00}\n'}
    listed = manifest(changed, **(fields or {}))
    return {**changed, "manifest.json": listed, "signature.json": FORGER.signature_file(listed)}


JWKS = json.dumps({"keys": [jwk(FORGER)]}).encode()
FORGERIES = {
    "signed by another key": forged(PLAIN),
    "with the key as a listed file": forged({**PLAIN, "keys.json": JWKS, ".well-known/ladapress-keys.json": JWKS}),
    "with the key in the configuration's name": forged({**PLAIN, "known-keys.json": JWKS, "key.pem": JWKS}),
    "with the key in the manifest": forged(PLAIN, {"key": jwk(FORGER), "keys": [jwk(FORGER, by=FORGER)]}),
}


@pytest.mark.parametrize("forgery", FORGERIES.values(), ids=list(FORGERIES))
def test_a_forgery_that_is_signed_again_fails(tmp_path: Path, forgery: dict[str, bytes]) -> None:
    """Wherever in the folder the forger leaves his key."""
    assert findings(write(tmp_path / "a", forgery)) == [("key_unknown", "signature.json")]


def test_a_forgery_under_the_name_of_the_true_key_fails(tmp_path: Path) -> None:
    """His signature, our key id; the old signature over a new manifest; the key beside the signature."""
    made = forged(PLAIN)
    renamed = made["signature.json"].replace(FORGER.kid.encode(), KEY.kid.encode())
    added = json.loads(made["signature.json"]) | {"jwk": jwk(FORGER)}
    for signature in (renamed, WHOLE["signature.json"], (json.dumps(added, indent=1) + "\n").encode()):
        folder = write(tmp_path / "a", {**made, "signature.json": signature})
        assert findings(folder) == [("signature_invalid", "signature.json")]


def test_another_artifact_of_the_same_key_under_this_signature_fails(tmp_path: Path) -> None:
    """A true signature, of other bytes."""
    folder = artifact(tmp_path / "a", KEY, {"model.onnx": b"another"})
    shutil.copy(folder / "manifest.json", tmp_path)
    artifact(folder, KEY)
    (folder / "signature.json").write_bytes(KEY.signature_file((tmp_path / "manifest.json").read_bytes()))
    assert findings(folder) == [("signature_invalid", "signature.json")]


def test_nothing_of_a_folder_is_run_even_from_within(tmp_path: Path) -> None:
    """Modules that Python would find first, if it looked here; each would end the process with a word."""
    trap = b"raise SystemExit('an artifact was run')\n"
    names = ("json.py", "hashlib.py", "ladapress.py", "cryptography/__init__.py", "sitecustomize.py", "verify.py")
    folder = artifact(tmp_path / "a", KEY, {**PLAIN, **dict.fromkeys(names, trap)})
    key = tmp_path / "key.json"
    key.write_text(json.dumps(jwk(KEY)))
    command = [Path(sys.executable).with_name("ladapress"), "verify", ".", "--key", key, "--json"]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert (ended.returncode, json.loads(ended.stdout)["status"]) == (0, "verified"), ended.stderr
    assert {path.relative_to(folder).as_posix() for path in folder.rglob("*.py")} == {
        *names,
        "pytorch/load.py",
    }
