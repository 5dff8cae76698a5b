"""What an inspection may find: one table of codes, from which docs/preflight.md is made. Pydantic and the standard
library only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from core.errors import CompressionError

Severity = Literal["error", "warning", "info"]
FIRST = 5  # row numbers that a finding names


class Kind(NamedTuple):
    """What a code stands for, and what to do about it."""

    severity: Severity
    what: str
    do: str


FINDINGS: dict[str, Kind] = {
    "model_unsafe": Kind("error", "A file or key of the model could run code or reach outside its folder.",
                         "Send weights as safetensors, and a config without code, kernels or remote names."),
    "model_unsupported": Kind("error", "The architecture, its head or the task is not one of docs/tasks.md.",
                              "Fine-tune one of the families named; or name the task that the model has."),
    "model_invalid": Kind("error", "The files do not form one loadable model.",
                          "Save it again with `save_pretrained`, and send every file that this writes."),
    "weights_mismatch": Kind("error", "The weights lack, exceed or contradict what config.json promises.",
                             "Send config.json and weights of the same `save_pretrained`."),
    "weights_not_finite": Kind("error", "Weights hold NaN or infinity.",
                               "Take a checkpoint from before the training diverged."),
    "tokenizer_missing": Kind("error", "tokenizer.json is missing: only fast tokenizers are read.",
                              "Save with `AutoTokenizer.from_pretrained(...).save_pretrained(...)`."),
    "tokenizer_invalid": Kind("error", "tokenizer.json does not load.", "Save it again with a current `tokenizers`."),
    "tokenizer_too_large": Kind("error", "The tokenizer gives ids for which the word embedding has no row.",
                                "Call `resize_token_embeddings` before saving, or send the tokenizer of the training."),
    "data_invalid": Kind("error", "The labelled text cannot be used.", "The message says why."),
    "file_unreadable": Kind("error", "A line or the whole file is not of its format.",
                            "Write strict UTF-8 CSV, JSON Lines or Parquet; the line is named."),
    "file_empty": Kind("error", "The file has no rows.", "Send at least one row; of `train` two."),
    "rows_too_few": Kind("error", "One training row cannot both teach and decide.",
                         "Send more rows, or rows that decide as `data.select`."),
    "column_missing": Kind("error", "A file lacks the column of texts or labels.",
                           "Name it in `data.columns`; the nearest name is suggested."),
    "columns_differ": Kind("error", "One file has pairs of texts, another single texts.",
                           "Give every file the same columns."),
    "text_unusable": Kind("error", "A text is empty, no text, or holds U+0000.", "Leave the row out or repair it."),
    "label_unknown": Kind("error", "A label is not in the model's id2label.",
                          "Write the ids or the very names of id2label; the nearest is suggested."),
    "label_unusable": Kind("error", "A label is not of the form that its task has.", "See docs/tasks.md."),
    "one_class": Kind("error", "Every training row has the same label.", "Send rows of two classes or more."),
    "metric_unfit": Kind("error", "The metric is none of the task, or not of so many classes.",
                         "Take one of docs/tasks.md."),
    "labels_permuted": Kind("error", "The teacher's answers fit the labels, but in another order.",
                            "Write labels as names, or in the order of id2label; the message has the order."),
    "limit_reached": Kind("error", "Reading the files took more time or memory than an inspection has.",
                          "Send fewer or shorter rows, or have the operator raise `LADAPRESS_INSPECT_*`."),
    "not_inspected": Kind("error", "The inspection itself was lost.", "Ask again."),
    "class_missing": Kind("warning", "A class of the model has no row in this file.",
                          "Its answers are not trained or measured: add rows, or accept that."),
    "classes_imbalanced": Kind("warning", "The commonest class has a hundred times the rows of the rarest.",
                               "Use the metric `macro_f1` or `mcc`, or add rows of the rare class."),
    "scores_constant": Kind("warning", "All scores of a file are the same: no rank correlation is defined.",
                            "Send rows with different scores."),
    "labels_contradict": Kind("warning", "The same text stands in `train` with different labels.",
                              "Decide which label is right."),
    "label_map_suspicious": Kind("warning", "id2label and label2id disagree, or a class is called by another's number.",
                                 "Check the order of classes; write labels as names."),
    "rows_few": Kind("warning", "Few rows: what is decided or measured on them is uncertain.",
                     "Send more; text without labels can go into `data.unlabelled`."),
    "eval_in_train": Kind("warning", "Rows of `eval` stand in another file too.",
                          "Take them out of one of the two: the result looks better than it is."),
    "text_truncated": Kind("warning", "One text in a hundred or more is longer than the model reads.",
                           "Nothing, where the teacher was trained so; else split long texts."),
    "tokens_unknown": Kind("warning", "Many tokens of the text are unknown to the tokenizer.",
                           "Check that tokenizer and text are of the same language and casing."),
    "tokenizer_small": Kind("warning", "The word embedding has many rows that no token uses.",
                            "Check that the tokenizer is the model's own; if it is, nothing."),
    "tokenizer_unusual": Kind("warning", "The tokenizer is of a kind that this family does not come with.",
                              "Check that it is the one that the model was trained with."),
    "special_tokens_missing": Kind("warning", "The tokenizer puts no token before and after a text.",
                                   "Save the tokenizer with its post-processor."),
    "pad_token_differs": Kind("warning", "The padding token of tokenizer and config.json is not the same.",
                              "Set `pad_token_id` of config.json to the tokenizer's."),
    "teacher_weak": Kind("warning", "On a sample the teacher is right less often than the commonest label.",
                         "Check that model, tokenizer and labels belong together."),
    "memory_short": Kind("warning", "By a rough formula a job needs more memory than the inspecting machine has.",
                         "Ask for a smaller `batch_size` or `max_length`, or for a larger worker."),
    "not_looked_at": Kind("info", "The time of an inspection was over before this was looked at.",
                          "Nothing; the job itself checks what it needs."),
    "teacher_not_sampled": Kind("info", "The teacher was not run on rows of the data.",
                                "Ask with POST /v1/inspections; a job does it before it trains."),
    "teacher_sampled": Kind("info", "How often the teacher was right on a sample of `train`.", "Nothing."),
}  # fmt: skip


class Finding(BaseModel):
    """One thing that was found. What a code means is in docs/preflight.md."""

    model_config = ConfigDict(frozen=True)

    code: str = Field(max_length=80)
    severity: Severity
    detail: str = Field(max_length=4_000, description="What was found, with its figures and what would be right.")
    param: str | None = Field(None, max_length=400, description="JSON pointer of the field that it is about.")
    rows: tuple[int, ...] = Field((), max_length=FIRST, description="Numbers of the first rows or lines, from 1.")
    counts: dict[str, float] = Field({}, max_length=40, description="Figures by name.")


class Lengths(BaseModel):
    """Tokens of a sample of texts, special ones included, before any is cut. `max_tokens`: what the model reads."""

    model_config = ConfigDict(frozen=True)

    sampled: int
    mean: float
    p50: int
    p90: int
    p99: int
    longest: int
    max_tokens: int
    cut: int


def found(
    code: str,
    detail: str,
    param: str | None = None,
    *,
    rows: Sequence[int] = (),
    counts: Mapping[str, float] | None = None,
) -> Finding:
    """A finding of a known code. Raises KeyError on another."""
    severity = FINDINGS[code].severity
    return Finding(code=code, severity=severity, detail=detail[:4_000], param=param, rows=tuple(rows[:FIRST]),
                   counts=dict(counts or {}))  # fmt: skip


def of_error(error: CompressionError | Mapping[str, Any]) -> list[Finding]:
    """The findings that make an error; the error itself where it names none."""
    raw = error.as_dict() if isinstance(error, CompressionError) else error
    named = [one for one in raw.get("errors") or () if one.get("code") in FINDINGS]
    if named:
        return [found(one["code"], str(one["detail"]), one.get("param"), rows=one.get("rows") or (),
                      counts=one.get("counts")) for one in named]  # fmt: skip
    code = raw.get("code") if raw.get("code") in FINDINGS else "not_inspected"
    return [found(str(code), str(raw.get("detail", "")), raw.get("param"))]


def page() -> str:
    """docs/preflight.md: `python -m core.findings > docs/preflight.md`."""
    order = ("error", "warning", "info")
    lines = [_HEAD, "| code | severity | what it means | what to do |", "| --- | --- | --- | --- |"]
    for code, kind in sorted(FINDINGS.items(), key=lambda item: order.index(item[1].severity)):
        lines.append(f"| `{code}` | {kind.severity} | {kind.what} | {kind.do} |")
    return "\n".join(lines) + "\n"


_HEAD = """# Preflight: what an inspection finds

<!-- generated: python -m core.findings > docs/preflight.md -->

`POST /v1/inspections` judges a model with its data in a walled-off process, and so does every `POST /v1/jobs` whose
inputs were not judged before. `findings` of an inspection are `{code, severity, detail, param, rows, counts}`: `param`
is a JSON pointer into the request, `rows` are numbers of the first rows (of a file that cannot be read, lines), counted
from 1 without the header. An `error` refuses the inputs: `ok` is false, and the job is a 422 whose `errors` are these
findings. A `warning` refuses nothing; a job that is submitted has it as a `warning` event. `warnings` repeats
their sentences. `classes` counts labels, `lengths` has percentiles of tokens of a sample of texts, `estimate`
is what a job would take by a formula, before anything has been measured.

All rows are read. What costs more than reading has a time of its own (`core.looks.budget`): texts are tokenised
from a seeded sample, weights are read for NaN; where the time ends, `not_looked_at` says what was left out.

An inspection that was asked for by `POST /v1/inspections` goes on after its verdict: it runs the teacher on a sample
of training rows, for as long as nobody else waits to be inspected, and adds `teacher_sampled`, `teacher_weak` or
`labels_permuted` to its findings. The last one takes the verdict back. Every job makes the same check in its stage
`profile`.
"""


if __name__ == "__main__":
    print(page(), end="")
