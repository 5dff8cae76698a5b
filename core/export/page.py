"""`report.html`: the report for people, in one file that asks for nothing else."""

from __future__ import annotations

import json
import re

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from core.export import charts
from core.outputs import FORMATS
from core.report import Comparison, Latency, Layer, Point, Report, Sizes
from core.verdict import outcome, sentence

CLASSES = 20  # that a table shows
PARTS = 15
_ENVIRONMENT = Environment(
    loader=PackageLoader("core.export", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=False
)


def page(report: Report) -> str:
    """HTML of one point. Everything in it that users wrote is escaped."""
    point, evidence = report.point, report.evidence
    compared = evidence and evidence.comparison
    classes = compared.classes if compared else ()
    damage = evidence.damage[:PARTS] if evidence else ()
    return _ENVIRONMENT.get_template("page.html.j2").render(
        report=report,
        evidence=evidence,
        sentence=sentence(point),
        outcome=outcome(point),
        verdict="" if not point.target else "met" if point.target_met else "missed",
        sizes=_sizes(report),
        formats=[_format(point, name) for name in point.agreement_by_file],
        targets=[_target(report, name, asked) for name, asked in report.target.items() if name != "max_minutes"],
        latency=sorted(point.latency, key=lambda one: (one.batch, one.tokens)),
        share=_share,
        slowest=max(map(_share, point.latency)),
        classes=sorted(classes, key=lambda one: -abs(one.student - one.teacher))[:CLASSES],
        changed=count(_changed(compared), "row") if compared else "",
        chance=round(1 / max(compared.p_value, 1e-9)) if compared else 0,
        damage=damage,
        worst=max((one.kl for one in damage), default=0) or 1,
        curves=[(f"{one.phase}: {one.name}", charts.curve(one)) for one in (evidence.curves if evidence else ())],
        rows=", ".join(f"{role} {number(rows)}" for role, rows in report.rows.items()),
        versions=", ".join(f"{name} {version}" for name, version in report.hardware.versions.items()),
        recipe=json.dumps(report.recipe, indent=1),
        bar=charts.bar,
        amount=charts.amount,
        tick=charts.number,
        percent=percent,
        points=lambda change: f"{100 * change:+.1f}",
        number=number,
        count=count,
        zero=zero,
        module=module,
    )


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def number(count: float) -> str:
    return f"{count:,.0f}"


def zero(layer: Layer) -> str:
    """Share of the numbers of a matrix, or of its factors, that a mask makes zero."""
    return percent(1 - layer.nonzero / layer.entries) if layer.nonzero < layer.entries else ""


def count(many: int, one: str, more: str = "") -> str:
    """As "1 row", "12 rows"."""
    return f"{number(many)} {one if many == 1 else more or one + 's'}"


def module(name: str) -> Markup:
    """A module's path without the words that every one has; a narrow page breaks it at its dots."""
    short = re.sub(r"^[a-z_0-9]+\.(encoder\.|transformer\.)?", "", name)
    return Markup(".<wbr>").join(short.replace("embeddings.word_embeddings", "embedding").split("."))


def _share(one: Latency) -> float:
    return one.student_ms_p50 / one.teacher_ms_p50


def _target(report: Report, name: str, asked: float) -> dict[str, object]:
    point = report.point
    reached = {
        "parameter_ratio": point.parameter_ratio,
        "bytes_ratio": point.bytes_ratio,
        "latency_ratio": point.latency_ratio,
        "min_retention": point.retention,
        "max_bytes": point.sizes.bytes_on_disk["model.onnx"],
        "max_nonzero": point.sizes.nonzero,
        "max_latency_ms": point.latency[0].student_ms_p50,
    }[name]
    shown = (number(value) if value >= 1e5 else f"{value:.4g}" for value in (asked, reached))
    return dict(zip(("asked", "reached"), shown, strict=True)) | {"name": name, "met": name not in point.shortfall}


def _changed(compared: Comparison) -> int:
    """Rows that are answered otherwise; reports of before know their share."""
    return round((1 - compared.agreement) * compared.rows) if compared.changed is None else compared.changed


def _format(point: Point, path: str) -> tuple[str, str, str, str]:
    """A row of what was made for other runtimes: file, bytes, metric, agreement."""
    size = next(one for one in FORMATS.values() if one.path == path).size(point.sizes.bytes_on_disk)
    return path, number(size), f"{point.student_by_file[path]:.4f}", percent(point.agreement_by_file[path])


def _sizes(report: Report) -> list[tuple[str, str, str, str]]:
    """Rows of the first table: what, teacher, student, ratio."""
    point = report.point
    theirs, ours = point.sizes_teacher, point.sizes
    reference = point.latency[0]

    def row(what: str, a: float | None, b: float | None) -> tuple[str, str, str, str]:
        shown = ["" if value is None else number(value) for value in (a, b)]
        return what, shown[0], shown[1], f"{a / b:.2f}x" if a is not None and b else ""

    return [
        row("bytes of model.onnx (teacher: 4 a parameter)", 4 * theirs.parameters, ours.bytes_on_disk["model.onnx"]),
        row("bytes of pytorch/", None, _form(ours)),
        row("bytes sent (model.onnx as zstd)", theirs.bytes_sent, ours.bytes_sent),
        row("bytes in memory", theirs.bytes_in_memory, ours.bytes_in_memory),
        row("parameters stored", theirs.parameters, ours.parameters),
        row("parameters that are not zero", theirs.nonzero, ours.nonzero),
        (point.metric, f"{point.teacher:.4f}", f"{point.student:.4f}", percent(point.retention)),
        (
            f"milliseconds, batch {reference.batch} x {reference.tokens} tokens",
            f"{reference.teacher_ms_p50:.2f}",
            f"{reference.student_ms_p50:.2f}",
            f"{reference.ratio:.2f}x",
        ),
    ]


def _form(sizes: Sizes) -> int:
    return sum(size for name, size in sizes.bytes_on_disk.items() if name.startswith("pytorch/"))
