"""M5: nobody gets in without a key that is good now, and nobody does what their role does not have."""

from datetime import UTC, datetime, timedelta

import pytest

from corral_gateway.identity.roles import Role
from integration.gateway.running import CALCULATE, Gateway, problem


async def test_M5_a_key_that_is_wrong_expired_or_revoked_opens_nothing_and_says_the_same(
    gateway: Gateway,
) -> None:
    good = await gateway.key("someone")
    last = "A" if good[-2] != "A" else "B"
    revoked = await gateway.key("someone")
    assert await gateway.keys.revoke(revoked.split("_")[1], datetime.now(UTC))
    expired = await gateway.key("someone", expires_at=datetime.now(UTC) - timedelta(seconds=1))
    bad = [
        *("", "corral_", good[:-1], f"{good}x", f"{good[:-2]}{last}{good[-1]}", good.upper()),
        *(f"corral_{'0' * 12}_{good[-43:]}", f" {good}x", revoked, expired),
    ]
    answers = set()
    for key in bad:
        async with gateway.http(key) as client:
            answer = await client.get("/v1/tools")
            assert problem(answer) == (401, "Unauthenticated"), key
            answers.add(answer.json()["detail"])
    assert answers == {"this credential is not valid"}
    async with gateway.http(good) as client:
        assert (await client.get("/v1/tools")).status_code == 200


async def test_M5_a_key_goes_as_a_bearer_token_too(gateway: Gateway) -> None:
    key = await gateway.key("someone")
    async with gateway.http() as client:
        for scheme in ("Bearer", "bearer"):
            answer = await client.get("/v1/tools", headers={"Authorization": f"{scheme} {key}"})
            assert answer.status_code == 200
        answer = await client.get("/v1/tools", headers={"Authorization": f"Basic {key}"})
        assert problem(answer) == (401, "Unauthenticated")


async def test_M5_a_key_is_kept_as_its_hash(gateway: Gateway) -> None:
    key = await gateway.key("someone")
    (kept,) = await gateway.keys.all()
    assert key.split("_", 2)[2] not in repr(kept)


@pytest.mark.parametrize(("role", "status"), [(Role.VIEWER, 403), (Role.AUDITOR, 403), (Role.RUNNER, 201)])
async def test_M5_only_a_role_that_may_run_tasks_runs_them(gateway: Gateway, role: Role, status: int) -> None:
    async with await gateway.caller("someone", role) as client:
        answer = await client.post("/v1/tasks?wait=60s", json=CALCULATE)
        assert answer.status_code == status
        if status == 403:
            assert problem(answer) == (403, "Forbidden")
            assert "tasks:run" in answer.json()["detail"]
        assert (await client.get("/v1/tasks")).status_code == 200
