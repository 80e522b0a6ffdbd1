"""Pod Security Standards, level restricted (v1.36), written down once more from the standard's text.

https://kubernetes.io/docs/concepts/security/pod-security-standards/. Stricter than the standard in one thing: what may
stand at the pod or at the container must be right wherever it stands.
"""

from collections.abc import Iterator
from typing import Any

_VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
}


def violations(spec: dict[str, Any]) -> list[str]:
    return [*_of_pod(spec), *(found for one in spec["containers"] for found in _of_container(spec, one))]


def _of_pod(spec: dict[str, Any]) -> Iterator[str]:
    context = spec.get("securityContext", {})
    for name in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(name):
            yield name
    for volume in spec.get("volumes", ()):
        if not set(volume) - {"name"} <= _VOLUMES:
            yield f"volume {volume['name']}"
    if context.get("sysctls"):
        yield "sysctls"
    yield from _of_context(context)


def _of_container(spec: dict[str, Any], container: dict[str, Any]) -> Iterator[str]:
    pod, context = spec.get("securityContext", {}), container.get("securityContext", {})
    capabilities = context.get("capabilities", {})
    if "ALL" not in capabilities.get("drop", ()):
        yield "capabilities are not dropped"
    if set(capabilities.get("add", ())) - {"NET_BIND_SERVICE"}:
        yield "capabilities are added"
    if context.get("privileged"):
        yield "privileged"
    if context.get("allowPrivilegeEscalation") is not False:
        yield "allowPrivilegeEscalation"
    if context.get("runAsNonRoot", pod.get("runAsNonRoot")) is not True:
        yield "runAsNonRoot"
    profile = context.get("seccompProfile", pod.get("seccompProfile", {}))
    if profile.get("type") not in {"RuntimeDefault", "Localhost"}:
        yield "seccompProfile"
    if context.get("procMount", "Default") != "Default":
        yield "procMount"
    if any(port.get("hostPort") for port in container.get("ports", ())):
        yield "hostPort"
    hooks = [container.get(name, {}) for name in ("livenessProbe", "readinessProbe", "startupProbe")]
    hooks += container.get("lifecycle", {}).values()
    if any(action.get("host") for hook in hooks for action in hook.values() if isinstance(action, dict)):
        yield "host of a probe"
    yield from _of_context(context)


def _of_context(context: dict[str, Any]) -> Iterator[str]:
    if context.get("runAsUser") == 0:
        yield "runAsUser"
    if context.get("windowsOptions", {}).get("hostProcess"):
        yield "hostProcess"
    if context.get("appArmorProfile", {}).get("type") == "Unconfined":
        yield "appArmorProfile"
    if context.get("seccompProfile", {}).get("type") == "Unconfined":
        yield "seccompProfile"
    options = context.get("seLinuxOptions", {})
    if options.get("user") or options.get("role"):
        yield "seLinuxOptions"
