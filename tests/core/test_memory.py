"""What memory there is, and what becomes of work that needs more."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.memory import by_halves, host_bytes, machine_bytes, out_of_memory


def groups(folder: Path, own: str, limits: dict[str, str]) -> int:
    """`machine_bytes` where the kernel's files say this."""
    for path, text in limits.items():
        file = folder / "cgroup" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n")
    (folder / "own").write_text(own)
    return machine_bytes(folder / "cgroup", folder / "own")


@pytest.mark.parametrize(
    ("own", "limits", "bytes_"),
    [
        ("0::/\n", {"memory.max": "5000"}, 5000),  # a container, version 2
        ("0::/a/b\n", {"a/memory.max": "7000", "a/b/memory.max": "max"}, 7000),  # a unit inside a slice
        ("0::/a/b\n", {"a/memory.max": "7000", "a/b/memory.max": "6000"}, 6000),
        ("9:memory:/docker/x\n3:cpu:/\n", {"memory/docker/x/memory.limit_in_bytes": "4000"}, 4000),  # version 1
        ("9:memory:/host/only\n", {"memory/memory.limit_in_bytes": "3000"}, 3000),  # its path is one of the host
    ],
)
def test_a_containers_limit_counts(tmp_path: Path, own: str, limits: dict[str, str], bytes_: int) -> None:
    assert groups(tmp_path, own, limits) == bytes_


def test_without_a_limit_it_is_the_machines(tmp_path: Path) -> None:
    """No process may hold more."""
    machine = groups(tmp_path, "0::/\n", {"memory.max": "max"})
    assert machine == machine_bytes(tmp_path / "none", tmp_path / "none") >= machine_bytes() >= host_bytes() > 2**28


@given(st.lists(st.integers(), min_size=1, max_size=40), st.integers(1, 40))
def test_what_does_not_fit_is_done_by_halves_each_once_and_in_order(given_: list[int], room: int) -> None:
    asked: list[int] = []

    def run(some: object) -> list[int]:
        assert isinstance(some, list)
        asked.append(len(some))
        if len(some) > room:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
        return [2 * one for one in some]

    with mock.patch("core.memory.free_cache"):
        found = list(by_halves(given_, run))
    assert [one for part, _ in found for one in part] == given_
    assert [one for _, part in found for one in part] == [2 * one for one in given_]
    assert len(asked) <= 2 * len(given_)


def test_one_that_does_not_fit_and_another_fault_are_raised() -> None:
    for error in (MemoryError(), RuntimeError("CUDA error: out of memory"), RuntimeError("shapes differ")):

        def run(_: object, error: Exception = error) -> None:
            raise error

        assert out_of_memory(error) == ("shapes" not in str(error))
        with pytest.raises(type(error)):
            list(by_halves([1], run))
