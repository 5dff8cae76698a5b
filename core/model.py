"""Loading an uploaded model: checked first, then by Transformers with every door closed, then compared key by key."""

from __future__ import annotations

import inspect
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn
from transformers import AutoConfig

from core.errors import ModelInvalid
from core.family import Family, family_of
from core.inspect import is_unread
from core.pooling import pooled, pooling_of
from core.task import Task
from core.upload import check_folder, read_config

SEGMENTS = "token_type_ids"
INPUTS = ("input_ids", "attention_mask", SEGMENTS)


@dataclass(frozen=True)
class Loaded:
    """A model in memory with what its config says of it."""

    model: nn.Module
    family: Family
    task: Task
    labels: dict[int, str]
    max_tokens: int
    pad_id: int
    inputs: tuple[str, ...]

    @property
    def encoding(self) -> dict[str, Any]:
        """How text is brought to it: arguments of `core.batches.Split.encode`."""
        return {
            "max_tokens": self.max_tokens,
            "pad_id": self.pad_id,
            "segments": SEGMENTS in self.inputs,
            "task": self.task.name,
        }


def load(folder: Path, asked: str | None = None) -> Loaded:
    """Load a Transformers directory in fp32, evaluation mode, dropout off.

    Args:
        asked: the task that it has to be of; by its config where None.

    Raises:
        ModelUnsafe, ModelUnsupported, ModelInvalid: what is wrong with which file.
    """
    check_folder(folder)
    raw = read_config(folder)
    family, task = family_of(raw, asked)
    kind: Any = getattr(transformers, raw["architectures"][0])
    if task.name == "sentence_embedding":
        kind = pooled(kind, pooling_of(folder))
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        model, info = kind.from_pretrained(
            folder,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
        )
    except (AttributeError, KeyError, OSError, RuntimeError, TypeError, ValueError) as error:
        raise ModelInvalid(f"Transformers cannot load the model: {str(error)[:500]}", param="/model") from error
    wrong = {kind: sorted(map(str, info[kind])) for kind in ("missing_keys", "unexpected_keys", "mismatched_keys")}
    # Some exporters store the position index buffer; it carries no weight.
    wrong["unexpected_keys"] = [
        key for key in wrong["unexpected_keys"] if not key.endswith("position_ids") and not is_unread(key, task)
    ]
    if any(wrong.values()):
        # Transformers would go on with random weights in place of missing ones.
        raise ModelInvalid(f"the weights do not match config.json: {json.dumps(wrong)[:500]}", param="/model")
    bad = [name for name, tensor in model.state_dict().items() if not torch.isfinite(tensor).all()]
    if bad:
        raise ModelInvalid(f"weights hold NaN or infinity: {', '.join(bad[:5])}", param="/model")
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0  # distillation compares two deterministic functions
    return Loaded(
        model=model.eval(),
        family=family,
        task=task,
        labels={} if task.labels == "none" else {int(i): str(name) for i, name in config.id2label.items()},
        max_tokens=family.max_tokens(config.to_dict()),
        pad_id=int(config.pad_token_id or 0),
        inputs=inputs_of(model),
    )


def inputs_of(model: nn.Module) -> tuple[str, ...]:
    """Names of the inputs that matter to `model`: segment ids only where it tells segments apart."""
    takes = inspect.signature(model.forward).parameters
    segments = getattr(model.config, "type_vocab_size", 0) > 1 and SEGMENTS in takes
    return INPUTS if segments else INPUTS[:2]
