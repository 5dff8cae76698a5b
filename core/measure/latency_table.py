"""What heads and neurons cost in milliseconds on this machine, from timings of whole models of several widths.

All layers have the same widths in one timing, for one layer's share would drown in noise. A model of h heads and n
neurons a layer takes T(h, n) = base + layers x (heads(h) + neurons(n)): a line of heads and a line of neurons that
cross in the middle, and both ends, give the parts by least squares, in fp32 and in int8. Each is timed in turns with
the teacher and counted in units of it, so that a machine that slows down for a moment slows both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx

from core.export.narrow_graph import narrowed
from core.family import family_named
from core.measure.latency_pairs import REFERENCE, in_turns
from core.measure.machine import hardware
from core.measure.timed import TOKENS
from core.plan import ModelShape
from core.profile import PRODUCTS, LatencyTable, Products

PAIRS, AT_ONCE = 15, 4
UNDISTURBED = 0.2  # share of the runs of a model that nothing else on the machine is taken to have slowed down
HEADS, NEURONS = (0, 1 / 12, 1 / 3, 2 / 3, 1), (0, 1 / 16, 1 / 4, 1 / 2, 1)  # shares that are timed
MIDDLE = (2 / 3, 1 / 2)
Widths = tuple[int, int]  # units a layer: heads, neurons
Variant = tuple[Products, Mapping[str, int]]  # reader -> units


def latency_table(teacher: Path, shape: ModelShape, *, threads: int = 1, pairs: int = PAIRS) -> LatencyTable:
    """Milliseconds at batch 1 x 128 tokens.

    Args:
        teacher: its model.onnx, as `core.export.onnx` writes it.
        threads: of the runtime.

    Raises:
        VerificationFailed: a model does not load or run.
    """
    most = {kind: _most(shape, kind) for kind in ("heads", "neurons")}
    heads = sorted({_units(most["heads"], share, 1) for share in HEADS})
    neurons = sorted({_units(most["neurons"], share, 32) for share in NEURONS})
    middle = _units(most["heads"], MIDDLE[0], 1), _units(most["neurons"], MIDDLE[1], 32)
    ends = (0, 0), (most["heads"], most["neurons"])
    widths = sorted({*((count, middle[1]) for count in heads), *((middle[0], count) for count in neurons), *ends})
    asked = [(products, each) for products in PRODUCTS for each in widths]
    variants = [_everywhere(shape, *each) for each in asked]
    teacher_ms, found = timed(teacher, shape, variants, threads=threads, pairs=pairs)
    shares = dict(zip(asked, found, strict=True))
    base: dict[Products, float] = {}
    lines: dict[str, dict[Products, dict[int, float]]] = {"heads": {}, "neurons": {}}
    for products in PRODUCTS:
        ms = {each: teacher_ms * shares[products, each] for each in widths}
        base[products], lines["heads"][products], lines["neurons"][products] = _parts(ms, shape.layers)
    return LatencyTable(
        batch=REFERENCE[0],
        tokens=REFERENCE[1],
        threads=threads,
        machine=machine(threads=threads),
        teacher_ms=teacher_ms,
        base=base,
        heads=lines["heads"],
        neurons=lines["neurons"],
    )


def machine(*, threads: int = 1) -> str:
    """What a table holds for: processor, instruction sets, threads and runtime."""
    here = hardware(threads=threads)
    return f"{here.machine}; {' '.join(here.cpu_flags)}; {threads} threads; onnxruntime {here.versions['onnxruntime']}"


def _parts(ms: Mapping[Widths, float], layers: int) -> tuple[float, dict[int, float], dict[int, float]]:
    """What nothing, so many heads and so many neurons a layer take: least squares of relative errors, never falling."""
    kinds = [sorted({each[place] for each in ms} - {0}) for place in (0, 1)]
    unknown = [(place, count) for place in (0, 1) for count in kinds[place]]
    # Columns: nothing, then each width of a layer.
    seen = np.array([[1.0, *(layers * (each[place] == count) for place, count in unknown)] for each in ms])
    taken = np.array([*ms.values()])
    found = np.linalg.lstsq(seen / taken[:, None], np.ones(len(taken)), rcond=None)[0].clip(min=0).tolist()
    parts = dict(zip(unknown, found[1:], strict=True))
    heads, neurons = (
        dict(zip([0, *kinds[place]], np.maximum.accumulate([0, *(parts[place, one] for one in kinds[place])]).tolist(),
                 strict=True))
        for place in (0, 1)
    )  # fmt: skip
    return found[0], heads, neurons


def _most(shape: ModelShape, kind: str) -> int:
    """Units of a whole layer; 0 where no variant has fewer, so that they are a part of what nothing takes."""
    blocks = [block for block in family_named(shape.family, shape.task).timed if block.what == kind]
    found = (one.cols // one.unit for one in shape.matrices if any(block.read_by(one.name) for block in blocks))
    return next(found, 0)


def _units(most: int, share: float, align: int) -> int:
    return min(most, max(1, round(share * most / align)) * align if share else 0)


def timed(
    teacher: Path, shape: ModelShape, variants: Sequence[Variant], *, threads: int = 1, pairs: int = PAIRS
) -> tuple[float, list[float]]:
    """The teacher's milliseconds, and what each variant takes in units of them."""
    shares: list[float] = []
    slow: list[float] = []
    proto = onnx.load(teacher)
    with TemporaryDirectory(dir=teacher.parent) as folder:
        for start in range(0, len(variants), AT_ONCE):  # all at once would fill a disk
            some = variants[start : start + AT_ONCE]
            paths = [Path(folder) / f"{place}.onnx" for place in range(len(some))]
            for path, variant in zip(paths, some, strict=True):
                path.write_bytes(_graph(proto, shape, variant).SerializeToString())
            found = in_turns(
                teacher, paths, [REFERENCE], always=1, vocabulary=shape.vocabulary, threads=threads, pairs=pairs
            )
            for place in range(len(some)):
                seconds = found[place, *REFERENCE]
                fast = np.quantile(seconds, UNDISTURBED, axis=0)
                shares.append(float(fast[1] / fast[0]))
                slow += seconds[:, 0].tolist()
    return 1e3 * float(np.quantile(slow, UNDISTURBED)), shares


def _everywhere(shape: ModelShape, products: Products, widths: Widths) -> Variant:
    """The same widths in every layer."""
    count = dict(zip(("heads", "neurons"), widths, strict=True))
    timed = family_named(shape.family, shape.task).timed
    found = (block.read_by(matrix.name) for matrix in shape.matrices for block in timed)
    return products, {block.reader: count[block.what] for block in found if block is not None}


def _graph(proto: onnx.ModelProto, shape: ModelShape, variant: Variant) -> onnx.ModelProto:
    products, units = variant
    family = family_named(shape.family, shape.task)
    span = {matrix.name: matrix.unit for matrix in shape.matrices}
    left = {block: count * span[name] for name, count in units.items() if (block := family.block(name))}
    return narrowed(proto, left, family, TOKENS, int8=products == "int8")
