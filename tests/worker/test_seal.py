"""What the worker signs: a manifest that says the truth about the files beside it, and nothing else."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobs import service
from jobs.local_store import LocalStore
from jobs.scope import DEFAULT_PROJECT
from jobs.service import PublishedFile
from jobs.signing import SigningKey, endorsement
from jobs.states import State
from tests.worker.scene import Scene, rescuer
from worker.seal import seal
from worker.workspace import OutputRefusedError

MakeScene = Callable[..., Scene]


def verified(files: dict[str, bytes], key: SigningKey) -> bool:
    """Whether the delivered manifest is signed by the key. Raises where it is not."""
    said = json.loads(files["signature.json"])
    assert said["key_id"] == key.kid
    signature = base64.urlsafe_b64decode(said["signature"] + "==")
    key.private.public_key().verify(signature, files["manifest.json"])
    return True


def test_every_artifact_is_signed_by_the_workers_key_and_the_key_is_published(make_scene: MakeScene) -> None:
    """A key that was rotated while the worker ran signs the next artifact; both are known."""
    scene = make_scene("embedded")
    path = scene.settings.signing_key_file
    with rescuer(scene):
        assert path.stat().st_mode & 0o777 == 0o600  # before the first job
        first = SigningKey.load(path)
        (files,) = scene.artifacts(scene.wait(scene.submit(judged=True)).id)
        assert verified(files, first)
        second = SigningKey.fresh()
        path.write_text(second.pem())
        (files,) = scene.artifacts(scene.wait(scene.submit(judged=True)).id)
        assert verified(files, second)
        path.unlink()  # an accident: the key is still in memory, and no other one is made up
        (files,) = scene.artifacts(scene.wait(scene.submit(judged=True)).id)
        assert verified(files, second)
        assert not path.exists()
    with scene.db.readers() as s:
        assert [row.id for row in service.signing_keys(s)] == [first.kid, second.kid]


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        ({"lies": ["more.onnx"]}, "'more.onnx'"),
        ({"no_manifest": True}, "needs 'manifest.json'"),
        ({"forges": True}, "'signature.json' is not the engine's to write"),
    ],
)
def test_a_child_that_lies_gets_nothing_signed(make_scene: MakeScene, wish: dict[str, Any], said: str) -> None:
    """The job fails and says what is not in order; no key is published for it."""
    scene = make_scene("embedded")
    with rescuer(scene):
        job = scene.wait(scene.submit(judged=True, **wish))
    assert job.state is State.FAILED
    assert said in (job.error or {})["detail"]
    assert scene.artifacts(job.id) == []
    with scene.db.readers() as s:
        assert service.signing_keys(s) == []


def manifest_of(content: bytes) -> bytes:
    entry = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    return json.dumps({"version": 2, "files": {"model.onnx": entry}, "seed": 7}).encode()


@pytest.mark.parametrize(
    "manifest",
    [
        endorsement("A" * 43),
        b"",
        b"[]",
        b"{}",
        b'{"files": []}',
        b'{"files": {"model.onnx": 7}}',
        b'{"files": {}}',
        b"[" * 100_000,
        manifest_of(b"other"),
        manifest_of(b"weights").replace(b"model.onnx", b"model.onn\\u0000"),
    ],
)
def test_nothing_but_a_true_manifest_is_signed(tmp_path: Path, manifest: bytes) -> None:
    """Least of all a line that would hand the service over to a key of the child's own."""
    store, key = LocalStore(tmp_path), SigningKey.fresh()

    def put(path: str, content: bytes) -> PublishedFile:
        blob = store.put_stream(DEFAULT_PROJECT, [content], max_bytes=1 << 20)
        return PublishedFile(path, blob.size, blob.sha256, "application/json")

    model = put("model.onnx", b"weights")
    assert seal(store, DEFAULT_PROJECT, [model, put("manifest.json", manifest_of(b"weights"))], key)
    with pytest.raises(OutputRefusedError, match=r"manifest\.json"):
        seal(store, DEFAULT_PROJECT, [model, put("manifest.json", manifest)], key)
