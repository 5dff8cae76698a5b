"""The client's types follow the api, and what the client sends is what the service takes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from ladapress.uploads import MEDIA_TYPES, MODEL_FILES, task_of

from core.family import FAMILIES, family_of
from core.task import TASKS
from core.upload import ALLOWED
from tests.client.conftest import ROOT
from tests.tasks import made


def test_the_generated_types_are_those_of_todays_api() -> None:
    ended = subprocess.run(
        [sys.executable, ROOT / "client" / "generate_types.py", "--check"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize(
    "name",
    [
        "config.json",
        "model.safetensors",
        "model-00001-of-00002.safetensors",
        "model.safetensors.index.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "vocab.txt",
        "vocab.json",
        "merges.txt",
        "spiece.model",
        "generation_config.json",
    ],
)
def test_every_file_that_the_client_sends_is_on_the_services_list(name: str) -> None:
    assert MODEL_FILES.fullmatch(name)
    assert ALLOWED.fullmatch(name)


@pytest.mark.parametrize(
    "name", ["pytorch_model.bin", "training_args.bin", "modeling_x.py", "trainer_state.json", "optimizer.pt", ".json"]
)
def test_what_training_leaves_beside_a_model_is_not_sent(name: str) -> None:
    assert not MODEL_FILES.fullmatch(name)


def test_every_dataset_format_of_the_service_has_a_file_name() -> None:
    from core.records import FORMATS

    assert {suffix.removeprefix(".") for suffix in MEDIA_TYPES} >= set(FORMATS)


@pytest.mark.parametrize("task", TASKS)
def test_the_command_reads_the_task_as_the_service_does(task: str, tmp_path: Path) -> None:
    config = made.build("bert", task).config
    architecture = FAMILIES["bert"].stem + TASKS[task].head
    given = {**config.to_dict(), "architectures": [architecture]}
    (tmp_path / "config.json").write_text(json.dumps(given))
    assert (task_of(tmp_path) or "classification") == family_of(given)[1].name == task


def test_what_no_config_says_is_left_to_the_service(tmp_path: Path) -> None:
    assert task_of(tmp_path) is None
    (tmp_path / "config.json").write_text("[]")
    assert task_of(tmp_path) is None
