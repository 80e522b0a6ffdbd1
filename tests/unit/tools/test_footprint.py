"""What a tool's module costs before its `run` is called: a cold start pays for every import."""

import subprocess
import sys
from pathlib import Path

import pytest

import corral_tools

HOT = ["calculator", "health_check", "list_dir", "python", "read_file"]
MODULES = sorted(
    path.stem for path in Path(corral_tools.__file__).parent.glob("*.py") if path.stem != "__init__"
)
#: What none of the hot tools may load; each costs milliseconds, or drags in what does.
HEAVY = {
    "ast", "base64", "dataclasses", "enum", "functools", "importlib.metadata", "inspect", "json", "pathlib",
    "re", "subprocess", "tempfile", "traceback", "typing",
}  # fmt: skip
#: What no tool may load before it is called.
HEAVIEST = {"duckdb", "fpdf", "jmespath", "lzma", "matplotlib", "numpy", "PIL", "tarfile", "zipfile"}


def loaded_by(module: str) -> set[str]:
    """The modules that the import of one adds to those of a bare interpreter."""
    program = f"""
import sys
sys.path[:0] = {sys.path!r}
before = set(sys.modules)
import corral_tools.{module}
print(*sorted(set(sys.modules) - before))
"""
    ended = subprocess.run([sys.executable, "-S", "-c", program], capture_output=True, text=True, check=True)
    return set(ended.stdout.split())


@pytest.mark.parametrize("module", HOT)
def test_a_hot_tool_loads_nothing_heavy(module: str) -> None:
    loaded = loaded_by(module)
    assert loaded & HEAVY == set()
    assert loaded & HEAVIEST == set()


def test_python_loads_only_what_the_runner_has_anyway() -> None:
    ours = {name for name in loaded_by("python") if not name.startswith("corral_")}
    assert ours <= {
        "_ast",
        "_json",
        "errno",
        "genericpath",
        "os",
        "os.path",
        "posixpath",
        "stat",
        "_stat",
        "_collections_abc",
    }


@pytest.mark.parametrize("module", sorted(set(MODULES) - set(HOT)))
def test_no_module_loads_a_library_before_it_is_called(module: str) -> None:
    assert loaded_by(module) & HEAVIEST == set()
