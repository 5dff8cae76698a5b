"""A Chromium of the machine, headless, and what it finds in a page.

Which one: on PATH (`NAMES`), else the one that Playwright brought to this user's home, else an error that says how to
get either. Pages are opened from disk; a request for anything else is refused, and told.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from playwright.sync_api import Browser, Page, Route, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
HOW = (
    "no Chromium: apt-get install -y --no-install-recommends chromium, or without root: "
    "python -m playwright install --only-shell chromium"
)
# As root Chromium starts without its sandbox only; the others keep it from asking the network on its own account.
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip

Scheme = Literal["light", "dark"]


class NoBrowserError(RuntimeError):
    """No browser is here; the message says what to do."""


def binary(path: str | None = None, own: str = "") -> str:
    """Give the browser to start; `path` stands for PATH, `own` is where Playwright would have put its own."""
    for name in NAMES:
        if found := shutil.which(name, path=path):
            return found
    if own and Path(own).exists():
        return own
    raise NoBrowserError(HOW)


@contextmanager
def browser() -> Iterator[Browser]:
    """Give one that runs until the block ends."""
    with sync_playwright() as playwright:
        found = binary(own=playwright.chromium.executable_path)
        running = playwright.chromium.launch(executable_path=found, args=FLAGS)
        yield running
        running.close()


@dataclass
class Opened:
    """A page and what it did that a page of ours does not do."""

    page: Page
    asked: list[str] = field(default_factory=list)  # requests beside the one for the page
    said: list[str] = field(default_factory=list)  # console, errors, dialogs


@contextmanager
def opened(running: Browser, file: Path, width: int = 1280, scheme: Scheme = "light", **more: bool) -> Iterator[Opened]:
    """Open `file` from disk with no network."""
    context = running.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme, offline=True, **more)
    found = Opened(context.new_page())

    def only_the_page(route: Route) -> None:
        if route.request.url == file.as_uri():
            route.continue_()
        else:
            found.asked.append(route.request.url)
            route.abort()

    context.route("**/*", only_the_page)
    found.page.on("console", lambda message: found.said.append(message.text))
    found.page.on("pageerror", lambda error: found.said.append(str(error)))
    found.page.on("dialog", lambda dialog: (found.said.append(dialog.message), dialog.dismiss()))
    found.page.goto(file.as_uri())
    try:
        yield found
    finally:
        context.close()
