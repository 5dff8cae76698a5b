"""What people see while they wait, always on stderr: a live bar in a terminal, sparse plain lines in a log."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from ladapress.types import Forecast, Job, JobEvent, JobPoint, Plan

LINE_EVERY_S = 30.0  # a log without a terminal gets a line at each stage, each tenth, and at least so often
ETA_WINDOW = 40  # progress events that the speed is taken from
ETA_AFTER_S = 2.0


class Remaining:
    """Seconds left, from the speed of the last progress events; None until it is known.

    The fraction never falls: a second attempt starts over, and its first steps are hidden behind what was reached.
    """

    def __init__(self) -> None:
        self._seen: deque[tuple[float, float]] = deque(maxlen=ETA_WINDOW)
        self.fraction = 0.0

    def add(self, at_s: float, fraction: float) -> float | None:
        """Take one progress event (any clock that runs in seconds)."""
        self.fraction = max(self.fraction, fraction)
        if self._seen and fraction < self._seen[-1][1]:
            self._seen.clear()
        self._seen.append((at_s, fraction))
        (start, low), (end, high) = self._seen[0], self._seen[-1]
        if end - start < ETA_AFTER_S or high <= low:
            return None
        return (1 - fraction) * (end - start) / (high - low)


class Display:
    """A context in which transfers and one job are shown.

    Args:
        console: where to draw; stderr, so that stdout holds results only.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True, highlight=False)
        self._live = self.console.is_terminal
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[info]}"),
            TimeElapsedColumn(),
            console=self.console,
        )
        self._job: TaskID | None = None
        self._remaining = Remaining()
        self._stage = "queued"
        self._line_at, self._line_tenth = 0.0, -1

    def __enter__(self) -> Display:
        if self._live:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._bar.stop()
            # What is drawn stays on the screen; a later start must not draw it again.
            for task in self._bar.task_ids:
                self._bar.remove_task(task)
            self._job = None

    def say(self, line: str) -> None:
        """One line that stays."""
        self.console.print(escape(line), soft_wrap=True)

    @contextmanager
    def transfer(self, what: str, total_bytes: int) -> Iterator[Callable[[int], None]]:
        """A bar over bytes; yields the function that is told how many moved."""
        task = self._bar.add_task(escape(what), total=total_bytes or 1, info=megabytes(0, total_bytes))
        done = 0

        def moved(count: int) -> None:
            nonlocal done
            done += count
            self._bar.update(task, completed=done, info=megabytes(done, total_bytes))

        if not self._live:
            self.say(f"{what} ({megabytes(total_bytes)})")
        yield moved
        self._bar.update(task, completed=total_bytes or 1)

    def event(self, event: JobEvent) -> None:
        """Show what happened to the job."""
        data = event.data
        match event.type:
            case "state":
                if data.get("state") == "succeeded":
                    self._remaining.fraction = 1.0
                self._at(str(data.get("state")))
            case "stage":
                self._at(str(data.get("stage")))
            case "progress":
                self._progress(data)
            case "warning":
                self.say(f"warning: {data.get('detail') or data.get('code')}")

    def _at(self, stage: str) -> None:
        if stage != self._stage:
            self._stage = stage
            self._draw("", fresh=True)

    def _progress(self, data: dict[str, object]) -> None:
        raw, step, steps = data.get("fraction"), data.get("step"), data.get("steps")
        if not isinstance(raw, int | float):
            return
        eta_s = self._remaining.add(time.monotonic(), float(raw))
        if stage := data.get("stage"):
            self._stage = str(stage)
        parts = [f"step {step}/{steps}"] if isinstance(steps, int) and steps > 1 else []
        parts += [f"eta {clock(eta_s)}"] if eta_s is not None else []
        self._draw(" ".join(parts))

    def _draw(self, info: str, *, fresh: bool = False) -> None:
        fraction = self._remaining.fraction
        if self._live:
            if self._job is None:
                self._job = self._bar.add_task("", total=1.0, info="")
            self._bar.update(self._job, description=escape(self._stage), completed=fraction, info=info)
            return
        now, tenth = time.monotonic(), int(fraction * 10)
        if fresh or tenth > self._line_tenth or now - self._line_at > LINE_EVERY_S:
            self._line_at, self._line_tenth = now, tenth
            self.say(f"[{fraction:4.0%}] {self._stage} {info}".rstrip())


def clock(seconds: float) -> str:
    """`75` as `1:15`, `3675` as `1:01:15`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def result_table(point: JobPoint) -> Table:
    """Teacher against student, as measured on the delivered file."""
    table = Table("", "teacher", "student", "ratio", title=None)
    for column in table.columns[1:]:
        column.justify = "right"
    table.add_row(point.metric, f"{point.teacher:.4f}", f"{point.student:.4f}", f"{point.retention:.4f} retention")
    teacher, student = point.sizes_teacher, point.sizes
    table.add_row(
        "non-zero parameters", f"{teacher.nonzero:,}", f"{student.nonzero:,}", f"{point.parameter_ratio:.2f}x"
    )
    delivered = student.bytes_on_disk.get("model.onnx", 0)
    weights = megabytes(4 * teacher.parameters)  # as fp32: what bytes_ratio is measured against
    table.add_row("weights, model.onnx", weights, megabytes(delivered), f"{point.bytes_ratio:.2f}x")
    for row in point.latency:
        where = f"ms, batch {row.batch} x {row.tokens} tokens, {row.threads} thread"
        table.add_row(where, f"{row.teacher_ms_p50:.2f}", f"{row.student_ms_p50:.2f}", f"{row.ratio:.2f}x")
    return table


def plan_table(plan: Plan) -> Table:
    """One row per point: what is asked for and what it would be."""
    columns = ("target", "parameters", "model.onnx", "milliseconds", "retention", "takes", "met")
    table = Table(*columns, box=None, pad_edge=False)
    for point in plan.points:
        asked = " ".join(f"{name}={value:g}" for name, value in point.target.items())
        ms = "-" if point.latency_ms is None else f"{point.latency_ms:.2f}, {point.latency_ratio:.2f}x"
        missed = ", ".join(f"{name} {value:.4g}" for name, value in point.shortfall.items())
        size = f"{megabytes(point.file_bytes)}, {point.bytes_ratio:.2f}x"
        count = f"{point.nonzero:,}, {point.parameter_ratio:.2f}x"
        kept = "-" if point.retention is None else f"{100 * point.retention:.1f} %"
        if point.retention_low is not None and point.retention_high is not None:
            kept += f" ({100 * point.retention_low:.1f} to {100 * point.retention_high:.1f})"
        met = {True: "yes", None: "?"}.get(point.target_met, f"no: {missed}")
        table.add_row(asked, count, size, ms, kept, _takes(point), met)
    return table


def _takes(point: Forecast) -> str:
    if point.seconds is None or point.memory_bytes is None:
        return "-"
    return f"{point.seconds / 60:.0f} min, {point.memory_bytes / 1e9:.1f} GB"


def jobs_table(jobs: Sequence[Job]) -> Table:
    """One row per job, newest first."""
    table = Table("job", "name", "status", "stage", "done", "created (UTC)", box=None, pad_edge=False)
    for column in table.columns:
        column.no_wrap = column.header != "name"  # an id that is cut is of no use
    for job in jobs:
        done = f"{job.progress.fraction:.0%}"
        table.add_row(job.id, job.name or "", job.status, job.stage or "", done, minute(job.created_at))
    return table


def minute(at: datetime) -> str:
    """A time to the minute, UTC."""
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M")


def megabytes(*counts: int) -> str:
    return "/".join(f"{count / 1e6:.1f}" for count in counts) + " MB"
