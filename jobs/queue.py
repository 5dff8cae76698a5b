"""The wake-up queue: a Celery message says "look at the table". It carries no work and no state.

Losing every message costs seconds: the reconciler announces again, and workers look by themselves. The settings are
those of research: early ack, one at a time, JSON only, and sockets that notice a dead broker.
"""

from __future__ import annotations

import logging
import queue
import threading
from functools import lru_cache
from typing import Any, Literal

from celery import Celery

from jobs.settings import Settings

Kind = Literal["job", "inspection"]
TASKS: dict[Kind, tuple[str, str]] = {"job": ("worker.run", "device"), "inspection": ("worker.inspect", "interactive")}
VISIBILITY_S = 7 * 86_400  # messages are acknowledged early; Redis must never hand one out twice
BACKLOG = 100  # announcements that wait while one is being sent; more are dropped
ENOUGH = 100  # messages in the broker's queue: whoever takes one looks at the whole table, so more say nothing

log = logging.getLogger(__name__)


def queue_name(settings: Settings, kind: Kind) -> str:
    """The Celery queue of a kind of work."""
    return settings.celery_prefix + TASKS[kind][1]


def celery_app(broker_url: str, prefix: str) -> Celery:
    """A Celery app for producers and workers alike; the worker adds the tasks."""
    app = Celery("ladapress", broker=broker_url, set_as_current=False)
    app.conf.update(
        task_ignore_result=True,
        task_store_errors_even_if_ignored=False,
        task_acks_late=False,
        task_serializer="json",
        accept_content=["json"],
        task_routes={name: {"queue": prefix + name_of_queue} for name, name_of_queue in TASKS.values()},
        task_default_queue=prefix + "device",
        task_publish_retry=False,
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=True,
        worker_send_task_events=False,
        broker_connection_timeout=2,
        broker_connection_retry_on_startup=True,
        broker_transport_options={
            "visibility_timeout": VISIBILITY_S,
            "global_keyprefix": prefix,
            "socket_timeout": 5,
            "socket_connect_timeout": 2,
            "socket_keepalive": True,
            "health_check_interval": 25,
        },
    )
    return app


def announce(settings: Settings, kind: Kind) -> None:
    """Wake a worker for work that is committed. Returns at once, never raises; nothing to do without a broker."""
    if settings.broker_url is not None:
        _sender(settings.broker_url, settings.celery_prefix).put(kind)


def flush(settings: Settings, timeout_s: float = 5.0) -> bool:
    """Wait until everything announced was sent or given up; whether that came in time."""
    return settings.broker_url is None or _sender(settings.broker_url, settings.celery_prefix).flush(timeout_s)


class _Sender:
    """Sends in a thread of its own: a broker that is down costs a request nothing."""

    def __init__(self, broker_url: str, prefix: str) -> None:
        self._app = celery_app(broker_url, prefix)
        self._prefix = prefix
        self._waiting: queue.Queue[Kind | threading.Event] = queue.Queue(BACKLOG)
        threading.Thread(target=self._run, name="announce", daemon=True).start()

    def put(self, kind: Kind) -> None:
        try:
            self._waiting.put_nowait(kind)
        except queue.Full:
            log.warning("announcement dropped: the broker does not take them; the reconciler will repeat it")

    def flush(self, timeout_s: float) -> bool:
        reached = threading.Event()
        try:
            self._waiting.put(reached, timeout=timeout_s)
        except queue.Full:
            return False
        return reached.wait(timeout_s)

    def _run(self) -> None:
        while True:
            item = self._waiting.get()
            if isinstance(item, threading.Event):
                item.set()
                continue
            name, own_queue = TASKS[item]
            try:
                self._send(name, self._prefix + own_queue)
            except Exception as error:  # a hint may be lost for any reason at all
                log.warning("announcements not sent, %s: the reconciler will repeat them", type(error).__name__)
                self._drop()

    def _send(self, name: str, queue_: str) -> None:
        with self._app.producer_or_acquire() as producer:
            channel = producer.connection.default_channel
            # Declared as Celery's workers declare it. Not passively: kombu then forgets the prefix of the keys.
            waiting = channel.queue_declare(queue_, durable=True, exclusive=False, auto_delete=False).message_count
            if waiting < ENOUGH:
                self._app.send_task(name, queue=queue_, producer=producer, retry=False, ignore_result=True)

    def _drop(self) -> None:
        """Forget what waits: a dead broker would cost a timeout for each, and hints of minutes ago help nobody."""
        while True:
            try:
                item = self._waiting.get_nowait()
            except queue.Empty:
                return
            if isinstance(item, threading.Event):
                item.set()


@lru_cache(maxsize=8)
def _sender(broker_url: str, prefix: str) -> Any:
    return _Sender(broker_url, prefix)
