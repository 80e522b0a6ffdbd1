"""Registering, finding and loading tools."""

import difflib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from corral.api import ManifestError, Reason, Tool, did_you_mean
from corral.catalogue import Catalogue, ToolExistsError, ToolNotFoundError, catalogue

MANIFEST = """\
apiVersion: corral.dev/v1alpha1
kind: Tool
metadata: {{name: {name}}}
spec: {{description: x, run: {{builtin: {name}}}}}
"""


def tool(name: str, **spec: Any) -> Tool:
    return Tool.from_wire(
        {
            "apiVersion": "corral.dev/v1alpha1",
            "kind": "Tool",
            "metadata": {"name": name},
            "spec": {"description": "A tool.", "run": {"builtin": name}, **spec},
        }
    )


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a package of built-in tools of which one manifest is wrong."""
    package = tmp_path / "made_up_tools"
    package.mkdir()
    (package / "__init__.py").write_text("")
    for name in ("read_file", "python"):
        (package / f"{name}.yaml").write_text(MANIFEST.format(name=name))
    (package / "broken.yaml").write_text("kind: [")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(catalogue, "BUILTIN_PACKAGE", "made_up_tools")
    monkeypatch.delitem(sys.modules, "made_up_tools", raising=False)
    return package


def test_S6_a_registered_tool_is_found_by_its_name() -> None:
    registered = Catalogue([tool("a"), tool("b")])
    assert registered.get("b") == tool("b")
    assert registered.names() == ["a", "b"]
    assert ("a" in registered, "c" in registered, len(registered)) == (True, False, 2)
    assert [found.name for found in registered] == ["a", "b"]


def test_a_name_with_underscores_means_the_one_with_hyphens() -> None:
    registered = Catalogue([tool("read_file"), tool("list-dir")])
    assert registered.get("read-file").name == "read_file"
    assert registered.get("list_dir").name == "list-dir"
    with pytest.raises(ToolExistsError):
        registered.register(tool("read-file"))


def test_an_unknown_tool_is_told_with_the_name_most_like_it() -> None:
    with pytest.raises(ToolNotFoundError) as caught:
        Catalogue([tool("read_file"), tool("python")]).get("raed_file")
    assert str(caught.value) == 'there is no tool "raed_file"; did you mean "read_file"?'
    assert (caught.value.name, caught.value.suggestion) == ("raed_file", "read_file")
    assert caught.value.reason is Reason.TOOL_NOT_FOUND
    with pytest.raises(ToolNotFoundError, match=r'^there is no tool "zzz"$'):
        Catalogue([tool("python")]).get("zzz")


def test_a_tool_is_replaced_only_on_purpose() -> None:
    registered = Catalogue([tool("a")])
    with pytest.raises(ToolExistsError, match='"a" is registered already'):
        registered.register(tool("a", description="Another."))
    assert registered.get("a").spec.description == "A tool."
    registered.register(tool("a", description="Another."), replace=True)
    assert registered.get("a").spec.description == "Another."


def test_a_built_in_tool_is_read_when_it_is_asked_for(shipped: Path) -> None:
    tools = Catalogue.builtin()
    assert tools.names() == ["broken", "python", "read_file"]
    (shipped / "python.yaml").unlink()
    assert tools.get("read-file").name == "read_file"  # although two of the three manifests are unusable
    with pytest.raises(FileNotFoundError):
        tools.get("python")
    with pytest.raises(ManifestError, match=r"broken\.yaml:2:1: not valid YAML"):
        tools.get("broken")


def test_a_manifest_must_hold_the_tool_that_its_file_names(shipped: Path) -> None:
    (shipped / "python.yaml").write_text(MANIFEST.format(name="ruby"))
    with pytest.raises(ManifestError, match=r'python\.yaml: metadata\.name: expected "python"'):
        Catalogue.builtin().get("python")


def test_catalogues_of_built_in_tools_do_not_share_what_is_registered() -> None:
    one = Catalogue.builtin()
    one.register(tool("only-here"))
    assert "only-here" not in Catalogue.builtin()


def test_M7_every_shipped_manifest_is_a_valid_tool() -> None:
    tools = Catalogue.builtin()
    assert len(tools) >= 1
    for name in tools.names():
        parsed = tools.get(name)
        assert (
            Tool.from_wire(parsed.to_wire()) == parsed
        )  # checked in full, which the catalogue spares itself


def test_a_directory_of_manifests_is_loaded_at_once_or_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(MANIFEST.format(name="a") + "---\n" + MANIFEST.format(name="b"))
    tools = Catalogue()
    assert [loaded.name for loaded in tools.load_directory(tmp_path)] == ["a", "b"]
    (tmp_path / "c.yaml").write_text(MANIFEST.format(name="c") + "---\n" + MANIFEST.format(name="c"))
    fresh = Catalogue()
    with pytest.raises(ToolExistsError, match='"c"'):
        fresh.load_directory(tmp_path)
    assert len(fresh) == 0
    with pytest.raises(ToolExistsError, match='"a"'):
        tools.load_directory(tmp_path / "a.yaml")
    assert len(tools.load_directory(tmp_path / "a.yaml", replace=True)) == 2


def test_a_directory_that_holds_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pool.yaml").write_text(
        "apiVersion: corral.dev/v1alpha1\nkind: SandboxPool\nmetadata: {name: p}\nspec: {}\n"
    )
    with pytest.raises(ManifestError, match=r"pool\.yaml:1: kind: expected Tool, found SandboxPool"):
        Catalogue().load_directory(tmp_path)


def test_a_wrong_name_is_compared_with_a_bounded_number_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[int] = []
    close_matches = difflib.get_close_matches

    def counted(word: str, known: Sequence[str], **options: Any) -> list[str]:
        compared.append(len(known))
        return close_matches(word, known, **options)

    monkeypatch.setattr(difflib, "get_close_matches", counted)
    known = [*(f"z-{number}" for number in range(1000)), "calculator", "read-file"]
    assert did_you_mean("calculater", known) == "calculator"
    assert did_you_mean("READ_FILE", known) == "read-file"  # spelt another way, which needs no comparison
    did_you_mean("z-nothing-of-the-kind", known)
    assert max(compared) == 200
