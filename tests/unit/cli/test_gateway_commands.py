"""The commands that work at a gateway: found without its package, and told from those of this machine."""

import sys

import pytest

from corral.cli.app import _names_own_command, build_app


@pytest.mark.parametrize(
    ("words", "own"),
    [
        (["run", "x"], True),
        (["--gateway", "http://x", "tasks"], True),
        (["--gateway=http://x", "logs", "serve"], True),
        (["--api-key-file", "run", "keys"], False),
        (["serve"], False),
        (["--version"], True),
        (["--gateway", "tasks"], False),
        ([], False),
    ],
)
def test_other_packages_are_asked_for_commands_only_where_one_of_theirs_is_named(
    words: list[str],
    own: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    assert _names_own_command(words) is own


def test_M8_a_gateways_audit_can_be_read_without_the_gateways_package(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.metadata.entry_points", lambda **_: ())
    monkeypatch.setattr(sys, "argv", ["corral", "audit"])
    with pytest.raises(SystemExit):
        build_app()(["audit", "--help"], prog_name="corral")
    shown = capsys.readouterr().out
    assert "list" in shown
    assert "export" in shown
    with pytest.raises(SystemExit):
        build_app()(["serve"], prog_name="corral")
    assert "No such command" in capsys.readouterr().err
