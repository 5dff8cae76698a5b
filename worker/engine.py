"""What a child does with an order: the calls into core, and the translation of core's progress into events.

Torch and everything else that is heavy is imported in `warm`, before an order comes.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from core.errors import CompressionError, OutOfMemory
from core.findings import of_error
from core.memory import out_of_memory
from worker import sandbox

logger = logging.getLogger(__name__)
Kind = Literal["compress", "inspect"]
# What reading may take of memory: so much, and so many times the bytes that were sent. A small file takes no gigabyte.
ROOM_BYTES, GROWTH = 256 << 20, 64
Send = Callable[[dict[str, Any]], None]
_NO_ROOM = ("no space left on device", "disk quota exceeded")


def warm(kind: Kind) -> list[str]:
    """Load the libraries of this kind of work. Returns the devices that it can use here."""
    if kind == "compress":
        torch = import_module("torch")
        import_module("core.pipeline")
        torch.ones(1 << 16).exp()  # threads start before memory is limited: their stacks count
        return ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    for name in ("pyarrow.parquet", "tokenizers", "core.inspect"):
        import_module(name)
    return ["cpu"]


def work(order: dict[str, Any], send: Send) -> dict[str, Any]:
    """Run one order. Returns the last line: a result, a verdict or an error. What it raises the child judges."""
    return (_compress if order["kind"] == "compress" else _inspect)(order["spec"], send)


def as_failure(error: BaseException) -> dict[str, Any] | None:
    """The error line of what a user or an operator can act upon; None for a fault of ours."""
    if isinstance(error, CompressionError):
        found = error.as_dict()
    elif out_of_memory(error):
        detail = "the device ran out of memory: a smaller batch size or fewer tokens need less"
        found = OutOfMemory(detail).as_dict()
    elif out_of_room(error):
        detail = "no space is left in the worker's scratch folder"
        found = {"code": "storage_full", "detail": detail, "param": None, "errors": [], "retryable": True}
    else:
        return None
    return {"type": "error", **found, "detail": str(found["detail"])[:8_000]}


def out_of_room(error: BaseException) -> bool:
    """Whether an exception of any library says that the disk is full; safetensors puts it in words alone."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return any(words in str(error).lower() for words in _NO_ROOM)


class Reporter:
    """core.progress.Progress over the pipe."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._stage: str | None = None

    def stage(self, name: str) -> None:
        self._stage = name
        logger.info("stage %s", name)
        self._send({"type": "stage", "stage": name})

    def advance(self, fraction: float, step: int, steps: int) -> None:
        event = {"type": "progress", "stage": self._stage, "fraction": min(1.0, max(0.0, float(fraction)))}
        self._send({**event, "step": int(step), "steps": int(steps)})

    def metric(self, name: str, value: float, step: int) -> None:
        self._send({"type": "metric", "name": name, "value": float(value), "step": int(step)})

    def warning(self, code: str, detail: str) -> None:
        self._send({"type": "warning", "code": code, "detail": detail[:4_000]})


def _compress(spec: dict[str, Any], send: Send) -> dict[str, Any]:
    from core.checkpoint import Checkpoints
    from core.pipeline import compress
    from core.profile import Profile
    from core.recipe import Ladder, Recipe, Target

    out = Path(spec["out"])
    result = compress(
        Path(spec["model"]),
        Recipe.model_validate(spec["recipe"]),
        _data(spec),
        Reporter(send),
        target=Target.model_validate(spec["target"]),
        ladder=Ladder.model_validate(spec["ladder"] or {}),
        out=out,
        outputs=spec["outputs"],
        metric=spec["metric"],
        task=spec["task"],
        seed=spec["seed"],
        device=spec["device"],
        threads=spec["threads"],
        preset=spec["preset"],
        used_s=spec["used_s"],
        checkpoints=Checkpoints(
            out / "checkpoints",
            tuple(map(Path, spec["checkpoints"])),
            every_s=spec["checkpoint_s"],
            told=lambda folder: send(_checkpoint(out, folder)),
        ),
        profile=None if spec["profile"] is None else Profile.model_validate(spec["profile"]),
        profiled=lambda found: send({"type": "profiled", "profile": found.model_dump(mode="json")}),
        dry_run=spec["dry_run"],
    )
    return {
        "type": "result",
        "report": result.report.model_dump(mode="json") if result.points else None,
        "points": [_point(out, one) for one in result.points],
    }


def _checkpoint(out: Path, folder: Path) -> dict[str, Any]:
    files = sorted(path.name for path in folder.iterdir())
    return {"type": "checkpoint", "dir": str(folder.relative_to(out)), "files": files}


def _point(out: Path, delivered: Any) -> dict[str, Any]:
    folder = Path(delivered.folder)
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    report = delivered.report.point.model_dump(mode="json")
    return {"dir": str(folder.relative_to(out)), "files": files, "report": report}


def _inspect(spec: dict[str, Any], send: Send) -> dict[str, Any]:
    """The verdict; where the order asks for a sample of the teacher's answers, they follow it."""
    from core.inspect import inspect

    with sandbox.memory_bound(ROOM_BYTES + GROWTH * _sent(spec)):
        verdict = inspect(Path(spec["model"]), _data(spec), metric=spec["metric"], task=spec["task"])
    line = {"type": "verdict", "verdict": verdict.model_dump(mode="json")}
    if not spec.get("sample") or verdict.shape is None or verdict.shape.task != "classification":
        return line
    send(line)
    os.nice(10)  # nobody waits for what follows
    from core.looks.sampling import sample_teacher

    try:
        findings = sample_teacher(Path(spec["model"]), _data(spec))
    except CompressionError as error:  # what only loading shows
        findings = of_error(error)
    return {"type": "sampled", "findings": [one.model_dump(mode="json") for one in findings]}


def _sent(spec: dict[str, Any]) -> int:
    """Bytes of all files of an inspection."""
    files = [*Path(spec["model"]).iterdir(), *_data(spec).roles().values()]
    return sum(file.stat().st_size for file in files if file.is_file())  # which is not there, reading it will say


def _path(spec: dict[str, Any], role: str) -> Path | None:
    return None if spec[role] is None else Path(spec[role])


def _data(spec: dict[str, Any]) -> Any:
    from core.data import Columns, Data

    return Data(
        train=Path(spec["train"]),
        eval=Path(spec["eval"]),
        select=_path(spec, "select"),
        unlabelled=_path(spec, "unlabelled"),
        columns=Columns(**spec["columns"]),
        formats=spec["formats"],
    )
