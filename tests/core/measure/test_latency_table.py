"""Variants of a graph are what a model of those widths would be; the table is made of them."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from transformers import BertForSequenceClassification

from core.errors import ExportFailed
from core.export import onnx as form
from core.export.narrow_graph import narrowed
from core.family import FAMILIES, Block
from core.inspect import shape_of
from core.measure import latency_table as tables
from core.measure.latency_table import latency_table
from core.profile import LatencyTable
from core.surgery import narrow
from tests import tiny

FAMILY = FAMILIES["bert"]
WIDTHS = [(4, 64), (2, 64), (4, 16), (1, 8), (0, 64), (4, 0), (0, 0)]  # heads, neurons
TOKENS = 40


@pytest.fixture(scope="module")
def teacher() -> BertForSequenceClassification:
    torch.manual_seed(0)
    return BertForSequenceClassification(tiny.config()).eval()


@pytest.fixture(scope="module")
def exported(teacher: BertForSequenceClassification, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("graph") / "model.onnx"
    form.write(teacher, {}, path)
    return path


def blocks(heads: int, neurons: int) -> dict[Block, int]:
    return {
        block.at(str(layer)): heads * 8 if block.what == "heads" else neurons
        for layer in range(2)
        for block in FAMILY.blocks
    }


def run(model: onnx.ModelProto, feed: dict[str, torch.Tensor]) -> np.ndarray:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    logits: np.ndarray = session.run(None, {value.name: feed[value.name].numpy() for value in session.get_inputs()})[0]
    return logits


@pytest.mark.parametrize("widths", WIDTHS)
def test_a_variant_computes_what_the_narrowed_model_does(
    widths: tuple[int, int], teacher: BertForSequenceClassification, exported: Path
) -> None:
    made = narrowed(onnx.load(exported), blocks(*widths), FAMILY, TOKENS, int8=False)
    onnx.checker.check_model(made)
    model = BertForSequenceClassification(teacher.config).eval()
    model.load_state_dict(teacher.state_dict())
    for block, columns in blocks(*widths).items():
        kept = torch.arange(columns)
        weight, bias = (model.get_parameter(f"{block.reader}.{part}").detach() for part in ("weight", "bias"))
        narrow(model, block, kept, weight[:, kept], bias)
    ids = torch.randint(0, TOKENS, (3, 11), generator=torch.Generator().manual_seed(1))
    feed = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "token_type_ids": torch.zeros_like(ids)}
    with torch.no_grad():
        expected = model(**feed).logits.numpy()
    assert np.abs(run(made, feed) - expected).max() < 1e-4


@pytest.mark.parametrize("int8", [False, True])
def test_fewer_units_take_fewer_bytes_and_integer_products_are_in_the_graph(exported: Path, *, int8: bool) -> None:
    proto = onnx.load(exported)
    sizes = [narrowed(proto, blocks(*one), FAMILY, TOKENS, int8=int8).ByteSize() for one in WIDTHS[:4] + WIDTHS[-1:]]
    assert sizes == sorted(sizes, reverse=True)
    made = narrowed(proto, blocks(2, 16), FAMILY, TOKENS, int8=int8)
    assert sum(node.op_type == "MatMulInteger" for node in made.graph.node) == (12 if int8 else 0)
    ids = torch.zeros((1, 5), dtype=torch.long)
    feed = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "token_type_ids": ids}
    assert np.isfinite(run(made, feed)).all()


def test_a_graph_that_is_not_ours_is_refused(exported: Path) -> None:
    proto = onnx.load(exported)
    for node in proto.graph.node:
        if node.op_type == "Transpose" and node.input[0].endswith("output.dense.weight"):
            node.op_type = "Identity"
    with pytest.raises(ExportFailed, match=r"output\.dense\.weight"):
        narrowed(proto, blocks(0, 0), FAMILY, TOKENS, int8=False)


def test_the_table_holds_every_part_and_more_units_never_take_less(teacher_folder: Path, exported: Path) -> None:
    table = latency_table(exported, shape_of(teacher_folder)[0], pairs=20)
    assert table.teacher_ms > 0
    for kind, most in (("heads", 4), ("neurons", 64)):
        for products in ("fp32", "int8"):
            line = [table.of(kind, count, products) for count in range(most + 1)]  # type: ignore[arg-type]
            assert line[0] == 0
            assert line == sorted(line)


@pytest.fixture(scope="module")
def teacher_folder(teacher: BertForSequenceClassification, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("teacher")
    teacher.save_pretrained(folder)
    tiny.tokenizer().save(str(folder / "tokenizer.json"))
    return folder


def test_parts_are_found_again_in_what_they_add_up_to() -> None:
    heads, neurons = {1: 0.25, 4: 0.5, 8: 1.0}, {96: 0.125, 768: 2.0}

    def total(one: int, other: int) -> float:
        return 0.5 + 6 * ((heads | {0: 0.0})[one] + (neurons | {0: 0.0})[other])

    cross = {(one, 96) for one in (0, *heads)} | {(4, other) for other in (0, *neurons)} | {(0, 0), (8, 768)}
    base, *lines = tables._parts({each: total(*each) for each in cross}, 6)
    assert base == pytest.approx(0.5)
    for line, expected in zip(lines, (heads, neurons), strict=True):
        assert line == pytest.approx({0: 0.0, **expected})


def test_between_two_counts_lies_the_line() -> None:
    line = {0: 0.0, 4: 1.0, 12: 2.0}
    table = LatencyTable(
        batch=1, tokens=128, threads=1, machine="here", teacher_ms=9.0,
        base={"fp32": 1.0}, heads={"fp32": line}, neurons={"fp32": line},
    )  # fmt: skip
    assert [table.of("heads", count, "fp32") for count in (0, 2, 4, 8, 12)] == [0.0, 0.5, 1.0, 1.5, 2.0]
