"""`report.html` on paper: white also where the screen is dark, and nothing cut."""

import re
from pathlib import Path

import pypdfium2
import pytest
from playwright.sync_api import Browser

from tests.browser.chromium import opened
from tests.browser.test_page import NAMES

WHITE = (255, 255, 255)
ROWS = """[...document.querySelectorAll("table")].map(table => [
    table.tHead?.innerText ?? "", ...[...table.tBodies[0].rows].map(row => row.innerText)])"""


@pytest.mark.parametrize("name", NAMES)
def test_paper_shows_all_that_the_screen_shows(
    browser: Browser, files: dict[str, Path], tmp_path: Path, name: str
) -> None:
    """Every heading, every row of every table, the recipe to its end; no letter beyond the edge; headers again
    on each page that goes on with a long table."""
    with opened(browser, files[name], scheme="dark") as it:
        tables = it.page.evaluate(ROWS)
        headings = it.page.locator("h1, h2, h3").all_inner_texts()
        recipe = it.page.locator("pre").inner_text()
        it.page.pdf(path=tmp_path / "page.pdf", format="A4", print_background=True)
    with pypdfium2.PdfDocument(tmp_path / "page.pdf") as document:
        pages = [told(page.get_textpage().get_text_range()) for page in document]
        for page in document:
            inside_of(page)
            picture = page.render(scale=0.5).to_pil().convert("RGB")
            width, height = picture.size
            assert {
                picture.getpixel(at) for at in ((1, 1), (width - 2, 1), (1, height - 2), (width - 2, height - 2))
            } == {WHITE}
            assert sum(picture.convert("L").histogram()[128:]) > 0.8 * width * height, "paper, not ink"
    whole = "".join(pages)
    for text in [*headings, recipe]:
        # Pages may break a recipe anywhere: its lines are looked for.
        assert all(told(line) in whole for line in text.splitlines()), text
    for _, *rows in tables:
        for row in rows:
            for cell in re.split(r"[\t\n]", row):
                # What reads from the right lies the other way round in the file.
                assert all(told(word) in whole or told(word)[::-1] in whole for word in cell.split()), cell
    if name == "large":
        head, *rows = max(tables, key=len)
        on = [page for page in pages if any(told(row) in page for row in rows)]
        assert len(on) > 1
        assert all(told(head) in page for page in on)


def told(text: str) -> str:
    """Without what a line break on paper may change, in one order of letters."""
    return re.sub(r"[\s\u200b\u202a-\u202e\u2066-\u2069\ufffe\u00ad\x00-\x1f-]+", "", text)


def inside_of(page: pypdfium2.PdfPage) -> None:
    """Every letter lies on the paper."""
    width, height = page.get_size()
    text = page.get_textpage()
    for index in range(text.count_chars()):
        left, bottom, right, top = text.get_charbox(index)
        assert left >= -1, text.get_text_range(index, 20)
        assert right <= width + 1, text.get_text_range(index, 20)
        assert -1 <= bottom <= top <= height + 1
