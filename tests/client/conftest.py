"""The real api in a process of its own on SQLite, and a hand that plays the worker."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from ladapress import Client

from jobs.db import upgrade
from jobs.settings import Settings
from tests.client.hand import Hand
from tests.client.wire import Wire

ROOT = Path(__file__).parents[2]
REGISTRIES = """
[hub]
kind = "huggingface"
url = "https://hub.example"
prefixes = ["acme/"]

[models]
kind = "mlflow"
url = "http://mlflow.example"
"""


@dataclass(frozen=True)
class Service:
    url: str
    port: int
    settings: Settings
    hand: Hand


@dataclass(frozen=True)
class Inputs:
    """Files that pass every check of names and magic bytes; nothing trains on them."""

    model: Path
    train: Path
    eval: Path


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def wait_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 90
    while True:
        assert process.poll() is None, f"the service ended with status {process.returncode}"
        try:
            with urllib.request.urlopen(f"{url}/readyz", timeout=2):
                return
        except (urllib.error.URLError, OSError):
            assert time.monotonic() < deadline, "the service never answered"
            time.sleep(0.05)


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("service")
    (folder / "registries.toml").write_text(REGISTRIES)
    settings = Settings(data_dir=folder, port=free_port(), registries_file=folder / "registries.toml")
    upgrade(settings)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("LADAPRESS_")},
        "LADAPRESS_DATA_DIR": str(settings.data_dir),
        "LADAPRESS_PORT": str(settings.port),
        "LADAPRESS_REGISTRIES_FILE": str(settings.registries_file),
    }
    process = subprocess.Popen([sys.executable, "-m", "api"], env=environment, cwd=ROOT, stderr=subprocess.DEVNULL)
    hand = Hand(settings)
    try:
        url = f"http://127.0.0.1:{settings.port}"
        wait_ready(url, process)
        hand.start()
        yield Service(url, settings.port, settings, hand)
    finally:
        process.kill()
        process.wait()
        if hand.is_alive():
            hand.stop()


@pytest.fixture
def client(service: Service) -> Iterator[Client]:
    with Client(service.url) as connected:
        yield connected


@pytest.fixture
def wire(service: Service) -> Iterator[Wire]:
    made = Wire(service.port)
    yield made
    made.close()


@pytest.fixture
def wired(wire: Wire) -> Iterator[Client]:
    """A client whose every byte goes over the wire."""
    with Client(wire.url) as connected:
        yield connected


@pytest.fixture
def inputs(tmp_path: Path) -> Inputs:
    model = tmp_path / "model"
    model.mkdir()
    header = json.dumps({"w": {"dtype": "F32", "shape": [50_000], "data_offsets": [0, 200_000]}}).encode()
    (model / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(200_000))
    (model / "config.json").write_text('{"architectures": ["BertForSequenceClassification"]}')
    (model / "tokenizer.json").write_text("{}")
    (model / "trainer_state.json").write_text("{}")  # what training leaves behind is not sent
    for name in ("train", "eval"):
        (tmp_path / f"{name}.csv").write_text(f"text,label\n{name} one,0\n{name} two,1\n")
    return Inputs(model, tmp_path / "train.csv", tmp_path / "eval.csv")


@dataclass(frozen=True)
class Uploaded:
    model: str
    train: str
    eval: str


@pytest.fixture
def uploaded(client: Client, inputs: Inputs) -> Uploaded:
    return Uploaded(
        client.models.upload(inputs.model).id,
        client.datasets.upload(inputs.train).id,
        client.datasets.upload(inputs.eval).id,
    )
