"""What labelled rows say by themselves: how many of which class, which stand in two files, which contradict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

from core.data import Rows
from core.estimate import Estimate
from core.findings import FIRST, Finding, found
from core.labels import UNLABELLED
from core.looks.budget import Budget
from core.memory import machine_bytes
from core.task import Task

IMBALANCE = 100  # rows of the commonest class for one of the rarest
FEW = {"train": 50, "eval": 50}
CHECK_EVERY = 4_096  # rows between two looks at the clock


def class_counts(roles: Mapping[str, Rows], labels: Mapping[int, str], task: Task) -> dict[str, dict[str, int]]:
    """Role -> class -> rows that have it (of token classification: words); nothing where labels are no classes."""
    if task.labels != "classes":
        return {}
    counts = {}
    for role, rows in roles.items():
        if role == "unlabelled":
            continue
        single = task.name == "classification"
        held = Counter(rows.labels if single else (one for each in rows.labels for one in each))
        counts[role] = {name: held[number] for number, name in sorted(labels.items())}
    return counts


def look_at_label_map(config: Mapping[str, Any], labels: Mapping[int, str]) -> Iterator[Finding]:
    """Whether it can be told which class a label means."""
    other = config.get("label2id")
    if isinstance(other, dict) and other and labels:
        wrong = [name for number, name in labels.items() if other.get(name) != number]
        if wrong:
            detail = f"config.json label2id gives {wrong[0]!r} the number {other.get(wrong[0])!r}, id2label another"
            yield found("label_map_suspicious", detail, "/model", counts={"classes": len(wrong)})
    crossed = [name for number, name in labels.items() if name.isdecimal() and int(name) != number]
    if crossed:
        detail = f"config.json id2label calls class {next(n for n, name in labels.items() if name == crossed[0])} "
        detail += f"{crossed[0]!r}: a text cell is read as a name, a number as a number"
        yield found("label_map_suspicious", detail, "/model", counts={"classes": len(crossed)})


def look_at_classes(counts: Mapping[str, Mapping[str, int]]) -> Iterator[Finding]:
    for role, held in counts.items():
        param = f"/data/{role}"
        if role in ("train", "eval") and (absent := [name for name, rows in held.items() if not rows]):
            named = ", ".join(map(repr, absent[:FIRST])) + (" ..." if len(absent) > FIRST else "")
            detail = f"{role}: {len(absent)} of {len(held)} classes have no row: {named}"
            yield found("class_missing", detail, param, counts={"missing": len(absent), "classes": len(held)})
        present = {name: rows for name, rows in held.items() if rows}
        if len(present) < 2:
            continue
        most, least = max(present, key=present.__getitem__), min(present, key=present.__getitem__)
        if present[most] >= IMBALANCE * present[least]:
            detail = f"{role}: class {most!r} has {present[most]} rows, {least!r} has {present[least]}"
            yield found("classes_imbalanced", detail, param, counts={"most": present[most], "least": present[least]})


def look_at_sizes(roles: Mapping[str, Rows], task: Task) -> Iterator[Finding]:
    for role, least in FEW.items():
        if (count := len(roles[role])) < least:
            yield found("rows_few", f"{role}: {count} rows; figures on fewer than {least} are uncertain",
                        f"/data/{role}", counts={"rows": count})  # fmt: skip
    if task.metrics != ("spearman",):
        return
    for role, rows in roles.items():
        scored = set(rows.labels) - {UNLABELLED} if role == "train" else set(rows.labels)
        if role != "unlabelled" and len(rows) > 1 and len(scored) == 1:
            yield found("scores_constant", f"{role}: every score is {next(iter(scored)):g}", f"/data/{role}")


def look_at_memory(takes: Estimate | None) -> Iterator[Finding]:
    """By what this machine has: the one that inspects is most often the one that works."""
    has = machine_bytes()
    if takes is not None and takes.memory_bytes > has:
        yield found("memory_short", f"a job needs about {takes.memory_bytes} bytes of memory, this machine has {has}",
                    counts={"needed": takes.memory_bytes, "has": has})  # fmt: skip


def look_at_repeats(roles: Mapping[str, Rows], task: Task, budget: Budget) -> Iterator[Finding]:
    """Rows of `eval` that stand in another file, and texts of `train` that have two labels: without case, white space
    as one space."""
    graded: dict[int, int] = {}
    for number, key in enumerate(_keys(roles["eval"], budget), start=1):
        graded.setdefault(key, number)
    seen = len(graded)
    labelled: dict[int, Any] = {}
    contradicting: list[int] = []
    for role, rows in roles.items():
        if role == "eval":
            continue
        common: set[int] = set()
        count = 0
        for count, key in enumerate(_keys(rows, budget), start=1):
            if key in graded:
                common.add(key)
            if role == "train" and task.name == "classification":
                label = rows.labels[count - 1]
                if labelled.setdefault(key, label) != label:
                    contradicting.append(count)
        if common:
            yield _common(role, sorted(graded[key] for key in common), seen)
        if count < len(rows):
            yield found("not_looked_at", f"{role}: rows from {count + 1} on were not compared with eval",
                        f"/data/{role}", counts={"rows": len(rows) - count})  # fmt: skip
    if contradicting:
        detail = f"train: {len(contradicting)} rows have a text that stands above with another label"
        yield found("labels_contradict", detail, "/data/train", rows=contradicting,
                    counts={"rows": len(contradicting)})  # fmt: skip


def _common(role: str, numbers: list[int], seen: int) -> Finding:
    detail = f"eval: {len(numbers)} of {seen} different rows stand in {role} too"
    if len(numbers) == seen:
        detail += ": what is measured on them is no sign of how it does on others"
    return found("eval_in_train", detail, "/data/eval", rows=numbers, counts={"rows": len(numbers), "of": seen})


def _keys(rows: Rows, budget: Budget) -> Iterator[int]:
    """A number for each row, equal where its texts are; ends where the time does."""
    pairs: Sequence[str | None] = rows.pairs or [None] * len(rows)
    for number, (text, pair) in enumerate(zip(rows.texts, pairs, strict=True)):
        if number % CHECK_EVERY == 0 and budget.over():
            return
        key: Hashable = _plain(text) if pair is None else (_plain(text), _plain(pair))
        yield hash(key)


def _plain(text: Any) -> str:
    whole = text if isinstance(text, str) else " ".join(text)
    return " ".join(whole.casefold().split())
