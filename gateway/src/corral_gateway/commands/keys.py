"""``corral keys``."""

import asyncio
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from corral_gateway.commands.place import bad_input, open_database, read_settings
from corral_gateway.identity.roles import Role

if TYPE_CHECKING:
    from corral_gateway.identity.key_store import KeyStore
    from corral_gateway.storage.database import Database

keys_app = typer.Typer(no_args_is_help=True, help="Make, list and revoke the API keys of the gateway here.")


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
        async with open_database(read_settings()) as database:
            await _keys(database).add(key)

    asyncio.run(add())
    typer.echo(text)


@keys_app.command("list")
def list_keys() -> None:
    """List the keys, without what proves them."""

    async def read() -> None:
        async with open_database(read_settings()) as database:
            for key in await _keys(database).all():
                until = "" if key.expires_at is None else f"until {key.expires_at:%Y-%m-%d %H:%M}Z"
                state = until if key.revoked_at is None else "revoked"
                typer.echo(f"{key.prefix}  {key.role:<10}  {key.caller}  {state}".rstrip())

    asyncio.run(read())


@keys_app.command("revoke")
def revoke(prefix: Annotated[str, typer.Argument(help="The twelve characters after corral_.")]) -> None:
    """Make a key open nothing any more."""

    async def write() -> bool:
        async with open_database(read_settings()) as database:
            return await _keys(database).revoke(prefix, datetime.now(UTC))

    if not asyncio.run(write()):
        raise bad_input(f"there is no key {prefix} that is not revoked", "corral keys list shows them")


def _keys(database: "Database") -> "KeyStore":
    from corral_gateway.identity.key_store import KeyStore

    return KeyStore(database)


def _caller(name: str) -> str:
    # It becomes the value of a label.
    if re.fullmatch(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?", name) is None:
        raise bad_input(f"{name!r} is no caller's name", "letters, digits, -, _ and ., at most 63 of them")
    return name
