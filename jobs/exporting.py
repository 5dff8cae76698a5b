"""The half of `jobs.traces` that needs OpenTelemetry's SDK: imported only where a collector is named."""

from __future__ import annotations

import os

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

QUERY = "url.query"  # FastAPI puts it into its spans


class Unasked(SpanProcessor):
    """Takes the values of queries out of spans: people put names into them."""

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:  # noqa: ARG002
        """See the class."""
        if span.attributes and QUERY in span.attributes:
            span.set_attribute(QUERY, "***")


def provider(service: str) -> TracerProvider:
    """Sends spans in batches, from a thread of its own. OTEL_* variables set the rest."""
    name = os.environ.get("OTEL_SERVICE_NAME") or f"ladapress-{service}"
    made = TracerProvider(resource=Resource.create({SERVICE_NAME: name}))
    made.add_span_processor(Unasked())
    made.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return made
