"""Tools in the words of the Agent Core API. Pure."""

from corral.api import Tool, ToolExample, parse_duration
from corral.grpc.v1 import agent_pb2 as pb
from corral_gateway.grpc.json_values import struct_of, value_of


def capability_of(tool: Tool) -> pb.ToolCapability:
    """Return a tool as a ToolCapability; a schema that a Struct cannot carry is left out."""
    spec = tool.spec
    limit = spec.rate_limit
    return pb.ToolCapability(
        id=tool.name,
        name=tool.name,
        description=spec.description,
        category=spec.category,
        input_schema=struct_of(spec.input_schema),
        output_schema=None if spec.output_schema is None else struct_of(spec.output_schema),
        required_permissions=[permission.value for permission in spec.permissions],
        estimated_duration_ms=_milliseconds(spec.estimated_duration),
        is_dangerous=spec.dangerous,
        version=spec.version,
        author=spec.author,
        tags=spec.tags,
        examples=[_example(example) for example in spec.examples],
        rate_limit=None if limit is None else pb.RateLimit(requests_per_minute=limit.requests_per_minute),
        cache_ttl_ms=_milliseconds(spec.cache_ttl),
    )


def _example(example: ToolExample) -> pb.ToolExample:
    return pb.ToolExample(
        name=example.name,
        description=example.description or "",
        parameters=struct_of(example.arguments),
        result=None if example.result is None else value_of(example.result),
    )


def _milliseconds(duration: str | None) -> int:
    return 0 if duration is None else round(parse_duration(duration) * 1000)
