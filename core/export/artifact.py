"""The delivered folder of one point: model.onnx, pytorch/, the tokenizer, and what says and proves what they are."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import torch
from torch import nn

from core import manifest, transport
from core.data import digest
from core.export import onnx, tokenizer
from core.export import torch_form as pytorch
from core.export.card import card
from core.export.page import page
from core.grid import Values
from core.phase import Build
from core.report import Report
from core.verify import SCORING, SHIPPED

REPORT, PAGE, CARD, VERIFY = "report.json", "report.html", "README.md", "verify.py"


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
    """Write the report in its three forms and verify.py, then manifest.json over every file but itself."""
    (folder / REPORT).write_text(report.model_dump_json(indent=1) + "\n", encoding="utf-8")
    (folder / PAGE).write_text(page(report), encoding="utf-8")
    (folder / CARD).write_text(card(report, folder), encoding="utf-8")
    shutil.copyfile(SHIPPED, folder / VERIFY)
    shutil.copyfile(SCORING, folder / SCORING.name)
    files = {
        name: manifest.File(size=size, sha256=digest(folder / name))
        for name, size in sizes(folder).items()
        if name != manifest.FILE
    }
    now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    said = manifest.manifest_of(report, files, now)
    (folder / manifest.FILE).write_text(said.model_dump_json(indent=1) + "\n", encoding="utf-8")


def bytes_sent(file: Path) -> int:
    """Bytes of a file under the content coding zstd."""
    with file.open("rb") as source:
        return sum(map(len, transport.encoded(source)))


def sizes(folder: Path) -> dict[str, int]:
    """Path relative to `folder` (with `/`) -> bytes, of every file in it, sorted."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}
