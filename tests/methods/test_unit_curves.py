"""What a model can spare of heads and neurons, measured: curves that never rise, and go through what was measured."""

from pathlib import Path

import pytest
import torch

from core.export import onnx
from core.hasten import SPARE
from core.inspect import shape_of
from core.plan import ModelShape, size_of
from core.probe import Loss, Prober
from core.profile import Units
from core.recipe import Recipe, Target
from core.resolve import Profiler
from core.shared import Shared
from core.structure.structured import Structured
from core.unit_curves import rounded, unit_curves

STEP = Structured(align=8, calibration_rows=128)
AUTO = Recipe(steps=(STEP,))


@pytest.fixture(scope="module")
def curves(shared: Shared) -> tuple[Units, ...]:
    return unit_curves(shared, STEP, Prober(shared.student().model.eval().requires_grad_(False), Loss(shared)))


@pytest.fixture(scope="module")
def shape(teacher: Path) -> ModelShape:
    return shape_of(teacher)[0]


def test_every_block_has_a_curve_that_falls_to_nothing(curves: tuple[Units, ...], shape: ModelShape) -> None:
    assert [units.reader for units in curves] == [matrix.name for matrix in shape.matrices if matrix.unit]
    for units in curves:
        in_order = [units.loss[count] for count in sorted(units.loss)]
        assert in_order == sorted(in_order, reverse=True)
        assert in_order[-1] == 0
        assert {0, units.every} <= units.loss.keys()


@pytest.mark.parametrize("share", [0, 0.5])
def test_a_curve_goes_through_the_loss_of_the_narrowed_model(
    curves: tuple[Units, ...], shared: Shared, share: float
) -> None:
    loss = Loss(shared)
    for units in curves:
        build, count = shared.student(), round(share * units.every)
        list(STEP.model_copy(update={"keep": 1.0, "each": {units.reader: count}}).compile(build))
        # A curve is made never to rise: it lies on or above what was measured.
        assert units.loss[count] >= 0.99 * loss.of(build.model.eval())


def test_int8_products_cost_something_and_little(shared: Shared) -> None:
    assert 0 < rounded(shared, Loss(shared)) < 0.5


def test_the_job_fills_what_milliseconds_leave_open(shared: Shared, shape: ModelShape, tmp_path: Path) -> None:
    onnx.write(shared.teacher, {}, tmp_path / "model.onnx")
    target = Target(latency_ratio=1.3)
    profiler = Profiler(shared, shape, tmp_path / "model.onnx")
    measured = profiler.measure(AUTO, target)
    assert measured.latency is not None
    found = profiler.resolve(AUTO, target).recipe
    assert '"auto"' not in found.model_dump_json()
    assert size_of(found, shape).parameters <= shape.parameters
    table, each = measured.latency, found.steps[0].model_dump()["each"]
    ms = table.base["fp32"] + sum(
        table.of("heads" if units.unit > 1 else "neurons", each[units.reader], "fp32") for units in measured.units
    )
    assert ms <= SPARE * table.teacher_ms / 1.3 + 1e-9 or set(each.values()) == {0}


def test_a_probe_leaves_the_model_as_it_was(shared: Shared) -> None:
    model = shared.student().model.eval().requires_grad_(False)
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    probe = Prober(model, Loss(shared))
    name = "bert.encoder.layer.0.output.dense.weight"
    assert probe({name: torch.zeros_like(before[name])}) > 0
    assert all(torch.equal(before[key], parameter) for key, parameter in model.named_parameters())


def test_widths_that_take_longer_than_planned_are_planned_anew(
    shared: Shared, shape: ModelShape, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table that promises too much is found out before anything is trained."""
    onnx.write(shared.teacher, {}, tmp_path / "model.onnx")
    profiler, target = Profiler(shared, shape, tmp_path / "model.onnx"), Target(latency_ratio=2)
    profiler.measure(AUTO, target)
    line = {0: 0.0, 4: 1.0, 64: 16.0}
    table = profiler.known.latency
    assert table is not None
    promises = {"base": {"fp32": 1.0}, "heads": {"fp32": line}, "neurons": {"fp32": line}, "teacher_ms": 41.0}
    profiler.known = profiler.known.model_copy(update={"latency": table.model_copy(update=promises)})
    asked: list[float] = []

    def slower(_: Path, __: ModelShape, variants: list[tuple[str, dict[str, int]]]) -> tuple[float, list[float]]:
        asked.append(1.2 * profiled(profiler, variants[0][1]))
        return 41.0, [asked[-1] / 41.0]

    monkeypatch.setattr("core.resolve.timed", slower)
    profiler.resolve(AUTO, target)
    assert len(asked) > 1
    assert asked[0] > 20.5 >= asked[-1]


def profiled(profiler: Profiler, each: dict[str, int]) -> float:
    """What the table says of these widths."""
    table = profiler.known.latency
    assert table is not None
    kinds = {units.reader: "heads" if units.unit > 1 else "neurons" for units in profiler.known.units}
    return table.base["fp32"] + sum(table.of(kinds[name], count, "fp32") for name, count in each.items())  # type: ignore[arg-type]
