"""Which namespace a caller's tasks go to: a namespace is a tenant. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus

from corral_gateway.problems import ProblemError

_NAMESPACE = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?", re.ASCII)
_ALL = "*"
CALLER = "{caller}"


@dataclass(frozen=True, slots=True)
class Namespaces:
    """The mapping, as the settings give it."""

    #: For callers that the table does not name; ``{caller}`` in it stands for the caller's name.
    default: str
    #: Callers, or beginnings of their names with a ``*`` behind, and their namespaces; the longest that fits counts.
    table: Mapping[str, str]
    #: Whose tasks are watched; empty: those that the mapping names.
    given: tuple[str, ...] = ()

    def of(self, caller: str) -> str:
        """Return a caller's namespace.

        Raises:
            ProblemError: it has none.
        """
        found = self.table.get(caller)
        if found is None:
            fits = [name for name in self.table if name.endswith(_ALL) and caller.startswith(name[:-1])]
            found = self.table[max(fits, key=len)] if fits else self.default.replace(CALLER, caller)
        if not _NAMESPACE.fullmatch(found) or not self._is_watched(found):
            raise ProblemError(
                HTTPStatus.FORBIDDEN,
                "NoNamespace",
                f"no namespace of the cluster serves {caller[:200]}",
                remedy="an admin adds it to CORRAL_CALLER_NAMESPACES",
            )
        return found

    @property
    def watched(self) -> tuple[str | None, ...]:
        """Return the namespaces to watch; one None: all of them."""
        given = self.given or (
            (_ALL,) if CALLER in self.default else tuple(dict.fromkeys((self.default, *self.table.values())))
        )
        return (None,) if _ALL in given else given

    def _is_watched(self, namespace: str) -> bool:
        """Whether anybody would ever hear of a task there."""
        watched = self.watched
        return watched == (None,) or namespace in watched
