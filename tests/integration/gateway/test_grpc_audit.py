"""A10: what comes over gRPC is recorded as what comes over HTTP."""

from pathlib import Path

from corral.grpc.v1 import agent_pb2 as pb
from corral_gateway.identity.roles import Role
from integration.gateway.audited import recorded
from integration.gateway.calling import grpc_of, refused, request_for
from integration.gateway.running import CALCULATE, gateway_in


async def test_A10_calls_their_tasks_and_refusals_are_on_record(tmp_path: Path) -> None:
    async with gateway_in(tmp_path) as gateway, grpc_of(gateway) as door, door.stub() as stub:
        metadata = await door.metadata("ann")
        request = request_for(CALCULATE)
        response = await stub.ExecuteTask(request, metadata=metadata)
        await refused(stub.ExecuteTask(pb.ExecuteTaskRequest(), metadata=metadata))
        await refused(stub.ExecuteTask(request, metadata=await door.metadata("eve", Role.VIEWER)))
        await stub.HealthCheck(pb.HealthCheckRequest())
    requests = await recorded(tmp_path, "SELECT * FROM requests ORDER BY created_at", count=3)
    (execution,) = await recorded(tmp_path, "SELECT * FROM executions")
    told = [(row["caller"], row["status"], row["code"], row["reason"]) for row in requests]
    assert told == [
        ("ann", "success", "OK", None),
        ("ann", "error", "INVALID_ARGUMENT", "InvalidSpec"),
        ("eve", "refused", "PERMISSION_DENIED", "Forbidden"),
    ]
    first = requests[0]
    assert (first["transport"], first["method"], first["source"]) == ("grpc", "ExecuteTask", "127.0.0.1")
    assert first["route"] == first["target"] == "/corral.agent.v1.AgentService/ExecuteTask"
    assert f'"bytes":{request.ByteSize()}' in first["input"]
    assert (execution["task_uid"], execution["caller"]) == (response.task_id, "ann")


async def test_A8_a_tool_that_fails_is_a_tool_error_of_its_call(tmp_path: Path) -> None:
    failing = {"tool": "calculator", "arguments": {"expression": "1/0"}}
    async with gateway_in(tmp_path) as gateway, grpc_of(gateway) as door, door.stub() as stub:
        await stub.ExecuteTask(request_for(failing), metadata=await door.metadata("ann"))
    (request,) = await recorded(tmp_path, "SELECT * FROM requests", count=1)
    assert (request["status"], request["code"], request["reason"]) == ("tool_error", "OK", "ToolError")
