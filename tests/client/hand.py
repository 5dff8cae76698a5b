"""A hand that plays the worker: it takes real jobs through `jobs.service` and ends them as their seed says.

No science happens; what a client can see of a job does.
"""

from __future__ import annotations

import hashlib
import random
import threading
import time
from typing import Any

from core.report import Hardware, Latency, Parity, Point, Report, Sizes, Stage
from jobs import service
from jobs.db import connect
from jobs.local_store import LocalStore
from jobs.problem import Problem
from jobs.settings import Settings
from jobs.signing import SigningKey
from tests.client.artifacts import sealed
from tests.jobs.world import GOOD

SUCCEED, MISS, FAIL, LAST, TWO_POINTS, SLOW = range(6)  # seeds
SLOW_STEPS = 12
FILES = {
    "model.onnx": random.Random(7).randbytes(300_000),
    "pytorch/load.py": b"def load(folder): ...\n",
    "tokenizer.json": b"{}",
}
KEY = SigningKey.fresh()
FILES |= sealed(FILES, KEY)


class Hand(threading.Thread):
    """Works until `stop`; `submitted` counts the jobs that it has seen."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(daemon=True)
        self._database = connect(settings)
        self._store = LocalStore(settings.store_dir)
        self._stopping = threading.Event()
        self.seen: list[str] = []
        self.slow_step = threading.Event()
        self.slow_step.set()

    def stop(self) -> None:
        self._stopping.set()
        self.join()
        self._database.dispose()

    def run(self) -> None:
        while not self._stopping.wait(0.05):
            with self._database.sessions.begin() as s:
                if (inspection := service.claim_inspection(s, "hand", 60)) is not None:
                    service.finish_inspection(s, inspection.inspection_id, inspection.fence, GOOD)
            with self._database.sessions.begin() as s:
                held = service.claim(s, "hand", 60)
            if held is not None:
                self.seen.append(held.job_id)
                self._play(held)

    def _play(self, held: service.Claim) -> None:
        seed = held.spec["seed"]
        self._record(held, ("stage", {"stage": "distill"}), ("warning", {"code": "few_rows", "detail": "only 4 rows"}))
        for step in range(1, SLOW_STEPS + 1 if seed == SLOW else 3):
            self._record(held, ("progress", {"stage": "distill", "fraction": step / 20, "step": step, "steps": 20}))
            if seed == SLOW:
                self.slow_step.wait(10)
                time.sleep(0.04)
        match seed:
            case 2:
                problem = Problem.of("training_diverged", "the loss became NaN at step 2", stage="distill")
                with self._database.sessions.begin() as s:
                    assert service.fail(s, held.job_id, held.fence, problem)
            case 3:
                self._last_until_stopped(held)
            case _:
                self._publish(held, points=2 if seed == TWO_POINTS else 1, met=seed not in (MISS, TWO_POINTS))

    def _last_until_stopped(self, held: service.Claim) -> None:
        while not self._stopping.wait(0.05):
            with self._database.sessions.begin() as s:
                control = service.heartbeat(s, held.job_id, held.fence, 60)
                assert control is not None
                if control.pause:
                    assert service.release(s, held.job_id, held.fence, reason="drained")
                    return
                if control.cancel:
                    assert service.finish_cancel(s, held.job_id, held.fence)
                    return

    def _record(self, held: service.Claim, *events: tuple[str, dict[str, Any]]) -> None:
        with self._database.sessions.begin() as s:
            assert service.record(s, held.job_id, held.fence, list(events))

    def _publish(self, held: service.Claim, *, points: int, met: bool) -> None:
        files = []
        for path, content in FILES.items():
            blob = self._store.put_stream(held.project_id, [content], max_bytes=1 << 30)
            assert blob.sha256 == hashlib.sha256(content).hexdigest()
            files.append(service.PublishedFile(path, blob.size, blob.sha256, "application/octet-stream"))
        # Of two points the second one meets the target.
        figures = [point(met=met or index == 1, retention=0.9 + index / 20) for index in range(points)]
        delivered = [service.PublishedPoint(files, one.model_dump(mode="json")) for one in figures]
        with self._database.sessions.begin() as s:
            service.register_signing_key(s, KEY)
            assert service.publish(s, held.job_id, held.fence, report(figures[0]).model_dump(mode="json"), delivered)


def point(*, met: bool, retention: float) -> Point:
    size = Sizes(parameters=1000, nonzero=1000, bytes_on_disk={"model.onnx": 300_000}, bytes_in_memory=4000)
    return Point(
        parameter_ratio=2.5,
        bytes_ratio=2.4,
        latency_ratio=1.1,
        metric="accuracy",
        teacher=0.9,
        student=0.9 * retention,
        retention=retention,
        target={"parameter_ratio": 2.5 if met else 5.0},
        target_met=met,
        shortfall={} if met else {"parameter_ratio": 2.5},
        sizes=size,
        sizes_teacher=size,
        planned_bytes=300_000,
        latency=(Latency(batch=1, tokens=128, threads=1, pairs=20, teacher_ms_p50=2, student_ms_p50=1.8, ratio=1.1),),
        parity=(Parity(file="model.onnx", rows=8, max_difference=0, tolerance=1e-4, load_s=0.1, closure=()),),
        student_by_file={"model.onnx": 0.9 * retention},
    )


def report(one: Point) -> Report:
    return Report(
        preset="ladabert-1",
        recipe={},
        target=one.target,
        seed=0,
        task="classification",
        labels=("a", "b"),
        rows={"train": 4, "eval": 2},
        select_seen_by_teacher="assumed",
        input_hashes={},
        point=one,
        stages=(Stage(name="distill", seconds=1, cpu_s=1),),
        hardware=Hardware(device="cpu", machine="x86_64", cpu_flags=(), threads=1, versions={}),
    )
