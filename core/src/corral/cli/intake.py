"""What a command line brings into a task: texts, files, limits, variables."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from corral.api import EnvVar, InputFile, Limits, Problem, did_you_mean, problems_in
from corral.api.files import MAX_CONTENT_CHARACTERS
from corral.cli.exits import BadInputError

#: A spec has at most 64 KiB. More is read only so that the message can come from the spec's own check.
_MAX_TEXT_BYTES = 1 << 20
#: As a gateway takes files in: smaller ones stand in the task, larger ones go beside it.
_MAX_INLINE_BYTES = 16 << 10
_MAX_UPLOAD_BYTES = 256 << 20
_STDIN = "-"


class StandardInput:
    """Standard input, which can be read once."""

    def __init__(self) -> None:
        self._reader: str | None = None

    def read(self, reader: str, limit_bytes: int) -> str:
        """Return all of it as text.

        Args:
            reader: who asks, such as ``code=-``.
            limit_bytes: more is refused.

        Raises:
            BadInputError: it was read before, is too long, or is not UTF-8.
        """
        if self._reader is not None:
            raise BadInputError(f"{reader}: standard input was read already, by {self._reader}")
        self._reader = reader
        if sys.stdin is None:
            raise BadInputError(f"{reader}: standard input is closed")
        return _text(sys.stdin.buffer.read(limit_bytes + 1), "standard input", limit_bytes)


def read_text(reference: str, stdin: StandardInput) -> str:
    """Return what ``@PATH`` or ``-`` stands for.

    Raises:
        BadInputError: it cannot be read, is too long, or is not UTF-8.
    """
    if reference == _STDIN:
        return stdin.read("key=-", _MAX_TEXT_BYTES)
    path = Path(reference[1:])
    return _text(_bytes(path, _MAX_TEXT_BYTES), str(path), _MAX_TEXT_BYTES)


def read_files(words: Sequence[str], uploads: dict[str, bytes] | None = None) -> list[InputFile]:
    """Read the files of ``--file PATH[=DEST]``.

    Args:
        words: of the command line.
        uploads: takes those that are too large to stand in a task, by their paths; None: they cannot go.

    Raises:
        BadInputError: with what is wrong with each.
    """
    files: list[InputFile] = []
    problems: list[str] = []
    for word in words:
        try:
            file = _file(word, uploads)
        except BadInputError as error:
            problems += error.problems
            continue
        if file is not None:
            files.append(file)
    if problems:
        larger = "A directory, or a larger file, goes in with --workspace DIR"
        raise BadInputError(problems, larger if uploads is None else None)
    return files


def parse_limits(words: Sequence[str]) -> Limits | None:
    """Read ``--limit name=value``.

    Raises:
        BadInputError: with what is wrong with each.
    """
    if not words:
        return None
    from pydantic import ValidationError

    known = [str(field.alias) for field in Limits.model_fields.values()]
    given: dict[str, Any] = {}
    problems: list[str] = []
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            problems.append(f"--limit {word}: expected name=value, such as memory=256Mi")
        elif name not in known:
            guess = did_you_mean(name, known)
            hint = f'did you mean "{guess}"?' if guess else f"known are {', '.join(known)}"
            problems.append(f'--limit {word}: there is no limit "{name}"; {hint}')
        elif name in given:
            problems.append(f"--limit {word}: {name} is given twice")
        else:
            given[name] = int(value) if value.isascii() and value.isdigit() and len(value) < 20 else value
    try:
        limits = Limits.from_wire(given)
    except ValidationError as error:
        raise BadInputError([*problems, *option_problems(error, Limits, "--limit ")]) from None
    if problems:
        raise BadInputError(problems, "Limits are written as in --limit memory=256Mi --limit timeout=5s")
    return limits


def parse_environment(words: Sequence[str]) -> list[EnvVar]:
    """Read ``--env NAME=VALUE``.

    Raises:
        BadInputError: with what is wrong with each.
    """
    from pydantic import ValidationError

    variables: list[EnvVar] = []
    problems: list[str] = []
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            problems.append(f'--env {word}: expected NAME=VALUE, such as {word}="$' + f'{word}"')
            continue
        try:
            variables.append(EnvVar(name=name, value=value))
        except ValidationError as error:
            problems += option_problems(error, EnvVar, f"--env {name}: ")
    if problems:
        raise BadInputError(problems)
    return variables


def option_problems(error: Any, model: Any, option: str) -> list[str]:
    """Say what pydantic found in terms of the option that it came from."""
    return [f"{option}{_told(problem)}" for problem in problems_in(error, model)]


def _told(problem: Problem) -> str:
    text = ": ".join(part for part in (problem.path, problem.message) if part)
    return f"{text} ({problem.remedy})" if problem.remedy else text


def _file(word: str, uploads: dict[str, bytes] | None) -> InputFile | None:
    """Return the file of a word; None: it went to the uploads."""
    from pydantic import ValidationError

    source, equals, target = word.rpartition("=")
    # A name may have an equals sign in it.
    if not equals or os.path.lexists(word):
        source, target = word, ""
    path = Path(source)
    data = _bytes(path, MAX_CONTENT_CHARACTERS if uploads is None else _MAX_UPLOAD_BYTES)
    mode = "0755" if os.access(path, os.X_OK) else "0644"
    if uploads is not None and len(data) > _MAX_INLINE_BYTES:
        place = target or path.name
        if place in uploads:
            raise BadInputError(f'--file {word}: "{place}" is there already')
        uploads[place] = data
        return None
    try:
        return InputFile(path=target or path.name, mode=mode, **_content(data))
    except ValidationError as error:
        raise BadInputError(option_problems(error, InputFile, f"--file {word}: ")) from None


def _content(data: bytes) -> dict[str, str]:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        from base64 import b64encode

        return {"content_base64": b64encode(data).decode("ascii")}
    return {"content": text}


def _bytes(path: Path, limit_bytes: int) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(limit_bytes + 1)
    except OSError as error:
        raise BadInputError(f"{path}: {error.strerror}") from None
    if len(data) > limit_bytes:
        raise BadInputError(f"{path}: larger than {limit_bytes >> 10} KiB, the most that goes in this way")
    return data


def _text(data: bytes, source: str, limit_bytes: int) -> str:
    if len(data) > limit_bytes:
        raise BadInputError(f"{source}: larger than {limit_bytes >> 10} KiB, the most that goes in this way")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise BadInputError(
            f"{source}: not UTF-8 text (byte {error.start}); bytes go into the workspace with --file"
        ) from None
