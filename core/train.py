"""The one training loop. It knows phases, nothing else.

Each step: hooks before, the objective's own forwards and backwards, clip, every optimizer once, hooks after. The
fraction of the phase that is over drives every schedule; it is the larger of steps done and budget spent, so a phase
whose time runs out ends with its learning rate at zero and its masks complete, like one that ran to its last step.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from accelerate import Accelerator

from core.checkpoint import Done, Keeper
from core.errors import OutOfMemory, TrainingDiverged
from core.memory import free_cache, out_of_memory
from core.phase import Build, Metrics, Phase
from core.progress import Meter

LOG_EVERY = 10  # steps


def _endless(batches: Iterable[Any], done: int) -> Iterator[Any]:
    """Batches over and over, from the one after the first `done` on."""
    while True:
        count = 0
        for batch in batches:
            count += 1
            if done > 0:
                done -= 1
                continue
            yield batch
        if not count:
            raise ValueError("a phase needs at least one batch")


def _set_rate(optimizer: Any, base: Sequence[float], factor: float) -> None:
    for group, rate in zip(optimizer.param_groups, base, strict=True):
        group["lr"] = rate * factor


def _gradient(phase: Phase, batch: Any, optimizers: Sequence[Any], accelerator: Accelerator) -> Metrics | None:
    """That of a batch, and its figures; None where memory ran out."""
    for optimizer in optimizers:
        optimizer.zero_grad()
    try:
        return phase.objective.step(batch, accelerator.backward)
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        return None


def _step(
    phase: Phase, batch: Any, fraction: float, optimizers: Sequence[Any], accelerator: Accelerator, meter: Meter
) -> Metrics:
    for hook in phase.hooks:
        if hook.before_step(fraction):
            for optimizer in optimizers:
                hook.reshape(optimizer)
    while (metrics := _gradient(phase, batch, optimizers, accelerator)) is None:
        tokens = phase.objective.halve()
        if tokens is None:
            raise OutOfMemory(f"phase {phase.name}: there is not even memory for a training step of one row")
        # Only here, where the exception is gone, nothing holds the tensors of the step that failed.
        free_cache()
        meter.warning(
            "batch_in_parts", f"phase {phase.name}, {fraction:.0%}: memory ran out; {tokens} tokens run together"
        )
    if not all(math.isfinite(value) for value in metrics.values()):  # before it reaches weights, or grids
        raise TrainingDiverged(f"phase {phase.name}, {fraction:.0%}: {metrics}; lower the learning rate")
    if phase.clip_norm is not None:
        accelerator.clip_grad_norm_(phase.model.parameters(), phase.clip_norm)
    for hook in phase.hooks:
        hook.before_update()
    for optimizer in optimizers:
        optimizer.step()
    for hook in phase.hooks:
        hook.after_step(fraction)
    return metrics


def train(
    phase: Phase,
    meter: Meter,
    *,
    device: torch.device,
    budget_s: float | None = None,
    keeper: Keeper | None = None,
    build: Build | None = None,
) -> int:
    """Run one phase; the model is changed in place. Returns the number of steps done.

    Args:
        budget_s: wall seconds for this phase; None is no limit.
        keeper: writes checkpoints of `build`, and says where an earlier attempt stood.

    Raises:
        TrainingDiverged: the loss is no longer finite.
        BuiltAnew: a checkpoint of this phase is there and does not fit it.
    """
    accelerator = Accelerator(cpu=device.type == "cpu")
    optimizers = [accelerator.prepare(optimizer) for optimizer in phase.optimizers]
    rates = [[group["lr"] for group in optimizer.param_groups] for optimizer in optimizers]
    phase.model.train()
    for code, detail in phase.told:
        meter.warning(code, detail)
    for hook in phase.hooks:
        hook.start(phase)
    done = keeper.restore(phase, build, optimizers) if keeper and build else Done()
    if done.steps:
        meter.warning("resumed", f"phase {phase.name} goes on at step {done.steps}; stages count this attempt only")
    started, step = time.monotonic(), done.steps
    for step, batch in enumerate(_endless(phase.batches, done.steps), start=done.steps):
        spent = (time.monotonic() - started) / budget_s if budget_s else 0.0
        # What is left of the budget is spent on what is left of the phase: no schedule runs backwards after a resume.
        fraction = max(step / phase.steps, done.fraction + (1 - done.fraction) * spent)
        if fraction >= 1 or any(hook.finished() for hook in phase.hooks):
            break
        for optimizer, base in zip(optimizers, rates, strict=True):
            _set_rate(optimizer, base, phase.schedule(fraction))
        metrics = _step(phase, batch, fraction, optimizers, accelerator, meter)
        for name, value in metrics.items() if step % LOG_EVERY == 0 else ():
            meter.figure(phase.name, name, value, step)
        for hook in phase.hooks:
            for name, value in hook.noted().items():
                meter.figure(phase.name, name, value, step)
        meter.advance(step + 1, phase.steps)
        if keeper and build and keeper.due():
            wrong = keeper.save(phase, build, optimizers, Done(step + 1, fraction))
            if wrong:
                meter.warning("checkpoint_not_kept", f"phase {phase.name}, step {step + 1}: {wrong}")
    for hook in phase.hooks:
        hook.end()
    phase.model.eval()
    return step
