"""What a student that follows its teacher so closely retains of the metric, on rows that nobody has looked at.

Labels on which the teacher was trained would flatter it, so what counts is whom the student follows where it matters:
the teacher's answers, at the temperature at which their confidence fits the labels of `select` (Guo et al. 2017, arXiv
1706.04599), are taken as each row's chances of being of each class, and the metric of the student's answers is
expected over them. A row on which it leaves its teacher costs what the teacher was surer of than of the student's
answer.

How KL and retention belong together is a matter of the teacher's margins. `nears` has Gaussian noise on its logits
play the student: on SST-2 the pairs so found fit those of trained students (docs/decisions/0010).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from core.metrics import Metric, agreement, class_score, divergence, expected_score
from core.profile import Near

TEMPERATURES = (0.2, 10.0)
DRAWS = 24  # of labels and rows, from which the spread of what will be measured is taken
NOISE = (0.02, 3.0, 16)  # of the typical margin: from, to, how many


@dataclass(frozen=True)
class Promise:
    """Expected retention, and the standard deviation of what so many new rows will show."""

    retention: float
    sd: float
    agreement: float
    kl: float


def calibrated(logits: np.ndarray, labels: Sequence[int]) -> np.ndarray:
    """Chances (rows, classes) from logits at the temperature of the highest likelihood of the labels."""
    rows, truth = np.arange(len(labels)), np.asarray(labels)

    def loss(log_temperature: float) -> float:
        return float(-log_softmax(logits / np.exp(log_temperature), axis=1)[rows, truth].mean())

    found = minimize_scalar(loss, bounds=tuple(np.log(TEMPERATURES)), method="bounded")
    chances: np.ndarray = softmax(logits.astype(np.float64) / np.exp(found.x), axis=1)
    return chances


@dataclass(frozen=True)
class Judge:
    """Knows the teacher's logits on `select`, (rows, classes), and the chances behind them. `new`: rows of `eval`."""

    metric: Metric
    followed: np.ndarray
    chances: np.ndarray
    new: int
    seed: int

    def of(self, logits: np.ndarray, draws: int = DRAWS) -> Promise | None:
        """The promise of a student with these logits on `select`; None where the teacher's own score is nothing."""
        ours, theirs = logits.argmax(axis=1), self.followed.argmax(axis=1)
        whole = expected_score(self.metric, self.chances, theirs)
        if whole <= 0:
            return None
        return Promise(
            retention=expected_score(self.metric, self.chances, ours) / whole,
            sd=self._sd(ours, theirs, draws),
            agreement=agreement(logits, self.followed),
            kl=divergence(logits, self.followed),
        )

    def nears(self) -> tuple[Near, ...]:
        """Students of less and less agreement, by noise on the teacher's logits: the closer, the less is lost.

        Their spread is that of as many new rows as `select` has: a profile does not know who will be measured on what.
        """
        standard = replace(self, new=len(self.followed))
        generator = np.random.default_rng(self.seed)
        top = np.sort(self.followed, axis=1)
        margin = float(np.median(top[:, -1] - top[:, -2])) or 1.0
        found: list[Near] = []
        for height in margin * np.geomspace(*NOISE):
            promise = standard.of(self.followed + height * generator.normal(size=self.followed.shape))
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

    def _sd(self, ours: np.ndarray, theirs: np.ndarray, draws: int) -> float:
        """Of the retention on `new` rows with labels, and of the estimate, which has only so many rows itself."""
        generator = np.random.default_rng(self.seed)
        edges = self.chances.cumsum(axis=1)
        drawn = []
        for _ in range(draws):
            rows = generator.integers(len(ours), size=self.new)
            truth = (edges[rows] < generator.random((self.new, 1))).sum(axis=1).clip(max=edges.shape[1] - 1)
            whole = class_score(self.metric, truth, theirs[rows])
            if whole > 0:
                drawn.append(class_score(self.metric, truth, ours[rows]) / whole)
        spread = float(np.std(drawn)) if drawn else 0.0
        return spread * float(np.sqrt(1 + self.new / len(ours)))
