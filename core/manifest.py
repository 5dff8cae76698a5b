"""`manifest.json`: what a delivered folder holds, what it was made of, and how. The service signs its bytes.

It says what was asked and given; what was measured is in `report.json`, which it lists with the other files.
"""

from __future__ import annotations

from core.report import Frozen, Hardware, Report

FILE = "manifest.json"


class File(Frozen):
    size: int  # bytes
    sha256: str


class Manifest(Frozen):
    """Of one point. `files`: every file but this one and its signature."""

    version: int = 2
    created_at: str  # RFC 3339, UTC
    files: dict[str, File]
    needs: dict[str, tuple[str, ...]]  # form -> name==version of what the process that proved it could import
    input_hashes: dict[str, str]  # model/NAME or role of data -> sha256
    columns: dict[str, str]
    task: str
    metric: str
    recipe: dict[str, object]  # as resolved: no "auto" left
    target: dict[str, float]
    outputs: tuple[str, ...] = ()  # formats asked for beside the two forms
    seed: int
    continued: bool  # trained on from the point before it in its ladder, not from the teacher
    hardware: Hardware
    seconds: float  # of all stages
    weights_sha256: str


def manifest_of(report: Report, files: dict[str, File], created_at: str) -> Manifest:
    """Of a folder with this report."""
    return Manifest(
        created_at=created_at,
        files=files,
        needs={parity.file: parity.closure for parity in report.point.parity},
        input_hashes=report.input_hashes,
        columns=report.columns,
        task=report.task,
        metric=report.point.metric,
        recipe=report.recipe,
        target=report.target,
        outputs=report.outputs,
        seed=report.seed,
        continued=report.continued,
        hardware=report.hardware,
        seconds=sum(stage.seconds for stage in report.stages),
        weights_sha256=report.weights_sha256,
    )
