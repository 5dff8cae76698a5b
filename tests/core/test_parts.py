"""Batches in parts: the same gradient, whatever the parts; smaller ones where memory runs out."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from core.batches import Split, load_tokenizer
from core.data import Data, Rows
from core.errors import OutOfMemory
from core.likelihood import Likelihood
from core.losses import Distillation
from core.memory import free_bytes
from core.model import load
from core.parts import Parts, parts_for
from core.phase import Backward, Metrics, Phase
from core.pipeline import compress
from core.progress import Meter, Silent
from core.recipe import PRESETS, Target
from core.shared import Shared
from core.task import TASKS
from core.train import train
from tests import tiny

CPU = torch.device("cpu")
COUNTS = (3, 9, 5, 2, 7)  # tokens of the rows of a batch


def batch() -> dict[str, torch.Tensor]:
    """Rows of different lengths, padded."""
    ids = torch.randint(5, 40, (len(COUNTS), max(COUNTS)), generator=torch.Generator().manual_seed(0))
    mask = (torch.arange(max(COUNTS)) < torch.tensor(COUNTS)[:, None]).long()
    return {"input_ids": ids * mask, "attention_mask": mask, "token_type_ids": torch.zeros_like(ids)}


@pytest.mark.parametrize("tokens", [1, 9, 18, 27, 36])
@pytest.mark.parametrize("relative", [True, False])
@pytest.mark.parametrize("attention", ["maps", "scores", "outputs"])
def test_parts_give_the_gradient_and_the_figures_of_the_whole_batch(
    teacher: Path, tokens: int, attention: Any, relative: bool
) -> None:
    """Of every term, though rows differ in length and energy."""
    loaded = load(teacher)
    student = copy.deepcopy(loaded.model).requires_grad_(True)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))

    def run(parts: Parts) -> tuple[dict[str, float], list[torch.Tensor]]:
        student.zero_grad()
        objective = Distillation(
            student, loaded.model.requires_grad_(False), loaded.family, temperature=2.0, layer_map="identity",
            weights={"logits": 1.0, "hidden": 3.0, "attention": 2.0}, parts=parts,
            relative=relative, attention=attention,
        )  # fmt: skip
        return objective.step(batch(), torch.Tensor.backward), [
            p.grad for p in student.parameters() if p.grad is not None
        ]

    whole, gradients = run(Parts())
    found, others = run(Parts(tokens))
    assert found == pytest.approx(whole, rel=1e-4)
    for ours, theirs in zip(others, gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)


@given(st.sampled_from(sorted(TASKS)), st.integers(1, 4), st.integers(0, 99))
def test_shares_of_choices_add_up_for_every_task(task: str, rows: int, seed: int) -> None:
    """The mean over a batch is the sum of its parts' means, each times its share of the choices."""
    generator = torch.Generator().manual_seed(seed)
    valid = batch()["attention_mask"].float()
    shape = (len(COUNTS), max(COUNTS), 2) if TASKS[task].per_token else (len(COUNTS), 3)
    ours, theirs = (torch.randn(shape, generator=generator) for _ in range(2))
    likelihood = Likelihood(task)
    whole = likelihood.loss(ours, theirs, valid, 2.0)
    total = torch.zeros(())
    for start in range(0, len(COUNTS), rows):
        part = slice(start, start + rows)
        share = likelihood.chooses(valid[part]) / likelihood.chooses(valid)
        total = total + share * likelihood.loss(ours[part], theirs[part], valid[part], 2.0)
    torch.testing.assert_close(total, whole)


@given(st.integers(1, 40), st.integers(1, 150))
def test_parts_hold_every_row_once_and_none_is_larger_than_asked(count: int, tokens: int) -> None:
    """But for a row that is longer alone."""
    ids = torch.arange(count * 3).reshape(count, 3)
    found = Parts(tokens).of({"input_ids": ids, "attention_mask": torch.ones_like(ids)})
    assert torch.equal(torch.cat([part["input_ids"] for part in found]), ids)
    assert max(part["input_ids"].numel() for part in found) <= max(tokens, 3)


def test_halves_end_at_one_row() -> None:
    parts, seen = Parts(), []
    while True:
        seen.append(max(len(part["input_ids"]) for part in parts.of(batch())))
        if parts.halve() is None:
            break
    assert seen == [5, 2, 1]


def text(folder: Path, words: int) -> Split:
    rows = Rows(["cat " * words] * 8, None, [0] * 8)
    return Split.encode(load_tokenizer(folder), rows, max_tokens=64, pad_id=0)


def test_what_is_free_decides_how_many_rows_run_together(teacher: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More memory never means fewer rows; none is too little for one; where all fit nothing is said."""
    loaded = load(teacher)
    build = Shared(loaded.model, loaded.family, text(teacher, 40), 0, CPU).student()
    seen = []
    for free in (0, 10**6, 4 * 10**6, 10**9):
        monkeypatch.setattr("core.parts.free_bytes", lambda _device, free=free: free)
        parts, told = parts_for(build, build.shared.train, 32, maps=False)
        assert bool(told) == (parts.tokens is not None)
        seen.append(parts.tokens or 2**20)
    assert seen == sorted(seen)
    assert (seen[0], seen[-1]) == (1, 2**20)
    assert len({*seen}) > 2


def test_a_model_that_has_no_room_is_refused_with_the_numbers(
    teacher: Path, rows: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is computed."""
    monkeypatch.setattr("core.pipeline.host_bytes", lambda: 400_000_000)  # the libraries alone
    recipe = PRESETS["ladabert-3"].recipe
    with pytest.raises(OutOfMemory, match=r"needs at least 40\d,\d{3},\d{3} bytes of memory, cpu has 400,000,000"):
        compress(
            teacher, recipe, Data(rows["train"], rows["eval"]), target=Target(parameter_ratio=2), out=tmp_path / "o"
        )
    assert not any((tmp_path / "o").glob("*/*"))


STARVED = """
import copy, resource, sys
from pathlib import Path

import torch

from core.losses import Distillation
from core.model import load
from core.parts import Parts
from core.phase import Phase
from core.progress import Meter, Silent
from core.train import train

torch.set_num_threads(1)
loaded = load(Path(sys.argv[1]))
teacher, student = loaded.model.requires_grad_(False), copy.deepcopy(loaded.model).requires_grad_(True)
objective = Distillation(
    student, teacher, loaded.family, weights={"logits": 1.0, "hidden": 1.0, "attention": 0.0}, temperature=1.0,
    layer_map="identity",
)
ids = torch.randint(5, 40, (128, 64), generator=torch.Generator().manual_seed(0))
whole = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "token_type_ids": torch.zeros_like(ids)}
objective.step({name: held[:1] for name, held in whole.items()}, torch.Tensor.backward)  # what loads at first use
objective.parts = Parts()
held = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmData"))
limit = (held << 10) + int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
phase = Phase(
    "starved", student, objective, [torch.optim.SGD(student.parameters(), lr=0.0)], [whole], steps=2,
    schedule=lambda _: 1.0,
)
meter = Meter(Silent())
train(phase, meter, device=torch.device("cpu"))
print(objective.parts.tokens, len(meter.warnings), meter.warnings[-1])
"""


def starve(folder: Path, free: int) -> subprocess.CompletedProcess[str]:
    """With an allocator that leaves no holes: what these cost differs from run to run."""
    command = [sys.executable, "-c", STARVED, str(folder), str(free)]
    held = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=held)


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA bounds allocations on Linux only")
def test_a_step_that_runs_out_of_memory_is_done_in_parts(tmp_path: Path) -> None:
    """Really out of it. Once is enough: the second step begins with the parts that fitted."""
    folder = tiny.write_model(tmp_path / "model", layers=4, hidden=64)
    ran = starve(folder, 100 << 20)
    assert ran.returncode == 0, ran.stderr[-2_000:]
    tokens, warnings, said = ran.stdout.strip().split(maxsplit=2)
    assert 64 < int(tokens) < 128 * 64
    assert f"memory ran out; {tokens} tokens run together" in said
    assert int(warnings) == (128 * 64 // int(tokens)).bit_length() - 1


@pytest.mark.parametrize("side", ["student", "teacher"])
def test_a_step_that_breaks_off_where_attention_is_followed_is_done_in_parts(teacher: Path, side: str) -> None:
    """What the broken-off forward has left of queries and keys is nobody's."""
    loaded = load(teacher)
    models = {"teacher": loaded.model.requires_grad_(False)}
    models["student"] = copy.deepcopy(loaded.model).requires_grad_(True)
    objective = Distillation(
        models["student"], models["teacher"], loaded.family, temperature=1.0, layer_map="identity",
        weights={"logits": 1.0, "hidden": 1.0, "attention": 1.0},
    )  # fmt: skip
    whole = objective.step(batch(), torch.Tensor.backward)

    def run_out(*_: object) -> None:
        handle.remove()
        raise torch.OutOfMemoryError("CUDA out of memory.")

    handle = models[side].get_submodule("bert.encoder.layer.1.output").register_forward_pre_hook(run_out)
    with pytest.raises(torch.OutOfMemoryError):
        objective.step(batch(), torch.Tensor.backward)
    assert objective.halve() == 5 * 9 // 2
    assert objective.step(batch(), torch.Tensor.backward) == pytest.approx(whole, rel=1e-4, abs=1e-6)


def test_mapped_files_count_as_free(tmp_path: Path) -> None:
    """Recorded answers are mapped, and may be larger than the memory."""
    before = free_bytes(CPU)
    mapped = np.lib.format.open_memmap(tmp_path / "answers.npy", mode="w+", dtype=np.uint8, shape=(256 << 20,))
    mapped[:] = 1
    assert before - free_bytes(CPU) < 64 << 20


class Greedy:
    """An objective for which no part is small enough."""

    def __init__(self) -> None:
        self.rows = [4, 2, 1]

    def step(self, _batch: object, _backward: Backward) -> Metrics:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    def halve(self) -> int | None:
        return self.rows.pop(0) if self.rows else None


def test_a_step_of_one_row_that_does_not_fit_ends_the_training() -> None:
    model, meter = torch.nn.Linear(2, 1), Meter(Silent())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    phase = Phase("greedy", model, Greedy(), [optimizer], [0], steps=1, schedule=lambda _: 1.0)
    with pytest.raises(OutOfMemory, match="phase greedy: there is not even memory for a training step of one row"):
        train(phase, meter, device=CPU)
    assert len(meter.warnings) == 3
