"""PostgreSQL dies ten times and stays away once, under two hundred requests a second (D6).

Whoever asks gets what he asked for, or 503 as a problem with Retry-After; never a 500, and never a dead line.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import select

from jobs.tables import Job
from tests.chaos.servers import Server
from tests.chaos.storm import Poster, Storm, api, place
from tests.worker.scene import Scene

RATE, SUBMIT_EVERY = 200, 10
KILLS, EVERY_S, AWAY_S, LONG_S = 10, 6.0, 1.0, 60.0
RECOVERED_S = 5.0


@dataclass
class Rush:
    """Requests at a steady rate, whether or not the ones before were answered."""

    port: int
    job: str
    body: dict[str, Any]
    answers: Counter[str] = field(default_factory=Counter)
    made: set[str] = field(default_factory=set)
    refused_at: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    async def run(self, stop: threading.Event) -> None:
        begun = time.perf_counter()
        number = 0
        async with asyncio.TaskGroup() as tasks:
            while not stop.is_set():
                await asyncio.sleep(max(0.0, begun + number / RATE - time.perf_counter()))
                tasks.create_task(self._one(number))
                number += 1

    async def _one(self, number: int) -> None:
        if number % SUBMIT_EVERY == 0:
            body = json.dumps({**self.body, "seed": number}).encode()
            head = f"POST /v1/jobs HTTP/1.1\r\nContent-Type: application/json\r\nIdempotency-Key: rush-{number}\r\n"
        else:
            body = b""
            head = f"GET /v1/jobs/{self.job}{'/events' if number % 2 else ''} HTTP/1.1\r\n"
        head += f"Host: localhost:{self.port}\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            writer.write(head.encode() + body)
            answer = await asyncio.wait_for(reader.read(), 60)
            writer.close()
        except (OSError, TimeoutError) as error:
            self.wrong.append(type(error).__name__)
            return
        first, _, rest = answer.partition(b"\r\n\r\n")
        status = first.split(b" ", 2)[1].decode() if first else "nothing"
        self.answers[status] += 1
        if status == "503":
            told = first.lower()
            self.refused_at.append(time.time())
            if b"application/problem+json" not in told or b"\nretry-after: " not in told:
                self.wrong.append(first.decode())
        elif status == "201":
            self.made.add(json.loads(rest)["id"])
        elif status != "200":
            self.wrong.append(f"{status}: {rest[:300]!r}")


def back_at(server: Server) -> float:
    """When it answers again."""
    while True:
        try:
            with psycopg.connect(server.url.replace("+psycopg", ""), connect_timeout=2) as connection:
                connection.execute("SELECT 1")
                return time.time()
        except psycopg.OperationalError:
            time.sleep(0.05)


@pytest.mark.chaos
@pytest.mark.timeout(1200)
def test_two_hundred_requests_a_second_get_what_they_want_or_503(tmp_path: Path) -> None:
    """Five seconds after the database is back nobody is refused, and every 201 is there."""
    with place("postgresql", tmp_path, away_s=AWAY_S) as (given, servers):
        settings = given.model_copy(update={"api_processes": 2})
        with api(settings.environment()):
            scene = Scene(settings)
            post = Poster(f"http://127.0.0.1:{settings.port}", Storm(scene))
            post.wait()
            body = post.inputs([{"steps": 1}])[0]
            job = scene.submit(judged=True, steps=1)
            rush, stop = Rush(settings.port, job, body), threading.Event()
            thread = threading.Thread(target=lambda: asyncio.run(rush.run(stop)))
            thread.start()
            recovered = []
            try:
                for away_s in [AWAY_S] * KILLS + [LONG_S]:
                    time.sleep(EVERY_S)
                    servers["postgresql"].kill(away_s=away_s)
                    time.sleep(away_s / 2)
                    back = back_at(servers["postgresql"])
                    time.sleep(RECOVERED_S + 1)
                    recovered.append(max([at - back for at in rush.refused_at if at > back], default=0.0))
            finally:
                stop.set()
                thread.join()
        with scene.db.readers() as s:
            rows = set(s.scalars(select(Job.id)))
        scene.db.dispose()
    print(dict(rush.answers), "recovered within", [round(one, 2) for one in recovered], "s", os.cpu_count(), "cores")
    assert not rush.wrong, Counter(rush.wrong)
    assert rush.answers["503"] > 0
    assert max(recovered) <= RECOVERED_S
    assert rush.made <= rows
