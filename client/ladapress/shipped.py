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
import csv
import hashlib
import importlib.util
import inspect
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

try:
    import numpy as np
except ImportError:  # hashes can be checked all the same
    np = None  # type: ignore[assignment]

Feed = dict[str, Any]
Model = Callable[[Feed], Any]
Row = tuple[str, str | None]  # a text and, where there is one, its second
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
MANIFEST, SIGNATURE, REPORT, PARITY = "manifest.json", "signature.json", "report.json", "parity.json"
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
    return lambda feed: made.run(["logits"], {name: feed[name] for name in names})[0]


def load_module(folder: Path, threads: int) -> Any:
    """pytorch/ as a module. A stock directory has no load.py."""
    import torch  # absent where only model.onnx is used

    torch.set_num_threads(threads)
    sys.dont_write_bytecode = True  # load.py leaves nothing beside it: the folder stays what was signed
    place = folder / "pytorch"
    if (place / "load.py").exists():
        spec = importlib.util.spec_from_file_location("load", place / "load.py")
        if spec is None or spec.loader is None:
            raise ImportError(f"{place / 'load.py'} cannot be imported")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.load(place)
    import transformers

    architecture = json.loads((place / "config.json").read_text(encoding="utf-8"))["architectures"][0]
    model, info = getattr(transformers, architecture).from_pretrained(
        place, local_files_only=True, use_safetensors=True, dtype=torch.float32, output_loading_info=True
    )
    # Transformers fills a missing weight with random numbers and carries on.
    if any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys")):
        raise ValueError(f"weights do not match config.json: {info}")
    return model.eval()


def runner(model: Any) -> Model:
    """A module as a function of a feed."""
    import torch

    takes = inspect.signature(model.forward).parameters
    segments = getattr(model.config, "type_vocab_size", 0) > 1 and "token_type_ids" in takes

    def run(feed: Feed) -> Any:
        names = INPUTS if segments else INPUTS[:2]
        with torch.inference_mode():
            return model(**{name: torch.from_numpy(feed[name]) for name in names}).logits.numpy()

    return run


def load_torch(folder: Path, threads: int) -> Model:
    """pytorch/ as a function of a feed."""
    return runner(load_module(folder, threads))


def load_openvino(folder: Path, threads: int) -> Model:
    """The IR as a function of a feed, computed in fp32: left to itself OpenVINO may take bf16."""
    import openvino

    settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
    made = openvino.Core().compile_model(str(folder / "outputs/openvino/model.xml"), "CPU", settings)
    names = {value.get_any_name() for value in made.inputs}
    return lambda feed: made({name: feed[name] for name in names})["logits"]


def load_program(folder: Path, threads: int) -> Model:
    """The program of torch.export as a function of a feed."""
    import torch

    torch.set_num_threads(threads)
    made = torch.export.load(folder / "outputs/model.pt2").module()
    takes = len(inspect.signature(made.forward).parameters)

    def run(feed: Feed) -> Any:
        with torch.inference_mode():
            return made(*(torch.from_numpy(feed[name]) for name in INPUTS[:takes])).numpy()

    return run


FORMS: dict[str, Callable[[Path, int], Model]] = {
    "model.onnx": load_onnx,
    "pytorch": load_torch,
    "outputs/model.fp16.onnx": partial(load_onnx, name="outputs/model.fp16.onnx"),
    "outputs/model.int8.onnx": partial(load_onnx, name="outputs/model.int8.onnx"),
    "outputs/openvino/model.xml": load_openvino,
    "outputs/model.pt2": load_program,
}


def run_rows(model: Model, folder: Path, rows: Sequence[Row], *, max_length: int, batch_size: int) -> Any:
    """Logits (rows, classes) in row order. Rows of like length run together, padded to the longest."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()  # the file may ask for a fixed length
    tokenizer.enable_truncation(max_length)
    encoded = tokenizer.encode_batch([text if pair is None else (text, pair) for text, pair in rows])
    return run_ids(
        model, [row.ids for row in encoded], [row.type_ids for row in encoded], _pad_id(folder, tokenizer), batch_size
    )


def run_ids(
    model: Model, ids: Sequence[Sequence[int]], types: Sequence[Sequence[int]], pad_id: int, batch_size: int
) -> Any:
    """As `run_rows`, of token ids."""
    order = sorted(range(len(ids)), key=lambda row: len(ids[row]))
    logits = None
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        tokens = np.full((len(batch), len(ids[batch[-1]])), pad_id, dtype=np.int64)
        mask, segments = np.zeros_like(tokens), np.zeros_like(tokens)
        for place, row in enumerate(batch):
            length = len(ids[row])
            tokens[place, :length], segments[place, :length], mask[place, :length] = ids[row], types[row], 1
        found = model(dict(zip(INPUTS, (tokens, mask, segments), strict=True)))
        logits = np.zeros((len(ids), found.shape[1]), dtype=np.float32) if logits is None else logits
        logits[batch] = found
    return logits


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
        if name in (MANIFEST, SIGNATURE) or "__pycache__" in path.parts:
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


def read_rows(
    path: Path, labels: Sequence[str], text: str | None, pair: str | None, label: str | None
) -> tuple[list[Row], list[int]]:
    """Texts with pairs, and class ids, of a .csv, .jsonl or .parquet file. A label is a class' name or number."""
    rows: list[Row] = []
    classes: list[int] = []
    names = {name: number for number, name in enumerate(labels)}
    for number, row in enumerate(_records(path)):
        if not number:  # the first row decides, as it does in a job
            text = text or ("text" if "text" in row else "sentence")
            pair = pair or ("text_pair" if "text_pair" in row else None)
        given = row[label or "label"]
        rows.append((row[str(text)], None if pair is None else row[pair]))
        classes.append(names[given] if given in names else int(given))
    return rows, classes


def _records(path: Path) -> Iterator[dict[str, Any]]:
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        from pyarrow import parquet

        yield from parquet.read_table(path).to_pylist()
    elif suffix in (".jsonl", ".ndjson"):
        with path.open(encoding="utf-8-sig") as file:
            yield from (json.loads(line) for line in file if line.strip())
    elif suffix == ".csv":
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield from csv.DictReader(file, strict=True)
    else:
        raise ValueError(f"{path.name}: must end in .csv, .jsonl or .parquet")


def measured(metric: str, truth: Any, guess: Any) -> float:
    """`metric` of predicted class numbers against true ones: accuracy, f1 (of class 1), macro_f1 or mcc."""
    if metric == "accuracy":
        return float((truth == guess).mean())
    classes, places = np.unique(np.concatenate([truth, guess]), return_inverse=True)
    pairs = places[: len(truth)] * len(classes) + places[len(truth) :]
    table = np.bincount(pairs, minlength=len(classes) ** 2).reshape(len(classes), -1).astype(np.float64)
    true, said, right = table.sum(axis=1), table.sum(axis=0), table.diagonal()
    if metric == "mcc":
        rows = table.sum()
        above = right.sum() * rows - true @ said
        below = (rows**2 - true @ true) * (rows**2 - said @ said)
        return float(above / np.sqrt(below)) if below else 0.0
    each = np.divide(2 * right, true + said, out=np.zeros_like(right), where=true + said > 0)
    if metric == "macro_f1":
        return float(each.mean())
    return float(each[classes == 1].sum())


def score(model: Model, folder: Path, report: Any, rows: Sequence[Row], truth: Sequence[int]) -> float:
    """The report's metric of a model on these rows, batched as they were when the report was made."""
    logits = run_rows(model, folder, rows, max_length=report["max_tokens"], batch_size=32)
    return measured(report["point"]["metric"], np.array(truth), logits.argmax(axis=1))


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
    checks: Checks, folder: Path, form: str, threads: int, asked: tuple[list[Row], list[int]] | None
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
        names = {**report["columns"], **{role: getattr(given, role) for role in ROLES if getattr(given, role)}}
        try:
            asked = read_rows(given.eval, report["labels"], *map(names.get, ROLES))
        except Exception as error:  # whatever a reader says of a file that is no such file
            checks.say(False, f"{given.eval} cannot be read: {type(error).__name__}: {error}")
    for form in [name for name in FORMS if (folder / name).exists()]:
        check_form(checks, folder, form, given.threads, asked)
    return 1 if checks.failed else 0 if checks.ran else 2


if __name__ == "__main__":
    sys.exit(main())
