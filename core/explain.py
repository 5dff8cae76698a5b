"""Where a student's bytes went, and which of its parts does harm."""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Iterator

from torch import nn

from core.batches import predict
from core.export.weights import Stored, collect
from core.phase import Build
from core.plan import ModelShape
from core.report import Damage, Layer
from core.tasks import answers_of

ROWS = 128  # of `select` that damage is measured on, in as many passes as there are parts


def layers(build: Build, shape: ModelShape) -> tuple[Layer, ...]:
    """One row for each matrix that a method may change, in the teacher's order."""
    stored = collect(build.model, build.masks, build.values)
    sizes = stored.sizes()
    return tuple(_layer(build, stored, sizes, matrix.name, matrix.rows, matrix.cols) for matrix in shape.matrices)


def _layer(build: Build, stored: Stored, sizes: dict[str, int], name: str, rows: int, cols: int) -> Layer:
    module = dict(build.model.named_modules()).get(name, nn.Identity())  # of a block that is skipped, writers are gone
    parts = {f"{name}.{part}": p for part, p in module.named_parameters(recurse=False) if p.dim() == 2}
    entries = sum(p.numel() for p in parts.values())
    masked = sum(int((~build.masks[part]).sum()) for part in parts if part in build.masks)
    size = sum(sizes[stored.tied.get(part, part)] for part in parts)
    left, weight = parts.get(f"{name}.left"), parts.get(f"{name}.weight")
    whole: tuple[int, int] = getattr(module, "shape", (0, 0)) if weight is None else (weight.shape[0], weight.shape[1])
    return Layer(
        name=name,
        shape=(rows, cols),
        left=whole,
        rank=None if left is None else left.shape[1],
        entries=entries,
        nonzero=entries - masked,
        bits=8 * size / entries if entries else 0.0,
        bytes=size,
        teacher_bytes=4 * rows * cols,
    )


def damage(build: Build) -> tuple[Damage, ...]:
    """Each part of the student alone in a teacher that is whole otherwise, the worst first.

    A part is what shapes allow to be exchanged: the embedding, or the heads or neurons of a layer with the linear that
    reads them. Parts that were trained together make up for one another, so what they do alone adds up to more than
    the student's own distance; their order is what this says.
    """
    shared = build.shared
    if shared.select is None:
        return ()
    sample = shared.select.sample(ROWS, shared.seed)
    whole, read = predict(shared.teacher, sample, shared.device), answers_of(sample.task, sample.rows, sample.places)
    student = copy.deepcopy(build.model).to(shared.device).eval()
    mixed = copy.deepcopy(shared.teacher)
    found = []
    for part, names in _parts(build):
        known = {name: mixed.get_submodule(name) for name in names}
        for name in names:
            mixed.set_submodule(name, student.get_submodule(name))
        logits = predict(mixed, sample, shared.device)
        found.append(Damage(part=part, kl=read.divergence(logits, whole), agreement=read.agreement(logits, whole)))
        for name, module in known.items():
            mixed.set_submodule(name, module)
    return tuple(sorted(found, key=lambda one: -one.kl if math.isfinite(one.kl) else -math.inf))


def _parts(build: Build) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Names of parts, and of the modules that each consists of."""
    family, teacher = build.family, build.shared.teacher
    yield family.embedding, (family.embedding,)
    for name in family.compressible(teacher):
        for block in (family.attention, family.feed_forward):
            if (found := block.read_by(name)) is not None:
                yield name, (found.inside, found.reader)


def weights_sha256(model: nn.Module) -> str:
    """Of all that is saved of it, by name: name, type, shape and bytes, little-endian."""
    found = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        found.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()
