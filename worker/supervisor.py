"""One job from claim to publish: the only code that holds both the database and a child.

The fence that `claim` returns is the only right to write about the job. Whatever happens here or to this process,
the job ends up published once, failed with a reason, cancelled, or queued again (docs/reliability.md).
"""

from __future__ import annotations

import errno
import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from core.profile import Profile
from core.report import Point, Report
from jobs import service
from jobs.logs import fields_bound
from jobs.problem import Problem, Refused
from jobs.queue import announce
from worker import protocol, workspace
from worker.group import Child
from worker.link import Link
from worker.pool import Pool
from worker.seal import seal
from worker.trail import Trail, follow
from worker.watch import End, watch

if TYPE_CHECKING:
    from worker.node import Node

logger = logging.getLogger(__name__)
Answer = TypeVar("Answer")
RETRY_S = 0.5
FRESH_S = 60.0  # a blob put so recently may belong to a row that is being written; the sweep takes it later
CHECKPOINT_MODELS = 8  # times the largest model: weights, two moments of each, finished points


def run_one(node: Node, pool: Pool, *, wait: bool = True) -> bool:
    """Wait for a free slot with a warm child, claim the first eligible job, run it to its end.

    A hint names no job: whichever is first by priority, fair share and age is taken.

    Args:
        wait: False returns at once where no slot is free.

    Returns:
        Whether there was a job.

    Raises:
        SQLAlchemyError: the database does not answer; nothing was claimed.
    """
    with pool.slot(node.draining, wait=wait) as slot:
        if slot is None:
            return False
        devices, looked = {*pool.devices, "auto"}, time.time()
        with node.db.sessions.begin() as s:
            limits = node.settings.quotas
            held = service.claim(
                s, node.name, node.settings.lease_s, devices=devices, engine=node.engine_id, limits=limits
            )
        if held is None:
            return False
        fields: dict[str, Any] = {"job_id": held.job_id, "request_id": held.request_id, "project": held.project_id}
        fields |= {"attempt": held.attempt, "fence": held.fence, "worker": node.name}
        with follow("job", fields, parent=held.traceparent, looked=looked, first="fetch") as trail:
            device = "cuda" if "cuda" in pool.devices else "cpu"
            _Run(node, slot.begin(), held, trail, device=device, link=pool.files_closed).go()
        return True


class _Run:
    def __init__(self, node: Node, child: Child, held: service.Claim, trail: Trail, *, device: str, link: bool) -> None:
        self.node, self.child, self.held = node, child, held
        self.device, self.hard_links = device, link
        self.uncounted_s = 0.0  # processor time, until a transaction has counted it
        self.keeping: threading.Thread | None = None  # storing a checkpoint
        self.profiling: threading.Thread | None = None  # storing what was measured
        job, fence, lease_s = held.job_id, held.fence, node.settings.lease_s
        self.link = Link(
            node.db,
            lease_s,
            renew=lambda s: service.heartbeat(s, job, fence, lease_s),
            look=lambda s: service.control(s, job, fence),
            record=lambda s, events: service.record(s, job, fence, events),
            staged=trail.stage,
        )

    def go(self) -> None:
        logger.info("%s: attempt %d, child %d", self.held.job_id, self.held.attempt, self.child.pid)
        self.link.start()
        try:
            self._settle(self._work())
        except Exception:  # a fault of ours must not leave the job hanging, nor run it for ever
            logger.exception("%s: the supervisor failed", self.held.job_id)
            self.child.end()
            self._release("lost", "The worker itself failed; its log says how.")
        finally:
            self.link.stop()

    def _work(self) -> protocol.Last | End | Problem:
        settings = self.node.settings
        try:
            with self.node.db.readers() as s:
                order = service.order(s, self.held.project_id, self.held.spec)
                left = service.checkpoints(s, self.held.job_id, self.held.fence)
                profile = service.find_profile(s, self.held.project_id, self.held.profile_key)
            store, folder = self.node.store, self.child.folder
            paths = workspace.lay_out(store, order, folder, link=self.hard_links)
            paths["checkpoints"] = workspace.lay_out_checkpoints(store, self.held.project_id, left, folder)
        except Refused as refused:
            return refused.problem
        except OSError as error:
            logger.exception("%s: the inputs cannot be laid out", self.held.job_id)
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            return Problem.of("storage_full" if full else "internal", "the inputs cannot be laid out", retryable=full)
        spec = self.held.spec
        wanted = spec["resources"]["device"]
        asked = {name: spec[name] for name in ("task", "metric", "recipe", "target", "ladder", "preset", "seed")}
        asked |= {"columns": spec["data"]["columns"], "threads": settings.threads}
        asked |= {"profile": profile and profile.model_dump(mode="json"), "dry_run": spec.get("dry_run", False)}
        asked["device"] = self.device if wanted == "auto" else wanted
        asked |= {"outputs": spec.get("outputs", [])}  # specs of before have none
        asked |= {"used_s": self.held.used_s, "checkpoint_s": settings.checkpoint_s}
        self.child.order({"kind": "compress", "spec": {**paths, **asked}, "log": fields_bound()})
        limit_s = spec["limits"]["max_runtime_s"]
        runtime_s = None if limit_s is None else limit_s - self.held.used_s
        return watch(
            self.child, self.link, self.node.draining,
            lease_s=settings.lease_s, runtime_s=runtime_s, keep=self._keep,
        )  # fmt: skip

    def _keep(self, said: protocol.Kept) -> None:
        """Store a checkpoint while watching goes on: gigabytes must not delay a cancel. One too soon is left."""
        if isinstance(said, protocol.Profiled):
            if self.profiling is not None:
                return  # a child measures once
            self.profiling = threading.Thread(target=self._store_profile, args=(said,), name="profile", daemon=True)
            self.profiling.start()
        elif self.keeping is None or not self.keeping.is_alive():
            self.keeping = threading.Thread(target=self._store, args=(said,), name="checkpoint", daemon=True)
            self.keeping.start()

    def _store_profile(self, said: protocol.Profiled) -> None:
        """The job goes on without where this fails."""
        try:
            profile = Profile.model_validate(said.profile, strict=False).model_dump(mode="json")
        except ValidationError as error:
            logger.warning("%s: a profile is not kept: %s", self.held.job_id, error)
            return
        self._write(lambda s: service.keep_profile(s, self.held.job_id, self.held.fence, profile))

    def _store(self, said: protocol.Checkpoint) -> None:
        """The job goes on without a checkpoint where this fails."""
        held, store, most = self.held, self.node.store, CHECKPOINT_MODELS * self.node.settings.max_model_bytes
        began = time.monotonic()
        try:
            files = workspace.collect_checkpoint(store, held.project_id, self.child.folder / "out", said, most)
            with self.node.db.sessions.begin() as s:
                service.count(s, "checkpoint_seconds", by=time.monotonic() - began)
                gone = service.keep_checkpoint(s, held.job_id, held.fence, files)
        except (workspace.OutputRefusedError, Refused, SQLAlchemyError) as error:
            logger.warning("%s: a checkpoint is not kept: %s", held.job_id, error)
            return
        for sha256 in gone or ():
            store.delete_stale(held.project_id, sha256, FRESH_S)

    def _settle(self, outcome: protocol.Last | End | Problem) -> None:
        """End the group, then write down what became of the job."""
        job, fence = self.held.job_id, self.held.fence
        if self.keeping is not None and outcome in (End.DIED, End.DRAINED, End.PAUSED):
            self.keeping.join(self.node.settings.lease_s)  # the next attempt will want it
        gentle = outcome in (End.CANCELLED, End.PAUSED, End.DRAINED, End.TIMEOUT)
        code = self.child.end(self.node.settings.kill_grace_s if gentle else 0)
        logger.info("%s: %s, exit code %d", job, outcome if isinstance(outcome, End) else type(outcome).__name__, code)
        self.uncounted_s = self.child.cpu_s
        match outcome:
            case protocol.Result():
                self._publish(outcome)
            case protocol.Failed():
                self._fail(self._problem(outcome))
            case Problem():
                self._fail(outcome)
            case End.CANCELLED:
                self._write(lambda s: service.finish_cancel(s, job, fence))
            case End.TIMEOUT:
                detail = f"the job ran longer than limits.max_runtime_s = {self.held.spec['limits']['max_runtime_s']:g}"
                self._fail(Problem.of("timeout", detail, param="/limits/max_runtime_s"))
            case End.PAUSED | End.DRAINED:
                self._release("drained", "")
            case End.DIED:
                detail = f"Exit code {code}. The end of its log:\n{self.child.log_tail()}"
                self._release("lost", detail)
            case End.STALE:
                logger.warning("%s: fence %d is lost; its result is thrown away", job, fence)
            case _:
                self._fail(Problem.of("internal", "the child ended a compression with a verdict"))

    def _publish(self, result: protocol.Result) -> None:
        held, settings, store = self.held, self.node.settings, self.node.store
        key = self.node.signing_key()
        try:
            dry = held.spec.get("dry_run", False)  # specs of before have none
            report = None if dry else Report.model_validate(result.report, strict=False)
            delivered = [] if dry else result.points
            reports = [Point.model_validate(each.report, strict=False) for each in delivered]
            out, forms = self.child.folder / "out", 2 + len(held.spec.get("outputs", []))
            most = forms * settings.max_model_bytes
            files = [workspace.collect(store, held.project_id, out, point, most) for point in delivered]
            for each in files:
                each.append(seal(store, held.project_id, each, key))
        except Refused as refused:
            self._fail(refused.problem)
            return
        except (ValidationError, workspace.OutputRefusedError) as error:
            logger.error("%s: the child's result is refused: %s", held.job_id, error)  # noqa: TRY400 - its own fault
            self._fail(Problem.of("internal", f"the engine's result is not in order: {str(error)[:1_000]}"))
            return
        points = [
            service.PublishedPoint(each, point.model_dump(mode="json"), settings.keep_artifacts_s)
            for each, point in zip(files, reports, strict=True)
        ]
        if self.profiling is not None:
            self.profiling.join(settings.lease_s)  # a dry run is made for it
        self.link.stop()  # its last events come before the end of the job
        whole = None if report is None else report.model_dump(mode="json")

        def publish(s: Session) -> bool:
            if points:
                service.register_signing_key(s, key)  # nobody sees a signature before its key
            return service.publish(s, held.job_id, held.fence, whole, points)

        if self._write(publish):
            return
        # Refused, or done by a commit whose answer was lost, or cancelled in the last moment.
        if self._write(lambda s: service.published(s, held.job_id, held.fence)):
            return
        if self._write(lambda s: service.finish_cancel(s, held.job_id, held.fence)):
            return
        logger.warning("%s: fence %d is stale; its result is thrown away", held.job_id, held.fence)

    def _problem(self, failed: protocol.Failed) -> Problem:
        problem = Problem.from_error(failed.model_dump(exclude={"type"}))
        if problem.code == "internal":
            return Problem.of("internal", f"{problem.detail}\nThe end of the log:\n{self.child.log_tail()}")
        return problem

    def _fail(self, problem: Problem) -> None:
        job, fence = self.held.job_id, self.held.fence
        self.link.stop()
        # False where the user cancelled in the same moment: then the job is cancelled.
        if self._write(lambda s: service.fail(s, job, fence, problem)) is False:
            self._write(lambda s: service.finish_cancel(s, job, fence))

    def _release(self, reason: Literal["lost", "drained"], detail: str) -> None:
        job, fence, most = self.held.job_id, self.held.fence, self.node.settings.max_attempts
        self.link.stop()
        self._write(lambda s: service.release(s, job, fence, reason, max_attempts=most, detail=detail))
        announce(self.node.settings, "job")

    def _write(self, action: Callable[[Session], Answer]) -> Answer | None:
        """Run a last transaction, again and again while the database does not answer, for a lease at most.

        Every action is guarded by the fence and the state, so a repetition after a commit whose answer was lost
        changes nothing. None: given up; the reconciler finds the expired lease.
        """
        deadline = time.monotonic() + self.node.settings.lease_s
        while True:
            try:
                with self.node.db.sessions.begin() as s:
                    if self.uncounted_s:
                        service.count(s, "cpu_seconds", by=self.uncounted_s)
                    answer = action(s)
                self.uncounted_s = 0.0
                return answer  # noqa: TRY300
            except SQLAlchemyError as error:
                logger.warning("%s: the database does not answer: %s", self.held.job_id, type(error).__name__)
                if time.monotonic() > deadline:
                    return None
                time.sleep(RETRY_S)
