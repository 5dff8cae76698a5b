"""`report.html` in a real browser: light and dark, on a phone and on a desk, whatever stands in the report."""

from io import BytesIO
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Browser

from core.report import Report
from core.verdict import sentence
from tests.browser.chromium import HOW, NoBrowserError, Scheme, binary, opened

LOOK = Path(__file__).with_name("look.js").read_text()
NAMES = ("real", "hostile", "large", "no flips", "met", "no target", "of before")
WIDTHS, HEIGHT = (400, 1280), 800
PAPER = {"light": "rgb(255, 255, 255)", "dark": "rgb(21, 24, 28)"}
# What WCAG 2.2 asks of a picture's parts (1.4.11) and of text (1.4.3); lines of a grid only help the eye.
LEAST = {"whole": 3, "part": 3, "line": 3, "text": 4.5, "grid": 1.1}


@pytest.mark.parametrize("scheme", PAPER)
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", NAMES)
def test_a_page_is_whole_and_readable(
    browser: Browser, files: dict[str, Path], made: dict[str, Report], name: str, width: int, scheme: Scheme
) -> None:
    """It asks for nothing, fits its window, says first what came out, and hides nothing from any reader."""
    with opened(browser, files[name], width, scheme) as it:
        seen = it.page.evaluate(LOOK)
    assert it.asked == it.said == []
    assert seen["overflow"] <= 0
    assert seen["spilt"] == []
    assert seen["paper"] == PAPER[scheme]

    assert seen["h1"]["text"] == sentence(made[name].point)
    assert 0 <= seen["h1"]["top"] < seen["h1"]["bottom"] <= HEIGHT
    assert seen["headings"][0] == 1
    assert all(1 < level <= before + 1 for before, level in zip(seen["headings"], seen["headings"][1:], strict=False))
    assert seen["tables"] >= 3
    assert seen["bare"] == [], "every cell has a header"

    assert seen["pictures"]
    assert {shape["kind"] for shape in seen["shapes"]} <= set(LEAST)
    for picture in seen["pictures"]:
        assert picture["name"], picture
        assert picture["width"] >= 40, picture
        assert picture["height"] >= 10, picture
        assert not picture["outside"], picture
        assert picture["smallest"] >= 9, "letters of a picture that nobody can read"
    for shape in seen["shapes"]:
        assert shape["contrast"] >= LEAST[shape["kind"]], shape

    assert len(seen["texts"]) > 50
    for text in seen["texts"]:
        assert text["contrast"] >= LEAST["text"], text
        assert text["height"] >= 11, text


@pytest.mark.parametrize("name", ["real", "hostile", "large", "of before"])  # the others have no element of their own
def test_a_page_is_whole_to_those_who_do_not_see_it(browser: Browser, files: dict[str, Path], name: str) -> None:
    """Nothing that axe knows is wrong or left open: names, headings, tables, places that scroll, landmarks."""
    rules = {"color-contrast": {"enabled": False}}  # measured above, in boxes that scroll and in pictures, too
    with opened(browser, files[name], WIDTHS[0]) as it:
        found = Axe().run(it.page, options={"rules": rules}).response
    for what in ("violations", "incomplete"):
        assert [(rule["id"], [node["html"] for node in rule["nodes"]]) for rule in found[what]] == []
    assert {rule["id"] for rule in found["passes"]} >= {"heading-order", "svg-img-alt", "scope-attr-valid", "region"}


@pytest.mark.parametrize("scheme", PAPER)
def test_letters_are_drawn(browser: Browser, files: dict[str, Path], scheme: Scheme) -> None:
    """Where a machine has no fonts, boxes have sizes and nothing stands in them."""
    with opened(browser, files["real"], 400, scheme) as it:
        picture = Image.open(BytesIO(it.page.locator("h1").screenshot())).convert("L")
    low, high = picture.getextrema()
    assert high - low > 128
    inked = sum(abs(pixel - picture.getpixel((0, 0))) > 64 for pixel in picture.get_flattened_data())
    assert 0.03 < inked / (picture.width * picture.height) < 0.5


def test_it_needs_no_script(browser: Browser, files: dict[str, Path]) -> None:
    """The same picture to the pixel where scripts are off."""
    shots = []
    for on in (True, False):
        with opened(browser, files["real"], java_script_enabled=on) as it:
            shots.append(it.page.screenshot(full_page=True))
    assert shots[0] == shots[1]


def test_a_machine_without_a_browser_is_told_how_to_get_one(tmp_path: Path) -> None:
    """PATH first, else what Playwright keeps; the error names both ways."""
    with pytest.raises(NoBrowserError, match="apt-get install -y --no-install-recommends chromium") as told:
        binary(path=str(tmp_path), own=str(tmp_path / "chrome"))
    assert str(told.value) == HOW
    (tmp_path / "chrome").touch()
    assert binary(path=str(tmp_path), own=str(tmp_path / "chrome")) == str(tmp_path / "chrome")
    (tmp_path / "google-chrome").touch(mode=0o755)
    assert binary(path=str(tmp_path), own=str(tmp_path / "chrome")) == str(tmp_path / "google-chrome")
