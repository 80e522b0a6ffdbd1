"""B15: files go in with a task and come back, small and large, to their caller alone, and never silently cut."""

import hashlib
import json
import shutil
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from fsspec.implementations.local import LocalFileSystem

from integration.gateway.running import CALCULATE, Gateway, gateway_in, problem

LARGE = b"0123456789abcdef" * 20_000  # 320 kB: neither spec nor status takes it


def shell(command: str, *outputs: str) -> dict[str, Any]:
    """Return the spec of a task."""
    return {"tool": "shell", "arguments": {"command": command}, "outputs": list(outputs)}


async def run(client: httpx.AsyncClient, spec: dict[str, Any], **files: tuple[str, bytes]) -> dict[str, Any]:
    """Send a task with files, and wait for it."""
    answer = await client.post(
        "/v1/tasks?wait=60s", data={"task": json.dumps(spec)}, files=files or {"file": ("empty", b"")}
    )
    assert answer.status_code == 201, answer.text
    task: dict[str, Any] = answer.json()
    assert task["status"]["reason"] == "Completed", task["status"]["message"]
    return task


async def test_B15_files_of_a_form_are_in_the_workspace_small_and_large(
    gateway: Gateway, tmp_path: Path
) -> None:
    spec = shell("sha256sum data/large data/small b; cat inline", "none") | {
        "files": [{"path": "inline", "content": "inline\n"}]
    }
    async with await gateway.caller() as client:
        task = await run(
            client, spec, one=("data/large", LARGE), two=("data/small", b"\xff\x00"), three=("b", LARGE[:-1])
        )
    lines = task["status"]["executions"][0]["output"]["stdout"].splitlines()
    assert [line.split()[0] for line in lines[:3]] == [
        hashlib.sha256(data).hexdigest() for data in (LARGE, b"\xff\x00", LARGE[:-1])
    ]
    assert lines[3] == "inline"
    assert [list(file) for file in task["spec"]["files"]] == [
        ["path", "content"],
        ["path", "artifact"],
        ["path", "contentBase64"],
        ["path", "artifact"],
    ]
    kept = tmp_path / "artifacts" / task["metadata"]["uid"]
    assert len(list(kept.iterdir())) == 2
    assert (tmp_path / "artifacts").stat().st_mode & 0o077 == 0


async def test_B15_files_come_back_small_and_large(gateway: Gateway) -> None:
    command = "mkdir out; head -c 300000 /dev/zero > out/large.bin; echo '<script>' > 'out/a b.html'"
    async with await gateway.caller() as client:
        task = (await client.post("/v1/tasks?wait=60s", json=shell(command, "out/*"))).json()
        uid = task["metadata"]["uid"]
        files = {file["path"]: file for file in task["status"]["executions"][0]["files"]}
        assert files["out/a b.html"]["content"] == "<script>\n"
        assert (files["out/large.bin"]["size"], files["out/large.bin"]["stored"]) == (300_000, True)
        assert "content" not in files["out/large.bin"]
        items = (await client.get(f"/v1/tasks/{uid}/files")).json()["items"]
        assert {item["path"]: item["size"] for item in items} == {"out/large.bin": 300_000, "out/a b.html": 9}
        large = await client.get(f"/v1/tasks/{uid}/files/out/large.bin")
        assert large.content == bytes(300_000)
        assert large.headers["etag"] == f'"{hashlib.sha256(bytes(300_000)).hexdigest()}"'
        for item in items:
            answer = await client.get(item["href"])
            assert answer.status_code == 200
            assert len(answer.content) == item["size"] == int(answer.headers["content-length"])
            # No browser takes it for a page of ours.
            assert answer.headers["content-disposition"].startswith("attachment; filename*=UTF-8''")
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["content-type"] == "application/octet-stream"
            part = await client.get(item["href"], headers={"Range": "bytes=2-4"})
            assert (part.status_code, part.content) == (206, answer.content[2:5])
            assert part.headers["content-range"] == f"bytes 2-4/{item['size']}"
            rest = await client.get(item["href"], headers={"Range": "bytes=-3"})
            assert rest.content == answer.content[-3:]
            beyond = await client.get(item["href"], headers={"Range": "bytes=400000-"})
            assert problem(beyond) == (416, "RangeNotSatisfiable")
        for path in ("nothing", "../corral.db", "%2e%2e/corral.db", "/etc/passwd", "out"):
            answer = await client.get(f"/v1/tasks/{uid}/files/{path}")
            assert answer.status_code == 404, path


async def test_B15_steps_have_files_of_their_own(gateway: Gateway) -> None:
    steps = [{"name": name, **shell(f"echo {name} > out")} for name in ("one", "two")]
    for step in steps:
        del step["outputs"]
    async with await gateway.caller() as client:
        answer = await client.post("/v1/tasks?wait=60s", json={"steps": steps, "outputs": ["out"]})
        where = f"{answer.headers['location']}/files/out"
        assert (await client.get(where)).text == "two\n"
        assert (await client.get(where, params={"execution": "one"})).text == "one\n"
        assert problem(await client.get(where, params={"execution": "three"})) == (404, "FileNotFound")


async def test_B15_what_is_printed_is_kept_whole_and_the_status_has_its_beginning(gateway: Gateway) -> None:
    spec = {**shell("seq 60000; seq 3 >&2"), "limits": {"output": "1Mi"}}
    whole = "".join(f"{n}\n" for n in range(1, 60_001))
    async with await gateway.caller() as client:
        answer = await client.post("/v1/tasks?wait=60s", json=spec)
        (execution,) = answer.json()["status"]["executions"]
        assert execution["output"] == {"stdout": whole[:65536], "stderr": "1\n2\n3\n", "truncated": True}
        sha256 = hashlib.sha256(whole.encode()).hexdigest()
        assert execution["stored"][0] == {"name": "stdout", "size": len(whole), "sha256": sha256}
        where = f"{answer.headers['location']}/output"
        assert (await client.get(f"{where}/stdout")).text == whole
        assert (await client.get(f"{where}/stderr")).text == "1\n2\n3\n"
        assert problem(await client.get(f"{where}/nothing")) == (404, "OutputNotFound")


async def test_B15_without_a_store_what_is_too_large_is_refused_and_named(tmp_path: Path) -> None:
    async with gateway_in(tmp_path, CORRAL_ARTIFACTS_URL="") as gateway, await gateway.caller() as client:
        files = {"file": ("large", LARGE)}
        answer = await client.post("/v1/tasks", data={"task": json.dumps(CALCULATE)}, files=files)
        assert problem(answer) == (422, "NoArtifactStore")
        await run(client, shell("cat small"), file=("small", b"small"))
        task = (
            await client.post("/v1/tasks?wait=60s", json=shell("head -c 300000 /dev/zero > large", "large"))
        ).json()
        assert (task["status"]["phase"], task["status"]["reason"]) == ("Failed", "OutputLimit")
        assert "large" in task["status"]["message"]
        assert "CORRAL_ARTIFACTS_URL" in task["status"]["message"]
        where = f"/v1/tasks/{task['metadata']['uid']}/files"
        assert [(file["path"], file.get("href")) for file in (await client.get(where)).json()["items"]] == [
            ("large", None)
        ]
        assert problem(await client.get(f"{where}/large")) == (404, "FileNotKept")


async def test_B15_a_task_may_keep_no_more_than_the_setting_says(tmp_path: Path) -> None:
    async with (
        gateway_in(tmp_path, CORRAL_ARTIFACTS_TASK_SIZE=100_000) as gateway,
        await gateway.caller() as client,
    ):
        files = {"file": ("large", LARGE)}
        answer = await client.post("/v1/tasks", data={"task": json.dumps(CALCULATE)}, files=files)
        assert problem(answer) == (413, "ArtifactsTooLarge")
        task = (
            await client.post("/v1/tasks?wait=60s", json=shell("head -c 300000 /dev/zero > large", "large"))
        ).json()
        assert task["status"]["reason"] == "OutputLimit"
        assert "CORRAL_ARTIFACTS_TASK_SIZE" in task["status"]["message"]
        assert list(tmp_path.glob("artifacts/*/*")) == []


async def test_B15_a_store_that_fails_ends_a_task_with_a_reason_and_refuses_files(tmp_path: Path) -> None:
    # Its directory is a file: as a disk that can not be written.
    (tmp_path / "artifacts").write_text("")
    async with gateway_in(tmp_path) as gateway, await gateway.caller() as client:
        files = {"file": ("large", LARGE)}
        answer = await client.post("/v1/tasks", data={"task": json.dumps(CALCULATE)}, files=files)
        assert problem(answer) == (503, "ArtifactStoreFailed")
        assert str(tmp_path) not in answer.text
        assert (await client.get("/v1/tasks")).json() == {"items": []}
        task = (
            await client.post("/v1/tasks?wait=60s", json=shell("head -c 300000 /dev/zero > large", "large"))
        ).json()
        assert task["status"]["reason"] == "OutputLimit"
        assert "the artifact store failed" in task["status"]["message"]


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "a/../../x", "", "a\0b", "x" * 2000])
async def test_B15_a_path_that_leads_out_is_refused(gateway: Gateway, path: str) -> None:
    boundary = "b"
    name = path.encode().replace(b"\0", b"%00")
    body = (
        b'--b\r\nContent-Disposition: form-data; name="task"\r\n\r\n'
        + json.dumps(CALCULATE).encode()
        + b"\r\n"
        b'--b\r\nContent-Disposition: form-data; name="f"; filename="'
        + name.replace(b"%00", b"\0")
        + b'"\r\n\r\n'
        b"x\r\n--b--\r\n"
    )
    async with await gateway.caller() as client:
        answer = await client.post(
            "/v1/tasks", content=body, headers={"Content-Type": f"multipart/form-data; boundary={boundary}"}
        )
        assert answer.status_code in {400, 422}, answer.text
        assert problem(answer)[1] in {"InvalidSpec", "MalformedBody"}
        if answer.status_code == 422:
            assert answer.json()["problems"][0]["path"].startswith("spec.files[0]")
        assert (await client.get("/v1/tasks")).json() == {"items": []}


async def test_B15_a_form_that_is_none_is_refused(gateway: Gateway) -> None:
    task = ("task", (None, json.dumps(CALCULATE)))
    async with await gateway.caller() as client:
        forms: list[list[tuple[str, Any]]] = [
            [("file", ("a", b"x"))],
            [task, task],
            [task, ("more", (None, "x"))],
            [("task", (None, "{")), ("file", ("a", b"x"))],
            [task, *[("file", (f"f{n}", b"x")) for n in range(65)]],
        ]
        for parts in forms:
            assert problem(await client.post("/v1/tasks", files=parts)) == (400, "MalformedBody"), parts
        for content_type in ("multipart/form-data", "multipart/form-data; boundary=x"):
            answer = await client.post(
                "/v1/tasks", content=b"nothing", headers={"Content-Type": content_type}
            )
            assert problem(answer) == (400, "MalformedBody")
        assert (await client.get("/v1/tasks")).json() == {"items": []}


async def test_B15_an_upload_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    async def endless() -> AsyncIterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="f"; filename="f"\r\n\r\n'
        for _ in range(1 << 20):
            yield b" " * 1024
        pytest.fail("all of it was read")

    async with gateway_in(tmp_path, CORRAL_UPLOAD_SIZE=1 << 20) as gateway, await gateway.caller() as client:
        headers = {"Content-Type": "multipart/form-data; boundary=b"}
        answer = await client.post("/v1/tasks", content=endless(), headers=headers)
        assert problem(answer) == (413, "RequestTooLarge")
        told = await client.post("/v1/tasks", content=b" " * (2 << 20), headers=headers)
        assert problem(told) == (413, "RequestTooLarge")


async def test_B15_who_knows_a_files_hash_has_not_the_file(gateway: Gateway) -> None:
    async with await gateway.caller("one") as one, await gateway.caller("two") as two:
        theirs = await run(one, CALCULATE, file=("large", LARGE))
        for client in (one, two):
            answer = await client.post("/v1/tasks", json={**CALCULATE, "files": theirs["spec"]["files"]})
            assert problem(answer) == (422, "InvalidSpec")
            assert answer.json()["problems"][0]["path"] == "spec.files[0].artifact"
        uid = theirs["metadata"]["uid"]
        assert problem(await two.get(f"/v1/tasks/{uid}/files")) == (404, "TaskNotFound")


async def test_B1_the_same_upload_again_is_the_same_task(gateway: Gateway, tmp_path: Path) -> None:
    headers = {"Idempotency-Key": "upload"}
    async with await gateway.caller() as client:
        first, again, other = [
            await client.post(
                "/v1/tasks?wait=60s",
                headers=headers,
                data={"task": json.dumps(CALCULATE)},
                files={"f": ("large", content)},
            )
            for content in (LARGE, LARGE, LARGE[:-1])
        ]
        assert first.json() == again.json()
        assert again.headers["idempotency-replayed"] == "true"
        assert problem(other) == (409, "IdempotencyKeyUsed")
    assert [path.name for path in (tmp_path / "artifacts").iterdir()] == [first.json()["metadata"]["uid"]]


async def test_B15_an_ended_task_goes_with_all_of_it_when_its_time_is_over(
    gateway: Gateway, tmp_path: Path
) -> None:
    async with await gateway.caller() as client:
        short = await run(client, CALCULATE | {"ttlSecondsAfterFinished": 60}, file=("large", LARGE))
        long = await run(client, CALCULATE, file=("large", LARGE))
        store = tmp_path / "artifacts"
        orphan = store / "never-taken-in"
        orphan.mkdir()
        (orphan / "in-0").write_text("")
        now = datetime.now(UTC)
        for later, left in (
            (timedelta(0), {short["metadata"]["uid"], long["metadata"]["uid"], "never-taken-in"}),
            (timedelta(minutes=2), {long["metadata"]["uid"], "never-taken-in"}),
            (timedelta(hours=3), {long["metadata"]["uid"]}),
            (timedelta(days=31), set()),
        ):
            assert gateway.services.retention is not None
            await gateway.services.retention.sweep(now + later)
            assert {path.name for path in store.iterdir()} == left, later
        assert (await client.get("/v1/tasks")).json() == {"items": []}


async def test_A9_who_reads_output_slowly_holds_a_piece_of_it_and_not_the_whole(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    cat_file = LocalFileSystem.cat_file

    def noted(store: LocalFileSystem, path: str, start: int | None = None, end: int | None = None) -> bytes:
        data: bytes = cat_file(store, path, start=start, end=end)
        read.append(len(data))
        return data

    monkeypatch.setattr(LocalFileSystem, "cat_file", noted)
    spec = shell("head -c 3000000 /dev/zero | tr '\\0' x") | {"limits": {"output": "4Mi"}}
    async with await gateway.caller() as client:
        answer = await client.post("/v1/tasks?wait=60s", json=spec)
        where = answer.headers["location"] + "/output/stdout"
        told = await client.get(where)
        assert told.content == b"x" * 3_000_000
        assert sum(read) == 3_000_000
        assert max(read) <= 1 << 18
        gone = gateway.services.settings.data_directory / "artifacts" / answer.json()["metadata"]["uid"]
        shutil.rmtree(gone)
        assert problem(await client.get(where)) == (410, "ArtifactGone")
