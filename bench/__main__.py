"""`make bench DATA=folder TEACHER=folder`: every graded row that is missing or out of date, then the table.

DATA holds train.parquet and validation.parquet (and test.parquet) with columns text and label; TEACHER is a
Transformers directory fine-tuned on it. The service is started for it, in its embedded form, and stopped afterwards.
"""

from __future__ import annotations

import argparse
import os
from collections import defaultdict
from pathlib import Path
from tempfile import TemporaryDirectory

from ladapress.client import Client

from bench import graded, tables
from bench.baselines import BASELINES
from bench.peers import PEERS
from bench.rows import Row
from bench.systems import ROWS, SYSTEMS, prepare
from demo.service import embedded

FILES = {**BASELINES, **PEERS}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--systems", nargs="+", default=["int8", "hybrid", "ladabert"], choices=[*FILES, *SYSTEMS])
    parser.add_argument("--seeds", nargs="+", type=int, default=(0,))
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="of the worker")
    given = parser.parse_args()
    rows: list[Row] = []
    with TemporaryDirectory(prefix="bench-") as folder:
        scratch = Path(folder)
        with embedded(scratch / "service", {"LADAPRESS_THREADS": str(given.threads)}) as url, Client(url) as client:
            for seed in given.seeds:
                for name in given.systems:
                    if name in FILES:
                        task = prepare(given.data, scratch, seed, ROWS)
                        rows.append(graded.run_file(name, FILES[name], given.teacher, task, seed, scratch))
                    else:
                        task = prepare(given.data, scratch, seed, SYSTEMS[name].rows)
                        rows += graded.run(client, given.teacher, task, SYSTEMS[name], seed, scratch)
    systems: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        systems[row["system"]].append(row)
    print(tables.graded(systems))


if __name__ == "__main__":
    main()
