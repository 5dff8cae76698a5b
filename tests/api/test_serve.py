"""`python -m api` as a process: it starts by the environment, and ends when told."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2

ROOT = Path(__file__).parents[2]


@contextmanager
def process(data_dir: Path, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """The server in a process of its own, ended with the context."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LADAPRESS_")}
    given = {f"LADAPRESS_{name.upper()}": value for name, value in environment.items()}
    server = subprocess.Popen(
        [sys.executable, "-m", "api"],
        cwd=ROOT,
        env={**kept, "LADAPRESS_DATA_DIR": str(data_dir), **given},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield server
    finally:
        if server.poll() is None:
            server.kill()
        server.communicate()


def test_it_serves_a_fresh_folder_and_ends_on_sigterm(tmp_path: Path) -> None:
    """Database and store are made at the start; SIGTERM ends it in order (uvicorn then passes the signal on)."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with process(tmp_path / "new" / "data", port=str(port)) as server:
        deadline = time.monotonic() + 60
        while True:
            try:
                ready = httpx2.get(f"http://127.0.0.1:{port}/readyz", timeout=5)
                break
            except httpx2.TransportError:
                assert server.poll() is None, server.communicate()[0]
                assert time.monotonic() < deadline, "the server did not answer"
                time.sleep(0.1)
        assert ready.status_code == 200
        assert httpx2.get(f"http://127.0.0.1:{port}/v1/jobs").json()["data"] == []
        server.send_signal(signal.SIGTERM)
        assert server.wait(30) in (0, -signal.SIGTERM)


def test_it_does_not_serve_the_network_without_keys(tmp_path: Path) -> None:
    """It ends at once, not with 0, and says what to set."""
    with process(tmp_path / "data", host="0.0.0.0", port="0") as server:
        output, _ = server.communicate(timeout=60)
        assert server.returncode == 3
        assert "LADAPRESS_BOOTSTRAP_KEY_FILE" in output
