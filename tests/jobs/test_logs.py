"""Log lines: one form for all, and no secret in any of them."""

from __future__ import annotations

import io
import json
import logging
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs import logs
from jobs.keys import new_token

PASSWORD = "hunter/2@x"
URL = "postgresql://ladapress:hunter%2F2%40x@db:5432/ladapress"
SECRETS = {
    "key": new_token(),
    "webhook": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    "hub": "hf_abcdefghijklmnopQRST",
    "bearer": "Bearer abcDEF123.-_~",
    "basic": "Basic dXNlcjpwYXNzd29yZA==",
    "jwt": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U",
    "password": PASSWORD,
    "redis": "redis://:s3cr3tpassw0rd@host:6379/0",
}


@pytest.fixture
def out() -> Iterator[io.StringIO]:
    """What is written, in JSON; everything is as it was afterwards."""
    root, hooks = logging.getLogger(), (sys.excepthook, threading.excepthook)
    before = (root.handlers, root.level)
    stream = io.StringIO()
    logs.configure("test", form="json", secrets=logs.passwords(URL), stream=stream)
    yield stream
    root.handlers, root.level = before
    sys.excepthook, threading.excepthook = hooks
    logging.captureWarnings(False)


def lines(out: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def hidden(secret: str) -> str:
    """The part of a secret that must not be seen: what goes before it says only what it is."""
    return secret.removeprefix("lp_")[27:] if secret.startswith("lp_") else secret.rpartition(" ")[2].rpartition("_")[2]


@pytest.mark.parametrize("name", SECRETS)
@pytest.mark.parametrize("where", ["message", "argument", "field", "nested", "exception", "object"])
def test_no_secret_is_written_wherever_it_stands(out: io.StringIO, name: str, where: str) -> None:
    """In a message, in a field, in the text of an exception that comes along, in what only turns into text here."""
    secret, log = SECRETS[name], logging.getLogger("some.library")
    match where:
        case "message":
            log.warning(f"cannot use {secret} now")
        case "argument":
            log.warning("cannot use %r now", {"it": secret})
        case "field":
            log.warning("cannot", extra={"it": secret})
        case "nested":
            log.warning("cannot", extra={"it": [{"deep": (1, f"x {secret}")}]})
        case "exception":
            try:
                raise ValueError(f"cannot use {secret}")  # noqa: TRY301
            except ValueError:
                log.exception("failed")
        case _:
            log.warning("cannot", extra={"it": ValueError(secret)})
    (line,) = lines(out)
    assert logs.HIDDEN in json.dumps(line)
    kept = {"redis": "s3cr3tpassw0rd"}.get(name) or hidden(secret)
    assert kept not in json.dumps(line, ensure_ascii=False)


def test_a_key_is_still_known_by_its_id(out: io.StringIO) -> None:
    """The first half of a key is no secret: it names the row."""
    logging.getLogger("x").warning("refused %s", token := new_token())
    assert token[:29] in out.getvalue()
    assert token[30:] not in out.getvalue()


@given(st.text(), st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists, max_leaves=5))
def test_every_line_is_one_json_object(text: str, value: Any) -> None:
    """Whatever a library says, with the fields that every line has."""
    stream = io.StringIO()
    handlers, level = logging.getLogger().handlers, logging.getLogger().level
    logs.configure("test", form="json", stream=stream)
    try:
        with logs.bound(job_id="job_1"):
            logging.getLogger("x").info(text.replace("%", ""), extra={"value": value})
    finally:
        logging.getLogger().handlers, logging.getLogger().level = handlers, level
    (line,) = [json.loads(line) for line in stream.getvalue().removesuffix("\n").split("\n")]
    assert (line["level"], line["service"], line["job_id"], line["logger"]) == ("info", "test", "job_1", "x")
    assert line["timestamp"].endswith("Z")


def test_what_nobody_caught_is_a_line_as_well(out: io.StringIO) -> None:
    """Of a thread too; with its traceback, without its secrets."""
    thread = threading.Thread(target=lambda: int(f"cannot {PASSWORD}"))
    thread.start()
    thread.join()
    (line,) = lines(out)
    assert (line["level"], line["event"]) == ("critical", "uncaught ValueError")
    assert "Traceback" in line["exception"]
    assert PASSWORD not in line["exception"]
