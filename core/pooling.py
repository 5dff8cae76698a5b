"""How the states of an encoder become one embedding: settings of Sentence Transformers, and a class that does it."""

from __future__ import annotations

import functools
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from core.errors import ModelInvalid, ModelUnsupported

if TYPE_CHECKING:
    import torch

MODES = ("mean", "cls")
MOST_BYTES = 1 << 20
FILE = "pooling.json"  # of pytorch/ in an artifact
MODULES, SETTINGS = "modules.json", "pooling_config.json"  # as uploaded: the latter is 1_Pooling/config.json


@dataclass(frozen=True)
class Pooling:
    """mode: the mean over real tokens, or the first token. normalize: to length 1."""

    mode: Literal["mean", "cls"] = "mean"
    normalize: bool = False

    def write(self, folder: Path) -> None:
        (folder / FILE).write_text(json.dumps(asdict(self)) + "\n", encoding="utf-8")

    def of(self, states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """(rows, width) of states (rows, tokens, width) under a mask (rows, tokens)."""
        if self.mode == "cls":
            found = states[:, 0]
        else:
            weights = mask.unsqueeze(-1).to(states.dtype)
            found = (states * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1e-9)
        return found / found.norm(dim=1, keepdim=True).clamp(min=1e-12) if self.normalize else found


def pooling_of(folder: Path) -> Pooling:
    """That of an uploaded model; the mean where it says nothing.

    Raises:
        ModelInvalid: a file that is not JSON of its form.
        ModelUnsupported: another way of pooling, or a layer behind it.
    """
    given = _read(folder / SETTINGS, {})
    modes = [name for name in ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens",
                               "lasttoken") if given.get(f"pooling_mode_{name}")]  # fmt: skip
    mode: Any = given.get("pooling_mode") or "+".join(modes) or "mean"
    mode = {"cls_token": "cls", "mean_tokens": "mean"}.get(str(mode), str(mode))
    if mode not in MODES:
        raise ModelUnsupported(f"{SETTINGS}: pooling {str(mode)[:60]!r}; legal: {' or '.join(MODES)}", param="/model")
    kinds = [
        str(one.get("type", "")).rpartition(".")[2] for one in _read(folder / MODULES, []) if isinstance(one, dict)
    ]
    if strange := [kind for kind in kinds if kind not in ("Transformer", "Pooling", "Normalize")]:
        raise ModelUnsupported(
            f"{MODULES}: {strange[0][:60]!r} is not supported; legal: Transformer, Pooling, Normalize", param="/model"
        )
    return Pooling(mode, "Normalize" in kinds)


def _read(path: Path, absent: Any) -> Any:
    if not path.is_file():
        return absent
    if path.stat().st_size > MOST_BYTES:
        raise ModelInvalid(f"{path.name} is over {MOST_BYTES} bytes", param="/model")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (RecursionError, ValueError) as error:
        raise ModelInvalid(f"{path.name} is not JSON: {str(error)[:200]}", param="/model") from None
    if type(found) is not type(absent):
        what = "list" if isinstance(absent, list) else "object"
        raise ModelInvalid(f"{path.name} is not a JSON {what}", param="/model")
    return found


@functools.cache
def pooled(encoder: type, pooling: Pooling) -> type:
    """A subclass of an encoder of Transformers, called as it is, whose output has `sentence_embedding` beside states.

    Without the pooler that some encoders have: nothing reads it.
    """
    import inspect  # noqa: PLC0415 - beside what needs torch

    import torch  # noqa: PLC0415 - keeps this module light
    from transformers.utils.generic import ModelOutput  # noqa: PLC0415

    extra = {"add_pooling_layer": False} if "add_pooling_layer" in inspect.signature(encoder).parameters else {}

    class Embedding(encoder):  # type: ignore[misc]
        def __init__(self, config: Any, *arguments: Any, **named: Any) -> None:
            super().__init__(config, *arguments, **{**named, **extra})
            self.pooling = pooling

        @functools.wraps(encoder.forward)  # type: ignore[attr-defined]
        def forward(self, *arguments: Any, **named: Any) -> Any:
            out = super().forward(*arguments, **named)
            states = out.last_hidden_state
            mask = named.get("attention_mask")
            mask = torch.ones(states.shape[:2], device=states.device) if mask is None else mask
            made: Any = ModelOutput
            return made({"sentence_embedding": pooling.of(states, mask), **out})

    Embedding.__name__ = Embedding.__qualname__ = encoder.__name__
    return Embedding
