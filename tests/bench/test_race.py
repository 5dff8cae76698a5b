"""The race from nothing: the same student, none of its knowledge."""

import pyarrow as pa
import pytest
import torch
from pyarrow import parquet

from bench import race
from bench.sweep import Bench
from core.plan import fill
from core.recipe import PRESETS, Target
from tests import tiny


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    folder = tmp_path_factory.mktemp("race")
    texts, labels = zip(*tiny.sentences(600, seed=1), strict=True)
    parquet.write_table(pa.table({"text": texts, "label": labels}), folder / "train.parquet")
    return Bench(folder, tiny.write_model(folder / "model", steps=60), 600, 0, folder)


def test_random_weights_keep_shapes_and_masks_and_nothing_else(bench: Bench) -> None:
    recipe = fill(PRESETS["hybrid"].recipe, Target(parameter_ratio=1.5), bench.shape)
    run, build = race.ours(bench, recipe, 20)
    assert run["retention"] > 0.9
    fresh = race.emptied(build, bench.cold())
    before, after = build.model.state_dict(), fresh.model.state_dict()
    assert {name: tensor.shape for name, tensor in before.items()} == {n: t.shape for n, t in after.items()}
    assert fresh.masks.keys() == build.masks.keys() != set()
    for name, mask in fresh.masks.items():
        assert not after[name][~mask].any()
        assert not torch.equal(after[name], before[name])
    assert race.retention(bench, fresh.model.eval()) < 0.8


def test_a_learner_from_nothing_is_given_the_whole_budget_first(bench: Bench) -> None:
    recipe = fill(PRESETS["hybrid"].recipe, Target(parameter_ratio=1.5), bench.shape)
    _, build = race.ours(bench, recipe, 5)
    curve = race.from_nothing(bench, build, recipe, 1e-3, budget_s=1.0)
    budgets = [run["cpu_s"] for run in curve]
    assert budgets == sorted(budgets, reverse=True)
    assert all(run["retention"] >= race.ENOUGH for run in curve[:-1])
    assert curve[-1]["retention"] < race.ENOUGH
