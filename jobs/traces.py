"""OpenTelemetry spans, where OTEL_EXPORTER_OTLP_ENDPOINT names a collector; else nothing, at no cost.

Without a collector no module of OpenTelemetry is imported here. With one, OpenTelemetry's own variables
(OTEL_EXPORTER_OTLP_HEADERS, OTEL_TRACES_SAMPLER, OTEL_RESOURCE_ATTRIBUTES, ...) mean what they always mean.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
NANO = 1_000_000_000
_provider: TracerProvider | None = None


def configure(service: str) -> bool:
    """Begin to send spans, if a collector is named. Once a process; whether they are sent."""
    global _provider  # noqa: PLW0603 - as OpenTelemetry's own
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or not any(map(os.environ.get, ENDPOINTS)):
        return False
    from opentelemetry import trace

    from jobs.exporting import provider

    _provider = provider(service)
    trace.set_tracer_provider(_provider)
    return True


def flush() -> None:
    """Send what waits. For the end of a process, which may not come back from here otherwise."""
    if _provider is not None:
        _provider.force_flush(5_000)


def current() -> str | None:
    """The span that runs now as a W3C traceparent, to be stored or handed to another process."""
    if _provider is None:
        return None
    from opentelemetry import propagate

    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    return carrier.get("traceparent")


def ids() -> dict[str, str]:
    """Trace and span of what runs now, for log lines; empty where there is none."""
    found = (current() or "").split("-")
    return {"trace_id": found[1], "span_id": found[2]} if len(found) == 4 else {}


@contextmanager
def span(name: str, *, parent: str | None = None, **attributes: Any) -> Iterator[None]:
    """A span around a block, below the running one or `parent`, a traceparent. An error that leaves it marks it."""
    if _provider is None:
        yield
        return
    from opentelemetry.trace import StatusCode

    with _provider.get_tracer("ladapress").start_as_current_span(
        name, context=_context(parent), attributes=_given(attributes),
        record_exception=False, set_status_on_exception=False,  # an exception's text may quote a secret
    ) as running:  # fmt: skip
        try:
            yield
        except BaseException as error:
            running.set_attribute("error.type", type(error).__qualname__)
            running.set_status(StatusCode.ERROR)
            raise


def past(name: str, began: float, ended: float, **attributes: Any) -> None:
    """A span that is over, below the running one; seconds since 1970 by this machine's clock."""
    if _provider is None:
        return
    tracer = _provider.get_tracer("ladapress")
    tracer.start_span(name, start_time=int(began * NANO), attributes=_given(attributes)).end(int(ended * NANO))


def _context(parent: str | None) -> Context | None:
    if parent is None:
        return None
    from opentelemetry import propagate

    return propagate.extract({"traceparent": parent})


def _given(attributes: dict[str, Any]) -> dict[str, Any]:
    return {f"ladapress.{name}": value for name, value in attributes.items() if value is not None}
