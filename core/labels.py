"""What stands in a cell of a data file: texts and labels as each task has them. Standard library only.

A CSV cell holds a string, so lists may be written as JSON, and words and their tags with spaces between them.
"""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from core.task import Task


class UnknownLabel(ValueError):
    """A class that the model does not have."""


UNLABELLED = -1
MAX_WORDS = 100_000  # of one row


def text_of(task: Task, value: Any) -> Any:
    """A text, or the list of its words. Raises ValueError with what is wrong."""
    if task.name != "token_classification":
        if not isinstance(value, str) or not value.strip():
            raise ValueError("text is empty or not text")
        if "\x00" in value:
            raise ValueError("text holds U+0000")
        return value
    words = _listed(value, split=True)
    if not words or len(words) > MAX_WORDS or not all(isinstance(word, str) and word.strip() for word in words):
        raise ValueError("legal: a list of words, or words with spaces between them")
    whole = "".join(words)
    whole.encode("utf-8")  # a lone surrogate, which JSON in a CSV cell can write, fails here
    if "\x00" in whole:
        raise ValueError("a word holds U+0000")
    return words


def label_of(task: Task, value: Any, labels: Mapping[int, str], names: Mapping[str, int], row: tuple[Any, Any]) -> Any:
    """What is right of a row (text, pair). Raises ValueError with what is wrong.

    Returns:
        A class number; the numbers of all labels that hold, rising; a number; the class number of each word; the
        answers, a text with its first character in the context each, none where there is no answer.
    """
    if task.name == "classification":
        return _class(value, labels, names)
    if task.name == "multi_label":
        return _all_of(value, labels, names)
    if task.name == "token_classification":
        tags = tuple(_class(tag, labels, names) for tag in _listed(value, split=True))
        if len(tags) != len(row[0]):
            raise ValueError(f"{len(tags)} labels for {len(row[0])} words: one each is needed")
        return tags
    if task.name == "question_answering":
        return _answers(value, row[1])
    return _number(value)


def _class(value: Any, labels: Mapping[int, str], names: Mapping[str, int]) -> int:
    if isinstance(value, str):
        if value in names:
            return names[value]
        digits = value.strip().removeprefix("-")
        value = int(value) if digits.isascii() and digits.isdigit() and len(value) < 19 else value
    if isinstance(value, int) and not isinstance(value, bool) and value in labels:
        return value
    legal = ", ".join(f"{i}={name}" for i, name in sorted(labels.items())[:10])
    likest = _likest(str(value), names)
    raise UnknownLabel(
        f"label {str(value)[:40]!r} is not in the model's id2label ({legal})"
        + (f"; meant {likest!r}?" if likest else "")
    )


def _likest(value: str, names: Mapping[str, int]) -> str | None:
    """The name that is the same but for case and space, else one that is much like it, among a hundred."""
    plain = value.strip().casefold()
    same = next((name for name in names if name.strip().casefold() == plain), None)
    return same or next(iter(difflib.get_close_matches(value[:100], list(names)[:100], n=1, cutoff=0.7)), None)


def _all_of(value: Any, labels: Mapping[int, str], names: Mapping[str, int]) -> tuple[int, ...]:
    """Names or numbers of the labels that hold; or 0.0 and 1.0 for every label."""
    given = _listed(value, split=False)
    if len(given) == len(labels) and all(isinstance(one, float | bool) and one in (0, 1) for one in given):
        return tuple(number for number, one in enumerate(given) if one)
    found = sorted({_class(one, labels, names) for one in given})
    if len(found) != len(given):
        raise ValueError(f"{str(given)[:40]!r} names a label twice; 0 or 1 for every label are written 0.0 and 1.0")
    return tuple(found)


def _number(value: Any) -> float:
    try:
        found = float(value) if not isinstance(value, bool) else math.nan
    except (OverflowError, TypeError, ValueError):
        found = math.nan
    if not math.isfinite(found):
        raise ValueError(f"label {str(value)[:40]!r} is no finite number")
    return found


def _answers(value: Any, context: str) -> tuple[tuple[str, int], ...]:
    """SQuAD's form: {"text": [...], "answer_start": [...]}, both empty where there is no answer."""
    try:
        given = json.loads(value) if isinstance(value, str) else value
        texts, starts = given["text"], given["answer_start"]
        found = tuple(zip(texts, starts, strict=True))
        fits = all(isinstance(text, str) and type(start) is int and start >= 0 for text, start in found)
    except (KeyError, RecursionError, TypeError, ValueError):
        fits, found = False, ()
    if not fits:
        raise ValueError(f'answers {str(value)[:60]!r}; legal: {{"text": [...], "answer_start": [...]}}')
    for text, start in found:
        if not text or context[start : start + len(text)] != text:
            there = context[start : start + len(text)]
            raise ValueError(
                f"answer {text[:40]!r} does not stand at character {start} of its context, {there[:40]!r} does"
            )
    return found


def _listed(value: Any, *, split: bool) -> Sequence[Any]:
    """A list, also one written as JSON or, where `split`, with spaces between."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except (RecursionError, ValueError):
            raise ValueError(f"{value[:40]!r} is no JSON list") from None
    elif isinstance(value, str) and split:
        value = value.split()
    if not isinstance(value, list | tuple):
        raise ValueError(  # noqa: TRY004 - of what a user sent
            f"{str(value)[:40]!r} is no list{'' if split else '; legal: names or numbers of the labels'}"
        )
    return list(value)
