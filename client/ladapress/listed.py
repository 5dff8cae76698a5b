"""Groups of commands over the service's objects (`ladapress jobs list`), and how their results are printed."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import typer
from pydantic import BaseModel
from rich.console import Console
from rich.table import Table
from typer.core import TyperGroup

from ladapress.modes import Sync
from ladapress.pages import Page

LONGEST_PAGE = 100  # rows


class Listed(TyperGroup):
    """A group whose first command is meant where none is named: `ladapress jobs` lists jobs."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Name it, but for a shell that asks which commands there are."""
        if not ctx.resilient_parsing and (not args or (args[0].startswith("-") and args[0] != "--help")):
            args = ["list", *args]
        return super().parse_args(ctx, args)


def group(name: str, text: str) -> typer.Typer:
    """An empty group of commands."""
    return typer.Typer(name=name, help=text, cls=Listed, rich_markup_mode=None)


def show_list(
    ask: Callable[..., Page[Sync, Any]], table: Callable[[list[Any]], Table], *, limit: int, as_json: bool, **query: Any
) -> None:
    """So many rows, over as many pages as they take."""
    page: Page[Sync, Any] | None = ask(limit=min(limit, LONGEST_PAGE), **query)
    rows: list[Any] = []
    told: list[Any] = []
    more = False
    while page is not None and len(rows) < limit:
        rows, told = rows + page.data, told + page.answer["data"]
        more = page.has_more
        page = page.next() if len(rows) < limit else None
    if as_json:
        said = {"object": "list", "data": told[:limit], "has_more": more or len(told) > limit}
        print(json.dumps(said))
    else:
        Console(soft_wrap=True).print(table(rows[:limit]))


def show(one: BaseModel, *, as_json: bool) -> None:
    """One object: a line for each field that says something, or JSON."""
    if as_json:
        print(one.model_dump_json())
        return
    table = Table(box=None, pad_edge=False, show_header=False)
    for name, value in one.model_dump(mode="json").items():
        if value not in (None, [], {}):
            table.add_row(name, value if isinstance(value, str) else json.dumps(value))
    Console(soft_wrap=True, markup=False, highlight=False).print(table)


def show_deleted(object_id: str, *, as_json: bool) -> None:
    """That it is gone."""
    print(json.dumps({"id": object_id, "deleted": True}) if as_json else object_id)
