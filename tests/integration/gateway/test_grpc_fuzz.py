"""B1, S3: whatever is sent over gRPC, the answer says what is wrong, and the server lives."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc import StatusCode, aio
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from corral.grpc.v1 import agent_pb2 as pb
from corral_gateway.grpc.server import _SCOPES
from integration.gateway.calling import Door, grpc_of, request_for
from integration.gateway.running import CALCULATE, Gateway, gateway_in

_METHODS = pb.DESCRIPTOR.services_by_name["AgentService"].methods
#: What says that the gateway itself failed.
_FAULTS = {StatusCode.UNKNOWN, StatusCode.INTERNAL, StatusCode.DATA_LOSS}
_ROUNDS = 60

_TEXTS = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        ["", "\0", "../../etc/passwd", "calculator", "shell", "steps", "$(steps.a.result)", "9" * 400]
    ),
)
_NUMBERS = {
    FieldDescriptor.CPPTYPE_INT32: st.integers(-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: st.integers(-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_DOUBLE: st.floats(),
    FieldDescriptor.CPPTYPE_BOOL: st.booleans(),
    FieldDescriptor.CPPTYPE_ENUM: st.integers(-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_STRING: _TEXTS,
}
#: What a task could nearly be, so that more than the first check is reached.
_TASKS = st.fixed_dictionaries(
    {},
    optional={
        "tool": st.sampled_from(["calculator", "no_such_tool", "", "a b", 3, None, ["shell"]]),
        "arguments": st.recursive(
            st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | _TEXTS,
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXTS, inner, max_size=3),
            max_leaves=8,
        ),
        "steps": st.lists(st.dictionaries(st.sampled_from(["name", "tool", "needs"]), _TEXTS), max_size=3),
        "limits": st.dictionaries(st.sampled_from(["memory", "timeout", "cpu"]), _TEXTS, max_size=2),
        "spec": _TEXTS | st.dictionaries(_TEXTS, _TEXTS, max_size=2),
        "kind": _TEXTS,
        "metadata": st.dictionaries(_TEXTS, _TEXTS, max_size=2),
        "idempotencyKey": _TEXTS,
        "activeDeadlineSeconds": st.integers(-1, 3) | st.floats(allow_nan=False, allow_infinity=False),
        "env": st.lists(st.dictionaries(st.sampled_from(["name", "value"]), _TEXTS), max_size=2),
    },
)


@st.composite
def messages(draw: Any, kind: Descriptor, levels: int = 4) -> Message:
    """Draw any message of a kind, each field there or not."""
    message: Message = GetMessageClass(kind)()
    for field in kind.fields:
        if levels and draw(st.booleans()):
            _fill(draw, message, field, levels - 1)
    return message


def _fill(draw: Any, message: Message, field: FieldDescriptor, levels: int) -> None:
    kind = field.message_type
    if kind is None:
        value = draw(_NUMBERS[field.cpp_type])
        if field.is_repeated:
            getattr(message, field.name).append(value)
        else:
            setattr(message, field.name, value)
    elif kind.GetOptions().map_entry:
        entry = kind.fields_by_name["value"]
        into = getattr(message, field.name)
        key = draw(_TEXTS)
        if entry.message_type is None:
            into[key] = draw(_NUMBERS[entry.cpp_type])
        else:
            into[key].CopyFrom(draw(messages(entry.message_type, levels)))
    elif field.is_repeated:
        getattr(message, field.name).add().CopyFrom(draw(messages(kind, levels)))
    else:
        getattr(message, field.name).CopyFrom(draw(messages(kind, levels)))


@pytest.fixture
async def door(gateway: Gateway) -> AsyncIterator[Door]:
    async with grpc_of(gateway) as served:
        yield served


async def answered(door: Door, path: str, payloads: Sequence[bytes], metadata: Any) -> list[StatusCode]:
    """Send payloads to a method; return how each was answered."""

    async def one(channel: aio.Channel, payload: bytes) -> StatusCode:
        call = channel.unary_stream(path, bytes, bytes)(payload, metadata=metadata, timeout=60)
        try:
            async for _ in call:
                if "Watch" in path:
                    call.cancel()
                    return StatusCode.OK
        except aio.AioRpcError as error:
            return error.code()
        return StatusCode.OK

    async with door.channel() as channel:
        return [await one(channel, payload) for payload in payloads]


async def lives(door: Door, metadata: Any) -> None:
    """See that a well-meant call is served as ever."""
    async with door.stub() as stub:
        assert (await stub.ExecuteTask(request_for(CALCULATE), metadata=metadata)).result == "42"


def drawn(kind: Descriptor, rounds: int) -> list[bytes]:
    """Return messages of a kind as bytes, the same ones in each run."""
    found: list[bytes] = []

    @seed(0)
    @settings(
        max_examples=rounds,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(message=messages(kind), task=st.none() | _TASKS)
    def collect(message: Any, task: Any) -> None:
        if task is not None and kind.name == "ExecuteTaskRequest":
            message.context.update({"task": task})
        found.append(message.SerializeToString())

    collect()
    return found


@pytest.mark.parametrize("method", [method.name for method in _METHODS])
async def test_B1_no_message_is_a_fault_of_the_gateway(door: Door, method: str) -> None:
    kind = pb.DESCRIPTOR.services_by_name["AgentService"].methods_by_name[method].input_type
    metadata = await door.metadata()
    codes = await answered(door, f"/corral.agent.v1.AgentService/{method}", drawn(kind, _ROUNDS), metadata)
    assert _FAULTS.isdisjoint(codes)
    assert StatusCode.DEADLINE_EXCEEDED not in codes
    if kind.name == "ExecuteTaskRequest":
        assert {StatusCode.INVALID_ARGUMENT, StatusCode.UNIMPLEMENTED} <= set(codes)
    await lives(door, metadata)


@pytest.mark.parametrize("path", [*_SCOPES, "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"])
async def test_B1_no_bytes_are_a_fault_of_the_gateway(door: Door, path: str) -> None:
    chance = random.Random(path)
    payloads = [chance.randbytes(chance.randrange(64)) for _ in range(_ROUNDS)]
    # A group that never ends, a length beyond the end, text that is none, levels without end.
    payloads += [b"\x0b", b"\x0a\xff\xff\xff\xff\x0f", b"\x12\x02\xff\xff", b"\x1a\x80" * 500]
    metadata = await door.metadata()
    assert _FAULTS.isdisjoint(await answered(door, path, payloads, metadata))
    await lives(door, metadata)


async def test_B1_levels_without_end_are_refused(door: Door) -> None:
    nested: Any = "x"
    for _ in range(30):
        nested = {"a": nested}
    flat = request_for({"tool": "calculator", "arguments": nested}).SerializeToString()
    # Value within list within Value: length-delimited fields around each other.
    deep = b"\x1a\x01x"
    for _ in range(2000):
        deep = b"\x32" + _varint(len(deep)) + deep
        deep = b"\x0a" + _varint(len(deep)) + deep
    entry = b"\x0a\x04task\x12" + _varint(len(deep)) + deep
    struct = b"\x0a" + _varint(len(entry)) + entry
    hostile = b"\x1a" + _varint(len(struct)) + struct
    metadata = await door.metadata()
    codes = await answered(door, "/corral.agent.v1.AgentService/ExecuteTask", [flat, hostile], metadata)
    assert codes == [StatusCode.INVALID_ARGUMENT, StatusCode.INVALID_ARGUMENT]
    await lives(door, metadata)


async def test_B1_no_metadata_is_a_fault_of_the_gateway(door: Door) -> None:
    metadata = await door.metadata()
    key = metadata[0][1]
    payload = request_for(CALCULATE).SerializeToString()
    for hostile in (
        (("x-api-key", ""),),
        (("x-api-key", " " * 2000),),
        (("x-api-key", key), ("x-api-key", "corral_000000000000_" + "A" * 43)),
        (("authorization", "Bearer"),),
        (("authorization", "Bearer " + "." * 5000),),
        (("authorization", "Bearer eyJhbGciOiJub25lIn0.e30."),),
        (("x-api-key-bin", bytes(range(256))),),
        (*metadata, ("idempotency-key", "x" * 4000)),
        (*metadata, ("idempotency-key", "")),
        (*metadata, ("traceparent", "00-" + "z" * 40)),
        (*metadata, ("user-agent-of-mine", "~" * 3000)),
        tuple((f"name-{number}", "x") for number in range(200)),
        (*metadata, ("grpc-timeout-of-mine", "-1S"), ("te", "x"), ("content-type-2", "x")),
        (*metadata, ("large", "x" * 64_000)),
    ):
        codes = await answered(door, "/corral.agent.v1.AgentService/ExecuteTask", [payload], hostile)
        assert _FAULTS.isdisjoint(codes), hostile
    await lives(door, metadata)


async def test_B1_what_is_no_grpc_at_all_harms_nobody(door: Door) -> None:
    chance = random.Random(0)
    for payload in (
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + chance.randbytes(4096),
        b"\x16\x03\x01\x02\x00\x01\x00",
        chance.randbytes(4096),
        b"",
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
        writer.write(payload)
        if writer.can_write_eof():
            writer.write_eof()
        async with asyncio.timeout(60):
            try:
                await reader.read()
            except ConnectionError:
                pass  # it was hung up on, which is an answer
        writer.close()
    await lives(door, await door.metadata())


async def test_B1_methods_that_are_not_there_are_unimplemented(door: Door) -> None:
    paths = ("/corral.agent.v1.AgentService/Nothing", "/Nothing", "//", "/grpc.health.v1.Health/List")
    for path in paths:
        codes = await answered(door, path, [b""], await door.metadata())
        assert codes == [StatusCode.UNIMPLEMENTED], path


async def test_B1_a_compressed_message_is_no_way_round_the_limit(tmp_path: Any) -> None:
    from grpc import Compression

    async with gateway_in(tmp_path, MAX_REQUEST_SIZE=65536) as gateway, grpc_of(gateway) as door:
        metadata = await door.metadata()
        async with door.channel() as channel:
            call = channel.unary_unary("/corral.agent.v1.AgentService/ExecuteTask", bytes, bytes)
            with pytest.raises(aio.AioRpcError) as raised:
                await call(
                    b"\x12\x80\x80\x80\x08" + b"x" * (16 << 20),
                    metadata=metadata,
                    compression=Compression.Gzip,
                )
        assert raised.value.code() is StatusCode.RESOURCE_EXHAUSTED
        await lives(door, metadata)


def _varint(number: int) -> bytes:
    data = bytearray()
    while number > 127:
        data.append(number & 127 | 128)
        number >>= 7
    data.append(number)
    return bytes(data)
