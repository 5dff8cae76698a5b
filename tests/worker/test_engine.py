"""What a child says of an exception: the user's or the operator's business is named, everything else is our fault."""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest
from safetensors import SafetensorError

from core.errors import CompressionError
from worker import engine


def no_room_for_bytes() -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def no_room_for_weights() -> None:
    """As `save_file` says it; a full disk of its own takes root (tests/chaos/test_disk_full.py)."""
    raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")


def no_memory() -> None:
    bytearray(1 << 60)


def no_device_memory() -> None:
    raise RuntimeError("CUDA error: out of memory")


def a_fault() -> None:
    raise RuntimeError("shapes do not match")


@pytest.mark.parametrize(
    ("work", "code"),
    [
        (no_room_for_bytes, "storage_full"),
        (no_room_for_weights, "storage_full"),
        (no_memory, "out_of_memory"),
        (no_device_memory, "out_of_memory"),
        (a_fault, None),
    ],
)
def test_what_somebody_can_act_upon_has_a_code_of_its_own(work: Callable[[], None], code: str | None) -> None:
    """By whatever library it was raised."""
    with pytest.raises(Exception) as caught:
        work()
    failed = engine.as_failure(caught.value)
    assert (failed and failed["code"]) == code


def test_an_error_of_the_compression_keeps_its_code() -> None:
    error = CompressionError("no such layer")
    assert (engine.as_failure(error) or {})["code"] == error.code
