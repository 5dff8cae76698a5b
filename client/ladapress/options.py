"""Arguments and options that several commands of `ladapress` take."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, get_args

import typer

from ladapress.completion import inputs, jobs, names, presets
from ladapress.compress import usage
from ladapress.types import Job, JobRequest, Ladder, Resources, Target

TARGET_HELP = f"May be repeated. NAME is one of {', '.join(Target.model_fields)}."
LADDER_HELP = f"Several points in one job, towards smaller or faster. NAME is one of {', '.join(Ladder.model_fields)}."
OUTPUTS = get_args(*get_args(JobRequest.model_fields["outputs"].annotation))  # of list[Literal[...]]
OUTPUT_HELP = f"Also in this format; may be repeated. One of {', '.join(OUTPUTS)}."


def named(**given: str | None) -> dict[str, str]:
    """Those that were given."""
    return {role: name for role, name in given.items() if name is not None}


def formats(given: Sequence[str] | None) -> list[str]:
    """`--output` options, each known to the interface's types and given once."""
    found = list(given or ())
    for name in found:
        if name not in OUTPUTS or found.count(name) > 1:
            raise usage(f"--output {name}: must be one of {', '.join(OUTPUTS)}, each once")
    return found


def pairs(option: str, given: Sequence[str] | None) -> dict[str, str] | None:
    """`KEY=VALUE` options, each key once."""
    found: dict[str, str] = {}
    for text in given or ():
        key, equals, value = text.partition("=")
        if not equals or not key or key in found:
            raise usage(f"{option} {text}: must be KEY=VALUE, each KEY once")
        found[key] = value
    return found or None


def pushed(given: str | None) -> dict[str, str] | None:
    """`--push REGISTRY=NAME` as the interface's object."""
    if given is None:
        return None
    registry, equals, to = given.partition("=")
    if not (registry and equals and to):
        raise usage(f"--push {given}: must be REGISTRY=NAME, as hub=acme/small-bert")
    return {"registry": registry, "to": to}


def moment(given: str | None) -> str | None:
    """A time of `--created-after`: ISO 8601; without a zone it is this machine's."""
    try:
        return None if given is None else datetime.fromisoformat(given).astimezone(UTC).isoformat()
    except ValueError:
        raise usage(f"{given}: must be a time as 2026-11-28 or 2026-11-28T10:00:00+01:00") from None


AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line of stdout.")]

ModelDir = Annotated[
    Path, typer.Argument(metavar="MODEL_DIR", help="Folder as save_pretrained writes it, weights as safetensors.")
]
Train = Annotated[Path, typer.Option(metavar="FILE", help="Training rows: .csv, .jsonl or .parquet.")]
Eval = Annotated[Path, typer.Option(metavar="FILE", help="Rows that measure the result.")]
Out = Annotated[Path, typer.Option(metavar="DIR", help="Folder for the result; made where it is missing.")]
Select = Annotated[Path | None, typer.Option(metavar="FILE", help="Rows for decisions that the teacher has not seen.")]
Unlabelled = Annotated[
    Path | None, typer.Option(metavar="FILE", help="More text like the training rows; the teacher labels it.")
]
TextColumn = Annotated[
    str | None, typer.Option("--text", metavar="COL", help="Text column. [default: text or sentence]")
]
PairColumn = Annotated[
    str | None, typer.Option("--text-pair", metavar="COL", help="Second text's column. [default: text_pair]")
]
LabelColumn = Annotated[str | None, typer.Option("--label", metavar="COL", help="Label column. [default: label]")]
TaskName = Annotated[
    str | None,
    typer.Option(
        metavar="T",
        autocompletion=names(JobRequest, "task"),
        help="What the model is for. [default: as its config.json says]",
    ),
]
MetricName = Annotated[
    str | None,
    typer.Option(
        metavar="M",
        autocompletion=names(JobRequest, "metric"),
        help="What retention is measured in. [default: the task's first]",
    ),
]
PresetName = Annotated[
    str | None, typer.Option(metavar="P", autocompletion=presets, help="A recipe by name; this or --recipe.")
]
RecipeFile = Annotated[Path | None, typer.Option(metavar="FILE", help="A recipe file, TOML or JSON.")]
Targets = Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help=TARGET_HELP)]
Rungs = Annotated[str | None, typer.Option(metavar="NAME=V,V,...", help=LADDER_HELP)]
Outputs = Annotated[list[str] | None, typer.Option(metavar="FORMAT", callback=formats, help=OUTPUT_HELP)]
Seed = Annotated[int | None, typer.Option(metavar="N", min=0, max=2**31 - 1)]
Device = Annotated[
    str | None, typer.Option(metavar="D", autocompletion=names(Resources, "device"), help="cpu, cuda or auto.")
]
Push = Annotated[
    str | None, typer.Option(metavar="REGISTRY=NAME", help="Send the artifact there too, as hub=acme/small-bert.")
]
Cache = Annotated[bool, typer.Option("--cache/--no-cache", help="May the service give what an equal job made before?")]
JobName = Annotated[str | None, typer.Option("--name", metavar="NAME", help="What the job is called in lists.")]
Metadata = Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="Kept with the job; may be repeated.")]
IdempotencyKey = Annotated[
    str | None, typer.Option(metavar="KEY", help="The same command with the same key gives the same job.")
]

JobId = Annotated[str, typer.Argument(metavar="JOB", autocompletion=jobs, help="job_...")]
InputId = Annotated[str, typer.Argument(metavar="ID", autocompletion=inputs)]
Count = Annotated[int, typer.Option("--limit", metavar="N", min=1, help="So many rows at most.")]
Status = Annotated[
    str | None, typer.Option(metavar="S", autocompletion=names(Job, "status"), help="Only jobs of this status.")
]
Named = Annotated[str | None, typer.Option("--name", metavar="NAME", help="Only those of this name.")]
WithMetadata = Annotated[
    list[str] | None, typer.Option("--metadata", metavar="KEY=VALUE", help="Only those that have it; may be repeated.")
]
Time = typer.Option(metavar="TIME", help="ISO 8601; of this machine's zone where it names none.")
CreatedAfter = Annotated[str | None, Time]
CreatedBefore = Annotated[str | None, Time]
After = Annotated[str | None, typer.Option(metavar="ID", help="Go on after this one, towards the older.")]
Before = Annotated[str | None, typer.Option(metavar="ID", help="Go on before this one, towards the newer.")]
