"""What must hold of the repository itself."""

import operator
import re
import sys
from pathlib import Path

from corral.api import REASON_DOCS, Reason

ROOT = Path(__file__).resolve().parents[2]


def test_the_folder_operator_does_not_shadow_the_standard_library() -> None:
    assert operator.__file__ is not None
    assert Path(operator.__file__).is_relative_to(Path(sys.base_prefix).resolve())


def test_every_reason_the_runner_gives_is_one_of_the_contract() -> None:
    folder = ROOT / "sandbox-image/src/corral_runner"
    text = "".join(path.read_text(encoding="utf-8") for path in folder.glob("*.py"))
    known = {str(reason) for reason in Reason}
    told = set(re.findall(r'"([A-Z][A-Za-z]+(?:Limit|Timeout|Exceeded|Denied|Error|Failed|Memory))"', text))
    assert told >= {"OutOfMemory", "DeadlineExceeded", "ToolError"}
    assert told - known == set()


def test_B2_every_reason_is_documented_for_people() -> None:
    page = (ROOT / "docs/task.md").read_text(encoding="utf-8")
    assert [reason for reason in Reason if f"`{reason}`" not in page] == []
    assert set(REASON_DOCS) == set(Reason)


def test_no_tests_live_in_packages() -> None:
    tests = [path for folder in ("core", "sandbox-image") for path in (ROOT / folder).rglob("test_*.py")]
    assert tests == []
    assert list((ROOT / "tests").rglob("__init__.py")) == []


def test_links_between_pages_lead_somewhere() -> None:
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    dead = [
        (page.name, target)
        for page in pages
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
        if not (page.parent / target).exists()
    ]
    assert dead == []
