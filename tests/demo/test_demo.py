"""The demo command: what it promises, that its stranger is one, and that it leaves nothing behind."""

import csv
import json
import os
import signal
import subprocess
import sys
import sysconfig
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer
from transformers import BertForSequenceClassification

from core.export import artifact
from demo import __main__ as demo
from demo import service
from tests import tiny
from tests.client.processes import Process, descendants, table, wait_for

ROOT = Path(__file__).parents[2]
STRANGER = ROOT / "demo/stranger.py"
POINT = {"teacher": 0.95, "sizes_teacher": {"parameters": 1_000_000}}
GOOD = {"status": "succeeded", "retention": 0.98, "bytes_ratio": 2.25, "cache_hit": False}


@pytest.mark.parametrize(
    ("result", "size_bytes", "accuracy", "broken"),
    [
        (GOOD, 1_780_000, 0.94, []),
        ({**GOOD, "retention": 0.96}, 1_780_000, 0.94, ["retention 0.9600 >= 0.97"]),
        ({**GOOD, "bytes_ratio": 2.1}, 1_780_000, 0.94, ["bytes_ratio 2.1000 >= 2.2"]),
        (GOOD, 2_000_000, 0.94, ["bytes_ratio 2.0000 >= 2.2, measured here"]),
        (GOOD, 1_780_000, 0.9, ["retention 0.9474 >= 0.97, measured here"]),
        ({**GOOD, "status": "failed"}, 1_780_000, 0.94, ["status succeeded (it is failed)"]),
        ({**GOOD, "cache_hit": True}, 1_780_000, 0.94, ["trained here, not taken from an equal job"]),
    ],
)
def test_a_promise_is_broken_by_the_service_s_figures_and_by_our_own(
    result: dict[str, Any], size_bytes: int, accuracy: float, broken: list[str]
) -> None:
    promises = demo.kept(result, POINT, size_bytes, accuracy)
    assert [promise for promise, kept in promises.items() if not kept] == broken


def test_a_folder_to_keep_must_be_empty(tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    done = subprocess.run(
        [sys.executable, "-m", "demo", "--keep", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "must be a new or empty folder" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_the_stranger_counts_what_the_delivered_file_predicts(tmp_path: Path) -> None:
    source = tiny.write_model(tmp_path / "source", steps=20)
    model = BertForSequenceClassification.from_pretrained(source).eval()
    artifact.write(model, {}, source, tmp_path / "out", torch_form=False)
    (tmp_path / "out/report.json").write_text(json.dumps({"labels": ["no", "yes"]}))
    tokenizer = Tokenizer.from_file(str(source / "tokenizer.json"))
    rows = []
    for index, (sentence, _) in enumerate(tiny.sentences(40, seed=3)):
        with torch.inference_mode():
            predicted = int(model(input_ids=torch.tensor([tokenizer.encode(sentence).ids])).logits.argmax())
        label = predicted if index % 4 else 1 - predicted  # every fourth row is labelled against the model
        rows.append((sentence, ("no", "yes")[label]))
    with (tmp_path / "eval.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *rows])
    done = run_stranger(sysconfig.get_path("purelib"), tmp_path / "out", tmp_path / "eval.csv")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["rows"], said["right"]) == (40, 30)
    assert set(said["refused"]) == {"core", "jobs", "api", "worker", "ladapress", "demo"}


def test_the_stranger_refuses_to_run_where_the_project_can_be_imported(tmp_path: Path) -> None:
    done = run_stranger(str(ROOT), tmp_path, tmp_path / "eval.csv")
    assert done.returncode != 0
    assert "`import core` succeeds here" in done.stderr


def run_stranger(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-I", "-S", str(STRANGER), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("start", [service.embedded, service.celery], ids=["embedded", "celery"])
def test_a_service_answers_and_leaves_neither_processes_nor_its_folders(
    start: Callable[[Path], AbstractContextManager[str]], tmp_path: Path
) -> None:
    before = descendants(os.getpid())  # servers that other tests of this process still want
    with start(tmp_path) as url:
        with urllib.request.urlopen(f"{url}/v1/jobs") as response:
            assert json.load(response)["data"] == []
        family = descendants(os.getpid()) - before
        assert len(family) > 3
    assert not family & set(table())
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_what_a_service_said_is_told_when_it_does_not_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(service.ephemeral, "free_port", lambda: 0)  # a port that `ladapress up` refuses
    with pytest.raises(service.ServiceError, match="up ended with status 2"), service.embedded(tmp_path):
        pass
    assert "--port" in capfd.readouterr().err


class Demo:
    """A running `python -m demo` whose temporary files are in a folder of ours."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.temporary, self.out, self.err = folder / "tmp", folder / "out", folder / "err"
        self.temporary.mkdir()
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "demo", *options], cwd=ROOT, stdout=out, stderr=err,
                env={**os.environ, "TMPDIR": str(self.temporary)},
            )  # fmt: skip
        self.seen: set[Process] = set()

    def wait_for(self, text: str, seconds: float = 60.0) -> None:
        """Until it has printed `text`."""

        def said() -> bool:
            self.seen |= descendants(self.process.pid)
            assert self.process.poll() is None, self.err.read_text()
            return text in self.out.read_text() + self.err.read_text()

        wait_for(said, f"{text!r} printed", seconds)

    def assert_nothing_is_left(self) -> None:
        wait_for(lambda: not self.seen & set(table()), "every process gone", 15)
        assert list(self.temporary.iterdir()) == []


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Callable[..., Demo]]:
    running: list[Demo] = []

    def start(*options: str) -> Demo:
        running.append(Demo(tmp_path, *options))
        return running[-1]

    yield start
    for one in running:
        one.process.kill()
        one.process.wait()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_no_process_and_no_file(begin: Callable[..., Demo], number: signal.Signals) -> None:
    demo = begin()
    demo.wait_for("fine-tune all-MiniLM-L6-v2")
    wait_for(lambda: descendants(demo.process.pid), "the teacher's process")
    demo.seen |= descendants(demo.process.pid)
    demo.process.send_signal(number)
    assert demo.process.wait(30) == 130
    assert "interrupted" in demo.err.read_text()
    demo.assert_nothing_is_left()


@pytest.mark.long
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("options", [(), ("--celery",)], ids=["embedded", "celery"])
def test_the_demo_keeps_its_promises_and_ends_with_the_client_s_line(
    begin: Callable[..., Demo], options: tuple[str, ...]
) -> None:
    demo = begin(*options)
    assert demo.process.wait(1400) == 0, demo.err.read_text()
    result = json.loads(demo.out.read_text().splitlines()[-1])
    assert result["status"] == "succeeded"
    assert result["target_met"] is True
    assert result["retention"] >= 0.97
    assert result["bytes_ratio"] >= 2.2
    demo.assert_nothing_is_left()


@pytest.mark.long
@pytest.mark.timeout(900)
def test_an_interrupt_while_a_job_trains_leaves_nothing_either(begin: Callable[..., Demo]) -> None:
    demo = begin()
    demo.wait_for("] distill step", 800)
    demo.process.send_signal(signal.SIGINT)
    assert demo.process.wait(60) == 130
    demo.assert_nothing_is_left()
