"""M3, M10: the API server refuses every pod with the operator's name on it that is weaker than the builder's."""

import copy
import json
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from chart.cluster import Refused, applied, get, kubectl, namespace, try_out
from chart.rendering import Object, is_hook, render
from corral.api import SecretRef
from corral.cluster.port import ObjectKey
from corral_operator.builders.resize import resize_patch
from corral_operator.builders.sandbox_pod import PodOwner, PodSpec, ProgramProcess, RunnerProcess, sandbox_pod
from corral_operator.decisions.sizes import SandboxSize
from corral_operator.settings import Settings
from eventually import eventually

GIB = 1 << 30
# They have no namespace, so they need names of their own.
ALLOWED_CLASS, OTHER_CLASS = (f"chart-{what}-{uuid.uuid4().hex[:8]}" for what in ("allowed", "other"))
SETTINGS = Settings(sandbox_image="registry.example/corral/sandbox:1", host_users=False)
VALUES: dict[str, Any] = {
    "sandbox": {
        "image": {"repository": "registry.example/corral/sandbox", "tag": "1"},
        "allowedImages": ["registry.example/team", "docker.io/library/busybox"],
        "allowedRuntimeClassNames": [ALLOWED_CLASS],
        "hostUsers": False,
    },
    "secrets": {"namePrefixes": ["agent-"]},
}


@dataclass(frozen=True)
class Place:
    """A namespace that is served, one that is not, and the operator's account."""

    served: str
    other: str
    operator: str

    def pod(self, process: ProgramProcess | RunnerProcess | None = None, **fields: Any) -> Object:
        """Return what the builder makes."""
        given: dict[str, Any] = {
            "name": "sandbox-0",
            "namespace": self.served,
            "labels": {"corral.dev/pool": "default"},
            "owner": PodOwner(
                "corral.dev/v1alpha1", "SandboxPool", "default", "0c5258e0-0000-0000-0000-000000000000"
            ),
            "image": SETTINGS.sandbox_image,
            "size": SandboxSize(cpu=1, memory_bytes=512 << 20, disk_bytes=128 << 20),
            "process": process or RunnerProcess("a" * 64, "b" * 64, {"listen": {"port": 7070}}),
        }
        return sandbox_pod(PodSpec(**{**given, **fields}), SETTINGS)

    def refusal(self, pod: Object, user: str | None = None, where: str | None = None) -> str:
        """Return why the API server refuses a pod; empty if it takes it."""
        body = {**pod, "metadata": {**pod["metadata"], "namespace": where or self.served}}
        try:
            try_out(body, user=user or self.operator, namespace=where or self.served)
        except Refused as refused:
            return str(refused)
        return ""


def _may_read_resize(served: str) -> list[Object]:
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": "kubectl-patch", "namespace": served},
        "rules": [{"apiGroups": [""], "resources": ["pods/resize"], "verbs": ["get"]}],
    }
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "kubectl-patch", "namespace": served},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "kubectl-patch"},
        "subjects": [{"kind": "ServiceAccount", "name": "corral-operator", "namespace": served}],
    }
    return [role, binding]


def _runtime_class(name: str) -> Object:
    return {
        "apiVersion": "node.k8s.io/v1",
        "kind": "RuntimeClass",
        "metadata": {"name": name},
        "handler": "chart-test",
    }


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with namespace() as served, namespace() as other:
        objects = [
            each
            for each in render(VALUES, namespace=served, release="corral")
            if each["kind"].startswith(("ValidatingAdmission", "Role", "ServiceAccount"))
            and not is_hook(each)
        ]
        # The right to try it elsewhere too, and to what kubectl reads first: the policy is to refuse, not RBAC.
        objects += _may_read_resize(served)
        objects += [_runtime_class(ALLOWED_CLASS), _runtime_class(OTHER_CLASS)]
        objects.append(
            {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "RoleBinding",
                "metadata": {"name": "everything", "namespace": other},
                "roleRef": {
                    "apiGroup": "rbac.authorization.k8s.io",
                    "kind": "ClusterRole",
                    "name": "cluster-admin",
                },
                "subjects": [{"kind": "ServiceAccount", "name": "corral-operator", "namespace": served}],
            }
        )
        found = Place(served, other, f"system:serviceaccount:{served}:corral-operator")
        with applied(objects):
            weak = found.pod()
            weak["spec"]["enableServiceLinks"] = True
            eventually(lambda: found.refusal(weak), lambda told: "ValidatingAdmissionPolicy" in told)
            yield found


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"size": SandboxSize(cpu=0.05, memory_bytes=16 << 20, disk_bytes=1 << 20)},
        {"size": SandboxSize(cpu=8, memory_bytes=8 * GIB, disk_bytes=GIB)},
        {"size": SandboxSize(cpu=8, memory_bytes=8 * GIB, disk_bytes=8 * GIB)},
        {"runtime_class": ALLOWED_CLASS},
        {"secret_refs": (SecretRef(name="agent-token", key="token", env="TOKEN"),)},
        {"active_deadline_seconds": 60},
        {"image": "registry.example/team/tool:2"},
        {"image": "registry.example/team@sha256:" + "0" * 64},
        {"image": "docker.io/library/busybox:1", "process": ProgramProcess(("true",), (("A", "$(B)"),))},
    ],
    ids=lambda fields: ", ".join(fields) or "as it comes",
)
def test_M3_what_the_builder_makes_is_taken(place: Place, fields: dict[str, Any]) -> None:
    told = place.refusal(place.pod(**fields))
    assert told == ""


Change = Callable[[dict[str, Any]], object]


def container(change: Change) -> Change:
    return lambda pod: change(pod["spec"]["containers"][0])


def security(**fields: Any) -> Change:
    return container(lambda one: one["securityContext"].update(fields))


def pod_security(**fields: Any) -> Change:
    return lambda pod: pod["spec"]["securityContext"].update(fields)


def spec(**fields: Any) -> Change:
    return lambda pod: pod["spec"].update(fields)


def volume(**source: Any) -> Change:
    return lambda pod: pod["spec"]["volumes"].append({"name": "more", **source})


def limit(name: str, amount: str | None) -> Change:
    def change(one: dict[str, Any]) -> None:
        one["resources"]["requests"].pop(name, None)
        if amount is None:
            del one["resources"]["limits"][name]
            one["resources"]["requests"].pop(name, None)
        else:
            one["resources"]["limits"][name] = amount

    return container(change)


def env(**source: Any) -> Change:
    return container(lambda one: one["env"].append({"name": "MORE", "valueFrom": source}))


def secret(name: str) -> Change:
    return env(secretKeyRef={"name": name, "key": "k"})


def another(kind: str) -> Change:
    return lambda pod: (
        pod["spec"]
        .setdefault(kind, [])
        .append({**copy.deepcopy(pod["spec"]["containers"][0]), "name": "more"})
    )


#: What a pod is changed into, and what the refusal names.
MUTANTS: dict[str, tuple[Change, str]] = {
    "two containers": (another("containers"), "exactly one container"),
    "an init container": (another("initContainers"), "exactly one container"),
    "restarts": (spec(restartPolicy="Always"), "restartPolicy"),
    "restarts its container": (container(lambda one: one.update(restartPolicy="Always")), "restartPolicy"),
    "a node": (spec(nodeName="corral-control-plane"), "nodeName"),
    "another runtime class": (spec(runtimeClassName=OTHER_CLASS), "runtimeClassName"),
    "system priority": (spec(priorityClassName="system-node-critical"), "priorityClassName"),
    "devices": (spec(resourceClaims=[{"name": "gpu", "resourceClaimName": "gpu"}]), "resourceClaims"),
    "a token": (spec(automountServiceAccountToken=True), "automountServiceAccountToken"),
    "a token by default": (
        lambda pod: pod["spec"].pop("automountServiceAccountToken"),
        "automountServiceAccountToken",
    ),
    "service links": (spec(enableServiceLinks=True), "enableServiceLinks"),
    "service links by default": (lambda pod: pod["spec"].pop("enableServiceLinks"), "enableServiceLinks"),
    "another account": (spec(serviceAccountName="corral-operator"), "serviceAccountName"),
    "the node's network": (spec(hostNetwork=True, hostUsers=True), "hostNetwork"),
    "the node's users": (spec(hostUsers=True), "hostUsers"),
    "users by default": (lambda pod: pod["spec"].pop("hostUsers"), "hostUsers"),
    "one process namespace": (spec(shareProcessNamespace=True), "shareProcessNamespace"),
    "a port of the node": (
        container(lambda one: one.update(ports=[{"containerPort": 80, "hostPort": 80}])),
        "hostPort",
    ),
    "hostPath": (volume(hostPath={"path": "/"}), "name=more"),
    "a Secret as volume": (volume(secret={"secretName": "agent-x"}), "name=more"),
    "a ConfigMap": (volume(configMap={"name": "x"}), "name=more"),
    "a projected token": (
        volume(projected={"sources": [{"serviceAccountToken": {"path": "t"}}]}),
        "name=more",
    ),
    "a CSI volume": (volume(csi={"driver": "x.example"}), "name=more"),
    "a claim": (volume(persistentVolumeClaim={"claimName": "x"}), "name=more"),
    "the downward API": (volume(downwardAPI={"items": []}), "name=more"),
    "an image as volume": (volume(image={"reference": "x"}), "name=more"),
    "no size": (volume(emptyDir={}), "name=more"),
    "a large disk": (volume(emptyDir={"sizeLimit": "9Gi"}), "policy.maximumLimits.disk"),
    "mounts that spread": (
        container(lambda one: one["volumeMounts"][0].update(mountPropagation="HostToContainer")),
        "mountPropagation",
    ),
    "root": (pod_security(runAsUser=0, runAsNonRoot=False), "runAsNonRoot"),
    "root in the container": (security(runAsUser=0, runAsNonRoot=False), "runAsNonRoot"),
    "anybody": (lambda pod: pod["spec"]["securityContext"].pop("runAsUser"), "runAsUser"),
    "no seccomp": (pod_security(seccompProfile={"type": "Unconfined"}), "seccompProfile"),
    "seccomp by default": (
        lambda pod: pod["spec"]["securityContext"].pop("seccompProfile"),
        "seccompProfile",
    ),
    "no seccomp in the container": (security(seccompProfile={"type": "Unconfined"}), "seccompProfile"),
    "a seccomp profile of the node": (
        security(seccompProfile={"type": "Localhost", "localhostProfile": "x.json"}),
        "seccompProfile",
    ),
    "sysctls": (pod_security(sysctls=[{"name": "net.ipv4.ip_forward", "value": "1"}]), "sysctls"),
    "SELinux": (pod_security(seLinuxOptions={"type": "spc_t"}), "seLinuxOptions"),
    "SELinux in the container": (security(seLinuxOptions={"level": "s0"}), "seLinuxOptions"),
    "no AppArmor": (security(appArmorProfile={"type": "Unconfined"}), "appArmorProfile"),
    "privileged": (security(privileged=True, allowPrivilegeEscalation=True), "allowPrivilegeEscalation"),
    "escalation": (security(allowPrivilegeEscalation=True), "allowPrivilegeEscalation"),
    "escalation by default": (
        container(lambda one: one["securityContext"].pop("allowPrivilegeEscalation")),
        "allowPrivilegeEscalation",
    ),
    "an open /proc": (security(procMount="Unmasked"), "procMount"),
    "a writable root": (security(readOnlyRootFilesystem=False), "readOnlyRootFilesystem"),
    "capabilities": (security(capabilities={"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}), "capabilities"),
    "capabilities by default": (security(capabilities={}), "capabilities"),
    "a hook": (
        container(lambda one: one.update(lifecycle={"preStop": {"exec": {"command": ["x"]}}})),
        "lifecycle",
    ),
    "a probe": (
        container(lambda one: one.update(readinessProbe={"httpGet": {"host": "10.0.0.1", "port": 80}})),
        "no probes",
    ),
    "a field of the node": (env(fieldRef={"fieldPath": "status.hostIP"}), "secretKeyRef"),
    "a ConfigMap's value": (env(configMapKeyRef={"name": "x", "key": "k"}), "secretKeyRef"),
    "all of a Secret": (
        container(lambda one: one.update(envFrom=[{"secretRef": {"name": "agent-x"}}])),
        "secretKeyRef",
    ),
    "the runners' key": (secret("corral-runner-key"), "Corral's own Secrets"),
    "what Helm keeps": (secret("sh.helm.release.v1.corral.v1"), "Corral's own Secrets"),
    "another Secret": (secret("database"), "agent-"),
    "no CPU limit": (limit("cpu", None), "must have cpu and memory"),
    "no memory limit": (limit("memory", None), "must have cpu and memory"),
    "much CPU": (limit("cpu", "8100m"), "policy.maximumLimits.cpu"),
    "much memory": (limit("memory", "9281Mi"), "policy.maximumLimits.memory"),
    "much disk": (limit("ephemeral-storage", "9Gi"), "policy.maximumLimits.disk"),
    "a GPU": (
        container(lambda one: one["resources"]["limits"].update({"example.com/gpu": "1"})),
        "must have cpu and memory",
    ),
    "another image": (container(lambda one: one.update(image="docker.io/evil/x:1")), "sandbox.allowedImages"),
    "an image that begins alike": (
        container(lambda one: one.update(image="registry.example/team-evil/x:1")),
        "sandbox.allowedImages",
    ),
    "a tag of the sandbox's that is not its own": (
        container(lambda one: one.update(image="registry.example/corral/sandbox:2")),
        "sandbox.allowedImages",
    ),
    "no label": (lambda pod: pod["metadata"]["labels"].pop("corral.dev/sandbox"), "corral.dev/sandbox"),
    "a label that no policy selects": (
        lambda pod: pod["metadata"]["labels"].update({"corral.dev/sandbox": "false"}),
        "corral.dev/sandbox",
    ),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_M3_a_weaker_pod_is_refused_by_its_field(place: Place, name: str) -> None:
    change, field = MUTANTS[name]
    pod = place.pod()
    change(pod)
    told = place.refusal(pod)
    assert "ValidatingAdmissionPolicy 'corral-sandboxes." in told, told or "taken"
    assert field in told.split("denied request: ")[1]


@pytest.mark.parametrize("field", ["hostNetwork", "hostPID", "hostIPC"])
def test_M3_a_namespace_of_the_node_is_refused(place: Place, field: str) -> None:
    pod = place.pod()
    pod["spec"][field] = True
    # With hostUsers false the API server refuses by itself already, before any policy.
    assert place.refusal(pod) != ""
    pod["spec"]["hostUsers"] = True
    assert "ValidatingAdmissionPolicy" in place.refusal(pod)


def test_M3_the_operator_may_make_nothing_weaker_in_other_namespaces_either(place: Place) -> None:
    plain = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "plain"},
        "spec": {"containers": [{"name": "a", "image": "x"}]},
    }
    assert "ValidatingAdmissionPolicy" in place.refusal(plain, where=place.other)
    assert place.refusal(place.pod(), where=place.other) == ""


def test_M3_nobody_else_makes_a_pod_that_looks_like_a_sandbox(place: Place) -> None:
    for user in ("system:admin", f"system:serviceaccount:{place.served}:default"):
        told = place.refusal(place.pod(), user=f"{user}") if user != "system:admin" else _as_admin(place)
        assert "only Corral's operator" in told or "is forbidden" in told
    assert "only Corral's operator" in _as_admin(place)
    plain = place.pod()
    del plain["metadata"]["labels"]["corral.dev/sandbox"]
    plain["spec"]["hostPID"], plain["spec"]["hostUsers"] = True, True
    try_out(plain, namespace=place.served)  # an ordinary pod is none of its business
    foreign = place.pod(namespace=place.other)
    try_out(foreign, namespace=place.other)  # nor is a namespace that it does not serve


def _as_admin(place: Place) -> str:
    try:
        try_out(place.pod(), namespace=place.served)
    except Refused as refused:
        return str(refused)
    return ""


@pytest.fixture
def standing(place: Place) -> Iterator[Object]:
    """A sandbox that exists, and never starts."""
    pod = place.pod()
    pod["metadata"].update(name="standing", ownerReferences=[])
    pod["spec"]["schedulingGates"] = [{"name": "corral.dev/test"}]
    kubectl("create", "-f", "-", stdin=pod, user=place.operator)
    try:
        yield get("pod", "standing", place.served)
    finally:
        kubectl("delete", "pod", "standing", "--namespace", place.served, "--grace-period=0", "--force")


def _patched(place: Place, patch: str, *, user: str | None = None, subresource: str | None = None) -> str:
    more = [f"--subresource={subresource}"] if subresource else []
    try:
        kubectl(
            *(
                "patch",
                "pod",
                "standing",
                "--namespace",
                place.served,
                "--dry-run=server",
                "--type=merge",
                "-p",
                patch,
            ),
            *more,
            user=user,
        )
    except Refused as refused:
        return str(refused)
    return ""


def test_M3_nobody_else_changes_a_sandbox(place: Place, standing: Object) -> None:
    refused = "only Corral's operator"
    assert refused in _patched(place, '{"metadata":{"labels":{"corral.dev/sandbox":null}}}')
    assert refused in _patched(place, '{"metadata":{"labels":{"corral.dev/pool":"other"}}}')
    assert refused in _patched(place, '{"metadata":{"labels":{"corral.dev/task-uid":"x"}}}')
    assert refused in _patched(place, '{"spec":{"activeDeadlineSeconds":5}}')
    image = '{"spec":{"containers":[{"name":"sandbox","image":"registry.example/team/x"}]}}'
    with pytest.raises(Refused, match=refused):
        kubectl("patch", "pod", "standing", "--namespace", place.served, "--dry-run=server", "-p", image)
    # What belongs to the cluster's own controllers and to people goes through.
    assert _patched(place, '{"metadata":{"finalizers":["example.com/x"],"annotations":{"a":"b"}}}') == ""
    assert _patched(place, '{"metadata":{"labels":{"team":"a"}}}') == ""


def test_B7_the_operator_resizes_up_to_the_maximum(place: Place, standing: Object) -> None:
    key = ObjectKey(place.served, "standing", standing["metadata"]["uid"])

    def resize(size: SandboxSize, user: str | None) -> str:
        return _patched(place, json.dumps(resize_patch(key, size, SETTINGS)), user=user, subresource="resize")

    larger = SandboxSize(cpu=2, memory_bytes=GIB, disk_bytes=128 << 20)
    assert resize(larger, place.operator) == ""
    assert "policy.maximumLimits.cpu" in resize(SandboxSize(9, GIB, 128 << 20), place.operator)
    assert "policy.maximumLimits.memory" in resize(SandboxSize(1, 16 * GIB, 128 << 20), place.operator)
    assert "only Corral's operator" in resize(larger, None)


def test_M3_no_debugger_joins_a_sandbox(place: Place, standing: Object) -> None:
    body = copy.deepcopy(standing)
    body["spec"]["ephemeralContainers"] = [
        {"name": "debug", "image": "busybox", "terminationMessagePolicy": "File", "imagePullPolicy": "Always"}
    ]
    path = f"/api/v1/namespaces/{place.served}/pods/standing/ephemeralcontainers?dryRun=All"
    with pytest.raises(Refused, match="ValidatingAdmissionPolicy 'corral-sandboxes"):
        kubectl("replace", "--raw", path, "-f", "-", stdin=body)


def test_M10_the_operators_other_creations_have_one_name_each(place: Place) -> None:
    from corral_operator.builders.network_policy import network_policy

    def told(found: Object) -> str:
        return place.refusal(found, user=place.operator)

    def secret_of(name: str, kind: str) -> Object:
        annotations = {"kubernetes.io/service-account.name": "default"}
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "annotations": annotations},
            "type": kind,
        }

    assert told(secret_of("corral-runner-key", "Opaque")) == ""
    assert "corral-runner-key" in told(secret_of("other", "Opaque"))
    assert "type Opaque" in told(secret_of("corral-runner-key", "kubernetes.io/service-account-token"))
    lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "corral-operator"}}
    assert told(lease) == ""
    assert "not other" in told({**lease, "metadata": {"name": "other"}})

    policy = network_policy(place.served, Settings(operator_namespace=place.served))
    assert told(policy) == ""
    mutants: dict[str, Change] = {
        "another name": lambda one: one["metadata"].update(name="other"),
        "egress": lambda one: one["spec"].update(egress=[{}]),
        "one direction": lambda one: one["spec"].update(policyTypes=["Ingress"]),
        "from anywhere": lambda one: one["spec"].update(ingress=[{}]),
        "from other namespaces": lambda one: one["spec"]["ingress"][0]["from"].append(
            {"namespaceSelector": {}}
        ),
        "on every port": lambda one: one["spec"]["ingress"][0].pop("ports"),
        "other pods": lambda one: one["spec"].update(podSelector={"matchLabels": {"app": "x"}}),
    }
    for name, change in mutants.items():
        changed = copy.deepcopy(policy)
        change(changed)
        assert "the operator makes one NetworkPolicy" in told(changed), name
