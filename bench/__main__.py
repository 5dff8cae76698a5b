"""`make bench DATA=folder TEACHER=folder`: every graded row that is missing or out of date, then the table.

DATA holds train.parquet and validation.parquet (and test.parquet) with columns text and label; TEACHER is a
Transformers directory fine-tuned on it. The service is started for it, in its embedded form, and stopped afterwards.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ladapress.client import Client

from bench import graded
from demo.service import embedded

SYSTEMS = ("ladabert-1", "ladabert-2", "ladabert-3", "ladabert-4")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--systems", nargs="+", default=SYSTEMS, metavar="PRESET")
    parser.add_argument("--seeds", nargs="+", type=int, default=(0,))
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="of the worker")
    given = parser.parse_args()
    rows = []
    with TemporaryDirectory(prefix="bench-") as folder:
        scratch = Path(folder)
        with embedded(scratch / "service", {"LADAPRESS_THREADS": str(given.threads)}) as url, Client(url) as client:
            for seed in given.seeds:
                task = graded.prepare(given.data, scratch, seed)
                rows += [graded.run(client, given.teacher, task, name, seed, scratch) for name in given.systems]
    print(table(rows))


def table(rows: list[dict[str, Any]]) -> str:
    """Rows as Markdown, the way README shows them."""
    head = "| system | seed | parameter_ratio | bytes_ratio | teacher | student | retention | latency_ratio | CPU-s |"
    lines = [head, "|---" * 9 + "|"]
    for row in rows:
        point = row["report"]["point"]
        lines.append(
            f"| {row['system']} | {row['seed']} | {point['parameter_ratio']:.2f} | {point['bytes_ratio']:.2f} "
            f"| {point['teacher']:.4f} | {point['student']:.4f} | {100 * point['retention']:.1f} % "
            f"| {point['latency_ratio']:.2f} | {row['cpu_s']:.0f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
