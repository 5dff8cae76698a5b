"""Checkpoints of a running compression: enough to go on as if nothing had happened.

A checkpoint is one flat folder: `state.safetensors` (weights, masks, optimizers, random state), one tar of every
point that is finished, `best.safetensors` of a search that tries again, `checkpoint.json` with the place in the job,
tries that are over, what hooks and optimizers hold beside tensors, the sha256 of the other files and its own. It is
written beside and renamed, so a folder with its final name is whole.

Only training is worth keeping: what comes before it (calibration, factors) is computed again, to the same bits. A
checkpoint counts only for the same inputs, recipes, seed, device, threads and code (`fingerprint`); one that is
damaged is passed over for the one before it. Where what is built again differs from what was kept (ranks that were
chosen from trained weights, a disk too full now for the teacher's answers), the point begins anew.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tarfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from core.data import digest
from core.grid import Grid
from core.memory import out_of_memory
from core.phase import Build, Phase
from core.report import Plan, Try

FORMAT = 4
KEPT = 2
STATE, BEST, INDEX = "state.safetensors", "best.safetensors", "checkpoint.json"


@dataclass(frozen=True, order=True)
class Place:
    """Where a job is: point of the ladder, try of the point, step of the recipe, phase of the step."""

    point: int
    attempt: int
    step: int
    phase: int


@dataclass(frozen=True)
class Done:
    """How far a phase had come: steps, and the fraction that drives its schedules."""

    steps: int = 0
    fraction: float = 0.0


@dataclass
class Search:
    """Of the point at work: tries that are over, the plan of the one that is not, weights of the best so far."""

    tries: list[Try] = field(default_factory=list)
    plan: Plan | None = None
    best: dict[str, torch.Tensor] = field(default_factory=dict)


class BuiltAnew(Exception):
    """What the recipe builds is not what the checkpoint holds: this point has to begin at its beginning."""


def code_digest() -> str:
    """sha256 over the sources of core and the versions of what computes with them."""
    found = hashlib.sha256()
    root = Path(__file__).parent
    for path in sorted(root.rglob("*.py")):
        found.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    for name in ("torch", "transformers", "numpy", "tokenizers"):
        found.update(f"{name}={metadata.version(name)}".encode())
    return found.hexdigest()


def fingerprint(**parts: Any) -> str:
    """sha256 of whatever decides a job's numbers, the code among it."""
    text = json.dumps({**parts, "code": code_digest()}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Checkpoints:
    """Where checkpoints of a run go, and what earlier attempts left.

    folder: where they are written, the newest two kept; None writes none.
    earlier: folders of earlier attempts, best first; the first sound one of the same fingerprint is used.
    every_s: wall seconds between two.
    told: called with each folder as soon as it is whole.
    """

    folder: Path | None = None
    earlier: tuple[Path, ...] = ()
    every_s: float = 120.0
    told: Callable[[Path], None] = lambda _folder: None


class Keeper:
    """Writes checkpoints of one run, and gives back what an earlier run left. `mark` is the job's fingerprint."""

    def __init__(self, given: Checkpoints, mark: str) -> None:
        self.given, self.mark = given, mark
        self.place: Place | None = None
        self._finished: list[Path] = []  # folders of the points that are done
        self._number = _next_number(given.folder)
        self._written = time.monotonic()
        self._found = next((found for found in map(self._read, given.earlier) if found is not None), None)
        self.search = Search() if self._found is None else self._searched(*self._found)

    # What an earlier attempt left

    def finished_before(self, work: Path) -> int:
        """Unpack the points that an earlier attempt finished into `work/0`, `work/1`, ...; how many."""
        if self._found is None:
            return 0
        index, folder = self._found
        for number in range(index["place"]["point"]):
            with tarfile.open(folder / f"point-{number}.tar") as tar:
                tar.extractall(work / str(number), filter="data")
            self._finished.append(work / str(number))
        return int(index["place"]["point"])

    def enter(self, place: Place) -> bool:
        """A phase is about to begin. True: an earlier attempt had ended it already, and its effect comes later."""
        self.place = place
        return self._at is not None and place < self._at

    def continued(self, place: Place) -> bool:
        """Whether a checkpoint holds a student of this try of this point that went on from the point before."""
        if self._found is None or self._at is None:
            return False
        here = (self._at.point, self._at.attempt) == (place.point, place.attempt)
        return here and bool(self._found[0]["continued"])

    @property
    def _at(self) -> Place | None:
        """The place of what an earlier attempt left."""
        return None if self._found is None else Place(**self._found[0]["place"])

    def forget(self) -> None:
        """What an earlier attempt left is of no use."""
        self._found = None

    def restore(self, phase: Phase, build: Build, optimizers: Sequence[Any]) -> Done:
        """Put the state of this phase back, where there is one. Raises BuiltAnew."""
        if self._found is None or self.place != self._at:
            return Done()
        index, folder = self._found
        self._found = None
        tensors = load_file(folder / STATE)
        if index["form"] != phase.form:
            raise BuiltAnew
        put(tensors, build)
        for number, (hook, held) in enumerate(zip(phase.hooks, index["hooks"], strict=True)):
            hook.load_state_dict(held)
            hook.load_tensors(_part(tensors, f"hook.{number}"))
        for number, (optimizer, groups) in enumerate(zip(optimizers, index["optimizers"], strict=True)):
            state: dict[int, dict[str, torch.Tensor]] = {}
            for name, tensor in _part(tensors, f"optimizer.{number}").items():
                parameter, _, key = name.partition(".")
                state.setdefault(int(parameter), {})[key] = tensor
            optimizer.load_state_dict({"state": state, "param_groups": groups})
        torch.set_rng_state(tensors["random"])
        return Done(**index["done"])

    def _read(self, folder: Path) -> tuple[dict[str, Any], Path] | None:
        try:
            index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
            if index["format"] != FORMAT or index["mark"] != self.mark or index.pop("sha256") != _sealed(index):
                return None
            if any(digest(folder / name) != sha256 for name, sha256 in index["files"].items()):
                return None
            for name in {STATE, BEST} & index["files"].keys():
                load_file(folder / name)
        except (OSError, ValueError, KeyError, TypeError, SafetensorError):
            return None  # damaged, or of another time: the one before it, or the beginning
        return index, folder

    @staticmethod
    def _searched(index: dict[str, Any], folder: Path) -> Search:
        best = load_file(folder / BEST) if BEST in index["files"] else {}
        tries = [Try.model_validate(one) for one in index["tries"]]
        return Search(tries, None if index["plan"] is None else Plan.model_validate(index["plan"]), best)

    # What this attempt leaves

    def finish(self, point: Path) -> None:
        """A point is done; its files go into every later checkpoint."""
        self._finished.append(point)
        self.search = Search()

    def due(self) -> bool:
        """Whether it is time for a checkpoint."""
        return self.given.folder is not None and time.monotonic() - self._written >= self.given.every_s

    def save(self, phase: Phase, build: Build, optimizers: Sequence[Any], done: Done) -> str | None:
        """Write one, so much of this phase being over. What went wrong, if anything: work goes on without it."""
        folder, self._written = self.given.folder, time.monotonic()
        if folder is None or self.place is None:
            return None
        beside = folder / f".checkpoint-{self._number}"
        shutil.rmtree(beside, ignore_errors=True)  # of an attempt that died here
        try:
            self._write(beside, phase, build, optimizers, done)
        except (OSError, SafetensorError, RuntimeError, MemoryError) as error:
            if isinstance(error, RuntimeError | MemoryError) and not out_of_memory(error):
                raise
            shutil.rmtree(beside, ignore_errors=True)
            return str(error)
        kept = beside.rename(folder / beside.name.removeprefix("."))
        shutil.rmtree(folder / f"checkpoint-{self._number - KEPT}", ignore_errors=True)
        self._number += 1
        self.given.told(kept)
        return None

    def _write(self, beside: Path, phase: Phase, build: Build, optimizers: Sequence[Any], done: Done) -> None:
        beside_it: dict[str, torch.Tensor] = {"random": torch.get_rng_state()}
        groups = []
        for number, optimizer in enumerate(optimizers):
            state = optimizer.state_dict()
            groups.append(state["param_groups"])
            for parameter, values in state["state"].items():
                beside_it |= {f"optimizer.{number}.{parameter}.{key}": value for key, value in values.items()}
        for number, hook in enumerate(phase.hooks):
            beside_it |= {f"hook.{number}.{key}": value for key, value in hook.tensors().items()}
        beside.mkdir(parents=True)
        save_file(tensors_of(build) | {key: _plain(tensor) for key, tensor in beside_it.items()}, beside / STATE)
        if self.search.best:
            save_file(self.search.best, beside / BEST)
        for number, point in enumerate(self._finished):
            with tarfile.open(beside / f"point-{number}.tar", "w") as tar:
                tar.add(point, arcname=".")
        index = {
            "format": FORMAT,
            "mark": self.mark,
            "place": asdict(self.place) if self.place else None,
            "done": asdict(done),
            "form": phase.form,
            "continued": build.continued,
            "tries": [one.model_dump(mode="json") for one in self.search.tries],
            "plan": None if self.search.plan is None else self.search.plan.model_dump(mode="json"),
            "hooks": [hook.state_dict() for hook in phase.hooks],
            "optimizers": groups,
            "files": {path.name: digest(path) for path in sorted(beside.iterdir())},
        }
        (beside / INDEX).write_text(json.dumps({**index, "sha256": _sealed(index)}), encoding="utf-8")
        for path in beside.iterdir():
            _sync(path)


def _sealed(index: dict[str, Any]) -> str:
    """sha256 of what an index says: a digit that has changed would be a place or a learning rate like another."""
    return hashlib.sha256(json.dumps(index, sort_keys=True).encode()).hexdigest()


def _next_number(folder: Path | None) -> int:
    """One above every checkpoint that lies in the folder."""
    there = [] if folder is None else [path.name.rpartition("-")[2] for path in folder.glob("checkpoint-*")]
    return max([int(number) + 1 for number in there if number.isdigit()], default=0)


def tensors_of(build: Build) -> dict[str, torch.Tensor]:
    """All that a finished student is, beside what its recipe builds again."""
    tensors = {f"model.{name}": tensor for name, tensor in build.model.state_dict().items()}
    tensors |= {f"mask.{name}": mask.to(torch.uint8) for name, mask in build.masks.items()}
    for name, grid in _grids(build).items():
        tensors |= {f"grid.{name}.{part}": tensor for part, tensor in grid.tensors().items()}
    return {name: _plain(tensor) for name, tensor in tensors.items()}


def put(tensors: dict[str, torch.Tensor], build: Build) -> None:
    """Into a student that its recipe has built, what `tensors_of` took. Raises BuiltAnew where it does not fit."""
    if not _fits(tensors, build):
        raise BuiltAnew
    device = build.device
    build.model.load_state_dict(_part(tensors, "model"))
    build.masks = {name: mask.bool().to(device) for name, mask in _part(tensors, "mask").items()}
    grids = {name: grid.of(_part(tensors, f"grid.{name}")) for name, grid in _grids(build).items()}
    build.values |= {name: grid.to(device) for name, grid in grids.items()}


def _plain(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().cpu().contiguous().clone()


def _fits(tensors: dict[str, torch.Tensor], build: Build) -> bool:
    """Whether the recipe built the same structure: ranks chosen from trained weights may differ."""
    built = {name: tensor.shape for name, tensor in build.model.state_dict().items()}
    return built == {name: tensor.shape for name, tensor in _part(tensors, "model").items()}


def _grids(build: Build) -> dict[str, Grid]:
    return {name: value for name, value in build.values.items() if isinstance(value, Grid)}


def _part(tensors: dict[str, torch.Tensor], name: str) -> dict[str, torch.Tensor]:
    return {key.removeprefix(f"{name}."): tensor for key, tensor in tensors.items() if key.startswith(f"{name}.")}


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
