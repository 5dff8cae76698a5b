"""The race from nothing: the same student, none of its knowledge."""

from pathlib import Path

import pyarrow as pa
import pytest
import torch
from pyarrow import parquet

from bench import race, rows
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
    assert run["steps"] == 20  # not the preset's least number of steps
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
    curve = race.from_nothing(bench, build, recipe, 1e-3, 1.0)
    arrived = [run["retention"] >= race.ENOUGH for run in curve]
    assert [run["steps"] for run in curve][: arrived.index(False)] == sorted(
        (run["steps"] for run in curve[: arrived.index(False)]), reverse=True
    )
    assert race.next_budget(curve, 1.0) is None


def test_the_last_run_lies_between_the_longest_that_failed_and_the_shortest_that_arrived() -> None:
    def curve(*runs: tuple[float, float]) -> list[dict[str, float]]:
        return [{"steps": 100 * cpu_s, "cpu_s": cpu_s, "retention": retention} for cpu_s, retention in runs]

    assert race.next_budget([], 12.0) == 12
    assert race.next_budget(curve((12, 0.8)), 12.0) is None
    assert race.next_budget(curve((12, 0.95)), 12.0) == 6
    assert race.next_budget(curve((12, 0.95), (6, 0.8)), 12.0) == pytest.approx(72**0.5)
    for last in (0.85, 0.95):
        assert race.next_budget(curve((12, 0.95), (6, 0.8), (8.5, last)), 12.0) is None


def test_twice_the_budget_is_about_twice_the_steps(bench: Bench) -> None:
    recipe = fill(PRESETS["hybrid"].recipe, Target(parameter_ratio=1.5), bench.shape)
    _, build = race.ours(bench, recipe, 1)
    shared = bench.cold()
    shared.recorded(shared.text(None, 128))
    once, twice = (race.steps_for(shared, build, recipe.steps[-1], seconds) for seconds in (20.0, 40.0))
    assert 1.2 < twice / once < 3.3


def test_a_race_that_was_broken_off_goes_on_and_another_one_does_not(tmp_path: Path) -> None:
    what = {"task": "t", "ratio": 10.0, "recipe": {}}
    ours = [{"cpu_s": 300.0, "retention": 0.8}, {"cpu_s": 100.0, "retention": 0.9}]
    curve = [
        {"cpu_s": 1200.0, "retention": 0.95},
        {"cpu_s": 600.0, "retention": 0.91},
        {"cpu_s": 300.0, "retention": 0.8},
    ]
    rows.write(tmp_path / "t.json", {**what, "git_sha": "a", "ours": ours, "from_nothing": {"0.001": curve}})
    found = race.begun(tmp_path / "t.json", what)
    assert (found["ours"], found["from_nothing"]) == (ours, {"0.001": curve})
    assert race.verdict(found) == {"times": 6.0, "at_least": None}
    assert race.verdict({**found, "from_nothing": {"0.001": curve[2:]}}) == {"times": None, "at_least": 3.0}
    assert race.begun(tmp_path / "t.json", {**what, "ratio": 5.0})["ours"] == []
