"""Walls around an engine child: a scrubbed environment, no network, one writable folder, limits.

The child handles files that strangers sent and is treated as taken over already (reliability.md C1): nothing in its
reach may open the database, the store or another job. Each wall is raised where the host allows it; the child
reports which ones stand, and the pool says once what is missing.
"""

from __future__ import annotations

import glob
import os
import resource
import site
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from core.memory import machine_bytes
from worker import kernel

if TYPE_CHECKING:
    from jobs.settings import Settings

SPARED = 0.9  # of the memory, for jobs: the rest is the worker's and the system's
WRITABLE = ("out", "home", "tmp")
READ = kernel.READ_FILE | kernel.READ_DIR
RUN = READ | kernel.EXECUTE
DEVICE = READ | kernel.WRITE_FILE
# What an interpreter with torch was seen to read; /etc and /dev by name, since a worker may run as root.
_RUN_PATHS = ("/usr", "/lib", "/lib32", "/lib64", "/bin", "/sbin", "/nix")
_ETC = ("ld.so.cache", "ld.so.conf", "ld.so.conf.d", "localtime", "timezone", "passwd", "group", "nsswitch.conf")
_ETC_MORE = ("os-release", "alternatives", "mime.types")
_READ_PATHS = ("/proc", "/sys", *(f"/etc/{name}" for name in (*_ETC, *_ETC_MORE)))
_DEVICES = ("null", "zero", "full", "random", "urandom", "nvidia*", "dri", "kfd")
_PASSED = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "LD_LIBRARY_PATH")
_PASSED_GPU = ("CUDA_VISIBLE_DEVICES", "CUDA_HOME", "NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES")


def environment(folder: Path, threads: int) -> dict[str, str]:
    """All that a child sees of its parent's environment; no variable of ours, no credentials.

    Args:
        folder: the child's own folder; home and temporary files go below it.
        threads: for every library that would otherwise take all cores (DESIGN section 7).
    """
    passed = {name: os.environ[name] for name in (*_PASSED, *_PASSED_GPU) if name in os.environ}
    counts = dict.fromkeys(
        ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS"), str(threads)
    )
    return {
        "PATH": os.defpath,
        "LANG": "C.UTF-8",
        **passed,
        **counts,
        # Threads that wait by spinning were seen to make a step 12 times slower on a busy two-core machine.
        "OMP_WAIT_POLICY": "PASSIVE",
        "HOME": str(folder / "home"),
        "TMPDIR": str(folder / "tmp"),
        "USER": "engine",
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "ARROW_DEFAULT_MEMORY_POOL": "system",  # the others reserve address space that RLIMIT_AS would count
        "MALLOC_ARENA_MAX": "2",
    }


def close_network() -> bool:
    """Move into a network namespace without interfaces. Call before any thread starts. False: not allowed here."""
    uid, gid = os.getuid(), os.getgid()
    try:
        if uid == 0:
            kernel.unshare(kernel.CLONE_NEWNET)
            return True
    except OSError:
        pass  # root without CAP_SYS_ADMIN, as in most containers: a user namespace may still be allowed
    try:
        kernel.unshare(kernel.CLONE_NEWUSER | kernel.CLONE_NEWNET)
    except OSError:
        return False
    for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        Path(f"/proc/self/{name}").write_text(text)
    return True


def close_files(folder: Path) -> tuple[bool, bool]:
    """Let this process read its libraries and its own folder, and write only `out`, `home` and `tmp` below it.

    Returns:
        (files closed, TCP closed): before version 3 Landlock lets a file be truncated, so inputs that are hard links
        into the store would not be safe and the first is False. From version 4 it also refuses every TCP
        connection, which is the network wall of hosts that allow no namespaces.
    """
    try:
        wall = kernel.Landlock()
        for path in (*_RUN_PATHS, *_library_paths()):
            wall.allow(Path(path), RUN)
        for path in _READ_PATHS:
            wall.allow(Path(path), READ)
        for pattern in _DEVICES:
            for path in glob.glob(f"/dev/{pattern}"):  # noqa: PTH207 - Path.glob cannot start at an absolute pattern
                wall.allow(Path(path), DEVICE)
        for path in ("/dev/shm", "/proc/self"):  # noqa: S108 - shared memory of torch's own worker processes
            wall.allow(Path(path), wall.rights & ~kernel.EXECUTE)
        root = Path(__file__).parent.parent
        wall.allow(root, kernel.READ_DIR)  # names only: a data folder may lie in a checkout
        for package in ("core", "worker"):
            wall.allow(root / package, RUN)
        wall.allow(folder, READ)
        for name in WRITABLE:
            wall.allow(folder / name, wall.rights & ~kernel.EXECUTE)
        wall.enforce()
    except OSError:
        return False, False
    return wall.closes_truncation, wall.closes_tcp


def drop_powers() -> None:
    """Be an ordinary process, also where the worker is root."""
    with suppress(OSError):  # not Linux
        kernel.drop_capabilities()


def _library_paths() -> list[str]:
    """Where this interpreter and its installed packages live."""
    prefixes = {sys.prefix, sys.base_prefix, sys.exec_prefix, str(Path(sys.executable).resolve().parent)}
    loader = os.environ.get("LD_LIBRARY_PATH", "").split(":")
    return [path for path in (*prefixes, *site.getsitepackages(), *loader) if path]


def job_bytes(settings: Settings) -> int:
    """Memory that each job of this worker may hold: as set, or its part of what the machine or container has."""
    return settings.job_memory_bytes or int(SPARED * machine_bytes()) // settings.device_slots


def limit(
    *,
    cpu_s: int | None = None,
    memory_bytes: int | None = None,
    data_bytes: int | None = None,
    file_bytes: int | None = None,
    files: int | None = None,
) -> None:
    """Resource limits from now on; None leaves one as it is.

    Args:
        cpu_s: CPU seconds beyond those already used. Then SIGXCPU, a second later SIGKILL.
        memory_bytes: address space of the whole process; allocation beyond it fails.
        data_bytes: the same of what it has allocated; shared memory and files that it maps to read do not count.
        file_bytes: largest file it may write.
        files: open descriptors.
    """
    if cpu_s is not None:
        used = int(time.process_time()) + 1
        resource.setrlimit(resource.RLIMIT_CPU, (used + cpu_s, used + cpu_s + 1))
    for kind, value in (
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_DATA, data_bytes),
        (resource.RLIMIT_FSIZE, file_bytes),
        (resource.RLIMIT_NOFILE, files),
    ):
        if value is not None:
            hard = resource.getrlimit(kind)[1]
            least = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(kind, (least, least))


@contextmanager
def memory_bound(more: int) -> Iterator[None]:
    """Let this process take at most so many bytes beside what it has; where its own limit is nearer, that stands."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    with suppress(OSError):  # not Linux
        has = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        nearer = [limit for limit in (soft, hard, has + more) if limit != resource.RLIM_INFINITY]
        resource.setrlimit(resource.RLIMIT_AS, (min(nearer), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def no_core_dump() -> None:
    """Weights and texts of users never land in a core file."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
