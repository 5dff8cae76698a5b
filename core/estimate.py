"""What a job would take, before anything was measured: a formula with stated constants. Pure Python.

Where a profile is there, `core.cost` says it from measurements, and this is not asked.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, Field

from core.distill.distill import Distill
from core.plan import ModelShape

# fp32 on one core of a server CPU, as torch reaches it on these shapes; within a factor of three of what was seen.
FLOPS = 25e9
FIXED_S = 45.0  # exports and verifications (core.cost)
PROCESS_BYTES, LOADED_BYTES = 900_000_000, 400_000_000  # with what exports take; torch and Transformers as loaded
# Teacher 4 bytes a parameter; student, its gradient and two moments of AdamW 16.
PARAMETER_BYTES = 20
# Activations of a layer in fp32: bytes a token of width h and a heads at s tokens, 2 x (34 h + 5 a s). Attention of one
# kernel keeps no a s: that term is there only where maps are compared (seen on all-MiniLM, 8 x 512 tokens: 570 MB, by
# this 642 MB; with maps 2,463 and 2,152). Source: Korthikanti et al. 2022, arXiv 2205.05198, equation 1, in fp16.
PER_WIDTH, PER_HEAD = 68, 10


class Estimate(BaseModel):
    """Of one point with one training. The truth may be three times more or less."""

    model_config = ConfigDict(frozen=True)

    cpu_s: float = Field(description="CPU-seconds of one core.")
    memory_bytes: int = Field(description="The most that the job's process holds.")
    basis: str = Field(description="What the figures were made of.")


def estimate(shape: ModelShape, rows: Mapping[str, int], tokens: float, training: Distill | None = None) -> Estimate:
    """Args:
    tokens: of a training row, on average.
    training: a plain `distill` where None.
    """
    step = training or Distill()
    linear = sum(matrix.rows * matrix.cols for matrix in shape.matrices if matrix.kind == "linear")
    heads = max((matrix.cols // matrix.unit for matrix in shape.matrices if matrix.unit > 1), default=1)
    length = min(tokens, step.max_length)
    read = max(min(rows["train"] + rows.get("unlabelled", 0), step.max_rows or 2**62), step.augment_to)
    steps = step.steps(-(-read // step.batch_size))
    # A forward pass multiplies and adds with every entry of the encoder; backward takes twice that.
    teacher = 2 * linear * length * read
    student = 6 * linear * length * steps * step.batch_size
    grading = 4 * linear * tokens * rows["eval"]
    widest = min(_longest(tokens), step.max_length)
    activations = step.batch_size * row_bytes(shape.layers, shape.hidden, widest, heads=heads if step.attention else 0)
    return Estimate(
        cpu_s=FIXED_S + (teacher + student + grading) / FLOPS,
        memory_bytes=int(PROCESS_BYTES + PARAMETER_BYTES * shape.parameters + activations),
        basis=(
            f"{linear} encoder weights, {length:.0f} tokens a row, {read} rows, {steps} steps of {step.batch_size} "
            f"rows; {FLOPS / 1e9:g} GFLOP/s a core, {PARAMETER_BYTES} bytes a parameter; nothing measured"
        ),
    )


def row_bytes(layers: int, hidden: int, tokens: int, *, heads: int = 0) -> int:
    """What a training step keeps of one row until its gradient is there.

    Args:
        heads: of each layer, where attention maps are kept.
    """
    return tokens * layers * (PER_WIDTH * hidden + PER_HEAD * heads * tokens)


def least_bytes(shape: ModelShape, trained: int, *, host: bool) -> int:
    """What a job holds however small its batches are: the teacher, and a copy of it or what an optimizer keeps.

    Args:
        trained: parameters of its smallest student, where its recipes train.
        host: the libraries themselves count, too.
    """
    held = 4 * shape.parameters + max(4 * shape.parameters, (PARAMETER_BYTES - 4) * trained)
    return held + (LOADED_BYTES if host else 0)


def _longest(mean: float) -> int:
    """Tokens of the longest row of a batch, about: twice the average one."""
    return max(8, round(2 * mean))
