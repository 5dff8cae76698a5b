"""How much memory there is for a job, and whether an exception says that there was too little. No torch at import."""

from __future__ import annotations

import ctypes
import os
import resource
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import torch

# Sentences of torch, CUDA, ONNX Runtime, libstdc++ and oneDNN (which has no room for code that it makes at run time)
# for the same thing; they come as plain RuntimeErrors.
_SAID = (
    *("out of memory", "can't allocate memory", "not enough memory", "failed to allocate memory", "bad_alloc"),
    *("could not create a primitive", "could not create a memory object"),
)
Given = TypeVar("Given")
Found = TypeVar("Found")
# From the first failure on, blocks of this size are mapped one by one: slower, and given back when they are freed.
_M_MMAP_THRESHOLD, _MAPPED_BYTES = -3, 1 << 18
_GROUPS = Path("/sys/fs/cgroup")


def out_of_memory(error: BaseException) -> bool:
    """Whether an exception of any library says that memory ran out."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _SAID)


def says_out_of_memory(words: str) -> bool:
    """The same of the last words of a process."""
    found = words.lower()
    return "memoryerror" in found or "memory allocation" in found or any(said in found for said in _SAID)


def machine_bytes(groups: Path = _GROUPS, own: Path = Path("/proc/self/cgroup")) -> int:
    """The memory of the machine, or of the container, if that is less.

    Of control groups (versions 1 and 2) the one that this process is in counts, and all above it.
    """
    return min([os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), *_of_groups(groups, own)])


def host_bytes() -> int:
    """What this process may hold of it: all, or what its own limits say."""
    limits = (resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_DATA, resource.RLIMIT_AS))
    return min([machine_bytes(), *(limit for limit in limits if limit != resource.RLIM_INFINITY)])


def _of_groups(groups: Path, own: Path) -> Iterator[int]:
    try:
        lines = own.read_text(encoding="ascii").splitlines()
    except OSError:  # not Linux
        return
    for line in lines:
        _, kinds, path = line.split(":", 2)
        if kinds not in ("", "memory"):
            continue
        root, name = (groups / kinds, "memory.limit_in_bytes") if kinds else (groups, "memory.max")
        folder = root / path.lstrip("/")
        for each in (folder, *folder.parents):
            if each.is_relative_to(root):
                yield from _number(each / name)


def _number(file: Path) -> Iterator[int]:
    """ "max" is no limit. In a container the path of the group may be one of the host's, which is not there."""
    try:
        text = file.read_text(encoding="ascii").strip()
    except OSError:
        return
    if text.isdecimal():
        yield int(text)


def free_bytes(device: torch.device) -> int:
    """What this process may still take there. Of the host: of `host_bytes` what it does not hold itself, so that a
    job runs the same way whatever runs beside it."""
    if device.type != "cuda":
        return max(0, host_bytes() - _held_bytes())
    import torch  # noqa: PLC0415 - inspections do without

    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(torch.cuda.mem_get_info(device)[0]) + unused


def _held_bytes() -> int:
    """Of memory, by this process alone; files that it maps, as recorded answers, the kernel takes away when it must."""
    try:
        _, resident, shared = Path("/proc/self/statm").read_text(encoding="ascii").split()[:3]
    except OSError:  # not Linux
        return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return (int(resident) - int(shared)) * os.sysconf("SC_PAGE_SIZE")


def by_halves(
    given: Sequence[Given], run: Callable[[Sequence[Given]], Found]
) -> Iterator[tuple[Sequence[Given], Found]]:
    """What `run` gives for these; for the halves of them, and so on, where there is no memory for all at once."""
    try:
        found = run(given)
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error) or len(given) == 1:
            raise
        half = len(given) // 2
    else:
        yield given, found
        return
    # Only here, where the exception is gone, nothing holds what it had taken.
    free_cache()
    yield from by_halves(given[:half], run)
    yield from by_halves(given[half:], run)


def free_cache() -> None:
    """Give back what a failed attempt left, the stores of freed memory of device and allocator included."""
    from accelerate.utils.memory import clear_device_cache  # noqa: PLC0415 - brings torch

    clear_device_cache(garbage_collection=True)
    with suppress(AttributeError, OSError):  # glibc: its heap keeps holes, which count as held
        libc = ctypes.CDLL(None)
        libc.malloc_trim(0)
        libc.mallopt(_M_MMAP_THRESHOLD, _MAPPED_BYTES)
