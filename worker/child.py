"""The process that does the work: `python -I -m worker.child --events-fd N --kind compress|inspect`.

One child runs one order. It starts warm and behind walls (worker.sandbox), reads the order as the first line of
standard input, says what happens as JSON lines on descriptor N, and leaves. The end of standard input means that the
worker is gone: the whole group ends at once. Standard output and error are a log file; nothing printed there matters.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from jobs import logs
from worker import engine, keeper, protocol, sandbox

logger = logging.getLogger("worker")
INSPECT_FILE_BYTES = 64 << 20
INSPECT_OPEN_FILES = 256


class Pipe:
    """The events' way out. Whole lines, written at once: nothing is left in a buffer when the process ends."""

    def __init__(self, fd: int) -> None:
        os.set_inheritable(fd, False)  # programs that the engine starts have no say
        self._fd = fd
        self._lock = threading.Lock()

    def send(self, event: dict[str, Any]) -> None:
        line = memoryview(protocol.render(event))
        with self._lock:
            while line:
                line = line[os.write(self._fd, line) :]


def main(
    arguments: list[str] | None = None,
    *,
    warm: Callable[[engine.Kind], list[str]] = engine.warm,
    work: Callable[[dict[str, Any], engine.Send], dict[str, Any]] = engine.work,
) -> None:
    """Raise the walls, warm up, run one order, leave. Tests pass another `warm` and `work`."""
    options = _parse(arguments)
    # Text without colours: the end of it is shown to whoever submitted the job. Libraries speak up when it matters.
    logs.configure("child", form="console", level="WARNING")
    logger.setLevel(logging.INFO)
    os.umask(0o077)
    sandbox.no_core_dump()
    namespace = sandbox.close_network()  # before any thread: a user namespace asks for that
    keeper.keep(options.events_fd)
    files, tcp = sandbox.close_files(Path.cwd())
    sandbox.drop_powers()
    pipe = Pipe(options.events_fd)
    orders: SimpleQueue[bytes] = SimpleQueue()
    threading.Thread(target=_listen, args=(orders,), daemon=True).start()
    devices = warm(options.kind)
    if options.kind == "inspect":
        sandbox.limit(
            cpu_s=options.cpu_s,
            memory_bytes=options.memory_bytes,
            file_bytes=INSPECT_FILE_BYTES,
            files=INSPECT_OPEN_FILES,
        )
    elif "cuda" not in devices:  # whose driver maps more than there is
        # A step that does not fit then raises, and is run in parts; the kernel would kill the job, or another.
        sandbox.limit(data_bytes=options.memory_bytes)
    walls = {"network_closed": namespace or tcp, "files_closed": files}
    pipe.send({"type": "ready", "devices": devices, **walls})
    order = json.loads(orders.get())
    logs.bind(**order.get("log", {}))
    logger.info("begins: %s", options.kind)
    last = _finish(order, pipe.send, work)
    logger.info("ends: %s", last["type"])
    pipe.send(last)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # the result is out; torch's own teardown could only spoil it


def _finish(
    order: dict[str, Any],
    send: engine.Send,
    work: Callable[[dict[str, Any], engine.Send], dict[str, Any]],
) -> dict[str, Any]:
    """The last line, whatever happens."""
    try:
        return work(order, send)
    except BaseException as error:  # a SystemExit inside a library is a fault like any other
        if (failed := engine.as_failure(error)) is not None:
            return failed
        logger.exception("the order failed")
        detail = f"{type(error).__name__}: {error}"[:1_000]
        return {"type": "error", "code": "internal", "detail": detail, "param": None, "errors": [], "retryable": False}


def _listen(orders: SimpleQueue[bytes]) -> None:
    """Hand over the first line, then wait for the end of standard input: the worker's death."""
    if line := sys.stdin.buffer.readline():
        orders.put(line)
        sys.stdin.buffer.read()
    os.killpg(0, signal.SIGKILL)


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="worker.child")
    parser.add_argument("--events-fd", type=int, required=True)
    parser.add_argument("--kind", choices=("compress", "inspect"), required=True)
    parser.add_argument("--cpu-s", type=int, help="CPU seconds of an inspection")
    parser.add_argument("--memory-bytes", type=int, help="that it may hold")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
