"""What a child that was taken over can reach: nothing but its own folder."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from core.memory import machine_bytes
from jobs.settings import Settings
from jobs.states import State
from tests.worker.conftest import MakeScene
from tests.worker.scene import Scene, rescuer
from worker import kernel, sandbox


def landlock() -> bool:
    try:
        kernel.Landlock()
    except OSError:
        return False
    return True


def found(scene: Scene, probe: dict[str, str], *engine: str) -> dict[str, str]:
    """What a child of the device pool says about reaching things."""
    with rescuer(scene, *engine):
        job = scene.wait(scene.submit(judged=True, probe=probe))
    assert job.state is State.SUCCEEDED, job.error
    (files,) = scene.artifacts(job.id)
    reached: dict[str, str] = json.loads(files["found.json"])
    return reached


def test_a_child_reaches_neither_credentials_nor_network_nor_other_files(
    make_scene: MakeScene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No variable of ours, no connection, no file of the worker; where the host has no such wall, that is known."""
    scene = make_scene("embedded")
    monkeypatch.setenv("LADAPRESS_DATABASE_URL", "postgresql://user:s3cret@db/jobs")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cret")
    secret = tmp_path / "key"
    secret.write_text("s3cret")
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        probe = {"environment": "", "tcp": address, "read": str(secret), "write": str(secret)}
        probe |= {"database": str(scene.settings.data_dir / "ladapress.db"), "parent": str(os.getpid())}
        reached = found(scene, probe)
    assert "s3cret" not in reached["environment"]
    assert "LADAPRESS" not in reached["environment"]
    assert secret.read_text() == "s3cret"
    if landlock():
        refused = {"read": "PermissionError", "write": "PermissionError", "parent": "PermissionError"}
        assert {name: reached[name] for name in refused} == refused
        assert reached["database"] == "PermissionError"
    if landlock() or os.getuid() == 0:
        assert reached["tcp"] in ("OSError", "PermissionError")


@pytest.mark.parametrize("walled", [True, False])
def test_inputs_cannot_be_changed_in_the_store(make_scene: MakeScene, walled: bool) -> None:
    """A child that writes to its inputs is refused, or where the host has no such wall, writes to a copy."""
    scene = make_scene("embedded")
    reached = found(scene, {"input": "train.csv"}, *([] if walled else ["--unwalled"]))
    assert reached["input"] == ("PermissionError" if walled and landlock() else "reached")
    for blob in scene.settings.store_dir.glob("proj_*/??/*"):
        assert not blob.read_bytes().startswith(b"changed")


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA bounds allocations on Linux only")
def test_a_job_holds_no_more_memory_than_it_was_given(make_scene: MakeScene) -> None:
    """It is told so itself, before the kernel ends it or another."""
    scene = make_scene("embedded", job_memory_bytes=1 << 30)
    assert found(scene, {"memory": str(1 << 29)})["memory"] == "reached"
    assert found(scene, {"memory": str(1 << 30)})["memory"] == "MemoryError"


def test_jobs_share_what_the_machine_has(tmp_path: Path) -> None:
    """All slots together leave the machine something."""
    one, three = (sandbox.job_bytes(Settings(data_dir=tmp_path, device_slots=slots)) for slots in (1, 3))
    assert 3 * three <= one < machine_bytes()


def test_a_namespace_has_no_network() -> None:
    """Where the host allows a network namespace, not even a datagram to this machine leaves it."""
    code = """
import socket
from worker import sandbox
closed = sandbox.close_network()
try:
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", 9))
    print(closed, "sent")
except OSError:
    print(closed, "refused")
"""
    root = Path(__file__).parents[2]
    said = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert said.stdout.strip() in ("True refused", "False sent")
