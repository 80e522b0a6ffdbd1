"""Where each setting comes from: the environment, a line of ``.env``, or its default."""

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from dotenv import dotenv_values
from pydantic import SecretStr

from corral_gateway.logs import without_secrets
from corral_gateway.settings import Settings, written

#: Variables of the documents that mean something to parts which are not there yet.
_FOR_AGENTS = frozenset({"LLM_PROVIDER", "LLM_API_KEY", "LLM_MODEL"})


@dataclass(frozen=True, slots=True)
class Origin:
    """One setting as it stands."""

    variable: str
    #: As somebody would write it; of a secret only that it is set.
    value: str
    #: ``environment``, ``.env``, or ``default``.
    source: str
    #: What it is for, in half a sentence.
    summary: str


def variable_of(name: str) -> str:
    """Return the environment variable of a setting."""
    return str(Settings.model_fields[name].alias or name).upper()


def origins(
    settings: Settings, environment: Mapping[str, str], file: Mapping[str, str | None]
) -> Iterator[Origin]:
    """Return every setting with its value and where that was found, in the order in which they are declared."""
    present, lines = _upper(environment), _upper(file)
    for name, field in Settings.model_fields.items():
        variable = variable_of(name)
        source = "environment" if variable in present else ".env" if variable in lines else "default"
        value = getattr(settings, name)
        shown = without_secrets(written(value))
        if isinstance(value, SecretStr):
            shown = "(set)" if value.get_secret_value() else ""
        summary = (
            (field.description or "").partition(": ")[2].partition("\n")[0].replace("``", "").rstrip(".")
        )
        yield Origin(variable, shown, source, summary)


def unknown(file: Mapping[str, str | None]) -> Iterator[tuple[str, str]]:
    """Return what ``.env`` sets and nobody reads, each with what to do about it."""
    known = {variable_of(name) for name in Settings.model_fields}
    for variable in _upper(file):
        if variable in _FOR_AGENTS:
            yield variable, "not read yet: no part of this version asks a language model"
        elif variable not in known and not variable.startswith("OTEL_"):
            close = difflib.get_close_matches(variable, known, 1, 0.7)
            yield variable, f"did you mean {close[0]}?" if close else "no setting has this name"


def read_file(path: Path = Path(".env")) -> dict[str, str | None]:
    """Return the lines of ``.env``, nothing where there is none."""
    return dict(dotenv_values(path)) if path.is_file() else {}


def _upper(variables: Mapping[str, str | None] | Mapping[str, str]) -> dict[str, str | None]:
    return {name.upper(): value for name, value in variables.items()}
