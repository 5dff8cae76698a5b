"""Is this model, with this data, something that we can compress? Answered in a second, without loading weights.

Runs in a resource-limited child: the files are hostile. Reads the safetensors headers, the config, the tokenizer and
every labelled row. `eval` is read for validity only.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from core.data import Data, read_roles
from core.errors import CompressionError, DataInvalid, ModelInvalid
from core.family import Family, family_of
from core.plan import Matrix, ModelShape
from core.pooling import pooling_of
from core.task import Task, check_metric
from core.upload import MAX_TOKENIZER, check_folder, read_config, tensors_of, weight_files


class Verdict(BaseModel):
    """What an inspection found. `error` is a CompressionError as a dictionary, or None where `ok`."""

    model_config = ConfigDict(frozen=True)

    ok: bool
    error: dict[str, Any] | None = None
    shape: ModelShape | None = None
    rows: dict[str, int] = {}
    warnings: tuple[str, ...] = ()


def inspect(model: Path, data: Data, *, metric: str = "accuracy", task: str | None = None) -> Verdict:
    """Check a model folder and its data files; refusals become a verdict, never an exception."""
    try:
        shape, labels = shape_of(model, task)
        _check_tokenizer(model)
        check_metric(metric, shape.of, len(labels))
        roles = read_roles(data, labels, shape.of)
        if shape.task == "classification" and len(set(roles["train"].labels)) < 2:
            only = labels[roles["train"].labels[0]]
            raise DataInvalid(
                f"train: every row has the label {only!r}; at least two classes are needed", param="/data/train"
            )
        return Verdict(ok=True, shape=shape, rows={role: len(rows) for role, rows in roles.items()})
    except CompressionError as error:
        return Verdict(ok=False, error=error.as_dict())


def shape_of(folder: Path, asked: str | None = None) -> tuple[ModelShape, dict[int, str]]:
    """The model's shape and id2label, from its config and safetensors headers; weights are not read.

    asked: the task that it has to be of.
    """
    check_folder(folder)
    config = read_config(folder)
    family, task = family_of(config, asked)
    if task.name == "sentence_embedding":
        pooling_of(folder)  # refused before anything else is done
    shapes = {
        name: tuple(entry["shape"])
        for path in weight_files(folder)
        for name, entry in tensors_of(path).items()
        if not name.endswith("position_ids")  # a buffer that some exporters store
        and not is_unread(name, task)
    }
    labels = _labels(config, task)
    _check_head(family, task, shapes, labels)
    layers = int(config[family.layers])
    shape = ModelShape(
        family=family.model_type,
        task=task.name,
        parameters=sum(math.prod(shape) for shape in shapes.values()),
        layers=layers,
        hidden=int(config[family.hidden]),
        labels=tuple(labels[i] for i in sorted(labels)),
        matrices=(matrices := tuple(_matrices(family, layers, config, shapes))),
        rest=tuple(_rest(matrices, shapes)),
    )
    return shape, labels


def _matrices(family: Family, layers: int, config: dict[str, Any], shapes: dict[str, tuple[int, ...]]) -> list[Matrix]:
    names = [family.embedding] + [
        pattern.replace("*", str(layer)) for layer in range(layers) for pattern in family.linears
    ]
    missing = [name for name in names if len(shapes.get(f"{name}.weight", ())) != 2 or 0 in shapes[f"{name}.weight"]]
    if missing:
        raise ModelInvalid(f"the weights lack {', '.join(missing[:3])}; config.json promises them", param="/model")
    beyond = [name for name in shapes if any(fnmatchcase(name, f"{pattern}.weight") for pattern in family.linears)]
    if len(beyond) != len(names) - 1:
        raise ModelInvalid(
            f"the weights hold {len(beyond)} encoder matrices, config.json promises {len(names) - 1}",
            param="/model",
        )
    kinds = {name: "embedding" if name == family.embedding else "linear" for name in names}
    return [
        Matrix(
            name=name,
            rows=shapes[f"{name}.weight"][0],
            cols=shapes[f"{name}.weight"][1],
            kind=kinds[name],
            unit=_unit(family, name, config),
        )
        for name in names
    ]


def _unit(family: Family, name: str, config: dict[str, Any]) -> int:
    """Columns of the linear `name` that a head or neuron spans; 0 where it reads none."""
    block = family.block(name)
    if block is None:
        return 0
    return 1 if block.what == "neurons" else int(config[family.hidden]) // int(config[family.heads])


def _rest(matrices: Iterable[Matrix], shapes: dict[str, tuple[int, ...]]) -> Iterator[Matrix]:
    """Every other weight; a vector is one row."""
    known = {f"{matrix.name}.weight" for matrix in matrices}
    for name, shape in shapes.items():
        entries = math.prod(shape)
        if name not in known and entries:
            rows, cols = shape if len(shape) == 2 else (1, entries)
            yield Matrix(name=name, rows=rows, cols=cols, kind="fixed")


def is_unread(name: str, task: Task) -> bool:
    """Whether a weight is of the pooler that embeddings are not read from."""
    return task.name == "sentence_embedding" and name.startswith("pooler.")


def _check_head(family: Family, task: Task, shapes: Mapping[str, tuple[int, ...]], labels: Mapping[int, str]) -> None:
    head = family.head(task)
    if head is None:
        return
    found = shapes.get(f"{head}.weight")
    if task.labels == "none":
        if found is None or found[0] != len(task.outputs):
            raise ModelInvalid(f"{head}.weight is {found}; {len(task.outputs)} rows are needed", param="/model")
    elif found is None or found[0] != len(labels):
        raise ModelInvalid(
            f"{head}.weight is {found}, id2label has {len(labels)} classes: they must agree",
            param="/model",
        )


def _labels(config: dict[str, Any], task: Task) -> dict[int, str]:
    if task.labels == "none":
        return {}
    given = config.get("id2label")
    if given is None:
        given = {0: "LABEL_0", 1: "LABEL_1"}  # what Transformers takes where a config names no classes
    try:
        labels = {int(i): str(name) for i, name in given.items()}
    except (AttributeError, TypeError, ValueError):
        labels = {}
    least = 1 if task.labels == "number" else 2
    if sorted(labels) != list(range(len(labels))) or len(labels) < least or len(set(labels.values())) != len(labels):
        raise ModelInvalid(f"config.json id2label must map 0..n-1 to n >= {least} different names", param="/model")
    return labels


def _check_tokenizer(folder: Path) -> None:
    from tokenizers import Tokenizer  # noqa: PLC0415 - keeps the light half light

    size = (folder / "tokenizer.json").stat().st_size
    if size > MAX_TOKENIZER:
        raise ModelInvalid(f"tokenizer.json is {size} bytes; at most {MAX_TOKENIZER}", param="/model")
    try:
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception as error:
        raise ModelInvalid(f"tokenizer.json does not load: {str(error)[:200]}", param="/model") from None
    vocabulary = int(read_config(folder).get("vocab_size", 0))
    highest = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1)
    if highest >= vocabulary:
        raise ModelInvalid(
            f"tokenizer.json gives token ids up to {highest}, config.json vocab_size is {vocabulary}",
            param="/model",
        )
