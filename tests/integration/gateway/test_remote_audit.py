"""M8: what the gateway recorded, read from elsewhere: by the Python client and by ``corral audit``."""

import inspect
import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from corral.cli.commands.audit import audit_commands
from corral.client.gateway import ForbiddenError, GatewayClient, InvalidRequestError, UnreachableError
from corral_gateway.commands.audit import audit_app as here_app
from corral_gateway.identity.roles import Role
from eventually import eventually
from integration.gateway.cutting_proxy import proxied
from integration.gateway.serving import CORRAL, corral, new_key, serving


@dataclass(frozen=True)
class Audited:
    """A gateway at which somebody did something, and an auditor of it."""

    url: str
    directory: Path
    runner_key: str
    auditor_key: str
    task_id: str

    def auditor(self) -> GatewayClient:
        return GatewayClient(self.url, api_key=self.auditor_key)

    def command(
        self, *arguments: str, directory: Path, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on another machine than the gateway's."""
        return subprocess.run(
            [CORRAL, *arguments],
            cwd=directory,
            env={**os.environ, "CORRAL_API_KEY": self.auditor_key, **(env or {})},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Audited]:
    directory = tmp_path_factory.mktemp("gateway")
    with serving(directory) as (url, _, _):
        runner = new_key(directory, "ana")
        with GatewayClient(url, api_key=runner) as client:
            task = client.run("calculator", expression="6 * 7")
            client.run("shell", command="exit 3")
            with pytest.raises(ForbiddenError):
                list(client.audit())
        found = Audited(
            url, directory, runner, new_key(directory, "eve", Role.AUDITOR), task.metadata.uid or ""
        )
        with found.auditor() as auditor:
            eventually(lambda: len(list(auditor.audit(kind="execution"))) == 2)
        yield found


def test_M8_records_are_typed_newest_first_and_narrowed(
    audited: Audited, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("corral.client.gateway.talks._PAGE", 2)
    with audited.auditor() as client:
        found = list(client.audit(caller="ana"))
        assert len(found) > 2
        assert [one.seq for one in found] == sorted((one.seq for one in found), reverse=True)
        assert {one.record["caller"] for one in found} == {"ana"}
        (execution,) = client.audit(kind="execution", task_id=audited.task_id)
        assert (execution.record["tool"], execution.record["reason"]) == ("calculator", "Completed")
        later = datetime.now(UTC) + timedelta(hours=1)
        assert list(client.audit(since=later, caller="ana")) == []
        assert [one.kind for one in client.audit(kind="execution", until=later, most=1)] == ["execution"]
        with pytest.raises(InvalidRequestError):
            list(client.audit(kind="gossip"))


def test_M8_who_may_not_read_the_audit_does_not(audited: Audited) -> None:
    with GatewayClient(audited.url, api_key=audited.runner_key) as client, pytest.raises(ForbiddenError):
        list(client.audit())


def test_M8_an_export_is_whole_or_an_error(audited: Audited) -> None:
    with audited.auditor() as client:
        whole = b"".join(client.audit_export())
    kinds = {json.loads(line).get("record", {}).get("kind") for line in whole.splitlines()}
    assert {"decision", "execution"} <= kinds
    with proxied(audited.url) as proxy, GatewayClient(proxy.url, api_key=audited.auditor_key) as client:
        proxy.bytes_until_cut = 1500
        with pytest.raises(UnreachableError, match="cut off"):
            list(client.audit_export())


def test_M8_the_command_lists_a_gateways_records_from_another_machine(
    audited: Audited, tmp_path: Path
) -> None:
    words = ("--gateway", audited.url, "audit", "list", "--caller", "ana", "--kind", "execution")
    listed = audited.command(*words, directory=tmp_path)
    assert listed.returncode == 0, listed.stderr
    header, *lines = listed.stdout.splitlines()
    assert header.split() == ["SEQ", "TIME", "KIND", "CALLER", "REASON", "WHAT"]
    assert [line.split()[3:6] for line in lines] == [
        ["ana", "ToolError", "shell"],
        ["ana", "Completed", "calculator"],
    ]
    as_json = audited.command(*words, "-o", "json", directory=tmp_path)
    assert [one["tool"] for one in json.loads(as_json.stdout)["items"]] == ["shell", "calculator"]
    refused = audited.command(*words, directory=tmp_path, env={"CORRAL_API_KEY": audited.runner_key})
    assert (refused.returncode, refused.stdout) == (4, "")
    assert "audit:read" in refused.stderr
    assert audited.command("--gateway", audited.url, "audit", "verify", directory=tmp_path).returncode == 2


@pytest.mark.parametrize("form", ["table", "json", "yaml"])
@pytest.mark.parametrize("kind", ["request.ended", "request.refused", "decision", "execution", None])
def test_M8_the_command_writes_the_same_records_the_same_wherever_they_are_read(
    audited: Audited, tmp_path: Path, kind: str | None, form: str
) -> None:
    # To read at the gateway is a request, too, and recorded: what came before it is compared.
    with audited.auditor() as client:
        until = next(iter(client.audit(most=1))).record["time"]
    words: tuple[str, ...] = ("audit", "list", "--until", until, "--limit", "50", "-o", form)
    if kind is not None:
        words += ("--kind", kind)
    remote = audited.command("--gateway", audited.url, *words, directory=tmp_path)
    here = corral(audited.directory, *words)
    assert (here.returncode, remote.returncode) == (0, 0), here.stderr + remote.stderr
    assert here.stdout == remote.stdout
    assert here.stdout.count("\n") > 1


def test_M8_the_command_takes_the_same_options_wherever_it_reads() -> None:
    for name, there in audit_commands.items():
        (here,) = [one.callback for one in here_app.registered_commands if one.name == name]
        assert here is not None
        options = dict(inspect.signature(there, eval_str=True).parameters)
        del options["context"]
        assert dict(inspect.signature(here, eval_str=True).parameters) == options


def test_M8_what_is_exported_from_elsewhere_can_be_verified(audited: Audited, tmp_path: Path) -> None:
    named = {"CORRAL_GATEWAY": audited.url}
    exported = audited.command("audit", "export", directory=tmp_path, env=named)
    assert exported.returncode == 0, exported.stderr
    file = tmp_path / "export.jsonl"
    file.write_text(exported.stdout)
    verify = ("audit", "verify", "--file", str(file))
    verified = corral(audited.directory, *verify)
    assert verified.returncode == 0, verified.stdout
    # With the gateway named it is about the file all the same, wherever that came from.
    assert audited.command(*verify, directory=audited.directory, env=named).returncode == 0
    file.write_text(exported.stdout.replace("ToolError", "Completed"))
    assert corral(audited.directory, *verify).returncode == 1
