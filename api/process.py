"""One process of the API: what it sets up before the app, and how its end reaches those who read streams."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from types import FrameType

from fastapi import FastAPI

from jobs import logs, traces
from jobs.settings import Settings

FIGURES = "PROMETHEUS_MULTIPROC_DIR"  # prometheus_client's own: a folder in which processes add their figures up
ENDS = (signal.SIGTERM, signal.SIGINT)


def configure(settings: Settings) -> None:
    """Logs as the settings say, and spans where a collector is named."""
    logs.configure(
        "api",
        form=settings.log_format,
        level=settings.log_level,
        secrets=logs.passwords(settings.database_url, settings.broker_url),
    )


def app() -> FastAPI:
    """The app of this process, by the environment. One of several ends with the process that started it."""
    from api.app import create_app  # noqa: PLC0415 - the supervisor reads this module, too, and needs no app

    settings = Settings()
    parent = multiprocessing.parent_process()
    if parent is not None:
        configure(settings)
        threading.Thread(target=_end_after, args=(parent,), name="parent", daemon=True).start()
    traces.configure("api")
    return create_app(settings)


@contextmanager
def heard(close: Callable[[], None]) -> Iterator[None]:
    """Call `close` as soon as a signal tells this process to end, before whoever else listens does something about it.

    uvicorn waits for open answers first, and a stream is open until somebody tells it. Elsewhere than in a main
    thread no signals arrive, and nothing is done.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in ENDS}

    def hear(number: int, frame: FrameType | None) -> None:
        close()
        then = before[signal.Signals(number)]
        if callable(then):
            then(number, frame)

    for number in ENDS:
        signal.signal(number, hear)
    try:
        yield
    finally:
        for number, then in before.items():
            signal.signal(number, then)


def _end_after(parent: BaseProcess) -> None:
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
