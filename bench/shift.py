"""`python -m bench.shift --data F --teacher F --other F --tokens 8192`: a trimmed vocabulary on text of another kind.

Two students of the same bytes, one of them with fewer rows in its word embedding, read the rows that grade the task and
then text of another data set (`--other`, its test split). Said of each kind of text: the share of its tokens whose row
was dropped, and the share of rows on which each student predicts what the teacher does. One JSON in
`bench/results/shift/`.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from pyarrow import parquet

from bench import rows
from bench.direct import made, stamp
from bench.systems import ROWS, prepare
from core import data as data_files
from core.batches import Split, load_tokenizer
from core.data import Columns
from core.inspect import shape_of
from core.measure import hardware
from core.metrics import agreement
from core.recipe import PRESETS, Ladder, Recipe, Target
from core.structure.vocabulary import frequent
from core.verify import logits

MOST = 2000  # rows of each kind of text
TOKENS = 512  # of a row, at most


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.shift", description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--other", type=Path, required=True)
    parser.add_argument("--tokens", type=int, default=8192)
    parser.add_argument("--bytes-ratio", type=float, default=20.0)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    plain = [step.model_dump() for step in PRESETS["small"].recipe.steps]
    recipes = {"whole": plain, "trimmed": [{"method": "vocabulary", "tokens": given.tokens}, *plain]}
    target, (shape, labels) = Target(bytes_ratio=given.bytes_ratio), shape_of(given.teacher)
    with TemporaryDirectory(prefix="bench-") as name:
        scratch = Path(name)
        task = prepare(given.data, scratch, given.seed, ROWS)
        texts = {given.data.name: _texts(task.eval), given.other.name: _texts(given.other / "test.parquet")}
        train = data_files.read(task.train, "train", Columns(), labels)
        train = train if task.select else data_files.split_select(train, given.seed)[0]
        tokenizer = load_tokenizer(given.teacher)
        read = Split.encode(tokenizer, train, max_tokens=TOKENS, pad_id=0)
        kept = set(frequent(read, given.tokens, shape.vocabulary).tolist())
        teacher = _stock(given.teacher, scratch / "stock")
        theirs = {text: _answers("torch", teacher, asked) for text, asked in texts.items()}
        row: dict[str, Any] = {**stamp(task, given.seed, "cpu"), "tokens": given.tokens, "target": target.given()}
        tokenizer.no_padding()
        for text, asked in texts.items():
            ids = [id_ for one in tokenizer.encode_batch(asked) for id_ in one.ids]
            row[text] = {"rows": len(asked), "dropped_tokens": sum(id_ not in kept for id_ in ids) / len(ids)}
        for kind, steps in recipes.items():
            recipe = Recipe.model_validate({"steps": steps})
            result = made(given.teacher, task, recipe, target, Ladder(), given.seed, "cpu", scratch / kind)
            row[kind] = result.report.model_dump(mode="json")
            for text, asked in texts.items():
                ours = _answers("onnx", result.folder, asked)
                row[text][f"agreement_{kind}"] = agreement(ours, theirs[text])
                print(kind, f"{result.report.point.retention:.4f}", text, row[text], flush=True)
    row["hardware"] = hardware(device="cpu", threads=1).model_dump(mode="json")
    rows.write(rows.RESULTS / "shift" / f"{given.data.name}-{given.other.name}.json", row)


def _texts(path: Path) -> list[str]:
    """The first rows of a file."""
    found: list[str] = parquet.read_table(path)["text"].slice(0, MOST).to_pylist()
    return found


def _stock(teacher: Path, folder: Path) -> Path:
    """The teacher as an artifact's PyTorch form lies."""
    shutil.copytree(teacher, folder / "pytorch")
    for file in folder.glob("pytorch/tokenizer*.json"):
        shutil.copy(file, folder)
    return folder


def _answers(kind: Any, folder: Path, asked: Iterable[str]) -> np.ndarray:
    return logits(kind, folder, [(text, None) for text in asked], max_length=TOKENS, threads=1).logits


if __name__ == "__main__":
    main()
