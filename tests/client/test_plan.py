"""`ladapress plan`: waits for a dry run, ends when one fails, leaves none behind when it is interrupted."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ladapress import compress
from ladapress.compress import DRY_RUNS, Order, ask
from ladapress.display import Display
from ladapress.errors import LadapressError
from ladapress.types import Job, Plan


class Service:
    """Plans that wait for a dry run, `needed` of them; each ends in `status`."""

    def __init__(self, status: str, needed: int) -> None:
        self.status, self.needed, self.asked, self.cancelled = status, needed, 0, 0
        self.plans = SimpleNamespace(ask=self.ask)
        self.jobs = SimpleNamespace(get=self.get, cancel=self.cancel)

    def ask(self, _request: dict[str, Any]) -> Plan:
        self.asked += 1
        done = self.asked > self.needed
        status: Any = "done" if done else "profiling"
        job = None if done else f"job_{self.asked}"
        return Plan.model_construct(status=status, job_id=job, points=[])

    def get(self, job_id: str) -> Job:
        status: Any = self.status
        return Job.model_construct(id=job_id, status=status, error=None, points=[])

    def cancel(self, job_id: str) -> Job:
        self.cancelled, self.status = self.cancelled + 1, "cancelled"
        return self.get(job_id)


@pytest.fixture(autouse=True)
def _no_uploads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Order, "check", lambda _self: None)
    monkeypatch.setattr(compress, "check_names", lambda _client, _order: None)
    monkeypatch.setattr(compress, "upload", lambda *_: {})


def planned(service: Any, monkeypatch: pytest.MonkeyPatch, interrupt: bool = False) -> Plan:
    def watch(client: Any, job_id: str, _display: Display) -> Job:
        if interrupt:
            raise KeyboardInterrupt
        job: Job = client.jobs.get(job_id)
        return job

    monkeypatch.setattr(compress, "watch", watch)
    return ask(service, Order(model=Path(), data={}), Display())


def test_one_dry_run_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service("succeeded", needed=1)
    assert planned(service, monkeypatch).status == "done"
    assert (service.asked, service.cancelled) == (2, 0)


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_a_dry_run_that_did_not_succeed_ends_the_command(status: str, monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service(status, needed=9)
    with pytest.raises(LadapressError, match="job_1"):
        planned(service, monkeypatch)
    assert service.asked == 1


def test_dry_runs_that_leave_nothing_are_not_repeated_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service("succeeded", needed=99)
    with pytest.raises(LadapressError, match="no profile"):
        planned(service, monkeypatch)
    assert service.asked == DRY_RUNS + 1


def test_an_interrupt_cancels_the_dry_run(monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service("running", needed=9)
    with pytest.raises(KeyboardInterrupt):
        planned(service, monkeypatch, interrupt=True)
    assert service.cancelled == 1
