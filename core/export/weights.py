"""What of a model is stored: each weight once, packed where its mask makes it smaller."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from core.errors import ExportFailed
from core.export.pack import Packed, pack, pays


@dataclass(frozen=True)
class Stored:
    """Weights under their names in the model. Every name of the model is in exactly one of the three."""

    dense: dict[str, torch.Tensor]
    packed: dict[str, Packed]
    tied: dict[str, str]  # another name of the same storage -> the name that is stored

    @property
    def size_bytes(self) -> int:
        """Bytes of the weights in a file, without names and framing: what `core.method.Tensor.size_bytes` plans."""
        return sum(t.nbytes for t in self.dense.values()) + sum(p.size_bytes for p in self.packed.values())


def collect(model: nn.Module, masks: Mapping[str, torch.Tensor]) -> Stored:
    """Parameters and persistent buffers of `model`, brought to the CPU.

    Raises:
        ExportFailed: a mask without its parameter or of another shape, a masked entry that is not zero, or a
            weight that is not fp32.
    """
    state = model.state_dict(keep_vars=True)
    if unknown := masks.keys() - state.keys():
        raise ExportFailed(f"masks for parameters that the model does not have: {', '.join(sorted(unknown))}")
    tied: dict[str, str] = {}
    first: dict[object, str] = {}
    for name, tensor in state.items():
        place: object = (tensor.data_ptr(), tensor.shape, tensor.stride()) if tensor.numel() else name
        if first.setdefault(place, name) != name:
            tied[name] = first[place]
    by_storage = {tied.get(name, name): mask for name, mask in masks.items()}
    dense: dict[str, torch.Tensor] = {}
    packed: dict[str, Packed] = {}
    for name, tensor in state.items():
        if name in tied:
            continue
        if tensor.is_floating_point() and tensor.dtype != torch.float32:
            raise ExportFailed(f"{name} is {tensor.dtype}; weights are exported from fp32")
        here = tensor.detach().cpu()
        mask = by_storage.get(name)
        if mask is None or not pays(here.numel(), int(mask.sum()), 8 * here.element_size()):
            dense[name] = here.contiguous()
            continue
        try:
            packed[name] = pack(here.numpy(), mask.cpu().numpy())
        except ValueError as error:
            raise ExportFailed(f"{name}: {error}") from None
    return Stored(dense, packed, tied)
