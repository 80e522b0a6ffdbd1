"""The API server, asked as a user: REST in JSON, and kubectl where what a person sees is the point."""

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias
from urllib.parse import urlencode

import urllib3
from kubernetes import client, config

Object: TypeAlias = dict[str, Any]

#: Where each kind is, as a path with the namespace to put in.
PATHS = {
    "AgentTask": "/apis/corral.dev/v1alpha1/namespaces/{}/agenttasks",
    "SandboxPool": "/apis/corral.dev/v1alpha1/namespaces/{}/sandboxpools",
    "Tool": "/apis/corral.dev/v1alpha1/namespaces/{}/tools",
    "Pod": "/api/v1/namespaces/{}/pods",
    "Secret": "/api/v1/namespaces/{}/secrets",
    "ConfigMap": "/api/v1/namespaces/{}/configmaps",
    "ResourceQuota": "/api/v1/namespaces/{}/resourcequotas",
    "Event": "/apis/events.k8s.io/v1/namespaces/{}/events",
    "NetworkPolicy": "/apis/networking.k8s.io/v1/namespaces/{}/networkpolicies",
    "Role": "/apis/rbac.authorization.k8s.io/v1/namespaces/{}/roles",
    "RoleBinding": "/apis/rbac.authorization.k8s.io/v1/namespaces/{}/rolebindings",
    "Deployment": "/apis/apps/v1/namespaces/{}/deployments",
    "Namespace": "/api/v1/namespaces",
    "Node": "/api/v1/nodes",
    "ValidatingAdmissionPolicy": "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies",
    "ValidatingAdmissionPolicyBinding": "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings",
}
_MERGE_PATCH = "application/merge-patch+json"


class ApiError(Exception):
    """The API server said no."""

    def __init__(self, status: int, text: str) -> None:
        try:
            message = str(json.loads(text).get("message") or text)
        except ValueError:
            message = text
        super().__init__(f"{status}: {message}")
        self.status = status
        self.message = message


class Api:
    """Requests to the API server that KUBECONFIG names."""

    def __init__(self) -> None:
        """Connect to nothing yet.

        Raises:
            AssertionError: there is no kubeconfig.
        """
        assert os.environ.get("KUBECONFIG"), (
            "KUBECONFIG names no cluster. `make test-cluster` makes one, and `make kind-up` leaves one up"
        )
        configuration = client.Configuration()
        config.load_kube_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
        configuration.connection_pool_maxsize = 64
        self._client = client.ApiClient(configuration)
        self._host = str(configuration.host).rstrip("/")

    def request(
        self,
        method: str,
        path: str,
        body: Object | None = None,
        *,
        query: Mapping[str, str] | None = None,
        user: str | None = None,
        content_type: str | None = None,
        seconds: float = 30,
    ) -> Object:
        """Send a request and return the answer.

        Raises:
            ApiError: it was refused.
        """
        with self._send(
            method, path, body, query=query, user=user, content_type=content_type, seconds=(10, seconds)
        ) as answer:
            text = answer.data.decode()
            if answer.status >= 400:
                raise ApiError(answer.status, text)
        found: Object = json.loads(text)
        return found

    def text(self, path: str, query: Mapping[str, str] | None = None) -> str:
        """Return what is no JSON: metrics, logs."""
        with self._send("GET", path, query=query) as answer:
            if answer.status >= 400:
                raise ApiError(answer.status, answer.data.decode())
            return answer.data.decode()

    def events(self, path: str, query: Mapping[str, str]) -> Iterator[Object]:
        """Follow a watch until it ends."""
        with self._send("GET", path, query={**query, "watch": "true"}, seconds=(10, 300)) as answer:
            if answer.status >= 400:
                raise ApiError(answer.status, answer.data.decode())
            rest = b""
            for chunk in answer.stream(amt=None):
                *lines, rest = (rest + chunk).split(b"\n")
                yield from (json.loads(line) for line in lines if line)

    def create(
        self, body: Object, namespace: str = "", *, user: str | None = None, dry: bool = False
    ) -> Object:
        """Create an object."""
        query = {"fieldValidation": "Strict", **({"dryRun": "All"} if dry else {})}
        return self.request("POST", _path(body["kind"], namespace), body, query=query, user=user)

    def get(self, kind: str, namespace: str, name: str) -> Object:
        """Return an object."""
        return self.request("GET", f"{_path(kind, namespace)}/{name}")

    def find(self, kind: str, namespace: str, name: str) -> Object | None:
        """Return an object, None if there is none."""
        try:
            return self.get(kind, namespace, name)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def list(self, kind: str, namespace: str = "", **query: str) -> list[Object]:
        """Return the objects of a kind."""
        items: list[Object] = self.request("GET", _path(kind, namespace), query=query)["items"]
        return items

    def patch(self, kind: str, namespace: str, name: str, body: Object, subresource: str = "") -> Object:
        """Merge a change into an object."""
        path = f"{_path(kind, namespace)}/{name}" + (f"/{subresource}" if subresource else "")
        return self.request("PATCH", path, body, content_type=_MERGE_PATCH)

    def delete(self, kind: str, namespace: str, name: str, **query: str) -> None:
        """Delete an object, if it is there."""
        try:
            self.request("DELETE", f"{_path(kind, namespace)}/{name}", query=query)
        except ApiError as error:
            if error.status != 404:
                raise

    def _send(
        self,
        method: str,
        path: str,
        body: Object | None = None,
        *,
        query: Mapping[str, str] | None = None,
        user: str | None = None,
        content_type: str | None = None,
        seconds: tuple[float, float] = (10, 30),
    ) -> urllib3.BaseHTTPResponse:
        headers = {"Accept": "application/json", "Content-Type": content_type or "application/json"}
        if path == "/metrics":
            headers["Accept"] = "text/plain"
        if user is not None:
            headers["Impersonate-User"] = user
        self._client.update_params_for_auth(headers, [], ["BearerToken"], path, method, None)
        url = f"{self._host}{path}" + (f"?{urlencode(query)}" if query else "")
        answer = self._client.call_api(method, url, headers, body, _request_timeout=seconds).response
        assert isinstance(answer, urllib3.BaseHTTPResponse)
        return answer


def kubectl(*arguments: str, stdin: str | None = None, fails: bool = False, seconds: float = 120) -> str:
    """Run kubectl as a person would, and return what they see: standard output, or the error where it fails."""
    done = subprocess.run(
        ["kubectl", *arguments], input=stdin, capture_output=True, text=True, timeout=seconds, check=False
    )
    assert (done.returncode != 0) == fails, f"kubectl {' '.join(arguments)}: {done.stdout}{done.stderr}"
    return done.stderr if fails else done.stdout


def _path(kind: str, namespace: str) -> str:
    return PATHS[kind].format(namespace)
