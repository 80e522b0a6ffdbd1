"""Real servers of others, each on a free port of the loopback, with data that goes when they end."""

import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from chart.programs import program

#: initdb and the server refuse root.
_NOBODY = 65534
_ACCOUNT = _NOBODY if os.getuid() == 0 else None


@contextmanager
def postgres(directory: Path) -> Iterator[str]:
    """Run PostgreSQL; yield the URL of an empty database for SQLAlchemy."""
    programs = _postgres_programs()
    data, port = _owned(directory / "data"), free_port()
    _run([programs / "initdb", "--pgdata", data, "--username", "corral", "--auth", "trust", "--no-sync"])
    options = f"-c port={port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
    with _server([programs / "postgres", "-D", data, *options.split()], port, directory / "postgres.log"):
        yield f"postgresql+asyncpg://corral@127.0.0.1:{port}/postgres"


@contextmanager
def redis(directory: Path, port: int | None = None) -> Iterator[str]:
    """Run Valkey, or Redis; yield its URL. With a port, on that one: an earlier one of the test was there."""
    program = shutil.which("valkey-server") or shutil.which("redis-server")
    if program is None:
        pytest.fail("neither valkey-server nor redis-server: apt-get install redis-server")
    data, port = _owned(directory / "data"), port or free_port()
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(data)]
    with _server(command, port, directory / "redis.log"):
        yield f"redis://127.0.0.1:{port}/0"


@dataclass(frozen=True)
class S3:
    """A server that speaks S3, with one empty bucket."""

    url: str
    #: What the artifact store reads from its environment.
    environment: Mapping[str, str]
    #: Where the bucket's objects lie, as files.
    bucket: Path


@contextmanager
def s3(directory: Path) -> Iterator[S3]:
    """Run versitygw over a directory."""
    bucket = directory / "data" / "artifacts"
    bucket.mkdir(parents=True)
    port = free_port()
    command = [program("versitygw"), "--port", f"127.0.0.1:{port}", "posix", str(bucket.parent)]
    keys = {"ROOT_ACCESS_KEY": "corral", "ROOT_SECRET_KEY": secrets.token_hex()}
    environment = {
        "AWS_ACCESS_KEY_ID": keys["ROOT_ACCESS_KEY"],
        "AWS_SECRET_ACCESS_KEY": keys["ROOT_SECRET_KEY"],
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    # It gives files to whom it runs as, and keeps what it knows of them in their attributes: as who runs the tests.
    with _server(command, port, directory / "s3.log", account=None, env={**os.environ, **keys}):
        yield S3("s3://artifacts/corral", environment, bucket)


def _postgres_programs() -> Path:
    found = shutil.which("initdb")
    places = (
        [Path(found).parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    )
    if not places:
        pytest.fail("no PostgreSQL server: apt-get install postgresql")
    return places[0]


@contextmanager
def _server(
    command: Sequence[str | Path],
    port: int,
    log: Path,
    *,
    account: int | None = _ACCOUNT,
    env: Mapping[str, str] | None = None,
) -> Iterator[None]:
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, stdout=file, stderr=file, cwd="/", user=account, group=account, env=env
        )
    try:
        deadline = time.monotonic() + 60
        while True:
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"{command[0]} does not serve:\n{log.read_text()[-2000:]}")
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait(timeout=60)


def _owned(data: Path) -> Path:
    """Make a directory that belongs to who the servers run as."""
    data.mkdir(mode=0o700)
    if os.getuid() == 0:
        for parent in data.parents:  # pytest's own, which nobody else may enter
            if parent.stat().st_mode & 0o011 == 0:
                parent.chmod(0o711)
        os.chown(data, _NOBODY, _NOBODY)
    return data


def _run(command: Sequence[str | Path]) -> None:
    ended = subprocess.run(
        command, capture_output=True, text=True, cwd="/", check=False, user=_ACCOUNT, group=_ACCOUNT
    )
    assert ended.returncode == 0, ended.stderr


def free_port() -> int:
    """Return a port on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])
