"""What `GET /metrics` tells: requests as this process saw them, and the jobs as the database has them.

The figures of jobs are the same on every API process, whoever did the work and whether it still lives: `jobs.tallies`,
`jobs.gauges`. They are read at a scrape, at most every few seconds. Nothing here names a project, an object or a key.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterable, Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector
from sqlalchemy.exc import SQLAlchemyError

from api.process import FIGURES
from jobs import gauges, tallies
from jobs.db import Database

log = logging.getLogger("ladapress.metrics")
SPACE = "ladapress"
FRESH_S = 5.0
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 120)
disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each, which nothing reads


class Metrics:
    """The figures of one app, in a registry of its own; of all processes together where they share a folder."""

    def __init__(self, database: Database, lease_s: float) -> None:
        self.registry = CollectorRegistry()
        shared = os.environ.get(FIGURES)
        own: dict[str, Any] = {"namespace": SPACE, "registry": CollectorRegistry() if shared else self.registry}
        labels = ["method", "route", "status"]
        told = "Time to answer; of a stream, to its first byte."
        self.requests = Histogram("http_request_seconds", told, labels, buckets=SECONDS, **own)
        told = "Bytes of bodies that came in, uploads above all."
        self.received = Counter("http_received_bytes", told, ["route"], **own)
        told = "Bytes of bodies that went out, downloads above all."
        self.sent = Counter("http_sent_bytes", told, ["route"], **own)
        told = "Event streams that are open."
        self.streams = Gauge("sse_streams", told, multiprocess_mode="livesum", **own)
        if shared:
            self.registry.register(_Processes(Path(shared)))
        self.registry.register(_Jobs(database, lease_s))


class _Processes(Collector):
    """What every process of this API has counted; what lives only with a process goes with it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._all = MultiProcessCollector(None, str(folder))  # type: ignore[no-untyped-call]

    def describe(self) -> Iterable[Metric]:
        """Nothing, as above."""
        return []

    def collect(self) -> Iterable[Metric]:
        for file in self._folder.glob("gauge_live*_*.db"):
            pid = int(file.stem.rpartition("_")[2])
            if not _lives(pid):
                mark_process_dead(pid, str(self._folder))  # type: ignore[no-untyped-call]
        return self._all.collect()  # type: ignore[no-any-return, no-untyped-call]


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


class _Jobs(Collector):
    """Reads the database; where that fails it says so, and the rest of the scrape is whole."""

    def __init__(self, database: Database, lease_s: float) -> None:
        self._database, self._lease_s = database, lease_s
        self._reading = threading.Lock()
        self._read_at = -FRESH_S
        self._found: list[Metric] = []

    def describe(self) -> Iterable[Metric]:
        """Nothing: the names need no look at the database when they are registered."""
        return []

    def collect(self) -> Iterable[Metric]:
        with self._reading:
            if time.monotonic() - self._read_at >= FRESH_S:
                self._found = self._read()
                self._read_at = time.monotonic()
            return self._found

    def _read(self) -> list[Metric]:
        up = GaugeMetricFamily(f"{SPACE}_database_up", "Whether the database answered when it was last asked.")
        found: list[Metric] = [up]
        try:
            with self._database.readers() as s:
                levels, totals = gauges.read(s, self._lease_s), tallies.totals(s)
        except SQLAlchemyError as error:
            log.warning("the database does not answer: %s", type(error).__name__)
            up.add_metric([], 0)
            return found
        up.add_metric([], 1)
        found += [_gauge(gauge, levels[gauge.name]) for gauge in gauges.GAUGES]
        found += [_total(kind, totals[name]) for name, kind in tallies.KINDS.items()]
        return found


def _gauge(gauge: gauges.Gauge, levels: dict[str, float]) -> Metric:
    labels = [gauge.label] if gauge.label else []
    family = GaugeMetricFamily(f"{SPACE}_{gauge.name}", gauge.help, labels=labels)
    for label, level in levels.items():
        family.add_metric([label] if labels else [], level)
    return family


def _total(kind: tallies.Kind, totals: dict[str, tallies.Total]) -> Metric:
    labels = [kind.label] if kind.label else []
    name = f"{SPACE}_{kind.name}"
    if not kind.bounds:
        counter = CounterMetricFamily(name, kind.help, labels=labels)
        for label, total in totals.items():
            counter.add_metric([label] if labels else [], total.value)
        return counter
    histogram = HistogramMetricFamily(name, kind.help, labels=labels)
    for label, total in totals.items():
        buckets = list(zip(_bounds(kind), accumulate(total.buckets), strict=True))
        histogram.add_metric([label] if labels else [], buckets, total.value)
    return histogram


def _bounds(kind: tallies.Kind) -> Iterator[str]:
    yield from (f"{float(bound)}" for bound in kind.bounds)
    yield "+Inf"
