"""Loads the model in this folder. Needs torch, transformers and safetensors; nothing of the service that made it.

    from load import load
    model = load("path/to/this/folder")

structure.json says which layers are two factors (`low_rank`), which of those have a sparse part added to the product
(`plus_sparse`), which weights are one bit an entry plus the survivors
(`packed`, entry i in bit i % 8 of byte i // 8) and which names share one weight (`tied`). Anything missing,
unexpected or of another size is an error: a weight is never made up.
"""

import json
from pathlib import Path

import torch
import transformers
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn


class LowRankLinear(nn.Module):
    """y = x (left right + sparse)ᵀ + bias: left (out, rank), right (rank, in), sparse (out, in) or none."""

    def __init__(self, old: nn.Linear, rank: int, plus_sparse: bool) -> None:
        super().__init__()
        self.left = nn.Parameter(torch.empty(old.out_features, rank))
        self.right = nn.Parameter(torch.empty(rank, old.in_features))
        self.sparse = nn.Parameter(torch.empty_like(old.weight)) if plus_sparse else None
        self.bias = old.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.sparse is None:
            return nn.functional.linear(nn.functional.linear(x, self.right), self.left, self.bias)
        return nn.functional.linear(x, self.left @ self.right + self.sparse, self.bias)


class LowRankEmbedding(nn.Module):
    """Rows of left (vocabulary, rank) times right (rank, width), plus those of sparse (vocabulary, width) or none."""

    def __init__(self, old: nn.Embedding, rank: int, plus_sparse: bool) -> None:
        super().__init__()
        self.left = nn.Parameter(torch.empty(old.num_embeddings, rank))
        self.right = nn.Parameter(torch.empty(rank, old.embedding_dim))
        self.sparse = nn.Parameter(torch.empty_like(old.weight)) if plus_sparse else None

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        rows = nn.functional.embedding(ids, self.left) @ self.right
        return rows if self.sparse is None else rows + nn.functional.embedding(ids, self.sparse)


def unpack(name: str, bitmap: torch.Tensor, values: torch.Tensor, shape: list[int]) -> torch.Tensor:
    """The dense tensor of `shape`, zero where the bitmap has no bit."""
    bits = ((bitmap[:, None] >> torch.arange(8, dtype=torch.uint8)) & 1).flatten().bool()
    dense = torch.zeros(shape)
    if bitmap.numel() != -(-dense.numel() // 8) or int(bits[: dense.numel()].sum()) != values.numel():
        bad = f"a bitmap of {bitmap.numel()} bytes and {int(bits.sum())} bits set, {values.numel()} survivors"
        raise ValueError(f"{name}: {bad} do not fit the shape {shape}")
    dense.view(-1)[bits[: dense.numel()]] = values
    return dense


def load(folder: str | Path) -> nn.Module:
    """The model in evaluation mode, fp32, on the CPU. Raises with the name of whatever does not fit."""
    folder = Path(folder)
    structure = json.loads((folder / "structure.json").read_text(encoding="utf-8"))
    if structure["format"] != 1:
        raise ValueError(f"structure.json: format {structure['format']}; this file reads 1")
    config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    model: nn.Module = getattr(transformers, structure["architecture"])(config).float().eval()
    for name, rank in structure["low_rank"].items():
        old, plus_sparse = model.get_submodule(name), name in structure["plus_sparse"]
        if isinstance(old, nn.Embedding):
            model.set_submodule(name, LowRankEmbedding(old, rank, plus_sparse))
        elif isinstance(old, nn.Linear):
            model.set_submodule(name, LowRankLinear(old, rank, plus_sparse))
        else:
            raise TypeError(f"structure.json: {name} is neither a linear nor an embedding")
    try:
        stored = load_file(folder / "weights.safetensors")
    except SafetensorError as error:
        raise ValueError(f"weights.safetensors cannot be read: {error}") from None
    packed, tied = structure["packed"], structure["tied"]
    expected = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    wanted = expected.keys() - packed.keys() - tied.keys()
    wanted |= {f"{name}.{part}" for name in packed for part in ("bitmap", "values")}
    if stored.keys() != wanted:
        missing, unexpected = sorted(wanted - stored.keys()), sorted(stored.keys() - wanted)
        raise ValueError(f"weights.safetensors: missing {missing}, unexpected {unexpected}")
    state = {name: tensor for name, tensor in stored.items() if name in expected}
    for name, shape in packed.items():
        state[name] = unpack(name, stored[f"{name}.bitmap"], stored[f"{name}.values"], shape)
    state |= {name: state[other] for name, other in tied.items()}
    for name, tensor in state.items():
        if list(tensor.shape) != expected.get(name) or tensor.dtype != torch.float32:
            raise ValueError(f"{name}: {list(tensor.shape)} {tensor.dtype} stored, {expected.get(name)} fp32 needed")
    model.load_state_dict(state)
    return model
