"""How long an inspection may look around: a submit waits for its verdict."""

from __future__ import annotations

import time
from collections.abc import Callable

LOOK_S = 0.5  # CPU-seconds for all looks of one verdict together


class Budget:
    """Time that runs from its making. `over` says that it has ended. On a busy machine CPU time runs as on another."""

    def __init__(self, seconds: float = LOOK_S, clock: Callable[[], float] = time.process_time) -> None:
        self._clock = clock
        self._ends = clock() + seconds

    def over(self) -> bool:
        return self._clock() >= self._ends
