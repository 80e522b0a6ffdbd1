"""M5 on a real API server: tokens of service accounts, and what RBAC lets them do through the gateway."""

import asyncio
from collections.abc import Callable

from cluster.api import Api, Object
from cluster.tenant import Tenant
from corral_gateway.identity.caller import Caller
from corral_gateway.identity.kubernetes_tokens import ApiServer, KubernetesTokens
from corral_gateway.identity.roles import Scope
from corral_gateway.identity.verifiers import RefusedCredentialError
from eventually import eventually


def _token(api: Api, tenant: Tenant, account: str, audience: str | None = None) -> str:
    spec: Object = {"expirationSeconds": 600} | ({} if audience is None else {"audiences": [audience]})
    path = f"/api/v1/namespaces/{tenant.name}/serviceaccounts"
    if account not in {one["metadata"]["name"] for one in api.request("GET", path)["items"]}:
        api.request("POST", path, {"metadata": {"name": account}})
    answer = api.request("POST", f"{path}/{account}/token", {"spec": spec})
    return str(answer["status"]["token"])


def _allow(api: Api, tenant: Tenant, account: str, *rules: tuple[str, list[str]]) -> None:
    head = {"apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": account}}
    listed = [{"apiGroups": ["corral.dev"], "resources": [plural], "verbs": verbs} for plural, verbs in rules]
    api.create({**head, "kind": "Role", "rules": listed}, tenant.name)
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": account}
    subject = {"kind": "ServiceAccount", "name": account, "namespace": tenant.name}
    api.create({**head, "kind": "RoleBinding", "roleRef": reference, "subjects": [subject]}, tenant.name)


async def _caller(text: str, tenant: Tenant, *audiences: str) -> Caller | None:
    tokens = KubernetesTokens(ApiServer(), audiences, lambda _: tenant.name)
    try:
        return await tokens.verify(text)
    except RefusedCredentialError:
        return None
    finally:
        await tokens.close()


async def test_M5_nobody_may_more_through_the_gateway_than_with_kubectl(
    api: Api, new_tenant: Callable[[], Tenant]
) -> None:
    tenant, elsewhere = new_tenant(), new_tenant()
    runner = _token(api, tenant, "runner")
    _allow(api, tenant, "runner", ("agenttasks", ["get", "create", "delete"]), ("tools", ["get"]))
    caller = await _caller(runner, tenant)
    assert caller is not None
    assert caller.name == f"system:serviceaccount:{tenant.name}:runner"
    assert caller.scopes == {Scope.TASKS_READ, Scope.TASKS_RUN, Scope.TOOLS_READ}
    assert caller.expires_at is not None
    there = await _caller(runner, elsewhere)
    assert there is not None
    assert there.scopes == frozenset(), "rights of one namespace are none in another"
    viewer = await _caller(_token(api, tenant, "stranger"), tenant)
    assert viewer is not None
    assert viewer.scopes == frozenset()


async def test_M5_a_token_for_another_audience_or_that_was_changed_opens_nothing(
    api: Api, tenant: Tenant
) -> None:
    for_corral, for_all = _token(api, tenant, "bot", "corral"), _token(api, tenant, "bot")
    assert await _caller(for_corral, tenant, "corral") is not None
    assert await _caller(for_all, tenant, "corral") is None
    assert await _caller(for_corral, tenant) is None, "it is not for the API server"
    head, body, signature = for_all.split(".")
    for wrong in (f"{head}.{body}.{signature[::-1]}", f"{head}.{body}.", "x", "", "\u00e9" * 100):
        assert await _caller(wrong, tenant) is None


def test_M5_a_token_whose_account_has_gone_soon_opens_nothing(api: Api, tenant: Tenant) -> None:
    text = _token(api, tenant, "leaver")
    assert asyncio.run(_caller(text, tenant)) is not None
    api.request("DELETE", f"/api/v1/namespaces/{tenant.name}/serviceaccounts/leaver")
    # The API server itself remembers for ten seconds what it said of a token.
    eventually(lambda: asyncio.run(_caller(text, tenant)), lambda caller: caller is None, seconds=60)
