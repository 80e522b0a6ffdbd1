"""``corral serve``."""

import asyncio
import logging
import os
import socket
import sys
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import typer

from corral_gateway.commands.place import bad_input, open_database, read_settings
from corral_gateway.identity.roles import Role

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from corral.client import AsyncClient
    from corral.cluster.kubernetes_api import KubernetesCluster
    from corral_gateway.identity.key_store import KeyStore
    from corral_gateway.services import Services
    from corral_gateway.settings import Settings

log = logging.getLogger(__name__)

#: When all has ended, who reads their last answer slowly gets so long.
_LAST_ANSWER_SECONDS = 3


def serve() -> None:
    """Serve tasks and tools over HTTP and gRPC, with sandboxes on this machine or in a cluster.

    Settings come from the environment or a file `.env`; `corral config` shows them all. The first start makes an
    admin's API key and prints it, once; CORRAL_FIRST_KEY=false where output is kept. Its data lies in ./data.
    """
    from corral_gateway.logs import set_up_logging

    settings = read_settings()
    set_up_logging(debug=settings.debug, json_lines=settings.log_format == "json")
    _refuse_taken_port(settings)
    _warn_of_open_keys(settings.host)
    # Twice as fast with many small requests as asyncio's own loop, and never slower.
    with asyncio.Runner(loop_factory=_new_event_loop) as runner:
        runner.run(_serve(settings))


def _new_event_loop() -> asyncio.AbstractEventLoop:
    if sys.platform == "win32":  # uvloop is not there
        return asyncio.new_event_loop()
    import uvloop

    return uvloop.new_event_loop()


async def _serve(settings: "Settings") -> None:
    import uvicorn

    from corral_gateway.app import create_app
    from corral_gateway.audit.heads import SigningKeyError
    from corral_gateway.grpc.server import ListenError
    from corral_gateway.http_server import HttpServer
    from corral_gateway.identity.key_store import KeyStore
    from corral_gateway.serving.http_protocol import careful_protocol
    from corral_gateway.serving.limits import ConnectionLimits
    from corral_gateway.serving.metrics_port import serving_metrics

    async with AsyncExitStack() as open_, open_database(settings) as database, _what_runs(settings) as runs:
        if settings.first_key:
            await _first_key(KeyStore(database))
        try:
            app = create_app(settings, database, runs)
        except ListenError as error:
            raise bad_input(str(error), "name another port, or 0 for no gRPC") from None
        except SigningKeyError as error:
            raise bad_input(
                f"CORRAL_AUDIT_KEY: {error}", "name a file with an Ed25519 key, or none"
            ) from None
        services: Services = app.state.services
        if settings.metrics_port:
            try:
                metrics = serving_metrics(
                    services.metrics.registry, settings.host, settings.metrics_port, settings.slow_seconds
                )
                await open_.enter_async_context(metrics)
            except OSError as error:
                why = os.strerror(error.errno or 0)  # its own words have the address once more
                problem = f"CORRAL_METRICS_PORT: {settings.metrics_port} cannot be listened on: {why}"
                raise bad_input(problem, "name another port, or 0 for no metrics") from None
            log.info("metrics on http://%s:%d/metrics", settings.host, settings.metrics_port)
        if settings.grpc_port:
            log.info("gRPC on %s:%d", settings.host, settings.grpc_port)
        config = uvicorn.Config(
            app,
            host=settings.host,
            port=settings.port,
            http=careful_protocol(
                ConnectionLimits(
                    settings.max_connections,
                    settings.slow_seconds,
                    settings.most_connections_of_an_address,
                ),
                lambda reason: services.metrics.drops.labels(reason).inc(),
            ),
            ws="none",
            timeout_keep_alive=settings.keep_alive_seconds,
            timeout_graceful_shutdown=_LAST_ANSWER_SECONDS,
            server_header=False,
            access_log=False,  # the outermost middleware writes a line that knows the caller
            log_config=None,
        )
        await HttpServer(config, app.state.ending).serve()


@asynccontextmanager
async def _what_runs(settings: "Settings") -> "AsyncIterator[AsyncClient | KubernetesCluster]":
    """Open what runs tasks: sandboxes on this machine, or a cluster."""
    from corral.client import AsyncClient
    from corral_gateway.policy import policy_of

    if settings.executor == "embedded":
        _refuse_workspace_of_root(settings)
        async with (
            _alone(settings),
            AsyncClient(waiting=settings.waiting_sandboxes, policy=policy_of(settings)) as client,
        ):
            yield client
        return
    from kubernetes.aio.config import ConfigException

    from corral.cluster.kubernetes_api import KubernetesCluster

    try:
        cluster = await KubernetesCluster.connect()
    except ConfigException as error:
        problem = f"CORRAL_EXECUTOR=cluster: no cluster is configured: {error}"
        raise bad_input(problem, "set KUBECONFIG, or run the gateway in a pod of the cluster") from None
    try:
        yield cluster
    finally:
        await cluster.close()


@asynccontextmanager
async def _alone(settings: "Settings") -> "AsyncIterator[None]":
    from corral_gateway.storage.instance import DirectoryInUseError, alone_in

    try:
        async with alone_in(settings.data_directory):
            yield
    except DirectoryInUseError:
        raise bad_input(
            f"CORRAL_DATA_DIR: a gateway runs tasks from {settings.data_directory.resolve()}",
            "wait for its end, or name another directory: each gateway has one of its own",
        ) from None


def _refuse_taken_port(settings: "Settings") -> None:
    """Tell before anything is made, a first key above all; uvicorn would tell of it last, and in its log."""
    host, port = settings.host, settings.port
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        socket.create_server(address, family=family).close()
    except OSError as error:
        why = str(error.strerror).partition(" (while")[0]  # the address once more
        problem = f"HOST, PORT: {host}:{port} cannot be listened on: {why}"
        raise bad_input(problem, "name another port; 0 takes a free one") from None


def _warn_of_open_keys(host: str) -> None:
    """Say that what passes HTTP can be read on the way, where it leaves this machine."""
    from corral_gateway.serving.addresses import is_loopback

    # In a pod this is the Ingress' part, or the route's.
    if "KUBERNETES_SERVICE_HOST" not in os.environ and not is_loopback(host):
        log.warning(
            "HTTP on %s has no TLS: keys and results can be read on the way. Put a proxy with TLS in front of it,"
            " and let HOST be 127.0.0.1; docs/deployment.md has one",
            host,
        )


def _refuse_workspace_of_root(settings: "Settings") -> None:
    """Tell at the start, not by the first task, that no sandbox can work there."""
    workspace = settings.workspace_root
    if workspace is not None and os.geteuid() == 0 and workspace.stat().st_uid == 0:
        raise bad_input(
            f"WORKSPACE_ROOT: {workspace} belongs to root, and no sandbox runs with root's rights",
            f"give it to an ordinary user: chown nobody {workspace}; or run the gateway as one",
        )


async def _first_key(keys: "KeyStore") -> None:
    from corral_gateway.identity.api_key import make_key

    if await keys.all():
        return
    key, text = make_key("admin", Role.ADMIN, datetime.now(UTC))
    await keys.add(key)
    typer.echo(f"API key of the first admin, shown this once: {text}")
