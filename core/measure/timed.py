"""Times ONNX files in turns with one; run by `core/verify/gate.py` where only onnxruntime and numpy can be imported.

ORDER: `teacher` (path), `students` (paths), `threads`, `pairs`, `warm_up`, `grid` ([batch, tokens] in order), `always`
(how many of the first cells take no notice of the budget), `budget_s`, `ids` (how many different tokens). OUT:
"N.BATCHxTOKENS" -> seconds (pairs, 2) of the teacher and student N.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

TOKENS = 64  # distinct token ids, where the vocabulary has so many


def session(path: str, threads: int) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def feed(model: Any, batch: int, tokens: int, distinct: int) -> dict[str, Any]:
    """Fixed token ids, nothing padded."""
    ids = (np.arange(batch * tokens, dtype=np.int64) % distinct).reshape(batch, tokens)
    made = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    return {value.name: made[value.name] for value in model.get_inputs()}


def pair(models: list[Any], feeds: list[dict[str, Any]], first: int) -> list[float]:
    """Seconds of each model, the one at `first` run before the other."""
    seconds = [0.0, 0.0]
    for which in (first, 1 - first):
        start = time.perf_counter()
        models[which].run(None, feeds[which])
        seconds[which] = time.perf_counter() - start
    return seconds


def main(order: dict[str, Any], out: str) -> None:
    """Measure the cells of the grid that the budget allows."""
    ends = time.perf_counter() + order["budget_s"]
    teacher = session(order["teacher"], order["threads"])
    found: dict[str, Any] = {}
    for number, path in enumerate(order["students"]):
        models = [teacher, session(path, order["threads"])]
        for index, (batch, tokens) in enumerate(order["grid"]):
            feeds = [feed(model, batch, tokens, order["ids"]) for model in models]
            one = min(sum(pair(models, feeds, turn % 2)) for turn in range(2)) if index else 0.0
            left = ends - time.perf_counter()
            if index >= order["always"] and one * (order["warm_up"] + order["pairs"]) > left:
                continue
            for turn in range(order["warm_up"]):
                pair(models, feeds, turn % 2)
            seconds = [pair(models, feeds, turn % 2) for turn in range(order["pairs"])]
            found[f"{number}.{batch}x{tokens}"] = np.array(seconds)
    np.savez(out, **found)


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), sys.argv[2])
