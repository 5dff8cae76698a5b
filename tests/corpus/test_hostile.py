"""Uploads made to do harm (D17): refused by a rule that is named, for little, and nothing else happens."""

from __future__ import annotations

import hashlib
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.api.problems import problem
from tests.chaos.crew import below, command
from tests.corpus import made
from tests.corpus.desk import Desk
from tests.corpus.hostile import HEAVY, HOSTILE
from tests.worker.scene import until

CPU_S, PEAK_BYTES = 5.0, 512 << 20
CASES = [*HOSTILE, *(pytest.param(name, marks=pytest.mark.long) for name in HEAVY)]
CANARIES = ("store/of/somebody.safetensors", "work/1-x/lock", "key", "etc/passwd")


class Ended(logging.Handler):
    """What every child of the service took."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.taken: list[tuple[float, int]] = []

    def emit(self, record: logging.LogRecord) -> None:
        if hasattr(record, "peak_bytes"):
            self.taken.append((record.cpu_s, record.peak_bytes))  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def ended() -> Iterator[Ended]:
    handler, logger = Ended(), logging.getLogger("worker.group")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(before)


def tree(folder: Path) -> str:
    """sha256 over names and bytes of all that lies there."""
    found = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        found.update(str(path.relative_to(folder)).encode() + (path.read_bytes() if path.is_file() else b""))
    return found.hexdigest()


@pytest.fixture(scope="module")
def canaries(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Files beside the service's own, as whoever gets out of a folder would find them."""
    folder = tmp_path_factory.mktemp("canaries")
    for name in CANARIES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    before = tree(folder)
    yield folder
    assert tree(folder) == before


@pytest.fixture(autouse=True)
def watched(canaries: Path, ended: Ended, desk: Desk) -> None:
    """Every test of the file, with whoever watches."""


def test_the_corpus_is_large_enough() -> None:
    """D17 asks for 120."""
    assert len(HOSTILE) + len(HEAVY) >= 300


@pytest.mark.parametrize("name", CASES)
def test_a_hostile_upload_is_refused(name: str, desk: Desk, ended: Ended) -> None:
    """By a problem that names the rule; the child that read it, if one did, took little."""
    case = {**HOSTILE, **HEAVY}[name]
    before = len(ended.taken)
    found = problem(case.send(desk), case.status, case.code)
    assert found["param"] == case.param, found
    assert case.says in found["detail"], found
    assert len(found["detail"]) < 2_000
    if case.finding is not None:
        assert found["errors"][0]["code"] == case.finding, found
    for cpu_s, peak in ended.taken[before:]:
        assert cpu_s <= CPU_S
        assert peak <= PEAK_BYTES


def test_nobody_asks_for_what_a_file_names(desk: Desk) -> None:
    """Addresses in configurations are of no interest: a model that names where it came from is honest."""
    with socket.create_server(("127.0.0.1", 0)) as trap:
        url = f"http://127.0.0.1:{trap.getsockname()[1]}"
        named = dict.fromkeys(("_name_or_path", "base_model", "tokenizer_file", "processor_class", "adapter"), url)
        files = made.model(config_json=made.config(**named))
        files["tokenizer_config.json"] = files["generation_config.json"] = b'{"name_or_path": "%s"}' % url.encode()
        assert desk.submit(files, preset="small").status_code == 201
        trap.settimeout(0.2)
        with pytest.raises(TimeoutError):
            trap.accept()


def test_what_was_refused_has_left_no_job_and_no_process(desk: Desk, ended: Ended) -> None:
    """But for the forge, and the keeper and engine of a spare child."""
    jobs: list[dict[str, Any]] = desk.client.get("/v1/jobs").json()["data"]
    assert [job["status"] for job in jobs] == ["queued"] * len(jobs)
    assert len(jobs) <= 1  # the one above
    until(lambda: len([pid for pid in below(os.getpid()) if b"worker" in command(pid)]) <= 3, 30)
    assert ended.taken
    print(
        f"{len(HOSTILE)} and {len(HEAVY)}; children took {max(cpu for cpu, _ in ended.taken):.2f} CPU-seconds and",
        f"{max(peak for _, peak in ended.taken) >> 20} MB at most",
    )
