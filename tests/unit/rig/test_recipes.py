"""What the rig builds is known by its recipe."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rig import binaries, recipes
from rig.errors import RigError
from rig.versions import PROGRAMS, GoProgram

ingredients = st.lists(st.one_of(st.text(), st.integers(), st.binary()), max_size=4)


@given(ingredients, ingredients)
def test_keys_differ_exactly_when_recipes_do(one: list[object], other: list[object]) -> None:
    assert (recipes.key(*one) == recipes.key(*other)) == (
        [repr(each) for each in one] == [repr(each) for each in other]
    )


def test_a_key_knows_every_file_by_name_and_content(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    (tmp_path / "below").mkdir()
    (tmp_path / "below/b").write_text("2")
    before = recipes.contents(tmp_path)
    assert before == (("a", b"1"), ("below/b", b"2"))
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__/c.pyc").write_text("3")
    assert recipes.contents(tmp_path) == before


def test_another_version_or_flag_is_another_recipe() -> None:
    keys = {
        binaries.recipe_key(program)
        for program in (
            GoProgram("tool", "v1", package="example.org/tool"),
            GoProgram("tool", "v2", package="example.org/tool"),
            GoProgram("tool", "v1", package="example.org/tool", tags=("seccomp",)),
            GoProgram("tool", "v1", package="example.org/tool", cgo=True),
        )
    }
    assert len(keys) == 4


def test_every_program_has_one_recipe_and_a_pinned_version() -> None:
    files = [name for program in PROGRAMS for name in program.files]
    assert len(files) == len(set(files))
    assert [program.name for program in PROGRAMS if program.version in ("", "latest")] == []
    assert binaries.program("kubeadm") is binaries.program("kubernetes")


def test_an_unknown_program_is_answered_with_the_known_ones() -> None:
    with pytest.raises(RigError, match="containerd"):
        binaries.program("crictl")


def test_a_go_mod_is_the_same_whatever_the_order_of_its_requirements() -> None:
    requires = (("example.org/b", "v1.0.0"), ("example.org/a", "v2.0.0"))
    written = binaries.go_mod("tool", requires)
    assert written == binaries.go_mod("tool", tuple(reversed(requires)))
    assert "\texample.org/a v2.0.0\n\texample.org/b v1.0.0\n" in written
