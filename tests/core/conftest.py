from pathlib import Path

import pytest
import torch

from tests import tiny


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained tiny model; read only."""
    return tiny.write_model(tmp_path_factory.mktemp("teacher") / "model", steps=60)


@pytest.fixture(scope="session")
def rows(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """train and eval as CSV; read only."""
    folder = tmp_path_factory.mktemp("rows")
    return {
        "train": tiny.write_csv(folder / "train.csv", tiny.sentences(400, seed=1)),
        # "field" and "shed" make eval texts differ from every other row.
        "eval": tiny.write_csv(folder / "eval.csv", [(f"{t} field shed", y) for t, y in tiny.sentences(120, seed=2)]),
    }
