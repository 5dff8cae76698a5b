"""What a shell may offer: the script that asks this command, and the names that only the service knows.

A completion must not make anybody wait: the service gets a second, once; where it does not answer,
nothing is offered.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, get_args

import typer
from pydantic import BaseModel
from typer.completion import get_completion_script  # type: ignore[attr-defined]  # it has no other public home

from ladapress.client import Client
from ladapress.errors import LadapressError
from ladapress.types import Dataset, Model

ANSWER_S = 1.0
ROWS = 50
SHELLS = ("bash", "zsh", "fish")
VARIABLE = "_LADAPRESS_COMPLETE"
Offers = list[tuple[str, str]]
"""A word and what it is."""


def completion(
    shell: Annotated[str, typer.Argument(metavar="SHELL", help="bash, zsh or fish.", autocompletion=lambda: [*SHELLS])],
) -> None:
    """Print the script that completes this command; in .bashrc: source <(ladapress completion bash)."""
    if shell not in SHELLS:
        raise LadapressError.local("usage", f"{shell}: must be one of {', '.join(SHELLS)}")
    print(get_completion_script(prog_name="ladapress", complete_var=VARIABLE, shell=shell))


def words() -> list[str]:
    """The command line that a shell asks about, without its first word; empty where none asks."""
    if VARIABLE not in os.environ:
        return []
    return (os.environ.get("COMP_WORDS") or os.environ.get("_TYPER_COMPLETE_ARGS") or "ladapress --").split()[1:]


def names(model: type[BaseModel], field: str) -> Callable[[], list[str]]:
    """The words that the interface allows in a field."""
    return lambda: [word for word in get_args(model.model_fields[field].annotation) if isinstance(word, str)]


def jobs(incomplete: str) -> Offers:
    """The latest jobs."""
    return _offers(incomplete, lambda client: [(one.id, one.status) for one in client.jobs.list(limit=ROWS).data])


def inputs(ctx: typer.Context, incomplete: str) -> Offers:
    """The latest models or datasets: whichever the group of the command is about."""
    return _offers(incomplete, lambda client: [(one.id, one.name or "") for one in _inputs(client, ctx)])


def presets(incomplete: str) -> Offers:
    """The service's presets."""
    return _offers(incomplete, lambda client: [(preset.name, "") for preset in client.presets().data])


def _inputs(client: Client, ctx: typer.Context) -> Sequence[Model | Dataset]:
    models = ctx.parent is not None and ctx.parent.info_name == "models"
    return client.models.list(limit=ROWS).data if models else client.datasets.list(limit=ROWS).data


def _offers(incomplete: str, ask: Callable[[Client], Iterable[tuple[str, str]]]) -> Offers:
    try:
        with Client(patience_s=0, timeout_s=ANSWER_S) as client:
            return [(word, what) for word, what in ask(client) if word.startswith(incomplete)]
    except LadapressError:
        return []
