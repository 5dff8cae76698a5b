"""Calls into a tokenizer that somebody sent: they may panic, and they may never end."""

from __future__ import annotations

import _thread
import time
from collections.abc import Callable
from typing import Any, TypeVar

from core.errors import ModelInvalid

WITHIN_S = 2.0  # CPU-seconds of one call: twenty times what 64,000 characters take
LATEST_S = 60.0  # where nothing is computed at all
Answer = TypeVar("Answer")


def guarded(what: str, call: Callable[..., Answer], *arguments: Any, **more: Any) -> Answer:
    """What the call returns. It is made in a thread, which is left alone where it does not come back.

    A panic of the library is no `Exception`; a word without a limit, or one letter that a normalizer makes a million
    of, is computed without looking at any clock.

    Raises:
        ModelInvalid: whatever the call raises but lack of memory, or that it takes more than WITHIN_S.
    """
    answers: list[Answer] = []
    raised: list[BaseException] = []

    def run() -> None:
        try:
            answers.append(call(*arguments, **more))
        except BaseException as error:  # a panic too
            raised.append(error)

    def signed() -> None:
        run()
        done.release()

    done = _thread.allocate_lock()
    done.acquire()
    ends, latest = time.process_time() + WITHIN_S, time.monotonic() + LATEST_S
    _thread.start_new_thread(signed, ())  # a Thread waits for its first step, which may lack the memory to be made
    while not done.acquire(timeout=0.05) and time.process_time() < ends and time.monotonic() < latest:
        pass
    if answers:
        return answers[0]
    if raised and isinstance(raised[0], MemoryError):
        raise raised[0]
    says = str(raised[0])[:200] if raised else f"it takes more than {WITHIN_S:g} seconds"
    raise ModelInvalid(f"tokenizer.json {what}: {says}", param="/model", finding="tokenizer_invalid")
