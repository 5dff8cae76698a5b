"""model.onnx computes what the student computes, at any size, in one small self-contained file."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import helper, numpy_helper
from transformers import BertForSequenceClassification

from core.errors import ExportFailed
from core.export import onnx as onnx_form
from core.export.unpack_graph import OPSET
from core.grid import Grid, Values
from core.method import Tensor
from core.plan import graph_bytes
from tests.core.export.students import EMBEDDING, KINDS, batch, mask, student

QUERY = "bert.encoder.layer.{}.attention.self.query.weight"


@dataclass(frozen=True)
class Exported:
    kind: str
    model: BertForSequenceClassification
    masks: dict[str, torch.Tensor]
    values: dict[str, Values]
    path: Path

    def session(self, options: ort.SessionOptions | None = None) -> ort.InferenceSession:
        options = options or ort.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = 1, 3
        return ort.InferenceSession(str(self.path), options, providers=["CPUExecutionProvider"])

    def planned(self) -> list[Tensor]:
        """Every weight as the plan counts it."""
        return [self.stored(name, parameter) for name, parameter in self.model.named_parameters()]

    def stored(self, name: str, parameter: torch.Tensor) -> Tensor:
        kept = int(self.masks[name].sum()) if name in self.masks else parameter.numel()
        value = self.values.get(name)
        if isinstance(value, Grid):
            rows, columns = parameter.shape
            return Tensor(name, rows, columns, kept, "linear", levels=len(value.levels), group=value.group)
        return Tensor(name, 1, parameter.numel(), kept, "fixed", 32 if value is None else 16)


@pytest.fixture(scope="module", params=KINDS)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    model, masks, values = student(request.param)
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    onnx_form.write(model, masks, path, values=values)
    return Exported(request.param, model, masks, values, path)


def agree(model: BertForSequenceClassification, session: ort.InferenceSession, rows: int, tokens: int) -> bool:
    feed = batch(rows, tokens)
    with torch.no_grad():
        expected = model(**feed).logits.numpy()
    (found,) = session.run(["logits"], {name: value.numpy() for name, value in feed.items()})
    return found.shape == expected.shape and float(np.abs(found - expected).max()) < 1e-4


def test_the_file_gives_the_logits_of_the_student_at_any_batch_and_length(exported: Exported) -> None:
    session = exported.session()
    for rows, tokens in ((1, 1), (1, 7), (3, 50), (2, 128)):
        assert agree(exported.model, session, rows, tokens), (rows, tokens)


def test_weights_take_the_planned_bytes_and_the_rest_is_a_small_graph(exported: Exported) -> None:
    """Exact for the weights; beside them the graph, at most what the plan allows for it."""
    tensors = exported.planned()
    planned = sum(tensor.size_bytes for tensor in tensors)
    assert onnx_form.weight_bytes(exported.path, {tensor.name for tensor in tensors}) == planned
    beside = exported.path.stat().st_size - planned
    assert 0 < beside <= graph_bytes(tensors, exported.model.config.num_hidden_layers)


def test_masked_weights_are_smaller_in_the_file(exported: Exported) -> None:
    names = set(dict(exported.model.named_parameters()))
    dense = sum(4 * p.numel() for p in exported.model.parameters())
    assert (onnx_form.weight_bytes(exported.path, names) < dense) == bool(exported.masks or exported.values)


def test_the_runtime_folds_all_unpacking_into_plain_weights(exported: Exported, tmp_path: Path) -> None:
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "run.onnx")
    exported.session(options)
    graph = onnx.load(tmp_path / "run.onnx").graph
    assert "CumSum" not in {node.op_type for node in graph.node}
    assert not {tensor.data_type for tensor in graph.initializer} & {onnx.TensorProto.UINT8, onnx.TensorProto.FLOAT16}


def test_the_file_is_alone_and_tells_nothing_of_this_machine(exported: Exported) -> None:
    assert [path.name for path in exported.path.parent.iterdir()] == ["model.onnx"]
    content = exported.path.read_bytes()
    assert not [word for word in (b".py", b"site-packages", b"torch.fx") if word in content]
    proto = onnx.load_model_from_string(content)
    onnx.checker.check_model(proto, full_check=True)
    assert {(one.domain, one.version) for one in proto.opset_import} - {("unpack", 1)} == {("", OPSET)}
    assert not any(tensor.external_data for tensor in proto.graph.initializer)


def test_inputs_and_dimensions_have_plain_names(exported: Exported) -> None:
    session = exported.session()
    assert {value.name: value.shape for value in session.get_inputs()} == {
        name: ["batch", "sequence"] for name in ("input_ids", "attention_mask", "token_type_ids")
    }
    assert [(value.name, value.shape) for value in session.get_outputs()] == [("logits", ["batch", 3])]


def test_exporting_leaves_the_model_as_it_was(exported: Exported) -> None:
    again, _, _ = student(exported.kind)
    assert exported.model.config._attn_implementation == again.config._attn_implementation == "sdpa"
    before = again.state_dict()
    assert all(torch.equal(tensor, before[name]) for name, tensor in exported.model.state_dict().items())


def test_a_tied_weight_is_stored_once_and_masked_under_either_name(tmp_path: Path) -> None:
    model, masks, _ = student("dense", layers=2)
    first, second = (model.bert.encoder.layer[i].attention.self.query for i in (0, 1))
    second.weight = first.weight
    mask(model, masks, QUERY.format(0))
    masks = {QUERY.format(1): masks[QUERY.format(0)]}
    path = tmp_path / "model.onnx"
    onnx_form.write(model, masks, path)
    assert agree(model, Exported("tied", model, masks, {}, path).session(), 2, 9)
    stored = [tensor.name for tensor in onnx.load(path).graph.initializer if "self.query.weight" in tensor.name]
    assert sorted(stored) == [f"{QUERY.format(0)}.bitmap", f"{QUERY.format(0)}.values"]


def test_a_graph_that_turned_a_weight_around_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A square weight that the exporter transposed has the same shape; its packed form would compute nonsense."""
    model, masks, _ = student("dense")
    mask(model, masks, QUERY.format(0))
    turned = numpy_helper.from_array(model.get_parameter(QUERY.format(0)).detach().numpy().T, QUERY.format(0))
    graph = helper.make_graph([], "turned", [], [], [turned])
    monkeypatch.setattr(onnx_form, "_graph", lambda *_: helper.make_model(graph))
    with pytest.raises(ExportFailed, match=r"layer\.0\.attention\.self\.query\.weight in the graph is not the model's"):
        onnx_form.write(model, masks, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_exported_faithfully_is_refused(tmp_path: Path) -> None:
    model, masks, _ = student("embedding masked")
    name = f"{EMBEDDING}.weight"
    path = tmp_path / "model.onnx"
    with pytest.raises(ExportFailed, match=r"does not have: no\.such\.weight"):
        onnx_form.write(model, {"no.such.weight": masks[name]}, path)
    with pytest.raises(ExportFailed, match=f"{name}: mask of shape"):
        onnx_form.write(model, {name: masks[name][1:]}, path)
    with pytest.raises(ExportFailed, match="training mode"):
        onnx_form.write(model.train(), masks, path)
    with pytest.raises(ExportFailed, match=r"torch\.float16; weights are exported from fp32"):
        onnx_form.write(model.half().eval(), masks, path)
    with torch.no_grad():
        model.float().get_parameter(name).fill_(1.0)
    with pytest.raises(ExportFailed, match=f"{name}: .* masked entries are not zero"):
        onnx_form.write(model, masks, path)
    assert not list(tmp_path.iterdir())
