"""`python -m bench.base_bytes --data F --tokenizer F`: bytes of presets' files for a model of BERT-base's shape.

No training changes how many bytes two bits take, so weights are random ones and each training is one step of a few
rows. The file is made, verified and read back as always: `model.onnx`, with embedding, head and scales in it, beside
fp32's 4 bytes a parameter. One JSON file, `bench/results/base_bytes.json`.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from pyarrow import parquet
from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

from bench import rows
from core.data import Data
from core.pipeline import compress
from core.recipe import PRESETS, Recipe, Target

NAMES = ("ternarybert", "binarybert")
FEW_ROWS = 400
SHORTLY: dict[str, Any] = {"max_rows": 32, "epochs": 0.01, "min_steps": 0, "learning_rate": 1e-12}


def of_base_shape(tokenizer: Path, folder: Path) -> int:
    """Twelve layers of 768 with 30,522 tokens and two labels, drawn at random; how many parameters."""
    torch.manual_seed(0)
    model = BertForSequenceClassification(BertConfig())  # of two labels
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(tokenizer).save_pretrained(folder)
    return sum(one.numel() for one in model.parameters())


def shortly(recipe: Recipe) -> Recipe:
    """The same steps with next to no training."""
    steps = [
        step.model_copy(update={name: value for name, value in SHORTLY.items() if name in type(step).model_fields})
        if step.trains
        else step
        for step in recipe.steps
    ]
    return recipe.model_copy(update={"steps": steps})


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.base_bytes", description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, required=True, help="a model whose tokenizer is BERT's")
    given = parser.parse_args()
    found = {}
    for name in NAMES:
        with TemporaryDirectory(prefix="bench-") as scratch:
            teacher = Path(scratch) / "teacher"
            parameters = of_base_shape(given.tokenizer, teacher)
            train = Path(scratch) / "train.parquet"
            parquet.write_table(parquet.read_table(given.data / "train.parquet").slice(0, FEW_ROWS), train)
            result = compress(
                teacher, shortly(PRESETS[name].recipe), Data(train, train), target=Target(), seed=0,
                out=Path(scratch) / name, threads=2,
            )  # fmt: skip
            size = (result.points[0].folder / "model.onnx").stat().st_size
        found[name] = {"bytes": size, "parameters": parameters, "ratio": 4 * parameters / size}
        print(f"{name}: {size:,} bytes, {found[name]['ratio']:.2f}x fewer than {4 * parameters:,}", flush=True)
    rows.write(rows.RESULTS / "base_bytes.json", {"git_sha": rows.git_sha(), "shape": "bert-base", "files": found})


if __name__ == "__main__":
    main()
