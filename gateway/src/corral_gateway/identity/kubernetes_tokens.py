"""Callers with tokens of the cluster: the API server says who they are (TokenReview), and what of a gateway's work they
could do themselves (SubjectAccessReview). Nobody may more through the gateway than with kubectl.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Protocol

from kubernetes.aio.config import ConfigException

from corral.cluster.kubernetes_api import KubernetesCluster
from corral.cluster.port import (
    SUBJECT_ACCESS_REVIEWS,
    TOKEN_REVIEWS,
    ClusterError,
    Json,
    Refused,
    Resource,
    Unavailable,
)
from corral_gateway.identity.caller import Caller
from corral_gateway.identity.jwt.tokens import unproven_claims
from corral_gateway.identity.remembered import Remembered, digest_of
from corral_gateway.identity.roles import Scope
from corral_gateway.identity.verifiers import RefusedCredentialError
from corral_gateway.problems import ProblemError

log = logging.getLogger(__name__)

#: A token that was taken back, and a right that was, are good for so long after.
_KEPT_SECONDS = 10.0
#: Requests for reviews at a time: callers of the gateway do not crowd out its tasks.
_AT_ONCE = 16

_GROUP = "corral.dev"
#: What has to be allowed in the caller's namespace for each scope: all of it.
RIGHTS: dict[Scope, tuple[tuple[str, str], ...]] = {
    Scope.TASKS_READ: (("get", "agenttasks"),),
    # Running is also cancelling.
    Scope.TASKS_RUN: (("create", "agenttasks"), ("delete", "agenttasks")),
    Scope.TOOLS_READ: (("get", "tools"),),
    Scope.TOOLS_WRITE: (("create", "tools"), ("update", "tools"), ("delete", "tools")),
}
_SERVICE_ACCOUNT = "system:serviceaccount:"


class Reviews(Protocol):
    """What is asked of the cluster here."""

    async def review(self, resource: Resource, body: Mapping[str, Any]) -> Json:
        """Ask; raises ``ClusterError``."""
        ...

    async def close(self) -> None:
        """Close the connections."""
        ...


class ApiServer:
    """Implements ``Reviews`` over connections of its own: they do not wait behind what the gateway's tasks ask."""

    def __init__(self) -> None:
        self._cluster: KubernetesCluster | None = None
        self._connecting = asyncio.Lock()

    async def review(self, resource: Resource, body: Mapping[str, Any]) -> Json:
        """Ask; see ``Reviews``."""
        async with self._connecting:
            if self._cluster is None:
                try:
                    self._cluster = await KubernetesCluster.connect()
                except (ConfigException, OSError) as error:
                    raise Unavailable(f"no cluster is configured: {error}") from None
        return await self._cluster.review(resource, body)

    async def close(self) -> None:
        """Close the connections."""
        if self._cluster is not None:
            await self._cluster.close()


class KubernetesTokens:
    """Implements ``Verifier``."""

    costs = True

    def __init__(
        self,
        reviews: Reviews,
        audiences: Sequence[str],
        namespace_of: Callable[[str], str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Make it.

        Args:
            reviews: the cluster.
            audiences: of which a token has to have one; none: that of the API server.
            namespace_of: where a caller's tasks go, by their name; raises ``ProblemError`` where nowhere.
            clock: seconds.
        """
        self._reviews = reviews
        self._audiences = list(audiences)
        self._namespace_of = namespace_of
        self._clock = clock
        self._remembered = Remembered(_KEPT_SECONDS, clock)
        self._asking: dict[bytes, asyncio.Task[Caller | None]] = {}
        self._free = asyncio.Semaphore(_AT_ONCE)

    def known(self, text: str) -> Caller | None:
        """See ``Verifier``."""
        answer = self._remembered.answer(text)
        return None if answer is None else answer.caller

    async def verify(self, text: str) -> Caller | None:
        """See ``Verifier``."""
        answer = self._remembered.answer(text)
        if answer is not None:
            caller = answer.caller
        else:
            digest = digest_of(text)
            asking = self._asking.get(digest)
            if asking is None:
                asking = asyncio.get_running_loop().create_task(self._ask(text, digest))
                asking.add_done_callback(_heard)
                self._asking[digest] = asking
            # One who goes takes nothing from others who wait for the same answer.
            caller = await asyncio.shield(asking)
        if caller is None:
            raise RefusedCredentialError("the cluster does not know this token, or not for this gateway")
        return caller

    async def close(self) -> None:
        """See ``Verifier``."""
        for asking in list(self._asking.values()):
            asking.cancel()
        await asyncio.gather(*self._asking.values(), return_exceptions=True)
        await self._reviews.close()

    async def _ask(self, text: str, digest: bytes) -> Caller | None:
        began = self._clock()
        try:
            async with self._free:
                caller = await self._review(text)
        except ClusterError as error:
            # The request holds the token; the error does not.
            log.warning("tokens of the cluster cannot be reviewed: %s", error)
            raise ProblemError(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "IdentityUnavailable",
                "tokens of the cluster cannot be checked at the moment",
                remedy="try again soon",
                retry_after_seconds=1,
            ) from None
        finally:
            del self._asking[digest]
        self._remembered.keep(text, caller, began)
        return caller

    async def _review(self, text: str) -> Caller | None:
        spec: dict[str, Any] = {"token": text}
        if self._audiences:
            spec["audiences"] = self._audiences
        try:
            body = _review("authentication.k8s.io", "TokenReview", spec)
            answer = await self._reviews.review(TOKEN_REVIEWS, body)
        except Refused as error:
            if error.status in {HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY}:
                return None  # what was sent is nothing that a token can be
            raise
        status = answer.get("status") or {}
        user = status.get("user") or {}
        name = user.get("username")
        if status.get("authenticated") is not True or not isinstance(name, str) or not name:
            return None
        # An API server that knows no audiences takes a token of any for good; its answer has none then.
        if self._audiences and not set(self._audiences) & set(status.get("audiences") or ()):
            return None
        caller = Caller(
            caller_name(name),
            frozenset(),
            f"kubernetes:{name.encode('unicode_escape').decode()[:200]}",
            "kubernetes",
            expires_at=_expiry(text),
        )
        try:
            namespace = self._namespace_of(caller.name)
        except ProblemError:
            return caller  # somebody, for whom there is nothing here to do
        return replace(caller, scopes=await self._scopes(user, namespace), namespace=namespace)

    async def _scopes(self, user: Mapping[str, Any], namespace: str) -> frozenset[Scope]:
        rights = sorted({right for needed in RIGHTS.values() for right in needed})
        answers = await asyncio.gather(*(self._may(user, namespace, *right) for right in rights))
        allowed = {right for right, may in zip(rights, answers, strict=True) if may}
        return frozenset(scope for scope, needed in RIGHTS.items() if allowed.issuperset(needed))

    async def _may(self, user: Mapping[str, Any], namespace: str, verb: str, plural: str) -> bool:
        spec = {
            "user": user["username"],
            "uid": user.get("uid") or "",
            "groups": user.get("groups") or [],
            "extra": user.get("extra") or {},
            "resourceAttributes": {"namespace": namespace, "verb": verb, "group": _GROUP, "resource": plural},
        }
        body = _review("authorization.k8s.io", "SubjectAccessReview", spec)
        answer = await self._reviews.review(SUBJECT_ACCESS_REVIEWS, body)
        status = answer.get("status") or {}
        return status.get("allowed") is True and status.get("denied") is not True


def caller_name(username: str) -> str:
    """Return what a user of the cluster is called here. No other kind of credential has such names."""
    return username if username.startswith(_SERVICE_ACCOUNT) else f"kubernetes:{username}"


def _heard(asking: "asyncio.Task[Caller | None]") -> None:
    """Take note of how an asking ended, also where everybody who waited for it has gone."""
    if not asking.cancelled():
        asking.exception()


def _review(group: str, kind: str, spec: Mapping[str, Any]) -> Json:
    return {"apiVersion": f"{group}/v1", "kind": kind, "metadata": {}, "spec": dict(spec)}


def _expiry(text: str) -> datetime | None:
    """Return when a token says that it ends, once the API server has said that it is good."""
    moment = unproven_claims(text).get("exp")
    try:
        return datetime.fromtimestamp(moment, UTC) if isinstance(moment, int | float) else None
    except (ValueError, OverflowError, OSError):
        return None
