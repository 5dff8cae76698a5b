"""What all points of one job share: the teacher, its text, and whatever was computed of the two."""

from __future__ import annotations

import copy
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, TypeVar

import torch
from torch import nn

from core.augment import augmented
from core.batches import FLOAT, Batches, Split, predict
from core.calibrate import Moments, moments
from core.family import Family
from core.likelihood import Likelihood
from core.phase import Build
from core.recorded import Recorded, fits, record, size_of
from core.tasks import Answers, answers_of

CALIBRATION_BATCH, CALIBRATION_TOKENS = 32, 128  # rows at full length would not fit beside a large teacher
Made = TypeVar("Made")


@dataclass
class Shared:
    """`folder` takes what is mapped into memory; without one the teacher is asked anew at each step.

    `select` decides between weights (`core.early_stop`); without it the last ones are taken.
    """

    teacher: nn.Module
    family: Family
    train: Split
    seed: int
    device: torch.device
    folder: Path | None = None
    select: Split | None = None
    _made: dict[Hashable, Any] = field(default_factory=dict)

    def student(self) -> Build:
        """A new student, so far a copy of the teacher, every parameter of it to be trained."""
        return Build(copy.deepcopy(self.teacher).requires_grad_(True), self)

    def once(self, key: Hashable, make: Callable[[], Made]) -> Made:
        """What `make` gave for this key the first time."""
        if key not in self._made:
            self._made[key] = make()
        found: Made = self._made[key]
        return found

    def moments(self, rows: int) -> dict[str, Moments]:
        """Second moments of the teacher's layers on a seeded sample of `rows` training rows."""

        def make() -> dict[str, Moments]:
            sample = self.train.sample(rows, self.seed).cut(CALIBRATION_TOKENS)
            batches = Batches(sample, CALIBRATION_BATCH, seed=self.seed, device=self.device)
            return moments(self.teacher, self.family, batches, seed=self.seed, likelihood=self.likelihood)

        return self.once(("moments", rows), make)

    def text(self, rows: int | None, max_length: int, augment_to: int = 0) -> Split:
        """A seeded sample of the training rows, cut to `max_length` tokens; the same object for the same arguments.

        Where there are fewer than `augment_to` rows, changed copies follow (`core.augment`).
        """

        def make() -> Split:
            return augmented(self.train.sample(rows, self.seed).cut(max_length), augment_to, self.seed)

        return self.once(("text", rows, max_length, augment_to), make)

    def on_select(self, model: nn.Module) -> FLOAT:
        """A model's outputs on `select`, see `core.batches.predict`."""
        if self.select is None:
            raise ValueError("no select rows were given")
        return predict(model, self.select, self.device)

    def followed(self) -> FLOAT:
        """The teacher's outputs on `select`, computed once."""
        return self.once("followed", lambda: self.on_select(self.teacher))

    @property
    def answers(self) -> Answers:
        """How outputs on `select` are read."""
        if self.select is None:
            raise ValueError("no select rows were given")
        split = self.select
        return self.once("answers", lambda: answers_of(split.task, split.rows, split.places))

    @property
    def likelihood(self) -> Likelihood:
        """How a training compares outputs with the teacher's."""
        task = self.train.task
        if task != "regression" or self.select is None:
            return Likelihood(task)
        return Likelihood(task, float(self.followed().var()) or 1.0)

    def recorded(self, text: Split) -> Recorded | None:
        """The teacher's answers on a split that `text` gave; None where they cannot be kept."""

        def make() -> Recorded | None:
            config = self.teacher.config
            layers, width = (int(getattr(config, name)) for name in (self.family.layers, self.family.hidden))
            if self.folder is None or not fits(self.folder, size_of(text, layers, width)):
                return None
            return record(self.teacher, text, self.device, Path(mkdtemp(dir=self.folder)))

        return self.once(("recorded", id(text)), make)
