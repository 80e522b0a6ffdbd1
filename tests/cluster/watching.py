"""What happens in a namespace, from one moment on: every version of every object, nothing missed."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from cluster.api import PATHS, Api, ApiError, Object
from eventually import PATIENCE_SECONDS

_T = TypeVar("_T")


class Watch:
    """All that happens to the objects of a kind in a namespace, kept for good."""

    def __init__(self, api: Api, kind: str, namespace: str) -> None:
        """Begin. What is there already counts as the first that happened."""
        self._api = api
        self._path = PATHS[kind].format(namespace)
        #: Event type and object, in order.
        self.history: list[tuple[str, Object]] = []
        #: The last version by name, of those that are there.
        self.now: dict[str, Object] = {}
        self._news = threading.Condition()
        self._over = threading.Event()
        self._error: Exception | None = None
        listed = api.request("GET", self._path)
        self._version: str = listed["metadata"]["resourceVersion"]
        for item in listed["items"]:
            self._heard("ADDED", item)
        self._thread = threading.Thread(target=self._follow, daemon=True, name=f"watch {self._path}")
        self._thread.start()

    def until(
        self, look: Callable[["Watch"], _T | None], *, seconds: float = PATIENCE_SECONDS, pause: float = 60.0
    ) -> _T:
        """Return what ``look`` gives as soon as it is true.

        Args:
            look: is called after each event.
            seconds: after so long it will not be.
            pause: it is called as often as this without an event, too: for what it sees elsewhere.

        Raises:
            AssertionError: it never was; the message shows what is there.
        """
        deadline = time.monotonic() + seconds
        with self._news:
            while True:
                found = look(self)
                if found:
                    return found
                if self._error is not None:
                    raise AssertionError(f"the watch of {self._path} broke") from self._error
                if (
                    not self._news.wait(min(pause, deadline - time.monotonic()))
                    and time.monotonic() >= deadline
                ):
                    raise AssertionError(
                        f"not so after {seconds:g} s; there is {list(map(_brief, self.now.values()))}"
                    )

    def versions(self, name: str) -> list[Object]:
        """Return all versions of an object that were seen."""
        with self._news:
            return [item for _, item in self.history if item["metadata"]["name"] == name]

    def names(self) -> set[str]:
        """Return the names of all that ever was."""
        with self._news:
            return {item["metadata"]["name"] for _, item in self.history}

    def current(self) -> list[Object]:
        """Return what is there."""
        with self._news:
            return list(self.now.values())

    def most_at_once(self) -> int:
        """Return how many there were at once at most."""
        return max((len(there) for there in self._moments()), default=0)

    def close(self) -> None:
        """Stop listening."""
        self._over.set()

    def _moments(self) -> Iterator[set[str]]:
        there: set[str] = set()
        with self._news:
            for kind, item in self.history:
                (there.discard if kind == "DELETED" else there.add)(item["metadata"]["name"])
                yield there

    def _follow(self) -> None:
        while not self._over.is_set():
            query = {"resourceVersion": self._version, "timeoutSeconds": "60", "allowWatchBookmarks": "true"}
            try:
                for event in self._api.events(self._path, query):
                    if self._over.is_set():
                        return
                    if event["type"] == "ERROR":
                        raise ApiError(event["object"].get("code", 0), str(event["object"]))  # noqa: TRY301
                    self._version = event["object"]["metadata"]["resourceVersion"]
                    if event["type"] != "BOOKMARK":
                        self._heard(event["type"], event["object"])
            # Whoever waits is told, in the thread that waits.
            except Exception as error:  # noqa: BLE001
                with self._news:
                    self._error = error
                    self._news.notify_all()
                return

    def _heard(self, kind: str, item: Object) -> None:
        with self._news:
            self.history.append((kind, item))
            name = item["metadata"]["name"]
            if kind == "DELETED":
                self.now.pop(name, None)
            else:
                self.now[name] = item
            self._news.notify_all()


def _brief(item: Object) -> tuple[str, object]:
    status = item.get("status") or {}
    return item["metadata"]["name"], {
        key: status[key]
        for key in ("phase", "reason", "message", "ready", "replicas", "conditions")
        if key in status
    }
