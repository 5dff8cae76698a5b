"""Commands of other distributions, above all the server's, as part of the `ladapress` command."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import entry_points

import typer

from ladapress.compress import usage

PLUGINS = "ladapress.commands"
SERVER_COMMANDS = {
    "backup": "Copy the database and every stored file while the service runs (needs the server).",
    "doctor": "Look at settings, database, disk, keys, device and walls (needs the server).",
    "keys": "Make, list, rotate and revoke API keys of any project (needs the server).",
    "projects": "Make, list, limit and delete projects (needs the server).",
    "restore": "Bring a backup back into an empty service (needs the server).",
    "signing": "List and rotate the keys that sign artifacts (needs the server).",
    "up": "Start the service on this machine (needs the server).",
}


def add_plugins(root: typer.Typer, arguments: list[str]) -> None:
    """Add the commands of other distributions, imported only where one is called or help is asked for."""
    called = next((argument for argument in arguments if not argument.startswith("-")), None)
    found = {point.name: point for point in entry_points(group=PLUGINS)}
    for name, point in found.items():
        if called not in (None, name):
            root.command(name, help=SERVER_COMMANDS.get(name))(_never)  # for completion, which only needs its name
        else:
            loaded = point.load()
            if isinstance(loaded, typer.Typer):
                root.add_typer(loaded, name=name)
            else:
                root.command(name)(loaded)
    for name, text in SERVER_COMMANDS.items():
        if name not in found:
            settings = {"ignore_unknown_options": True, "allow_extra_args": True}
            root.command(name, help=text, context_settings=settings)(_server_missing(name))


def _never() -> None:
    """Stand for a command that was not called."""


def _server_missing(name: str) -> Callable[[], None]:
    def missing() -> None:
        raise usage(
            f"`ladapress {name}` needs the server, which is not installed here: install the distribution "
            "ladapress-server from a clone of the project (`pip install '.[worker]'` in its root, or `make up`)"
        )

    return missing
