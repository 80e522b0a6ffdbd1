"""The tools that tasks may name: registered, found, looked for, their arguments checked."""

from corral.catalogue.arguments import validate_arguments, with_defaults
from corral.catalogue.catalogue import Catalogue, normalise
from corral.catalogue.errors import ToolExistsError, ToolNotFoundError

__all__ = [
    "Catalogue",
    "ToolExistsError",
    "ToolNotFoundError",
    "normalise",
    "validate_arguments",
    "with_defaults",
]
