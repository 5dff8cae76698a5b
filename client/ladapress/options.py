"""Arguments and options that several commands of `ladapress` take."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, get_args

import typer

from ladapress.compress import usage
from ladapress.types import JobRequest, Ladder, Target

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
    str | None, typer.Option(metavar="T", help="What the model is for. [default: as its config.json says]")
]
MetricName = Annotated[
    str | None, typer.Option(metavar="M", help="What retention is measured in. [default: the task's first]")
]
PresetName = Annotated[str | None, typer.Option(metavar="P", help="A recipe by name; this or --recipe.")]
RecipeFile = Annotated[Path | None, typer.Option(metavar="FILE", help="A recipe file, TOML or JSON.")]
Targets = Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help=TARGET_HELP)]
Rungs = Annotated[str | None, typer.Option(metavar="NAME=V,V,...", help=LADDER_HELP)]
Outputs = Annotated[list[str] | None, typer.Option(metavar="FORMAT", callback=formats, help=OUTPUT_HELP)]
Seed = Annotated[int | None, typer.Option(metavar="N", min=0, max=2**31 - 1)]
Device = Annotated[str | None, typer.Option(metavar="D", help="cpu, cuda or auto.")]
