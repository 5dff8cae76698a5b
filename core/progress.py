"""How a running compression tells what it is doing: stages, a fraction of the whole that never falls, figures."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from core.report import Curve, Stage

# Share of a job's time that each stage usually takes; only the progress bar depends on it.
STAGES = {
    "fetch": 1,
    "plan": 1,
    "teacher": 10,
    "prepare": 2,
    "profile": 1,
    "factorize": 4,
    "prune": 1,
    "distill": 60,
    "explain": 1,
    "export": 10,
    "verify": 11,
}

SHARED = ("fetch", "plan", "teacher", "prepare", "profile")  # once a job, however many points


POINTS = 200  # of one curve


class Progress(Protocol):
    """Receives what happens. Every call may raise to stop the work (a cancelled job)."""

    def stage(self, name: str) -> None: ...
    def advance(self, fraction: float, step: int, steps: int) -> None: ...
    def metric(self, name: str, value: float, step: int) -> None: ...
    def warning(self, code: str, detail: str) -> None: ...


class Silent:
    """For callers who do not want to know."""

    def stage(self, name: str) -> None: ...
    def advance(self, fraction: float, step: int, steps: int) -> None: ...
    def metric(self, name: str, value: float, step: int) -> None: ...
    def warning(self, code: str, detail: str) -> None: ...


def cpu_seconds() -> float:
    """User + system time of this process and of its finished children."""
    both = (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in both)


def peak_bytes() -> int:
    """The most memory that this process has held."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


class Meter:
    """Keeps the time of each stage, and turns a stage's own fraction into one of the whole job of `points` points."""

    def __init__(self, progress: Progress, points: int = 1) -> None:
        self.progress = progress
        shared = sum(STAGES[name] for name in SHARED)
        self._whole = shared + points * (sum(STAGES.values()) - shared)
        self.stages: list[Stage] = []
        self.warnings: list[str] = []
        self._figures: dict[tuple[str, str], list[list[tuple[int, float]]]] = {}
        self._done = 0.0
        self._share = 0.0

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time one stage. A name may come again; the rows then stand in order."""
        self.progress.stage(name)
        self._share = STAGES.get(name, 1) / self._whole
        wall, cpu = time.monotonic(), cpu_seconds()
        yield
        self._done = min(1.0, self._done + self._share)
        self._share = 0.0
        self.progress.advance(self._done, 1, 1)
        self.stages.append(Stage(name=name, seconds=time.monotonic() - wall, cpu_s=cpu_seconds() - cpu))

    def skip_point(self) -> None:
        """Count a point as done: an earlier attempt finished it."""
        self._done += sum(share for name, share in STAGES.items() if name not in SHARED) / self._whole

    def advance(self, step: int, steps: int) -> None:
        """Within the stage that runs now."""
        self.progress.advance(min(1.0, self._done + self._share * step / max(1, steps)), step, steps)

    def figure(self, phase: str, name: str, value: float, step: int) -> None:
        """Of a training: told at once, and kept for its curve."""
        runs = self._figures.setdefault((phase, name), [[]])
        if runs[-1] and step <= runs[-1][-1][0]:
            runs.append([])  # trained again
        runs[-1].append((step, value))
        self.progress.metric(name, value, step)

    def take_curves(self) -> tuple[Curve, ...]:
        """Of all figures since the last call, each thinned to at most POINTS; the last one stays."""
        found = []
        for (phase, name), runs in self._figures.items():
            for turn, figures in enumerate(runs, start=1):
                every = -(-len(figures) // POINTS)
                steps, values = zip(*figures[::-every][::-1], strict=True)
                again = f"{phase} ({turn})" if turn > 1 else phase
                found.append(Curve(phase=again, name=name, steps=steps, values=values))
        self._figures = {}
        return tuple(found)

    def agreement(self, value: float) -> None:
        """Attach the student's agreement with its teacher on `select` to the stage that ended last."""
        self.stages[-1] = self.stages[-1].model_copy(update={"select_agreement": value})
        self.progress.metric("select_agreement", value, 0)

    def warning(self, code: str, detail: str) -> None:
        self.warnings.append(f"{code}: {detail}")
        self.progress.warning(code, detail)
