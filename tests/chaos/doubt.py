"""A PostgreSQL whose COMMITs are sometimes not answered: some were carried out, some never arrived (D7).

Whoever commits learns in neither case what came of it: the connection is cut. It reads the protocol's simple query
message (`Q`, length, text, NUL), in which psycopg sends COMMIT.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from sqlalchemy import make_url

COMMIT = b"Q\x00\x00\x00\x0bCOMMIT\x00"
READY = b"Z\x00\x00\x00\x05"  # ReadyForQuery: the answer is whole
PIECE = 65_536


class Doubt:
    """A proxy before a server. `cut`: COMMITs that were not answered, by whether they were carried out.

    `share` of them, 0 at first: a service that gets no answer while it starts ends, and its supervisor starts it again.
    """

    def __init__(self, url: str, seed: int) -> None:
        self._server = make_url(url)
        self._rng = random.Random(seed)
        self.share = 0.0
        self.cut: Counter[str] = Counter()
        self.url = url

    async def start(self) -> asyncio.Server:
        """Listen on a port of its own."""
        server = await asyncio.start_server(self._between, "127.0.0.1", 0)
        here = self._server.set(host="127.0.0.1", port=server.sockets[0].getsockname()[1])
        self.url = here.render_as_string(hide_password=False)
        return server

    async def _between(self, client: asyncio.StreamReader, answer: asyncio.StreamWriter) -> None:
        try:
            server, ask = await asyncio.open_connection(self._server.host, self._server.port)
        except OSError:
            answer.close()
            return
        back = asyncio.create_task(_pass(server, answer))
        try:
            while data := await client.read(PIECE):
                if data.endswith(COMMIT) and self._rng.random() < self.share:
                    back.cancel()
                    await asyncio.wait([back])
                    if self._rng.random() < 0.5:
                        self.cut["not carried out"] += 1
                        return
                    ask.write(data)
                    await ask.drain()
                    await server.readuntil(READY)
                    self.cut["carried out"] += 1
                    return
                ask.write(data)
                await ask.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            back.cancel()
            answer.close()
            ask.close()


async def _pass(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await source.read(PIECE):
            target.write(data)
            await target.drain()
    target.close()


@contextmanager
def doubt(url: str, seed: int) -> Iterator[Doubt]:
    """The proxy in a thread of its own, until the context ends."""
    made, loop = Doubt(url, seed), asyncio.new_event_loop()
    server = loop.run_until_complete(made.start())
    thread = threading.Thread(target=loop.run_forever, name="doubt")
    thread.start()
    try:
        yield made
    finally:
        server.close()
        loop.call_soon_threadsafe(loop.stop)
        thread.join(30)
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
