"""The policy file of the chart."""

from pathlib import Path

import pytest

from corral.api import MAXIMUM_LIMITS, PermissionLevel
from corral.policy import Policy
from corral_operator.policy_file import PolicyError, read_policy


def _read(folder: Path, text: str | bytes) -> Policy:
    path = folder / "policy.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_policy(str(path))


@pytest.mark.parametrize("text", ["", "# nothing\n", "{}", "---\n"])
def test_C4_without_a_file_or_a_word_in_it_the_default_policy_holds(tmp_path: Path, text: str) -> None:
    assert read_policy(None) == Policy()
    assert _read(tmp_path, text) == Policy()


def test_C4_everything_that_the_file_may_say(tmp_path: Path) -> None:
    text = """
permissions: [read, network]
blockedPermissions: [execute]
allowlist: [calculator, read_file]
allowedPaths: [data, out]
maximumLimits: {memory: 1Gi, timeout: 5m}
"""
    limits = MAXIMUM_LIMITS.model_copy(update={"memory": "1Gi", "timeout": "5m"})
    assert _read(tmp_path, text) == Policy(
        permissions=frozenset({PermissionLevel.READ, PermissionLevel.NETWORK}),
        blocked_permissions=frozenset({PermissionLevel.EXECUTE}),
        allowlist=frozenset({"calculator", "read_file"}),
        allowed_paths=("data", "out"),
        maximum_limits=limits,
    )


def test_A7_an_empty_allowlist_allows_nothing(tmp_path: Path) -> None:
    assert _read(tmp_path, "allowlist: []").allowlist == frozenset()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("permissions: [fly]", "permissions[0]"),
        ("permissions: read", "permissions"),
        ("allowList: []", "allowList"),
        ("allowlist: [UPPER]", "allowlist[0]"),
        ("allowedPaths: [/etc]", "allowedPaths[0]"),
        ("allowedPaths: [../x]", "allowedPaths[0]"),
        ("maximumLimits: {memory: lots}", "maximumLimits.memory"),
        ("maximumLimits: {memory: 65Gi}", "maximumLimits.memory"),
        ("maximumLimits: {ram: 1Gi}", "maximumLimits.ram"),
    ],
)
def test_C4_a_wrong_file_is_refused_with_its_name_and_the_field(
    tmp_path: Path, text: str, words: str
) -> None:
    with pytest.raises(PolicyError) as error:
        _read(tmp_path, text)
    assert f"policy.yaml: {words}" in str(error.value)


@pytest.mark.parametrize(
    "text", ["- a\n", "just words", "a: [", "5", "[]", "false", '""', b"\xff\xfe\x00", "!!python/none x"]
)
def test_C4_a_file_that_is_no_policy_is_refused_and_never_taken_for_none(
    tmp_path: Path, text: str | bytes
) -> None:
    with pytest.raises(PolicyError, match=r"policy\.yaml: "):
        _read(tmp_path, text)


def test_C4_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match=r"nothing\.yaml"):
        read_policy(str(tmp_path / "nothing.yaml"))
