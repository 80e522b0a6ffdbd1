"""The Docker daemon, asked from threads: the SDK blocks, and an event loop must not."""

import asyncio
import socket
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from corral.sandbox.docker.relay import as_socket
from corral.sandbox.errors import (
    ImageUnavailableError,
    IsolationUnavailableError,
    SandboxStartError,
)

_T = TypeVar("_T")

#: So many requests at once; one that removes a container waits until it is gone.
_THREADS = 16
#: A daemon that does not answer a request by then is stuck.
_ANSWER_SECONDS = 60
_MISSING_PACKAGE = "Install it: pip install 'corral[docker]'"
_DAEMON_REMEDY = (
    "Start Docker, or set DOCKER_HOST to a daemon that runs and that you may use (corral doctor looks again), "
    "or use the embedded backend"
)


@dataclass(frozen=True, slots=True)
class Machine:
    """What the daemon says of itself, as far as it decides how a container is made."""

    version: str
    cores: int
    #: On this machine, so that its directories are ours.
    local: bool
    remapped_users: bool
    #: What it leaves out of every container, by the names of ``weakened``.
    weakened: tuple[str, ...]


class Engine:
    """One connection to a daemon. Every method is safe to call from an event loop."""

    def __init__(self, host: str | None = None) -> None:
        """Prepare; nothing is asked yet.

        Args:
            host: as ``DOCKER_HOST``; None for the environment's.

        Raises:
            IsolationUnavailableError: the SDK is not installed, or the host is none.
        """
        try:
            from docker import APIClient
            from docker.errors import DockerException, TLSParameterError
            from docker.utils import kwargs_from_env
        except ImportError as error:
            raise IsolationUnavailableError(
                "the docker package for Python is not installed", _MISSING_PACKAGE
            ) from error
        try:
            options: dict[str, Any] = {**kwargs_from_env()}
            if host is not None:
                options["base_url"] = host
            #: Where the daemon is, for messages.
            self.host = str(options.get("base_url") or "unix:///var/run/docker.sock")
            #: Whether an attached connection can end standard input and go on with the output: not over TLS or SSH.
            self.half_closes = not (options.get("tls") or self.host.startswith(("ssh://", "https://")))
            # A fixed version: asking for the daemon's would be a request here and now, and block.
            self._client = APIClient(
                version="1.41", timeout=_ANSWER_SECONDS, max_pool_size=_THREADS, **options
            )
        except (DockerException, TLSParameterError, ValueError) as error:
            raise IsolationUnavailableError(
                f"DOCKER_HOST cannot be used ({error})", _DAEMON_REMEDY
            ) from error
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="corral-docker")

    async def machine(self) -> Machine:
        """Ask what it is.

        Raises:
            IsolationUnavailableError: no daemon answers, or it cannot limit.
        """
        info = await self._ask(self._client.info)
        return read_machine(info, self.host)

    async def has_image(self, image: str) -> bool:
        """Say whether an image is there."""
        from docker.errors import ImageNotFound, NotFound

        try:
            await self._ask(self._client.inspect_image, image)
        except (ImageNotFound, NotFound):
            return False
        return True

    async def pull(self, image: str) -> None:
        """Fetch an image.

        Raises:
            ImageUnavailableError: it could not be fetched.
        """
        from docker.errors import APIError

        repository, tag = _repository_and_tag(image)
        try:
            await self._ask(self._client.pull, repository, tag)
        except APIError as error:
            raise ImageUnavailableError(f"the image {image} could not be pulled: {_said(error)}") from error
        if not await self.has_image(image):
            raise ImageUnavailableError(f"the image {image} was pulled and is not there")

    async def launch(self, body: Mapping[str, Any]) -> tuple[str, socket.socket]:
        """Make a container, connect to its standard streams and start it.

        Not to be cancelled: the container would be there and nobody know it.

        Returns:
            Its id, and the connection.

        Raises:
            ImageUnavailableError: its image is not there.
            SandboxStartError: the daemon, or its runtime, refused; nothing is left of it.
        """
        from docker.errors import APIError, ImageNotFound, NotFound

        try:
            return await self._ask(_launch, self._client, body)
        except (ImageNotFound, NotFound) as error:
            raise ImageUnavailableError(f"there is no image {body['Image']}") from error
        except APIError as error:
            raise SandboxStartError(f"Docker could not start the sandbox: {_said(error)}") from error

    async def update(self, container: str, body: Mapping[str, Any]) -> None:
        """Change the limits of a container that runs.

        Raises:
            SandboxStartError: the daemon refused; its limits are as they were.
        """
        from docker.errors import APIError

        try:
            await self._ask(partial(_update, self._client, container, body))
        except APIError as error:
            raise SandboxStartError(f"Docker refused the task's limits: {_said(error)}") from error

    async def end_state(self, container: str) -> dict[str, Any]:
        """Return ``State`` of a container that was not removed with its end; waits for that."""
        await self._ask(partial(self._client.wait, container))
        found = await self._ask(self._client.inspect_container, container)
        return dict(found["State"])

    def kill(self, container: str) -> None:
        """End a container that is not removed with it, soon; what it printed and how it ended stay."""
        self._threads.submit(_quietly, partial(self._client.kill, container))

    async def remove(self, container: str) -> None:
        """End a container and wait until nothing of it is left, volumes included. It may be gone already."""
        await self._ask(partial(_remove, self._client, container))

    async def owned(self, label: str) -> list[tuple[str, dict[str, str]]]:
        """Return the id and the labels of every container that has the label, running or not."""
        found = await self._ask(partial(self._client.containers, all=True, filters={"label": label}))
        return [(str(each["Id"]), dict(each.get("Labels") or {})) for each in found]

    def close(self) -> None:
        """Let go of the daemon, after the last request."""
        self._threads.shutdown(wait=False)
        self._client.close()

    async def _ask(self, request: Callable[..., _T], *arguments: Any) -> _T:
        """Make a request.

        Raises:
            docker.errors.APIError: the daemon answered with an error.
            IsolationUnavailableError: it did not answer.
        """
        from docker.errors import APIError, DockerException
        from requests.exceptions import RequestException

        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, request, *arguments)
        except APIError:
            raise
        except (RequestException, DockerException, OSError) as error:
            raise DaemonGoneError(self.host, error) from error


class DaemonGoneError(IsolationUnavailableError):
    """No daemon answers."""

    def __init__(self, host: str, error: Exception) -> None:
        cause: BaseException = error
        while cause.__cause__ is not None or cause.__context__ is not None:
            cause = cause.__cause__ or cause.__context__ or cause
        super().__init__(f"no Docker daemon answers at {host} ({cause})", _DAEMON_REMEDY)


def read_machine(info: Mapping[str, Any], host: str) -> Machine:
    """Read ``GET /info``.

    Raises:
        IsolationUnavailableError: it runs no Linux containers, or enforces no limits.
    """
    if info.get("OSType") != "linux":
        raise IsolationUnavailableError(
            f"the daemon at {host} runs {info.get('OSType')} containers", "Use one that runs Linux containers"
        )
    missing = [
        name for key, name in (("MemoryLimit", "memory"), ("PidsLimit", "pids")) if not info.get(key, True)
    ]
    if missing:
        raise IsolationUnavailableError(
            f"the daemon at {host} cannot limit {' and '.join(missing)}",
            "Give it these cgroup controllers (docker info warns about them)",
        )
    options = [str(option) for option in info.get("SecurityOptions") or ()]
    names = {option.partition("name=")[2].split(",")[0] for option in options}
    weakened = []
    if "seccomp" not in names or any(
        "seccomp" in option and "profile=unconfined" in option for option in options
    ):
        weakened.append("outer-seccomp")
    if not info.get("CpuCfsQuota", True):
        weakened.append("outer-cpu")
    return Machine(
        version=str(info.get("ServerVersion", "")),
        cores=int(info.get("NCPU") or 1),
        local=host.startswith("unix://"),
        remapped_users=bool(names & {"userns", "rootless"}),
        weakened=tuple(weakened),
    )


def _launch(client: Any, body: Mapping[str, Any]) -> tuple[str, socket.socket]:
    made = str(client.create_container_from_config(dict(body))["Id"])
    connection: socket.socket | None = None
    try:
        # Before the start, so that nothing of what it says is missed.
        params = {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1, "logs": 0}
        connection = as_socket(client.attach_socket(made, params))
        client.start(made)
    except BaseException:
        if connection is not None:
            connection.close()
        _quietly(partial(_remove, client, made))
        raise
    return made, connection


def _update(client: Any, container: str, body: Mapping[str, Any]) -> None:
    # The SDK's own update_container knows neither PidsLimit nor NanoCpus (docker/api/container.py).
    url = client._url("/containers/{0}/update", container)  # noqa: SLF001 - there is no public way
    client._raise_for_status(client._post_json(url, data=dict(body)))  # noqa: SLF001 - same


def _remove(client: Any, container: str) -> None:
    from docker.errors import APIError, NotFound

    try:
        client.remove_container(container, force=True, v=True)
    except NotFound:
        return
    except APIError as error:
        if error.status_code != 409:  # HTTP's Conflict: its removal is in progress already
            raise
        try:
            client.wait(container, condition="removed")
        except NotFound:
            return


def _quietly(request: Callable[[], Any]) -> None:
    try:
        request()
    except Exception:  # noqa: BLE001 - it may have ended by itself; whoever waits for its end sees what is left
        return


def _said(error: Any) -> str:
    return str(error.explanation or error)


def _repository_and_tag(image: str) -> tuple[str, str | None]:
    """Part an image's name as the pull request wants it; a digest is a tag to it."""
    if "@" in image:
        repository, _, digest = image.partition("@")
        return repository, digest
    repository, colon, tag = image.rpartition(":")
    return (repository, tag) if colon and "/" not in tag else (image, "latest")
