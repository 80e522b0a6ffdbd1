"""One test's namespace: submitting, waiting, counting."""

import json
import secrets
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from eventually import eventually
from faults import workload
from faults.cluster import OWN, SANDBOX_IMAGE, Harness

Json = dict[str, Any]

#: Two cores run three nodes, and much else.
PATIENCE_SECONDS = 90.0
_GROUP = "/apis/corral.dev/v1alpha1/namespaces"


def settings(namespace: str, **changes: object) -> dict[str, str]:
    """Return an operator's environment: as deployed, but for times that would make the tests long."""
    chosen: dict[str, object] = {
        "namespaces": json.dumps([namespace]),
        "operator_namespace": OWN,
        "sandbox_image": SANDBOX_IMAGE,
        "verify_network_policy": "false",
        "log_format": "text",
        "lease_seconds": 4,
        "sweep_seconds": 3,
        "metrics_port": 0,
        "health_port": 0,
        **changes,
    }
    return {f"CORRAL_{name.upper()}": str(value) for name, value in chosen.items()}


@dataclass(slots=True)
class Scene:
    """A namespace with tools, under record."""

    harness: Harness
    namespace: str = field(default_factory=lambda: f"faults-{secrets.token_hex(3)}")
    began: float = field(default_factory=time.monotonic)
    submitted: list[Json] = field(default_factory=list)
    uids: list[str] = field(default_factory=list)

    def open(self, *, pool: int = 0) -> None:
        """Make the namespace, the tools, and a pool of so many."""
        self.harness.call("open", namespace=self.namespace)
        self.apply("tools", workload.tools())
        if pool:
            self.apply("sandboxpools", [workload.pool(pool)])

    def close(self) -> None:
        """Take everything away."""
        self.harness.call("close", namespace=self.namespace)

    def path(self, plural: str, name: str = "", *, core: bool = False) -> str:
        """Return an address in this namespace."""
        base = "/api/v1/namespaces" if core else _GROUP
        return f"{base}/{self.namespace}/{plural}" + (f"/{name}" if name else "")

    def apply(self, plural: str, objects: Iterable[Json]) -> list[str]:
        """Create objects."""
        path = self.path(plural)
        made: list[str] = self.harness.call("apply", objects=[(path, one) for one in objects])
        return made

    def submit(self, tasks: list[Json]) -> list[str]:
        """Create tasks that are to be counted."""
        self.submitted += tasks
        made = self.apply("agenttasks", tasks)
        self.uids += made
        return made

    def fresh(self) -> "Scene":
        """Forget what was counted so far: the next test counts its own."""
        self.submitted, self.uids, self.began = [], [], time.monotonic()
        self.harness.call("forget_made")
        return self

    def ask(self, method: str, path: str, body: Json | None = None) -> Json:
        """Ask the API server, past the proxy."""
        found: Json = self.harness.call("ask", method=method, path=path, body=body)
        return found

    # --- operators ---

    def operate(self, name: str = "a", **changes: object) -> None:
        """Start an operator."""
        self.harness.call("start", name=name, env=settings(self.namespace, **changes))

    def warm_up(self, replicas: int) -> None:
        """Wait until a pool's sandboxes wait."""
        self.until(
            lambda: self.ask("GET", self.path("sandboxpools", "pool")).get("status") or {},
            lambda status: status.get("ready", 0) >= replicas,
        )

    def faults(self, *rules: Json, seed: int = 1, **watches: Any) -> None:
        """Make these faults, and no others, from now on."""
        self.harness.call("faults", seed=seed, rules=list(rules), watches=watches)

    # --- what comes of it ---

    def until(
        self,
        look: Callable[[], Any],
        is_so: Callable[[Any], bool] = bool,
        *,
        seconds: float = PATIENCE_SECONDS,
    ) -> Any:
        """Wait, and say what the operators logged when it never comes."""
        try:
            return eventually(look, is_so, seconds=seconds)
        except AssertionError as error:
            error.add_note(self.told())
            raise

    def told(self) -> str:
        """Return what is known when something is wrong."""
        lines = [f"count: {self.count()}", f"faults: {self.harness.call('made')}"]
        for name in ("a", "b"):
            try:
                log = self.harness.call("operator", name=name)["log"].splitlines()
            except AssertionError:
                continue
            # Two operators meet at every status; that says nothing.
            told = "\n".join(line for line in log if "the object has been modified" not in line)
            lines.append(f"operator {name}: {told[-8000:]}")
        return "\n".join(lines)

    def count(self) -> Json:
        """Return the count as it stands."""
        found: Json = self.harness.call(
            "count", namespace=self.namespace, repeatable=list(workload.REPEATABLE), only=self.uids
        )
        return found

    def statuses(self) -> dict[str, Json]:
        """Return the counted tasks' statuses by name; of two of one name, the later."""
        tasks = self.harness.call("tasks", namespace=self.namespace)
        return {one["name"]: one["status"] for one in tasks if one["uid"] in self.uids}

    def running(self) -> list[Json]:
        """Return the pods in which something was started that has not ended."""
        return [pod for pod in self.pods() if pod["started"] and not pod["ended"] and not pod["deleted"]]

    def delete(self, plural: str, name: str, *, core: bool = False) -> None:
        """Delete an object."""
        answer = self.ask("DELETE", self.path(plural, name, core=core))
        assert "error" not in answer, answer

    def present(self) -> dict[str, int]:
        """Return how many sandbox pods and tasks there are now."""
        found: dict[str, int] = self.harness.call("present", namespace=self.namespace)
        return found

    def pods(self) -> list[Json]:
        """Return every sandbox pod that there was."""
        found: list[Json] = self.harness.call("pods", namespace=self.namespace)
        return found

    def finish(self, *, seconds: float = PATIENCE_SECONDS) -> Json:
        """Wait until every task has ended, then return the count."""
        wanted = len(self.submitted)
        self.until(
            self.count,
            lambda found: found["submitted"] >= wanted and not found["without_status"],
            seconds=seconds,
        )
        return self.count()

    def _unexpected(self) -> list[str]:
        return [
            f"{name}: {one.get('reason')}: {one.get('message')}"
            for name, status in self.statuses().items()
            for one in (status, *status.get("executions", ()))
            if one.get("reason") != "Completed"
        ]

    def check(self, what: str, *, reasons: dict[str, int] | None = None) -> Json:
        """Print the count and hold it against what must be; with ``reasons`` None, all must have completed."""
        # A pod that has just come up is read, or goes; what stays unheard is wrong.
        with suppress(AssertionError):
            eventually(self.count, lambda found: not found["unheard"], seconds=20)
        found = self.count()
        seconds = time.monotonic() - self.began
        made = self.harness.call("made")
        print(
            f"\n{what}: tasks submitted {found['submitted']}, executions started {found['started']}, "
            f"lost {found['lost']}, doubled {found['doubled']}, without status {found['without_status']}; "
            f"pods {found['pods']} ({found['idle']} idle), reasons {found['reasons']}, faults {made}, {seconds:.0f} s"
        )
        wrong = {
            name: found[name] for name in ("lost", "doubled", "without_status", "unheard") if found[name]
        }
        assert not wrong, "\n".join([*found["problems"], self.told()])
        if reasons is None:
            reasons = {"Completed": len(self.submitted)}
            said = {name: _last_result(status) for name, status in self.statuses().items()}
            assert said == workload.results(self.submitted), f"{self._unexpected()}\n{self.told()}"
        assert found["reasons"] == reasons, f"{self._unexpected()}\n{self.told()}"
        return found


def _last_result(status: Json) -> str:
    return str((status.get("executions") or [{}])[-1].get("result", "")).strip()
