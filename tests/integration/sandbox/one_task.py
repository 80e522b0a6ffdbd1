"""Run one tool and print what became of it as JSON: ``python one_task.py [WAITING]``."""

import asyncio
import json
import sys
from typing import Any

from corral.sandbox.embedded import EmbeddedBackend
from corral.sandbox.errors import IsolationUnavailableError, SandboxError
from sandboxes import Lab, shell
from sandboxes import request as make_request


async def main() -> None:
    told: dict[str, Any] = {}
    try:
        async with EmbeddedBackend(waiting=int(sys.argv[1])) as backend:
            lab = Lab(backend)
            for number in range(3):
                ended = await lab.run(
                    make_request(shell("echo $$ ran; cat /proc/sys/user/max_user_namespaces"))
                )
                told[f"run {number}"] = [ended.reason, ended.stdout, ended.status.message]
                told["isolation"] = list(ended.record.isolation)
                told["weakened"] = list(ended.record.weakened)
            told["source"] = type(backend._source).__name__
    except IsolationUnavailableError as error:
        told["refused"] = [error.missing, error.remedy]
    except SandboxError as error:
        told["failed"] = [str(error)]
    print(json.dumps(told))


asyncio.run(main())
