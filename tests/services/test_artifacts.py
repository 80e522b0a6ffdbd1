"""B15: artifacts in a directory and in a real S3 server: kept, read in parts, removed; failures told as such."""

import asyncio
import gc
import io
import json
import os
import socket
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from corral.artifacts.fsspec_store import FsspecStore
from corral.artifacts.port import ArtifactError, ArtifactMissingError
from integration.gateway.running import gateway_in, problem
from services.servers import S3

LARGE = os.urandom(1 << 20) * 12  # s3fs sends it in parts


@pytest.fixture(params=["directory", "s3"])
async def store(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[FsspecStore]:
    place = str(tmp_path / "artifacts")
    if request.param == "s3":
        server: S3 = request.getfixturevalue("s3_server")
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        place = f"{server.url}/{tmp_path.name}"
    store = FsspecStore(place)
    yield store
    await store.close()


async def part(store: FsspecStore, name: str, first: int, count: int) -> bytes:
    """Read a part of a content."""
    return b"".join([piece async for piece in await store.read("uid", name, first, count)])


async def test_B15_what_is_kept_is_read_whole_and_in_parts(store: FsspecStore) -> None:
    await store.put("uid", "small", b"0123456789")
    await store.put("uid", "large", io.BytesIO(LARGE))
    await store.put("uid", "empty", b"")
    assert await store.get("uid", "small") == b"0123456789"
    assert await store.get("uid", "large") == LARGE
    assert await part(store, "small", 3, 4) == b"3456"
    assert await part(store, "large", 7, len(LARGE) - 8) == LARGE[7:-1]
    assert await part(store, "empty", 0, 0) == b""
    await store.put("uid", "small", b"another")
    assert await store.get("uid", "small") == b"another"


async def test_B15_all_of_a_task_goes_at_once_and_nothing_of_another(store: FsspecStore) -> None:
    now = datetime.now(UTC)
    assert await store.tasks() == []
    assert not await store.is_older("uid", now)
    for uid in ("uid", "uid-2"):
        for name in ("one", "two"):
            await store.put(uid, name, b"x")
    assert sorted(await store.tasks()) == ["uid", "uid-2"]
    assert not await store.is_older("uid", now - timedelta(minutes=5))
    assert await store.is_older("uid", now + timedelta(minutes=5))
    await store.remove("uid")
    await store.remove("uid")
    assert await store.tasks() == ["uid-2"]
    with pytest.raises(ArtifactMissingError):
        await store.get("uid", "one")
    with pytest.raises(ArtifactMissingError):
        await store.read("uid", "one", 0, 1)


async def test_B15_an_object_that_stands_for_the_folder_is_no_task(
    s3_server: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    store = FsspecStore(f"{s3_server.url}/{tmp_path.name}")
    # As consoles make it, long before anything is kept there.
    await asyncio.to_thread(
        store._files.call_s3, "put_object", Bucket="artifacts", Key=f"corral/{tmp_path.name}/"
    )
    assert await store.tasks() == []
    await store.put("uid", "x", b"x")
    assert await store.tasks() == ["uid"]
    await store.close()


# None of these may name anything that matters to the machine: without the check, what they name would be removed.
@pytest.mark.parametrize("uid", ["", ".", "..", "../corral", "/corral-is-nowhere", "uid/other", "uid\0"])
async def test_B15_nothing_but_one_tasks_own_is_named_by_what_is_no_id(store: FsspecStore, uid: str) -> None:
    await store.put("uid", "other", b"x")
    with pytest.raises(ValueError, match="name no artifact"):
        await store.remove(uid)
    with pytest.raises(ValueError, match="name no artifact"):
        await store.get(uid, "other")
    with pytest.raises(ValueError, match="name no artifact"):
        await store.put("uid", uid, b"y")
    assert await store.get("uid", "other") == b"x"


async def test_B15_what_nobody_ends_asks_a_silent_store_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "corral")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "corral")
        store = FsspecStore("s3://artifacts/corral", attempts=1)
        writer = await store.writer("uid", "stdout")
        await writer.write(LARGE[: 1 << 20])
        began = time.monotonic()
        del writer
        gc.collect()
        assert time.monotonic() - began < 10
        await store.close()


async def test_B15_the_event_loop_goes_on_meanwhile(store: FsspecStore) -> None:
    putting = asyncio.create_task(store.put("uid", "large", LARGE))
    turns = 0
    while not putting.done():
        await asyncio.sleep(0)
        turns += 1
    await putting
    assert turns > 10


async def test_B15_a_server_that_is_not_there_or_does_not_know_us_is_told_as_that(
    s3_server: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**s3_server.environment, "AWS_SECRET_ACCESS_KEY": "wrong"}.items():
        monkeypatch.setenv(name, value)
    store = FsspecStore(s3_server.url)
    with pytest.raises(ArtifactError) as refused:
        await store.put("uid", "x", b"x")
    assert not isinstance(refused.value, ArtifactMissingError)
    assert "wrong" not in str(refused.value)
    await store.close()


async def test_B15_a_gateway_keeps_files_in_s3_and_gives_them_back(
    s3_server: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    spec = {
        "tool": "shell",
        "arguments": {"command": "cat in/large in/large > out; seq 60000"},
        "outputs": ["out"],
        "limits": {"output": "1Mi"},
    }
    content = os.urandom(300_000)
    async with gateway_in(tmp_path, CORRAL_ARTIFACTS_URL=s3_server.url) as gateway:
        client = await gateway.caller()
        async with client:
            answer = await client.post(
                "/v1/tasks?wait=60s",
                data={"task": json.dumps(spec)},
                files={"file": ("in/large", content)},
            )
            assert answer.json()["status"]["reason"] == "Completed", answer.text
            where = answer.headers["location"]
            assert (await client.get(f"{where}/files/out")).content == content * 2
            ranged = await client.get(f"{where}/files/out", headers={"Range": "bytes=299999-300000"})
            assert ranged.content == content[-1:] + content[:1]
            assert len((await client.get(f"{where}/output/stdout")).text.splitlines()) == 60_000
            uid = answer.json()["metadata"]["uid"]
            kept = s3_server.bucket / "corral" / uid
            assert len(list(kept.iterdir())) == 3
            retention = gateway.services.retention
            assert retention is not None
            await retention.sweep(datetime.now(UTC) + timedelta(days=31))
            assert not kept.exists() or not list(kept.iterdir())
            assert problem(await client.get(where)) == (404, "TaskNotFound")
