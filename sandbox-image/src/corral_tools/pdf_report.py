"""Write a report as a PDF: headings, paragraphs, lists, tables, images, in any alphabet DejaVu has."""

import contextlib

from corral_runner.interface import InvalidArgument, ToolFailure
from corral_tools import files, paths, pdf_document

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from corral_runner.interface import JSON, ToolContext

MAX_IMAGE_BYTES = 16 << 20
#: All images are in memory at once, unpacked while they are embedded.
MAX_IMAGES = 50


def run(arguments: "Mapping[str, Any]", context: "ToolContext") -> "JSON":
    """The sections come one after another; within a section, its blocks in their order."""
    path: str = arguments["path"]
    absolute = paths.resolve(path, context)
    if not absolute.lower().endswith(".pdf"):
        raise InvalidArgument("path", "does not end with .pdf")
    sections: list[Mapping[str, Any]] = arguments["sections"]
    with contextlib.closing(
        pdf_document.Document(arguments["title"], arguments.get("author", ""))
    ) as document:
        for number, section in enumerate(sections):
            field = f"sections[{number}]"
            document.heading(section["heading"], section.get("level", 1))
            for index, block in enumerate(section.get("blocks", ())):
                _add(document, block, f"{field}.blocks[{index}]", context)
            context.progress((number + 1) / len(sections), section["heading"])
        data = document.as_bytes()
    files.make_parents(absolute, path)
    files.replace(absolute, data, path)
    missing: list[JSON] = [*document.missing_characters()]
    return {
        "path": paths.relative(absolute, context),
        "pages": document.pages,
        "bytes": len(data),
        "missing_characters": missing,
    }


def _add(
    document: "pdf_document.Document", block: "Mapping[str, Any]", field: str, context: "ToolContext"
) -> None:
    if "paragraph" in block:
        document.paragraph(block["paragraph"])
    elif "bullets" in block:
        document.bullets(block["bullets"])
    elif "table" in block:
        _add_table(document, block["table"], f"{field}.table")
    else:
        _add_image(document, block["image"], f"{field}.image", context)


def _add_table(document: "pdf_document.Document", table: "Mapping[str, Any]", field: str) -> None:
    header: list[str] = table["header"]
    for index, row in enumerate(table["rows"]):
        if len(row) != len(header):
            raise InvalidArgument(f"{field}.rows[{index}]", f"has {len(row)} cells, the header {len(header)}")
    try:
        document.table(header, [[_cell(value) for value in row] for row in table["rows"]])
    except pdf_document.DoesNotFit as error:
        raise InvalidArgument(
            field, f"cannot be laid out: {error}; use fewer columns or shorter cells"
        ) from error


def _add_image(
    document: "pdf_document.Document", image: "Mapping[str, Any]", field: str, context: "ToolContext"
) -> None:
    if document.images >= MAX_IMAGES:
        raise InvalidArgument(field, f"is one image too many; a report has at most {MAX_IMAGES}")
    data = files.read_bytes(image["path"], context, limit_bytes=MAX_IMAGE_BYTES, field=f"{field}.path")
    try:
        document.image(data, image.get("caption", ""), image.get("width_percent", 100))
    except pdf_document.NotAnImage as error:
        raise ToolFailure(f"{image['path']!r} cannot be embedded: {error}", path=image["path"]) from error


def _cell(value: "JSON") -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else str(value)
