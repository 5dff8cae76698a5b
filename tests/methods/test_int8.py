"""Integer products: what the model in memory does is what runtimes do; sizes are as planned; training goes through."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper, numpy_helper

from core.data import Data
from core.errors import ExportFailed
from core.export import onnx, torch_form
from core.export.int8_graph import multiply_whole
from core.export.weights import Whole, collect
from core.grid import whole
from core.inspect import shape_of
from core.pipeline import compress
from core.plan import size_of
from core.progress import Silent
from core.recipe import Recipe, Target
from core.shared import Shared
from core.surgery import DynamicLinear, LowRankLinear, on_int8, plain_inputs, round_inputs, rounding_inputs
from tests import tiny
from tests.core.export.test_torch_form import loaded
from tests.methods.test_gptq import compiled
from tests.methods.test_weighted_svd import logits_error

FACTORS = {"method": "weighted_svd", "keep": 0.5, "calibration_rows": 64}
INT8 = {"method": "int8", "group": 16}
NORMAL = st.tuples(st.integers(0, 99), st.integers(1, 9), st.integers(2, 70), st.floats(1e-3, 1e3))


def session(model: bytes | Path) -> ort.InferenceSession:
    """As users open a file: no option says that sums are to be exact."""
    return ort.InferenceSession(model, providers=["CPUExecutionProvider"])


def test_no_sum_of_two_products_overflows_16_bits() -> None:
    """The law that makes a file answer alike with VNNI and without; the largest products there are."""
    grid = whole(torch.ones(3, 8))
    assert 2 * 255 * float(grid.levels.abs().max()) < 2**15
    numbers = np.full((8, 3), 64, np.int8)
    nodes = [helper.make_node("MatMulInteger", ["x", "w"], ["y"])]
    made = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.UINT8, None)],
        [helper.make_tensor_value_info("y", TensorProto.INT32, None)], [numpy_helper.from_array(numbers, "w")],
    )  # fmt: skip
    proto = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    (found,) = session(proto.SerializeToString()).run(None, {"x": np.full((2, 8), 255, np.uint8)})
    assert (found == 8 * 255 * 64).all()


def model(nodes: list[Any], inputs: list[str], outputs: dict[str, int]) -> ModelProto:
    def value(name: str, kind: int = TensorProto.FLOAT) -> Any:
        return helper.make_tensor_value_info(name, kind, None)

    made = [value(name, kind) for name, kind in outputs.items()]
    graph = helper.make_graph(nodes, "g", [value(name) for name in inputs], made)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def gaussian(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@given(NORMAL, st.floats(-5, 5))
def test_inputs_are_rounded_as_the_operator_rounds_them(case: tuple[int, int, int, float], shift: float) -> None:
    seed, rows, columns, height = case
    x = (gaussian(seed, rows, columns) + shift) * height
    node = helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "scale", "zero"])
    outputs = {"q": TensorProto.UINT8, "scale": TensorProto.FLOAT, "zero": TensorProto.UINT8}
    q, scale, zero = session(model([node], ["x"], outputs).SerializeToString()).run(None, {"x": x.numpy()})
    theirs = (q.astype(np.float32) - zero) * scale
    apart = np.abs(on_int8(x).numpy() - theirs) / scale
    # A value in the middle between two may go to either.
    middle = np.abs(np.abs(x.numpy() / scale - np.floor(x.numpy() / scale)) - 0.5) < 1e-3
    assert (apart[~middle] < 1e-3).all()
    assert (apart < 1.001).all()


def test_the_gradient_passes_straight_through() -> None:
    x = gaussian(0, 4, 8).requires_grad_()
    (on_int8(x) * torch.arange(8.0)).sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, torch.arange(8.0).expand(4, 8))


def test_a_batch_of_zeros_stays_zero() -> None:
    assert not on_int8(torch.zeros(2, 3)).any()


@given(NORMAL, st.integers(1, 40))
def test_an_integer_product_equals_that_of_the_rounded(case: tuple[int, int, int, float], out: int) -> None:
    """The graph's MatMulInteger against the linear in memory."""
    seed, rows, columns, height = case
    linear = torch.nn.Linear(columns, out, bias=False)
    grid = whole(gaussian(seed, out, columns) * height)
    with torch.no_grad():
        linear.weight.copy_(grid.round(gaussian(seed, out, columns) * height))
    holder = torch.nn.Sequential(linear)
    round_inputs(holder, "0")
    x = gaussian(seed + 1, rows, columns)
    nodes = [
        helper.make_node("Transpose", ["w"], ["wt"], perm=[1, 0]),
        helper.make_node("MatMul", ["x", "wt"], ["y"]),
    ]
    proto = model(nodes, ["x"], {"y": TensorProto.FLOAT})
    stored = collect(holder, {}, {"0.weight": grid}).whole["0.weight"]
    multiply_whole(proto, {"w": stored})
    (theirs,) = session(proto.SerializeToString()).run(None, {"x": x.numpy()})
    ours = holder(x).detach().numpy()
    # Of rounded inputs one in the middle between two steps may differ.
    step = float(x.max().clamp(min=0) - x.min().clamp(max=0)) / 255 * float(linear.weight.detach().abs().max())
    assert np.abs(ours - theirs).max() <= 1.01 * step + 1e-5 * np.abs(ours).max()


def test_a_weight_that_is_not_multiplied_so_is_refused() -> None:
    proto = model([helper.make_node("MatMul", ["x", "w"], ["y"])], ["x"], {"y": TensorProto.FLOAT})
    weight = Whole(np.ones((2, 2), np.int8), np.ones((2, 1), np.float16))
    with pytest.raises(ExportFailed, match="w is used by a MatMul: not an int8 product"):
        multiply_whole(proto, {"w": weight})


@given(NORMAL)
def test_a_row_is_rounded_to_within_half_a_step(case: tuple[int, int, int, float]) -> None:
    seed, rows, columns, height = case
    weight = gaussian(seed, rows, columns) * height
    weight[:, 0] = 0
    grid = whole(weight)
    rounded = grid.round(weight)
    # The scale is an fp16 number: the largest entry may lie a little beyond the last step.
    assert ((rounded - weight).abs() <= grid.scales * (0.5 + 64 * 2.0**-10)).all()
    assert not rounded[:, 0].any()


@pytest.mark.parametrize("before", [(), (FACTORS,)], ids=["dense", "factors"])
def test_sizes_are_as_planned_and_both_forms_are_the_student(
    before: tuple[dict[str, object], ...], shared: Shared, teacher: Path, tmp_path: Path
) -> None:
    prove([*before, INT8], shared, teacher, tmp_path)


def prove(steps: Sequence[dict[str, object]], shared: Shared, teacher: Path, tmp_path: Path) -> None:
    """Bytes are as planned, and both forms answer as the student."""
    build = compiled(shared, *steps)
    build.model.eval()
    size = size_of(Recipe.model_validate({"steps": steps}), shape_of(teacher)[0])
    assert collect(build.model, build.masks, build.values).size_bytes == size.size_bytes
    onnx.write(build.model, build.masks, tmp_path / "model.onnx", values=build.values)
    assert (tmp_path / "model.onnx").stat().st_size <= size.file_bytes
    torch_form.write(build.model, build.masks, teacher, tmp_path / "pytorch", values=build.values)
    ids = torch.arange(5, 11)[None]
    with torch.no_grad():
        ours = build.model(input_ids=ids).logits
        with plain_inputs(build.model):
            plain = build.model(input_ids=ids).logits
        assert torch.equal(loaded(tmp_path / "pytorch")(input_ids=ids).logits, ours)
    feed = {"input_ids": ids.numpy(), "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    runtime = session(tmp_path / "model.onnx")
    wanted = {each.name for each in runtime.get_inputs()}
    (theirs,) = runtime.run(["logits"], {name: value for name, value in feed.items() if name in wanted})
    assert np.abs(theirs - ours.numpy()).max() <= max(float((ours - plain).abs().max()), 1e-3)


def test_eight_bits_cost_little_and_training_goes_through_them(shared: Shared) -> None:
    few = {**FACTORS, "keep": 0.1}
    rounded = compiled(shared, few, INT8)
    trained = compiled(shared, few, INT8, {"method": "distill", "epochs": 4, "batch_size": 16})
    assert logits_error(trained, shared) < logits_error(rounded, shared)
    collect(trained.model.eval(), trained.masks, trained.values)  # every weight is on its grid
    kinds = {type(module) for module in rounding_inputs(trained.model).values()}
    assert kinds <= {DynamicLinear, LowRankLinear}


def test_a_job_ends_in_files_that_are_proved(tmp_path: Path) -> None:
    """And what the file says is found by processes that know nothing but the file."""
    teacher = tiny.write_model(tmp_path / "teacher", steps=60)
    data = Data(
        tiny.write_csv(tmp_path / "train.csv", tiny.sentences(300, seed=1)),
        tiny.write_csv(tmp_path / "eval.csv", tiny.sentences(60, seed=2)),
    )
    recipe = Recipe.model_validate({"steps": [{**FACTORS, "keep": "auto"}, INT8]})
    made = compress(teacher, recipe, data, Silent(), target=Target(max_bytes=75_000), out=tmp_path / "out", threads=1)
    report = made.headline.report
    assert report.point.target_met
    assert report.point.student > 0.8
    assert all(each.max_difference <= each.tolerance for each in report.point.parity)


@pytest.mark.parametrize("before", ["low_rank_sparse", "obs", "magnitude"])
def test_zeros_before_it_are_refused(before: str) -> None:
    with pytest.raises(ValueError, match=f"cannot follow {before}: it multiplies with every entry"):
        Recipe.model_validate({"steps": [{"method": before}, {"method": "distill"}, {"method": "int8"}]})
    with pytest.raises(ValueError, match=f"cannot follow {before}: it multiplies with every entry"):
        Recipe.model_validate({"steps": [{"method": before}, {"method": "int8"}, {"method": "distill"}]})
