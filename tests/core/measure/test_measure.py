"""Latency is measured in pairs, cell by cell, within a budget; the machine is described by what matters to it."""

from pathlib import Path

import pytest

from core.errors import VerificationFailed
from core.export import onnx
from core.measure import hardware, latency
from core.measure.latency_pairs import GRID
from core.measure.machine import _cpuinfo
from tests.core.export.students import student


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("timed") / "model.onnx"
    model, masks, _ = student("embedding masked")
    onnx.write(model, masks, path)
    return path


def test_two_cells_are_measured_on_any_budget(file: Path) -> None:
    rows = latency(file, file, vocabulary=40, threads=1, budget_s=0, pairs=20)
    assert [(row.batch, row.tokens) for row in rows] == [(1, 128), (1, 32)]
    for row in rows:
        assert (row.threads, row.pairs) == (1, 20)
        assert row.teacher_ms_p50 > 0
        assert row.ratio == row.teacher_ms_p50 / row.student_ms_p50


def test_with_time_enough_the_whole_grid_is_measured(file: Path) -> None:
    assert [(row.batch, row.tokens) for row in latency(file, file, vocabulary=40, budget_s=600)] == list(GRID)
    assert set(GRID) == {(batch, tokens) for batch in (1, 8, 32) for tokens in (32, 128)}


def test_a_median_of_few_pairs_is_refused(file: Path) -> None:
    with pytest.raises(ValueError, match="19 pairs: a median needs at least 20"):
        latency(file, file, vocabulary=40, pairs=19)


def test_a_file_that_does_not_run_is_an_error(file: Path, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(VerificationFailed, match="timed: the process ended with 1"):
        latency(file, tmp_path / "model.onnx", vocabulary=40, budget_s=0)


def test_the_machine_is_described_by_what_changes_the_numbers(tmp_path: Path) -> None:
    here = hardware(threads=2)
    assert (here.device, here.threads) == ("cpu", 2)
    assert here.machine
    assert {"python", "torch", "onnxruntime"} <= here.versions.keys()
    (tmp_path / "cpuinfo").write_text("model name\t: Fast CPU\nflags\t: avx2 fma\n\nmodel name\t: other\n")
    assert _cpuinfo(tmp_path / "cpuinfo") == {"model name": "Fast CPU", "flags": "avx2 fma"}
    assert _cpuinfo(tmp_path / "absent") == {}
