"""The few Linux calls that Python does not wrap: prctl, unshare, Landlock, and a process's start time.

Everywhere else each of them raises OSError(ENOSYS) or does nothing, and the caller says so once.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

CLONE_NEWUSER, CLONE_NEWNET = 0x1000_0000, 0x4000_0000
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_CHILD_SUBREAPER, _PR_SET_NO_NEW_PRIVS = 1, 4, 36, 38
# include/uapi/linux/landlock.h; the numbers of system calls from 424 on are the same on every architecture.
_CREATE, _ADD, _RESTRICT = 444, 445, 446
_VERSION, _PATH_BENEATH = 1, 1
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
REFER, TRUNCATE = 1 << 13, 1 << 14
ON_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE  # rights that a rule on a single file may name
FS_RIGHTS = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1}  # by version of Landlock; above 3 as 3
TCP_BIND_CONNECT = 0b11  # from version 4
SCOPE_ABSTRACT_SOCKETS_AND_SIGNALS = 0b11  # from version 6

_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def _call(name: str, *arguments: object) -> int:
    if _libc is None:
        raise OSError(errno.ENOSYS, f"{name} exists on Linux only")
    result = int(getattr(_libc, name)(*arguments))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")
    return result


def die_with_parent(number: signal.Signals) -> None:
    """Ask the kernel for this signal when the *thread* that started this process ends (prctl(2))."""
    if _libc is not None:
        _call("prctl", _PR_SET_PDEATHSIG, int(number), 0, 0, 0)


def forbid_new_privileges() -> None:
    """No set-uid program that this process starts gains anything. Landlock asks for it."""
    _call("prctl", _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def become_a_worker() -> None:
    """Prepare a process for having children that are not trusted.

    Other processes of its user may not read its memory or its environment, where the database's password may stand.
    What its children leave behind becomes its child instead of init's, so that it can wait for their end.
    """
    if _libc is not None:
        _call("prctl", _PR_SET_DUMPABLE, 0, 0, 0, 0)
        adopt_orphans()


def adopt_orphans() -> None:
    """Become the parent of what this process's descendants leave behind."""
    if _libc is not None:
        _call("prctl", _PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def unshare(flags: int) -> None:
    """Leave the parent's namespaces. Raises OSError where the host does not allow it."""
    _call("unshare", flags)


def process_start(pid: int) -> int | None:
    """Clock ticks since boot at which the process started (proc(5), field 22); None if there is no such process.

    A process id with its start time names one process for ever; the id alone is used again.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


def children(pid: int) -> list[int]:
    """Processes whose parent this one is (proc(5), field 4); zombies too."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended meanwhile
            if int(stat.read_bytes().rpartition(b")")[2].split()[1]) == pid:
                found.append(int(stat.parent.name))
    return found


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and of its children that it has waited for (proc(5), fields 14 to 17).

    Also of one that has ended and was not waited for; 0 if there is no such process.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def drop_capabilities() -> None:
    """Leave root's powers for good, for this thread and all it starts, apart from CAP_DAC_OVERRIDE.

    That one lets a root worker read an installation below somebody's closed home folder, and no more than root may
    read anyhow; Landlock bounds it. CAP_PERFMON, for one, would let a child read its worker's memory past Landlock.
    """
    version, override = 0x2008_0522, 1 << 1
    forbid_new_privileges()  # so that no program which root executes gets them back
    header = (ctypes.c_uint32 * 2)(version, 0)
    held = (ctypes.c_uint32 * 6)()
    _call("capget", header, held)
    effective, permitted = held[0] & override, held[1] & override
    _call("capset", header, (ctypes.c_uint32 * 6)(effective, permitted, 0, 0, 0, 0))


class Landlock:
    """A set of allowed paths; `enforce` takes everything else away from this thread and all it starts, for good.

    Raises:
        OSError: the kernel has no Landlock, or it is switched off.
    """

    def __init__(self) -> None:
        self.version = _call("syscall", _CREATE, None, ctypes.c_size_t(0), _VERSION)
        self.rights = FS_RIGHTS[min(self.version, 3)]
        attributes = [
            self.rights,
            TCP_BIND_CONNECT if self.version >= 4 else 0,
            SCOPE_ABSTRACT_SOCKETS_AND_SIGNALS if self.version >= 6 else 0,
        ]
        size = 8 * (3 if self.version >= 6 else 2 if self.version >= 4 else 1)
        buffer = (ctypes.c_uint64 * 3)(*attributes)
        self._fd = _call("syscall", _CREATE, buffer, ctypes.c_size_t(size), 0)

    @property
    def closes_truncation(self) -> bool:
        return self.version >= 3

    @property
    def closes_tcp(self) -> bool:
        return self.version >= 4

    def allow(self, path: Path, rights: int) -> None:
        """Grant rights on a file, or on a folder and all below it. A path that does not exist is passed over."""

        class Rule(ctypes.Structure):
            _pack_ = 1
            _fields_ = (("rights", ctypes.c_uint64), ("parent", ctypes.c_int32))

        try:
            fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            return
        try:
            allowed = rights & self.rights & (~0 if path.is_dir() else ON_FILES)
            _call("syscall", _ADD, self._fd, _PATH_BENEATH, ctypes.byref(Rule(allowed, fd)), 0)
        finally:
            os.close(fd)

    def enforce(self) -> None:
        forbid_new_privileges()
        _call("syscall", _RESTRICT, self._fd, 0)
        os.close(self._fd)
