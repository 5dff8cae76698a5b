"""Of every family: a small random model, as it is loaded, with text and all that a recipe's steps ask for."""

from pathlib import Path

import pytest
import torch

from core.batches import Split, load_tokenizer
from core.data import Rows
from core.model import Loaded, load
from core.phase import Build
from core.plan import ModelShape
from core.shared import Shared
from tests import tiny
from tests.families import models


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session", params=models.NAMES)
def name(request: pytest.FixtureRequest) -> str:
    """The model_type."""
    return str(request.param)


@pytest.fixture(scope="session")
def folder(name: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Read only."""
    return models.write(tmp_path_factory.mktemp(name), name, models.build(name))


@pytest.fixture(scope="session")
def loaded(folder: Path) -> Loaded:
    """Read only."""
    found = load(folder)
    found.model.requires_grad_(False)
    return found


@pytest.fixture(scope="session")
def shared(loaded: Loaded, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Shared:
    return share(loaded, folder, tmp_path_factory.mktemp("shared"))


def share(loaded: Loaded, folder: Path, scratch: Path) -> Shared:
    texts, labels = zip(*tiny.sentences(96, seed=1), strict=True)
    rows = Rows([*texts], [*reversed(texts)], [*labels])  # pairs: segment ids must go only where they are taken
    split = Split.encode(load_tokenizer(folder), rows, **loaded.encoding).cut(64)
    return Shared(loaded.model, loaded.family, split, 0, torch.device("cpu"), scratch)


@pytest.fixture
def build(shared: Shared) -> Build:
    """A student that is a copy of the teacher so far."""
    return shared.student()


@pytest.fixture(scope="session")
def shape(folder: Path) -> ModelShape:
    from core.inspect import shape_of

    return shape_of(folder)[0]
