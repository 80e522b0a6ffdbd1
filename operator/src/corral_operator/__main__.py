"""Start the operator: settings from the environment, the cluster from the pod's account or a kubeconfig."""

import asyncio
import gc
import logging
import sys
from contextlib import suppress

import kopf
import uvloop
from kubernetes.aio.config import ConfigException
from pydantic import ValidationError

from corral.artifacts.fsspec_store import FsspecStore
from corral.cluster.kubernetes_api import KubernetesCluster
from corral.cluster.port import ClusterError
from corral_operator.control.operator import Operator
from corral_operator.handlers import registry_for, watch_settings
from corral_operator.logs import set_up_logging
from corral_operator.metrics import count_request
from corral_operator.policy_file import PolicyError, read_policy
from corral_operator.runner_key import runner_key
from corral_operator.serving import serving
from corral_operator.settings import Settings

log = logging.getLogger("corral_operator")

_STORE_ATTEMPTS = 7
#: Exit status for a setting that is wrong: sysexits.h EX_CONFIG. Starting again will not help.
_EX_CONFIG = 78
#: More than the API server's own limit (maxDepth, sigs.k8s.io/json) and what reads it needs beside.
_RECURSION_LIMIT = 12_000


async def operate(settings: Settings) -> None:
    """Run until a signal ends it.

    Raises:
        ClusterError: the cluster cannot be reached, or does not allow what is needed.
    """
    policy = read_policy(settings.policy_file)
    # Only a sandbox waits for what it leaves to be kept: the store is asked for half a minute at least.
    url = settings.artifacts_url
    store = None if url is None else FsspecStore(url, attempts=_STORE_ATTEMPTS)
    cluster = await KubernetesCluster.connect(count_request)
    lease_cluster = cluster.apart()
    operator: Operator | None = None
    try:
        key = await runner_key(cluster, settings.operator_namespace)
        operator = started = Operator(cluster, lease_cluster, settings, policy, key, artifacts=store)

        def operator_is_ready() -> bool:
            return started.ready

        async with serving(settings, operator_is_ready):
            work = asyncio.get_running_loop().create_task(operator.run(), name="operator")
            everywhere = "*" in settings.namespaces
            watching = asyncio.get_running_loop().create_task(
                kopf.operator(
                    registry=registry_for(operator),
                    settings=watch_settings(),
                    standalone=True,
                    clusterwide=everywhere,
                    namespaces=() if everywhere else settings.namespaces,
                ),
                name="kopf",
            )
            # kopf ends by itself when a signal comes, or when a watch cannot go on.
            await asyncio.wait({work, watching}, return_when=asyncio.FIRST_COMPLETED)
            for task in (work, watching):
                task.cancel()
            for task in (work, watching):
                with suppress(asyncio.CancelledError):
                    await task
    finally:
        if operator is not None:
            await operator.close()
        await cluster.close()
        await lease_cluster.close()


def main() -> None:
    """Start the operator; the entry point of the image."""
    try:
        settings = Settings()
    except ValidationError as error:
        for problem in error.errors(include_url=False):
            name = "CORRAL_" + "_".join(str(part) for part in problem["loc"]).upper()
            print(f"corral-operator: {name}: {problem['msg']}", file=sys.stderr)  # noqa: T201 - before logging
        sys.exit(_EX_CONFIG)
    set_up_logging(settings.log_format)
    # An API server takes JSON 10,000 levels deep from anybody who may create a task, and hands it to every watch.
    # Read it must be, so that one such task is refused and not the end of this process.
    sys.setrecursionlimit(_RECURSION_LIMIT)
    # What was imported lives for ever: the collector need not look at it again and again.
    gc.freeze()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(operate(settings))
    except (PolicyError, ConfigException, ValueError) as error:
        log.error("%s", error)  # noqa: TRY400 - a sentence for people, not a traceback
        sys.exit(_EX_CONFIG)
    except ClusterError as error:
        log.error("the cluster: %s", error)  # noqa: TRY400
        sys.exit(1)


if __name__ == "__main__":
    main()
