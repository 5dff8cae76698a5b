"""The Celery app of a worker process: `celery -A worker.app worker -P threads`, or `python -m worker`.

A message is a hint; `worker.tasks` runs whatever the table says is next. The process also looks at the table by
itself, so it works while the broker does not. The threads pool keeps it able to answer; its size is the number of
slots. Nothing heavy is imported here or below: that is the children's part.
"""

from __future__ import annotations

import logging
from typing import Any

from celery import signals

from jobs.queue import Kind, celery_app, queue_name
from jobs.settings import Settings
from worker import kernel
from worker.node import Node
from worker.pool import ENGINE

logger = logging.getLogger(__name__)
KINDS: tuple[Kind, ...] = ("job", "inspection")
settings = Settings()
engine = ENGINE  # tests put another one here before the worker starts
app = celery_app(settings.broker_url or "memory://", settings.celery_prefix)
app.conf.update(
    imports=("worker.tasks",),
    broker_connection_max_retries=None,  # the broker may be away for days; the table is looked at meanwhile
    worker_hijack_root_logger=False,
    worker_redirect_stdouts=False,
)
_nodes: list[Node] = []


def node() -> Node:
    """The node of this process; there is one from the start of the Celery worker on."""
    return _nodes[0]


def _start(options: dict[str, Any], **_: Any) -> None:
    """Begin before the broker is asked for anything: without one, the node works alone."""
    wanted = options.get("queues") or ()
    names = wanted.split(",") if isinstance(wanted, str) else list(wanted)
    kinds = [kind for kind in KINDS if queue_name(settings, kind) in names] or list(KINDS)
    kernel.become_a_worker()
    _nodes.append(Node(settings, kinds, engine))
    node().start()
    node().poll(settings.poll_s, wait=False)


def _drain(**_: Any) -> None:
    """TERM: hand running jobs back. Celery then waits for its threads, which end within the kill grace."""
    for each in _nodes:
        each.drain()


def close(**_: Any) -> None:
    """Drain, if that was not done, and end every child. Again and again without harm."""
    while _nodes:
        _nodes.pop().close()


def _keep_our_log(**_: Any) -> None:
    """Celery sets up no log of its own where somebody listens to this signal."""


signals.setup_logging.connect(_keep_our_log, weak=False)
signals.celeryd_init.connect(_start, weak=False)
signals.worker_shutting_down.connect(_drain, weak=False)
signals.worker_shutdown.connect(close, weak=False)
