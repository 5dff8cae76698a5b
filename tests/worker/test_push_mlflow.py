"""Pushing to an MLflow server: the real one, from PyPI, in an environment and a process of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from ladapress.keys import PublicKey
from ladapress.trust import GivenKeys
from ladapress.verifier import run
from sqlalchemy import update
from sqlalchemy.exc import OperationalError

from jobs import service
from jobs.clock import db_now
from jobs.requests import JobRequest
from jobs.tables import Push, Track
from tests.api.results import publish
from tests.worker.pushing import KEY, PushScene, artifact_files
from tests.worker.scene import until
from worker.tracks import Tracker

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]
UV = Path(sys.executable).with_name("uv")
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "MLFLOW_"))}


@dataclass
class Server:
    url: str
    python: Path
    folder: Path

    def call(self, method: str, path: str, **fields: Any) -> dict[str, Any]:
        how: dict[str, Any] = {"params": fields} if method == "GET" else {"json": fields}
        answer = httpx2.request(method, f"{self.url}/api/2.0/mlflow/{path}", **how)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def versions(self, name: str) -> list[dict[str, Any]]:
        answer = self.call("GET", "model-versions/search", filter=f"name='{name}'")
        found: list[dict[str, Any]] = answer.get("model_versions", [])
        return found

    def client(self, script: str) -> str:
        """What MLflow's own client does."""
        environment = {**CLEAN, "MLFLOW_TRACKING_URI": self.url}
        command = [self.python, "-c", script]
        done = subprocess.run(command, env=environment, cwd=self.folder, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("mlflow")
    python = folder / "venv/bin/python"
    packages = ("mlflow", "onnx")
    for command in (
        ["venv", "--python", sys.executable, folder / "venv"], ["pip", "install", "--python", python, *packages]
    ):  # fmt: skip
        subprocess.run([UV, *command], check=True, capture_output=True)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    store = ("--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", folder / "artifacts")
    where = ("--host", "127.0.0.1", "--port", str(port), "--workers", "1")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [python, "-m", "mlflow", "server", *store, *where], env=CLEAN, cwd=folder, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip

        def ready() -> bool:
            assert process.poll() is None, (folder / "log").read_text()
            try:
                return httpx2.get(f"http://127.0.0.1:{port}/health").status_code == 200
            except httpx2.TransportError:
                return False

        try:
            until(ready, 300, (folder / "log").read_text)
            yield Server(f"http://127.0.0.1:{port}", python, folder)
        finally:
            os.killpg(process.pid, 15)
            process.wait(30)


@pytest.fixture
def scene(server: Server, tmp_path: Path, sqlite_url: str) -> PushScene:
    file = f'[mlflow]\nkind = "mlflow"\nurl = "{server.url}"\ntoken_file = "{tmp_path}/token"\n'
    return PushScene.make(tmp_path, sqlite_url, file)


def test_mlflows_own_client_gets_the_artifact_back_and_verify_passes(scene: PushScene, server: Server) -> None:
    """By version and by alias; the run has the report's figures."""
    files = artifact_files()
    row = scene.push(scene.artifact(files), registry="mlflow", to="sentiment small", alias="champion")
    assert (row.state, row.error) == ("succeeded", None)
    url = f"{server.url}/#/models/sentiment%20small/versions/1"
    assert row.result == {"url": url, "commit": None, "version": "1", "unchanged": False}
    (version,) = server.versions("sentiment small")
    assert version["status"] == "READY"
    server.client(
        "import mlflow\nmlflow.artifacts.download_artifacts('models:/sentiment small@champion', dst_path='got')\n"
    )
    folder = server.folder / "got/artifact"
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert found == files
    trusted = GivenKeys(Path("key.pem"), {KEY.kid: PublicKey(KEY.private.public_key().public_bytes_raw())})
    assert run(folder, trusted)[0] == 0
    data = server.call("GET", "runs/get", run_id=version["run_id"])["run"]
    assert data["info"]["status"] == "FINISHED"
    assert {one["key"]: one["value"] for one in data["data"]["metrics"]} == {"retention": 0.99, "bytes_ratio": 4.0}


def test_mlflow_loads_the_graph(scene: PushScene, server: Server) -> None:
    """`MLmodel` says where it is."""
    graph = server.client(
        "from onnx import TensorProto, helper\n"
        "x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [1]) for n in 'xy')\n"
        "graph = helper.make_graph([helper.make_node('Neg', ['x'], ['y'])], 'g', [x], [y])\n"
        "print(helper.make_model(graph).SerializeToString().hex())\n"
    )
    files = {**artifact_files(), "model.onnx": bytes.fromhex(graph.strip())}
    assert scene.push(scene.artifact(files), registry="mlflow", to="m").state == "succeeded"
    said = server.client("import mlflow\nprint(mlflow.onnx.load_model('models:/m/1').graph.node[0].op_type)\n")
    assert said.split() == ["Neg"]


def test_the_same_artifact_twice_is_one_version_and_another_is_the_next(scene: PushScene, server: Server) -> None:
    """The alias goes to whoever asked for it last."""
    first, second = scene.artifact(), scene.artifact(artifact_files(more=b"1"))
    rows = [scene.push(art, registry="mlflow", to="twice", alias="champion") for art in (first, first, second, first)]
    found = [((row.result or {})["version"], (row.result or {})["unchanged"]) for row in rows]
    assert found == [("1", False), ("1", True), ("2", False), ("1", True)]
    assert len(server.versions("twice")) == 2
    aliased = server.call("GET", "registered-models/alias", name="twice", alias="champion")
    assert aliased["model_version"]["version"] == "1"


@pytest.mark.parametrize("after", ["the version", "the files"])
def test_a_pusher_that_dies_leaves_no_second_run_or_version(
    scene: PushScene, server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, after: str
) -> None:
    name = after.replace(" ", "-")
    push = scene.ask(scene.artifact(artifact_files(name=name.encode())), registry="mlflow", to=name)

    def die(*_: object) -> None:
        raise OperationalError("", {}, Exception("gone"))

    with monkeypatch.context() as patch:
        if after == "the version":
            patch.setattr(service, "finish_push", die)
            with pytest.raises(OperationalError):
                scene.once()
        else:  # the child itself is killed before its last call
            program = tmp_path / "dying.py"
            program.write_text(
                "import os\nfrom worker import push_child\nfrom worker.registries import mlflow\n"
                "call = mlflow.Rest.call\n"
                "def dying(self, method, path, *a, **k):\n"
                "    if path == 'model-versions/create':\n        os._exit(9)\n"
                "    return call(self, method, path, *a, **k)\n"
                "mlflow.Rest.call = dying\npush_child.main()\n"
            )
            patch.setattr("worker.pushes.COMMAND", (sys.executable, str(program)))
            assert scene.once()
            assert (scene.row(push).error or {})["code"] == "internal"
            assert server.versions(name) == []
    with scene.world.db.sessions.begin() as s:
        s.execute(update(Push).where(Push.state == "running").values(lease_until=db_now() - 1))
    assert scene.once()
    row = scene.row(push)
    assert (row.state, row.attempt) == ("succeeded", 2)
    (version,) = server.versions(name)
    experiment = server.call("GET", "experiments/get-by-name", experiment_name="ladapress")["experiment"]
    content = next(one["value"] for one in version["tags"] if one["key"] == "ladapress.content")
    same = {"experiment_ids": [experiment["experiment_id"]], "filter": f"tags.`ladapress.content` = '{content}'"}
    runs = server.call("POST", "runs/search", **same)["runs"]
    assert [one["info"]["run_id"] for one in runs] == [version["run_id"]]
    assert (row.result or {})["version"] == "1"


def test_the_real_server_takes_what_a_tracked_job_sends(scene: PushScene, server: Server) -> None:
    """Run, parameters, curve, stage and end, as MLflow itself reads them back; sent again, nothing is twice."""
    given = scene.world.judged().model_dump(mode="json", exclude_none=True)
    request = {**given, "track": {"registry": "mlflow", "experiment": "tracked"}}
    job = scene.world.submit(JobRequest.model_validate(request))
    held = scene.world.claim()
    assert held is not None
    events: list[tuple[str, dict[str, Any]]] = [("stage", {"stage": "distill"})]
    events += [("metric", {"name": "loss", "value": 1 / step, "step": step}) for step in (1, 2, 4)]
    with scene.world.db.sessions.begin() as s:
        assert service.record(s, job.id, held.fence, events)
    for again in range(3):
        if again == 1:
            with scene.world.db.sessions.begin() as s:  # as if the answer had been lost
                s.execute(update(Track).values(run_id=None, sent_seq=0))
        if again == 2:
            assert publish(scene.world, held)
        with scene.world.db.sessions.begin() as s:
            s.execute(update(Track).values(not_before=db_now() - 1))
        assert Tracker(scene.settings).track_one()
    with scene.world.db.readers() as s:
        track = s.get_one(Track, job.id)
    assert track.error is None
    assert track.finished_at is not None
    data = server.call("GET", "runs/get", run_id=track.run_id)["run"]
    assert data["info"]["status"] == "FINISHED"
    tags = {one["key"]: one["value"] for one in data["data"]["tags"]}
    assert (tags["ladapress.job"], tags["ladapress.stage"]) == (job.id, "distill")
    assert {one["key"]: one["value"] for one in data["data"]["params"]}["preset"] == "ladabert-1"
    curve = server.call("GET", "metrics/get-history", run_id=track.run_id, metric_key="loss")["metrics"]
    assert [(int(one.get("step", 0)), one["value"]) for one in curve] == [(1, 1.0), (2, 0.5), (4, 0.25)]
    experiment = server.call("GET", "experiments/get-by-name", experiment_name="tracked")["experiment"]
    assert len(server.call("POST", "runs/search", experiment_ids=[experiment["experiment_id"]])["runs"]) == 1
