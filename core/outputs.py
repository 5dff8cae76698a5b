"""Formats that a job may ask for beside `model.onnx` and `pytorch/`: their names, where they lie, what runs them.

They are copies for other runtimes. Targets, ratios and milliseconds stay those of `model.onnx`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal

from core.errors import OutputUnavailable

Output = Literal["onnx-fp16", "onnx-int8", "openvino", "torch-export"]


@dataclass(frozen=True)
class Format:
    """path: the file to open, relative to the artifact; `verify.py` and every table of forms call it by that.

    needs: distributions that load and run it, with what those require. writes: modules that writing it takes. extra:
    of ladapress-server, that brings these where `worker` does not.
    """

    path: str
    needs: tuple[str, ...]
    writes: tuple[str, ...] = ()
    extra: str | None = None

    def size(self, bytes_on_disk: Mapping[str, int]) -> int:
        """Bytes of the file and of what lies beside it under the same name."""
        stem = self.path.rpartition(".")[0]
        return sum(size for name, size in bytes_on_disk.items() if name.rpartition(".")[0] == stem)


FORMATS: dict[Output, Format] = {
    "onnx-fp16": Format("outputs/model.fp16.onnx", ("onnxruntime", "numpy", "tokenizers")),
    "onnx-int8": Format("outputs/model.int8.onnx", ("onnxruntime", "numpy", "tokenizers")),
    "openvino": Format(
        "outputs/openvino/model.xml", ("openvino", "numpy", "tokenizers"), writes=("openvino",), extra="openvino"
    ),
    "torch-export": Format("outputs/model.pt2", ("torch", "numpy", "tokenizers")),
}


def check_outputs(outputs: Sequence[Output]) -> None:
    """Raises OutputUnavailable where this machine lacks what writes one of them."""
    for place, name in enumerate(outputs):
        if absent := [module for module in FORMATS[name].writes if find_spec(module) is None]:
            raise OutputUnavailable(
                f"outputs {name!r} needs {', '.join(absent)}, which this worker does not have: install "
                f"ladapress-server[{FORMATS[name].extra}] on every worker, or leave {name!r} out",
                param=f"/outputs/{place}",
            )
