"""What the documentation shows is run as a reader would run it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from corral.api import AgentTask, Tool, parse_resource
from corral.catalogue import Catalogue
from corral.client import Client
from integration.gateway.serving import new_key, serving

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("README.md", "docs/start.md", "docs/task.md", "docs/tools.md")


def blocks(language: str) -> list[object]:
    """Every fenced block of a language, named by page and position."""
    found: list[object] = []
    for page in PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        for number, block in enumerate(re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)):
            found.append(pytest.param(block, id=f"{page}-{number}"))
    return found


@pytest.mark.parametrize("block", blocks("yaml"))
def test_M13_every_manifest_on_a_page_runs(block: str) -> None:
    resource = parse_resource(yaml.safe_load(block))
    catalogue = Catalogue.builtin()
    if isinstance(resource, Tool):
        catalogue.register(resource)
        resource = AgentTask.model_validate(
            {
                "metadata": {"name": "t"},
                "spec": {"tool": resource.name, "arguments": {"text": "one two three"}},
            }
        )
    assert isinstance(resource, AgentTask)
    with Client(catalogue=catalogue, waiting=0) as client:
        task = client.run_task(resource)
    assert task.succeeded, task.status


@pytest.mark.parametrize("block", blocks("python"))
def test_every_program_on_a_page_runs(block: str) -> None:
    program = block
    if "async with" in block:
        indented = "".join(f"    {line}\n" for line in block.splitlines())
        program = (
            f"import asyncio, corral\nasync def main():\n{indented}    assert tasks[-1].result == 99 ** 2\n"
        )
        program += "asyncio.run(main())\n"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_M5_every_program_and_line_of_the_clients_page_runs(tmp_path: Path) -> None:
    page = (ROOT / "docs/client.md").read_text(encoding="utf-8")
    programs = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    lines = re.findall(r"^\$ (corral (?!serve|keys).*)$", page, re.MULTILINE)
    assert (len(programs), len(lines)) >= (4, 8)
    with serving(tmp_path) as (url, _, _):
        environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "CORRAL_GATEWAY": url,
            "CORRAL_API_KEY": new_key(tmp_path),
        }
        for program in programs:
            text = program.replace("http://127.0.0.1:8000", url)
            if "await " in text:
                indented = "".join(f"    {line}\n" for line in text.splitlines())
                text = f"import asyncio, corral\nasync def main():\n{indented}asyncio.run(main())\n"
            ended = subprocess.run(
                [sys.executable, "-c", text], env=environment, capture_output=True, text=True, check=False
            )
            assert (ended.returncode, ended.stderr) == (0, ""), text
        task = ""
        for line in lines:
            text = line.replace("http://127.0.0.1:8000", url).replace("TASK", task)
            ended = subprocess.run(
                text, shell=True, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
            )
            assert ended.returncode == 0, (line, ended.stderr)
            if line == "corral tasks":
                task = ended.stdout.splitlines()[1].split()[0]


def test_the_shell_lines_of_the_readme_run() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = text[text.index("## One line of shell") :].split("```")[1]
    lines = [line[2:] for line in section.splitlines() if line.startswith("$ corral")]
    assert len(lines) == 5
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    for line in lines:
        ended = subprocess.run(
            line, shell=True, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )
        assert ended.returncode == 0, (line, ended.stderr)
    first = subprocess.run(
        lines[0], shell=True, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert first.stdout == "100\n"
