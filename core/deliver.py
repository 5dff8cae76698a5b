"""The end of one point: why it is as it is, its files, and what they are measured at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from core.explain import damage, layers, weights_sha256
from core.export import artifact, formats
from core.outputs import Output
from core.point import Yardstick, measure
from core.progress import Meter
from core.recipe import Target
from core.report import Evidence, Point
from core.seek import Found
from core.verdict import EVEN


def deliver(
    against: Yardstick,
    source: Path,
    found: Found,
    target: Target,
    folder: Path,
    meter: Meter,
    outputs: Sequence[Output] = (),
) -> tuple[Point, Evidence, str]:
    """Write and prove the forms of a finished student.

    Args:
        source: the uploaded model.
        folder: where the files go.
        outputs: formats that were asked for beside the two forms.

    Returns:
        What is measured, what explains it, and the digest of the student's weights.

    Raises:
        ExportFailed, VerificationFailed: a form cannot be written, or is not the student.
    """
    build, curves = found.build, meter.take_curves()
    with meter.stage("explain"):
        rows, harm = layers(build, against.shape), damage(build)
    with meter.stage("export"):
        artifact.write_student(build, source, folder)
        formats.write(build, outputs, folder)
        digest = weights_sha256(build.model)
    with meter.stage("verify"):
        point, comparison = measure(against, folder, build, found.recipe, target, outputs)
    if point.latency_ratio < 1 + EVEN:
        one = point.latency[0]
        meter.warning(
            "no_runtime_gain_expected",
            f"{one.student_ms_p50:.2f} ms where the teacher takes {one.teacher_ms_p50:.2f} (batch {one.batch} x "
            f"{one.tokens} tokens): low bits and masks make the file smaller, not its products faster",
        )
    return point, Evidence(comparison=comparison, layers=rows, damage=harm, curves=curves), digest
