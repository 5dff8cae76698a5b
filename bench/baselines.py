"""What a user gets in seconds, without us: the files that every plot shows beside ours."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import onnxruntime
from onnxruntime.quantization import QuantType, quantize_dynamic

from bench.made import Made, Material
from core.export import tokenizer
from core.metrics import agreement
from core.verify import logits

GROUP = 32  # weights that share a scale


def _folded(given: Material) -> Path:
    """The exported teacher with its constants folded: quantizers take weights that are constants."""
    path = given.scratch / "folded.onnx"
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(path)
    onnxruntime.InferenceSession(given.exported / "model.onnx", options, providers=["CPUExecutionProvider"])
    return path


def int8(given: Material, folder: Path) -> Made:
    """ONNX Runtime's dynamic int8, per tensor or per channel, whichever follows the teacher closer on `select`."""

    def answers(of: Path) -> object:
        rows = given.select_rows.inputs()
        return logits("onnx", of, rows, max_length=given.loaded.max_tokens, threads=1).logits

    found: dict[float, Path] = {}
    folded, theirs = _folded(given), answers(given.exported)
    for per_channel in (False, True):
        made = folder / f"channel-{per_channel}"
        made.mkdir(parents=True)
        tokenizer.copy(given.folder, made)
        quantize_dynamic(folded, made / "model.onnx", per_channel=per_channel, weight_type=QuantType.QInt8)
        found.setdefault(agreement(answers(made), theirs), made)  # type: ignore[arg-type]
    return Made(found[max(found)], given.parameters)


def int4(given: Material, folder: Path) -> Made:
    """Round to nearest in groups of 32, four bits, embedding included, by ONNX Runtime's own quantizer."""
    from onnxruntime.quantization.matmul_nbits_quantizer import (
        DefaultWeightOnlyQuantConfig,
        MatMulNBitsQuantizer,
        QuantFormat,
    )

    settings = DefaultWeightOnlyQuantConfig(
        block_size=GROUP,
        is_symmetric=True,
        bits=4,
        quant_format=QuantFormat.QOperator,
        op_types_to_quantize=("MatMul", "Gather"),
        quant_axes=(("MatMul", 0), ("Gather", 1)),
    )
    quantizer = MatMulNBitsQuantizer(onnx.load(_folded(given)), algo_config=settings)
    quantizer.process()
    folder.mkdir(parents=True)
    tokenizer.copy(given.folder, folder)
    quantizer.model.save_model_to_file(str(folder / "model.onnx"))
    return Made(folder, given.parameters)


BASELINES: dict[str, Callable[[Material, Path], Made]] = {"int8": int8, "int4": int4}
