"""pdf_report: reports in many alphabets, with tables and pictures."""

import base64
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest

from corral_runner.interface import InvalidArgument, PermissionRefused, ToolContext, ToolFailure
from corral_tools import pdf_document, pdf_report

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)


def report(context: ToolContext, *blocks: dict[str, Any], **more: Any) -> Any:
    sections = [{"heading": "Section", "blocks": [*blocks]}]
    return pdf_report.run({"path": "r.pdf", "title": "Title", "sections": sections, **more}, context)


def test_W7_a_report_is_written(workspace: Path, context: ToolContext) -> None:
    (workspace / "p.png").write_bytes(PIXEL)
    result = report(
        context,
        {"paragraph": "Ελλάδα, Україна, Łódź, 20 €\nsecond line"},
        {"bullets": ["one", "two " * 100]},
        {"table": {"header": ["n", "x"], "rows": [[1, 2.5], [None, True], ["ü", False]]}},
        {"image": {"path": "p.png", "caption": "a pixel", "width_percent": 10}},
        path="out/r.pdf",
        author="Ada",
    )
    data = (workspace / "out/r.pdf").read_bytes()
    assert result == {"path": "out/r.pdf", "pages": 1, "bytes": len(data), "missing_characters": []}
    assert data.startswith(b"%PDF-")
    assert data.rstrip().endswith(b"%%EOF")
    assert b"/FontFile2" in data  # the letters are embedded
    assert b"/Subtype /Image" in data
    assert b"/Outlines" in data


def test_long_texts_go_on_over_pages(context: ToolContext) -> None:
    assert report(context, {"paragraph": "word " * 5000})["pages"] > 3
    table = {"header": ["n"], "rows": [[number] for number in range(200)]}
    assert report(context, {"table": table})["pages"] > 3
    assert report(context, {"bullets": ["item"] * 300})["pages"] > 3


def test_letters_the_font_does_not_have_are_told(context: ToolContext) -> None:
    assert report(context, {"paragraph": "漢字 and 漢"}, title="日")["missing_characters"] == [
        "字",
        "日",
        "漢",
    ]


def test_odd_characters_do_no_harm(context: ToolContext) -> None:
    odd = "tab\there\r\nbell\x07 nul\0 esc\x1b[31m {nb} **bold** <b>x</b> \\( \ud800 \u202e bidi \u200d\ufeff"
    result = report(context, {"paragraph": odd}, {"bullets": [odd]}, title=odd, author=odd)
    assert result["pages"] == 1


def test_a_word_longer_than_a_line_is_broken(context: ToolContext) -> None:
    long = "x" * 3000
    table = {"header": ["a" * 100] * 3, "rows": [["y" * 300] * 3]}
    assert (
        report(context, {"paragraph": long}, {"bullets": [long]}, {"table": table}, title="t" * 500)["pages"]
        >= 2
    )


def test_headings_have_levels(context: ToolContext, workspace: Path) -> None:
    sections = [{"heading": f"H{level}", "level": level} for level in (1, 2, 3, 2, 1, 3)]
    assert report(context, sections=sections)["pages"] == 1
    assert (workspace / "r.pdf").read_bytes().count(b"/Dest ") == 6


def test_a_row_with_other_cells_than_the_header_is_refused(context: ToolContext) -> None:
    with pytest.raises(InvalidArgument, match=r"table\.rows\[1\]: has 1 cells, the header 2") as caught:
        report(context, {"table": {"header": ["a", "b"], "rows": [[1, 2], [1]]}})
    assert caught.value.field == "sections[0].blocks[0].table.rows[1]"


def test_a_table_that_does_not_fit_is_refused(context: ToolContext) -> None:
    with pytest.raises(InvalidArgument, match="cannot be laid out"):
        report(context, {"table": {"header": ["a"], "rows": [["word " * 5000]]}})


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"not an image", "no PNG, JPEG, GIF or WebP"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>", "no PNG"),
        (PIXEL[:40], "cannot be embedded"),
        (b"BM" + b"\0" * 100, "no PNG"),
    ],
)
def test_what_is_no_image_is_named(content: bytes, why: str, workspace: Path, context: ToolContext) -> None:
    (workspace / "p.png").write_bytes(content)
    with pytest.raises(ToolFailure, match=why):
        report(context, {"image": {"path": "p.png"}})
    assert not (workspace / "r.pdf").exists()


def test_an_image_of_too_many_pixels_is_refused_before_it_is_unpacked(
    workspace: Path, context: ToolContext
) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    header = (30_000).to_bytes(4, "big") * 2 + bytes([8, 6, 0, 0, 0])
    bomb = (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )
    (workspace / "p.png").write_bytes(bomb)
    with pytest.raises(ToolFailure, match=r"no PNG|30000 x 30000 pixels"):
        report(context, {"image": {"path": "p.png"}})


def test_a_tall_image_fits_its_page_with_its_caption(workspace: Path, context: ToolContext) -> None:
    from PIL import Image

    Image.new("RGB", (10, 2000)).save(workspace / "tall.jpg")
    result = report(context, {"paragraph": "before"}, {"image": {"path": "tall.jpg", "caption": "c"}})
    assert result["pages"] == 2


def test_images_are_bounded_in_number(
    workspace: Path, context: ToolContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pdf_report, "MAX_IMAGES", 2)
    (workspace / "p.png").write_bytes(PIXEL)
    block = {"image": {"path": "p.png", "width_percent": 5}}
    assert report(context, block, block)["pages"] == 1
    with pytest.raises(InvalidArgument, match="at most 2"):
        report(context, block, block, block)


def test_A7_nothing_outside_is_read_or_written(workspace: Path, context: ToolContext) -> None:
    (workspace.parent / "p.png").write_bytes(PIXEL)
    (workspace / "link.png").symlink_to("../p.png")
    for path in ("../p.png", "link.png", "/etc/passwd"):
        with pytest.raises(PermissionRefused):
            report(context, {"image": {"path": path}})
    for path in ("https://example.com/p.png", "data:image/png;base64,AAAA"):
        with pytest.raises(ToolFailure, match="No such file"):
            report(context, {"image": {"path": path}})
    with pytest.raises(PermissionRefused):
        report(context, path="../r.pdf")
    with pytest.raises(InvalidArgument, match=r"\.pdf"):
        report(context, path="r.txt")


def test_progress_is_reported_by_section(workspace: Path) -> None:
    heard: list[tuple[float | None, str]] = []
    context = ToolContext(str(workspace), report=lambda fraction, message: heard.append((fraction, message)))
    report(context, sections=[{"heading": "A"}, {"heading": "B"}])
    assert heard == [(0.5, "A"), (1.0, "B")]


def test_the_fonts_are_found_without_importing_matplotlib(workspace: Path) -> None:
    program = f"""
import resource, sys
data = (256 << 20) + (256 << 18) + (64 << 20)
resource.setrlimit(resource.RLIMIT_DATA, (data, data))
from corral_runner.interface import ToolContext
from corral_tools import pdf_report
arguments = {{"path": "r.pdf", "title": "Ü 漢", "sections": [{{"heading": "x"}}]}}
result = pdf_report.run(arguments, ToolContext({str(workspace)!r}))
print(result["missing_characters"], "matplotlib" in sys.modules)
"""
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=workspace
    )
    assert (ended.stdout, ended.stderr) == ("['漢'] False\n", "")
    assert (Path(pdf_document._font_directory()) / "DejaVuSans.ttf").is_file()
