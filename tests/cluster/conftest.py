"""The cluster, the operator in it, and namespaces to work in. Nothing is skipped: what is missing is a failure."""

import json
import os
import uuid
from collections.abc import Callable, Iterator

import pytest

from cluster.api import Api
from cluster.gateways import account
from cluster.installation import Installation
from cluster.tenant import Tenant

#: Prefix of namespaces where the operator serves all.
_PREFIX = "e2e"


@pytest.fixture(scope="session")
def api() -> Api:
    """Return the API server, which answers."""
    api = Api()
    version = api.request("GET", "/version")
    assert (int(version["major"]), int(version["minor"].rstrip("+"))) >= (1, 33), (
        f"too old: {version['gitVersion']}"
    )
    return api


@pytest.fixture(scope="session")
def operator(api: Api) -> Installation:
    """Return the operator, which is ready."""
    installation = Installation.find(api)
    installation.pod()
    return installation


@pytest.fixture(scope="session")
def namespace_names(operator: Installation) -> Iterator[str]:
    """Return names for namespaces that the operator serves, none of them twice."""
    served = json.loads(operator.settings["CORRAL_NAMESPACES"])
    if "*" in served:
        return (f"{_PREFIX}-{uuid.uuid4().hex[:8]}" for _ in iter(int, 1))
    names = json.loads(os.environ.get("CORRAL_TEST_NAMESPACES", "[]"))
    assert names, (
        f"the operator {operator.namespace}/{operator.name} serves only {served}: install it with namespaces [*], or "
        "set CORRAL_TEST_NAMESPACES to a JSON list of those that the tests may make and delete"
    )
    assert set(names) <= set(served), (
        f"CORRAL_TEST_NAMESPACES: the operator does not serve {set(names) - set(served)}"
    )
    return iter(names)


@pytest.fixture(scope="session")
def all_tenants(api: Api) -> Iterator[list[Tenant]]:
    """Return all namespaces of this run so far."""
    tenants: list[Tenant] = []
    yield tenants
    for tenant in tenants:
        tenant.delete()


@pytest.fixture(scope="session")
def new_tenant(api: Api, namespace_names: Iterator[str], all_tenants: list[Tenant]) -> Callable[[], Tenant]:
    """Return what makes namespaces; each is deleted at the end, if nobody has done so before."""

    def make() -> Tenant:
        name = next(name for name in namespace_names if api.find("Namespace", "", name) is None)
        tenant = Tenant(api, name)
        all_tenants.append(tenant)
        return tenant

    return make


@pytest.fixture(scope="session")
def gateway_token(api: Api, operator: Installation) -> Iterator[str]:
    """Return a token of an account with a gateway's rights of docs/deployment.md, and no more."""
    with account(api, operator.namespace) as token:
        yield token


@pytest.fixture
def tenant(new_tenant: Callable[[], Tenant]) -> Iterator[Tenant]:
    """Return a namespace of the test's own."""
    tenant = new_tenant()
    yield tenant
    tenant.delete()


@pytest.fixture(scope="session")
def warm(new_tenant: Callable[[], Tenant]) -> Tenant:
    """Return a namespace with a pool, for tests that need a sandbox soon and leave nothing behind."""
    tenant = new_tenant()
    tenant.pool(4, whenEmpty="Queue", refill={"perSecond": 10, "burst": 10})
    return tenant
