"""A cell is a family with a task: `make test` runs BERT with every task, `make test-long` all cells."""

from pathlib import Path

import pytest
import torch

from core.batches import Split, load_tokenizer
from core.data import Columns, read
from core.model import Loaded, load
from core.shared import Shared
from core.task import TASKS
from tests.families import models
from tests.tasks import made

CELLS = [
    pytest.param((name, task), id=f"{name}-{task}", marks=[] if name == "bert" else pytest.mark.long)
    for name in models.NAMES
    for task in TASKS
]


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session", params=CELLS)
def cell(request: pytest.FixtureRequest) -> tuple[str, str]:
    """model_type and task."""
    name, task = request.param
    return str(name), str(task)


@pytest.fixture(scope="session")
def folder(cell: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a random model. Read only."""
    return made.write(tmp_path_factory.mktemp("cell") / "model", *cell, steps=0)


@pytest.fixture(scope="session")
def loaded(folder: Path, cell: tuple[str, str]) -> Loaded:
    """Read only."""
    found = load(folder, cell[1])
    found.model.requires_grad_(False)
    return found


@pytest.fixture(scope="session")
def split(loaded: Loaded, folder: Path, cell: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> Split:
    """Labelled rows."""
    path = made.write_rows(tmp_path_factory.mktemp("rows") / "rows.jsonl", cell[1], 48, 5)
    found = read(path, "eval", Columns(), loaded.labels, task=TASKS[cell[1]])
    return Split.encode(load_tokenizer(folder), found, **loaded.encoding)


def share(loaded: Loaded, split: Split, scratch: Path) -> Shared:
    return Shared(loaded.model, loaded.family, split, 0, torch.device("cpu"), scratch, split)


@pytest.fixture(scope="session")
def shared(loaded: Loaded, split: Split, tmp_path_factory: pytest.TempPathFactory) -> Shared:
    return share(loaded, split, tmp_path_factory.mktemp("shared"))
