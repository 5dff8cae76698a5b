"""Runs a delivered model as its user will, in a process that `gate.py` has closed; writes what came out.

ORDER: `kind` ("onnx": {onnxruntime, numpy, tokenizers}; "torch": {torch, transformers, safetensors}), `folder`,
`rows` ([text, pair or null]), `max_length`, `threads`, `batch_size`. OUT: `logits` (rows, classes) in row order,
`load_s`, `run_s`, `bytes_in_memory`. Texts are tokenised here, by the artifact's own tokenizer.json. Imports nothing
of this project.
"""

import importlib.util
import inspect
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

Feed = dict[str, Any]
Model = Callable[[Feed], Any]
INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def load_onnx(folder: Path, threads: int) -> tuple[Model, Callable[[], int]]:
    """The session as a function, and what its weights take in memory."""
    import onnxruntime as ort  # noqa: PLC0415 - absent where the torch form is checked

    path = folder / "model.onnx"

    def session(options: Any) -> Any:
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def memory() -> int:
        # The runtime writes the graph that it would run, weights beside it: what folding has left dense is in there.
        with tempfile.TemporaryDirectory() as scratch:
            options = ort.SessionOptions()
            options.optimized_model_filepath = str(Path(scratch) / "graph.onnx")
            options.add_session_config_entry("session.optimized_model_external_initializers_file_name", "weights")
            options.add_session_config_entry("session.optimized_model_external_initializers_min_size_in_bytes", "64")
            session(options)
            weights = Path(scratch) / "weights"
            return weights.stat().st_size if weights.exists() else 0

    made = session(ort.SessionOptions())
    names = {value.name for value in made.get_inputs()}
    return lambda feed: made.run(["logits"], {name: feed[name] for name in names})[0], memory


def load_torch(folder: Path, threads: int) -> tuple[Model, Callable[[], int]]:
    """The module as a function, and what its weights take in memory. A stock directory has no load.py."""
    import torch  # noqa: PLC0415 - absent where the ONNX form is checked

    torch.set_num_threads(threads)
    place = folder / "pytorch"
    if (place / "load.py").exists():
        spec = importlib.util.spec_from_file_location("load", place / "load.py")
        if spec is None or spec.loader is None:
            raise ImportError(f"{place / 'load.py'} cannot be imported")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        model = module.load(place)
    else:
        import transformers  # noqa: PLC0415

        architecture = json.loads((place / "config.json").read_text(encoding="utf-8"))["architectures"][0]
        model, info = getattr(transformers, architecture).from_pretrained(
            place, local_files_only=True, use_safetensors=True, dtype=torch.float32, output_loading_info=True
        )
        # Transformers fills a missing weight with random numbers and carries on.
        if any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys")):
            raise ValueError(f"weights do not match config.json: {info}")
        model.eval()
    takes = inspect.signature(model.forward).parameters
    segments = getattr(model.config, "type_vocab_size", 0) > 1 and "token_type_ids" in takes

    def run(feed: Feed) -> Any:
        names = INPUTS if segments else INPUTS[:2]
        with torch.inference_mode():
            return model(**{name: torch.from_numpy(feed[name]) for name in names}).logits.numpy()

    tensors = {t.data_ptr(): t.nbytes for t in (*model.parameters(), *model.buffers())}
    return run, lambda: sum(tensors.values())


def pad_id(folder: Path, tokenizer: Tokenizer) -> int:
    """The padding token's id by tokenizer_config.json, 0 where it names none. Padding is masked in any case."""
    path = folder / "tokenizer_config.json"
    token = json.loads(path.read_text(encoding="utf-8")).get("pad_token") if path.exists() else None
    token = token.get("content") if isinstance(token, dict) else token
    return (tokenizer.token_to_id(token) if token else None) or 0


def run_rows(model: Model, folder: Path, rows: list[Any], *, max_length: int, batch_size: int) -> Any:
    """Logits (rows, classes) in row order. Rows of like length run together, padded to the longest."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()  # the file may ask for a fixed length
    tokenizer.enable_truncation(max_length)
    encoded = tokenizer.encode_batch([text if pair is None else (text, pair) for text, pair in rows])
    padding = pad_id(folder, tokenizer)
    order = sorted(range(len(rows)), key=lambda row: len(encoded[row].ids))
    logits = None
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        ids = np.full((len(batch), len(encoded[batch[-1]].ids)), padding, dtype=np.int64)
        mask, types = np.zeros_like(ids), np.zeros_like(ids)
        for place, row in enumerate(batch):
            length = len(encoded[row].ids)
            ids[place, :length], types[place, :length] = encoded[row].ids, encoded[row].type_ids
            mask[place, :length] = 1
        found = model(dict(zip(INPUTS, (ids, mask, types), strict=True)))
        logits = np.zeros((len(rows), found.shape[1]), dtype=np.float32) if logits is None else logits
        logits[batch] = found
    return logits


def main(order: dict[str, Any], out: str) -> None:
    """Load, run, write."""
    folder = Path(order["folder"])
    start = time.perf_counter()
    model, memory = {"onnx": load_onnx, "torch": load_torch}[order["kind"]](folder, order["threads"])
    loaded = time.perf_counter()
    parts = [
        run_rows(model, folder, rows, max_length=order["max_length"], batch_size=size)
        for rows, size in ((order["rows"][: order["alone"]], 1), (order["rows"][order["alone"] :], order["batch_size"]))
        if rows
    ]
    logits = np.concatenate(parts)
    done = time.perf_counter()
    np.savez(out, logits=logits, load_s=loaded - start, run_s=done - loaded, bytes_in_memory=memory())


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), sys.argv[2])
