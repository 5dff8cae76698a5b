"""Answers and milliseconds of an OpenVINO file, the teacher's beside it in the same runtime."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.made import CPU
from core import batches
from core.batches import Batch, Split
from core.measure.latency_pairs import PAIRS, REFERENCE, WARM_UP

BATCH = 64


def compiled(path: Path, threads: int) -> Any:
    """`model.xml` or `model.onnx`, ready to run."""
    import openvino

    options = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    return openvino.Core().compile_model(path, "CPU", options)


def feed(batch: Batch, names: set[str]) -> dict[str, npt.NDArray[np.int64]]:
    """A batch as the graph takes it."""
    return {name: value.numpy() for name, value in batch.items() if name in names}


def names_of(model: Any) -> set[str]:
    return {value.get_any_name() for value in model.inputs}


def answers(path: Path, split: Split, threads: int) -> npt.NDArray[np.float32]:
    """Logits (rows, classes) in row order."""
    model = compiled(path, threads)
    names = names_of(model)
    return batches.answers(split, CPU, BATCH, lambda batch: next(iter(model(feed(batch, names)).values())))


def milliseconds(teacher: Path, student: Path, threads: int = 1) -> tuple[float, float]:
    """Median of both at batch 1 x 128 tokens over interleaved pairs after a warm-up."""
    models = [compiled(path, threads) for path in (teacher, student)]
    rows, tokens = REFERENCE
    ids = np.arange(rows * tokens, dtype=np.int64).reshape(REFERENCE) % 64
    whole = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    times = np.zeros((PAIRS + WARM_UP, 2))
    for turn in range(len(times)):
        for which in (turn % 2, 1 - turn % 2):
            given = {name: whole[name] for name in names_of(models[which])}
            start = time.perf_counter()
            models[which](given)
            times[turn, which] = time.perf_counter() - start
    slow, fast = 1e3 * np.median(times[WARM_UP:], axis=0)
    return float(slow), float(fast)
