"""The pictures of a report as SVG that takes its colours from the page: light, dark and on paper."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from core.report import Curve, Damage, Latency, Layer

# Colours that stand for the page's own; `_svg` puts those in.
INK, FAINT, TEACHER, STUDENT = "#000001", "#000002", "#000003", "#000004"
VARIABLES = {INK: "--ink", FAINT: "--line", TEACHER: "--teacher", STUDENT: "--accent"}
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "ladapress",  # the same report gives the same bytes
    "font.family": "sans-serif",
    "font.size": 9,
    **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
    "axes.edgecolor": FAINT,
    "grid.color": FAINT,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
WIDTH = 7.2  # inches
TOP = 15  # parts that a picture shows


def bytes_by_layer(layers: Sequence[Layer]) -> str:
    """KB of each matrix, teacher behind student, on a logarithmic scale."""
    with _picture(0.16 * len(layers) + 0.9) as (axes, done):
        places = range(len(layers))
        axes.barh(places, [one.teacher_bytes / 1e3 for one in layers], color=TEACHER, height=0.8, label="teacher")
        axes.barh(places, [one.bytes / 1e3 for one in layers], color=STUDENT, height=0.8, label="student")
        _names(axes, [_short(one.name) for one in layers], size=7)
        axes.set_xscale("log")
        axes.set_xlabel("KB in model.onnx")
        axes.legend(frameon=False, ncols=2, loc="lower right", bbox_to_anchor=(1, 1))
    return done()


def damage(parts: Sequence[Damage]) -> str:
    """KL of the worst parts."""
    shown = parts[:TOP]
    with _picture(0.2 * len(shown) + 0.7) as (axes, done):
        axes.barh(range(len(shown)), [one.kl for one in shown], color=STUDENT, height=0.7)
        _names(axes, [_short(one.part) for one in shown], size=8)
        axes.set_xlabel("KL to the teacher, this part alone in it")
    return done()


def curve(one: Curve) -> str:
    """One figure over its steps."""
    with _picture(1.7, width=WIDTH / 2) as (axes, done):
        axes.plot(one.steps, one.values, color=STUDENT, linewidth=1.2)
        if len(one.steps) == 1:
            axes.plot(one.steps, one.values, "o", color=STUDENT)
        axes.set_title(f"{one.phase}: {one.name}", fontsize=9, loc="left")
        axes.set_xlabel("step")
        axes.grid(axis="y", linewidth=0.5)
    return done()


def latency(grid: Sequence[Latency]) -> str:
    """Milliseconds of both at every measured batch and length."""
    with _picture(2.2) as (axes, done):
        ordered = sorted(grid, key=lambda one: (one.batch, one.tokens))
        places = range(len(ordered))
        axes.bar([p - 0.2 for p in places], [o.teacher_ms_p50 for o in ordered], 0.4, color=TEACHER, label="teacher")
        axes.bar([p + 0.2 for p in places], [o.student_ms_p50 for o in ordered], 0.4, color=STUDENT, label="student")
        axes.set_xticks(places, [f"{one.batch} x {one.tokens}" for one in ordered])
        axes.set_yscale("log")
        axes.set_ylabel("milliseconds")
        axes.set_xlabel("batch x tokens")
        axes.legend(frameon=False, ncols=2, loc="lower right", bbox_to_anchor=(1, 1))
    return done()


def _names(axes: Any, names: Sequence[str], size: int) -> None:
    axes.set_yticks(range(len(names)), names, fontsize=size)
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    axes.margins(y=0.01)


def _short(name: str) -> str:
    """A module's path without the words that every one has."""
    return re.sub(r"^[a-z_0-9]+\.(encoder\.|transformer\.)?", "", name).replace(
        "embeddings.word_embeddings", "embedding"
    )


@contextmanager
def _picture(height: float, width: float = WIDTH) -> Iterator[tuple[Any, Callable[[], str]]]:
    """Axes, and what gives the picture when all is drawn."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure.add_subplot(), lambda: _svg(figure)


def _svg(figure: Figure) -> str:
    with mpl.rc_context(STYLE), io.StringIO() as file:
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
        text = file.getvalue()
    for colour, variable in VARIABLES.items():
        text = text.replace(colour, f"var({variable})")
    text = text[text.index("<svg") :]
    # It scales with the page; the size that it was drawn at is its largest.
    return re.sub(
        r'<svg([^>]*?) width="([\d.]+)pt" height="[\d.]+pt"', r'<svg\1 style="max-width:\2pt;width:100%"', text, count=1
    )
