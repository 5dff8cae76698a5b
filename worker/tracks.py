"""Streaming curves of running jobs to MLflow servers, beside the pushes and as apart from the work as those.

It reads events from the database, so a job neither knows of it nor waits; a server that is away gets later what it has
missed. Calls are small and bounded in time, so no process of their own is needed; see `worker.pushes` for the token.
"""

from __future__ import annotations

import logging
import threading

from sqlalchemy.exc import SQLAlchemyError

from jobs import service
from jobs.db import connect
from jobs.problem import Problem, Refused
from jobs.registries import Registries
from jobs.requests import TrackRequest
from jobs.settings import Settings

logger = logging.getLogger(__name__)
LEASE_S = 300.0  # of one batch: some calls of at most a minute each


class Tracker:
    """Sends what is due, until told to stop."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._registries = Registries.load(settings)
        self._db = connect(settings)

    def start(self, stop: threading.Event) -> threading.Thread:
        """Look every tick, in a thread of its own."""
        thread = threading.Thread(target=self._run, args=(stop,), name="tracker", daemon=True)
        thread.start()
        return thread

    def _run(self, stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                if self.track_one():
                    continue
            except SQLAlchemyError as error:
                logger.warning("no job could be tracked, the database does not answer: %s", type(error).__name__)
            except Exception:
                logger.exception("tracking failed here; its lease will run out")
            stop.wait(self._settings.tick_s)
        self._db.dispose()

    def track_one(self) -> bool:
        """Send the batch that is due longest; whether there was one."""
        settings = self._settings
        with self._db.sessions.begin() as s:
            due = service.claim_track(s, LEASE_S)
        if due is None:
            return False
        outcome = self._send(due)
        with self._db.sessions.begin() as s:
            if isinstance(outcome, str):
                service.kept_track(s, due, outcome)
                return True
            service.fail_track(s, due, outcome, retry_s=settings.push_retry_s, give_up_s=settings.push_give_up_s)
        registry = due.track["registry"]
        logger.warning("%s is not tracked at %s now: %s", due.job_id, registry, outcome.detail)
        return True

    def _send(self, due: service.Due) -> str | Problem:
        """The run's id, or what went wrong."""
        from worker.registries.mlflow import connect as reach
        from worker.registries.mlflow_runs import send
        from worker.registries.order import failure

        asked = TrackRequest.model_validate(due.track)
        try:
            registry = self._registries.tracker(due.project_id, asked)  # the operator may have changed his mind
            token = None if registry.token_file is None else registry.token_file.read_text(encoding="ascii").strip()
        except Refused as refused:
            return refused.problem
        except (OSError, ValueError) as error:
            logger.error("registry %s: its token_file cannot be read: %s", asked.registry, type(error).__name__)  # noqa: TRY400
            return Problem.of("internal", "the operator's token of this registry cannot be read", retryable=True)
        try:
            with reach(registry.url, registry.username, token) as client:
                return send(client, asked.experiment or registry.experiment, due)
        except Exception as error:
            failed = failure(error)
            if failed.code == "internal":  # a fault of ours
                logger.exception("%s: tracking failed", due.job_id)
            return Problem.of(failed.code, failed.detail, retryable=failed.retryable)
