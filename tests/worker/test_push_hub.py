"""Pushing to a Hugging Face hub: whole, once, and never with anything of ours that is secret."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from ladapress.keys import PublicKey
from ladapress.trust import GivenKeys
from ladapress.verifier import run
from sqlalchemy import select, update
from sqlalchemy.exc import OperationalError

from jobs import service
from jobs.clock import db_now
from jobs.tables import Artifact, ArtifactFile, Base, Push
from tests.worker.hub import GITATTRIBUTES, Hub, hub
from tests.worker.pushing import KEY, TOKEN, PushScene, artifact_files


@pytest.fixture
def server() -> Iterator[Hub]:
    with hub(TOKEN) as made:
        yield made


@pytest.fixture
def scene(server: Hub, tmp_path: Path, sqlite_url: str) -> PushScene:
    file = f'[hub]\nkind = "huggingface"\nurl = "{server.url}"\ntoken_file = "{tmp_path}/token"\nprefixes = ["acme/"]\n'
    return PushScene.make(tmp_path, sqlite_url, file)


def told(scene: PushScene) -> str:
    """Everything that the database holds, as text."""
    with scene.world.db.readers() as s:
        return "\n".join(str(tuple(row)) for table in Base.metadata.sorted_tables for row in s.execute(select(table)))


def test_a_repository_holds_the_artifact_to_the_byte(scene: PushScene, server: Hub) -> None:
    """In one commit, in a repository that is private; large files by their sha256, the card checked by the hub."""
    files = artifact_files()
    row = scene.push(scene.artifact(files))
    assert (row.state, row.error) == ("succeeded", None)
    assert server.files("acme/small") == {**files, ".gitattributes": GITATTRIBUTES}
    repository = server.repositories["acme/small"]
    assert repository.private
    assert [message for _, message, _ in repository.commits[1:]] == [f"ladapress: {row.artifact_id}"]
    sha = repository.commits[-1][0]
    url = f"{server.url}/acme/small/tree/{sha}"
    assert row.result == {"url": url, "commit": sha, "version": None, "unchanged": False}
    assert "POST /api/validate-yaml" in server.requests


def test_a_snapshot_of_the_repository_passes_verify(scene: PushScene, server: Hub, tmp_path: Path) -> None:
    """As the hub's own client writes it: with .gitattributes and its notes; and one changed byte is found."""
    row = scene.push(scene.artifact(), revision="v1")
    folder = tmp_path / "snapshot"
    script = "import sys, huggingface_hub as h; h.snapshot_download(sys.argv[1], revision='v1', local_dir=sys.argv[2])"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environment |= {"HF_ENDPOINT": server.url, "HF_TOKEN": TOKEN, "HF_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-c", script, "acme/small", folder]
    subprocess.run(command, env={**environment, "HF_HUB_DISABLE_XET": "1"}, check=True, capture_output=True)
    assert row.state == "succeeded"
    assert (folder / ".gitattributes").is_file()
    assert (folder / ".cache/huggingface").is_dir()
    trusted = GivenKeys(Path("key.pem"), {KEY.kid: PublicKey(KEY.private.public_key().public_bytes_raw())})
    code, verdict = run(folder, trusted)
    assert (code, verdict["error"], verdict["status"]) == (0, None, "verified")
    (folder / "report.json").write_bytes(b"{}")
    assert run(folder, trusted)[0] == 1


def test_the_same_artifact_twice_is_one_commit(scene: PushScene, server: Hub) -> None:
    art = scene.artifact()
    first, second = scene.push(art), scene.push(art)
    assert first.id != second.id
    assert first.result is not None
    assert second.result == {**first.result, "unchanged": True}
    assert len(server.repositories["acme/small"].commits) == 2


def test_the_next_artifact_takes_the_place_of_the_one_before(scene: PushScene, server: Hub) -> None:
    """Its file that the new one has not goes: a snapshot is one artifact."""
    scene.push(scene.artifact(artifact_files(old=b"of the first")))
    server.requests.clear()
    files = artifact_files(new=b"of the second")
    scene.push(scene.artifact(files))
    assert server.files("acme/small") == {**files, ".gitattributes": GITATTRIBUTES}
    assert not [line for line in server.requests if line.startswith("PUT /storage/")]  # model.onnx is the same


def test_a_branch_of_its_own_leaves_main_alone(scene: PushScene, server: Hub) -> None:
    first, second = artifact_files(), artifact_files(more=b"1")
    scene.push(scene.artifact(first))
    row = scene.push(scene.artifact(second), revision="candidate")
    assert row.state == "succeeded"
    assert server.files("acme/small", "main") == {**first, ".gitattributes": GITATTRIBUTES}
    assert server.files("acme/small", "candidate") == {**second, ".gitattributes": GITATTRIBUTES}


def test_other_work_is_never_replaced(scene: PushScene, server: Hub) -> None:
    """Only a new branch and one that holds an artifact are made to hold this one."""
    assert scene.push(scene.artifact(), to="acme/ours").state == "succeeded"
    work = {"train.py": b"a week of work", "README.md": b"# Mine", ".gitattributes": GITATTRIBUTES}
    server.repositories["acme/ours"].commit("main", "mine", work)
    row = scene.push(scene.artifact(), to="acme/ours")
    assert row.state == "failed"
    assert (row.error or {})["code"] == "registry_refused"
    assert "train.py" in (row.error or {})["detail"]
    assert server.files("acme/ours") == work


def test_a_registry_that_is_down_is_asked_again_and_the_job_is_none_the_worse(scene: PushScene, server: Hub) -> None:
    art = scene.artifact()
    push = scene.ask(art)
    server.failing = 503
    assert scene.once()
    row = scene.row(push)
    assert (row.state, (row.error or {})["code"]) == ("queued", "registry_unreachable")
    assert "503" in (row.error or {})["detail"]
    server.failing = None
    assert scene.once()
    row = scene.row(push)
    assert (row.state, row.attempt, row.error) == ("succeeded", 2, None)


def test_a_registry_that_stays_down_ends_in_a_problem(tmp_path: Path, sqlite_url: str) -> None:
    """Nobody listens on port 1."""
    file = '[hub]\nkind = "huggingface"\nurl = "http://127.0.0.1:1"\nprefixes = ["acme/"]\n'
    scene = PushScene.make(tmp_path, sqlite_url, file, push_give_up_s=1e-6)
    row = scene.push(scene.artifact())
    assert (row.state, (row.error or {})["code"]) == ("failed", "registry_unreachable")
    assert (row.error or {})["retryable"]


@pytest.mark.parametrize("wrong", ["token", "namespace"])
def test_a_refusal_is_not_tried_again_and_tells_no_secret(
    scene: PushScene, server: Hub, tmp_path: Path, caplog: pytest.LogCaptureFixture, wrong: str
) -> None:
    """The token stands in no row and in no line of the log, not even one that the hub sends back."""
    caplog.set_level(logging.DEBUG)
    if wrong == "token":
        server.token = "another"
        server.says = f"Bearer {TOKEN} is not valid, see https://hub/x?sig=presigned"
    else:
        server.forbidden = "acme"
    row = scene.push(scene.artifact())
    assert (row.state, row.attempt, (row.error or {})["code"]) == ("failed", 1, "registry_refused")
    assert not (row.error or {})["retryable"]
    for text in (told(scene), caplog.text):
        assert TOKEN not in text
        assert "presigned" not in text
    assert "the registry answered 40" in (row.error or {})["detail"]
    assert server.url not in told(scene)  # the operator's address is no row's business before it has succeeded


def test_a_file_that_changed_in_the_store_is_not_sent(scene: PushScene, server: Hub) -> None:
    """Nobody gets another model under the signature's name."""
    art = scene.artifact()
    with scene.world.db.readers() as s:
        row = s.scalars(select(ArtifactFile).where(ArtifactFile.path == "model.onnx")).one()
    blob = scene.settings.store_dir / row.project_id / row.sha256[:2] / row.sha256
    blob.chmod(0o600)
    blob.write_bytes(bytes(row.size))
    pushed = scene.push(art)
    assert (pushed.state, (pushed.error or {})["code"]) == ("failed", "artifact_damaged")
    assert "model.onnx" in (pushed.error or {})["detail"]
    assert server.requests == []


def test_a_pusher_that_dies_after_the_commit_adds_nothing_the_second_time(
    scene: PushScene, server: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit is made, its end is not written down; the next one finds the work done and says where."""

    def die(*_: object) -> None:
        raise OperationalError("", {}, Exception("gone"))

    push = scene.ask(scene.artifact())
    with monkeypatch.context() as patch:
        patch.setattr(service, "finish_push", die)
        with pytest.raises(OperationalError):
            scene.once()
    assert scene.row(push).state == "running"
    with scene.world.db.sessions.begin() as s:
        s.execute(update(Push).values(lease_until=db_now() - 1))
    assert scene.once()
    row = scene.row(push)
    commits = server.repositories["acme/small"].commits
    assert (row.state, row.attempt, len(commits)) == ("succeeded", 2, 2)
    assert (row.result or {})["unchanged"]
    assert (row.result or {})["commit"] == commits[-1][0]


def test_a_commit_whose_answer_is_lost_is_not_made_twice(scene: PushScene, server: Hub) -> None:
    push = scene.ask(scene.artifact())
    server.lose = 1
    assert scene.once()
    assert (scene.row(push).error or {})["code"] == "registry_unreachable"
    assert scene.once()
    row = scene.row(push)
    assert (row.state, (row.result or {})["unchanged"]) == ("succeeded", True)
    assert len(server.repositories["acme/small"].commits) == 2


def test_what_somebody_else_commits_meanwhile_is_not_lost(scene: PushScene, server: Hub) -> None:
    """The commit names the head that it was made for; the second attempt sees the other one."""
    push = scene.ask(scene.artifact())

    def meanwhile() -> None:
        server.on_commit = lambda: None
        server.repositories["acme/small"].commit("main", "theirs", {"theirs.txt": b"x"})

    server.on_commit = meanwhile
    assert scene.once()
    assert scene.row(push).state == "queued"
    assert scene.once()
    row = scene.row(push)
    assert (row.state, (row.error or {})["code"]) == ("failed", "registry_refused")
    assert server.files("acme/small") == {"theirs.txt": b"x"}


def test_a_push_that_is_deleted_or_drained_ends_its_process(scene: PushScene, server: Hub) -> None:
    """While the hub lets it wait for ever."""
    import threading

    art, let_go = scene.artifact(), threading.Event()
    try:
        for drained in (True, False):
            push = scene.ask(art)
            arrived = threading.Event()
            server.on_commit = lambda here=arrived: (here.set(), let_go.wait(60))  # type: ignore[misc]
            running = threading.Thread(target=scene.once)
            running.start()
            assert arrived.wait(60)
            if drained:
                scene.stop.set()
            else:
                with scene.world.db.sessions.begin() as s:
                    service.delete_push(s, scene.world.scope, push)
            running.join(60)
            assert not running.is_alive()
            scene.stop.clear()
            if drained:
                assert (scene.row(push).state, scene.row(push).attempt) == ("queued", 0)
            else:
                with scene.world.db.readers() as s:
                    assert s.get(Push, push) is None
                    assert s.get(Artifact, art) is not None
    finally:
        let_go.set()
