"""Loads the model in this folder. Needs torch, transformers and safetensors; nothing of the service that made it.

    from load import load
    model = load("path/to/this/folder")

structure.json says which linears have other shapes than config.json gives them (`narrow`), which embeddings have fewer
rows than there are tokens, and how many (`rows`; `row` says which one a token reads), of which linears only the bias is
left (`only_bias`), which modules are skipped (`no_attention`, `handed_on`), how many heads attention has where it asks
(`heads`), which layers are two factors (`low_rank`), which of those have a sparse part added to the product
(`plus_sparse`), which weights are one bit an entry plus the survivors (`packed`, entry i in bit i % 8 of byte i // 8),
which are fp16 (`half`), codes of a few levels (`coded`) or int8 with a scale a row (`whole`), which linears round their
inputs to 8 bits (`dynamic`), which weights are a sum of two (`sum`) or rows sorted by bits (`mixed`), and which names
share one weight (`tied`).
Anything missing, unexpected, of another size or checksum than was written is an error: a weight is never made up.
"""

import inspect
import json
import zlib
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn


def on_int8(x: torch.Tensor) -> torch.Tensor:
    """x on 256 evenly spaced values that reach over all of it and hold zero, as DynamicQuantizeLinear of ONNX."""
    low, high = x.min().clamp(max=0), x.max().clamp(min=0)
    scale = (high - low) / 255
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    zero = (-low / scale).round().clamp(0, 255)
    return (((x / scale).round() + zero).clamp(0, 255) - zero) * scale


class DynamicLinear(nn.Linear):
    """A linear whose input is rounded to 8 bits."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(on_int8(x))


class OnlyBias(nn.Module):
    """A linear that reads nothing: its bias, at every place; zeros where it has none."""

    def __init__(self, old: nn.Linear) -> None:
        super().__init__()
        self.out, self.bias = old.out_features, old.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shape = (*x.shape[:-1], self.out)
        return x.new_zeros(shape) if self.bias is None else self.bias.expand(shape)


class HandedOn(nn.Module):
    """A block without neurons: hands its input on, to what is left of its reader where it holds one."""

    def __init__(self, reader: str, only_bias: nn.Module | None) -> None:
        super().__init__()
        if only_bias is not None:
            self.add_module(reader, only_bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for reader in self.children():
            x = reader(x)
        return x


class NoAttention(HandedOn):
    """Self-attention without heads: the same."""

    def forward(self, hidden_states: torch.Tensor, *_: Any, **__: Any) -> tuple[torch.Tensor, None]:  # type: ignore[override]
        return super().forward(hidden_states), None


class LowRankLinear(nn.Module):
    """y = x (left right + sparse)ᵀ + bias: left (out, rank), right (rank, in), sparse (out, in) or none."""

    dynamic = False

    def __init__(self, old: nn.Linear, rank: int, plus_sparse: bool) -> None:
        super().__init__()
        self.left = nn.Parameter(torch.empty(old.out_features, rank))
        self.right = nn.Parameter(torch.empty(rank, old.in_features))
        self.sparse = nn.Parameter(torch.empty_like(old.weight)) if plus_sparse else None
        self.bias = old.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.dynamic:
            return nn.functional.linear(on_int8(nn.functional.linear(on_int8(x), self.right)), self.left, self.bias)
        if self.sparse is None:
            return nn.functional.linear(nn.functional.linear(x, self.right), self.left, self.bias)
        return nn.functional.linear(x, self.left @ self.right + self.sparse, self.bias)


class SharedRows(nn.Embedding):
    """A table with fewer rows than there are tokens: row (vocabulary,) says which one a token reads."""

    row: torch.Tensor

    def __init__(self, old: nn.Embedding, rows: int) -> None:
        super().__init__(rows, old.embedding_dim)
        whole = torch.int16 if rows <= 2**15 else torch.int32
        self.register_buffer("row", torch.empty(old.num_embeddings, dtype=whole))

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return super().forward(self.row[ids].long())


class LowRankEmbedding(nn.Module):
    """Rows of left (vocabulary, rank) times right (rank, width), plus those of sparse (vocabulary, width) or none.

    row: as in SharedRows, or none.
    """

    row: torch.Tensor | None

    def __init__(self, old: nn.Embedding, rank: int, plus_sparse: bool) -> None:
        super().__init__()
        self.register_buffer("row", getattr(old, "row", None))
        self.left = nn.Parameter(torch.empty(old.num_embeddings, rank))
        self.right = nn.Parameter(torch.empty(rank, old.embedding_dim))
        self.sparse = nn.Parameter(torch.empty_like(old.weight)) if plus_sparse else None

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        ids = ids if self.row is None else self.row[ids].long()
        rows = nn.functional.embedding(ids, self.left) @ self.right
        return rows if self.sparse is None else rows + nn.functional.embedding(ids, self.sparse)


class SumLinear(nn.Module):
    """y = x (first + second)ᵀ + bias."""

    def __init__(self, old: nn.Linear) -> None:
        super().__init__()
        self.first, self.second = old.weight, nn.Parameter(torch.empty_like(old.weight))
        self.bias = old.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(x, self.first + self.second, self.bias)


class SumEmbedding(nn.Module):
    """Rows of first plus rows of second. row: as in SharedRows, or none."""

    row: torch.Tensor | None

    def __init__(self, old: nn.Embedding) -> None:
        super().__init__()
        self.register_buffer("row", getattr(old, "row", None))
        self.first, self.second = old.weight, nn.Parameter(torch.empty_like(old.weight))

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        ids = ids if self.row is None else self.row[ids].long()
        return nn.functional.embedding(ids, self.first) + nn.functional.embedding(ids, self.second)


class Mixed(nn.Module):
    """Rows of a weight in matrices of their own; row says which row of these, stacked, stands where, zeros the last."""

    row: torch.Tensor

    def __init__(self, row: torch.Tensor, counts: dict[str, int], columns: int, bias: nn.Parameter | None) -> None:
        super().__init__()
        self.register_buffer("row", row)
        self.parts, self.columns, self.bias = list(counts), columns, bias
        for part, rows in counts.items():
            self.register_parameter(part, nn.Parameter(torch.empty(rows, columns)))

    def stacked(self) -> torch.Tensor:
        return torch.cat([*map(self.get_parameter, self.parts), torch.zeros(1, self.columns)])


class MixedLinear(Mixed):
    """y = x weightᵀ + bias."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(x, self.stacked()[self.row.long()], self.bias)


class MixedEmbedding(Mixed):
    """A token reads one row."""

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return nn.functional.embedding(self.row[ids].long(), self.stacked())


def unpack(name: str, bitmap: torch.Tensor, values: torch.Tensor, shape: list[int]) -> torch.Tensor:
    """The dense tensor of `shape`, zero where the bitmap has no bit."""
    bits = ((bitmap[:, None] >> torch.arange(8, dtype=torch.uint8)) & 1).flatten().bool()
    dense = torch.zeros(shape)
    if bitmap.numel() != -(-dense.numel() // 8) or int(bits[: dense.numel()].sum()) != values.numel():
        bad = f"a bitmap of {bitmap.numel()} bytes and {int(bits.sum())} bits set, {values.numel()} survivors"
        raise ValueError(f"{name}: {bad} do not fit the shape {shape}")
    dense.view(-1)[bits[: dense.numel()]] = values
    return dense


def decode(name: str, coded: dict[str, Any], stored: dict[str, torch.Tensor]) -> torch.Tensor:
    """levels[code] x scale of the group of columns; zero where there is a bitmap that has no bit.

    Scales are numbers, or bytes that name one of a table each. A code is made of digits, lowest first; `digits` holds
    the base of each and how many a byte holds, first one lowest.
    """
    shape, group = coded["shape"], coded["group"]
    levels, scales = stored[f"{name}.levels"].float(), stored[f"{name}.scales"]
    scales = (stored[f"{name}.table"][scales.long()] if coded["tabled"] else scales).float()
    kept, bitmap = shape[0] * shape[1], stored.get(f"{name}.bitmap")
    if bitmap is not None:
        kept = sum(int(((bitmap >> bit) & 1).sum()) for bit in range(8))
    codes, weight = torch.zeros(kept, dtype=torch.long), 1
    for place, (base, count) in enumerate(coded["digits"]):
        stored_bytes = stored[f"{name}.codes{place}"]
        if len(stored_bytes) != -(-kept // count):
            raise ValueError(f"{name}: {len(stored_bytes)} bytes of codes for {kept} entries")
        table = torch.arange(256)[:, None] // base ** torch.arange(count) % base
        codes += weight * table[stored_bytes.long()].flatten()[:kept]
        weight *= base
    values = levels[codes]
    if bitmap is not None:
        values = unpack(name, bitmap, values, shape)
    return values.view(shape) * scales.repeat_interleave(group, dim=1)[:, : shape[1]]


def rebuild(structure: dict[str, Any], stored: dict[str, torch.Tensor], names: set[str]) -> dict[str, torch.Tensor]:
    """The fp32 weight of every name of the model."""
    half, packed, coded, whole, tied = (structure[kind] for kind in ("half", "packed", "coded", "whole", "tied"))
    wanted = names - {*half, *packed, *coded, *whole, *tied}
    wanted |= {f"{name}.half" for name in half}
    wanted |= {f"{name}.{part}" for name in whole for part in ("int8", "scale")}
    wanted |= {f"{name}.{part}" for name in packed for part in ("bitmap", "values")}
    for name, one in coded.items():
        parts = ["levels", "scales", *(f"codes{place}" for place in range(len(one["digits"])))]
        parts += [part for part, there in (("bitmap", one["masked"]), ("table", one["tabled"])) if there]
        wanted |= {f"{name}.{part}" for part in parts}
    if stored.keys() != wanted:
        missing, unexpected = sorted(wanted - stored.keys()), sorted(stored.keys() - wanted)
        raise ValueError(f"weights.safetensors: missing {missing}, unexpected {unexpected}")
    state = {name: tensor for name, tensor in stored.items() if name in names}
    state |= {name: stored[f"{name}.half"].float() for name in half}
    for name, shape in packed.items():
        state[name] = unpack(name, stored[f"{name}.bitmap"], stored[f"{name}.values"], shape)
    state |= {name: decode(name, one, stored) for name, one in coded.items()}
    state |= {name: stored[f"{name}.int8"].float() * stored[f"{name}.scale"].float() for name in whole}
    return state | {name: state[other] for name, other in tied.items()}


def weighted(model: nn.Module, name: str) -> Any:
    """The linear or embedding called `name`."""
    old = model.get_submodule(name)
    if not isinstance(old, nn.Embedding | nn.Linear):
        raise TypeError(f"structure.json: {name} is neither a linear nor an embedding")
    return old


def put_factors(model: nn.Module, name: str, rank: int, plus_sparse: bool) -> None:
    """Two factors in the place of a module."""
    old = weighted(model, name)
    made = LowRankEmbedding if isinstance(old, nn.Embedding) else LowRankLinear
    model.set_submodule(name, made(old, rank, plus_sparse))


def put_sum(model: nn.Module, name: str) -> None:
    """A sum of two in the place of a module's weight."""
    old = weighted(model, name)
    model.set_submodule(name, SumEmbedding(old) if isinstance(old, nn.Embedding) else SumLinear(old))


def put_mixed(model: nn.Module, name: str, counts: dict[str, int]) -> None:
    """Rows sorted by bits in the place of a module's weight."""
    old = weighted(model, name)
    row = torch.empty(len(old.weight), dtype=torch.int16 if len(old.weight) <= 2**15 else torch.int32)
    if isinstance(old, nn.Embedding):
        model.set_submodule(name, MixedEmbedding(getattr(old, "row", row), counts, old.embedding_dim, None))
    else:
        model.set_submodule(name, MixedLinear(row, counts, old.in_features, old.bias))


def round_inputs(model: nn.Module, name: str) -> None:
    """Have a linear, dense or two factors, take inputs of 8 bits."""
    old = model.get_submodule(name)
    if isinstance(old, LowRankLinear):
        old.dynamic = True
    elif isinstance(old, nn.Linear):
        model.set_submodule(name, DynamicLinear(old.in_features, old.out_features, old.bias is not None))
    else:
        raise TypeError(f"structure.json: {name} is not a linear")


def reshape(model: nn.Module, structure: dict[str, Any]) -> None:
    """Linears of the shapes that are stored; skipped modules out of the way."""
    for name, (rows, columns) in structure["narrow"].items():
        old = model.get_submodule(name)
        model.set_submodule(name, nn.Linear(columns, rows, old.bias is not None))
    for name, rows in structure["rows"].items():
        table: Any = model.get_submodule(name)
        model.set_submodule(name, SharedRows(table, rows))
    readers = {}
    for name in structure["only_bias"]:
        linear: Any = model.get_submodule(name)
        readers[name] = OnlyBias(linear)
        model.set_submodule(name, readers[name])
    for kind, made in (("no_attention", NoAttention), ("handed_on", HandedOn)):
        for name in structure[kind]:
            reader = next((one for one in readers if one.startswith(f"{name}.")), "")
            model.set_submodule(name, made(reader.removeprefix(f"{name}."), readers.get(reader)))
    for name, counts in structure["heads"].items():
        for attribute, count in counts.items():
            setattr(model.get_submodule(name), attribute, count)


def load(folder: str | Path) -> nn.Module:
    """The model in evaluation mode, fp32, on the CPU. Raises with the name of whatever does not fit."""
    folder = Path(folder)
    structure = json.loads((folder / "structure.json").read_text(encoding="utf-8"))
    if structure["format"] != 10:
        raise ValueError(f"structure.json: format {structure['format']}; this file reads 10")
    if zlib.crc32((folder / "weights.safetensors").read_bytes()) != structure["crc32"]:
        raise ValueError("weights.safetensors is not the file that was written: its checksum differs")
    config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    kind = getattr(transformers, structure["architecture"])
    # Where embeddings are pooled (pooling.json), the pooler that some encoders have is not there: nothing reads it.
    pooler = structure["pooled"] and "add_pooling_layer" in inspect.signature(kind.__init__).parameters
    model: nn.Module = (kind(config, add_pooling_layer=False) if pooler else kind(config)).float().eval()
    reshape(model, structure)
    for name, rank in structure["low_rank"].items():
        put_factors(model, name, rank, name in structure["plus_sparse"])
    for name in structure["sum"]:
        put_sum(model, name)
    for name, counts in structure["mixed"].items():
        put_mixed(model, name, counts)
    for name in structure["dynamic"]:
        round_inputs(model, name)
    try:
        stored = load_file(folder / "weights.safetensors")
    except SafetensorError as error:
        raise ValueError(f"weights.safetensors cannot be read: {error}") from None
    expected = {name: f"{list(tensor.shape)} {tensor.dtype}" for name, tensor in model.state_dict().items()}
    state = rebuild(structure, stored, set(expected))
    for name, tensor in state.items():
        if (found := f"{list(tensor.shape)} {tensor.dtype}") != expected.get(name):
            raise ValueError(f"{name}: {found} stored, {expected.get(name)} needed")
    model.load_state_dict(state)
    return model
