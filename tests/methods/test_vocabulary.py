"""Fewer rows of the word embedding: those that text needs stay, others share the nearest, and sizes are as planned."""

from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from core.data import Data
from core.export.weights import collect
from core.inspect import shape_of
from core.phase import Build
from core.pipeline import compress
from core.plan import ModelShape, size_of
from core.recipe import Recipe, Target
from core.shared import Shared
from core.structure.vocabulary import Vocabulary, nearest
from core.surgery import SharedRows, rows_of
from tests import tiny
from tests.methods.test_weighted_svd import logits_error


def trimmed(shared: Shared, tokens: int) -> Build:
    build = shared.student()
    list(Vocabulary(tokens=tokens).compile(build))
    return build


def embedding(build: Build) -> torch.nn.Module:
    return build.model.get_submodule(build.family.embedding)


@pytest.fixture(scope="session")
def counts(shared: Shared) -> Counter[int]:
    return Counter(int(id_) for ids in shared.train.ids for id_ in ids)


@pytest.fixture(scope="session")
def tiny_shape(teacher: Path) -> ModelShape:
    return shape_of(teacher)[0]


@given(st.integers(0, 99), st.integers(1, 20), st.integers(1, 5), st.data())
def test_no_row_that_stays_is_nearer(seed: int, tokens: int, width: int, data: st.DataObject) -> None:
    table = torch.randn(tokens, width, generator=torch.Generator().manual_seed(seed))
    kept = torch.tensor(sorted(data.draw(st.sets(st.integers(0, tokens - 1), min_size=1))))
    row = nearest(table, kept)
    assert row[kept].tolist() == list(range(len(kept)))
    distance = torch.cdist(table.double(), table[kept].double())
    ours = distance[torch.arange(tokens), row]
    assert bool((ours <= distance.min(dim=1).values + 1e-4).all())


def test_text_whose_tokens_all_stay_is_read_as_before(shared: Shared, counts: Counter[int]) -> None:
    build = trimmed(shared, len(counts) + 3)  # and special tokens that no text has
    assert isinstance(embedding(build), SharedRows)
    assert logits_error(build, shared) == 0


def test_what_stays_is_special_or_frequent(shared: Shared, counts: Counter[int]) -> None:
    for tokens in (16, 24):
        row = embedding(trimmed(shared, tokens)).get_buffer("row")
        own, kept = row.tolist(), embedding(trimmed(shared, tokens)).get_parameter("weight")
        teacher = shared.teacher.get_parameter(f"{shared.family.embedding}.weight")
        stay = {id_ for id_ in range(len(own)) if torch.equal(kept[own[id_]], teacher[id_])}
        assert len(stay) == tokens
        special = {id_ for id_, token in shared.train.tokenizer.get_added_tokens_decoder().items() if token.special}
        special.add(shared.train.pad_id)
        assert special <= stay
        assert max(counts[id_] for id_ in counts.keys() - stay) <= min(counts[id_] for id_ in stay - special)


def test_more_rows_never_hurt(shared: Shared) -> None:
    errors = [logits_error(trimmed(shared, tokens), shared) for tokens in (16, 24, 32, 10_000)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] == 0


@given(st.integers(16, 80))
def test_the_planned_size_is_that_of_the_model(shared: Shared, tiny_shape: ModelShape, tokens: int) -> None:
    build, size = trimmed(shared, tokens), size_of(Recipe(steps=(Vocabulary(tokens=tokens),)), tiny_shape)
    assert size.parameters == sum(parameter.numel() for parameter in build.model.parameters())
    assert size.size_bytes == collect(build.model, {}).size_bytes


def test_a_token_that_shares_a_row_trains_it(shared: Shared) -> None:
    build = trimmed(shared, 16)
    module = embedding(build)
    row = module.get_buffer("row")
    shares = next(id_ for id_ in range(len(row)) if int((row == row[id_]).sum()) > 1)
    module(torch.tensor([[shares]])).sum().backward()
    gradient = module.get_parameter("weight").grad
    assert gradient is not None
    assert gradient.any(dim=1).nonzero()[:, 0].tolist() == rows_of(module, torch.tensor([shares])).tolist()


BITS = {"method": "gptq", "bits": "auto", "group": 16, "calibration_rows": 64}
SVD = {"method": "weighted_svd", "calibration_rows": 64}
TRAINING = {"method": "distill", "epochs": 1, "batch_size": 16}
OTHERS = {
    "planned bits": [SVD, BITS, TRAINING],
    "narrow": [{"method": "structured", "keep": 0.5, "align": 8, "calibration_rows": 64}, TRAINING, {"method": "int8"}],
}


@pytest.mark.parametrize(
    "others", [pytest.param(OTHERS["planned bits"], marks=pytest.mark.long), OTHERS["narrow"]], ids=OTHERS
)
def test_other_methods_go_on_with_the_rows_that_stay(
    others: list[dict[str, object]], teacher: Path, tmp_path: Path
) -> None:
    train, held = (tiny.write_csv(tmp_path / f"{n}.csv", tiny.sentences(n, seed=n)) for n in (100, 40))
    recipe = Recipe.model_validate({"steps": [{"method": "vocabulary", "tokens": 24}, *others]})
    target = Target(bytes_ratio=1.8) if others[0] == SVD else Target()
    result = compress(teacher, recipe, Data(train=train, eval=held), target=target, out=tmp_path / "out", threads=1)
    point = result.report.point
    assert point.target_met
    stored = load_file(result.folder / "pytorch" / "weights.safetensors")
    assert point.planned_bytes == sum(tensor.nbytes for tensor in stored.values())
    if others[0] == SVD:  # what is planned is planned on the rows that stay
        curves = {curve.name: curve for curve in result.profile.curves}  # type: ignore[union-attr]
        assert curves["bert.embeddings.word_embeddings"].rows == 24
