"""Times what `core.cost` foretells a job by: forward passes and training steps on the job's own text."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import nn

from core.batches import Batches, Split, predict
from core.cost import Costs, Share, Spent, Training
from core.distill.distill import Distill
from core.phase import Build, Hook
from core.progress import Meter, Silent, cpu_seconds, peak_bytes
from core.recorded import fits, size_of
from core.removal import unit_of
from core.rounding import round_rest
from core.shared import Shared
from core.surgery import narrow
from core.train import train

STEPS, WARM, UPDATES = 10, 2, 3  # of each kind of student; the first ones are not timed
FORWARD, ROWS = 512, 64  # rows, and those of a batch
LEVELS, GROUP = 16, 64
CPU = torch.device("cpu")


def costs(shared: Shared, training: Training, *, machine: str) -> Costs:
    """Of the teacher's shape.

    Args:
        machine: what this runs on, by name.
    """
    one = training.step
    sample = (shared.select or shared.train).sample(FORWARD, shared.seed)
    token = _token(shared, sample, shared.device)
    with TemporaryDirectory(dir=shared.folder) as folder:  # a recording of its own, which nobody reads again
        apart = replace(shared, folder=shared.folder and Path(folder), _made={})
        short = one.model_copy(
            update={"max_rows": STEPS * one.batch_size, "epochs": 1.0, "min_steps": STEPS, "augment_to": 0,
                    "patience": 0, "enough": 0.0, "continued": 0.0}
        )  # fmt: skip
        build = apart.student()
        everything, full, update = _entries(build), _step(build, short), _update(build)
        build = apart.student()
        _halve(build)
        share = Share(*(ours / theirs for ours, theirs in zip(_entries(build), everything, strict=True)))
        half, more = _step(build, short), Spent(0.0, 0.0)
        if training.rounded:
            build = apart.student()
            round_rest(build, lambda _: LEVELS, GROUP)
            more = Spent(*(max(0.0, a - b) for a, b in zip(_step(build, short), full, strict=True)))
    text = shared.text(one.max_rows, one.max_length, one.augment_to)
    padded = sum(batch["input_ids"].numel() for batch in Batches(text, one.batch_size, seed=0, device=CPU))
    return Costs(
        machine=machine,
        training=training.timed,
        tokens=padded / len(text),
        whole=sum(map(len, sample.ids)) / len(sample),
        token=token,
        cpu_token=token if shared.device == CPU else _token(shared, sample.sample(ROWS, 0), CPU),
        step=full,
        narrow=half,
        update=update,
        share=share,
        rounded=more,
        memory_bytes=peak_bytes() + (0 if training.timed.live else _recorded(shared, text)),
        device_bytes=torch.cuda.max_memory_allocated() if shared.device.type == "cuda" else 0,
    )


def _token(shared: Shared, sample: Split, device: torch.device) -> Spent:
    """The teacher's forward pass of one token, padding counted."""
    model = shared.teacher if device == shared.device else copy.deepcopy(shared.teacher).to(device)
    forward = spent(device, lambda: predict(model, sample, device, ROWS))
    padded = sum(len(rows) * max(len(sample.ids[row]) for row in rows) for rows in sample.by_length(ROWS))
    return forward.times(1 / padded)


def _recorded(shared: Shared, text: Split) -> int:
    """Bytes of the teacher's answers, which are mapped into memory where they are kept."""
    config = shared.teacher.config
    size = size_of(text, *(int(getattr(config, name)) for name in (shared.family.layers, shared.family.hidden)))
    return size if shared.folder is not None and fits(shared.folder, size) else 0


class _Watch(Hook):
    """Times the steps of a phase but the first ones."""

    def __init__(self, shared: Shared) -> None:
        self.device, self.steps = shared.device, 0
        self.begun = self.ended = (0.0, 0.0)

    def after_step(self, fraction: float) -> None:  # noqa: ARG002 - every step counts alike
        self.steps += 1
        self.ended = _now(self.device)
        if self.steps == WARM:
            self.begun = self.ended

    def each(self) -> Spent:
        return Spent(*((b - a) / (self.steps - WARM) for a, b in zip(self.begun, self.ended, strict=True)))


def _step(build: Build, training: Distill) -> Spent:
    """One training step of this student, which is thrown away."""
    watch = _Watch(build.shared)
    build.hooks.append(watch)
    for phase in training.compile(build):
        train(phase, Meter(Silent()), device=build.device)
    return watch.each()


def spent(device: torch.device, what: Callable[[], object]) -> Spent:
    """What a call takes."""
    begun = _now(device)
    what()
    return Spent(*(b - a for a, b in zip(begun, _now(device), strict=True)))


def _now(device: torch.device) -> tuple[float, float]:
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter(), cpu_seconds()


def _halve(build: Build) -> None:
    """Leave half of the heads and neurons of every block, whichever: only the time is asked for."""
    for name in [*build.compressible()]:
        block = build.family.block(name)
        if block is not None:
            unit = unit_of(build, block)
            width = build.weight(name).shape[1]
            columns = torch.arange(max(1, width // unit // 2) * unit)
            left = build.weight(name)[:, columns]
            narrow(build.model, block, columns, left, torch.zeros(len(left)))


def _entries(build: Build) -> tuple[int, int]:
    """That the encoder multiplies with, and all."""
    linears = (name for name in build.compressible() if name != build.family.embedding)
    return sum(build.weight(name).numel() for name in linears), sum(p.numel() for p in build.model.parameters())


def _update(build: Build) -> Spent:
    """What the optimizer takes to move all weights once."""
    weights = [*build.model.parameters()]
    for weight in weights:
        weight.grad = torch.zeros_like(weight)
    optimizer = torch.optim.AdamW(weights)

    def update(_: int) -> None:
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()

    update(0)  # its state is made
    return spent(build.device, lambda: [*map(update, range(UPDATES))]).times(1 / UPDATES)
