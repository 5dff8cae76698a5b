"""`python -m worker` with the fake engine, and a note of every publish that the database took.

CHAOS_NOTES: the file of notes, a JSON line each. CHAOS_UNFENCED=1: the negative control, a service without fences,
in which whoever is done publishes under the fence of whoever holds the job. CHAOS_CLOCK: seconds by which this
machine's clock is wrong.
"""

import json
import os
import sys
import time
from pathlib import Path

if wrong := float(os.environ.get("CHAOS_CLOCK", "0")):  # before anybody takes the function by its name
    right = time.time
    time.time = lambda: right() + wrong

sys.path.insert(0, str(Path(__file__).parents[2]))

from sqlalchemy import event, select

from jobs import service
from jobs.tables import Job
from tests.worker import start  # noqa: F401 - the fake engine
from worker.__main__ import main

UNDER_A_FENCE = (
    "publish", "published", "heartbeat", "control", "record", "keep_checkpoint", "fail", "release", "finish_cancel",
)  # fmt: skip


def unfenced(call):
    """The same, under whatever fence the job has now."""

    def wrapped(s, job_id, fence, *rest, **more):
        now = s.scalars(select(Job.fence).where(Job.id == job_id)).one_or_none()
        return call(s, job_id, fence if now is None else now, *rest, **more)

    return wrapped


def noted(publish):
    """The same; a note of the holder's own fence when it was committed."""

    def wrapped(s, job_id, fence, *what):
        def note(_session):
            with Path(os.environ["CHAOS_NOTES"]).open("a") as notes:
                notes.write(json.dumps({"job": job_id, "fence": fence}) + "\n")

        taken = publish(s, job_id, fence, *what)
        if taken:
            event.listen(s, "after_commit", note, once=True)
        return taken

    return wrapped


if os.environ.get("CHAOS_UNFENCED"):
    for name in UNDER_A_FENCE:
        setattr(service, name, unfenced(getattr(service, name)))
service.publish = noted(service.publish)

if __name__ == "__main__":
    sys.exit(main(command=(sys.executable, __file__)))
