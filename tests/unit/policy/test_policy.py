"""The policy's decisions."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.api import (
    ALL_PERMISSIONS,
    DEFAULT_LIMITS,
    AgentTaskSpec,
    InputFile,
    Limits,
    Network,
    NetworkMode,
    PermissionLevel,
    Reason,
    ResolvedLimits,
    Tool,
)
from corral.policy import LAPTOP_POLICY, Allowed, Policy, Refused, evaluate

READ, WRITE, EXECUTE, NETWORK, SYSTEM, ADMIN = PermissionLevel


def tool(**spec: Any) -> Tool:
    return Tool.from_wire(
        {
            "apiVersion": "corral.dev/v1alpha1",
            "kind": "Tool",
            "metadata": {"name": "read_file"},
            "spec": {"description": "x", "permissions": ["read"], "run": {"builtin": "x"}, **spec},
        }
    )


def task(**spec: Any) -> AgentTaskSpec:
    return AgentTaskSpec.from_wire({"tool": "read_file", **spec})


def allowed(policy: Policy, of_tool: Tool, spec: AgentTaskSpec) -> Allowed:
    decision = evaluate(policy, of_tool, spec)
    assert isinstance(decision, Allowed), decision
    return decision


def refused(policy: Policy, of_tool: Tool, spec: AgentTaskSpec) -> Refused:
    decision = evaluate(policy, of_tool, spec)
    assert isinstance(decision, Refused), decision
    assert decision.reason is Reason.PERMISSION_DENIED
    assert decision.how_to_grant
    return decision


def test_C4_a_task_that_asks_for_nothing_gets_the_defaults_and_no_network() -> None:
    assert allowed(Policy(), tool(), task()) == Allowed(
        limits=ResolvedLimits.of(DEFAULT_LIMITS),
        permissions=frozenset({READ}),
        allowed_paths=(".",),
        network=Network(),
    )


def test_C4_a_permission_that_is_not_granted_is_refused_by_name() -> None:
    decision = refused(Policy(permissions=frozenset({READ})), tool(permissions=["read", "write"]), task())
    assert (decision.rule, decision.message, decision.how_to_grant) == (
        "permissions",
        "read_file needs the permission write, which is not granted",
        "grant write",
    )


def test_A7_a_blocked_permission_is_refused_even_to_admin() -> None:
    policy = Policy(permissions=frozenset({ADMIN}), blocked_permissions=frozenset({EXECUTE}))
    decision = refused(policy, tool(permissions=["execute"]), task())
    assert (decision.rule, decision.how_to_grant) == ("blockedPermissions", "unblock execute")
    decision = refused(policy, tool(permissions=["admin"]), task())
    assert decision.message == "read_file needs admin, which includes execute, which is blocked"


def test_C4_admin_includes_all() -> None:
    decision = allowed(Policy(permissions=frozenset({ADMIN})), tool(permissions=["admin"]), task())
    assert decision.permissions == ALL_PERMISSIONS - {ADMIN, NETWORK}
    assert isinstance(
        evaluate(Policy(permissions=ALL_PERMISSIONS - {ADMIN}), tool(permissions=["admin"]), task()), Refused
    )


def test_A7_only_tools_on_the_allowlist_run() -> None:
    allowed(Policy(allowlist=frozenset({"read-file"})), tool(), task())
    assert refused(Policy(allowlist=frozenset({"python"})), tool(), task()).rule == "allowlist"
    assert refused(Policy(allowlist=frozenset()), tool(), task()).rule == "allowlist"


def test_M3_a_task_that_asks_for_network_needs_the_permission() -> None:
    asks = task(network={"mode": "allowlist", "allowedDomains": ["example.com"]})
    assert refused(LAPTOP_POLICY, tool(), asks).message == "the task asks for the network, which is blocked"
    decision = allowed(Policy(permissions=ALL_PERMISSIONS), tool(), asks)
    assert decision.network.mode is NetworkMode.ALLOWLIST
    assert NETWORK in decision.permissions


def test_M3_a_tool_never_opens_the_network_by_itself() -> None:
    made_for_it = tool(
        permissions=["network"],
        network={"mode": "allowlist", "allowedDomains": ["example.com"], "maxRequests": 3},
    )
    decision = allowed(Policy(permissions=ALL_PERMISSIONS), made_for_it, task())
    assert (decision.network, decision.permissions) == (Network(), frozenset())


@pytest.mark.parametrize(
    ("may", "asks", "fine"),
    [
        ("example.com", "example.com", True),
        ("*.example.com", "a.example.com", True),
        ("*.example.com", "*.a.example.com", True),
        ("*.example.com", "*.example.com", True),
        ("*.example.com", "example.com", False),
        ("*.example.com", "badexample.com", False),
        ("a.example.com", "*.example.com", False),
        ("example.com", "a.example.com", False),
    ],
)
def test_M3_a_task_reaches_no_more_than_its_tool_is_made_for(may: str, asks: str, fine: bool) -> None:  # noqa: FBT001
    of_tool = tool(network={"mode": "allowlist", "allowedDomains": [may]})
    spec = task(network={"mode": "allowlist", "allowedDomains": [asks]})
    decision = evaluate(Policy(permissions=ALL_PERMISSIONS), of_tool, spec)
    assert isinstance(decision, Allowed) is fine
    if isinstance(decision, Refused):
        assert (decision.rule, decision.field) == ("tool.network", "spec.network.allowedDomains[0]")


def test_M3_the_tools_budget_of_requests_holds_for_its_tasks() -> None:
    policy = Policy(permissions=ALL_PERMISSIONS)
    network = {"mode": "allowlist", "allowedDomains": ["example.com"]}
    of_tool = tool(network={**network, "maxRequests": 3})
    assert allowed(policy, of_tool, task(network=network)).network.max_requests == 3
    assert allowed(policy, of_tool, task(network={**network, "maxRequests": 2})).network.max_requests == 2
    assert (
        refused(policy, of_tool, task(network={**network, "maxRequests": 4})).field
        == "spec.network.maxRequests"
    )
    assert refused(policy, tool(network={}), task(network=network)).message.endswith("may reach nothing")


def test_M2_a_request_above_the_policys_maximum_is_refused_and_never_lowered() -> None:
    decision = refused(Policy(maximum_limits=Limits(memory="512Mi")), tool(), task(limits={"memory": "1Gi"}))
    assert decision == Refused(
        reason=Reason.PERMISSION_DENIED,
        rule="maximumLimits",
        message="spec.limits.memory asks for 1Gi, the policy's maximum is 512Mi",
        how_to_grant="ask for at most 512Mi, or raise the policy's maximum",
        field="spec.limits.memory",
    )


def test_M2_a_request_above_the_tools_maximum_is_refused() -> None:
    decision = refused(
        Policy(), tool(limits={"maximum": {"timeout": "10s"}}), task(limits={"timeout": "11s"})
    )
    assert (decision.rule, decision.message) == (
        "tool.limits.maximum",
        "spec.limits.timeout asks for 11s, the maximum of read_file is 10s",
    )


def test_M2_a_default_above_a_maximum_takes_the_maximum() -> None:
    of_tool = tool(limits={"default": {"memory": "1Gi"}, "maximum": {"timeout": "10s"}})
    limits = allowed(Policy(maximum_limits=Limits(memory="256Mi", processes=8)), of_tool, task()).limits
    assert (limits.memory_bytes, limits.wall_seconds, limits.processes) == (256 << 20, 10.0, 8)


def test_limits_of_a_step_go_before_those_of_the_task_and_the_tool() -> None:
    spec = AgentTaskSpec.from_wire(
        {
            "steps": [
                {"name": "a", "tool": "t"},
                {"name": "b", "tool": "t", "limits": {"memory": "2Gi", "processes": 1}},
            ],
            "limits": {"memory": "1Gi", "timeout": "5s"},
        }
    )
    of_tool = tool(limits={"default": {"memory": "3Gi", "timeout": "1s", "cpu": 2}})
    first = evaluate(Policy(), of_tool, spec, spec.steps[0])
    second = evaluate(Policy(), of_tool, spec, spec.steps[1])
    assert isinstance(first, Allowed)
    assert isinstance(second, Allowed)
    assert (first.limits.memory_bytes, first.limits.wall_seconds, first.limits.cpu) == (1 << 30, 5.0, 2.0)
    assert (second.limits.memory_bytes, second.limits.wall_seconds, second.limits.processes) == (
        2 << 30,
        5.0,
        1,
    )
    tight = Policy(maximum_limits=Limits(memory="1Gi"))
    over = evaluate(tight, of_tool, spec, spec.steps[1])
    assert isinstance(over, Refused)
    assert over.field == "spec.steps[1].limits.memory"


@pytest.mark.parametrize("path", ["../x", "/etc", "a/../../b", ".."])
def test_A7_paths_out_of_the_workspace_are_refused_even_if_validation_was_left_out(path: str) -> None:
    files = (InputFile.model_construct(path=path, content="", content_base64=None, mode="0644"),)
    for update, field in (
        ({"allowed_paths": (path,)}, "spec.allowedPaths[0]"),
        ({"files": files}, "spec.files[0]"),
        ({"outputs": (path,)}, "spec.outputs[0]"),
    ):
        decision = refused(Policy(), tool(), task().model_copy(update=update))
        assert (decision.rule, decision.field) == ("workspace", field)


def test_A7_a_task_may_touch_only_the_paths_that_the_policy_allows() -> None:
    policy = Policy(allowed_paths=("in", "out/deep"))
    assert allowed(policy, tool(), task(allowedPaths=["in/a", "./in//", "out/deep/x"])).allowed_paths == (
        "in/a",
        "in",
        "out/deep/x",
    )
    for path in (".", "inside", "out"):
        assert refused(policy, tool(), task(allowedPaths=[path])).rule == "allowedPaths"
    assert (
        refused(policy, tool(), task()).field == "spec.allowedPaths[0]"
    )  # the default is the whole workspace


def test_a_directory_of_the_host_needs_the_policys_word() -> None:
    spec = task(workspace={"hostPath": "/home/me/project"})
    assert refused(Policy(), tool(), spec).rule == "hostPaths"
    allowed(Policy(host_paths=("/home/me",)), tool(), spec)
    allowed(LAPTOP_POLICY, tool(), task(workspace={"hostPath": "relative/too"}))
    for path in ("/home/me/../you", "/home/mean", "home/me/x", "/"):
        assert (
            refused(Policy(host_paths=("/home/me",)), tool(), task(workspace={"hostPath": path})).rule
            == "hostPaths"
        )


def test_M13_a_laptop_allows_all_but_network_and_system() -> None:
    for level in (READ, WRITE, EXECUTE):
        allowed(LAPTOP_POLICY, tool(permissions=[level.value]), task())
    for level in (NETWORK, SYSTEM, ADMIN):
        assert refused(LAPTOP_POLICY, tool(permissions=[level.value]), task()).rule == "blockedPermissions"


permission_sets = st.frozensets(st.sampled_from(list(PermissionLevel)))


@given(permission_sets, permission_sets, permission_sets)
def test_C4_what_is_allowed_was_granted_and_needed_and_not_blocked(
    granted: frozenset[PermissionLevel],
    blocked: frozenset[PermissionLevel],
    needed: frozenset[PermissionLevel],
) -> None:
    policy = Policy(permissions=granted, blocked_permissions=blocked)
    decision = evaluate(policy, tool(permissions=[level.value for level in needed]), task())
    full = ALL_PERMISSIONS if ADMIN in granted else granted
    wanted = ALL_PERMISSIONS if ADMIN in needed else needed
    assert isinstance(decision, Allowed) is (wanted <= full - blocked)
    if isinstance(decision, Allowed):
        assert decision.permissions <= wanted


memory = st.integers(1, 4096).map(lambda number: f"{number}Mi")
some_limits = st.fixed_dictionaries({}, optional={"memory": memory, "processes": st.integers(1, 4096)})


@given(some_limits, some_limits, some_limits, some_limits)
def test_M2_no_allowed_limit_is_above_any_maximum_and_every_request_is_honoured(
    asked: dict[str, Any], default: dict[str, Any], own: dict[str, Any], most: dict[str, Any]
) -> None:
    of_tool = tool(limits={"maximum": own})
    if not Limits.from_wire(default).exceeds(Limits.from_wire(own)):
        of_tool = tool(limits={"maximum": own, "default": default})
    decision = evaluate(Policy(maximum_limits=Limits.from_wire(most)), of_tool, task(limits=asked))
    maxima = (Limits.from_wire(own), Limits.from_wire(most))
    if isinstance(decision, Refused):
        assert any(Limits.from_wire(asked).exceeds(maximum) for maximum in maxima)
        return
    given_limits = decision.limits
    for maximum in maxima:
        if maximum.memory is not None:
            assert given_limits.memory_bytes <= ResolvedLimits.of(maximum).memory_bytes
        if maximum.processes is not None:
            assert given_limits.processes <= maximum.processes
    if "memory" in asked:
        assert given_limits.memory_bytes == ResolvedLimits.of(Limits.from_wire(asked)).memory_bytes
