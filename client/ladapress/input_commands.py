"""`ladapress models ...` and `ladapress datasets ...`: the same commands over either."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import typer
from rich.table import Table

from ladapress.client import Client
from ladapress.display import megabytes, minute
from ladapress.inputs import Datasets, Models
from ladapress.listed import group, show, show_deleted, show_list
from ladapress.modes import Sync
from ladapress.options import After, AsJson, Before, Count, CreatedAfter, CreatedBefore, InputId, moment
from ladapress.types import Dataset, Model


def commands(kind: str, of: Callable[[Client], Models[Sync] | Datasets[Sync]]) -> typer.Typer:
    """The group of one kind of input."""
    app = group(kind, f"List, show and delete uploaded {kind}; alone it lists them.")

    @app.command("list", help=f"List {kind}, newest first.")
    def _list(
        created_after: CreatedAfter = None,
        created_before: CreatedBefore = None,
        limit: Count = 20,
        after: After = None,
        before: Before = None,
        as_json: AsJson = False,
    ) -> None:
        with Client() as client:
            show_list(
                of(client).list, table, limit=limit, as_json=as_json, after=after, before=before,
                created_after=moment(created_after), created_before=moment(created_before),
            )  # fmt: skip

    @app.command("show", no_args_is_help=True, help="Every field of one.")
    def _show(input_id: InputId, as_json: AsJson = False) -> None:
        with Client() as client:
            show(of(client).get(input_id), as_json=as_json)

    @app.command("delete", no_args_is_help=True, help="Delete one; refused while a job needs it.")
    def _delete(input_id: InputId, as_json: AsJson = False) -> None:
        with Client() as client:
            of(client).delete(input_id)
        show_deleted(input_id, as_json=as_json)

    return app


def table(rows: Sequence[Model | Dataset]) -> Table:
    """One row per input, newest first."""
    made = Table("id", "name", "what", "size", "created (UTC)", box=None, pad_edge=False)
    for row in rows:
        what = row.status if isinstance(row, Model) else row.format
        made.add_row(row.id, row.name or "", what, megabytes(row.size_bytes), minute(row.created_at))
    return made


models = commands("models", lambda client: client.models)
datasets = commands("datasets", lambda client: client.datasets)
