"""Sees every pod, every task and every frame of a namespace for itself: straight from the API server and the pods."""

import asyncio
import contextlib
import json
from collections.abc import Callable
from typing import Any

import aiohttp

from corral.cluster.names import RUNNER_PORT
from corral.sandbox.pod.tokens import PodTokens
from faults.api import Api, ApiError
from faults.counting import PodRecord

Json = dict[str, Any]

_TASKS = "/apis/corral.dev/v1alpha1/namespaces/{}/agenttasks"
_PODS = "/api/v1/namespaces/{}/pods"
_CONNECT_SECONDS = 3.0
_AGAIN_SECONDS = 0.05
_RETRY_LABEL = "faults/retry"


class Recorder:
    """Records one namespace."""

    def __init__(self, api: Api, namespace: str, key: bytes) -> None:
        self._api = api
        self._namespace = namespace
        self._key = key
        self.pods: dict[str, PodRecord] = {}
        self.tasks: dict[str, Json] = {}
        #: Objects that are there now, by kind.
        self.present: dict[str, set[str]] = {"pods": set(), "agenttasks": set()}
        #: Called with every ``started`` frame's pod.
        self.on_started: Callable[[PodRecord], None] = lambda _: None
        #: UIDs of pods that some status named.
        self._assigned: set[str] = set()
        self._followers: dict[str, asyncio.Task[None]] = {}
        self._watches: list[asyncio.Task[None]] = []

    def begin(self) -> None:
        """Start recording."""
        loop = asyncio.get_running_loop()
        for path, take in ((_PODS, self._take_pod), (_TASKS, self._take_task)):
            self._watches.append(loop.create_task(self._watch(path.format(self._namespace), take)))

    async def end(self) -> None:
        """Stop recording; what was recorded stays."""
        tasks = [*self._watches, *self._followers.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _watch(self, path: str, take: Callable[[str, Json], None]) -> None:
        kind = path.rsplit("/", 1)[1]
        while True:
            with contextlib.suppress(aiohttp.ClientError, ApiError, TimeoutError, OSError):
                listed = await self._api.ask("GET", path)
                here = set()
                for item in listed["items"]:
                    here.add(item["metadata"]["uid"])
                    take("ADDED", item)
                for uid in self.present[kind] - here:
                    self._is_gone(kind, uid)
                async for event in self._api.watch(path, listed["metadata"]["resourceVersion"]):
                    if event["type"] == "ERROR":
                        break
                    if event["type"] != "BOOKMARK":
                        take(event["type"], event["object"])
            await asyncio.sleep(_AGAIN_SECONDS)

    def _is_gone(self, kind: str, uid: str) -> None:
        self.present[kind].discard(uid)
        if kind == "pods" and uid in self.pods:
            self.pods[uid].deleted = True
        elif kind == "agenttasks" and uid in self.tasks:
            self.tasks[uid]["metadata"]["deleted"] = True

    def _take_task(self, kind: str, body: Json) -> None:
        uid = body["metadata"]["uid"]
        self.tasks[uid] = body
        self.present["agenttasks"].add(uid)
        for execution in (body.get("status") or {}).get("executions") or ():
            self._assigned.add((execution.get("sandbox") or {}).get("podUID", ""))
        for pod in self._assigned & self.pods.keys():
            self.pods[pod].assigned = True
        if kind == "DELETED":
            self._is_gone("agenttasks", uid)

    def _take_pod(self, kind: str, body: Json) -> None:
        metadata, status = body["metadata"], body.get("status") or {}
        if (metadata.get("labels") or {}).get("corral.dev/sandbox") != "true":
            return
        uid = metadata["uid"]
        owners = metadata.get("ownerReferences") or [{"uid": ""}]
        env = body["spec"]["containers"][0].get("env") or ()
        pod = self.pods.setdefault(
            uid,
            PodRecord(
                metadata["name"],
                uid,
                metadata["labels"],
                owners[0]["uid"],
                any(one["name"] == "CORRAL_READ_TOKEN_SHA256" for one in env),
            ),
        )
        self.present["pods"].add(uid)
        pod.assigned = pod.assigned or uid in self._assigned
        pod.node = body["spec"].get("nodeName") or pod.node
        container = (status.get("containerStatuses") or [{}])[0]
        state = container.get("state") or {}
        ended = state.get("terminated") or {}
        pod.ran = (
            pod.ran or "running" in state or ("startedAt" in ended and ended.get("reason") != "StartError")
        )
        if kind == "DELETED":
            self._is_gone("pods", uid)
        elif pod.has_runner and "running" in state and status.get("podIP") and uid not in self._followers:
            work = self._follow(pod, status["podIP"])
            self._followers[uid] = asyncio.get_running_loop().create_task(work)

    async def _follow(self, pod: PodRecord, address: str) -> None:
        token = PodTokens.of(self._key, self._namespace, pod.name).read
        while not pod.deleted:
            with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError, ValueError):
                async with asyncio.timeout(_CONNECT_SECONDS):
                    reader, writer = await asyncio.open_connection(address, RUNNER_PORT, limit=4 << 20)
                try:
                    for line in ({"op": "hello", "token": token}, {"op": "follow"}, {"op": "describe"}):
                        writer.write(json.dumps(line).encode() + b"\n")
                    async for raw in reader:
                        self._take_line(pod, json.loads(raw), writer)
                finally:
                    writer.close()
            await asyncio.sleep(_AGAIN_SECONDS)

    def _take_line(self, pod: PodRecord, line: Json, writer: asyncio.StreamWriter) -> None:
        if "seq" in line:
            pod.heard = True
            if line["seq"] in pod.frames:
                return
            # Output is not kept: only that there was some.
            pod.frames[line["seq"]] = {k: v for k, v in line.items() if k not in {"data", "base64"}}
            if line["type"] == "started":
                writer.write(b'{"op":"describe"}\n')
                self.on_started(pod)
        elif line["type"] == "description" and line["owner"] is not None:
            pod.owner = line["owner"]["uid"], line["owner"]["attempt"]
            self.on_started(pod)

    def task_of(self, pod: PodRecord) -> Json | None:
        """Return the task whose execution was started in a pod, as the runner or the pod's label says."""
        uid = pod.owner[0].split("/")[0] if pod.owner else pod.labels.get("corral.dev/task-uid", "")
        return self.tasks.get(uid)

    def is_to_be_taken(self, pod: PodRecord) -> bool:
        """Whether the test wants this pod deleted while it runs: first attempts of tasks with a certain label."""
        task = self.task_of(pod)
        labels = {} if task is None else task["metadata"].get("labels") or {}
        return labels.get(_RETRY_LABEL) == "once" and any(attempt == 1 for _, _, attempt in pod.started())
