"""Files that go into a sandbox with the task, and files that come back."""

import binascii
from base64 import b64decode
from typing import Annotated, Self

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from corral.api.errors import Finding
from corral.api.model import ApiModel, Bool, Int, Pattern, RelativePath, expectation, refuse

#: As large as the whole spec may be; larger files go by reference.
MAX_CONTENT_CHARACTERS = 65536


def _check_base64(text: str) -> str:
    try:
        b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise expectation("base64, without line breaks") from None
    return text


_Content = Annotated[str, Field(max_length=MAX_CONTENT_CHARACTERS)]
_Base64 = Annotated[
    str,
    Pattern("[A-Za-z0-9+/]*={0,2}", "base64, without line breaks", MAX_CONTENT_CHARACTERS, min_length=0),
    AfterValidator(_check_base64),
]


class InputFile(ApiModel):
    """A file that is put into the workspace before the tool starts."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                {
                    "rule": "[has(self.content), has(self.contentBase64), has(self.artifact)]"
                    ".exists_one(given, given)",
                    "message": "exactly one of content, contentBase64 and artifact is needed",
                }
            ]
        }
    )

    path: RelativePath = Field(description="Where it goes, relative to the workspace.")
    content: _Content | None = Field(None, description="The content as text, written as UTF-8.")
    content_base64: _Base64 | None = Field(None, description="The content as base64, for what is no text.")
    artifact: (
        Annotated[str, Pattern("sha256:[0-9a-f]{64}", "sha256: and 64 hexadecimal digits", 71)] | None
    ) = Field(
        None,
        description="The content as it was sent to the gateway beside the task, which keeps it in its object "
        "store: its SHA-256. Written by the gateway.",
    )
    mode: Annotated[str, Pattern("0?[0-7]{3}", 'permission bits such as "0644", in quotes', 4)] = Field(
        "0644", description="Permission bits, octal, in quotes."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if [self.content, self.content_base64, self.artifact].count(None) != 2:
            refuse([Finding((), "exactly one of content, contentBase64 and artifact is needed")])
        return self

    @property
    def data(self) -> bytes:
        """The content as bytes, of a file that has it in itself."""
        if self.artifact is not None:
            raise ValueError(f"the content of {self.path} is in an object store")
        return _data(self.content, self.content_base64)


class OutputFile(ApiModel):
    """A file that the task brought back."""

    path: Annotated[str, Field(max_length=4096)] = Field(
        description="Where it was, relative to the workspace."
    )
    size: Annotated[Int, Field(ge=0)] = Field(description="Bytes.")
    sha256: Annotated[str, Pattern("[0-9a-f]{64}", "64 hexadecimal digits", 64)] | None = Field(
        None, description="SHA-256 of the content."
    )
    content: str | None = Field(None, description="The content, where it is small and text.")
    content_base64: str | None = Field(None, description="The content, where it is small and no text.")
    stored: Bool | None = Field(
        None,
        description="The content is in the gateway's object store: GET /v1/tasks/ID/files/PATH returns it.",
    )

    @property
    def data(self) -> bytes | None:
        """The content as bytes; None where only name, size and hash came back."""
        if self.content is None and self.content_base64 is None:
            return None
        return _data(self.content, self.content_base64)


def _data(content: str | None, content_base64: str | None) -> bytes:
    return b64decode(content_base64 or "") if content is None else content.encode()
