"""S1, B13: gRPC by the real command, beside HTTP in one process."""

import re
import signal
import socket
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from corral.grpc.v1 import agent_pb2 as pb
from corral.grpc.v1 import agent_pb2_grpc as pb_grpc
from integration.gateway.calling import request_for
from integration.gateway.running import CALCULATE
from integration.gateway.serving import corral, serving

SLOW = {"tool": "shell", "arguments": {"command": "echo begun; sleep 2; echo done"}}


def free_port() -> int:
    """Return a port that nobody has at the moment."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
    return port


def first_key(log: Path) -> tuple[tuple[str, str], ...]:
    """Return the metadata of the key that the first start has printed."""
    (key,) = re.findall(r"corral_[0-9a-f]{12}_\S{43}", log.read_text())
    return (("x-api-key", key),)


def test_S1_one_process_serves_http_and_grpc(tmp_path: Path) -> None:
    port = free_port()
    with (
        serving(tmp_path, CORRAL_GRPC_PORT=str(port)) as (_, log, _),
        grpc.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        stub = pb_grpc.AgentServiceStub(channel)
        assert stub.ExecuteTask(request_for(CALCULATE), metadata=first_key(log)).result == "42"


def test_B13_a_gateway_that_is_told_to_end_finishes_what_is_called(tmp_path: Path) -> None:
    port = free_port()
    with (
        serving(tmp_path, CORRAL_GRPC_PORT=str(port), CORRAL_GRACE_SECONDS="30") as (_, log, process),
        grpc.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        watching: Any = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert next(watching).status == health_pb2.HealthCheckResponse.SERVING
        call: Any = pb_grpc.AgentServiceStub(channel).StreamExecuteTask(
            request_for(SLOW), metadata=first_key(log)
        )
        updates = [next(call)]
        while updates[-1].message != "begun\n":
            updates.append(next(call))
        process.send_signal(signal.SIGTERM)
        assert next(watching).status == health_pb2.HealthCheckResponse.NOT_SERVING
        updates += call
        assert updates[-1].state == pb.AGENT_STATE_COMPLETED
        assert process.wait(timeout=60) == 0
        assert "Traceback" not in log.read_text()


def test_S1_a_port_that_is_taken_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "0")
    monkeypatch.setenv("CORRAL_METRICS_PORT", "0")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        monkeypatch.setenv("CORRAL_GRPC_PORT", str(port))
        ended = corral(tmp_path, "serve")
    assert ended.returncode == 2
    assert f"CORRAL_GRPC_PORT: 127.0.0.1:{port} cannot be listened on" in ended.stderr
    assert "Traceback" not in ended.stderr
