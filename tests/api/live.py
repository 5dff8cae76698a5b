"""A real server in a thread, for what only shows on a socket: streams, cut connections, ranges."""

from __future__ import annotations

import itertools
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx2
import uvicorn

from api.app import create_app
from jobs.settings import Settings
from tests.jobs.world import World


@dataclass
class Live:
    """Where it listens, the world behind it, and the server itself."""

    url: str
    world: World
    server: uvicorn.Server

    def client(self) -> httpx2.Client:
        return httpx2.Client(base_url=self.url, timeout=20)

    def raw(self, data: bytes, *, until_closed: bool = True) -> bytes:
        """Send bytes as they are and return what comes back."""
        host, port = self.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=20) as connection:
            connection.sendall(data)
            received = b""
            while until_closed and (part := connection.recv(65_536)):
                received += part
        return received


@contextmanager
def serve(settings: Settings) -> Iterator[Live]:
    """Run the app until the context ends."""
    app = create_app(settings)
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning", timeout_graceful_shutdown=5)
    server = uvicorn.Server(config)
    context = app.state.context
    thread = threading.Thread(target=server.run, name="live api")
    thread.start()
    try:
        deadline = time.monotonic() + 60
        while not server.started and thread.is_alive() and time.monotonic() < deadline:
            time.sleep(0.02)
        assert server.started, "the server did not start"
        port = server.servers[0].sockets[0].getsockname()[1]
        yield Live(f"http://127.0.0.1:{port}", World(context.database, settings, itertools.count(1)), server)
    finally:
        context.closing = True
        server.should_exit = True
        thread.join(30)
