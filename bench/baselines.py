"""What a user gets in seconds, without us: the files that every plot shows beside ours."""

from __future__ import annotations

from pathlib import Path

import onnxruntime
from onnxruntime.quantization import QuantType, quantize_dynamic

from core.data import Rows
from core.export import artifact
from core.metrics import agreement
from core.model import load
from core.verify import logits


def int8(teacher: Path, select: Rows, scratch: Path) -> tuple[Path, Path]:
    """ONNX Runtime's dynamic int8 of the exported teacher, per tensor or per channel, whichever follows it on `select`.

    Returns:
        Two folders with a `model.onnx`: the teacher's, and the quantized one.
    """
    loaded = load(teacher)
    exported = scratch / "teacher"
    artifact.write(loaded.model, {}, teacher, exported, torch_form=False)

    def answers(folder: Path) -> object:
        return logits("onnx", folder, select.inputs(), max_length=loaded.max_tokens, threads=1).logits

    theirs = answers(exported)
    # The quantizer takes weights that are constants; folding what the exporter left makes them so.
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(scratch / "folded.onnx")
    onnxruntime.InferenceSession(exported / "model.onnx", options, providers=["CPUExecutionProvider"])
    found: dict[float, Path] = {}
    for per_channel in (False, True):
        folder = scratch / f"int8-{per_channel}"
        artifact.write(loaded.model, {}, teacher, folder, torch_form=False)
        files = scratch / "folded.onnx", folder / "model.onnx"
        quantize_dynamic(*files, per_channel=per_channel, weight_type=QuantType.QInt8)
        found.setdefault(agreement(answers(folder), theirs), folder)  # type: ignore[arg-type]
    return exported, found[max(found)]
