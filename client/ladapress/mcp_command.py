"""`ladapress mcp`: starts the MCP server. The `mcp` package is imported only here, when the command runs."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Annotated

import typer

from ladapress.client import Client
from ladapress.compress import usage


def mcp(
    http: Annotated[
        int | None,
        typer.Option(metavar="PORT", min=1, max=65535, help="Serve http://127.0.0.1:PORT/mcp instead of stdin/stdout."),
    ] = None,
) -> None:
    """Offer the service to a language model as tools (Model Context Protocol), on standard input and output."""
    if find_spec("mcp") is None:
        raise usage("`ladapress mcp` needs the package mcp: pip install 'ladapress[mcp]'")
    from ladapress.mcp_server import serve  # noqa: PLC0415 - an extra

    with Client() as client:
        if http is None:
            serve(client).run("stdio")
        else:
            serve(client).run("streamable-http", host="127.0.0.1", port=http)
