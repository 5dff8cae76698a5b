"""`python -m worker.checkup`: what a worker finds on this machine, one JSON object a line. For `ladapress doctor`.

The walls are raised for good, as a child raises them around the folder that it is started in, so this process is good
for nothing else afterwards.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

from jobs.checkup import Finding
from jobs.settings import Settings
from worker import sandbox

FEW_BYTES = 2 * 2**30  # a small BERT's job holds less


def main() -> None:
    """Print the findings."""
    settings = Settings()
    for check in (_device, _threads, _memory, _walls):
        for finding in check(settings):
            print(json.dumps(finding.as_json()), flush=True)


def _device(_settings: Settings) -> Iterator[Finding]:
    import torch

    build = f"torch {torch.__version__}"
    if not torch.cuda.is_available():
        if torch.version.cuda is not None:
            yield Finding("device", "warn", f"{build} is built for CUDA, but finds no device", "nvidia-smi; driver")
        else:
            yield Finding("device", "ok", f"{build}, CPU only")
        return
    for number in range(torch.cuda.device_count()):
        of = torch.cuda.get_device_properties(number)
        yield Finding("device", "ok", f"{build}, cuda:{number} {of.name}, {of.total_memory / 2**30:.0f} GiB")


def _threads(settings: Settings) -> Iterator[Finding]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    busy = settings.threads * settings.device_slots
    text = f"{settings.device_slots} jobs at once with {settings.threads} threads each on {cores} cores"
    if busy > cores:
        remedy = "lower LADAPRESS_THREADS or LADAPRESS_DEVICE_SLOTS: their product should not pass the cores"
        yield Finding("threads", "warn", text, remedy)
    else:
        yield Finding("threads", "ok", text)


def _memory(settings: Settings) -> Iterator[Finding]:
    each = sandbox.job_bytes(settings)
    text = f"{each / 2**30:.1f} GiB for each of {settings.device_slots} jobs at once"
    if each < FEW_BYTES:
        remedy = "lower LADAPRESS_DEVICE_SLOTS, or raise LADAPRESS_JOB_MEMORY_BYTES or the container's limit"
        yield Finding("memory", "warn", text, remedy)
    else:
        yield Finding("memory", "ok", text)


def _walls(_settings: Settings) -> Iterator[Finding]:
    namespace = sandbox.close_network()
    files, tcp = sandbox.close_files(Path.cwd())
    by = "a namespace of its own" if namespace else "Landlock (TCP)"
    if namespace or tcp:
        yield Finding("walls", "ok", f"jobs have no network: {by}")
    else:
        remedy = "allow user namespaces, or a kernel with Landlock 4 (Linux 6.7)"
        yield Finding("walls", "warn", "jobs are not kept from the network here", remedy)
    if os.geteuid() == 0:
        yield Finding(
            "walls",
            "warn",
            "the worker is root: jobs have none of its powers, but its user",
            "give it a user of its own",
        )
    if files:
        yield Finding("walls", "ok", "jobs read their libraries and their own folder, and write that alone: Landlock")
    else:
        remedy = "a kernel with Landlock 3 (Linux 6.2), not switched off"
        yield Finding("walls", "warn", "jobs may read what the worker's user may read", remedy)


if __name__ == "__main__":
    main()
