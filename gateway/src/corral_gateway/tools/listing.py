"""Lists of tools as they are sent, kept as long as the tools are the same."""

import hashlib
import json
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from corral.api import Tool
from corral.catalogue import Catalogue

#: Lists that are kept of one catalogue. Each is asked for in few ways; who asks in a thousand makes it slow for nobody.
_KEPT = 64


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which tools are wanted."""

    query: str = ""
    categories: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    exclude_dangerous: bool = False
    max_results: int | None = None

    def among(self, catalogue: Catalogue) -> list[Tool]:
        """Return the tools that fit, best first; without a query by name."""
        return catalogue.discover(
            self.query,
            categories=self.categories,
            tags=self.tags,
            exclude_dangerous=self.exclude_dangerous,
            max_results=self.max_results,
        )


@dataclass(frozen=True, slots=True)
class Listing:
    """A list as it is sent."""

    body: bytes
    etag: str


@dataclass(slots=True)
class _Shelf:
    version: int
    listings: dict[Wanted, Listing]


class Listings:
    """Makes lists, and remembers them."""

    def __init__(self) -> None:
        self._shelves: WeakKeyDictionary[Catalogue, _Shelf] = WeakKeyDictionary()

    def of(self, catalogue: Catalogue, wanted: Wanted) -> Listing:
        """Return the list of the tools that are wanted."""
        shelf = self._shelves.get(catalogue)
        if shelf is None or shelf.version != catalogue.version:
            shelf = self._shelves[catalogue] = _Shelf(catalogue.version, {})
        found = shelf.listings.get(wanted)
        if found is None:
            if len(shelf.listings) >= _KEPT:
                shelf.listings.pop(next(iter(shelf.listings)))
            found = shelf.listings[wanted] = _listing(catalogue, wanted)
        return found


def _listing(catalogue: Catalogue, wanted: Wanted) -> Listing:
    items = [tool.to_wire() for tool in wanted.among(catalogue)]
    body = json.dumps({"items": items}, ensure_ascii=False, separators=(",", ":")).encode()
    return Listing(body, f'"{hashlib.sha256(body).hexdigest()[:32]}"')
