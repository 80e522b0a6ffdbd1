"""What can go wrong with a sandbox, apart from the tool in it."""


class SandboxError(Exception):
    """Base of this package's errors."""


class IsolationUnavailableError(SandboxError):
    """This machine cannot isolate as the profile demands, so nothing runs.

    Attributes:
        missing: what is missing, in one sentence.
        remedy: what to do about it.
    """

    def __init__(self, missing: str, remedy: str) -> None:
        super().__init__(f"{missing}. {remedy}")
        self.missing = missing
        self.remedy = remedy


class SandboxStartError(SandboxError):
    """A sandbox did not start. No tool ran in it; another attempt may succeed."""


class ImageUnavailableError(SandboxStartError):
    """The image that a sandbox should be made of is not there, or could not be fetched. Nothing ran."""


class UnsupportedError(SandboxError):
    """The sandbox cannot give what a request asks for. Nothing ran.

    Attributes:
        field: what cannot be given, as the manifest calls it.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class SandboxLostError(SandboxError):
    """The connection to a sandbox ended before its result. The tool may have run; its output so far is kept."""


class ProtocolBrokenError(SandboxLostError):
    """The other end is no runner of ours, or one that somebody took over: it does not keep to the protocol.

    The connection is closed, and a new one to it is worth nothing. What it sent before can be true or false.
    """


class RequestRefusedError(SandboxError):
    """The runner refused a request.

    Attributes:
        code: its word for why, as in docs/runner-protocol.md.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
