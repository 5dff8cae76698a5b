"""One inspection from claim to verdict, in a child with limits of its own.

Whatever a file does to the child, the answer is a verdict: a crash or a limit reached refuses the files, and is
never tried again. Only the loss of this worker is (by the reconciler, at most three times).
"""

from __future__ import annotations

import logging
import signal
import time
from typing import TYPE_CHECKING, Any

from core.errors import as_finding
from jobs import service
from jobs.logs import fields_bound
from jobs.problem import Refused
from jobs.queue import announce
from jobs.service import Control
from jobs.settings import Settings
from worker import protocol, workspace
from worker.group import Child
from worker.link import Link
from worker.pool import Pool
from worker.trail import follow
from worker.watch import End, watch

if TYPE_CHECKING:
    from worker.node import Node

logger = logging.getLogger(__name__)
SAMPLE_READ_S = 0.1  # so long somebody who waits for the slot waits for a teacher's sample to be given up
WALL_PER_CPU = 8  # an inspection that only waits ends too; a busy machine must not end an honest one
_CPU_LIMIT_CODE, _KILLED_CODE = 128 + signal.SIGXCPU, 128 + signal.SIGKILL


def inspect_one(node: Node, pool: Pool, *, wait: bool = True) -> bool:
    """Wait for the interactive slot, claim the oldest inspection, store its verdict. As `supervisor.run_one`."""
    with pool.slot(node.draining, wait=wait) as slot:
        if slot is None:
            return False
        lease_s, looked = node.settings.lease_s, time.time()
        with node.db.sessions.begin() as s:
            held = service.claim_inspection(s, node.name, lease_s)
        if held is None:
            return False
        fields: dict[str, Any] = {
            "inspection_id": held.inspection_id,
            "request_id": held.request_id,
            "project": held.project_id,
        }
        fields |= {"attempt": held.attempt, "fence": held.fence, "worker": node.name}
        with follow("inspection", fields, parent=held.traceparent, looked=looked):
            _inspect(node, slot.begin(), held, hard_links=pool.files_closed)
        return True


def _inspect(node: Node, child: Child, held: service.InspectionClaim, *, hard_links: bool) -> None:
    insp, fence, lease_s = held.inspection_id, held.fence, node.settings.lease_s
    link = Link(node.db, lease_s, renew=lambda s: _renew(s, insp, fence, lease_s))
    link.start()
    try:
        verdict = _judge(node, child, held, link, hard_links=hard_links)
    except Exception:  # a fault of ours: let the lease run out, so that attempts are counted
        logger.exception("%s: the supervisor failed", insp)
        return
    finally:
        link.stop()
    with node.db.sessions.begin() as s:
        if verdict is End.DRAINED:
            service.release_inspection(s, insp, fence)
        elif isinstance(verdict, dict):
            service.finish_inspection(s, insp, fence, verdict)
    ok = verdict.get("ok") if isinstance(verdict, dict) else None
    logger.info("inspection done", extra={"ok": ok, "ended": None if ok is not None else str(verdict)})
    announce(node.settings, "inspection" if verdict is End.DRAINED else "job")
    if isinstance(verdict, dict) and verdict["ok"] and held.spec.get("sample"):
        _sample(node, child, held)


def _sample(node: Node, child: Child, held: service.InspectionClaim) -> None:
    """Wait for what the child says of the teacher, for as long as nobody needs the slot."""
    ends = time.monotonic() + WALL_PER_CPU * node.settings.inspect_cpu_s
    while time.monotonic() < ends and not node.draining.is_set() and not child.finished():
        for event in child.read(SAMPLE_READ_S):
            if isinstance(event, protocol.Sampled):
                with node.db.sessions.begin() as s:
                    service.add_findings(s, held.inspection_id, held.fence, event.findings)
                return
        with node.db.readers() as s:
            if service.inspection_waits(s):
                return
    logger.info("%s: the teacher was not sampled: %s", held.inspection_id, child.log_tail()[-500:])


def _renew(s: Any, inspection_id: str, fence: int, lease_s: float) -> Control | None:
    held = service.heartbeat_inspection(s, inspection_id, fence, lease_s)
    return Control(cancel=False, pause=False) if held else None


def _judge(
    node: Node, child: Child, held: service.InspectionClaim, link: Link, *, hard_links: bool
) -> dict[str, Any] | End:
    """The verdict as JSON; DRAINED or STALE where there is none."""
    settings, spec = node.settings, held.spec
    try:
        with node.db.readers() as s:
            order = service.order(s, held.project_id, spec)
    except Refused as refused:
        fields = refused.problem
        return _bad(fields.code, fields.detail, param=fields.param, retryable=fields.retryable)
    paths = workspace.lay_out(node.store, order, child.folder, link=hard_links)
    asked = {"task": spec["task"], "metric": spec["metric"], "columns": spec["data"]["columns"]}
    asked["sample"] = bool(spec.get("sample"))
    child.order({"kind": "inspect", "spec": {**paths, **asked}, "log": fields_bound()})
    wall_s = WALL_PER_CPU * settings.inspect_cpu_s
    outcome = watch(child, link, node.draining, lease_s=settings.lease_s, runtime_s=wall_s)
    if isinstance(outcome, protocol.Verdict):
        return outcome.verdict.model_dump(mode="json")
    code = child.end()
    if outcome in (End.STALE, End.DRAINED):
        return outcome
    logger.warning("%s: no verdict, exit code %d: %s", held.inspection_id, code, child.log_tail())
    return _refusal(outcome, code, settings)


def _refusal(outcome: protocol.Last | End, code: int, settings: Settings) -> dict[str, Any]:
    """The verdict on files that kept the child from giving one."""
    match outcome:
        case protocol.Failed(code="out_of_memory"):
            refusal = _too_much(
                f"more bytes of memory than files of their size may take, {settings.inspect_memory_bytes} at most"
            )
        case protocol.Failed(code="internal") | protocol.Result() | protocol.Sampled():
            refusal = _bad("internal", "the inspection itself failed", retryable=True)
        case protocol.Failed():
            refusal = _bad(outcome.code, outcome.detail, param=outcome.param, retryable=outcome.retryable)
        case End.TIMEOUT:
            refusal = _too_much(f"more than {WALL_PER_CPU * settings.inspect_cpu_s:g} seconds")
        case End.DIED if code == _CPU_LIMIT_CODE:
            refusal = _too_much(f"more than {settings.inspect_cpu_s:g} CPU-seconds")
        case End.DIED if code == _KILLED_CODE:  # by the kernel's memory killer or a person, not by what it read
            refusal = _bad("worker_lost", "the inspecting process was killed from outside", retryable=True)
        case _:
            refusal = _bad("model_invalid", f"reading the files ended the inspecting process (exit code {code})")
    return refusal


def _too_much(what: str) -> dict[str, Any]:
    return _bad(
        "data_invalid",
        f"reading the model and the data took {what}, the limit of an inspection",
        finding="limit_reached",
    )


def _bad(
    code: str, detail: str, *, param: str | None = None, retryable: bool = False, finding: str | None = None
) -> dict[str, Any]:
    errors = [] if finding is None else [as_finding(finding, detail, param)]
    fault = protocol.Fault(code=code, detail=detail, param=param, errors=errors, retryable=retryable)
    return protocol.Judgement(ok=False, error=fault).model_dump(mode="json")
