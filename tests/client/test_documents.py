"""docs/api.md and docs/client.md: every block runs as it stands, against a live service; every list is whole."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ladapress import outcome

from tests.client.command import environment
from tests.client.conftest import ROOT, Inputs, Service
from tests.client.hand import FILES
from tests.client.test_contract import CALLS

API, CLIENT = ((ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("api.md", "client.md"))
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CODES = {
    outcome.DONE: "done", outcome.FAILED: "failed", outcome.USAGE: "command line", outcome.MISSED: "missed",
    outcome.CANCELLED: "cancelled",
}  # fmt: skip


def blocks(page: str, language: str) -> list[str]:
    """In their order."""
    return [code for told, code in FENCE.findall(page) if told == language]


@pytest.fixture
def place(inputs: Inputs, tmp_path: Path) -> Path:
    """The folder that the pages speak of."""
    inputs.model.rename(tmp_path / "my-model")
    return tmp_path


def run_shell(page: str, url: str, place: Path) -> None:
    """All blocks in one shell, which says where it is."""
    script = "\n".join(f"echo '=== block {number}' >&2\n{code}" for number, code in enumerate(blocks(page, "sh"), 1))
    found = {**environment(url), "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=place, env=found, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_curl_block_runs_in_order(service: Service, place: Path) -> None:
    run_shell(API, service.url, place)
    assert (place / "model.onnx").read_bytes() == FILES["model.onnx"]


def test_every_block_about_the_client_runs_in_order(
    service: Service, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setenv("LADAPRESS_URL", service.url)
    names: dict[str, object] = {"__name__": "docs"}
    for code in blocks(CLIENT, "python"):
        exec(compile(code, "docs/client.md", "exec"), names)
    said = capsys.readouterr().out
    assert "succeeded" in said
    assert "request_invalid 422 /target/parameter_ratio" in said
    for folder in ("smaller", "smaller-too"):
        assert (place / folder / "model.onnx").read_bytes() == FILES["model.onnx"]
    run_shell(CLIENT, service.url, place)


def test_no_block_is_of_a_kind_that_nothing_runs() -> None:
    """A block marked `bash` or `py` would be read by people and by no test."""
    assert {language for language, _ in FENCE.findall(API)} == {"sh", "json"}
    assert {language for language, _ in FENCE.findall(CLIENT)} == {"sh", "python"}
    assert shutil.which("curl"), "apt-get install curl"


def test_the_page_lists_every_call() -> None:
    section = CLIENT.partition("## Every call")[2].partition("\n## ")[0]
    assert set(re.findall(r"`([a-z_.]+)`(?=,| \|)", section)) - {"call"} == set(CALLS)


def test_the_page_lists_every_exit_code() -> None:
    rows = {int(code): what for code, what in re.findall(r"^\| (\d+) \| (.+) \|$", CLIENT, re.MULTILINE)}
    assert set(rows) == set(CODES)
    assert all(word in rows[code] for code, word in CODES.items())
