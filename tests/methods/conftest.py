"""The tiny teacher, with its tokenised text and the moments of its layers: what every data-aware method stands on."""

from pathlib import Path

import pytest
import torch

from core.batches import Split, load_tokenizer
from core.data import Rows
from core.model import Loaded, load
from core.phase import Build
from core.shared import Shared
from tests import tiny


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained tiny model; read only."""
    return tiny.write_model(tmp_path_factory.mktemp("teacher") / "model", steps=60)


def text(folder: Path, count: int, seed: int) -> Split:
    texts, labels = zip(*tiny.sentences(count, seed), strict=True)
    return Split.encode(load_tokenizer(folder), Rows([*texts], None, [*labels]), max_tokens=64, pad_id=0)


@pytest.fixture(scope="session")
def loaded(teacher: Path) -> Loaded:
    """Read only."""
    found = load(teacher)
    found.model.requires_grad_(False)
    return found


@pytest.fixture(scope="session")
def shared(loaded: Loaded, teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Shared:
    split = text(teacher, 300, seed=1)
    return Shared(loaded.model, loaded.family, split, 0, torch.device("cpu"), tmp_path_factory.mktemp("shared"))


@pytest.fixture
def build(shared: Shared) -> Build:
    """A student that is a copy of the teacher so far."""
    return shared.student()
