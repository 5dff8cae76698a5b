"""Both delivered forms of every family are the model: dense, and pruned, narrowed and in low bits."""

import copy
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

from core.batches import Batch
from core.export import onnx as onnx_form
from core.export import torch_form
from core.export.narrow_graph import narrowed
from core.family import FAMILIES
from core.measure.latency_table import latency_table
from core.model import Loaded
from core.phase import Build
from core.plan import ModelShape
from core.recipe import Recipe
from core.shared import Shared
from core.structure.structured import Structured
from core.surgery import narrow
from tests.families import models
from tests.families.cells import CELLS

CLOSE = 1e-5
STOCK = {"", "ai.onnx", "unpack"}  # operators of the standard, and functions of them that the file itself defines
Run = Callable[[Batch], torch.Tensor]


@pytest.fixture(scope="session", params=[name for name in models.NAMES if name not in ("xlm-roberta", "camembert")])
def name(request: pytest.FixtureRequest) -> str:
    """XLM-RoBERTa and CamemBERT have RoBERTa's modules: whole jobs of them run in test_jobs.py."""
    return str(request.param)


def runner(model: onnx.ModelProto) -> Run:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]

    def run(batch: Batch) -> torch.Tensor:
        every = {"token_type_ids": torch.zeros_like(batch["input_ids"]), **batch}
        return torch.from_numpy(session.run(["logits"], {one: every[one].numpy() for one in names})[0])

    return run


@pytest.fixture(scope="session")
def exported(name: str, loaded: Loaded, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("graph") / "model.onnx"
    onnx_form.write(loaded.model, {}, path)
    return path


def test_the_file_is_the_model_at_every_length_and_padding_is_honoured(
    name: str, loaded: Loaded, exported: Path
) -> None:
    """Traced with 2 x 16 tokens; run on one token, and on as many as the model takes."""
    proto = onnx.load(exported)
    assert {entry.domain for entry in proto.opset_import} <= STOCK
    assert not any("Sequence" in node.op_type for node in proto.graph.node)
    assert tuple(value.name for value in proto.graph.input) == loaded.inputs
    run = runner(proto)
    for lengths in ((1,), (23, 9, 31, 2), (loaded.max_tokens, 5)):
        batch = models.rows(name, lengths)
        found = run(batch)
        torch.testing.assert_close(found, models.logits(loaded.model, batch), rtol=0, atol=CLOSE)
        for row, length in enumerate(lengths):
            alone = {part: tensor[row : row + 1, :length] for part, tensor in batch.items()}
            torch.testing.assert_close(run(alone)[0], found[row], rtol=0, atol=CLOSE)


def cut(shared: Shared, shape: ModelShape) -> Build:
    """Half of the units, one block of layer 1 gone, half of the entries, four bits."""
    gone = CELLS[shape.family].readers["neurons"]
    each = {one.name: one.cols // one.unit // 2 for one in shape.matrices if one.unit} | {gone: 0}
    build = shared.student()
    steps = [
        {"method": "structured", "each": each, "calibration_rows": 64},
        {"method": "obs", "keep": 0.5, "when": "once", "calibration_rows": 64},
        {"method": "gptq", "bits": 4, "group": 16, "calibration_rows": 64},
    ]
    for step in Recipe.model_validate({"steps": steps}).steps:
        list(step.compile(build))
    build.model.eval()
    return build


def test_a_compressed_student_is_what_both_forms_hold(
    name: str, shared: Shared, shape: ModelShape, folder: Path, tmp_path: Path
) -> None:
    build, batch = cut(shared, shape), models.rows(name)
    expected = models.logits(build.model, batch)
    torch_form.write(build.model, build.masks, folder, tmp_path / "pytorch", values=build.values)
    back = loader(tmp_path / "pytorch")
    assert torch.equal(models.logits(back, batch), expected)
    ours, theirs = build.model.state_dict(), back.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    onnx_form.write(build.model, build.masks, tmp_path / "model.onnx", values=build.values)
    torch.testing.assert_close(runner(onnx.load(tmp_path / "model.onnx"))(batch), expected, rtol=0, atol=CLOSE)


def loader(place: Path) -> Any:
    spec = importlib.util.spec_from_file_location("load", place / "load.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.load(place)


@pytest.mark.parametrize("what", ["heads", "neurons"])
def test_blocks_without_units_come_back(name: str, what: str, shared: Shared, folder: Path, tmp_path: Path) -> None:
    if what not in CELLS[name].readers:
        assert what in CELLS[name].kept
        return
    build = shared.student()
    list(Structured(each={CELLS[name].readers[what]: 0}, calibration_rows=32).compile(build))
    torch_form.write(build.model.eval(), {}, folder, tmp_path / "pytorch")
    batch = models.rows(name)
    assert torch.equal(models.logits(loader(tmp_path / "pytorch"), batch), models.logits(build.model, batch))


def test_an_unchanged_model_is_a_stock_directory(loaded: Loaded, folder: Path, tmp_path: Path) -> None:
    torch_form.write(loaded.model, {}, folder, tmp_path / "pytorch")
    assert not (tmp_path / "pytorch/load.py").exists()


@pytest.mark.parametrize("widths", [(2, 64), (4, 16), (1, 8), (0, 64), (4, 0)])  # heads, neurons
def test_a_variant_to_be_timed_is_what_the_narrowed_model_computes(
    name: str, widths: tuple[int, int], loaded: Loaded, exported: Path
) -> None:
    model, left = copy.deepcopy(loaded.model), {}
    for block in loaded.family.timed:
        for layer in range(models.LAYERS):
            one = block.at(str(layer))
            left[one] = widths[0] * CELLS[name].columns if block.what == "heads" else widths[1]
            kept = torch.arange(left[one])
            weight = model.get_parameter(f"{one.reader}.weight").detach()
            bias = getattr(model.get_submodule(one.reader), "bias", None)
            narrow(model, one, kept, weight[:, kept], torch.zeros(len(weight)) if bias is None else bias.detach())
    run = runner(narrowed(onnx.load(exported), left, loaded.family, models.VOCABULARY, int8=False))
    batch = models.rows(name)
    torch.testing.assert_close(run(batch), models.logits(model, batch), rtol=0, atol=CLOSE)


def test_a_table_of_milliseconds_holds_what_may_be_chosen(name: str, shape: ModelShape, exported: Path) -> None:
    table = latency_table(exported, shape, pairs=2)
    chosen = {block.what for block in FAMILIES[name].timed}
    for what, line in (("heads", table.heads), ("neurons", table.neurons)):
        assert (len(line["fp32"]) > 1) == (what in chosen)
        assert np.isfinite(table.of(what, 4, "int8"))  # type: ignore[arg-type]
