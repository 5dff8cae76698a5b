"""The PyTorch form: `pytorch/`, loadable with torch, transformers and safetensors alone.

Where nothing is factorized, pruned or quantised it is a stock Transformers directory. Else: config.json,
`weights.safetensors` (packed), `structure.json` and `load.py`, the file `core/export/load.py` itself.
"""

from __future__ import annotations

import json
import shutil
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from core.codes import A_BYTE, DIGITS
from core.export import tokenizer
from core.export.weights import Stored, collect
from core.family import FAMILIES
from core.grid import Values
from core.mixed import Mixed, MixedEmbedding, MixedLinear
from core.pooling import Pooling
from core.surgery import (
    HandedOn,
    LowRankEmbedding,
    LowRankLinear,
    NoAttention,
    OnlyBias,
    SharedRows,
    SumEmbedding,
    SumLinear,
    rounding_inputs,
)

FORMAT, WEIGHTS = 10, "weights.safetensors"
LOADER = Path(__file__).with_name("load.py")


def write(
    model: nn.Module,
    masks: Mapping[str, torch.Tensor],
    tokenizer_dir: Path,
    folder: Path,
    *,
    values: Mapping[str, Values] | None = None,
) -> None:
    """Write the model into `folder` (made here). Raises ExportFailed where a mask or grid does not fit."""
    folder.mkdir(parents=True)
    stored = collect(model, masks, values)
    low_rank = {
        name: module.left.shape[1]
        for name, module in model.named_modules()
        if isinstance(module, LowRankLinear | LowRankEmbedding)
    }
    plus_sparse = [name for name in low_rank if model.get_submodule(name).sparse is not None]
    shapes = _shapes(model) | {
        "sum": [name for name, module in model.named_modules() if isinstance(module, SumLinear | SumEmbedding)],
        "mixed": {
            name: {part: len(parameter) for part, parameter in module.named_parameters() if parameter.dim() == 2}
            for name, module in model.named_modules()
            if isinstance(module, Mixed)
        },
    }
    if low_rank or any(shapes.values()) or stored.arrays():
        _write_packed(model, stored, {"low_rank": low_rank, "plus_sparse": plus_sparse, **shapes}, folder)
    else:
        transformer: Any = model
        transformer.save_pretrained(folder)
    if isinstance(pooling := getattr(model, "pooling", None), Pooling):
        pooling.write(folder)
    tokenizer.copy(tokenizer_dir, folder)


def _shapes(model: Any) -> dict[str, Any]:
    """What of `model` is not of the shape that its config says: linears (out, in) and modules that are skipped."""
    with torch.device("meta"):
        whole = type(model)(model.config)
    narrow = {}
    for name, module in whole.named_modules():
        if isinstance(module, nn.Linear) and (found := _shape(model, name)) not in (None, [*module.weight.shape]):
            narrow[name] = found
    kinds = {"no_attention": NoAttention, "handed_on": HandedOn, "only_bias": OnlyBias}
    skipped = {
        kind: [name for name, module in model.named_modules() if type(module) is made] for kind, made in kinds.items()
    }
    return {"narrow": narrow, "rows": _rows(model), "heads": _heads(model, whole), **skipped}


def _heads(model: nn.Module, whole: nn.Module) -> dict[str, dict[str, int]]:
    """Attributes of attention modules that count heads, where fewer are left: module -> attribute -> count."""
    counts = {block.count for family in FAMILIES.values() for block in family.blocks if block.count}
    theirs, found = dict(whole.named_modules()), {}
    for name, module in model.named_modules():
        changed = {
            count: int(vars(module)[count])
            for count in counts
            if name in theirs and count in vars(module) and vars(module)[count] != vars(theirs[name]).get(count)
        }
        if changed:
            found[name] = changed
    return found


def _rows(model: nn.Module) -> dict[str, int]:
    """How many rows the embeddings have whose tokens share them."""
    found = {}
    for name, module in model.named_modules():
        if isinstance(module, LowRankEmbedding | SharedRows | SumEmbedding) and module.row is not None:
            found[name] = len(next(module.parameters(recurse=False)))
        if isinstance(module, MixedEmbedding) and module.shape[0] != len(module.row):
            found[name] = module.shape[0]
    return found


def _shape(model: nn.Module, name: str) -> list[int] | None:
    """(out, in) of a linear, whatever it consists of; None where it is skipped."""
    try:
        module = model.get_submodule(name)
    except AttributeError:
        return None  # within a module that is skipped
    if isinstance(module, LowRankLinear | SumLinear | MixedLinear):
        return [*module.shape]
    return [*module.weight.shape] if isinstance(module, nn.Linear) else None


def _write_packed(model: Any, stored: Stored, shapes: dict[str, Any], folder: Path) -> None:
    structure: dict[str, Any] = {
        "format": FORMAT,
        "architecture": type(model).__name__,
        "pooled": isinstance(getattr(model, "pooling", None), Pooling),
        **shapes,
        "half": sorted(stored.half),
        "packed": {name: list(packed.shape) for name, packed in stored.packed.items()},
        "coded": {
            name: {
                "shape": coded.shape,
                "group": coded.group,
                "digits": [(base, A_BYTE[base]) for base in DIGITS[len(coded.levels)]],
                "masked": coded.bitmap is not None,
                "tabled": coded.table is not None,
            }
            for name, coded in stored.coded.items()
        },
        "whole": sorted(stored.whole),
        "dynamic": sorted(rounding_inputs(model)),
        "tied": stored.tied,
    }
    tensors = stored.dense | {name: torch.from_numpy(array) for name, array in stored.arrays().items()}
    save_file(tensors, folder / WEIGHTS)
    structure["crc32"] = zlib.crc32((folder / WEIGHTS).read_bytes())
    (folder / "structure.json").write_text(json.dumps(structure, indent=1) + "\n", encoding="utf-8")
    model.config.save_pretrained(folder)
    shutil.copyfile(LOADER, folder / LOADER.name)
