"""The gateway's storage on a real PostgreSQL."""

from datetime import UTC, datetime

from corral_gateway.identity.api_key import make_key
from corral_gateway.identity.key_cache import KeyCache
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


async def test_M5_a_key_revoked_elsewhere_opens_nothing_within_a_second(postgres_server: str) -> None:
    here, elsewhere = Database(postgres_server), Database(postgres_server)
    now = [0.0]
    try:
        await here.migrate()
        cache, keys = KeyCache(KeyStore(here), clock=lambda: now[0]), KeyStore(elsewhere)
        key, _ = make_key("someone", Role.RUNNER, datetime.now(UTC))
        assert await cache.find(key.prefix) is None
        await keys.add(key)
        now[0] += 0.11
        assert await cache.find(key.prefix) == key, "a key that was not known is asked for again sooner"
        assert await keys.revoke(key.prefix, datetime.now(UTC))
        now[0] += 0.51
        found = await cache.find(key.prefix)
        assert found is not None
        assert found.revoked_at is not None
    finally:
        await here.close()
        await elsewhere.close()
