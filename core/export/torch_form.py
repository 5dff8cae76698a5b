"""The PyTorch form: `pytorch/`, loadable with torch, transformers and safetensors alone.

Where nothing is factorized or packed it is a stock Transformers directory. Else: config.json, `weights.safetensors`
(packed), `structure.json` and `load.py`, the file `core/export/load.py` itself.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from core.export import tokenizer
from core.export.weights import Stored, collect
from core.surgery import LowRankEmbedding, LowRankLinear

FORMAT = 1
LOADER = Path(__file__).with_name("load.py")


def write(model: nn.Module, masks: Mapping[str, torch.Tensor], tokenizer_dir: Path, folder: Path) -> None:
    """Write the model into `folder` (made here). Raises ExportFailed where a mask does not fit."""
    folder.mkdir(parents=True)
    stored = collect(model, masks)
    low_rank = {
        name: module.left.shape[1]
        for name, module in model.named_modules()
        if isinstance(module, LowRankLinear | LowRankEmbedding)
    }
    plus_sparse = [name for name in low_rank if model.get_submodule(name).sparse is not None]
    if low_rank or stored.packed:
        _write_packed(model, stored, low_rank, plus_sparse, folder)
    else:
        transformer: Any = model
        transformer.save_pretrained(folder)
    tokenizer.copy(tokenizer_dir, folder)


def _write_packed(model: Any, stored: Stored, low_rank: dict[str, int], plus_sparse: list[str], folder: Path) -> None:
    structure = {
        "format": FORMAT,
        "architecture": type(model).__name__,
        "low_rank": low_rank,
        "plus_sparse": plus_sparse,
        "packed": {name: list(packed.shape) for name, packed in stored.packed.items()},
        "tied": stored.tied,
    }
    tensors = dict(stored.dense)
    for name, packed in stored.packed.items():
        tensors[f"{name}.bitmap"] = torch.from_numpy(packed.bitmap)
        tensors[f"{name}.values"] = torch.from_numpy(packed.values)
    save_file(tensors, folder / "weights.safetensors")
    (folder / "structure.json").write_text(json.dumps(structure, indent=1) + "\n", encoding="utf-8")
    model.config.save_pretrained(folder)
    shutil.copyfile(LOADER, folder / LOADER.name)
