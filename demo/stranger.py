"""Use a delivered folder as somebody would who has never heard of this project.

    python -I -S stranger.py SITE_PACKAGES FOLDER EVAL_CSV

`-I -S` leaves nothing on the import path but the standard library, and SITE_PACKAGES is added as a plain folder: the
links by which an editable installation reaches our sources are not followed, and that it is so is tried before
anything else. Needs onnxruntime, numpy and tokenizers. Prints one JSON object.
"""

import csv
import importlib
import json
import sys
from pathlib import Path

OURS = ("core", "jobs", "api", "worker", "ladapress", "demo")
BATCH = 32


def main(site_packages: str, folder: Path, eval_csv: Path) -> dict[str, object]:
    """Predict every row; give how many, how many rightly, and what importing each of OURS said."""
    sys.path.append(site_packages)
    refused = {}
    for name in OURS:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            refused[name] = str(error)
        else:
            raise SystemExit(f"`import {name}` succeeds here, so this process proves nothing")

    import numpy as np
    import onnxruntime as ort
    from tokenizers import Tokenizer

    labels = json.loads((folder / "report.json").read_text(encoding="utf-8"))["labels"]
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(512)
    tokenizer.enable_padding(pad_id=tokenizer.token_to_id("[PAD]"))
    options = ort.SessionOptions()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = ort.InferenceSession(str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    with eval_csv.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    right = 0
    for start in range(0, len(rows), BATCH):
        batch = rows[start : start + BATCH]
        encoded = tokenizer.encode_batch([row["text"] for row in batch])
        feed = {
            "input_ids": np.array([e.ids for e in encoded], dtype=np.int64),
            "attention_mask": np.array([e.attention_mask for e in encoded], dtype=np.int64),
            "token_type_ids": np.array([e.type_ids for e in encoded], dtype=np.int64),
        }
        (logits,) = session.run(["logits"], {name: feed[name] for name in names})
        right += sum(labels[i] == row["label"] for i, row in zip(logits.argmax(-1), batch, strict=True))
    return {"rows": len(rows), "right": int(right), "refused": refused}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))))
