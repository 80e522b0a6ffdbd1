"""The pages of a report, laid out by fpdf2 with the DejaVu fonts that matplotlib brings.

fpdf2's own fonts know Latin-1 alone (PDF 1.7, annex D). DejaVu covers Latin, Greek, Cyrillic, Hebrew,
Armenian, mathematics and more, but not Chinese, Japanese and Korean; what it has no letter for is reported.
"""

import functools
import io
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fpdf import FPDF

_FAMILY = "DejaVu"
_FONTS = {"": "DejaVuSans.ttf", "B": "DejaVuSans-Bold.ttf", "I": "DejaVuSans-Oblique.ttf"}
_MARGIN_MM = 20
_TITLE_POINTS = 22
_HEADING_POINTS = {1: 16, 2: 13, 3: 11}
_TEXT_POINTS = 10
_SMALL_POINTS = 8
#: A line is as high as its letters and half of that (one point is 0.3528 mm).
_LINE_MM = _TEXT_POINTS * 0.3528 * 1.5
_BULLET_MM = 6
#: About 100 MB unpacked; a page shows a tenth of that.
_MAX_PIXELS = 25_000_000
_MISSING_SHOWN = 50


class DoesNotFit(Exception):  # noqa: N818 - names what is wrong with the table
    """A table whose cells the page has no room for."""


class NotAnImage(Exception):  # noqa: N818 - names what is wrong with the file
    """A file that is no image of a known kind, or too large a one."""


class Document:
    """A report on A4 pages, written from top to bottom."""

    def __init__(self, title: str, author: str) -> None:
        self._pdf = _pages()
        self.images = 0
        title, author = _printable(title), _printable(author)
        self._pdf.set_title(title)
        if author:
            self._pdf.set_author(author)
        self._pdf.add_page()
        self._write(title, points=_TITLE_POINTS, style="B")
        if author:
            self._write(author, style="I")
        self._pdf.ln(_LINE_MM)

    @property
    def pages(self) -> int:
        return self._pdf.pages_count

    def heading(self, text: str, level: int) -> None:
        """A heading of level 1 to 3, with its place in the outline."""
        points = _HEADING_POINTS[level]
        # Never the last line of a page: room for itself and two lines of what follows.
        if self._pdf.will_page_break(points * 0.3528 * 2 + 2 * _LINE_MM):
            self._pdf.add_page()
        self._pdf.ln(points * 0.3528 / 2)
        self._pdf.start_section(_printable(text), level - 1, strict=False)
        self._write(text, points=points, style="B")
        self._pdf.ln(1)

    def paragraph(self, text: str) -> None:
        self._write(text)
        self._pdf.ln(_LINE_MM / 2)

    def bullets(self, items: "Iterable[str]") -> None:
        left = self._pdf.l_margin
        for item in items:
            self._pdf.set_font(_FAMILY, "", _TEXT_POINTS)
            self._pdf.cell(_BULLET_MM, _LINE_MM, "\u2022", align="C")
            # Lines of the item that follow begin where its first one does.
            self._pdf.set_left_margin(left + _BULLET_MM)
            try:
                self._write(item)
            finally:
                self._pdf.set_left_margin(left)
        self._pdf.ln(_LINE_MM / 2)

    def table(self, header: "Sequence[str]", rows: "Iterable[Sequence[str]]") -> None:
        """A table whose header is repeated on every page.

        Raises:
            DoesNotFit: there are too many columns for the page, or a row is higher than one.
        """
        from fpdf.errors import FPDFException

        self._pdf.set_font(_FAMILY, "", _TEXT_POINTS - 1)
        try:
            with self._pdf.table(text_align="LEFT", line_height=_LINE_MM, padding=1) as table:
                for cells in (header, *rows):
                    table.row([_printable(cell) for cell in cells])
        except (FPDFException, ValueError) as error:
            raise DoesNotFit(str(error)) from error
        self._pdf.ln(_LINE_MM)

    def image(self, data: bytes, caption: str, width_percent: float) -> None:
        """A picture, as wide as so much of the text, or as high as the page.

        Raises:
            NotAnImage: the data are none that can be embedded.
        """
        from fpdf.enums import Align

        pixels_wide, pixels_high = _size(data)
        width = self._pdf.epw * width_percent / 100
        below = 2 * _LINE_MM if caption else 0
        width = min(width, (self._pdf.eph - below) * pixels_wide / pixels_high)
        # A picture and its caption stay together.
        if self._pdf.will_page_break(width * pixels_high / pixels_wide + below):
            self._pdf.add_page()
        try:
            self._pdf.image(io.BytesIO(data), x=Align.C, w=width, alt_text=_printable(caption) or None)
        except (OSError, SyntaxError, ValueError, EOFError) as error:  # what PIL raises on damaged data
            raise NotAnImage(str(error)) from error
        self.images += 1
        if caption:
            self._write(caption, points=_SMALL_POINTS, style="I", align="C")
        self._pdf.ln(_LINE_MM / 2)

    def as_bytes(self) -> bytes:
        return bytes(self._pdf.output())

    def close(self) -> None:
        """Close the font files, which fpdf2 leaves open."""
        for font in self._pdf.fonts.values():
            if hasattr(font, "ttfont"):
                font.ttfont.close()

    def missing_characters(self) -> list[str]:
        """Characters that the fonts have no picture of; they are left out."""
        missing: set[int] = set()
        for font in self._pdf.fonts.values():
            missing.update(getattr(font, "missing_glyphs", ()))
        return [chr(code) for code in sorted(missing)[:_MISSING_SHOWN]]

    def _write(self, text: str, *, points: int = _TEXT_POINTS, style: str = "", align: str = "L") -> None:
        self._pdf.set_font(_FAMILY, style, points)
        height = max(_LINE_MM, points * 0.3528 * 1.3)
        self._pdf.multi_cell(0, height, _printable(text), align=align, new_x="LMARGIN", new_y="NEXT")


def _pages() -> "FPDF":
    """Empty pages with the fonts at hand, numbered at their feet."""
    import logging

    from fpdf import FPDF

    # What it would warn of, characters without a glyph, is part of the result.
    logging.getLogger("fpdf").setLevel(logging.ERROR)
    logging.getLogger("fontTools").setLevel(logging.ERROR)

    class Pages(FPDF):
        def footer(self) -> None:
            self.set_y(-_MARGIN_MM + 5)
            self.set_font(_FAMILY, "", _SMALL_POINTS)
            self.cell(0, 5, str(self.page_no()), align="C")

    pages = Pages(format="A4")
    pages.alias_nb_pages(None)  # type: ignore[arg-type] # documented: leaves "{nb}" in texts alone
    pages.set_margins(_MARGIN_MM, _MARGIN_MM)
    pages.set_auto_page_break(True, _MARGIN_MM)
    directory = _font_directory()
    for style, name in _FONTS.items():
        pages.add_font(_FAMILY, style, os.path.join(directory, name))
    return pages


@functools.cache
def _font_directory() -> str:
    """Where matplotlib keeps its fonts; found without importing it, which takes a third of a second."""
    from importlib.util import find_spec

    found = find_spec("matplotlib")
    assert found is not None
    assert found.origin is not None
    return os.path.join(os.path.dirname(found.origin), "mpl-data", "fonts", "ttf")


def _printable(text: str) -> str:
    """The text without what no font draws: control characters (but line ends), lone surrogates."""
    text = text.replace("\r\n", "\n").replace("\t", "    ").encode("utf-8", "replace").decode("utf-8")
    return "".join(" " if ord(character) < 32 and character != "\n" else character for character in text)


def _size(data: bytes) -> tuple[int, int]:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "GIF", "WEBP")) as image:
            width, height = image.size
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise NotAnImage("it is no PNG, JPEG, GIF or WebP image") from error
    if width * height > _MAX_PIXELS:
        raise NotAnImage(f"it has {width} x {height} pixels; at most {_MAX_PIXELS} are taken")
    return width, height
