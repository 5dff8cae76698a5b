"""Is this model, with this data, something that we can compress? Answered in a second, without building the model.

Runs in a resource-limited child: the files are hostile. Reads the safetensors headers, the config, the tokenizer and
every labelled row, and then looks around for as long as its budget lasts (`core.looks`). `eval` is read for validity
and for rows that stand elsewhere too.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from core.data import Data, Rows, check_alike, read, split_select
from core.errors import CompressionError, DataInvalid, ModelInvalid
from core.estimate import Estimate, estimate
from core.family import Family, family_named, family_of
from core.findings import Finding, Lengths, found, of_error
from core.looks.budget import LOOK_S, Budget
from core.looks.guarded import guarded
from core.looks.rows import (
    class_counts,
    look_at_classes,
    look_at_label_map,
    look_at_memory,
    look_at_repeats,
    look_at_sizes,
)
from core.looks.tokens import look_at_lengths, look_at_tokenizer
from core.looks.weights import look_at_weights
from core.plan import Matrix, ModelShape
from core.pooling import pooling_of
from core.task import Task, check_metric
from core.upload import MAX_TOKENIZER, check_folder, read_config, tensors_of, weight_files

if TYPE_CHECKING:
    from tokenizers import Tokenizer


# Other tables beside the words', by their names' ending, and the field of config.json that says how many rows.
TABLES = {"position_embeddings.weight": "max_position_embeddings", "token_type_embeddings.weight": "type_vocab_size"}


class Verdict(BaseModel):
    """What an inspection found. `error` is a CompressionError as a dictionary, or None where `ok`.

    classes: role -> class -> rows. lengths: by role, of a sample. Whatever is wrong or odd is in `findings`.
    """

    model_config = ConfigDict(frozen=True)

    ok: bool
    error: dict[str, Any] | None = None
    shape: ModelShape | None = None
    rows: dict[str, int] = {}
    findings: tuple[Finding, ...] = ()
    classes: dict[str, dict[str, int]] = {}
    lengths: dict[str, Lengths] = {}
    estimate: Estimate | None = None


def inspect(
    model: Path, data: Data, *, metric: str = "accuracy", task: str | None = None, look_s: float = LOOK_S
) -> Verdict:
    """Check a model folder and its data files; refusals become a verdict, never an exception.

    Args:
        look_s: CPU-seconds for what costs more than reading.
    """
    try:
        shape, labels = shape_of(model, task)
        config = read_config(model)
        tokenizer = _tokenizer(model, int(config["vocab_size"]))
        check_metric(metric, shape.of, len(labels))
        roles = _read(data, labels, shape)
        budget = Budget(look_s)
        findings = [*look_at_weights(model, budget), *look_at_tokenizer(tokenizer, config)]
        classes = class_counts(roles, labels, shape.of)
        longest = family_named(shape.family, shape.task).max_tokens(config)
        lengths, cut = look_at_lengths(tokenizer, roles, shape.of, longest, budget)
    except CompressionError as error:
        return Verdict(ok=False, error=error.as_dict(), findings=tuple(of_error(error)))
    findings += [*look_at_label_map(config, labels), *look_at_classes(classes), *look_at_sizes(roles, shape.of), *cut]
    findings += look_at_repeats(roles, shape.of, budget)
    rows = {role: len(each) for role, each in roles.items()}
    takes = None if "train" not in lengths else estimate(shape, rows, lengths["train"].mean)
    findings += look_at_memory(takes)
    if shape.task == "classification":
        findings.append(found("teacher_not_sampled", "the teacher was not run on rows of the data", "/model"))
    ordered = sorted(findings, key=lambda one: one.severity != "warning")
    return Verdict(
        ok=True, shape=shape, rows=rows, findings=tuple(ordered), classes=classes, lengths=lengths, estimate=takes
    )


def _read(data: Data, labels: dict[int, str], shape: ModelShape) -> dict[str, Rows]:
    """Rows of every file. Raises DataInvalid with what is wrong with all of them."""
    roles: dict[str, Rows] = {}
    faults: list[DataInvalid] = []
    for role, path in data.roles().items():
        try:
            roles[role] = read(path, role, data.columns, labels, data.formats.get(role), shape.of)
        except DataInvalid as error:
            faults.append(error)
    if faults:
        first, errors = faults[0], tuple(one for fault in faults for one in fault.errors)
        raise DataInvalid(first.detail, param=first.param, errors=errors)
    check_alike(roles, shape.of)
    train = roles["train"]
    if data.select is None and len(train) < 2:
        split_select(train, 0)  # refuses
    if shape.task == "classification" and len(set(train.labels)) < 2:
        raise DataInvalid(
            f"train: every row has the label {labels[train.labels[0]]!r}; at least two classes are needed",
            param="/data/train",
            finding="one_class",
        )
    return roles


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
        raise _mismatch(f"the weights lack {', '.join(missing[:3])}; config.json promises them")
    beyond = [name for name in shapes if any(fnmatchcase(name, f"{pattern}.weight") for pattern in family.linears)]
    if len(beyond) != len(names) - 1:
        raise _mismatch(f"the weights hold {len(beyond)} encoder matrices, config.json promises {len(names) - 1}")
    for name, promised in _promised(family, layers, config):
        if shapes[f"{name}.weight"] != promised:
            raise _mismatch(f"{name}.weight is {shapes[f'{name}.weight']}, config.json promises {promised}")
    for ending, field in TABLES.items():
        for name, shape in shapes.items():
            if name.endswith(ending) and (rows := config.get(field, shape[:1])) not in (shape[:1], *shape[:1]):
                raise _mismatch(f"{name} has {shape} entries, config.json {field} promises {str(rows)[:40]}")
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


def _promised(family: Family, layers: int, config: dict[str, Any]) -> Iterator[tuple[str, tuple[int, int]]]:
    """Every compressible matrix with the shape that config.json gives it."""
    hidden = int(config[family.hidden])
    yield family.embedding, (int(config["vocab_size"]), int(config.get("embedding_size") or hidden))
    for layer in range(layers):
        for pattern, units in ((family.attention, hidden), (family.feed_forward, int(config[family.neurons]))):
            block = pattern.at(str(layer))
            yield from ((writer, (block.stacked * units, hidden)) for writer in block.writers)
            yield block.reader, (hidden, units)


def _mismatch(detail: str) -> ModelInvalid:
    return ModelInvalid(detail, param="/model", finding="weights_mismatch")


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
            raise _mismatch(f"{head}.weight is {found}; {len(task.outputs)} rows are needed")
    elif found is None or found[0] != len(labels):
        raise _mismatch(f"{head}.weight is {found}, id2label has {len(labels)} classes: they must agree")


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


def _tokenizer(folder: Path, vocabulary: int) -> Tokenizer:
    from tokenizers import Tokenizer  # noqa: PLC0415 - keeps the light half light

    size = (folder / "tokenizer.json").stat().st_size
    if size > MAX_TOKENIZER:
        raise ModelInvalid(f"tokenizer.json is {size} bytes; at most {MAX_TOKENIZER}", param="/model")
    tokenizer = guarded("does not load", Tokenizer.from_file, str(folder / "tokenizer.json"))
    highest = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1)
    if highest >= vocabulary:
        raise ModelInvalid(
            f"tokenizer.json gives token ids up to {highest}, config.json vocab_size is {vocabulary}",
            param="/model",
            finding="tokenizer_too_large",
        )
    return tokenizer
