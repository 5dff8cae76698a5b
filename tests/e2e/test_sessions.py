"""The sessions of README and quickstart run as they stand there, against a service that runs here."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import tiny

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
MARKED = re.compile(r"<!-- runs: tests/e2e/test_sessions\.py -->\n```(sh|python)\n(.*?)```", re.DOTALL)
SESSIONS = [
    (page, language, code)
    for page in ("README.md", "docs/quickstart.md")
    for language, code in MARKED.findall((ROOT / page).read_text())
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the pages speak of: my-model, train.csv, eval.csv."""
    folder = tmp_path_factory.mktemp("sessions")
    tiny.write_model(folder / "my-model", steps=60, hidden=64)
    tiny.write_csv(folder / "train.csv", tiny.sentences(400, seed=1))
    tiny.write_csv(folder / "eval.csv", tiny.sentences(120, seed=2))
    return folder


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`ladapress up` on a free port; its URL."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = tmp_path_factory.mktemp("service")
    with (folder / "log").open("wb") as log:
        running = subprocess.Popen(
            [BIN / "ladapress", "up", "--port", str(port), "--data-dir", folder / "data"],
            env={**clean_environment(), "LADAPRESS_THREADS": "1"}, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until_ready(url, running, folder / "log")
        yield url
    finally:
        running.send_signal(signal.SIGTERM)
        assert running.wait(60) == 0, (folder / "log").read_text()


def clean_environment() -> dict[str, str]:
    """Ours, without the settings of another service."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LADAPRESS_")}
    return {**kept, "OMP_NUM_THREADS": "1", "PATH": f"{BIN}:{os.environ['PATH']}"}


def wait_until_ready(url: str, running: subprocess.Popen[bytes], log: Path) -> None:
    """Return as soon as /readyz answers."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and running.poll() is None:
        try:
            urllib.request.urlopen(f"{url}/readyz", timeout=2).close()
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
        else:
            return
    raise AssertionError(log.read_text())


def test_every_example_of_the_pages_is_among_the_sessions() -> None:
    """README has two, quickstart six; a marker that no longer matches would drop one in silence."""
    assert [page for page, _, _ in SESSIONS] == ["README.md"] * 2 + ["docs/quickstart.md"] * 6


def marked(session: tuple[str, str, str]) -> object:
    """Quickstart's whole jobs take a minute each and go another way round the same path: long."""
    page, language, code = session
    marks = [pytest.mark.long] if page != "README.md" and "--out never" not in code else []
    return pytest.param(*session, marks=marks, id=f"{page}-{language}")


@pytest.mark.parametrize(("page", "language", "code"), [marked(session) for session in SESSIONS])
def test_a_session_runs_as_it_stands(page: str, language: str, code: str, service: str, place: Path) -> None:
    """Exit status 0, and every model that it names is there and whole."""
    code = code.replace(". .venv/bin/activate\n", "")  # BIN is on PATH already
    command = ["bash", "-euo", "pipefail", "-c", code] if language == "sh" else [BIN / "python", "-c", code]
    environment = {**clean_environment(), "LADAPRESS_URL": service, "XDG_CONFIG_HOME": str(place / "config")}
    done = subprocess.run(
        command, cwd=place, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for folder in re.findall(r"--out (\S+)|, \"(smaller-\d)\"|Path\(\"(smaller-\d)\"\)", code):
        (name,) = filter(None, folder)
        found = sorted(path.name for path in (place / name).rglob("*")) if name != "never" else ["model.onnx"]
        assert "model.onnx" in found
        assert "__pycache__" not in found
        manifest = place / name / "manifest.json"  # a ladder has one in each folder below
        told = json.loads(manifest.read_text())["outputs"] if manifest.exists() else []
        assert told == re.findall(r"--output (\S+)", code)
    if "never" in code:
        assert "exit 1" in done.stdout
        assert "banana" in done.stderr
        assert not (place / "never").exists()
