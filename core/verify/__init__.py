"""Proving a delivered file: loaded by a fresh process that can import nothing of ours, compared, measured.

near = logits("onnx", folder, rows, max_length=128, threads=1)
parity = check("model.onnx", student_logits, near, tolerance=1e-3)     # or VerificationFailed
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from core.errors import OutOfMemory, VerificationFailed
from core.memory import says_out_of_memory
from core.outputs import FORMATS, Output
from core.report import Parity
from core.verify.closure import ONNX, TORCH, Closure, closure

GATE = Path(__file__).with_name("gate.py")
SCRIPT = Path(__file__).with_name("isolated.py")
SHIPPED = Path(__file__).with_name("shipped.py")  # the artifact's verify.py
SCORING = Path(__file__).with_name("scoring.py")  # carried beside it
ROOTS: dict[str, tuple[str, ...]] = {"onnx": ONNX, "torch": TORCH, **{name: one.needs for name, one in FORMATS.items()}}
# Of the environment a checking process keeps only what finding the interpreter's libraries may need.
KEEP = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "TMPDIR")
BATCH = 32  # rows, as verify.py has it: where inputs are rounded an answer depends on the rows beside it
TAIL = 4_000  # characters of its last words in the log

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class IsolatedRun:
    """What a fresh process made of one delivered file."""

    logits: npt.NDArray[np.float32]  # (rows, width) or (tokens of all rows, width), in row order
    load_s: float
    run_s: float  # tokenising and running all rows
    bytes_in_memory: int  # of the weights as the runtime holds them: dense after unpacking
    closure: tuple[str, ...]  # name==version of everything that it could import
    of_ids: npt.NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 0), np.float32))  # of the token ids
    alone: int = 0  # how many of the first logits are of the rows that had a batch each


def run_isolated(
    script: Path, order: Mapping[str, Any], allowed: Closure, *, threads: int, timeout_s: float = 3600
) -> dict[str, npt.NDArray[Any]]:
    """Run `script` by `python -I` where only the standard library and `allowed` can be imported.

    The script finds its order in argv[1] (JSON) and writes the arrays that are returned to argv[2] (npz).

    Raises:
        VerificationFailed: it ended with an error or not in time; with its last words.
    """
    environment = {name: os.environ[name] for name in KEEP if name in os.environ}
    environment |= {
        "OMP_NUM_THREADS": str(threads),
        "OMP_WAIT_POLICY": "PASSIVE",  # spinning threads starve each other on a busy machine
        "RAYON_NUM_THREADS": str(threads),  # of tokenizers
        "TOKENIZERS_PARALLELISM": "false" if threads == 1 else "true",
        "HF_HUB_OFFLINE": "1",
    }
    with tempfile.TemporaryDirectory(prefix="isolated-") as scratch:
        path, out = Path(scratch) / "order.json", Path(scratch) / "out.npz"
        full = {
            **order,
            "script": str(script),
            "modules": sorted(allowed.modules),
            "distributions": allowed.names,
        }
        path.write_text(json.dumps(full), encoding="utf-8")
        try:
            done = subprocess.run(  # noqa: S603 - our interpreter, our script
                [sys.executable, "-I", "-B", str(GATE), str(path), str(out)],  # -B: no __pycache__ beside load.py
                cwd=scratch,
                env=environment | {"HOME": scratch},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise VerificationFailed(f"{script.stem}: not done after {timeout_s:g} s") from None
        if done.returncode != 0 or not out.exists():
            words = done.stderr.decode("utf-8", "replace").strip()[-TAIL:]
            logger.error("%s ended with %d:\n%s", script.name, done.returncode, words)
            last = f"{script.stem}: the process ended with {done.returncode}: {_last(words)}"
            raise OutOfMemory(last) if says_out_of_memory(words) else VerificationFailed(last)
        with np.load(out, allow_pickle=False) as arrays:
            return dict(arrays)


def _last(words: str) -> str:
    """The exception itself, without the frames of the machine that it was raised on."""
    lines = words.splitlines()
    frames = [index for index, line in enumerate(lines) if line.startswith("  ")]
    return "\n".join(lines[frames[-1] + 1 :] if frames else lines) or "it said nothing"


def logits(
    kind: Literal["onnx", "torch"] | Output,
    folder: Path,
    rows: Sequence[tuple[Any, str | None]],
    *,
    max_length: int,
    threads: int,
    batch_size: int = BATCH,
    alone: int = 0,
    ids: Sequence[Sequence[int]] = (),
    task: str = "classification",
) -> IsolatedRun:
    """Outputs of `folder`/model.onnx, `folder`/pytorch or a format of `core.outputs` on rows of (text, pair or None),
    tokenised by its own file.

    Args:
        alone: so many of the first rows have a batch each.
        ids: rows of token ids, each run alone; `of_ids` are the answers.

    Raises:
        VerificationFailed: the file does not load or run with {onnxruntime, numpy, tokenizers}, with {torch,
            transformers, safetensors}, or with what `core.outputs` names, and what those require.
    """
    allowed = closure(ROOTS[kind])
    order = {
        "task": task,
        "kind": kind,
        "form": FORMATS[kind].path if kind in FORMATS else None,
        "shipped": str(SHIPPED),
        "folder": str(folder.resolve()),
        "rows": [list(row) for row in rows],
        "max_length": max_length,
        "threads": threads,
        "batch_size": batch_size,
        "alone": alone,
        "ids": [list(row) for row in ids],
    }
    found = run_isolated(SCRIPT, order, allowed, threads=threads)
    return IsolatedRun(
        logits=found["logits"],
        load_s=float(found["load_s"]),
        run_s=float(found["run_s"]),
        bytes_in_memory=int(found["bytes_in_memory"]),
        closure=allowed.distributions,
        of_ids=found["of_ids"],
        alone=int(found["alone"]),
    )


def check(file: str, expected: npt.NDArray[np.float32], run: IsolatedRun, *, tolerance: float) -> Parity:
    """Compare a delivered file with the student in memory: largest absolute difference of logits.

    Raises:
        VerificationFailed: over `tolerance`, not finite, or of another shape; with the numbers.
    """
    if run.logits.shape != expected.shape:
        raise VerificationFailed(f"{file}: logits of shape {run.logits.shape}, the student's are {expected.shape}")
    apart = np.abs(run.logits - expected)
    worst = float(apart.max(initial=0.0))
    if not worst <= tolerance:  # also where it is NaN
        rows = int((~(apart <= tolerance)).any(axis=1).sum())
        raise VerificationFailed(
            f"{file}: {rows} of {len(apart)} rows differ from the student in memory, by {worst:.3g} at most; "
            f"{tolerance:g} is allowed"
        )
    return Parity(
        file=file,
        rows=len(apart),
        max_difference=worst,
        tolerance=tolerance,
        load_s=run.load_s,
        closure=run.closure,
    )
