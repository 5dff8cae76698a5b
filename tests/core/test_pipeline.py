"""The whole library path on a small model: what is promised is what lies in the folder."""

import csv
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from core import data as data_files
from core import parity, pipeline, point
from core.batches import Split
from core.data import Data
from core.errors import DataInvalid, RequestInvalid, TargetImpossible, VerificationFailed
from core.pipeline import Result, compress
from core.progress import Silent
from core.recipe import PRESETS, Recipe, Target
from core.verify import logits
from tests import tiny

LADABERT = PRESETS["ladabert"].recipe


class Watcher(Silent):
    def __init__(self) -> None:
        self.stages: list[str] = []
        self.fractions: list[float] = []

    def stage(self, name: str) -> None:
        self.stages.append(name)

    def advance(self, fraction: float, step: int, steps: int) -> None:
        self.fractions.append(fraction)


@pytest.fixture(scope="module")
def watcher() -> Watcher:
    return Watcher()


@dataclass
class Seen:
    """Where rows of the eval file turned up."""

    measured: list[str] = field(default_factory=list)  # kind of each measuring process that was given them
    elsewhere: list[str] = field(default_factory=list)  # those that were tokenised for training or deciding


@pytest.fixture(scope="module")
def seen() -> Seen:
    return Seen()


@pytest.fixture(scope="module")
def result(
    teacher: Path, rows: dict[str, Path], watcher: Watcher, seen: Seen, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Result]:
    """One compression by the LadaBERT preset, watched: who is shown rows of the eval file?"""
    out = tmp_path_factory.mktemp("out")
    with rows["eval"].open(encoding="utf-8") as file:
        secret = {row["text"] for row in csv.DictReader(file)}
    encode = Split.encode.__func__  # type: ignore[attr-defined]

    def spy_encode(cls: type[Split], tokenizer: object, rows: data_files.Rows, **more: object) -> Split:
        seen.elsewhere.extend(text for text in rows.texts if text in secret)
        return encode(cls, tokenizer, rows, **more)  # type: ignore[no-any-return]

    def spy_logits(kind: str, folder: Path, texts: list[tuple[str, str | None]], **more: object) -> object:
        seen.measured.extend(kind for text, _ in texts if text in secret)
        return logits(kind, folder, texts, **more)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Split, "encode", classmethod(spy_encode))
        patch.setattr(pipeline, "logits", spy_logits)
        patch.setattr(point, "logits", spy_logits)
        data = Data(rows["train"], rows["eval"])
        yield compress(teacher, LADABERT, data, watcher, target=Target(parameter_ratio=2), out=out, threads=1)


def test_eval_rows_are_read_once_by_the_teacher_and_once_by_each_file_and_by_nothing_else(
    result: Result, seen: Seen
) -> None:
    assert seen.elsewhere == []
    assert Counter(seen.measured) == {"onnx": 2 * 120, "torch": 120}


def test_the_target_is_met_in_the_file_and_the_task_survives(result: Result) -> None:
    figures = result.report.point
    assert figures.target_met
    assert figures.parameter_ratio >= 2
    assert figures.retention > 0.9
    assert figures.student_by_file["model.onnx"] == pytest.approx(figures.student_by_file["pytorch"], abs=0.01)


def test_sizes_in_the_report_are_sizes_on_disk(result: Result) -> None:
    figures = result.report.point
    for name, size in figures.sizes.bytes_on_disk.items():
        assert (result.folder / name).stat().st_size == size
    onnx = figures.sizes.bytes_on_disk["model.onnx"]
    assert figures.bytes_ratio == pytest.approx(4 * figures.sizes_teacher.parameters / onnx)
    weights = figures.sizes.bytes_on_disk["pytorch/weights.safetensors"]
    assert figures.planned_bytes <= weights <= figures.planned_bytes + 20_000  # its JSON header


def test_the_report_counts_what_is_stored(result: Result) -> None:
    sizes = result.report.point.sizes
    assert sizes.nonzero < sizes.parameters
    assert all("keep" not in step or step["keep"] != "auto" for step in result.report.recipe["steps"])  # type: ignore[attr-defined]


def test_the_report_on_disk_is_the_report_and_the_manifest_names_every_file(result: Result) -> None:
    assert json.loads((result.folder / "report.json").read_text()) == result.report.model_dump(mode="json")
    manifest = json.loads((result.folder / "manifest.json").read_text())["files"]
    found = {p.relative_to(result.folder).as_posix() for p in result.folder.rglob("*") if p.is_file()}
    assert set(manifest) == found - {"manifest.json"}
    for name, entry in manifest.items():
        assert data_files.digest(result.folder / name) == entry["sha256"]


def test_nothing_but_the_point_is_left_in_out(result: Result) -> None:
    assert [path.name for path in result.folder.parent.iterdir()] == ["0"]


def test_progress_never_falls_and_passes_every_stage(result: Result, watcher: Watcher) -> None:
    assert watcher.fractions == sorted(watcher.fractions)
    assert watcher.stages == [
        "plan", "prepare", "profile", "teacher", "factorize", "prune", "distill", "explain", "export", "verify",
    ]  # fmt: skip
    assert [stage.name for stage in result.report.stages] == watcher.stages


@pytest.mark.long
def test_the_same_seed_gives_the_same_file(
    teacher: Path, rows: dict[str, Path], result: Result, tmp_path: Path
) -> None:
    data = Data(rows["train"], rows["eval"])
    again = compress(teacher, LADABERT, data, target=Target(parameter_ratio=2), out=tmp_path / "o", threads=1)
    assert data_files.digest(again.folder / "model.onnx") == data_files.digest(result.folder / "model.onnx")


@pytest.mark.long
def test_a_select_file_replaces_the_cut_and_a_missed_target_says_by_how_much(
    teacher: Path, rows: dict[str, Path], tmp_path: Path
) -> None:
    select = tiny.write_csv(tmp_path / "select.csv", tiny.sentences(30, seed=5))
    recipe = Recipe.model_validate({"steps": [{"method": "svd"}]})
    data = Data(rows["train"], rows["eval"], select)
    target = Target(max_latency_ms=1e-4, bytes_ratio=1.2)  # bytes are planned with the graph, so they are met
    report = compress(teacher, recipe, data, target=target, out=tmp_path / "out", threads=1).report
    assert report.rows == {"train": 400, "select": 30, "eval": 120}
    assert report.select_seen_by_teacher == "no"
    assert not report.point.target_met
    assert set(report.point.shortfall) == {"max_latency_ms"}
    assert report.point.shortfall["max_latency_ms"] > 1e-4


def test_an_impossible_target_is_refused_before_any_work(
    teacher: Path, rows: dict[str, Path], tmp_path: Path, watcher: Watcher
) -> None:
    mine = Watcher()
    with pytest.raises(TargetImpossible):
        compress(teacher, LADABERT, Data(rows["train"], rows["eval"]), mine, target=Target(parameter_ratio=900),
                 out=tmp_path / "out", threads=1)  # fmt: skip
    assert mine.stages == ["plan"]


def test_a_file_that_is_not_the_student_is_never_handed_over(
    teacher: Path, rows: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = parity.predict

    def wrong(*given: object, **named: object) -> np.ndarray:
        return honest(*given, **named) + 0.5  # type: ignore[arg-type]

    monkeypatch.setattr(parity, "predict", wrong)
    recipe = Recipe.model_validate({"steps": [{"method": "svd", "keep": 0.7}]})
    with pytest.raises(VerificationFailed, match=r"model\.onnx"):
        compress(teacher, recipe, Data(rows["train"], rows["eval"]), out=tmp_path / "out", threads=1)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_retention_alone_is_searched_for_and_the_try_that_is_delivered_is_the_one_reported(
    teacher: Path, rows: dict[str, Path], tmp_path: Path
) -> None:
    bits = {"method": "gptq", "bits": "auto", "group": 16, "calibration_rows": 64}
    recipe = Recipe.model_validate({"steps": [bits, {"method": "distill", "epochs": 0.5}]})
    found = compress(
        teacher, recipe, Data(rows["train"], rows["eval"]), target=Target(min_retention=0.9), out=tmp_path / "out",
        threads=1,
    )  # fmt: skip
    report = found.report
    assert report.recipe in [one.recipe for one in report.tries]
    assert report.point.target == {"min_retention": 0.9}
    assert report.point.target_met == (report.point.retention >= 0.9)
    assert report.point.bytes_ratio > 1
    assert found.profile is not None
    assert found.profile.nears


@pytest.mark.parametrize(
    ("asked", "param"),
    [({"seed": -1}, "/seed"), ({"seed": 2**31}, "/seed"), ({"device": "tpu"}, "/resources/device")],
)
def test_a_request_that_nothing_can_be_done_with_is_a_typed_error(
    asked: dict[str, object], param: str, teacher: Path, rows: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(RequestInvalid) as refused:
        compress(teacher, LADABERT, Data(rows["train"], rows["eval"]), out=tmp_path / "out", **asked)  # type: ignore[arg-type]
    assert refused.value.param == param


def test_labels_in_another_order_fail_before_anything_is_trained(teacher: Path, tmp_path: Path) -> None:
    """The message says which order the teacher has."""
    swapped = [(text, 1 - label) for text, label in tiny.sentences(400, seed=1)]
    train = tiny.write_csv(tmp_path / "train.csv", swapped)
    watcher = Watcher()
    with pytest.raises(DataInvalid, match=r"0 \(animal\) -> 1 \(tool\)"):
        compress(teacher, LADABERT, Data(train, train), watcher, target=Target(parameter_ratio=2), out=tmp_path / "out")
    assert watcher.stages[-1] == "profile"
