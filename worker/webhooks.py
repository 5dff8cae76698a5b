"""Delivering webhooks: takes what is due, signs it, sends it, writes down what came of it; several at once.

It runs in every worker (beside inspections, which leave the machine's cores alone), or alone where only one machine
has a way out: `python -m worker --only webhooks`. It needs no broker.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from datetime import UTC, datetime

from sqlalchemy.exc import SQLAlchemyError
from standardwebhooks import Webhook

from jobs import service
from jobs.db import Database, connect
from jobs.service import DeliveryClaim
from jobs.settings import Settings
from jobs.webhooks.addresses import Guard
from jobs.webhooks.keyring import Keyring
from worker import kernel
from worker.sender import Sender

logger = logging.getLogger(__name__)
SLOTS = 16  # attempts at once; nearly all of their time is waiting
LOOK_S = 0.5
POSTPONE_S = 60.0  # where the key file is not in order
SWEEP_EVERY_S = 3_600.0


class Deliverer:
    """Delivers what is due, until told to stop.

    Raises:
        ValueError: the settings name a network that is none.
    """

    def __init__(self, settings: Settings, database: Database | None = None, sender: Sender | None = None) -> None:
        self._settings = settings
        self._db = database or connect(settings)
        self._sender = sender or Sender(Guard.of(settings), settings.webhook_timeout_s)
        # An attempt ends within its timeout, but for a name server that does not answer.
        self._lease_s = settings.webhook_timeout_s + settings.lease_s
        self._swept = -SWEEP_EVERY_S

    def run(self, stop: threading.Event) -> None:
        """Look twice a second, in this thread. What is under way at the stop is brought to its end."""
        under_way: set[Future[None]] = set()
        with ThreadPoolExecutor(SLOTS, "webhook") as pool:
            while not stop.is_set():
                taken = self._take(SLOTS - len(under_way))
                under_way |= {pool.submit(self.deliver, each) for each in taken}
                if under_way:
                    _, under_way = wait(under_way, timeout=LOOK_S, return_when=FIRST_COMPLETED)
                elif not taken:
                    stop.wait(LOOK_S)

    def deliver(self, held: DeliveryClaim) -> None:
        """One attempt. Whatever goes wrong here is logged; the lease runs out and the delivery is made again."""
        try:
            headers = self._signed(held)
            if headers is None:
                with self._db.sessions.begin() as s:
                    service.postpone_delivery(s, held, POSTPONE_S)
                return
            outcome = self._sender.post(held.url, headers, held.body.encode())
            with self._db.sessions.begin() as s:
                service.finish_delivery(s, held, outcome, self._settings)
            logger.info("%s to %s: %s", held.delivery_id, held.endpoint_id, outcome.error or outcome.status_code)
        except SQLAlchemyError as error:
            logger.warning("%s: the database does not answer: %s", held.delivery_id, type(error).__name__)
        except Exception:
            logger.exception("%s failed here", held.delivery_id)

    def _take(self, room: int) -> list[DeliveryClaim]:
        if room == 0:
            return []
        try:
            with self._db.readers() as s:
                if not service.any_due(s):
                    return self._sweep()
            with self._db.sessions.begin() as s:
                return service.claim_deliveries(s, room, self._lease_s)
        except SQLAlchemyError as error:
            logger.warning("no webhook is delivered, the database does not answer: %s", type(error).__name__)
        except Exception:
            logger.exception("no webhook is delivered")
        return []

    def _sweep(self) -> list[DeliveryClaim]:
        """Forget what is old, now and then."""
        if time.monotonic() - self._swept >= SWEEP_EVERY_S:
            with self._db.sessions.begin() as s:
                found = service.forget_deliveries(s, self._settings.webhook_keep_s)
            if not found:
                self._swept = time.monotonic()
        return []

    def _signed(self, held: DeliveryClaim) -> dict[str, str] | None:
        """The headers of an attempt: a signature for each secret that is valid now. None: the key file is amiss."""
        try:
            keyring = Keyring.load(self._settings.webhook_key_file)
            signers = [Webhook(keyring.open(sealed)) for sealed in held.secrets]
        except (OSError, ValueError) as error:
            logger.error("webhooks wait, their secrets cannot be read: %s", error)  # noqa: TRY400
            return None
        at = datetime.fromtimestamp(int(held.now), UTC)
        return {
            "Content-Type": "application/json",
            "User-Agent": "ladapress-webhooks/1",
            "webhook-id": held.delivery_id,
            "webhook-timestamp": str(int(held.now)),
            "webhook-signature": " ".join(one.sign(held.delivery_id, at, held.body) for one in signers),
        }


def run(settings: Settings) -> None:
    """Deliver until SIGTERM or SIGINT. For the main thread."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    kernel.become_a_worker()
    Deliverer(settings).run(stop)
