"""`python -m bench.sparse_bits --data F --teacher F`: what a matrix loses at equal bytes, with a mask and without.

Every encoder linear at some bits a weight: dense codes, or a bitmap (one bit an entry) and codes of survivors, which
OBS chose and the sweep repairs and rounds in one pass. Layer errors relative to the matrix set to zero, median over
matrices, in the metric of `gptq` and `obs`; no training. One JSON file in `bench/results/formats/`.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch

from bench import rows
from bench.sweep import Bench
from core.codes import bits as bits_of
from core.masking import largest
from core.method import LEVELS
from core.rounding import on_grid
from core.surgeon import Judged, Surgeon, inverse_root

PATH = rows.RESULTS / "formats" / "sparse_bits.json"
DENSITIES = (0.25, 0.375, 0.5, 0.625, 0.75)


def losses(judged: Judged) -> dict[float, dict[str, float]]:
    """Bits a weight -> way to store -> relative layer error; scales, which all ways pay alike, are not counted."""
    upper = inverse_root(judged.hessian)
    scores = judged.scores(upper).float()
    every = torch.ones_like(judged.weight, dtype=torch.bool)
    whole = judged.error(torch.zeros_like(judged.weight))
    found: dict[float, dict[str, float]] = {}
    for bits, levels in LEVELS.items():
        if bits <= 4:
            stored = found.setdefault(round(bits_of(levels), 2), {})
            stored["dense"] = judged.error(on_grid(judged, every, levels, 64, upper)[1]) / whole
    for density in DENSITIES:
        mask = largest(scores, every, round(density * scores.numel()))
        for levels in LEVELS.values():
            if (stored_bits := 1 + density * bits_of(levels)) <= 4:
                error = judged.error(on_grid(judged, mask, levels, 64, upper)[1]) / whole
                found.setdefault(round(stored_bits, 2), {})[f"{density:g} kept, {bits_of(levels):.3g} bits"] = error
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.sparse_bits", description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--teacher", type=Path, required=True)
    given = parser.parse_args()
    torch.set_num_threads(1)
    with TemporaryDirectory() as folder:
        bench = Bench(given.data, given.teacher, 16_000, 0, Path(folder))
        build = bench.shared.student()
        surgeon = Surgeon(build, bench.shared.moments(1024), 1e-2, scope="tensor")
        names = [name for name in build.compressible() if name != build.family.embedding]
        each = [losses(surgeon.judged_in(name)["weight"]) for name in names]
    medians = {bits: {way: median(one[bits][way] for one in each) for way in each[0][bits]} for bits in sorted(each[0])}
    rows.write(PATH, {"git_sha": rows.git_sha(), "task": given.data.name, "matrices": len(names), "median": medians})
    for bits, ways in medians.items():
        print(f"{bits:.2f} bits: " + "; ".join(f"{way} {loss:.5f}" for way, loss in ways.items()))


if __name__ == "__main__":
    main()
