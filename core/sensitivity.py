"""The profile of a model, measured: what cutting and rounding each of its matrices costs the distillation loss.

Curves come from the second-order model (spectra of `weighted_svd`, layer errors of the sweep of `gptq`), which knows
the shape of each curve and not how far it holds: inputs and gradients are not independent, and least of all in the
embedding. So three runs a matrix, with it rounded, cut, and cut and rounded, measure the loss itself, and scale the
curves to it. Errors of rounding are measured on some rows of a matrix at 1, 2 and 4 bits; between these their
logarithm is linear in the bits, above them it falls by 6 dB a bit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

from core.factorize.svd import rank_for
from core.factorize.weighted_svd import Spectrum, WeightedSvd
from core.grid import fit
from core.method import LEVELS
from core.phase import Build
from core.probe import Prober
from core.profile import Curve
from core.quantize.gptq import Gptq
from core.rounding import on_grid
from core.surgeon import Judged, Surgeon, inverse_root

JUDGED_ROWS = 96  # of a matrix, on which errors of rounding are measured
ANCHORS = (1, 2, 4)  # bits
CUT_AT, ROUNDED_AT = 0.4, 3  # share of the entries, bits: where the loss itself is measured
DECIBELS = -2 * math.log(2)  # of a loss for each bit more
TINY = 1e-30
RANKS = 32  # of each curve


def curves(build: Build, factors: WeightedSvd | None, bits: Gptq, probe: Prober) -> tuple[Curve, ...]:
    """Curves of every matrix that `factors` may cut, if it is given, and `bits` may round; vectors are too small."""
    surgeon = Surgeon(build, build.moments(bits.calibration_rows), bits.damping, scope="tensor")
    spectra = factors.spectra(build) if factors else {}
    found = [_curve(build, name, surgeon, spectra.get(name), bits.group, probe) for name in build.compressible()]
    known = {f"{curve.name}.weight" for curve in found}
    for name, parameter in build.model.named_parameters():
        if parameter.dim() == 2 and len(parameter) > 1 and name not in known:
            found.append(_evenly(name, parameter.detach().cpu(), bits.group, probe))
    return tuple(found)


def embedding_curve(build: Build, group: int, calibration_rows: int, damping: float, probe: Prober) -> Curve:
    """Of the word embedding alone, rounded as it is."""
    surgeon = Surgeon(build, build.moments(calibration_rows), damping, scope="tensor")
    return _curve(build, build.family.embedding, surgeon, None, group, probe)


def _curve(build: Build, name: str, surgeon: Surgeon, spectrum: Spectrum | None, group: int, probe: Prober) -> Curve:
    """Of one module's weight."""
    judged = surgeon.judged_in(name)["weight"]
    rows, cols = judged.weight.shape
    path = f"{name}.weight"
    rounded = nearest(judged, group)
    scale = probe({path: rounded.float()}) / max(judged.error(rounded), TINY)
    known = {
        "name": name,
        "rows": rows,
        "cols": cols,
        "kind": "embedding" if name == build.family.embedding else "linear",
        "dense": {bits: scale * loss for bits, loss in _rounding(judged, group).items()},
    }
    if spectrum is None or not float(spectrum.values.max()):
        return Curve.model_validate(known)  # not to be cut, or nothing in it
    energy = spectrum.values.square()
    tails = (energy.sum() - energy.cumsum(0)).clamp(min=0)
    middle = rank_for(rows, cols, CUT_AT) or 1
    left, right = spectrum.factors(middle)
    cut = probe({path: left @ right})
    scale = cut / max(float(tails[middle - 1]), TINY)
    both = surgeon.judged_factors(name, left, right)
    coarse = {part: nearest(each, group) for part, each in both.items()}
    # What rounding adds to the cut; beside a cut that is coarse itself it may seem to add nothing.
    added = max(probe({path: (coarse["left"] @ coarse["right"]).float()}) - cut, TINY)
    predicted = max(sum(each.error(coarse[part]) for part, each in both.items()), TINY)
    held = max(1 - float(tails[middle - 1] / energy.sum()), TINY)
    losses = [_rounding(each, group) for each in both.values()]
    most = rows * cols // (rows + cols)
    ranks = sorted({1, *(max(1, round(most * (place + 1) / RANKS)) for place in range(RANKS))})
    return Curve.model_validate(
        {
            **known,
            "whole": scale * float(energy.sum()),
            "cut": {rank: scale * float(tails[rank - 1]) for rank in ranks},
            "factors": {bits: added / predicted / held * sum(each[bits] for each in losses) for bits in losses[0]},
        }
    )


def nearest(judged: Judged, group: int) -> torch.Tensor:
    """The weight on a coarse grid, rounded to nearest."""
    importance = judged.hessian.diagonal() * judged.rows[:, None]
    grid = fit(judged.weight.float(), importance.float(), None, LEVELS[ROUNDED_AT], group)
    return grid.quick(judged.weight.float()).double()


def _evenly(name: str, weight: torch.Tensor, group: int, probe: Prober) -> Curve:
    """Of a matrix that calibration does not know: errors count alike."""

    def rounded(bits: float) -> torch.Tensor:
        return fit(weight, torch.ones(1), None, LEVELS[bits], group).quick(weight)

    def error(bits: float) -> float:
        return max(float((rounded(bits) - weight).square().sum()), TINY)

    scale = probe({name: rounded(ROUNDED_AT)}) / error(ROUNDED_AT)
    losses = _between({bits: scale * error(bits) for bits in ANCHORS})
    return Curve(name=name, rows=weight.shape[0], cols=weight.shape[1], kind="fixed", dense=losses)


def _rounding(judged: Judged, group: int) -> dict[float, float]:
    """Bits -> layer error of rounding with error feedback; measured on some rows, for all of them."""
    few = slice(None, None, -(-len(judged.weight) // JUDGED_ROWS))
    some = Judged(judged.weight[few], judged.hessian, judged.rows[few])
    every, upper = torch.ones_like(some.weight, dtype=torch.bool), inverse_root(judged.hessian)
    zero = torch.zeros_like(judged.weight)
    times = judged.error(zero) / max(some.error(zero[few]), TINY)
    return _between({bits: times * some.error(on_grid(some, every, LEVELS[bits], group, upper)[1]) for bits in ANCHORS})


def _between(anchors: Mapping[float, float]) -> dict[float, float]:
    """Losses at every number of bits, from those at some of them; never rising with the bits."""
    known = sorted(anchors)
    logs = {bits: math.log(max(anchors[bits], TINY)) for bits in known}
    found: dict[float, float] = {}
    for bits in sorted(LEVELS):
        low = max(one for one in known if one <= bits)
        high = min((one for one in known if one >= bits), default=low)
        slope = (logs[high] - logs[low]) / (high - low) if high > low else DECIBELS
        found[bits] = min([math.exp(logs[low] + (bits - low) * slope), *found.values()])
    return found
