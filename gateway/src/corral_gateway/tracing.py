"""OpenTelemetry: a trace from a request to what its task's sandbox said. Off unless an endpoint is configured.

A request's span is made while it is served. A task's spans are made when it has ended, from the timings of its status:
so they are the same whoever ran it, and a restart of the gateway loses none. What connects the two is the
``traceparent`` of W3C Trace Context, which the task carries in an annotation.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Self

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from corral import __version__
from corral.api import AgentTask, ExecutionStatus
from corral_gateway.context import CURRENT, RequestContext

#: Carries the trace of the request that made a task.
TRACE_ANNOTATION = "corral.dev/traceparent"
_PROPAGATOR = TraceContextTextMapPropagator()


def traced(task: AgentTask) -> AgentTask:
    """Return a task that carries the trace of the request that is worked on here, and no other."""
    request = CURRENT.get()
    annotations = {name: text for name, text in task.metadata.annotations.items() if name != TRACE_ANNOTATION}
    if request is not None and request.traceparent is not None:
        annotations[TRACE_ANNOTATION] = request.traceparent
    if annotations == task.metadata.annotations:
        return task
    metadata = task.metadata.model_copy(update={"annotations": annotations})
    return task.model_copy(update={"metadata": metadata})


class Tracing:
    """Makes spans. A ``TaskObserver``."""

    def __init__(self, processor: SpanProcessor) -> None:
        """Hand spans to a processor, which is closed with this."""
        self._provider = TracerProvider(
            resource=Resource.create({"service.name": "corral-gateway", "service.version": __version__})
        )
        self._provider.add_span_processor(processor)
        self._tracer: Tracer = self._provider.get_tracer("corral_gateway", __version__)

    @classmethod
    def to(cls, endpoint: str) -> Self:
        """Send spans to a collector that speaks OTLP over HTTP; what else OTEL_… says, holds as well."""
        return cls(BatchSpanProcessor(OTLPSpanExporter(f"{endpoint.rstrip('/')}/v1/traces")))

    @contextmanager
    def request(self, context: RequestContext, traceparent: str | None) -> Iterator[Span]:
        """Make the span of a request, below the caller's own where they sent one."""
        parent = _PROPAGATOR.extract({"traceparent": traceparent}) if traceparent else Context()
        with self._tracer.start_as_current_span(
            f"{context.method} {context.transport}", context=parent, kind=SpanKind.SERVER
        ) as span:
            span.set_attribute("corral.request_id", context.id)
            carrier: dict[str, str] = {}
            _PROPAGATOR.inject(carrier, set_span_in_context(span))
            context.traceparent = carrier.get("traceparent")
            yield span

    def answered(self, span: Span, context: RequestContext, status: int) -> None:
        """Note how a request was answered."""
        if context.route:
            span.update_name(f"{context.method} {context.route}")
            span.set_attribute("http.route", context.route)
        span.set_attribute("http.request.method", context.method)
        span.set_attribute("http.response.status_code", status)
        if context.caller is not None:
            span.set_attribute("enduser.id", context.caller.name)
        if context.reason is not None:
            span.set_attribute("error.type", context.reason)
        if status >= 500:
            span.set_status(StatusCode.ERROR)

    def answered_call(self, span: Span, context: RequestContext, status: str) -> None:
        """Note how a gRPC call was answered, by the name of its status code."""
        span.update_name(context.route.lstrip("/"))
        span.set_attribute("rpc.system", "grpc")
        span.set_attribute("rpc.method", context.route.lstrip("/"))
        span.set_attribute("rpc.response.status_code", status)
        if context.caller is not None:
            span.set_attribute("enduser.id", context.caller.name)
        if context.reason is not None:
            span.set_attribute("error.type", context.reason)
        if status in {"UNKNOWN", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNIMPLEMENTED"}:
            span.set_status(StatusCode.ERROR)

    def ended(self, task: AgentTask, caller: str, _seconds: float) -> None:
        """Make the spans of a task that has ended; see ``TaskObserver``."""
        begin = _moment(task.metadata.creation_timestamp)
        end = None if task.status is None else _moment(task.status.completion_time)
        if begin is None or end is None:
            return
        annotations: Mapping[str, str] = task.metadata.annotations
        parent = _PROPAGATOR.extract({"traceparent": annotations.get(TRACE_ANNOTATION, "")})
        span = self._tracer.start_span(
            f"task {task.spec.tool or 'chain'}", context=parent, kind=SpanKind.INTERNAL, start_time=begin
        )
        span.set_attribute("corral.task.uid", task.metadata.uid or "")
        span.set_attribute("enduser.id", caller)
        _note_end(span, task.reason)
        for execution in task.executions:
            self._execution(span, execution, end)
        span.end(end)

    def close(self) -> None:
        """Send what is left."""
        self._provider.shutdown()

    def _execution(self, task: Span, execution: ExecutionStatus, end: int) -> None:
        timings = execution.timings
        if timings is None:
            return
        moments = {
            name: moment
            for name in ("queued", "claimed", "started", "finished")
            if (moment := _moment(getattr(timings, name))) is not None
        }
        if not moments:
            return
        span = self._tracer.start_span(
            f"execute {execution.tool}",
            context=set_span_in_context(task),
            kind=SpanKind.INTERNAL,
            start_time=min(moments.values()),
        )
        span.set_attribute("corral.execution", execution.name)
        span.set_attribute("corral.attempt", execution.attempt)
        if execution.usage is not None and execution.usage.cpu_seconds is not None:
            span.set_attribute("corral.cpu_seconds", float(execution.usage.cpu_seconds))
        if execution.sandbox is not None:
            span.set_attribute("corral.sandbox.warm", bool(execution.sandbox.warm))
            span.set_attribute("k8s.pod.name", execution.sandbox.pod_name or "")
        for name, moment in moments.items():
            span.add_event(name, timestamp=moment)
        _note_end(span, execution.reason)
        span.end(moments.get("finished", end))


def _note_end(span: Span, reason: str | None) -> None:
    span.set_attribute("corral.reason", reason or "")
    if reason != "Completed":
        span.set_status(StatusCode.ERROR, reason)


def _moment(text: str | None) -> int | None:
    """Return nanoseconds since the epoch, as OpenTelemetry counts."""
    return None if text is None else int(datetime.fromisoformat(text).timestamp() * 1e9)
