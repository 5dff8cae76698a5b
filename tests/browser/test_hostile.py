"""What users wrote stays text: labels, rows, warnings and names of presets, with and without the page's own policy."""

from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.browser.chromium import opened
from tests.browser.reports import HEBREW, SCRIPT, WORD
from tests.browser.test_page import LOOK, NAMES

# All that the template writes. Anything else came from a user.
TAGS = {"body", "main", "header", "section", "footer", "div", "h1", "h2", "h3", "p", "pre", "span", "bdi", "wbr"}
TAGS |= {"table", "thead", "tbody", "tr", "th", "td", "figure", "figcaption"}
TAGS |= {"svg", "rect", "path", "polyline", "circle", "text"}
HANDLERS = "[...document.querySelectorAll('*')].flatMap(e => [...e.attributes]).filter(a => /^on/.test(a.name)).length"


def test_what_users_wrote_is_shown_as_they_wrote_it_and_runs_nowhere(browser: Browser, files: dict[str, Path]) -> None:
    """Without the policy of the page, so that the escaping alone is seen to hold."""
    with opened(browser, files["hostile"], bypass_csp=True) as it:
        it.page.wait_for_load_state("load")
        text = it.page.locator("body").evaluate("body => body.textContent")
        tags = it.page.evaluate(LOOK)["tags"]
        handlers = it.page.evaluate(HANDLERS)
    assert it.said == it.asked == []
    assert text.count(SCRIPT) >= 4, "class, row, warning, preset"
    assert text.count(WORD) >= 3
    assert HEBREW in text
    assert set(tags) <= TAGS, set(tags) - TAGS
    assert handlers == 0


@pytest.mark.parametrize("evil", ["<script>alert(1)</script>", "<img src=http://127.0.0.1:9/x onerror=alert(2)>"])
def test_the_page_s_own_policy_stops_what_an_escape_would_let_through(
    browser: Browser, files: dict[str, Path], tmp_path: Path, evil: str
) -> None:
    """Neither a script nor a request; without the policy both happen, so the test can tell."""
    spoilt = tmp_path / "spoilt.html"
    spoilt.write_text(files["real"].read_text(encoding="utf-8").replace("</main>", f"{evil}</main>"), encoding="utf-8")
    for free in (False, True):
        with opened(browser, spoilt, bypass_csp=free) as it:
            it.page.wait_for_load_state("load")
        ran = [said for said in it.said if said in ("1", "2")]
        assert bool(ran) is free
        assert bool(it.asked) is (free and "http" in evil)


def test_text_from_right_to_left_turns_nothing_around_it(browser: Browser, files: dict[str, Path]) -> None:
    """The row itself reads from the right; the figures beside a label stay in order and in their places."""
    with opened(browser, files["hostile"]) as it:
        cell = it.page.locator("#flips ~ .scroll td.text", has_text="\u05e9").first
        assert cell.evaluate("cell => getComputedStyle(cell).direction") == "rtl"
        row = it.page.locator("#right ~ .scroll tr", has_text="\u05e9")
        lefts = row.locator("th, td").evaluate_all("cells => cells.map(cell => cell.getBoundingClientRect().left)")
        assert row.evaluate("row => getComputedStyle(row).direction") == "ltr"
        assert lefts == sorted(lefts)
        assert row.locator("td").first.inner_text() == "32"


def test_every_kind_of_report_is_looked_at(files: dict[str, Path]) -> None:
    """A variant that no test names would hold in silence."""
    assert set(files) == set(NAMES)
