"""What fewer heads and neurons cost the distillation loss, block by block.

The shape of a curve is that of the errors of `core.removal`. How far these hold is measured: at some shares of the
units the loss itself scales them; between two the logarithm of the scale is linear in the share. The last units carry
most, for outliers live in them, so that the shares are closest there.
"""

from __future__ import annotations

import numpy as np
import torch

from core.probe import Loss, Prober
from core.profile import Units
from core.removal import Reader, Removal, columns_of
from core.rounding import put_on_int8
from core.shared import Shared
from core.structure.structured import Structured

GONE = (1 / 4, 1 / 2, 3 / 4, 15 / 16, 1)  # shares of the units at which the loss itself is measured
TINY = 1e-30
POINTS = 64  # of a curve, at most


def unit_curves(shared: Shared, step: Structured, probe: Prober) -> tuple[Units, ...]:
    """Of every block of the teacher whose units the plan may choose."""
    build, timed = shared.student(), {block.what for block in shared.family.timed}
    names = [name for name, block, _ in step.blocks(build) if block.what in timed]
    return tuple(_curve(name, *step.way(build, name), step.align, probe) for name in names)


def _curve(name: str, reader: Reader, way: Removal, align: int, probe: Prober) -> Units:
    every = reader.units
    measured = sorted({max(1, round(share * every)) for share in GONE})
    scales = np.log([_scale(name, reader, way, gone, probe) for gone in measured])
    # So many that a plan takes milliseconds: it tries them all, block by block.
    step = 1 if reader.unit > 1 else align * max(1, -(-every // (align * POINTS)))
    wanted = [*range(0, every, step), every]
    loss, worst = {}, 0.0
    for stays in sorted(wanted, reverse=True):
        gone = every - stays
        scale = np.exp(np.interp(gone, measured, scales))
        worst = max(worst, float(scale) * way.errors[gone])
        loss[stays] = worst
    return Units(reader=name, unit=reader.unit, every=every, loss=loss)


def _scale(name: str, reader: Reader, way: Removal, gone: int, probe: Prober) -> float:
    """The measured loss with so many units gone, in units of the error that was predicted."""
    stays = torch.tensor(sorted(way.order[gone:]), dtype=torch.long)
    columns = columns_of(stays, reader.unit)
    weight, bias = reader.refitted(columns)
    dense = torch.zeros(reader.weight.shape)
    dense[:, columns] = weight
    others = {f"{name}.weight": dense}
    if getattr(probe.model.get_submodule(name), "bias", None) is not None:
        others[f"{name}.bias"] = bias
    return max(probe(others), TINY) / max(way.errors[gone], TINY)


def rounded(shared: Shared, loss: Loss) -> float:
    """The loss of int8 products in every encoder linear of the teacher."""
    build = shared.student()
    put_on_int8(build)
    return max(loss.of(build.model.eval()), 0.0)
