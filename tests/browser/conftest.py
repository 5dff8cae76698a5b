import fcntl
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from core.export.page import page
from core.report import Report
from tests.browser import chromium, reports


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One for all tests of this process; each page has a profile of its own."""
    with chromium.browser() as running:
        yield running


@pytest.fixture(scope="session")
def delivered(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """The folder of a finished job, made once for all processes of this run; read only."""
    base = tmp_path_factory.getbasetemp()
    shared = (base if not hasattr(request.config, "workerinput") else base.parent) / "delivered"
    shared.mkdir(exist_ok=True)
    with (shared / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (shared / "folder").exists():
            folder = reports.artifact(shared)
            (shared / "folder").symlink_to(folder)
    return shared / "folder"


@pytest.fixture(scope="session")
def made(delivered: Path) -> dict[str, Report]:
    """Name -> report: the real one and its variants."""
    real = Report.model_validate_json((delivered / "report.json").read_bytes())
    return {"real": real, **reports.variants(real)}


@pytest.fixture(scope="session")
def files(delivered: Path, made: dict[str, Report], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Name -> report.html; that of the real one as it was delivered."""
    folder = tmp_path_factory.mktemp("pages")
    found = {"real": (delivered / "report.html").resolve()}
    for name, report in made.items():
        if name != "real":
            found[name] = folder / f"{name.replace(' ', '-')}.html"
            found[name].write_text(page(report), encoding="utf-8")
    return found
