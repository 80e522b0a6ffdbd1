"""What tells whose a credential is: one verifier per kind."""

from typing import Protocol

from corral_gateway.identity.caller import Caller


class RefusedCredentialError(Exception):
    """A credential of this kind that opens nothing. Its message is for the log; it holds nothing secret."""


class Verifier(Protocol):
    """Knows one kind of credentials."""

    @property
    def costs(self) -> bool:
        """Whether a wrong credential costs somebody else work, such as a request to a cluster."""
        ...

    def known(self, text: str) -> Caller | None:
        """Return whose a credential is if that is known already, without any work; None: it has to be asked."""
        ...

    async def verify(self, text: str) -> Caller | None:
        """Return whose a credential is; None: it is of another kind.

        Raises:
            RefusedCredentialError: of this kind, and no good.
            ProblemError: it cannot be told at the moment.
        """
        ...

    async def close(self) -> None:
        """End what it began."""
        ...
