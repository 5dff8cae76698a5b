"""`ladapress projects`: the tenants of this service, for its operator. Talks to the database, not to the API."""

from __future__ import annotations

from typing import Annotated

import typer

from jobs.cli.database import DataDir, opened, say, transaction

app = typer.Typer(
    help="Make, list, limit and delete projects.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
ProjectName = Annotated[str, typer.Argument(metavar="PROJECT", help="Its name or id.")]


@app.command()
def create(name: str, data_dir: DataDir = None) -> None:
    """Make a project and print its id; `ladapress keys create NAME --project ID` lets somebody in."""
    from jobs.projects import create_project

    with transaction(data_dir, "projects") as s:
        project = create_project(s, name)
    print(project.id)


@app.command("list")
def list_projects(data_dir: DataDir = None) -> None:
    """Every project, oldest first, with what it has."""
    from jobs.projects import projects
    from jobs.quotas import used

    with transaction(data_dir, "projects") as s:
        rows = [(row, used(s, row.id)) for row in projects(s)]
    for row, have in rows:
        print(f"{row.id}  {row.name}  {'  '.join(f'{name}={value}' for name, value in have.items())}")


@app.command()
def quota(
    project: ProjectName,
    values: Annotated[
        list[str] | None, typer.Argument(metavar="NAME=VALUE", help="A number, `none` (no limit) or `default`.")
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Set quotas of one project, then show them all: what it has, of what it may have."""
    from jobs.projects import find_project, set_quotas
    from jobs.quotas import limits, used

    asked = dict(_parsed(value) for value in values or ())
    settings, db = opened(data_dir, "projects")
    db.dispose()
    with transaction(data_dir, "projects") as s:
        row = find_project(s, project)
        if asked:
            set_quotas(s, row.id, asked)
        allowed, have = limits(s, row.id, settings.quotas), used(s, row.id)
    for name, limit in allowed.items():
        print(f"{name}  {have[name]} of {'any' if limit is None else limit}")


@app.command()
def delete(
    project: ProjectName,
    everything: Annotated[bool, typer.Option("--everything", help="Also where it holds something.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Delete a project with its keys, models, jobs and artifacts. Its audit log stays."""
    from jobs.projects import contents, delete_project, find_project

    with transaction(data_dir, "projects") as s:
        row = find_project(s, project)
        if (inside := contents(s, row.id)) and not everything:
            listed = ", ".join(f"{count} x {table}" for table, count in inside.items())
            say("projects", f"{row.name} holds {listed}; --everything deletes it all")
            raise typer.Exit(1)
        delete_project(s, row.id)
    print(f"{row.id} is deleted; its bytes are gone within a day")


def _parsed(given: str) -> tuple[str, int | str | None]:
    name, _, value = given.partition("=")
    if value == "none":
        return name, None
    if value == "default" or (value.isascii() and value.isdigit() and len(value) < 19):
        return name, value if value == "default" else int(value)
    say("projects", f"{given!r}: legal is NAME=VALUE, and for VALUE a number, none or default")
    raise typer.Exit(2)
