"""The gateway's storage on a real PostgreSQL."""

from datetime import UTC, datetime

from corral_gateway.identity.api_key import make_key
from corral_gateway.identity.key_store import KeyStore
from corral_gateway.identity.roles import Role
from corral_gateway.storage.database import Database


async def test_M5_keys_are_kept_in_postgresql(postgres_server: str) -> None:
    database = Database(postgres_server)
    try:
        await database.migrate()
        await database.migrate()
        keys = KeyStore(database)
        key, _ = make_key("someone", Role.RUNNER, datetime.now(UTC))
        await keys.add(key)
        assert await keys.find(key.prefix) == key
        assert await keys.revoke(key.prefix, datetime.now(UTC))
    finally:
        await database.close()
