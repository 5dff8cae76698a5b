"""`python -m bench.http_load [--database URL]`: the API under load, by raw sockets. One JSON in `bench/results/http/`.

Submits: 20 a second, each with a stored verdict, so that an answer is one transaction. Readers: 200 event streams and
200 pollers (one request a second each) on 20 jobs whose events are written all the time, while the API is started again
half-way: one process is ended and started, several (`--processes`) are replaced one by one (SIGHUP).

Lag: from the commit of an event, by the database's clock, to its last byte at the reader; the service runs on this
machine, so that both clocks are one.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from bench import rows
from core.measure import hardware
from demo.ephemeral import free_port
from jobs import service
from jobs.db import connect, upgrade
from jobs.settings import Settings
from tests.jobs.world import World

SUBMITS_S, RATE = 60, 20
READERS, JOBS, READ_S, EVENTS_A_SECOND = 200, 20, 60, 2
GIVE_UP_S = 30


@dataclass
class Reader:
    """What one stream or poller has seen: sequence numbers in order, and seconds."""

    seen: list[int] = field(default_factory=list)
    lags: list[float] = field(default_factory=list)
    times: list[tuple[float, float]] = field(default_factory=list)  # (when, seconds)
    reconnects: int = 0


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.http_load", description=__doc__)
    parser.add_argument("--database", help="SQLAlchemy URL of an empty database; a SQLite file where absent")
    parser.add_argument("--processes", type=int, default=1, help="API processes")
    given = parser.parse_args()
    with TemporaryDirectory(prefix="bench-") as folder:
        kept = {} if given.database is None else {"database_url": given.database}
        port = free_port()
        settings = Settings(data_dir=Path(folder), port=port, api_processes=given.processes, **kept)
        upgrade(settings)
        world = World(connect(settings), settings, itertools.count(1))
        with serving(settings) as server:
            submits = asyncio.run(submit(world, port))
            print("submits", submits, flush=True)
            readers = asyncio.run(read(world, settings, server))
            print("readers", readers, flush=True)
    kind = "postgresql" if given.database else "sqlite"
    row = {"database": kind, "processes": given.processes, "submits": submits, "readers": readers}
    row["git_sha"] = rows.git_sha()
    row["hardware"] = hardware(device="cpu", threads=1).model_dump(mode="json")
    rows.write(rows.RESULTS / "http" / f"{kind}@{given.processes}.json", row)


class Api:
    """The API; `restart` replaces it as an operator does."""

    def __init__(self, settings: Settings) -> None:
        set_ = settings.model_copy(update={"rate_limits": False, "inspect_wait_s": 0})
        self._environment = {**os.environ, **set_.environment()}
        self._port = settings.port
        self._several = settings.api_processes > 1
        self.most_bytes = 0
        self.cpu_s = 0.0
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "api"], env=self._environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + GIVE_UP_S
        while True:
            try:
                if asyncio.run(once(self._port, "GET", "/readyz"))[0] == 200:
                    return
            except OSError:
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.05)

    def stop(self) -> None:
        self.weigh()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(GIVE_UP_S)

    def restart(self) -> None:
        """End it and start it again; several processes give way to new ones while somebody answers."""
        if not self._several:
            self.stop()
            self.start()
            return
        self.weigh()
        before = self._pids()
        self.process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + GIVE_UP_S
        while (len(now := self._pids()) != len(before) or set(now) & set(before)) and time.monotonic() < deadline:
            time.sleep(0.1)

    def weigh(self) -> None:
        """Note the resident memory of the largest process and the processor time of all that run."""
        self.cpu_s = 0.0
        for pid in self._pids():
            status = Path(f"/proc/{pid}/status").read_text()
            line = next(one for one in status.splitlines() if one.startswith("VmHWM"))
            self.most_bytes = max(self.most_bytes, int(line.split()[1]) * 1024)
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            self.cpu_s += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _pids(self) -> list[int]:
        """The processes that serve."""
        if not self._several:
            return [self.process.pid]
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        told = {int(pid): Path(f"/proc/{pid}/cmdline").read_text() for pid in children}
        return [pid for pid, command in told.items() if "spawn_main" in command]


@contextmanager
def serving(settings: Settings) -> Iterator[Api]:
    api = Api(settings)
    try:
        yield api
    finally:
        api.stop()


async def once(port: int, method: str, path: str, body: Any = None) -> tuple[int, bytes]:
    """One request on a connection of its own: (status, body)."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        sent = b"" if body is None else json.dumps(body).encode()
        kind = "Content-Type: application/json\r\n" if sent else ""
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost:{port}\r\n{kind}Content-Length: {len(sent)}\r\n"
        writer.write(f"{head}Connection: close\r\n\r\n".encode() + sent)
        answer = await reader.read()
    finally:
        writer.close()
    head_, _, rest = answer.partition(b"\r\n\r\n")
    if not head_:
        raise ConnectionError("the connection was closed without an answer")
    return int(head_.split()[1]), rest


async def submit(world: World, port: int) -> dict[str, Any]:
    """Jobs at a steady rate, whether or not the ones before were answered."""
    judged = world.judged().model_dump(mode="json", exclude_unset=True)
    seconds: list[float] = []
    wrong: list[bytes] = []

    async def one() -> None:
        begun = time.perf_counter()
        status, body = await once(port, "POST", "/v1/jobs", {**judged, "cache": "bypass"})
        seconds.append(time.perf_counter() - begun)
        if status != 201:
            wrong.append(body)

    begun = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for number in range(RATE * SUBMITS_S):
            await asyncio.sleep(max(0.0, begun + number / RATE - time.perf_counter()))
            tasks.create_task(one())
    if wrong:
        raise RuntimeError(f"{len(wrong)} submits failed, first: {wrong[0]!r}")
    return {"count": len(seconds), "a_second": RATE, **quantiles("ms", [1e3 * one for one in seconds])}


async def read(world: World, settings: Settings, api: Api) -> dict[str, Any]:
    """Streams and pollers while events are written and the API is started again."""
    held = [world.claimed() for _ in range(JOBS)]
    stop = threading.Event()
    writers = [threading.Thread(target=write, args=(world, claim, stop)) for claim in held]
    streams = [Reader() for _ in range(READERS)]
    pollers = [Reader() for _ in range(READERS)]
    ends = time.time() + READ_S
    for each in writers:
        each.start()
    tasks = [
        asyncio.create_task(follow(settings.port, held[n % JOBS].job_id, one, ends)) for n, one in enumerate(streams)
    ]
    tasks += [
        asyncio.create_task(poll(settings.port, held[n % JOBS].job_id, one, ends)) for n, one in enumerate(pollers)
    ]
    begun = time.process_time()
    await asyncio.sleep(READ_S / 2)
    restarted = time.perf_counter()
    await asyncio.to_thread(api.restart)
    restart_s = time.perf_counter() - restarted
    await asyncio.sleep(max(0.0, ends - time.time() - 5))
    stop.set()
    for each in writers:
        each.join()
    await asyncio.gather(*tasks)
    api.weigh()
    last = {claim.job_id: world.events(claim.job_id)[-1].seq for claim in held}
    whole = [last[held[n % JOBS].job_id] for n in range(READERS)]
    wrong = [
        [seq for seq in range(1, end + 1) if one.seen.count(seq) != 1] for one, end in zip(streams, whole, strict=True)
    ]
    return {
        "streams": READERS,
        "pollers": READERS,
        "events": sum(last.values()),
        "delivered": sum(len(one.seen) for one in streams),
        "missing_or_twice": sum(map(len, wrong)),
        "reconnects": sum(one.reconnects for one in streams),
        "restart_s": round(restart_s, 2),
        "stream_lag": quantiles("ms", [1e3 * lag for one in streams for lag in one.lags]),
        "poll": quantiles("ms", [1e3 * each for one in pollers for _, each in one.times]),
        "poll_before_restart": quantiles(
            "ms", [1e3 * took for one in pollers for at, took in one.times if at < restarted]
        ),
        "api_bytes": api.most_bytes,
        "api_cpu_s_after_restart": api.cpu_s,
        "client_and_writers_cpu_s": round(time.process_time() - begun, 1),
    }


def write(world: World, claim: service.Claim, stop: threading.Event) -> None:
    """A worker's events, a few a second."""
    for step in itertools.count(1):
        if stop.wait(1 / EVENTS_A_SECOND):
            return
        with world.db.sessions.begin() as s:
            service.record(s, claim.job_id, claim.fence, [("metric", {"name": "loss", "value": 0.5, "step": step})])


async def follow(port: int, job: str, told: Reader, ends: float) -> None:
    """A stream that comes back with Last-Event-ID wherever it is cut, until `ends` (epoch seconds)."""
    await asyncio.sleep(random.uniform(0, 1))  # as the pollers: four hundred clients keep no step
    while time.time() < ends:
        try:
            await asyncio.wait_for(_follow(port, job, told), max(0.1, ends - time.time()))
        except TimeoutError:
            return
        except (OSError, asyncio.IncompleteReadError):
            pass
        told.reconnects += 1
        await asyncio.sleep(random.uniform(0.5, 1.5))  # about as the stream's `retry` asks


async def _follow(port: int, job: str, told: Reader) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    connected = time.time()
    try:
        after = f"Last-Event-ID: {told.seen[-1]}\r\n" if told.seen else ""
        head = (
            f"GET /v1/jobs/{job}/events HTTP/1.1\r\nHost: localhost:{port}\r\nAccept: text/event-stream\r\n{after}\r\n"
        )
        writer.write(head.encode())
        while line := await reader.readline():
            if line.startswith(b"data:"):
                event = json.loads(line[5:])
                told.seen.append(event["seq"])
                committed = datetime.fromisoformat(event["at"]).timestamp()
                if committed > connected:  # what was missed while nobody listened is no lag
                    told.lags.append(time.time() - committed)
    finally:
        writer.close()


async def poll(port: int, job: str, told: Reader, ends: float) -> None:
    """The job's page of new events once a second, on one connection as long as it lasts; a refusal is asked again."""
    while time.time() < ends:
        await asyncio.sleep(random.uniform(0, 1))
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            told.reconnects += 1
            continue
        try:
            await _poll(port, job, told, ends, reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            told.reconnects += 1
        finally:
            writer.close()


async def _poll(
    port: int, job: str, told: Reader, ends: float, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    while time.time() < ends:
        begun = time.perf_counter()
        after = told.seen[-1] if told.seen else 0
        head = f"GET /v1/jobs/{job}/events?after={after}&limit=1000 HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n"
        writer.write(head.encode())
        answer = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(answer.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        page = json.loads(await reader.readexactly(length))
        told.times.append((begun, time.perf_counter() - begun))
        if not answer.startswith(b"http/1.1 200"):
            raise RuntimeError(page)
        told.seen += [event["seq"] for event in page["data"]]
        await asyncio.sleep(max(0.0, 1 - (time.perf_counter() - begun)))


def quantiles(unit: str, values: list[float]) -> dict[str, float]:
    """p50, p95, p99 and the largest."""
    return {f"{unit}_p{share}": round(float(np.percentile(values, share)), 1) for share in (50, 95, 99, 100)}


if __name__ == "__main__":
    main()
