"""The demo's teacher: fine-tuned for about a minute, good but not perfect, saved as any upload would be."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from transformers import BertForSequenceClassification

from demo import teacher, text

ROOT = Path(__file__).parents[2]


def fine_tune(train: Path, out: Path) -> Path:
    """As the demo does it: a process of its own."""
    command = [sys.executable, "-m", "demo.teacher", str(train), str(out), "--threads", "1"]
    subprocess.run(command, check=True, cwd=ROOT, env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE"})
    return out


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return text.write(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def taught(data: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's own teacher: a minute of one core; read only."""
    return fine_tune(data["train"], tmp_path_factory.mktemp("taught") / "teacher")


@pytest.mark.long
def test_it_scores_between_85_and_97_percent_on_the_evaluation_rows(taught: Path, data: dict[str, Path]) -> None:
    """Above what word counting reaches, with room for a student to be worse; it loads with no weight missing."""
    model, info = BertForSequenceClassification.from_pretrained(taught, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert [model.config.id2label[index] for index in range(model.config.num_labels)] == list(text.LABELS)
    tokenizer = Tokenizer.from_file(str(taught / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.enable_padding(length=None)
    with data["eval"].open(encoding="utf-8", newline="") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: len(row["text"]))  # little padding
    right = 0
    with torch.inference_mode():
        for start in range(0, len(rows), 50):
            batch = rows[start : start + 50]
            encoded = tokenizer.encode_batch([row["text"] for row in batch])
            logits = model.eval()(
                input_ids=torch.tensor([e.ids for e in encoded]),
                attention_mask=torch.tensor([e.attention_mask for e in encoded]),
            ).logits
            right += sum(
                text.LABELS[i] == row["label"] for i, row in zip(logits.argmax(-1).tolist(), batch, strict=True)
            )
    assert 0.85 <= right / len(rows) <= 0.97


@pytest.fixture
def few_rows(tmp_path: Path) -> Path:
    path = tmp_path / "few.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        out = csv.writer(file)
        out.writerow(["text", "label"])
        out.writerows((row.text, row.label) for row in text.generate("train")[: 2 * teacher.BATCH])
    return path


@pytest.mark.long
def test_the_same_rows_give_the_same_teacher(few_rows: Path, tmp_path: Path) -> None:
    first, second = (fine_tune(few_rows, tmp_path / name) for name in ("first", "second"))
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        assert (first / name).read_bytes() == (second / name).read_bytes()
    # and the folder holds what an upload may hold, and nothing that runs
    assert {path.name for path in first.iterdir()} == {"config.json", "model.safetensors", *teacher.TOKENIZER_FILES}
    assert json.loads((first / "config.json").read_text())["architectures"] == ["BertForSequenceClassification"]
