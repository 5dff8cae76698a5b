"""What a baseline or a peer is given, and what it hands back to be graded."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from core.batches import Split, load_tokenizer
from core.data import Rows
from core.export import artifact
from core.family import Family
from core.model import Loaded, load

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Made:
    """A folder with a `model.onnx`, or with OpenVINO's `model.xml` and `model.bin`; `parameters` are those stored."""

    folder: Path
    parameters: int
    runtime: Literal["onnx", "openvino"] = "onnx"


@dataclass(frozen=True)
class Material:
    """A teacher with training and select rows. Nobody who gets this sees a graded row."""

    folder: Path
    train_rows: Rows
    select_rows: Rows
    seed: int
    scratch: Path

    @cached_property
    def loaded(self) -> Loaded:
        found = load(self.folder)
        found.model.requires_grad_(False)
        return found

    @property
    def teacher(self) -> nn.Module:
        return self.loaded.model

    @property
    def family(self) -> Family:
        return self.loaded.family

    @property
    def parameters(self) -> int:
        return sum(p.numel() for p in self.teacher.parameters())

    @cached_property
    def exported(self) -> Path:
        """The teacher as a student is delivered."""
        folder = self.scratch / "teacher"
        artifact.write(load(self.folder).model, {}, self.folder, folder, torch_form=False)
        return folder

    def student(self) -> nn.Module:
        """A copy of the teacher, to be changed."""
        return copy.deepcopy(self.teacher).requires_grad_(True)

    @cached_property
    def train(self) -> Split:
        return self._split(self.train_rows)

    @cached_property
    def select(self) -> Split:
        return self._split(self.select_rows)

    def _split(self, rows: Rows) -> Split:
        return Split.encode(load_tokenizer(self.folder), rows, **self.loaded.encoding)
