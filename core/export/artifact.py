"""The delivered folder of one point: model.onnx, pytorch/, the tokenizer, report.json, manifest.json."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from core import transport
from core.export import onnx, tokenizer
from core.export import torch_form as pytorch
from core.grid import Values
from core.phase import Build
from core.report import Report

MANIFEST, REPORT = "manifest.json", "report.json"


def write(
    model: nn.Module,
    masks: Mapping[str, torch.Tensor],
    source: Path,
    folder: Path,
    *,
    torch_form: bool,
    values: Mapping[str, Values] | None = None,
) -> None:
    """Write every form of `model` into `folder`.

    Args:
        source: the uploaded model's directory; its tokenizer files are copied byte for byte.
        torch_form: write `pytorch/` too; a teacher that is only measured needs none.

    Raises:
        ExportFailed: see `core.export.onnx.write`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.copy(source, folder)
    onnx.write(model, masks, folder / "model.onnx", values=values)
    if torch_form:
        pytorch.write(model, masks, source, folder / "pytorch", values=values)


def write_student(build: Build, source: Path, folder: Path) -> None:
    """As `write`, both forms of a finished student; it is on the CPU from now on."""
    build.model.cpu()
    write(build.model, build.masks, source, folder, torch_form=True, values=build.values)


def finish(folder: Path, report: Report) -> None:
    """Write report.json, then manifest.json over every file but itself."""
    (folder / REPORT).write_text(report.model_dump_json(indent=1) + "\n", encoding="utf-8")
    files = {
        name: {"size": size, "sha256": _digest(folder / name)}
        for name, size in sizes(folder).items()
        if name != MANIFEST
    }
    manifest = json.dumps({"version": 1, "files": files}, indent=1) + "\n"
    (folder / MANIFEST).write_text(manifest, encoding="utf-8")


def bytes_sent(file: Path) -> int:
    """Bytes of a file under the content coding zstd."""
    with file.open("rb") as source:
        return sum(map(len, transport.encoded(source)))


def sizes(folder: Path) -> dict[str, int]:
    """Path relative to `folder` (with `/`) -> bytes, of every file in it, sorted."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
