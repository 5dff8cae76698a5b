"""What holds in every cell: exact shapes, padding, removal of what says nothing, factors, files, losses."""

import copy
import importlib.util
from pathlib import Path
from typing import Any

import onnx
import onnxruntime as ort
import pytest
import torch

from core.batches import Batch, Split, inputs, predict
from core.export import onnx as onnx_form
from core.export import torch_form
from core.factorize.svd import truncate
from core.forward import logits_of
from core.inspect import shape_of
from core.losses import Distillation
from core.model import Loaded, load
from core.recipe import Recipe
from core.recorded import record
from core.removal import columns_of
from core.shared import Shared
from core.structure.structured import Structured
from core.surgery import factorize
from core.task import TASKS
from core.verify.shipped import runner
from tests.tasks.conftest import share

CLOSE, CPU = 1e-5, torch.device("cpu")
Cell = tuple[str, str]


@torch.no_grad()
def outputs(model: torch.nn.Module, batch: Batch) -> torch.Tensor:
    return logits_of(model(**inputs(batch)))


def test_the_shape_is_exact_and_outputs_are_those_of_the_task(cell: Cell, folder: Path, loaded: Loaded) -> None:
    shape, labels = shape_of(folder, cell[1])
    assert shape.task == loaded.task.name == cell[1]
    assert shape.parameters == sum(p.numel() for p in loaded.model.parameters())
    assert {matrix.name for matrix in shape.matrices} == {*loaded.family.compressible(loaded.model)}
    assert tuple(labels.values()) == tuple(loaded.labels.values())


def test_padding_changes_nothing(loaded: Loaded, split: Split) -> None:
    together = predict(loaded.model, split, CPU, batch_size=48)
    assert together.std() > 1e-3  # texts are told apart
    torch.testing.assert_close(
        torch.from_numpy(predict(loaded.model, split, CPU, batch_size=1)),
        torch.from_numpy(together),
        rtol=0,
        atol=CLOSE,
    )


def test_removing_neurons_that_say_nothing_changes_nothing(
    cell: Cell, folder: Path, split: Split, tmp_path: Path
) -> None:
    mute = load(folder, cell[1])
    path = mute.family.feed_forward.at("1").reader
    weight = mute.model.get_parameter(f"{path}.weight")
    silent = torch.arange(weight.shape[1])[1::2]
    with torch.no_grad():
        weight[:, columns_of(silent, 1)] = 0
    mute.model.requires_grad_(False)
    before = predict(mute.model, split, CPU)
    build = share(mute, split, tmp_path).student()
    list(Structured(each={path: weight.shape[1] - len(silent)}, calibration_rows=32).compile(build))
    after = predict(build.model.eval(), split, CPU)
    torch.testing.assert_close(torch.from_numpy(after), torch.from_numpy(before), rtol=0, atol=CLOSE)
    assert sum(p.numel() for p in build.model.parameters()) < sum(p.numel() for p in mute.model.parameters())


def test_factors_of_full_rank_change_nothing(loaded: Loaded, shared: Shared, split: Split) -> None:
    build = shared.student()
    for path in [*build.compressible()]:
        weight = build.weight(path)
        factorize(build.model, path, *truncate(weight, min(weight.shape)))
    found, before = (torch.from_numpy(predict(model, split, CPU)) for model in (build.model.eval(), loaded.model))
    torch.testing.assert_close(found, before, rtol=0, atol=CLOSE)


@pytest.mark.long
def test_both_files_are_the_model(
    cell: Cell, loaded: Loaded, shared: Shared, folder: Path, split: Split, tmp_path: Path
) -> None:
    """Dense, and cut: half of the neurons, four bits."""
    cut = shared.student()
    steps = [
        {"method": "structured", "keep": 0.5, "align": 8, "calibration_rows": 32},
        {"method": "gptq", "bits": 4, "group": 16, "calibration_rows": 32},
    ]
    for step in Recipe.model_validate({"steps": steps}).steps:
        list(step.compile(cut))
    cut.model.eval()
    for place, model, values in (("dense", loaded.model, None), ("cut", cut.model, cut.values)):
        here = tmp_path / place
        torch_form.write(model, {}, folder, here / "pytorch", values=values)
        onnx_form.write(model, {}, here / "model.onnx", values=values)
        proto = onnx.load(here / "model.onnx")
        assert tuple(value.name for value in proto.graph.output) == TASKS[cell[1]].outputs
        session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
        back = runner(_loaded(here, type(model).__name__, cell[1]), here)
        for rows in ([0, 1, 2, 3], [5]):
            batch = inputs(split.collate(rows, CPU))
            expected, feed = outputs(model, batch), {name: value.numpy() for name, value in batch.items()}
            found = session.run(None, feed)
            both = (
                torch.from_numpy(found[0]) if len(found) == 1 else torch.stack([*map(torch.from_numpy, found)], dim=-1)
            )
            torch.testing.assert_close(both, expected, rtol=0, atol=CLOSE)
            said = torch.from_numpy(back({"token_type_ids": None, **feed}))
            torch.testing.assert_close(said, expected, rtol=0, atol=1e-6)


def _loaded(here: Path, architecture: str, task: str) -> Any:
    """pytorch/ as a user has it."""
    place = here / "pytorch"
    if not (place / "load.py").exists():
        import transformers

        extra = (
            {"add_pooling_layer": False} if task == "sentence_embedding" and "ModernBert" not in architecture else {}
        )
        with_pooler = any(name in architecture for name in ("DistilBert", "Electra", "DebertaV2"))
        return getattr(transformers, architecture).from_pretrained(place, **({} if with_pooler else extra)).eval()
    spec = importlib.util.spec_from_file_location("load", place / "load.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.load(place)


def test_a_copy_has_nothing_to_learn_and_a_cut_student_does(
    cell: Cell, loaded: Loaded, shared: Shared, tmp_path: Path
) -> None:
    """By answers that were recorded, too."""
    same, cut = copy.deepcopy(loaded.model), copy.deepcopy(loaded.model)
    for path in [*loaded.family.compressible(cut)]:
        factorize(cut, path, *truncate(cut.get_parameter(f"{path}.weight").detach(), 8))
    batch = shared.train.collate([0, 1, 2], CPU)
    kept = record(loaded.model, shared.train, CPU, tmp_path)
    for student, recorded in ((same, None), (same, kept), (cut, None), (cut, kept)):
        judged = Distillation(
            student, loaded.model, loaded.family, weights={"logits": 1.0, "hidden": 0.0, "attention": 0.0},
            temperature=2.0, layer_map="identity", recorded=recorded, likelihood=shared.likelihood,
        )  # fmt: skip
        loss = judged.step(batch, lambda _: None)["logits"]
        assert loss == pytest.approx(0, abs=1e-6) if student is same else loss > 1e-5


def test_every_layer_is_felt(shared: Shared) -> None:
    """The curvature of the loss reaches all of them, and it is finite."""
    found = shared.moments(32)
    assert {*found} == {*shared.student().compressible()}
    for one in found.values():
        assert torch.isfinite(one.outputs).all()
        assert float(one.outputs.diagonal().sum()) > 0
