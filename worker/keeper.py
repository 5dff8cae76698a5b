"""The first process of a child's group: it waits for the engine, ends what that leaves behind, and ends the whole group
when the worker has died.

The kernel tells only direct children of a parent's death, so a program that the engine started (the verification
runs) would outlive a `kill -9` of the worker. The keeper does no work, so it can always act at once.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress

from worker import kernel

_WATCHED = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD}


def keep(events_fd: int) -> None:
    """Fork. The engine returns from here; the keeper stays inside and leaves with the engine's exit status.

    Call before any thread starts, in the leader of a process group of its own.
    """
    worker = os.getppid()
    signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)
    kernel.die_with_parent(signal.SIGTERM)
    engine = os.fork()
    if engine == 0:
        keeper = os.getppid()
        kernel.die_with_parent(signal.SIGKILL)
        if os.getppid() != keeper:
            os._exit(1)  # the keeper died before the kernel knew whom to tell
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _WATCHED)
        return
    kernel.adopt_orphans()  # so that what the engine leaves is known here
    os.close(events_fd)  # the worker must see the end of the pipe when the engine ends
    os._exit(_watch(worker, engine))


def _watch(worker: int, engine: int) -> int:
    """Wait for the engine's end or the worker's. A TERM while the worker lives is meant for the engine."""
    while True:
        if os.getppid() != worker:
            os.killpg(0, signal.SIGKILL)
        pid, status = os.waitpid(engine, os.WNOHANG)
        if pid:
            _end_the_rest()
            code = os.waitstatus_to_exitcode(status)
            return 128 - code if code < 0 else code
        signal.sigwait(_WATCHED)


def _end_the_rest() -> None:
    """Programs that the engine started and left: a worker that died now would have nobody to end them."""
    with suppress(ChildProcessError):
        while True:
            for left in kernel.children(os.getpid()):
                with suppress(ProcessLookupError):
                    os.kill(left, signal.SIGKILL)
            os.waitpid(-1, 0)  # what those had started comes next
