"""Calling the `ladapress` command: in a process of its own, or in this one, which spares a second of start-up."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from ladapress import Client, cli

from tests.client.conftest import Inputs

Captured = pytest.CaptureFixture[str]


def environment(url: str) -> dict[str, str]:
    return {**os.environ, "LADAPRESS_URL": url, "COLUMNS": "200"}


def run(url: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, started where no server package can be imported by accident."""
    return subprocess.run(
        [sys.executable, "-m", "ladapress", *map(str, arguments)],
        env=environment(url),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def call(monkeypatch: pytest.MonkeyPatch, url: str, *arguments: object) -> int:
    """The command in this process, which spares a second of start-up."""
    monkeypatch.setenv("LADAPRESS_URL", url)
    monkeypatch.setattr(sys, "argv", ["ladapress", *map(str, arguments)])
    try:
        return cli.main()
    except SystemExit as end:
        return int(end.code or 0)


def compress(inputs: Inputs, out: Path, seed: int, *more: object) -> Sequence[object]:
    files = ["--train", inputs.train, "--eval", inputs.eval, "--out", out]
    return ["compress", inputs.model, *files, "--preset", "ladabert-1", "--seed", seed, *more]


def uploads_of(client: Client) -> set[str]:
    return {model.id for model in client.models.list().data} | {one.id for one in client.datasets.list().data}
