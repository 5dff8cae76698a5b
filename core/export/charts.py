"""The pictures of a report as SVG that takes its colours from the page: light, dark and on paper.

Written out here: two shapes are all that a report needs, they stretch with the page, and text stays readable.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup

from core.report import Curve

WIDTH, HEIGHT = 320, 150  # units of a curve's picture; text is 12 of them high
LEFT, RIGHT, TOP, BOTTOM = 64, 10, 10, 24  # what axes and their numbers take


def bar(share: float, most: float = 1.0, *, what: str) -> Markup:
    """The student's share of what is the teacher's: the outline is the teacher, the filled part the student.

    `most` is the largest share of the column, so that every bar fits; `what` is said to those who do not see it.
    """
    whole = max(most, 1.0)
    return Markup(
        '<svg class="bar" role="img" aria-label="{}"><rect class="whole" x="0.5" y="2.5" width="{:.2f}%" height="11"/>'
        '<rect class="part" y="5" width="{:.2f}%" height="6"/></svg>'
    ).format(what, 99 / whole, 100 * min(share, whole) / whole)


def amount(share: float, *, what: str) -> Markup:
    """A part of the column's largest amount, with no teacher to stand beside."""
    return Markup(
        '<svg class="bar" role="img" aria-label="{}"><rect class="part" y="3" width="{:.2f}%" height="10"/></svg>'
    ).format(what, 100 * max(share, 0.005))


def curve(one: Curve) -> Markup:
    """One figure over its steps; steps at which it was no number are left out."""
    points = [(s, v) for s, v in zip(one.steps, one.values, strict=True) if math.isfinite(v)]
    if not points:
        return Markup()
    values = [value for _, value in points]
    marks = ticks(min(values), max(values))
    low, high = min(*values, marks[0]), max(*values, marks[-1])
    first, last = points[0][0], points[-1][0]

    def x(step: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * ((step - first) / (last - first) if last > first else 0.5)

    def y(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * ((high - value) / (high - low) if high > low else 0.5)

    lines = [
        Markup('<path class="grid" d="M{} {:.1f}H{}"/><text x="{}" y="{:.1f}" text-anchor="end">{}</text>').format(
            LEFT, y(mark), WIDTH - RIGHT, LEFT - 6, y(mark) + 4, number(mark)
        )
        for mark in marks
    ]
    ends = [(first, "start"), (last, "end")] if last > first else [(first, "middle")]
    lines += [
        Markup('<text x="{:.1f}" y="{}" text-anchor="{}">step {}</text>').format(x(step), HEIGHT - 6, anchor, step)
        for step, anchor in ends
    ]
    if len(points) > 1:
        path = " ".join(f"{x(step):.1f},{y(value):.1f}" for step, value in points)
        lines.append(Markup('<polyline class="line" points="{}"/>').format(path))
    else:
        lines.append(Markup('<circle class="part" cx="{:.1f}" cy="{:.1f}" r="3"/>').format(x(first), y(values[0])))
    said = f"{one.phase}, {one.name}: {number(values[0])} at step {first}, {number(values[-1])} at step {last}"
    return Markup('<svg class="curve" role="img" aria-label="{}" viewBox="0 0 {} {}">{}</svg>').format(
        said, WIDTH, HEIGHT, Markup().join(lines)
    )


def ticks(low: float, high: float) -> Sequence[float]:
    """Two to four round numbers between `low` and `high`; the one number there is where they are the same."""
    if not high > low:
        return (low,)
    rough = (high - low) / 3
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    inside = range(math.ceil(low / step), math.floor(high / step) + 1)
    return [step * place for place in inside] if len(inside) > 1 else (low, high)


def number(value: float) -> str:
    """In as few signs as a tick has room for."""
    return f"{value:.{4 if abs(value) >= 1e-3 else 3}g}".replace("e-0", "e-").replace("e+0", "e")
