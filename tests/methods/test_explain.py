"""Where the bytes went, and which part does harm."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from core.explain import damage, layers, weights_sha256
from core.export.weights import collect
from core.inspect import shape_of
from core.phase import Build
from core.recipe import Recipe
from core.shared import Shared
from tests.methods.conftest import text

PARTS = [
    "bert.embeddings.word_embeddings",
    *(f"bert.encoder.layer.{n}.{name}" for n in (0, 1) for name in ("attention.output.dense", "output.dense")),
]


@pytest.fixture
def decided(shared: Shared, teacher: Path) -> Shared:
    """With rows of select."""
    return replace(shared, select=text(teacher, 60, seed=9), _made={})


def made(build: Build, *steps: dict[str, object]) -> Build:
    """Every step but trainings."""
    for step in Recipe.model_validate({"steps": steps}).steps:
        for _ in step.compile(build):
            pass
    return build


@pytest.mark.parametrize("part", PARTS)
def test_a_planted_layer_is_ranked_first(decided: Shared, part: str) -> None:
    """Whatever a good recipe does beside it."""
    build = made(decided.student(), {"method": "gptq", "bits": 8})
    weight = build.weight(part)
    with torch.no_grad():
        weight.add_(weight.std() * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)))
    found = damage(build)
    assert {one.part for one in found} == {*PARTS}
    assert found[0].part == part
    assert found[0].kl > 3 * found[1].kl
    assert [one.kl for one in found] == sorted((one.kl for one in found), reverse=True)


def test_nothing_changed_does_no_harm_and_leaves_both_models_as_they_were(decided: Shared) -> None:
    build = decided.student()
    digests = [weights_sha256(model) for model in (build.model, decided.teacher)]
    assert all(one.kl == pytest.approx(0, abs=1e-9) and one.agreement == 1 for one in damage(build))
    assert [weights_sha256(model) for model in (build.model, decided.teacher)] == digests


def test_parts_of_another_width_are_exchanged_whole(decided: Shared) -> None:
    """Heads and neurons that are gone, a block that is skipped."""
    keeps = {"bert.encoder.layer.0.attention.output.dense": 1, "bert.encoder.layer.1.output.dense": 0}
    build = made(decided.student(), {"method": "structured", "each": keeps, "align": 1})
    found = {one.part: one.kl for one in damage(build)}
    assert min(found[name] for name in keeps) > 10 * max(found[name] for name in PARTS if name not in keeps)


@pytest.mark.parametrize(
    "steps",
    [
        ({"method": "weighted_svd", "keep": 0.5}, {"method": "gptq", "bits": 4}),
        ({"method": "low_rank_sparse", "keep": 0.5},),
        ({"method": "structured", "keep": 0.5, "align": 1}, {"method": "int8"}),
        ({"method": "obs", "keep": 0.2, "when": "once"},),
        ({"method": "structured", "each": dict.fromkeys(PARTS[1:3], 0), "align": 1},),
    ],
)
def test_layers_account_for_every_byte(decided: Shared, teacher: Path, steps: tuple[dict[str, object], ...]) -> None:
    shape, _ = shape_of(teacher)
    build = made(decided.student(), *steps)
    found = layers(build, shape)
    assert [one.name for one in found] == [matrix.name for matrix in shape.matrices]
    sizes = collect(build.model, build.masks, build.values).sizes()
    matrices = [
        name
        for name, p in build.model.named_parameters()
        if p.dim() == 2 and name.rpartition(".")[0] in {one.name for one in found}
    ]
    assert sum(one.bytes for one in found) == sum(sizes[name] for name in matrices)
    zeros = sum(int((~mask).sum()) for name, mask in build.masks.items() if name in matrices)
    assert (
        sum(one.nonzero for one in found) == sum(build.model.get_parameter(name).numel() for name in matrices) - zeros
    )
    assert all(0 < one.bits <= 33 or one.bytes == one.nonzero == 0 for one in found)


def test_ninety_percent_zeros_ship_in_a_fifth(decided: Shared, teacher: Path) -> None:
    build = made(decided.student(), {"method": "obs", "keep": 0.1, "when": "once", "scope": "tensor"})
    for one in layers(build, shape_of(teacher)[0]):
        assert one.nonzero <= 0.11 * one.shape[0] * one.shape[1]
        assert one.bytes <= 0.2 * one.teacher_bytes, one.name


def test_the_digest_of_weights_knows_every_bit_and_name(shared: Shared) -> None:
    model = shared.student().model
    digests = {weights_sha256(model)}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.view(-1)[0] = torch.nextafter(parameter.view(-1)[0], torch.tensor(9.0))
            digests.add(weights_sha256(model))
    assert len(digests) == 1 + len(list(model.parameters()))
