"""Checks this folder: python verify.py [--eval FILE]

What it says is that the folder agrees with itself and does what its report says. It cannot say who made it, for
whoever changes a file can change this one too: `ladapress verify` checks the signature with code of its own.

Every file against manifest.json; model.onnx, pytorch/ and what lies in outputs/, where what they need is installed,
on the inputs of parity.json against the answers that the model gave before it was packed; with --eval, the accuracy
on those rows against report.json, and the milliseconds of one text. Needs onnxruntime, numpy and tokenizers for
model.onnx; torch, transformers and safetensors for pytorch/; pyarrow where the file is Parquet. Exit code: 0 all
right, 1 something is not, 2 nothing could be run. One file past 350 lines: it is read and run alone.
"""

import argparse
import hashlib
import importlib.util
import inspect
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

try:
    import numpy as np
except ImportError:  # hashes can be checked all the same
    np = None  # type: ignore[assignment]


def beside(path: Path) -> Any:
    """A file of this folder as a module. Nothing is left beside it: the folder stays what was signed."""
    sys.dont_write_bytecode = True
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def scoring() -> Any:
    """scoring.py of this folder; not before its hash was looked at."""
    return beside(Path(__file__).with_name("scoring.py"))


Feed = dict[str, Any]
Model = Callable[[Feed], Any]
Row = tuple[Any, str | None]  # a text, or the list of its words, and, where there is one, its second
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
MANIFEST, SIGNATURE, REPORT, PARITY = "manifest.json", "signature.json", "report.json", "parity.json"
POOLING = "pooling.json"  # of pytorch/
HUB = (".gitattributes/", ".git/", ".cache/huggingface/")  # what a hub and its clients leave beside an artifact
NEEDS = {
    "model.onnx": ("onnxruntime", "numpy", "tokenizers"),
    "pytorch": ("torch", "transformers", "safetensors", "numpy", "tokenizers"),
    # What a job may ask for beside the two; most folders hold none.
    "outputs/model.fp16.onnx": ("onnxruntime", "numpy", "tokenizers"),
    "outputs/model.int8.onnx": ("onnxruntime", "numpy", "tokenizers"),
    "outputs/openvino/model.xml": ("openvino", "numpy", "tokenizers"),
    "outputs/model.pt2": ("torch", "numpy", "tokenizers"),
}
ROLES = ("text", "text_pair", "label")
SAME = 1e-9  # of a metric: nearer is the order of summing
ELSEWHERE = 0.003  # what another processor's rounding may change
TIMED, WARM_UP = 21, 3


def onnx_session(path: Path, threads: int, **options: str) -> Any:
    """A session on the CPU; `options` are attributes of SessionOptions or, with a dot in the name, config entries."""
    import onnxruntime as ort  # absent where only pytorch/ is used

    settings = ort.SessionOptions()
    settings.intra_op_num_threads, settings.inter_op_num_threads = threads, 1
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    settings.log_severity_level = 3
    for name, value in options.items():
        if "." in name:
            settings.add_session_config_entry(name, value)
        else:
            setattr(settings, name, value)
    return ort.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])


def load_onnx(folder: Path, threads: int, name: str = "model.onnx") -> Model:
    """An ONNX file as a function of a feed."""
    made = onnx_session(folder / name, threads)
    names = {value.name for value in made.get_inputs()}

    def run(feed: Feed) -> Any:
        found = made.run(None, {name: feed[name] for name in names})
        return found[0] if len(found) == 1 else np.stack(found, axis=-1)

    return run


def load_module(folder: Path, threads: int) -> Any:
    """pytorch/ as a module. A stock directory has no load.py."""
    import torch  # absent where only model.onnx is used

    torch.set_num_threads(threads)
    place = folder / "pytorch"
    if (place / "load.py").exists():
        return beside(place / "load.py").load(place)
    import transformers

    kind = getattr(transformers, json.loads((place / "config.json").read_text(encoding="utf-8"))["architectures"][0])
    # The pooler that some encoders have is not what makes an embedding: it is not there.
    extra = {"add_pooling_layer": False} if "add_pooling_layer" in inspect.signature(kind.__init__).parameters else {}
    extra = extra if (place / POOLING).exists() else {}
    model, info = kind.from_pretrained(
        place, local_files_only=True, use_safetensors=True, dtype=torch.float32, output_loading_info=True, **extra
    )
    # Transformers fills a missing weight with random numbers and carries on.
    if any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys")):
        raise ValueError(f"weights do not match config.json: {info}")
    return model.eval()


def runner(model: Any, folder: Path) -> Model:
    """A module as a function of a feed. Where pytorch/ says how states are pooled, the outputs are embeddings."""
    import torch

    path = folder / "pytorch" / POOLING
    pooling = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None

    takes = inspect.signature(model.forward).parameters
    segments = getattr(model.config, "type_vocab_size", 0) > 1 and "token_type_ids" in takes

    def run(feed: Feed) -> Any:
        names = INPUTS if segments else INPUTS[:2]
        with torch.inference_mode():
            out = model(**{name: torch.from_numpy(feed[name]) for name in names})
        if pooling is not None:
            return pooled(out.last_hidden_state.numpy(), feed["attention_mask"], **pooling)
        if hasattr(out, "start_logits"):
            return np.stack([out.start_logits.numpy(), out.end_logits.numpy()], axis=-1)
        return out.logits.numpy()

    return run


def pooled(states: Any, mask: Any, *, mode: str, normalize: bool) -> Any:
    """Embeddings (rows, width) of states (rows, tokens, width): the first token's, or the mean of real ones."""
    weights = mask[:, :, None].astype(states.dtype)
    found = states[:, 0] if mode == "cls" else (states * weights).sum(axis=1) / weights.sum(axis=1)
    return found / np.linalg.norm(found, axis=1, keepdims=True) if normalize else found


def load_torch(folder: Path, threads: int) -> Model:
    """pytorch/ as a function of a feed."""
    return runner(load_module(folder, threads), folder)


def load_openvino(folder: Path, threads: int) -> Model:
    """The IR as a function of a feed, computed in fp32: left to itself OpenVINO may take bf16."""
    import openvino

    settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
    made = openvino.Core().compile_model(str(folder / "outputs/openvino/model.xml"), "CPU", settings)
    names = {value.get_any_name() for value in made.inputs}

    def run(feed: Feed) -> Any:
        found = made({name: feed[name] for name in names})
        parts = [found[one] for one in made.outputs]
        return parts[0] if len(parts) == 1 else np.stack(parts, axis=-1)

    return run


def load_program(folder: Path, threads: int) -> Model:
    """The program of torch.export as a function of a feed."""
    import torch

    torch.set_num_threads(threads)
    made = torch.export.load(folder / "outputs/model.pt2").module()
    takes = len(inspect.signature(made.forward).parameters)

    def run(feed: Feed) -> Any:
        with torch.inference_mode():
            found = [one.numpy() for one in made(*(torch.from_numpy(feed[name]) for name in INPUTS[:takes]))]
        return found[0] if len(found) == 1 else np.stack(found, axis=-1)

    return run


FORMS: dict[str, Callable[[Path, int], Model]] = {
    "model.onnx": load_onnx,
    "pytorch": load_torch,
    "outputs/model.fp16.onnx": partial(load_onnx, name="outputs/model.fp16.onnx"),
    "outputs/model.int8.onnx": partial(load_onnx, name="outputs/model.int8.onnx"),
    "outputs/openvino/model.xml": load_openvino,
    "outputs/model.pt2": load_program,
}


def run_rows(
    model: Model, folder: Path, rows: Sequence[Row], *, max_length: int, batch_size: int, task: str
) -> tuple[Any, list[Any]]:
    """Outputs in row order, and the `places` of tokens. Rows of like length run together, padded to the longest.

    Where two texts are to be embedded, each is a row of its own.
    """
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()  # the file may ask for a fixed length
    tokenizer.enable_truncation(max_length)
    texts = [text if pair is None else (text, pair) for text, pair in rows]
    if task == "sentence_embedding":
        texts = [text for row in rows for text in row if text is not None]
    encoded = tokenizer.encode_batch(texts, is_pretokenized=task == "token_classification")
    ids, types = [row.ids for row in encoded], [row.type_ids for row in encoded]
    places = [scoring().places(task, row) for row in encoded]
    return run_ids(model, ids, types, _pad_id(folder, tokenizer), batch_size), places


def run_ids(
    model: Model, ids: Sequence[Sequence[int]], types: Sequence[Sequence[int]], pad_id: int, batch_size: int
) -> Any:
    """Outputs (rows, width), or (tokens of all rows, width), of token ids, in row order."""
    order = sorted(range(len(ids)), key=lambda row: len(ids[row]))
    outputs: list[Any] = [None] * len(ids)
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        tokens = np.full((len(batch), len(ids[batch[-1]])), pad_id, dtype=np.int64)
        mask, segments = np.zeros_like(tokens), np.zeros_like(tokens)
        for place, row in enumerate(batch):
            length = len(ids[row])
            tokens[place, :length], segments[place, :length], mask[place, :length] = ids[row], types[row], 1
        found = model(dict(zip(INPUTS, (tokens, mask, segments), strict=True)))
        for place, row in enumerate(batch):
            outputs[row] = found[place : place + 1] if found.ndim == 2 else found[place, : len(ids[row])]
    return np.concatenate(outputs).astype(np.float32)


def _pad_id(folder: Path, tokenizer: Any) -> int:
    """The padding token's id by tokenizer_config.json, 0 where it names none. Padding is masked in any case."""
    path = folder / "tokenizer_config.json"
    token = json.loads(path.read_text(encoding="utf-8")).get("pad_token") if path.exists() else None
    token = token.get("content") if isinstance(token, dict) else token
    return (tokenizer.token_to_id(token) if token else None) or 0


def damage(folder: Path) -> list[str]:
    """What manifest.json says of its files and is not so, a line each."""
    listed = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
    found = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if not path.is_dir()}
    wrong = [f"{name}: is missing" for name in listed if name not in found]
    for name, path in found.items():
        if name in (MANIFEST, SIGNATURE) or "__pycache__" in path.parts or (name + "/").startswith(HUB):
            continue
        if name not in listed:
            wrong.append(f"{name}: manifest.json does not list it")
        elif path.is_symlink():
            wrong.append(f"{name}: is a link")
        elif (size := path.stat().st_size) != listed[name]["size"]:
            wrong.append(f"{name}: {size} bytes, manifest.json says {listed[name]['size']}")
        elif (sha256 := _digest(path)) != listed[name]["sha256"]:
            wrong.append(f"{name}: sha256 {sha256}, manifest.json says {listed[name]['sha256']}")
    return wrong


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def apart(folder: Path, form: str, model: Model) -> tuple[float, float]:
    """Largest difference of this form's answers to those of parity.json, and what is allowed. Rows run one by one."""
    known = json.loads((folder / PARITY).read_text(encoding="utf-8"))
    types = [[0] * len(row) for row in known["input_ids"]]
    found = run_ids(model, known["input_ids"], types, 0, 1)
    return float(np.abs(found - np.array(known["logits"], dtype=np.float32)).max()), known["tolerance"][form]


def read_rows(path: Path, report: Any, columns: dict[str, str]) -> tuple[list[Row], list[Any]]:
    """Rows of an evaluation file and what is right of each. `columns`: role -> name, over those of the report."""
    names = {**report.get("columns", {}), **columns}
    found: tuple[list[Row], list[Any]] = scoring().read_rows(
        path, report["task"], report["labels"], [names.get(role) for role in ROLES]
    )
    return found


def score(model: Model, folder: Path, report: Any, rows: Sequence[Row], truth: Sequence[Any]) -> float:
    """The report's metric of a model on these rows, batched as they were when the report was made."""
    task, metric, labels = report["task"], report["point"]["metric"], report["labels"]
    outputs, places = run_rows(model, folder, rows, max_length=report["max_tokens"], batch_size=32, task=task)
    guess = scoring().guesses(task, outputs, places, [pair for _, pair in rows])
    found: float = scoring().score(task, metric, scoring().cut_off(task, truth, places), guess, labels)
    return found


def milliseconds(model: Model, tokens: int) -> float:
    """Median of one text of so many tokens."""
    ids = (np.arange(tokens, dtype=np.int64) % 64)[None]
    feed = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    seconds = []
    for _ in range(WARM_UP + TIMED):
        start = time.perf_counter()
        model(feed)
        seconds.append(time.perf_counter() - start)
    return 1e3 * statistics.median(seconds[WARM_UP:])


class Checks:
    """Lines of a verdict as they come."""

    def __init__(self) -> None:
        self.failed = self.ran = 0

    def say(self, good: bool | None, text: str) -> None:
        """None: it was not checked."""
        self.failed += good is False
        print({True: "ok      ", False: "WRONG   ", None: "skipped "}[good] + text, flush=True)


def check_form(
    checks: Checks, folder: Path, form: str, threads: int, asked: tuple[list[Row], list[Any]] | None
) -> None:
    """Parity of one form and, where rows are given, its metric and milliseconds."""
    missing = [name for name in NEEDS[form] if importlib.util.find_spec(name) is None]
    if missing:
        checks.say(None, f"{form}: {', '.join(missing)} not installed")
        return
    checks.ran += 1
    report = json.loads((folder / REPORT).read_text(encoding="utf-8"))
    try:
        model = FORMS[form](folder, threads)
        worst, allowed = apart(folder, form, model)
    except Exception as error:  # whatever a damaged file makes of it is what has to be said
        checks.say(False, f"{form}: does not run: {type(error).__name__}: {str(error)[:300]}")
        return
    checks.say(
        worst <= allowed,
        f"{form}: answers differ by {worst:.2g} from the model's before packing; {allowed:g} is allowed",
    )
    if asked is None:
        return
    point, (rows, truth) = report["point"], asked
    value, promised = score(model, folder, report, rows, truth), point["student_by_file"][form]
    same = abs(value - promised) < SAME
    other = "" if same or abs(value - promised) > ELSEWHERE else ": as near as another processor comes"
    checks.say(
        same or bool(other),
        f"{form}: {point['metric']} {value:.6f} on {len(rows)} rows; report.json says {promised:.6f}{other}",
    )
    if form == "model.onnx":
        told = point["latency"][0]
        took = milliseconds(model, told["tokens"])
        # Another machine has other milliseconds: this is for reading.
        theirs = told["student_ms_p50"]
        print(f"        {form}: {took:.2f} ms for {told['tokens']} tokens; the report's machine took {theirs:.2f} ms")


def main(arguments: Sequence[str] | None = None, folder: Path | None = None) -> int:
    """The exit code. `folder`: that of this file where None."""
    folder = folder or Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(
        prog="verify.py", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--eval", type=Path, help="rows that the report was measured on: .csv, .jsonl or .parquet")
    parser.add_argument("--text", help="text column [text or sentence]")
    parser.add_argument("--text-pair", help="second text's column [text_pair]")
    parser.add_argument("--label", help="label column [label]")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args(arguments)
    print("This shows that the folder agrees with itself, not who made it: `ladapress verify` checks the signature.")
    checks = Checks()
    wrong = damage(folder)
    for line in wrong:
        checks.say(False, line)
    if wrong:
        return 1  # files that are not what they were are not run
    checks.say(True, "sizes and sha256 of all files are as manifest.json says")
    asked = None
    if given.eval is not None:
        report = json.loads((folder / REPORT).read_text(encoding="utf-8"))
        try:
            asked = read_rows(given.eval, report, {role: name for role in ROLES if (name := getattr(given, role))})
        except Exception as error:  # whatever a reader says of a file that is no such file
            checks.say(False, f"{given.eval} cannot be read: {type(error).__name__}: {error}")
    for form in [name for name in FORMS if (folder / name).exists()]:
        check_form(checks, folder, form, given.threads, asked)
    return 1 if checks.failed else 0 if checks.ran else 2


if __name__ == "__main__":
    sys.exit(main())
