"""Pushing artifacts to registries: claims each push that is due and has a child make it, one at a time.

It runs where the operator has named registries: beside an embedded worker, as a process of its own beside Celery's, or
alone on a machine that may reach the network (`python -m worker --only push`). It needs no broker and no accelerator.
A job is long published by then and cannot be harmed by anything that happens here.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from jobs import service
from jobs.db import connect
from jobs.events import plain
from jobs.problem import Problem, Refused, refuse
from jobs.registries import Registries, Registry
from jobs.requests import PushRequest
from jobs.service import Control, PushClaim
from jobs.settings import Settings
from jobs.store import full
from jobs.stores import open_store
from worker import kernel
from worker.link import Link
from worker.tracks import Tracker
from worker.watch import End

logger = logging.getLogger(__name__)
COMMAND = (sys.executable, "-I", "-m", "worker.push_child")
LONGEST_S = 3_600.0  # of one attempt
LOOK_S = 0.1
MOST = 1 << 20  # bytes of what a child says
TAIL = 4_000  # characters of its log
FIGURES = ("bytes_ratio", "parameter_ratio", "latency_ratio", "teacher", "student", "retention")
# What a child may know of its surroundings: how to reach the network, and nothing that may hold a secret of ours.
KNOWN = ("PATH", "LANG", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR")
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


class Pusher:
    """Makes the pushes that are due, until told to stop.

    Raises:
        ValueError: the settings' file of registries is not in order.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._registries = Registries.load(settings)
        self._db = connect(settings)
        self._store = open_store(settings)
        self._name = f"{socket.gethostname()}:{os.getpid()}"

    def run(self, stop: threading.Event) -> None:
        """Look every tick, in this thread. Whatever goes wrong is logged and tried again."""
        while not stop.is_set():
            try:
                if self.push_one(stop):
                    continue
            except SQLAlchemyError as error:
                logger.warning("no push could be made, the database does not answer: %s", type(error).__name__)
            except Exception:
                logger.exception("a push failed here; its lease will run out")
            stop.wait(self._settings.tick_s)
        self._db.dispose()

    def push_one(self, stop: threading.Event) -> bool:
        """Make the push that is due longest; whether there was one.

        Raises:
            SQLAlchemyError: the database does not answer. Its lease runs out, and the push is made again.
        """
        settings = self._settings
        with self._db.sessions.begin() as s:
            held = service.claim_push(s, self._name, settings.lease_s, settings.push_give_up_s)
        if held is None:
            return False
        push, fence = held.push_id, held.fence
        link = Link(self._db, settings.lease_s, renew=lambda s: _renew(s, push, fence, settings.lease_s))
        link.start()
        try:
            outcome = self._make(held, link, stop)
        finally:
            link.stop()
        with self._db.sessions.begin() as s:
            if isinstance(outcome, dict):
                service.finish_push(s, push, fence, outcome)
            elif isinstance(outcome, Problem):
                retry_s, give_up_s = settings.push_retry_s, settings.push_give_up_s
                service.fail_push(s, push, fence, outcome, retry_s=retry_s, give_up_s=give_up_s)
            elif outcome is End.DRAINED:
                service.release_push(s, push, fence)
        said = f"{outcome.code}: {outcome.detail}" if isinstance(outcome, Problem) else outcome
        logger.info("%s to %s: %s", push, held.spec["registry"], said)
        return True

    def _make(self, held: PushClaim, link: Link, stop: threading.Event) -> dict[str, Any] | Problem | End:
        """The result, a problem, or why there is neither: drained, or somebody else's by now."""
        asked = PushRequest.model_validate(held.spec)
        try:
            registry = self._registries.find(held.project_id, asked)  # the operator may have changed his mind
            token = None if registry.token_file is None else registry.token_file.read_text(encoding="ascii").strip()
        except Refused as refused:
            return refused.problem
        except (OSError, ValueError) as error:
            logger.error("registry %s: its token_file cannot be read: %s", asked.registry, type(error).__name__)  # noqa: TRY400
            return Problem.of("internal", "the operator's token of this registry cannot be read", retryable=True)
        with ExitStack() as opened:
            ordered, answer, log = (opened.enter_context(tempfile.TemporaryFile()) for _ in range(3))
            try:
                files = self._files(held, Path(opened.enter_context(tempfile.TemporaryDirectory())))
            except Refused as refused:
                return refused.problem
            order = self._order(held, asked, registry, token, files)
            ordered.write(json.dumps(order).encode())
            ordered.seek(0)
            child = subprocess.Popen(  # noqa: S603 - our own program
                COMMAND, stdin=ordered, stdout=answer, stderr=log, env=_environment(), start_new_session=True
            )
            try:
                end = self._watch(child, link, stop)
            finally:
                child.kill()
                code = child.wait()
            if end is End.TIMEOUT:
                return Problem.of("registry_unreachable", f"not done after {LONGEST_S:g} seconds", retryable=True)
            if end is not None:
                return end
            said, tail = (_without(registry, token, file) for file in (answer, log))
        return _verdict(said, code, tail, held.push_id)

    def _files(self, held: PushClaim, folder: Path) -> list[dict[str, Any]]:
        """The files for the child: as they lie in the store, or fetched into a folder.

        Raises:
            Refused: artifact_damaged, unavailable, storage_full.
        """
        files = []
        for number, (path, size, sha256) in enumerate(held.files):
            blob = self._store.local_path(held.project_id, sha256)
            if blob is None:
                blob = folder / str(number)
                try:
                    self._store.fetch(held.project_id, sha256, blob)
                except FileNotFoundError:
                    detail = f"{path} must have sha256 {sha256}; the store has nothing"
                    raise refuse("artifact_damaged", detail) from None
                except OSError as error:
                    raise full(error) from error
            files.append({"path": path, "size": size, "sha256": sha256, "blob": str(blob)})
        return files

    def _order(
        self,
        held: PushClaim,
        asked: PushRequest,
        registry: Registry,
        token: str | None,
        files: Sequence[Mapping[str, Any]],
    ) -> dict[str, Any]:
        """What the child is told: see `worker.registries.order.Order`."""
        figures = {name: held.report[name] for name in FIGURES if isinstance(held.report.get(name), int | float)}
        same = registry.model_dump(mode="json", include={"kind", "url", "username", "private", "experiment"})
        where = asked.model_dump(mode="json", include={"to", "revision", "alias"})
        return {
            **same, **where, "token": token, "artifact_id": held.artifact_id, "files": files, "figures": figures,
        }  # fmt: skip

    def _watch(self, child: subprocess.Popen[bytes], link: Link, stop: threading.Event) -> End | None:
        """Until the child has ended; or why it must end before."""
        deadline = time.monotonic() + LONGEST_S
        while child.poll() is None:
            if link.lost or link.silent_s() > self._settings.lease_s:
                return End.STALE
            if time.monotonic() > deadline:
                return End.TIMEOUT
            if stop.wait(LOOK_S):
                return End.DRAINED
        return None


def run(settings: Settings) -> None:
    """Push until SIGTERM or SIGINT. For the main thread."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    kernel.become_a_worker()
    Tracker(settings).start(stop)
    Pusher(settings).run(stop)


def _renew(s: Session, push_id: str, fence: int, lease_s: float) -> Control | None:
    return Control(cancel=False, pause=False) if service.heartbeat_push(s, push_id, fence, lease_s) else None


def _environment() -> dict[str, str]:
    proxies = {name for each in PROXIES for name in (each, each.lower())}
    return {name: value for name, value in os.environ.items() if name in proxies or name in KNOWN}


def _without(registry: Registry, token: str | None, file: IO[bytes]) -> str:
    """A child's words without the token, however a library may have spelled it."""
    file.seek(0)
    text = file.read(MOST).decode("utf-8", "replace")
    basic = base64.b64encode(f"{registry.username}:{token}".encode()).decode()
    for secret in (token, basic) if token else ():
        text = text.replace(secret, "***")
    return text


def _verdict(said: str, code: int, log: str, push_id: str) -> dict[str, Any] | Problem:
    try:
        verdict = json.loads(said)
        if (result := verdict.get("result")) is not None:
            return {**plain(result)}
        problem = Problem.from_error(verdict["problem"])
    except (ValueError, KeyError, TypeError, AttributeError):
        problem = Problem.of("internal", f"the pushing process ended with exit code {code}", retryable=True)
    level = logging.ERROR if problem.code == "internal" else logging.WARNING
    tail = re.sub(r"\?[^\s'\"]+", "?...", log[-TAIL:])  # a storage's addresses are signed: whoever reads one may use it
    logger.log(level, "%s: %s; the end of its log:\n%s", push_id, problem.detail, tail)
    return problem
