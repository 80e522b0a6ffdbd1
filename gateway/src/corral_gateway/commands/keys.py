"""``corral keys``."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from corral.api import PermissionLevel, QuantityError, parse_duration
from corral_gateway.commands.place import bad_input, open_database, read_settings
from corral_gateway.identity.roles import SCOPES, Role, Scope

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from corral_gateway.identity.api_key import ApiKey
    from corral_gateway.identity.key_store import KeyStore

keys_app = typer.Typer(
    no_args_is_help=True, help="Make, list, rotate and revoke the API keys of the gateway here."
)

_T = TypeVar("_T")
_Prefix = Annotated[str, typer.Argument(help="The twelve characters after corral_.")]


@keys_app.command("create")
def create(
    caller: Annotated[str, typer.Argument(help="Whose key it is: a word of letters, digits, -, _ and .")],
    *,
    role: Annotated[Role, typer.Option("--role", help="What it may be used for.")] = Role.RUNNER,
    scope: Annotated[
        list[Scope] | None, typer.Option("--scope", help="Of what the role has, this alone; again for more.")
    ] = None,
    grant: Annotated[
        list[PermissionLevel] | None,
        typer.Option("--grant", help="A permission of tools that BLOCKED_PERMISSIONS keeps from others."),
    ] = None,
    tool: Annotated[
        list[str] | None, typer.Option("--tool", help="It may use this tool alone; again for more.")
    ] = None,
    days: Annotated[int | None, typer.Option("--days", min=1, max=3650, help="It opens for so long.")] = None,
    until: Annotated[
        str | None, typer.Option("--until", help="It opens until then: 2027-01-31 or 2027-01-31T12:00Z.")
    ] = None,
) -> None:
    """Make a key and print it, once."""
    from corral_gateway.identity.api_key import make_key
    from corral_gateway.identity.caller import Reach

    now = datetime.now(UTC)
    key, text = make_key(
        _caller(caller),
        role,
        now,
        _end(days, until, now),
        narrowed_to=_narrowed(role, scope),
        reach=Reach(frozenset(grant or ()), frozenset(tool) if tool else None),
    )
    _with_keys(lambda keys: keys.add(key), new=True)
    typer.echo(text)


@keys_app.command("list")
def list_keys() -> None:
    """List the keys, without what proves them."""
    keys = _with_keys(lambda keys: keys.all())
    typer.echo(f"{'PREFIX':<12}  {'ROLE':<10}  CALLER")
    for key in keys:
        typer.echo(f"{key.prefix}  {key.role:<10}  {key.caller}  {', '.join(_terms(key))}".rstrip())


@keys_app.command("revoke")
def revoke(prefix: _Prefix) -> None:
    """Make a key open nothing any more. A gateway on this machine knows at once, one elsewhere within a second."""
    if not _with_keys(lambda keys: keys.revoke(prefix, datetime.now(UTC))):
        raise _no_key(prefix)


@keys_app.command("rotate")
def rotate(
    prefix: _Prefix,
    overlap: Annotated[
        str, typer.Option("--overlap", help="What opens now does so for so much longer.")
    ] = "24h",
) -> None:
    """Give a key a new secret, and print the whole, once."""
    from corral_gateway.identity.api_key import rotated

    try:
        # A duration is more than nothing; here nothing has a meaning.
        seconds = 0.0 if overlap in {"0", "0s"} else parse_duration(overlap)
    except QuantityError as error:
        raise bad_input(
            f"--overlap: {error}", "such as 24h, or 0s to shut out the old secret at once"
        ) from None
    now = datetime.now(UTC)

    async def change(keys: "KeyStore") -> str | None:
        key = await keys.find(prefix)
        if key is None or (key.expires_at is not None and now >= key.expires_at):
            return None
        changed, text = rotated(key, now + timedelta(seconds=seconds))
        return text if await keys.rotate(key, changed) else None

    text = _with_keys(change)
    if text is None:
        raise _no_key(prefix)
    typer.echo(text)


def _with_keys(work: "Callable[[KeyStore], Awaitable[_T]]", *, new: bool = False) -> _T:
    async def run() -> _T:
        from corral_gateway.identity.key_store import KeyStore

        async with open_database(read_settings(), new=new) as database:
            return await work(KeyStore(database))

    return asyncio.run(run())


def _terms(key: "ApiKey") -> list[str]:
    now = datetime.now(UTC)
    if key.revoked_at is not None:
        return ["revoked"]
    terms = []
    if key.expires_at is not None:
        terms.append(f"{'until' if now < key.expires_at else 'expired'} {_minute(key.expires_at)}")
    if key.narrowed_to is not None:
        terms.append(f"only {' '.join(sorted(key.narrowed_to))}")
    if key.reach.permissions:
        terms.append(f"granted {' '.join(sorted(key.reach.permissions))}")
    if key.reach.tools is not None:
        terms.append(f"tools {' '.join(sorted(key.reach.tools))}")
    if key.previous_expires_at is not None and now < key.previous_expires_at:
        terms.append(f"rotated, old secret until {_minute(key.previous_expires_at)}")
    terms.append("never used" if key.last_used_at is None else f"last used {_minute(key.last_used_at)}")
    return terms


def _minute(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M}Z"


def _end(days: int | None, until: str | None, now: datetime) -> datetime | None:
    if until is None:
        return None if days is None else now + timedelta(days=days)
    if days is not None:
        raise bad_input("--days and --until both say when it ends", "give one of the two")
    try:
        end = datetime.fromisoformat(until)
    except ValueError:
        raise bad_input(
            f"--until: {until!r} is no time", "such as 2027-01-31, or 2027-01-31T12:00Z"
        ) from None
    end = end.replace(tzinfo=UTC) if end.tzinfo is None else end
    if end <= now:
        raise bad_input(f"--until: {until} is over", "name a time that is to come")
    return end


def _narrowed(role: Role, scopes: list[Scope] | None) -> frozenset[Scope] | None:
    if not scopes:
        return None
    beyond = [scope for scope in scopes if scope not in SCOPES[role]]
    if beyond:
        raise bad_input(
            f"--scope: the role {role} has no {', '.join(beyond)}",
            "scopes narrow a role; name one that has them",
        )
    return frozenset(scopes)


def _caller(name: str) -> str:
    from corral_gateway.identity.caller import name_problem

    problem = name_problem(name)
    if problem is not None:
        raise bad_input(f"{name!r} is no caller's name", problem)
    return name


def _no_key(prefix: str) -> Exception:
    return bad_input(f"there is no key {prefix} that is not revoked", "corral keys list shows them")
