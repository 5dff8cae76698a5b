"""What of a model is stored: each weight once, on its grid where it has one, packed where its mask makes it smaller."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from core.errors import ExportFailed
from core.export.code import Coded, code, decode
from core.export.pack import Packed, pack, pays, unpack
from core.grid import Grid, Half, Values
from core.surgery import rounding_inputs


@dataclass(frozen=True)
class Whole:
    """A weight that is multiplied as it is stored: numbers (rows, columns) int8, scale (rows, 1) fp16."""

    numbers: npt.NDArray[np.int8]
    scale: npt.NDArray[np.float16]

    @property
    def size_bytes(self) -> int:
        return self.numbers.nbytes + self.scale.nbytes

    def decode(self) -> npt.NDArray[np.float32]:
        found: npt.NDArray[np.float32] = self.numbers.astype(np.float32) * self.scale.astype(np.float32)
        return found


@dataclass(frozen=True)
class Stored:
    """Weights under their names in the model. Every name of the model is in exactly one of the six."""

    dense: dict[str, torch.Tensor]
    half: dict[str, torch.Tensor]  # fp16
    packed: dict[str, Packed]
    coded: dict[str, Coded]
    whole: dict[str, Whole]
    tied: dict[str, str]  # another name of the same storage -> the name that is stored
    integer: set[str] = field(default_factory=set)  # of the coded: multiplied as whole numbers, with inputs of 8 bits

    @property
    def size_bytes(self) -> int:
        """Bytes of the weights in a file, without names and framing: what `core.method.Tensor.size_bytes` plans."""
        return sum(self.sizes().values())

    def sizes(self) -> dict[str, int]:
        """The same of each weight, by name."""
        plain = {name: tensor.nbytes for name, tensor in (self.dense | self.half).items()}
        parts: dict[str, Packed | Coded | Whole] = {**self.packed, **self.coded, **self.whole}
        return plain | {name: part.size_bytes for name, part in parts.items()}

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Everything that a file holds beside the dense weights, by name."""
        found: dict[str, npt.NDArray[Any]] = {f"{name}.half": half.numpy() for name, half in self.half.items()}
        for name, packed in self.packed.items():
            found |= {f"{name}.bitmap": packed.bitmap, f"{name}.values": packed.values}
        for name, coded in self.coded.items():
            found |= {f"{name}.{part}": array for part, array in coded.parts().items()}
        for name, whole in self.whole.items():
            found |= {f"{name}.int8": whole.numbers, f"{name}.scale": whole.scale}
        return found

    def rebuilt(self) -> Iterator[tuple[str, npt.NDArray[Any]]]:
        """The dense fp32 form of every weight that is stored otherwise."""
        yield from ((name, half.float().numpy()) for name, half in self.half.items())
        yield from ((name, unpack(packed)) for name, packed in self.packed.items())
        yield from ((name, decode(coded)) for name, coded in self.coded.items())
        yield from ((name, whole.decode()) for name, whole in self.whole.items())


def collect(model: nn.Module, masks: Mapping[str, torch.Tensor], values: Mapping[str, Values] | None = None) -> Stored:
    """Parameters and persistent buffers of `model`, brought to the CPU.

    Args:
        masks: parameter name -> boolean tensor of its shape; False entries are zero.
        values: parameter name -> what its entries may be; any fp32 number where it is not named.

    Raises:
        ExportFailed: a mask or grid without its parameter or of another shape, an entry that is not what they say, or
            a weight that is not fp32.
    """
    state, values = model.state_dict(keep_vars=True), values or {}
    if unknown := (masks.keys() | values.keys()) - state.keys():
        raise ExportFailed(f"masks or grids of parameters that the model does not have: {', '.join(sorted(unknown))}")
    tied = tied_in(model)
    by_storage = {tied.get(name, name): mask for name, mask in masks.items()}
    values_of = {tied.get(name, name): value for name, value in values.items()}
    stored = Stored({}, {}, {}, {}, {}, tied)
    rounding = rounding_inputs(model)
    for name, tensor in state.items():
        if name in tied:
            continue
        if tensor.is_floating_point() and tensor.dtype != torch.float32:
            raise ExportFailed(f"{name} is {tensor.dtype}; weights are exported from fp32")
        here = tensor.detach().cpu()
        mask, value = by_storage.get(name), values_of.get(name)
        try:
            if isinstance(value, Grid) and value.int8:
                stored.whole[name] = _whole(here, value)
            elif isinstance(value, Grid):
                stored.coded[name] = _coded(here, value, mask)
                if name.rpartition(".")[0] in rounding:
                    stored.integer.add(name)
            elif isinstance(value, Half):
                stored.half[name] = _half(here)
            elif mask is not None and pays(here.numel(), int(mask.sum()), 8 * here.element_size()):
                stored.packed[name] = pack(here.numpy(), mask.cpu().numpy())
            else:
                stored.dense[name] = here.contiguous()
        except ValueError as error:
            raise ExportFailed(f"{name}: {error}") from None
    return stored


def tied_in(model: nn.Module) -> dict[str, str]:
    """Another name of the same storage -> the name that is stored."""
    tied: dict[str, str] = {}
    first: dict[object, str] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        place: object = (tensor.data_ptr(), tensor.shape, tensor.stride()) if tensor.numel() else name
        if first.setdefault(place, name) != name:
            tied[name] = first[place]
    return tied


def _coded(weight: torch.Tensor, grid: Grid, mask: torch.Tensor | None) -> Coded:
    grid = Grid(grid.levels.cpu(), grid.scales.cpu(), grid.group)
    kept = None if mask is None else mask.cpu().numpy()
    chosen = grid.codes(weight).numpy()
    found = code(chosen, grid.levels.numpy(), grid.scales.numpy(), grid.group, kept)
    if wrong := int((decode(found) != weight.numpy()).sum()):
        raise ValueError(f"{wrong} of {weight.numel()} entries are not on the grid")
    return found


def _whole(weight: torch.Tensor, grid: Grid) -> Whole:
    scale = grid.scales.cpu()
    found = Whole((weight / scale).round().to(torch.int8).numpy(), scale.half().numpy())
    if wrong := int((found.decode() != weight.numpy()).sum()):
        raise ValueError(f"{wrong} of {weight.numel()} entries are not whole multiples of their row's scale")
    return found


def _half(weight: torch.Tensor) -> torch.Tensor:
    if wrong := int((weight.half().float() != weight).sum()):
        raise ValueError(f"{wrong} of {weight.numel()} entries are not fp16 numbers")
    return weight.half()
