"""``corral serve`` and ``corral keys``; found by the command line through the entry points ``corral.commands``."""

import asyncio
import re
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from corral_gateway.identity.roles import Role

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from corral_gateway.identity.key_store import KeyStore
    from corral_gateway.settings import Settings
    from corral_gateway.storage.database import Database

# What serves is imported where it is used: `corral --help` reads this module, and need not wait for it.

keys_app = typer.Typer(no_args_is_help=True, help="Make, list and revoke the API keys of the gateway here.")

#: What runs gets so long to be written down when the gateway is told to end.
_SHUTDOWN_SECONDS = 20


def serve() -> None:
    """Serve tasks and tools over HTTP, with sandboxes on this machine.

    Settings come from the environment or a file `.env`: HOST, PORT, MAX_REQUEST_SIZE, CORRAL_DATA_DIR and others. The
    first start makes an admin's API key and prints it, once.
    """
    asyncio.run(_serve(_settings()))


async def _serve(settings: "Settings") -> None:
    import uvicorn
    from prometheus_client import start_http_server

    from corral.client import AsyncClient
    from corral_gateway.app import create_app

    async with _database(settings) as database, AsyncClient(waiting=settings.waiting_sandboxes) as client:
        await _first_key(_keys(database))
        app = create_app(settings, database, client)
        if settings.metrics_port:
            try:
                start_http_server(settings.metrics_port, settings.host, app.state.metrics.registry)
            except OSError as error:
                problem = (
                    f"CORRAL_METRICS_PORT: {settings.metrics_port} cannot be listened on: {error.strerror}"
                )
                raise _bad_input(problem, "name another port, or 0 for no metrics") from None
        config = uvicorn.Config(
            app,
            host=settings.host,
            port=settings.port,
            timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
            server_header=False,
        )
        await uvicorn.Server(config).serve()


async def _first_key(keys: "KeyStore") -> None:
    from corral_gateway.identity.api_key import make_key

    if await keys.all():
        return
    key, text = make_key("admin", Role.ADMIN, datetime.now(UTC))
    await keys.add(key)
    typer.echo(f"API key of the first admin, shown this once: {text}")


@keys_app.command("create")
def create(
    caller: Annotated[str, typer.Argument(help="Whose key it is: a word of letters, digits, -, _ and .")],
    role: Annotated[Role, typer.Option("--role", help="What it may be used for.")] = Role.RUNNER,
    days: Annotated[int | None, typer.Option("--days", min=1, max=3650, help="It opens for so long.")] = None,
) -> None:
    """Make a key and print it, once."""
    from corral_gateway.identity.api_key import make_key

    now = datetime.now(UTC)
    key, text = make_key(_caller(caller), role, now, None if days is None else now + timedelta(days=days))

    async def add() -> None:
        async with _database(_settings()) as database:
            await _keys(database).add(key)

    asyncio.run(add())
    typer.echo(text)


@keys_app.command("list")
def list_keys() -> None:
    """List the keys, without what proves them."""

    async def read() -> None:
        async with _database(_settings()) as database:
            for key in await _keys(database).all():
                until = "" if key.expires_at is None else f"until {key.expires_at:%Y-%m-%d %H:%M}Z"
                state = until if key.revoked_at is None else "revoked"
                typer.echo(f"{key.prefix}  {key.role:<10}  {key.caller}  {state}".rstrip())

    asyncio.run(read())


@keys_app.command("revoke")
def revoke(prefix: Annotated[str, typer.Argument(help="The twelve characters after corral_.")]) -> None:
    """Make a key open nothing any more."""

    async def write() -> bool:
        async with _database(_settings()) as database:
            return await _keys(database).revoke(prefix, datetime.now(UTC))

    if not asyncio.run(write()):
        raise _bad_input(f"there is no key {prefix} that is not revoked", "corral keys list shows them")


@asynccontextmanager
async def _database(settings: "Settings") -> "AsyncIterator[Database]":
    from corral_gateway.storage.database import Database

    settings.data_directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    database = Database(settings.database_url)
    try:
        await database.migrate()
        yield database
    finally:
        await database.close()


def _keys(database: "Database") -> "KeyStore":
    from corral_gateway.identity.key_store import KeyStore

    return KeyStore(database)


def _settings() -> "Settings":
    from pydantic import ValidationError

    from corral_gateway.settings import Settings

    try:
        return Settings()
    except ValidationError as error:
        found = [f"{'.'.join(map(str, one['loc'])).upper()}: {one['msg']}" for one in error.errors()]
        raise _bad_input(found, "correct the environment variable, or its line in .env") from None


def _caller(name: str) -> str:
    # It becomes the value of a label.
    if re.fullmatch(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?", name) is None:
        raise _bad_input(f"{name!r} is no caller's name", "letters, digits, -, _ and ., at most 63 of them")
    return name


def _bad_input(problems: str | list[str], remedy: str | None = None) -> Exception:
    from corral.cli.exits import BadInputError

    return BadInputError(problems, remedy)
