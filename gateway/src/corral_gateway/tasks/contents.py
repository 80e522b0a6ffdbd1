"""The contents of a task's files that do not stand in it, and what is said when they cannot be had."""

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from typing import BinaryIO, TypeAlias

from corral.api import AgentTask, ManifestError, Problem
from corral.artifacts.port import ArtifactError, ArtifactMissingError
from corral_gateway.budgets.stored import NoRoomError
from corral_gateway.problems import ProblemError
from corral_gateway.tasks.artifacts import TaskArtifacts
from corral_gateway.tasks.room import NoSpaceError

log = logging.getLogger(__name__)

#: Ended tasks are removed once a minute: before, no room comes by itself.
_ROOM_RETRY_SECONDS = 60

#: By the SHA-256 that ``spec.files[].artifact`` names.
Contents: TypeAlias = Mapping[str, BinaryIO]


def check_contents(task: AgentTask, contents: Contents, artifacts: TaskArtifacts) -> None:
    """Let a task through whose files are all here, and can be kept.

    Raises:
        ManifestError: it names one that did not come with it. Whoever knows the hash of another's has not the file.
        ProblemError: they are too many bytes, or there is no store.
    """
    problems = [
        Problem(
            f"spec.files[{place}].artifact",
            "no file of this hash came with the task",
            remedy="send the file itself, as multipart/form-data",
        )
        for place, file in enumerate(task.spec.files)
        if file.artifact is not None and file.artifact.removeprefix("sha256:") not in contents
    ]
    if problems:
        raise ManifestError(problems)
    if not contents:
        return
    size = sum(content.seek(0, os.SEEK_END) for content in contents.values())
    if not artifacts.there:
        raise ProblemError(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            "NoArtifactStore",
            "these files are too large to stand in a task's spec, and this gateway has no artifact store",
            remedy="send less, or have CORRAL_ARTIFACTS_URL set",
        )
    if size > artifacts.most_bytes:
        raise ProblemError(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            "ArtifactsTooLarge",
            f"the files have {size} bytes; a task may have {artifacts.most_bytes}",
            remedy="send less, or have CORRAL_ARTIFACTS_TASK_SIZE raised",
        )


@contextmanager
def stored() -> Iterator[None]:
    """Say it as a refusal where the artifact store does not do what is asked of it."""
    try:
        yield
    except ArtifactMissingError:
        raise ProblemError(
            HTTPStatus.GONE, "ArtifactGone", "the artifact store does not have it any more"
        ) from None
    except NoRoomError as error:
        raise no_room(error) from None
    except NoSpaceError as error:
        log.error("%s", error)  # noqa: TRY400 - it says all
        raise ProblemError(
            HTTPStatus.SERVICE_UNAVAILABLE,
            "ArtifactStoreFull",
            "the disk of the artifact store is nearly full, and takes no files",
            remedy="try again after the time that Retry-After names; who runs the gateway must make room on its disk",
            retry_after_seconds=_ROOM_RETRY_SECONDS,
        ) from None
    except ArtifactError as error:
        log.error("%s", error)  # noqa: TRY400 - it says all
        raise ProblemError(
            HTTPStatus.SERVICE_UNAVAILABLE,
            "ArtifactStoreFailed",
            "the artifact store does not answer as it should; the gateway's log says why",
            remedy="try again after the time that Retry-After names",
            retry_after_seconds=5,
        ) from None


def no_room(error: NoRoomError) -> ProblemError:
    """Return the refusal of what a caller has no more room for.

    429, as of every other budget: it is the caller who has used up what is theirs. 413 is for what no caller may, and
    507 would say that nobody's is kept.
    """
    return ProblemError(
        HTTPStatus.TOO_MANY_REQUESTS,
        "BudgetExhausted",
        str(error),
        remedy="DELETE /v1/tasks/{id}/files of ended tasks, give tasks a ttlSecondsAfterFinished, or have the"
        " budget raised; GET /v1/budget shows how you stand",
        retry_after_seconds=_ROOM_RETRY_SECONDS,
    )
