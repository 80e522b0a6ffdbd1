"""The Python API: run a tool in three lines, or a whole task with everything it says on the way."""

from corral.client.asynchronous import AsyncClient
from corral.client.connecting import connect, connect_async
from corral.client.executor import Executor
from corral.client.secrets import DirectorySecrets, SecretMissingError, SecretSource
from corral.client.synchronous import Client
from corral.client.task_run import CheckArguments, OnFile, OnFrame, OnStatus
from corral.client.tasks import build_task

__all__ = [
    "AsyncClient",
    "CheckArguments",
    "Client",
    "DirectorySecrets",
    "Executor",
    "OnFile",
    "OnFrame",
    "OnStatus",
    "SecretMissingError",
    "SecretSource",
    "build_task",
    "connect",
    "connect_async",
]
