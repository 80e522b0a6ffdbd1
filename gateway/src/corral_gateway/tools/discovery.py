"""What every door asks of the tools there are, in one way."""

from http import HTTPStatus

from corral.api import Reason, Tool
from corral.catalogue import Catalogue, ToolNotFoundError
from corral_gateway.problems import ProblemError

#: Of a query; more words than this hold nobody reads.
MOST_LETTERS = 1000
MOST_RESULTS = 1000


def tool_named(catalogue: Catalogue, name: str) -> Tool:
    """Return a tool.

    Raises:
        ProblemError: there is none; the detail suggests one that is spelt alike.
    """
    try:
        return catalogue.get(name)
    except ToolNotFoundError as error:
        raise ProblemError(HTTPStatus.NOT_FOUND, Reason.TOOL_NOT_FOUND.value, str(error)) from None
