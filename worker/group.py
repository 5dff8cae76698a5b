"""One child as its parent sees it: a process group of its own, a pipe of events, a folder, a log."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import resource
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, cast

from worker import kernel, protocol, sandbox
from worker.forge import Cast, Forge

logger = logging.getLogger(__name__)
LOG_TAIL_BYTES = 4_096
MAX_LOG_BYTES = 16 << 20
_READ_BYTES = 1 << 16
LAST_WORDS_S = 2.0


class Child:
    """A started engine child. Not thread-safe: one owner at a time.

    Args:
        command: interpreter and program; `--events-fd` is added here.
        folder: becomes the child's working directory; made here, with `in`, `out`, `home` and `tmp` below it.
        threads: of every library inside.
        forge: makes it in place of a new interpreter; `command` is then the program's arguments alone.
    """

    def __init__(self, command: Sequence[str], folder: Path, threads: int, forge: Forge | None = None) -> None:
        self.folder = folder
        for name in ("in", *sandbox.WRITABLE):
            (folder / name).mkdir(parents=True, mode=0o700)
        self._log: IO[bytes] = (folder / "log").open("ab+")
        self._events, events_fd = os.pipe()
        environment = sandbox.environment(folder, threads)
        self._process: subprocess.Popen[bytes] | Cast
        try:
            if forge is not None:
                self._process = forge.make(folder, command, environment, events_fd, self._log.fileno())
            else:
                self._process = subprocess.Popen(  # noqa: S603 - the command is ours
                    [*command, "--events-fd", str(events_fd)],
                    cwd=folder,
                    env=environment,
                    stdin=subprocess.PIPE,
                    stdout=self._log,
                    stderr=self._log,
                    pass_fds=(events_fd,),
                    start_new_session=True,
                )
        except BaseException:
            os.close(self._events)
            self._log.close()
            raise
        finally:
            os.close(events_fd)
        self._stdin = cast("IO[bytes]", self._process.stdin)
        os.set_blocking(self._events, False)
        self._unread = b""
        self._dropped = 0
        self.cpu_s = 0.0  # of the whole group, once it has ended
        self.peak_bytes = 0  # resident, of the largest process in it, as cpu_s
        self._open = True

    @property
    def pid(self) -> int:
        """Also the id of the process group."""
        return self._process.pid

    def order(self, order: dict[str, Any]) -> None:
        """Give the child its work. A child that has died meanwhile is noticed by the next `read`."""
        try:
            self._stdin.write(json.dumps(order).encode() + b"\n")
            self._stdin.flush()
        except BrokenPipeError:
            logger.warning("child %d died before its order", self.pid)

    def read(self, timeout_s: float) -> list[protocol.Event]:
        """What the child said; waits at most so long for something. Empty when nothing came, or nothing will."""
        poll = select.poll()
        if self._open:
            poll.register(self._events, select.POLLIN)
        if not poll.poll(timeout_s * 1000) or not self._open:
            return []
        try:
            chunk = os.read(self._events, _READ_BYTES)
        except BlockingIOError:
            return []
        if not chunk:
            self._open = False
            return []
        *lines, self._unread = (self._unread + chunk).split(b"\n")
        if len(self._unread) > protocol.MAX_LINE_BYTES:
            self._open = False  # nobody who means well writes such a line: the supervisor sees a child without result
            return []
        events = []
        for line in lines:
            if (event := protocol.parse(line)) is not None:
                events.append(event)
            elif (dropped := self._dropped) < 5:
                self._dropped = dropped + 1
                logger.warning("child %d sent a line that is no event: %r", self.pid, line[:200])
        return events

    def finished(self) -> bool:
        """Nothing more will come: the pipe's end was read. The process may need a moment more."""
        return not self._open

    def alive(self) -> bool:
        """Whether the group's leader runs. Leaves its exit status in place, so that its pid stays reserved."""
        if self._process.returncode is not None:
            return False
        try:
            return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
        except ChildProcessError:
            return False  # the pool has ended it meanwhile

    def end(self, grace_s: float = 0) -> int:
        """End the whole group: TERM, `grace_s` seconds, KILL. Returns the leader's exit code (128 + signal)."""
        if self._process.returncode is None:
            if self.finished():
                self._wait_for_leader(LAST_WORDS_S)  # the engine is gone; the keeper passes on how it ended
            elif grace_s > 0:
                self._signal(signal.SIGTERM)
                self._wait_for_leader(grace_s)
            # The leader is not reaped yet, so the group's id cannot belong to anybody else.
            self._signal(signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):  # the pool has ended it meanwhile
                os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
            self.cpu_s = kernel.cpu_seconds(self.pid)
            with contextlib.suppress(ChildProcessError):
                _, status, usage = os.wait4(self.pid, 0)  # the keeper, and the engine where it has waited for that
                self._process.returncode = os.waitstatus_to_exitcode(status)
                self._took(usage)
            self._process.wait()
            self._reap_group()
            spent = {"cpu_s": self.cpu_s, "peak_bytes": self.peak_bytes}
            logger.debug("child %d has ended", self.pid, extra=spent)
        code = self._process.wait()
        return 128 - code if code < 0 else code

    def trim_log(self) -> None:
        """A child that prints without end does not fill the disk."""
        if os.fstat(self._log.fileno()).st_size > MAX_LOG_BYTES:
            os.ftruncate(self._log.fileno(), 0)

    def log_tail(self) -> str:
        """The last 4 KB of what the child printed."""
        size = os.fstat(self._log.fileno()).st_size
        tail = os.pread(self._log.fileno(), LOG_TAIL_BYTES, max(0, size - LOG_TAIL_BYTES))
        return tail.decode("utf-8", "replace")

    def dispose(self) -> None:
        """End the group, close the pipes, remove the folder."""
        self.end()
        if not self._log.closed:
            with contextlib.suppress(BrokenPipeError):
                self._stdin.close()
            os.close(self._events)
            self._log.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _wait_for_leader(self, most_s: float) -> None:
        deadline = time.monotonic() + most_s
        while self.alive() and time.monotonic() < deadline:
            time.sleep(0.01)

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def _reap_group(self, most_s: float = 5) -> None:
        """Wait until every member is gone. They have become children of this process (`kernel.become_a_worker`)."""
        deadline = time.monotonic() + most_s
        with contextlib.suppress(ChildProcessError):
            while time.monotonic() < deadline:
                pid, _, usage = os.wait4(-self.pid, os.WNOHANG)
                if pid == 0:
                    time.sleep(0.005)
                else:
                    self.cpu_s += usage.ru_utime + usage.ru_stime
                    self._took(usage)

    def _took(self, usage: resource.struct_rusage) -> None:
        self.peak_bytes = max(self.peak_bytes, usage.ru_maxrss * 1024)
