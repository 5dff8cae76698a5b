"""What a student that follows its teacher so closely retains of the metric, on rows that nobody has looked at.

Labels on which the teacher was trained would flatter it, so what counts is whom the student follows where it matters:
the teacher's answers, at the temperature at which their confidence fits the labels of `select` (Guo et al. 2017, arXiv
1706.04599), are taken as each row's chances of being of each class, and the metric of the student's answers is
expected over them. A row on which it leaves its teacher costs what the teacher was surer of than of the student's
answer. Of other tasks than classes truths are drawn by such chances, and the metric is averaged (`core.tasks`).

How KL and retention belong together is a matter of the teacher's margins. `nears` has Gaussian noise on its outputs
play the student: on SST-2 the pairs so found fit those of trained students (docs/decisions/0010).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from core.batches import FLOAT
from core.profile import Near
from core.task import Metric
from core.tasks import Answers

DRAWS = 24  # of labels and rows, from which the spread of what will be measured is taken
NOISE = (0.02, 3.0, 16)  # of the typical margin: from, to, how many


@dataclass(frozen=True)
class Promise:
    """Expected retention, and the standard deviation of what so many new rows will show."""

    retention: float
    sd: float
    agreement: float
    kl: float


@dataclass(frozen=True)
class Judge:
    """Knows how outputs on `select` are read, and the teacher's. `new`: rows of `eval`."""

    metric: Metric
    answers: Answers
    followed: FLOAT
    new: int
    seed: int

    @cached_property
    def chances(self) -> Any:
        """What the teacher's outputs say of the truth."""
        return self.answers.chances(self.followed)

    @cached_property
    def _theirs(self) -> Any:
        return self.answers.judged(self.followed)

    def of(self, outputs: FLOAT, draws: int = DRAWS) -> Promise | None:
        """The promise of a student with these outputs on `select`; None where the teacher's own score is nothing.

        Its spread is of the retention on `new` rows with labels, and of the estimate, which has only so many rows.
        """
        ours = self.answers.judged(outputs)
        found = self.answers.promise(self.metric, self.chances, ours, self._theirs, self.new, draws, self.seed)
        if found is None:
            return None
        return Promise(
            retention=found[0],
            sd=found[1],
            agreement=self.answers.agreement(outputs, self.followed),
            kl=self.answers.divergence(outputs, self.followed),
        )

    def nears(self) -> tuple[Near, ...]:
        """Students of less and less agreement, by noise on the teacher's outputs: the closer, the less is lost.

        Their spread is that of as many new rows as `select` has: a profile does not know who will be measured on what.
        """
        standard = replace(self, new=len(self.answers.rows))
        generator = np.random.default_rng(self.seed)
        found: list[Near] = []
        for height in np.geomspace(*NOISE):
            promise = standard.of(self.answers.noisy(self.followed, height, generator))
            if promise is None:
                return ()
            last = found[-1] if found else Near(kl=0.0, agreement=1.0, retention=1.0, sd=0.0)
            if promise.kl > last.kl:
                found.append(
                    Near(
                        kl=promise.kl,
                        agreement=min(last.agreement, promise.agreement),
                        retention=min(last.retention, promise.retention),
                        sd=max(last.sd, promise.sd),
                    )
                )
        return tuple(found)
