"""Low-rank modules and the surgery that puts them in place of dense ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from core.errors import RecipeInvalid
from core.family import Block
from core.method import place_bits


def on_int8(x: torch.Tensor) -> torch.Tensor:
    """`x` on 256 evenly spaced values that reach over all of it and hold zero: DynamicQuantizeLinear of ONNX.

    The gradient passes straight through.
    """
    with torch.no_grad():
        low, high = (end.clamp(*ends) for end, ends in zip(x.aminmax(), ((None, 0.0), (0.0, None)), strict=True))
        scale = (high - low) / 255
        scale = torch.where(scale > 0, scale, torch.ones_like(scale))
        zero = (-low / scale).round().clamp(0, 255)
        rounded = (((x / scale).round() + zero).clamp(0, 255) - zero) * scale
    return x + (rounded - x).detach() if x.requires_grad else rounded


class DynamicLinear(nn.Linear):
    """A linear whose input is rounded to 8 bits, at the scale of each batch."""

    dynamic = True

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(on_int8(x) if self.dynamic else x, self.weight, self.bias)


class LowRankLinear(nn.Module):
    """y = x (left right + sparse)ᵀ + bias, with left (out, r), right (r, in), sparse (out, in) or none.

    dynamic: the inputs of both products are rounded to 8 bits, at the scale of each batch.
    """

    dynamic = False

    def __init__(
        self, left: torch.Tensor, right: torch.Tensor, sparse: torch.Tensor | None, bias: torch.Tensor | None
    ) -> None:
        super().__init__()
        self.left = nn.Parameter(left)
        self.right = nn.Parameter(right)
        self.sparse = None if sparse is None else nn.Parameter(sparse)
        self.bias = None if bias is None else nn.Parameter(bias.detach().clone())

    @property
    def shape(self) -> tuple[int, int]:
        """(out, in)."""
        return len(self.left), self.right.shape[1]

    def dense(self) -> torch.Tensor:
        """The weight, (out, in)."""
        product = self.left @ self.right
        return product if self.sparse is None else product + self.sparse

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.dynamic:
            return F.linear(on_int8(F.linear(on_int8(x), self.right)), self.left, self.bias)
        if self.sparse is None:
            return F.linear(F.linear(x, self.right), self.left, self.bias)
        # One dense product costs less than a dense and two thin ones; a runtime folds the sum when it loads.
        return F.linear(x, self.dense(), self.bias)


def place_type(rows: int) -> torch.dtype:
    """Of a number that names one of so many rows."""
    return torch.int16 if place_bits(rows) == 16 else torch.int32


class SharedRows(nn.Embedding):
    """Rows of a table (rows, width) with fewer than there are tokens. row: (vocabulary,) which one a token reads."""

    def __init__(self, weight: torch.Tensor, row: torch.Tensor) -> None:
        super().__init__(weight.shape[0], weight.shape[1], _weight=weight)
        self.register_buffer("row", row)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return F.embedding(rows_of(self, ids), self.weight)


def rows_of(module: nn.Module, ids: torch.Tensor) -> torch.Tensor:
    """Numbers of the rows that an embedding reads for these tokens."""
    row = getattr(module, "row", None)
    return ids if row is None else row[ids].long()


class LowRankEmbedding(nn.Module):
    """Rows of left (vocabulary, r) times right (r, width), plus those of sparse (vocabulary, width) or none.

    row: as in `SharedRows`; None where every token has a row of its own.
    """

    row: torch.Tensor | None

    def __init__(
        self,
        left: torch.Tensor,
        right: torch.Tensor,
        sparse: torch.Tensor | None = None,
        row: torch.Tensor | None = None,
    ) -> None:
        super().__init__()
        self.register_buffer("row", row)
        self.left = nn.Parameter(left)
        self.right = nn.Parameter(right)
        self.sparse = None if sparse is None else nn.Parameter(sparse)

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, width)."""
        return len(self.left), self.right.shape[1]

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        places = rows_of(self, ids)
        rows = F.embedding(places, self.left) @ self.right
        return rows if self.sparse is None else rows + F.embedding(places, self.sparse)


LowRank = LowRankLinear | LowRankEmbedding


class SumLinear(nn.Module):
    """y = x (first + second)ᵀ + bias, both (out, in)."""

    def __init__(self, first: torch.Tensor, second: torch.Tensor, bias: torch.Tensor | None) -> None:
        super().__init__()
        self.first, self.second = nn.Parameter(first), nn.Parameter(second)
        self.bias = None if bias is None else nn.Parameter(bias.detach().clone())

    @property
    def shape(self) -> tuple[int, int]:
        """(out, in)."""
        return self.first.shape[0], self.first.shape[1]

    def dense(self) -> torch.Tensor:
        """The weight, (out, in)."""
        return self.first + self.second

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # One product, not two; a runtime folds the sum when it loads.
        return F.linear(x, self.dense(), self.bias)


class SumEmbedding(nn.Module):
    """Rows of first plus rows of second, both (rows, width). row: as in `SharedRows`, or None."""

    row: torch.Tensor | None

    def __init__(self, first: torch.Tensor, second: torch.Tensor, row: torch.Tensor | None = None) -> None:
        super().__init__()
        self.register_buffer("row", row)
        self.first, self.second = nn.Parameter(first), nn.Parameter(second)

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, width)."""
        return self.first.shape[0], self.first.shape[1]

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        places = rows_of(self, ids)
        return F.embedding(places, self.first) + F.embedding(places, self.second)


Sum = SumLinear | SumEmbedding


def split_in_two(model: nn.Module, name: str, first: torch.Tensor, second: torch.Tensor) -> None:
    """Replace the linear or embedding called `name` by one whose weight is a sum of two. A linear keeps its bias."""
    old = model.get_submodule(name)
    if isinstance(old, nn.Embedding):
        put_module(model, name, SumEmbedding(first, second, getattr(old, "row", None)))
    elif isinstance(old, nn.Linear) and not getattr(old, "dynamic", False):
        put_module(model, name, SumLinear(first, second, old.bias))
    else:
        raise RecipeInvalid(f"{name} is a {type(old).__name__}: only a dense linear or embedding is split in two")


def round_inputs(model: nn.Module, name: str) -> None:
    """Have the linear called `name`, dense or two factors, take inputs of 8 bits. Its parameters stay the objects."""
    old = model.get_submodule(name)
    if isinstance(old, LowRankLinear):
        old.dynamic = True
        return
    if not isinstance(old, nn.Linear):
        raise RecipeInvalid(f"{name} is a {type(old).__name__}: only a linear takes inputs of 8 bits")
    new = DynamicLinear(old.in_features, old.out_features, old.bias is not None, device="meta")
    new.weight, new.bias = old.weight, old.bias
    put_module(model, name, new)


def rounding_inputs(model: nn.Module) -> dict[str, nn.Module]:
    """The linears that take inputs of 8 bits, by name."""
    return {name: module for name, module in model.named_modules() if getattr(module, "dynamic", False)}


@contextmanager
def plain_inputs(model: nn.Module) -> Iterator[None]:
    """Every linear takes its inputs as they come, for as long as this lasts."""
    rounding: list[Any] = list(rounding_inputs(model).values())
    for module in rounding:
        module.dynamic = False
    try:
        yield
    finally:
        for module in rounding:
            module.dynamic = True


def factorize(
    model: nn.Module, name: str, left: torch.Tensor, right: torch.Tensor, sparse: torch.Tensor | None = None
) -> None:
    """Replace the linear or embedding called `name` by two factors, and a third part added to their product if given.

    A linear keeps its bias.
    """
    old = model.get_submodule(name)
    here = next(old.parameters(), torch.empty(0)).device  # factors are computed on the CPU, in float64
    left, right = left.to(here), right.to(here)
    sparse = None if sparse is None else sparse.to(here)
    new: LowRank
    if isinstance(old, nn.Embedding):
        new = LowRankEmbedding(left, right, sparse, getattr(old, "row", None))
    elif isinstance(old, nn.Linear):
        new = LowRankLinear(left, right, sparse, old.bias)
    else:
        raise RecipeInvalid(f"{name} is a {type(old).__name__}: only a dense linear or embedding can be factorized")
    put_module(model, name, new)


@torch.no_grad()
def share_rows(model: nn.Module, name: str, kept: torch.Tensor, row: torch.Tensor) -> None:
    """Leave the rows `kept` of the embedding called `name`; `row` (vocabulary,) says which of them a token reads."""
    table = model.get_submodule(name).get_parameter("weight")
    put_module(model, name, SharedRows(table[kept.to(table.device)].contiguous(), row.to(table.device)))


class OnlyBias(nn.Module):
    """What is left of a linear that reads nothing: its bias, at every place; zeros (..., out) where it has none."""

    def __init__(self, bias: torch.Tensor | None, out: int) -> None:
        super().__init__()
        self.out = out
        self.bias = None if bias is None else nn.Parameter(bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x (..., any): only its shape is used."""
        shape = (*x.shape[:-1], self.out)
        return x.new_zeros(shape) if self.bias is None else self.bias.expand(shape)


class HandedOn(nn.Module):
    """In the place of a block without units: hands its input on, to what is left of its reader where it holds one."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for reader in self.children():
            x = reader(x)
        return x


class NoAttention(HandedOn):
    """In the place of self-attention without heads."""

    def forward(self, hidden_states: torch.Tensor, *_: Any, **__: Any) -> tuple[torch.Tensor, None]:  # type: ignore[override]
        return super().forward(hidden_states), None


@torch.no_grad()
def narrow(model: nn.Module, block: Block, columns: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> None:
    """Leave the units of `block` whose outputs are `columns` (sorted) of its reader; none skips the block.

    Args:
        weight: the reader's weight from now on, (out, columns).
        bias: the reader's bias from now on, (out,); not asked for where it has none.
    """
    reader = model.get_submodule(block.reader)
    here = next(reader.parameters())
    weight, columns = weight.to(here), columns.to(here.device)
    kept = None if getattr(reader, "bias", None) is None else bias.to(here)
    if not len(columns):
        skipped = NoAttention() if block.what == "heads" else HandedOn()
        if block.part:
            skipped.add_module(block.part, OnlyBias(kept, len(weight)))
        else:
            put_module(model, block.reader, OnlyBias(kept, len(weight)))
        put_module(model, block.inside, skipped)
        return
    put_module(model, block.reader, _linear(weight, kept))
    for name in block.writers:
        old = model.get_submodule(name)
        if not isinstance(old, nn.Linear):
            raise RecipeInvalid(f"{name} is a {type(old).__name__}: only a dense linear loses rows")
        rows = written(block, columns, old.out_features // block.stacked)
        put_module(model, name, _linear(old.weight[rows], None if old.bias is None else old.bias[rows]))
    if block.count:
        inside: Any = model.get_submodule(block.inside)
        setattr(inside, block.count, len(columns) // inside.attention_head_size)


def written(block: Block, columns: torch.Tensor, every: int) -> torch.Tensor:
    """The rows of a writer that give `columns` of the reader, of which there are `every`."""
    return torch.cat([columns + every * place for place in range(block.stacked)])


def _linear(weight: torch.Tensor, bias: torch.Tensor | None) -> nn.Linear:
    made = nn.Linear(weight.shape[1], weight.shape[0], bias is not None, device="meta")
    made.weight = nn.Parameter(weight.contiguous())
    if bias is not None:
        made.bias = nn.Parameter(bias.contiguous())
    return made


def put_module(model: nn.Module, name: str, new: nn.Module) -> None:
    """`new` in the place of the module called `name`, training or not as that was."""
    model.set_submodule(name, new.train(model.get_submodule(name).training))
