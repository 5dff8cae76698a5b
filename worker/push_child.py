"""One push, in a process of its own: `python -I -m worker.push_child`. The order comes by stdin, the verdict by stdout.

A library that waits for ever can be killed here, and nothing but this process holds the registry's token and talks to
it. It has no database and no key of the service.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import tempfile

from worker import kernel


def main() -> int:
    """Exit code 0 whatever the verdict: any other one is a crash."""
    kernel.die_with_parent(signal.SIGKILL)
    raw = sys.stdin.buffer.read()
    verdict, sys.stdout = sys.stdout, sys.stderr  # what a library prints is no verdict
    with tempfile.TemporaryDirectory() as folder:
        answer = _push(raw, folder)
    print(json.dumps(answer), file=verdict, flush=True)
    return 0


def _push(raw: bytes, folder: str) -> dict[str, object]:
    from worker.registries import huggingface, mlflow
    from worker.registries.order import Order, check, failure

    order = Order.model_validate_json(raw)
    os.environ.update(huggingface.environment(folder))
    try:
        check(order.files)
        pushed = (huggingface if order.kind == "huggingface" else mlflow).push(order)
    except Exception as error:
        logging.exception("the push failed")
        failed = failure(error)
        return {"problem": {"code": failed.code, "detail": failed.detail, "retryable": failed.retryable}}
    return {"result": pushed.model_dump(mode="json")}


if __name__ == "__main__":
    sys.exit(main())
