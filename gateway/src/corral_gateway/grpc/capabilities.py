"""Tools in the words of the Agent Core API."""

from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

from corral.api import Tool, ToolExample, parse_duration
from corral.catalogue import Catalogue
from corral.grpc.v1 import agent_pb2 as pb
from corral_gateway.grpc.json_values import struct_of, value_of


@dataclass(slots=True)
class _Shelf:
    version: int
    capabilities: dict[str, pb.ToolCapability] = field(default_factory=dict)


class Capabilities:
    """Keeps what was told of tools, as long as they are the same: schemas are large."""

    def __init__(self) -> None:
        self._shelves: WeakKeyDictionary[Catalogue, _Shelf] = WeakKeyDictionary()

    def of(self, catalogue: Catalogue, tool: Tool) -> pb.ToolCapability:
        """Return a tool of a catalogue as a ToolCapability; not to be changed."""
        shelf = self._shelves.get(catalogue)
        if shelf is None or shelf.version != catalogue.version:
            shelf = self._shelves[catalogue] = _Shelf(catalogue.version)
        found = shelf.capabilities.get(tool.name)
        if found is None:
            found = shelf.capabilities[tool.name] = capability_of(tool)
        return found


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
