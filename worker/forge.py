"""A process that has an inspection's libraries loaded and makes children by forking: `python -I -m worker.forge`.

Loading takes a second of CPU, a fork milliseconds, and an inspection uses its child up. The forge itself reads nothing
that anybody sent: a child raises its own walls after the fork, as one that was started by itself does. Linux only,
because a child has to become one of the worker's own (`kernel.adopt_orphans`).
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, NoReturn

from worker import child, engine, kernel, sandbox

COMMAND = (sys.executable, "-I", "-m", "worker.forge")
_MESSAGE_BYTES = 1 << 16
_WARM_WITHIN_S, _FORK_WITHIN_S = 180.0, 30.0


class Cast:
    """A process that a forge made, with the part of Popen that `worker.group.Child` uses."""

    def __init__(self, pid: int, stdin: IO[bytes]) -> None:
        self.pid, self.stdin = pid, stdin
        self.returncode: int | None = None

    def wait(self) -> int:
        if self.returncode is None:
            self.returncode = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.returncode


class Forge:
    """The forge as its worker sees it. One caller at a time.

    Raises:
        OSError: it could not be started, or died while it warmed up.
    """

    def __init__(self, folder: Path, threads: int) -> None:
        for name in sandbox.WRITABLE:
            (folder / name).mkdir(parents=True, mode=0o700)
        kernel.adopt_orphans()
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, (folder / "log").open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - the command is ours
                [*COMMAND, "--socket", str(theirs.fileno())],
                cwd=folder,
                env=sandbox.environment(folder, threads),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        self.pid = self._process.pid
        self._answer(_WARM_WITHIN_S)

    def make(
        self, folder: Path, arguments: Sequence[str], environment: Mapping[str, str], events: int, log: int
    ) -> Cast:
        """A child in its folder. `events` and `log` are descriptors of this process that it gets.

        Raises:
            OSError: the forge has died.
        """
        reading, writing = os.pipe()
        order = {"folder": str(folder), "arguments": list(arguments), "environment": dict(environment)}
        try:
            socket.send_fds(self._ours, [json.dumps(order).encode()], [reading, events, log])
            pid = self._answer(_FORK_WITHIN_S)
        except BaseException:
            os.close(writing)
            raise
        finally:
            os.close(reading)
        return Cast(pid, os.fdopen(writing, "wb"))

    def close(self) -> None:
        """End it; its children live on."""
        self._ours.close()
        self._process.kill()
        self._process.wait()

    def _answer(self, within_s: float) -> int:
        self._ours.settimeout(within_s)
        if not (said := self._ours.recv(_MESSAGE_BYTES)):
            raise OSError("the forge has died")
        return int(said)


def main() -> None:
    """Load the libraries, then fork whenever the worker asks; its end closes the socket, and that ends the forge."""
    parser = argparse.ArgumentParser(prog="worker.forge")
    parser.add_argument("--socket", type=int, required=True)
    with socket.socket(fileno=parser.parse_args().socket) as worker:
        sandbox.no_core_dump()
        engine.warm("inspect")
        gc.freeze()  # so that the collector of a child copies no page
        worker.send(b"0")
        while True:
            message, descriptors, _, _ = socket.recv_fds(worker, _MESSAGE_BYTES, 3)
            if not message:
                return
            pid = _fork(worker, json.loads(message), descriptors)
            for descriptor in descriptors:
                os.close(descriptor)
            worker.send(str(pid).encode())


def _fork(worker: socket.socket, order: dict[str, Any], descriptors: list[int]) -> int:
    """A grandchild, whose parent has left when its number is known: so the worker has become its parent."""
    reading, writing = os.pipe()
    between = os.fork()
    if between == 0:
        here = os.getpid()
        if pid := os.fork():
            os.write(writing, str(pid).encode())
            os._exit(0)
        os.close(reading)
        os.close(writing)
        worker.close()
        _become(order, descriptors, here)
    os.close(writing)
    os.waitpid(between, 0)
    pid = int(os.read(reading, 32))
    os.close(reading)
    return pid


def _become(order: dict[str, Any], descriptors: list[int], between: int) -> NoReturn:
    """Be what `python -I -m worker.child` is at its start."""
    code = 1
    with suppress(BaseException):
        while os.getppid() == between:  # the keeper asks who its parent is
            time.sleep(0.001)
        os.setsid()
        stdin, events, log = descriptors
        for number, descriptor in ((0, stdin), (1, log), (2, log)):
            os.dup2(descriptor, number)
        for descriptor in (stdin, log):
            os.close(descriptor)
        os.chdir(order["folder"])
        os.environ.clear()
        os.environ.update(order["environment"])
        signal.set_wakeup_fd(-1)
        child.main([*order["arguments"], "--events-fd", str(events)])
        code = 0
    os._exit(code)


if __name__ == "__main__":
    main()
