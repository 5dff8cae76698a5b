"""What holds of every family without a file: shapes, lengths, padding, removal, factors, planned sizes, attention."""

import copy
import json
from pathlib import Path

import pytest
import torch

from core.batches import predict
from core.catalogue import METHODS
from core.errors import ModelInvalid, ModelUnsupported, RecipeInvalid
from core.export.weights import collect
from core.factorize.svd import truncate
from core.family import FAMILIES
from core.inspect import shape_of
from core.losses import Distillation
from core.model import Loaded, load
from core.phase import Build
from core.plan import ModelShape, fill, size_of
from core.progress import Meter, Silent
from core.recipe import Recipe, Target
from core.recorded import record
from core.removal import columns_of, reader
from core.shared import Shared
from core.structure.structured import Structured
from core.surgery import factorize
from core.taps import ScoreTap
from core.train import train
from tests.families import models
from tests.families.cells import CELLS
from tests.families.conftest import share

CLOSE = 1e-5
CALIBRATED = {"calibration_rows": 64}
# Of each method a step that changes most of the model, with what tells its size in full.
STEPS: dict[str, dict[str, object]] = {
    "structured": {"keep": 0.5, "align": 8, **CALIBRATED},
    "vocabulary": {"tokens": 50},
    "svd": {"keep": 0.5},
    "weighted_svd": {"keep": 0.5, **CALIBRATED},
    "low_rank_sparse": {"keep": 0.5, **CALIBRATED},
    "magnitude": {"keep": 0.4},
    "obs": {"keep": 0.4, **CALIBRATED},
    "ternary": {},
    "binary": {},
    "binary_split": {},
    "gptq": {"bits": 4, "group": 16, **CALIBRATED},
    "mixed_bits": {"bits": 2, "blocks": 4, "group": 16, "search": "closed_form", **CALIBRATED},
    "int8": {"group": 16, **CALIBRATED},
}


def test_every_family_and_method_has_its_cells() -> None:
    assert set(CELLS) == set(FAMILIES) == set(models.NAMES)
    assert set(STEPS) == {name for name, method in METHODS.items() if not method.trains}


def test_a_model_loads_and_its_shape_is_exact(name: str, folder: Path, loaded: Loaded, shape: ModelShape) -> None:
    assert loaded.family is FAMILIES[name]
    assert shape.parameters == sum(p.numel() for p in loaded.model.parameters())
    assert shape.layers == models.LAYERS
    for matrix in shape.matrices:
        assert tuple(loaded.model.get_parameter(f"{matrix.name}.weight").shape) == (matrix.rows, matrix.cols)
    assert {matrix.name for matrix in shape.matrices} == {*loaded.family.compressible(loaded.model)}
    left = {
        name: matrix.unit for matrix in shape.matrices if (name := matrix.name) in CELLS[shape.family].readers.values()
    }
    assert sorted(left.values(), reverse=True) == [8, 1][2 - len(left) :]


def test_the_longest_text_runs_and_one_token_more_does_not_fit_positions(name: str, loaded: Loaded) -> None:
    before = 2 if FAMILIES[name].after_padding else 0
    assert loaded.max_tokens == models.SHAPE["max_position_embeddings"] - before
    assert torch.isfinite(models.logits(loaded.model, models.rows(name, (loaded.max_tokens, 3)))).all()
    if before:
        with pytest.raises((IndexError, RuntimeError)):
            models.logits(loaded.model, models.rows(name, (loaded.max_tokens + 1,)))


def test_padding_changes_nothing(name: str, loaded: Loaded) -> None:
    batch = models.rows(name)
    together = models.logits(loaded.model, batch)
    assert float(together.std()) > 1e-2  # texts are told apart at all
    for row, length in enumerate(batch["attention_mask"].sum(1).tolist()):
        alone = {part: tensor[row : row + 1, :length] for part, tensor in batch.items()}
        torch.testing.assert_close(models.logits(loaded.model, alone)[0], together[row], rtol=0, atol=CLOSE)


def test_segments_are_asked_for_where_the_model_tells_them_apart(name: str, loaded: Loaded, shared: Shared) -> None:
    """Pairs in the text: a family that has no segments would refuse their ids or read beyond its table."""
    told = name in ("bert", "electra")
    assert ("token_type_ids" in loaded.inputs) == told
    batch = shared.train.collate([0, 1], shared.device)
    assert ("token_type_ids" in batch) == told
    assert predict(loaded.model, shared.train.sample(8, 0), shared.device).shape == (8, 2)


@pytest.mark.parametrize("what", ["heads", "neurons"])
@pytest.mark.parametrize("all_of_them", [False, True], ids=["some", "all"])
def test_removing_units_that_say_nothing_changes_nothing(
    name: str, what: str, all_of_them: bool, folder: Path, tmp_path: Path
) -> None:
    if what not in CELLS[name].readers:
        assert what in CELLS[name].kept  # the refusal has its own test
        return
    path = CELLS[name].readers[what]
    mute = load(folder)
    weight = mute.model.get_parameter(f"{path}.weight")
    unit = CELLS[name].columns if what == "heads" else 1
    units = weight.shape[1] // unit
    silent = torch.arange(units) if all_of_them else torch.arange(units)[1::2]
    with torch.no_grad():
        weight[:, columns_of(silent, unit)] = 0
    mute.model.requires_grad_(False)
    build = share(mute, folder, tmp_path).student()
    list(Structured(each={path: units - len(silent)}, calibration_rows=32).compile(build))
    batch = models.rows(name)
    torch.testing.assert_close(
        models.logits(build.model.eval(), batch), models.logits(mute.model, batch), rtol=0, atol=CLOSE
    )
    assert sum(p.numel() for p in build.model.parameters()) < sum(p.numel() for p in mute.model.parameters())


def test_a_reader_without_a_bias_is_fitted_without_one(name: str, build: Build) -> None:
    """Else the best weight would count on a bias that nothing adds."""
    for path in CELLS[name].readers.values():
        of = reader(build, path, 32, 1e-3)
        weight, bias = of.refitted(columns_of(torch.arange(of.units // 2), of.unit))
        assert torch.isfinite(weight).all()
        assert bool(bias.any()) == (getattr(build.model.get_submodule(path), "bias", None) is not None)


def test_what_a_linear_sees_are_texts_and_the_positions_that_it_projects(name: str, shared: Shared) -> None:
    """Query and value read the same text; only where the query reads a table of positions too does it see more."""
    writers = FAMILIES[name].attention.at("1").writers
    seen = [shared.moments(32)[path].inputs for path in (writers[0], writers[-1])]
    assert torch.equal(*seen) == (name != "deberta-v2")


def test_factors_of_full_rank_change_nothing(name: str, loaded: Loaded, build: Build) -> None:
    for path in [*build.compressible()]:
        weight = build.weight(path)
        factorize(build.model, path, *truncate(weight, min(weight.shape)))
    batch = models.rows(name)
    torch.testing.assert_close(
        models.logits(build.model.eval(), batch), models.logits(loaded.model, batch), rtol=0, atol=CLOSE
    )


@pytest.mark.parametrize("method", STEPS)
def test_every_method_acts_trains_and_takes_the_planned_bytes(
    name: str, method: str, build: Build, loaded: Loaded, shape: ModelShape
) -> None:
    training = {"method": "distill", "epochs": 1, "batch_size": 32}
    first = METHODS[method].follows
    before = [{"method": first, **STEPS[first]}, training] if first else []
    steps = [*before, {"method": method, **STEPS[method]}, training]
    recipe = Recipe.model_validate({"steps": steps})
    for step in recipe.steps:
        for phase in step.compile(build):
            train(phase, Meter(Silent()), device=build.device)
    size, stored = size_of(recipe, shape), collect(build.model, build.masks, build.values)
    assert stored.size_bytes == size.size_bytes < 4 * shape.parameters
    found = models.logits(build.model.eval(), models.rows(name))
    assert torch.isfinite(found).all()
    assert not torch.allclose(found, models.logits(loaded.model, models.rows(name)), atol=1e-3)


def test_a_copy_has_nothing_to_learn_and_a_cut_student_learns_from_all_terms(
    name: str, shared: Shared, loaded: Loaded, tmp_path: Path
) -> None:
    """Logits, hidden states (recorded too) and attention of the teacher are what a copy of it gives."""
    weights = {"logits": 1.0, "hidden": 1.0, "attention": 1.0}
    batch = shared.train.collate([0, 1, 2], shared.device)
    same, cut = copy.deepcopy(loaded.model), copy.deepcopy(loaded.model)
    for path in [*loaded.family.compressible(cut)]:
        weight = cut.get_parameter(f"{path}.weight").detach()
        factorize(cut, path, *truncate(weight, 8))
    terms = []
    for student in (same, cut):
        judged = Distillation(student, loaded.model, loaded.family, weights=weights, temperature=2.0,
                              layer_map="identity", attention="maps")  # fmt: skip
        terms.append(judged.step(batch, lambda _: None))
    for term in weights:
        assert terms[0][term] == pytest.approx(0, abs=1e-6)
        assert terms[1][term] > 1e-4
    kept = record(loaded.model, shared.train, shared.device, tmp_path)
    assert kept is not None
    hidden = Distillation(same, loaded.model, loaded.family, weights={**weights, "attention": 0.0}, temperature=2.0,
                          layer_map="identity", relative=True, recorded=kept)  # fmt: skip
    assert hidden.step(batch, lambda _: None)["hidden"] == pytest.approx(0, abs=1e-5)


def test_tapped_scores_are_the_models_own(name: str, loaded: Loaded) -> None:
    """Where nothing else is added to them; of two texts no longer than a window."""
    model = copy.deepcopy(loaded.model)
    model.set_attn_implementation("eager")  # type: ignore[operator]
    tap = ScoreTap(model, loaded.family)
    with torch.no_grad(), tap:
        out = model(**models.rows(name, (5, 5)), output_attentions=True)
    pairs = tap.take()
    assert len(pairs) == models.LAYERS
    for (query, key), probabilities in zip(pairs, out.attentions, strict=True):
        own = torch.allclose(tap.scores(query, key).softmax(-1), probabilities, atol=1e-5)
        assert own == CELLS[name].own_scores


def test_units_that_stay_in_every_student_are_refused_by_name(name: str, shape: ModelShape) -> None:
    for path in CELLS[name].kept.values():
        recipe = Recipe(steps=(Structured(each={path: 1}),))
        with pytest.raises(RecipeInvalid, match=rf"{path}, .*may go.*structured on {name}") as refused:
            fill(recipe, Target(), shape)
        assert refused.value.param == "/recipe/steps/0/each"


@pytest.mark.parametrize(
    ("name", "changed", "error", "says"),
    [
        (
            "deberta-v2",
            {"share_att_key": False},
            ModelUnsupported,
            "share_att_key is False; legal for deberta-v2: true",
        ),
        ("roberta", {"max_position_embeddings": 129}, ModelInvalid, "leaves 127 tokens"),
        ("camembert", {"pad_token_id": None}, ModelInvalid, "pad_token_id is None; legal: a token"),
        ("mpnet", {"pad_token_id": 0}, ModelUnsupported, "pad_token_id is 0; legal for mpnet: 1"),
        ("distilbert", {"n_layers": 97}, ModelInvalid, "n_layers is 97"),
        (
            "electra",
            {"id2label": {"0": "a", "1": "b", "2": "c"}},
            ModelInvalid,
            r"classifier.out_proj.weight is \(2, 32\)",
        ),
    ],
    indirect=["name"],
)
def test_what_no_job_could_do_is_refused_before_it(
    name: str, changed: dict[str, object], error: type[Exception], says: str, tmp_path: Path
) -> None:
    folder = models.write(tmp_path / "model", name, models.build(name))
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))
    with pytest.raises(error, match=says):
        shape_of(folder)
