"""The client's types follow the api, and what the client sends is what the service takes."""

from __future__ import annotations

import subprocess
import sys

import pytest
from ladapress.uploads import MEDIA_TYPES, MODEL_FILES

from core.upload import ALLOWED
from tests.client.conftest import ROOT


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
    from core.data import FORMATS

    assert {suffix.removeprefix(".") for suffix in MEDIA_TYPES} >= set(FORMATS)
