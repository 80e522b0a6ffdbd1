"""Lists and watches of the Kubernetes API, over HTTPS with a service account's token."""

from __future__ import annotations

import http.client
import json
import ssl
import sys
import threading
import time
import urllib.parse
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

# A watch ends by itself after this long; the socket waits a little longer, so that a silent dead peer is noticed.
_WATCH_SECONDS = 240
_SOCKET_SECONDS = _WATCH_SECONDS + 15
_RETRY_SECONDS = 0.5

Object = dict[str, Any]
Key = tuple[str, str]


@dataclass(frozen=True)
class Server:
    """Where the API is, how its certificate is checked, and who asks."""

    host: str
    port: int
    ca_file: str
    token: str

    @classmethod
    def read(cls, file: Path) -> Server:
        told = json.loads(file.read_text(encoding="utf-8"))
        address = urllib.parse.urlsplit(told["server"])
        return cls(str(address.hostname), address.port or 443, told["ca_file"], told["token"])

    def get(self, path: str, **query: str) -> http.client.HTTPResponse:
        trust = ssl.create_default_context(cafile=self.ca_file)
        connection = http.client.HTTPSConnection(self.host, self.port, timeout=_SOCKET_SECONDS, context=trust)
        headers = {"Authorization": f"Bearer {self.token}", "Accept": "application/json"}
        connection.request("GET", f"{path}?{urllib.parse.urlencode(query)}", headers=headers)
        answer = connection.getresponse()
        if answer.status != 200:
            said = answer.read(500).decode(errors="replace")
            connection.close()
            raise OSError(f"GET {path}: {answer.status} {said}")
        return answer


def key(item: Object) -> Key:
    return item["metadata"].get("namespace", ""), item["metadata"]["name"]


class Watched:
    """A copy of all objects of one resource, kept up to date by a thread.

    Attributes:
        items: the objects by namespace and name; replaced or changed only by the thread.
        complete: set once the first list is in.
    """

    def __init__(self, server: Server, path: str, changed: Callable[[], None], **query: str) -> None:
        self.items: dict[Key, Object] = {}
        self.complete = threading.Event()
        self._server = server
        self._path = path
        self._query = query
        self._changed = changed
        threading.Thread(target=self._follow, name=path, daemon=True).start()

    def snapshot(self) -> list[Object]:
        # list() of a dict's values is one step under the interpreter's lock, so the thread cannot get in between.
        return list(self.items.values())

    def _follow(self) -> None:
        while True:
            try:
                version = self._list()
                for event in self._events(version):
                    self._apply(event)
            except (OSError, ValueError, http.client.HTTPException, KeyError) as error:
                print(f"{self._path}: {error}", file=sys.stderr, flush=True)
                time.sleep(_RETRY_SECONDS)

    def _list(self) -> str:
        with self._server.get(self._path, **self._query) as answer:
            listed = json.load(answer)
        self.items = {key(item): item for item in listed["items"]}
        self.complete.set()
        self._changed()
        return str(listed["metadata"]["resourceVersion"])

    def _events(self, version: str) -> Iterator[Object]:
        """The changes since a version, over as many watches as it takes; ends when the version is too old."""
        while True:
            query = {"watch": "1", "resourceVersion": version, "allowWatchBookmarks": "true"}
            query |= {"timeoutSeconds": str(_WATCH_SECONDS)} | self._query
            with self._server.get(self._path, **query) as answer:
                for line in answer:
                    event = json.loads(line)
                    if event["type"] == "ERROR":  # 410 Gone, mostly: list anew
                        return
                    version = event["object"]["metadata"]["resourceVersion"]
                    yield event

    def _apply(self, event: Object) -> None:
        item = event["object"]
        if event["type"] == "BOOKMARK":
            return
        if event["type"] == "DELETED":
            self.items.pop(key(item), None)
        else:
            self.items[key(item)] = item
        self._changed()
