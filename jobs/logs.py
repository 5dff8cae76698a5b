"""One form for every line of a process' log: JSON, or text where somebody watches. What is secret never gets out.

Modules log with the standard library and put fields into `extra`; `configure`, called once by each program, decides
how a line looks, for ours as for those of uvicorn, Celery and every other library. `bound` adds fields to all lines
of a piece of work.
"""

from __future__ import annotations

import logging
import re
import sys
import threading
from collections.abc import Iterable, MutableMapping
from types import TracebackType
from typing import IO, Any, Literal
from urllib.parse import quote, unquote, urlsplit

import structlog
from structlog.contextvars import bind_contextvars as bind
from structlog.contextvars import bound_contextvars as bound
from structlog.contextvars import get_contextvars as fields_bound
from structlog.stdlib import ExtraAdder, ProcessorFormatter

__all__ = ["bind", "bound", "configure", "fields_bound", "passwords"]

Form = Literal["json", "console"]
Line = MutableMapping[str, Any]
HIDDEN = "***"
# What keys and tokens look like, ours and those that pass through here; and passwords within an address.
SECRET = re.compile(
    r"""(?P<lp>lp_[0-9a-z]{26}_)[\w-]+
      | (?P<wh>whsec_)[\w+/=-]+
      | (?P<hf>\bhf_)[A-Za-z0-9]{8,}
      | (?P<auth>\b(?:Bearer|Basic)\s+)[\w.~+/=-]{8,}
      | (?P<jwt>\beyJ)[\w-]{8,}\.[\w-]{8,}\.[\w-]*
      | (?P<url>://[^/\s:@'"]*:)[^/\s@'"]+(?=@)
    """,
    re.VERBOSE | re.IGNORECASE,
)
SECRET_FIELDS = {"authorization", "cookie", "password", "secret", "token", "api_key"}
FIRST = ("timestamp", "level", "service", "event")
UNWANTED = ("color_message", "data")  # of uvicorn and of Celery, which repeat the message or a task's arguments
QUIET = ("alembic", "httpx2", "urllib3")  # they tell what nobody asked


def configure(
    service: str,
    *,
    form: Form | None = None,
    level: str = "INFO",
    secrets: Iterable[str] = (),
    stream: IO[str] | None = None,
) -> None:
    """Give the root logger one handler and one form; uncaught errors and warnings are log lines, too.

    Args:
        service: what this process is; stands in each line.
        form: None is console on a terminal and json elsewhere.
        secrets: exact values that no line may hold, such as `passwords(...)`.
        stream: standard error where None.
    """
    out = stream or sys.stderr
    chosen = form or ("console" if out.isatty() else "json")
    hide = _Hide(secrets)

    def named(_logger: Any, _method: str, line: Line) -> Line:
        line["service"] = service
        for name in UNWANTED:
            line.pop(name, None)
        return line

    before: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    after: list[Any] = [ProcessorFormatter.remove_processors_meta, named, structlog.processors.format_exc_info, hide]
    last: Any
    if chosen == "json":
        last = [_ordered, structlog.processors.JSONRenderer(ensure_ascii=False)]
    else:
        last = [structlog.dev.ConsoleRenderer(colors=out.isatty())]
    handler = logging.StreamHandler(out)
    handler.setFormatter(ProcessorFormatter(foreign_pre_chain=before, processors=[*after, *last]))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.captureWarnings(True)
    sys.excepthook = _uncaught
    threading.excepthook = lambda args: _uncaught(args.exc_type, args.exc_value, args.exc_traceback)


def passwords(*urls: str | None) -> list[str]:
    """The passwords in addresses, as they stand there and as they are meant."""
    found = {password for url in urls if url and (password := urlsplit(url).password)}
    return sorted({form for one in found for form in (one, unquote(one), quote(one, safe=""))})


class _Hide:
    """Replaces secrets in every value of a line, also within the text of an exception."""

    def __init__(self, secrets: Iterable[str]) -> None:
        exact = sorted({one for one in secrets if one}, key=len, reverse=True)
        self._exact = re.compile("|".join(map(re.escape, exact))) if exact else None

    def __call__(self, _logger: Any, _method: str, line: Line) -> Line:
        return {str(name): HIDDEN if name in SECRET_FIELDS else self._plain(value) for name, value in line.items()}

    def _plain(self, value: Any) -> Any:
        if value is None or isinstance(value, bool | int | float):
            return value
        if isinstance(value, dict):
            return self(None, "", value)
        if isinstance(value, list | tuple | set | frozenset):
            return [self._plain(one) for one in value]
        text = SECRET.sub(lambda found: (found[found.lastgroup] if found.lastgroup else "") + HIDDEN, str(value))
        return text if self._exact is None else self._exact.sub(HIDDEN, text)


def _ordered(_logger: Any, _method: str, line: Line) -> Line:
    first = {name: line[name] for name in FIRST if name in line}
    return {**first, **{name: value for name, value in line.items() if name not in first}}


def _uncaught(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt | SystemExit) or error is None:
        return
    logging.getLogger("ladapress").critical("uncaught %s", kind.__name__, exc_info=(kind, error, trace))
