"""A finished job with real bytes in the store, and reports as core makes them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from core.report import Hardware, Latency, Point, Report, Sizes, Stage
from jobs import service
from jobs.stores import open_store
from tests.jobs.world import GOOD, World

MODEL_BYTES = bytes(range(256)) * 700  # 179,200: three of the server's pieces


def sizes(parameters: int) -> Sizes:
    return Sizes(
        parameters=parameters, nonzero=parameters, bytes_on_disk={"model.onnx": 4}, bytes_in_memory=4 * parameters
    )


def point(**fields: Any) -> Point:
    """A point that met its target."""
    given: dict[str, Any] = {
        "parameter_ratio": 2.5,
        "bytes_ratio": 2.4,
        "latency_ratio": 1.1,
        "metric": "accuracy",
        "teacher": 0.92,
        "student": 0.91,
        "retention": 0.989,
        "target": {"parameter_ratio": 2.5},
        "target_met": True,
        "shortfall": {},
        "sizes": sizes(40),
        "sizes_teacher": sizes(100),
        "planned_bytes": 4,
        "latency": (
            Latency(batch=1, tokens=128, threads=1, pairs=20, teacher_ms_p50=2.0, student_ms_p50=1.0, ratio=2.0),
        ),
        "parity": (),
        "student_by_file": {"model.onnx": 0.91},
    }
    return Point(**{**given, **fields})


def report(one: Point) -> Report:
    return Report(
        preset="ladabert-1",
        recipe={"version": 1, "steps": []},
        target=one.target,
        seed=0,
        task="classification",
        labels=("a", "b"),
        rows={"train": 9, "eval": 3},
        select_seen_by_teacher="assumed",
        input_hashes={},
        point=one,
        stages=(Stage(name="distill", seconds=2.0, cpu_s=1.5),),
        hardware=Hardware(device="cpu", machine="test", cpu_flags=(), threads=1, versions={}),
    )


def publish(world: World, held: service.Claim, one: Point | None = None) -> str:
    """End a held job well, with two files. Returns the artifact's id."""
    one = one or point()
    store = open_store(world.settings)
    files = []
    for path, content, media in (
        ("model.onnx", MODEL_BYTES, "application/octet-stream"),
        ("pytorch/config.json", b"{}", "application/json"),
    ):
        blob = store.put_stream(held.project_id, [content], max_bytes=1 << 30)
        files.append(service.PublishedFile(path, blob.size, blob.sha256, media))
    with world.db.sessions.begin() as s:
        published = service.PublishedPoint(files, one.model_dump(mode="json"))
        assert service.publish(s, held.job_id, held.fence, report(one).model_dump(mode="json"), [published])
    with world.db.readers() as s:
        from sqlalchemy import select

        from jobs.tables import Artifact

        return s.scalars(select(Artifact.id).where(Artifact.job_id == held.job_id)).one()


def finished(world: World) -> tuple[str, str]:
    """(job id, artifact id) of a job that went through."""
    held = world.claimed()
    return held.job_id, publish(world, held)


@contextmanager
def inspector(world: World, verdict: dict[str, Any] | None = None) -> Iterator[None]:
    """A worker that judges every inspection at once, until the context ends."""

    def turn() -> None:
        with world.db.sessions.begin() as s:
            held = service.claim_inspection(s, "inspector", 60)
        if held is not None:
            with world.db.sessions.begin() as s:
                service.finish_inspection(s, held.inspection_id, held.fence, verdict or GOOD)

    with in_turns("inspector", 0.02, turn):
        yield


@contextmanager
def in_turns(name: str, every_s: float, turn: Callable[[], None]) -> Iterator[None]:
    """A thread that does this again and again, until the context ends."""
    stop = threading.Event()

    def work() -> None:
        while not stop.wait(every_s):
            turn()

    thread = threading.Thread(target=work, name=name)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(30)
