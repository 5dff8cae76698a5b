"""Runs a delivered model as its user will, in a process that `gate.py` has closed; writes what came out.

ORDER: `task`, `kind` ("onnx": {onnxruntime, numpy, tokenizers}; "torch": {torch, transformers, safetensors}; else
`form` is the path of a file that was asked for beside these, whose weights in memory are not counted), `folder`,
`shipped` (path of shipped.py, the very code that the artifact carries as verify.py), `rows` ([text, pair or null]),
`alone` (so many of the first rows have a batch each), `batch_size`, `ids` (token ids, each row run alone),
`max_length`, `threads`. OUT: `logits` in row order, `alone` (how many of them are of the rows that had a batch each),
`of_ids`, `load_s`, `run_s`, `bytes_in_memory`.
Texts are tokenised here, by the artifact's own tokenizer.json. Imports nothing of this project.
"""

import json
import runpy
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np


def load_onnx(shipped: dict[str, Any], folder: Path, threads: int) -> tuple[Any, Callable[[], int]]:
    """The session as a function, and what its weights take in memory."""

    def memory() -> int:
        # The runtime writes the graph that it would run, weights beside it: what folding has left dense is in there.
        with tempfile.TemporaryDirectory() as scratch:
            options = {
                "optimized_model_filepath": str(Path(scratch) / "graph.onnx"),
                "session.optimized_model_external_initializers_file_name": "weights",
                "session.optimized_model_external_initializers_min_size_in_bytes": "64",
            }
            shipped["onnx_session"](folder / "model.onnx", threads, **options)
            weights = Path(scratch) / "weights"
            return weights.stat().st_size if weights.exists() else 0

    return shipped["load_onnx"](folder, threads), memory


def load_torch(shipped: dict[str, Any], folder: Path, threads: int) -> tuple[Any, Callable[[], int]]:
    """The module as a function, and what its weights take in memory."""
    model = shipped["load_module"](folder, threads)
    tensors = {t.data_ptr(): t.nbytes for t in (*model.parameters(), *model.buffers())}
    return shipped["runner"](model, folder), lambda: sum(tensors.values())


LOADERS = {"onnx": load_onnx, "torch": load_torch}


def main(order: dict[str, Any], out: str) -> None:
    """Load, run, write."""
    shipped = runpy.run_path(order["shipped"])  # which loads scoring.py from beside it
    folder = Path(order["folder"])
    start = time.perf_counter()
    kind, threads = order["kind"], order["threads"]
    if kind in LOADERS:
        model, memory = LOADERS[kind](shipped, folder, threads)
    else:
        model, memory = shipped["FORMS"][order["form"]](folder, threads), int
    loaded = time.perf_counter()
    how = {"max_length": order["max_length"], "task": order["task"]}
    parts = [
        shipped["run_rows"](model, folder, rows, batch_size=size, **how)[0]
        for rows, size in ((order["rows"][: order["alone"]], 1), (order["rows"][order["alone"] :], order["batch_size"]))
        if rows
    ]
    done = time.perf_counter()
    ids = order["ids"]
    of_ids = shipped["run_ids"](model, ids, [[0] * len(row) for row in ids], 0, 1) if ids else np.zeros((0, 0))
    np.savez(
        out,
        logits=np.concatenate(parts),
        alone=len(parts[0]) if order["alone"] else 0,
        of_ids=of_ids,
        load_s=loaded - start,
        run_s=done - loaded,
        bytes_in_memory=memory(),
    )


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), sys.argv[2])
