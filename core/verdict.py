"""A point in one sentence, for reports, model cards and pages."""

from __future__ import annotations

from core.report import Point

EVEN = 0.05  # a ratio of times that is no nearer to 1 is a difference


def sentence(point: Point) -> str:
    """As "5.1x smaller, 2.3x as fast, keeps 99.4 % of accuracy: target met"."""
    kept = f"keeps {point.retention:.1%}".replace("%", " %")
    parts = [_smaller(point.bytes_ratio), _faster(point.latency_ratio), f"{kept} of {point.metric}"]
    return f"{', '.join(parts)}: {outcome(point)}"


def outcome(point: Point) -> str:
    """What became of the target."""
    if not point.target:
        return "no target was set"
    if point.target_met:
        return "target met"
    missed = (f"{name} {value:.4g}, asked {point.target[name]:.4g}" for name, value in point.shortfall.items())
    return f"target missed ({'; '.join(missed)})"


def _smaller(ratio: float) -> str:
    return f"{ratio:.1f}x smaller" if ratio >= 1 else f"{1 / ratio:.1f}x larger"


def _faster(ratio: float) -> str:
    if abs(ratio - 1) <= EVEN:
        return "as fast as before"
    return f"{ratio:.1f}x as fast" if ratio > 1 else f"{1 / ratio:.1f}x as slow"
