"""Traces: what became of one request, over every process, by OpenTelemetry's SDK.

A trace is a tree of spans, each a stretch of time with a name and attributes. Across processes it
travels as `traceparent` (W3C Trace Context), in HTTP and in the stream's headers alike. Spans are made
for requests and for events, never for tokens. Until `start` was called with a place to send them
nothing is made, and OpenTelemetry is not even imported.

Left out: OpenTelemetry's metrics (Prometheus reads ours) and its global provider, which is MLflow's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from burnish.feedback.telemetry.settings import FILE, TelemetrySettings

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from opentelemetry.context import Context
    from opentelemetry.sdk.trace.export import SpanExporter

HEADER = "traceparent"
Kind = Literal["internal", "server", "client", "producer", "consumer"]
Attributes = Mapping[str, Any]


class TracingError(Exception):
    """Traces cannot be sent where the setting says; the message is one line that says what mends it."""


class _NoSpan:
    """What there is instead of a span while tracing is off."""

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: None


_NONE = nullcontext(_NoSpan())
_provider: Any = None
_tracer: Any = None


def start(
    settings: TelemetrySettings, service: str, data_dir: Path, exporter: SpanExporter | None = None
) -> None:
    """Make traces from now on, if the settings say where to; once per process. `service` is
    `service.name`. `exporter` takes the spans instead, at once. Raises TracingError."""
    global _provider, _tracer
    if _provider is not None or (settings.traces is None and exporter is None):
        return
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
    from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

    if exporter is not None:
        processor: Any = SimpleSpanProcessor(exporter)
    else:
        processor = BatchSpanProcessor(_exporter(settings, service, data_dir))
    release = version("burnish")
    _provider = TracerProvider(
        sampler=ParentBased(TraceIdRatioBased(settings.trace_sample)),
        resource=Resource.create({"service.name": service, "service.version": release}),
    )
    _provider.add_span_processor(processor)
    _tracer = _provider.get_tracer("burnish", release)


def _exporter(settings: TelemetrySettings, service: str, data_dir: Path) -> SpanExporter:
    if settings.traces == FILE:
        from burnish.feedback.telemetry.span_file import SpanFile

        return SpanFile(data_dir / "traces" / f"{service}.jsonl")
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # pyright: ignore[reportMissingImports]
            OTLPSpanExporter,
        )
    except ImportError as error:
        raise TracingError(
            "BURNISH_TRACES: sending to a collector needs an extra: pip install '.[observe]'"
        ) from error
    return OTLPSpanExporter(f"{(settings.traces or '').rstrip('/')}/v1/traces")


def stop() -> None:
    """Send what is left, and make no more."""
    global _provider, _tracer
    provider, _provider, _tracer = _provider, None, None
    if provider is not None:
        provider.shutdown()


def flush() -> None:
    """Send what is left; for a process that may be ended without notice."""
    if _provider is not None:
        _provider.force_flush()


def is_on() -> bool:
    return _tracer is not None


def span(
    name: str,
    attributes: Attributes | None = None,
    *,
    kind: Kind = "internal",
    parent: str | None = None,
    links: Iterable[str] = (),
) -> AbstractContextManager[Any]:
    """A span around what is done within, which is then the current one. Its parent is `parent` (a
    traceparent), or else the current span. An exception that leaves it is its status."""
    if _tracer is None:
        return _NONE
    return _tracer.start_as_current_span(
        name,
        context=_context(parent),
        kind=_kind(kind),
        attributes=attributes,
        links=_links(links),
    )


def past(
    name: str,
    began: float,
    ended: float,
    attributes: Attributes | None = None,
    *,
    kind: Kind = "internal",
    parent: str | None = None,
    links: Iterable[str] = (),
    error: str | None = None,
) -> str | None:
    """Make a span of what is over already; seconds since the epoch. Returns its traceparent."""
    if _tracer is None:
        return None
    made = _tracer.start_span(
        name,
        context=_context(parent),
        kind=_kind(kind),
        attributes=attributes,
        links=_links(links),
        start_time=int(began * 1e9),
    )
    if error is not None:
        from opentelemetry.trace import Status, StatusCode

        made.set_status(Status(StatusCode.ERROR, error))
    made.end(int(ended * 1e9))
    return _traceparent(made)


def carried() -> dict[str, str]:
    """The current span as headers; none while there is no span, or it is not sampled."""
    if _tracer is None:
        return {}
    from opentelemetry.trace import get_current_span

    traceparent = _traceparent(get_current_span())
    return {} if traceparent is None else {HEADER: traceparent}


def ids() -> tuple[str, str] | None:
    """The current trace and span, in hexadecimal."""
    parts = carried().get(HEADER, "").split("-")
    return (parts[1], parts[2]) if len(parts) == 4 else None


def event(name: str, attributes: Attributes) -> None:
    """Note on the current span that something has happened."""
    if _tracer is not None:
        from opentelemetry.trace import get_current_span

        get_current_span().add_event(name, attributes)


def _traceparent(of: Any) -> str | None:
    found = of.get_span_context()
    if not (found.is_valid and found.trace_flags.sampled):
        return None
    return f"00-{found.trace_id:032x}-{found.span_id:016x}-01"


def _context(parent: str | None) -> Context | None:
    """None: whatever the current context is."""
    if parent is None:
        return None
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator().extract({HEADER: parent})


def _kind(kind: Kind) -> Any:
    from opentelemetry.trace import SpanKind

    return SpanKind[kind.upper()]


def _links(parents: Iterable[str]) -> list[Any]:
    from opentelemetry.trace import Link, get_current_span

    return [Link(get_current_span(_context(parent)).get_span_context()) for parent in parents]
