"""How long refusals take: `python -m tests.corpus.table` submits every broken submission and prints what came back.

With `hostile` those that are made to do harm, large ones too.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from jobs.db import upgrade
from jobs.settings import Settings
from tests.corpus.broken import BROKEN
from tests.corpus.desk import desk
from tests.corpus.hostile import HEAVY, HOSTILE


def main() -> None:
    """One line a submission: seconds are those of the answer that refuses a job, 0 where an upload was refused."""
    cases = {**HOSTILE, **HEAVY} if "hostile" in sys.argv[1:] else BROKEN
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(data_dir=Path(folder))
        upgrade(settings)
        slowest = 0.0
        print("| submission | status | code | pointer | seconds |\n| --- | --- | --- | --- | --- |")
        with desk(settings) as open_:
            open_.submit()  # so that the first one does not wait for the worker's start
            for name, case in cases.items():
                answer = case.send(open_)
                found = answer.json()
                slowest = max(slowest, open_.seconds)
                pointer = found["param"] or ""
                print(f"| {name} | {found['status']} | `{found['code']}` | `{pointer}` | {open_.seconds:.2f} |")
        print(f"\n{len(cases)} submissions; the slowest refusal took {slowest:.2f} s")


if __name__ == "__main__":
    main()
