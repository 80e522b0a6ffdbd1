"""Traces, as a collector receives them over a real socket."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from integration.gateway.running import CALCULATE, gateway_in

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@contextmanager
def collector() -> Iterator[tuple[str, list[Any]]]:
    """Collect spans; yield where, and what has come."""
    spans: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            import gzip

            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                for scope in resource.scope_spans:
                    spans.extend(scope.spans)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", spans
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


async def test_M9_a_trace_leads_from_the_callers_span_to_the_tools_start(tmp_path: Path) -> None:
    with collector() as (endpoint, spans):
        async with (
            gateway_in(tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint) as gateway,
            await gateway.caller() as client,
        ):
            answer = await client.post(
                "/v1/tasks", params={"wait": "60s"}, json=CALCULATE, headers={"traceparent": PARENT}
            )
            assert answer.status_code == 201
    by_name = {span.name: span for span in spans}
    request, task, execution = (
        by_name[name] for name in ("POST /v1/tasks", "task calculator", "execute calculator")
    )
    assert {span.trace_id.hex() for span in (request, task, execution)} == {PARENT.split("-")[1]}
    assert request.parent_span_id.hex() == PARENT.split("-")[2]
    assert (task.parent_span_id, execution.parent_span_id) == (request.span_id, task.span_id)
    assert [event.name for event in execution.events] == ["queued", "claimed", "started", "finished"]
    times = [event.time_unix_nano for event in execution.events]
    assert times == sorted(times)
    attributes = {one.key: one.value.string_value for one in task.attributes}
    assert attributes["corral.task.uid"] == answer.json()["metadata"]["uid"]
    assert attributes["corral.reason"] == "Completed"


async def test_M9_without_an_endpoint_nothing_is_traced_and_no_caller_sets_the_annotation(
    tmp_path: Path,
) -> None:
    forged = {
        "apiVersion": "corral.dev/v1alpha1",
        "kind": "AgentTask",
        "metadata": {"name": "forged", "annotations": {"corral.dev/traceparent": PARENT, "a": "b"}},
        "spec": CALCULATE,
    }
    async with gateway_in(tmp_path) as gateway, await gateway.caller() as client:
        answer = await client.post("/v1/tasks", json=forged)
        assert answer.json()["metadata"]["annotations"] == {"a": "b"}
