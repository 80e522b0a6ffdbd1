"""One line of what an account may do in a cluster: pure data, from which the chart's Roles are written."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Generic, TypeVar

ScopeT = TypeVar("ScopeT", bound=StrEnum)


@dataclass(frozen=True, slots=True)
class Grant(Generic[ScopeT]):
    """Some verbs on some resources of one API group."""

    #: Where it holds.
    scope: ScopeT
    #: Empty for the core group.
    group: str
    resources: tuple[str, ...]
    verbs: tuple[str, ...]
    why: str
    #: Only objects of these names; empty: all.
    names: tuple[str, ...] = ()

    def to_rule(self) -> dict[str, Any]:
        """Return the rule of a Role."""
        names = {"resourceNames": list(self.names)} if self.names else {}
        return {
            "apiGroups": [self.group],
            "resources": list(self.resources),
            **names,
            "verbs": list(self.verbs),
        }
