"""Large files go in pieces and survive a lost connection; the key goes to the service and to nobody else."""

from __future__ import annotations

import hashlib
from pathlib import Path

import httpx2
import pytest
from ladapress import Client, LadapressError, resumable

from tests.client.conftest import Inputs, Service
from tests.client.test_contract import ARTIFACT
from tests.client.wire import Wire


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is large."""
    monkeypatch.setattr(resumable, "FROM_BYTES", 0)
    monkeypatch.setattr(resumable, "PIECE", 50_000)


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.csv"
    path.write_text("text,label\n" + "a good film,1\n" * 20_000)
    return path


def test_a_dataset_goes_in_pieces(client: Client, rows: Path) -> None:
    moved: list[int] = []
    dataset = client.datasets.upload(rows, moved=moved.append)
    assert dataset.sha256 == hashlib.sha256(rows.read_bytes()).hexdigest()
    assert (dataset.name, dataset.format) == ("rows.csv", "csv")
    assert sum(moved) == rows.stat().st_size
    assert len(moved) == -(-rows.stat().st_size // 50_000)


def test_a_model_goes_in_pieces(client: Client, inputs: Inputs) -> None:
    model = client.models.upload(inputs.model)
    assert (model.status, model.missing) == ("ready", [])


@pytest.mark.parametrize("after", [0, 20])
def test_an_upload_survives_cut_connections(wire: Wire, wired: Client, rows: Path, after: int) -> None:
    """Pieces whose answers are lost are not sent twice, and the count of bytes stays right."""
    for _ in range(3):
        wire.fault("PATCH /v1/uploads/", "cut", after=after)
    moved: list[int] = []
    dataset = wired.datasets.upload(rows, moved=moved.append)
    assert wire.pending == 0
    assert dataset.sha256 == hashlib.sha256(rows.read_bytes()).hexdigest()
    assert sum(moved) == rows.stat().st_size
    assert any(head.startswith("HEAD /v1/uploads/") for head in wire.requests)


def test_a_refused_upload_leaves_nothing(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(b"PAR1" + bytes(200_000))
    with pytest.raises(LadapressError) as caught:
        client.datasets.upload(path)
    assert caught.value.code == "data_invalid"
    assert [one for one in client.uploads.list(limit=100) if one.status == "open"] == []


def test_what_an_upload_has_become_is_told_until_it_is_forgotten(client: Client, rows: Path) -> None:
    dataset = client.datasets.upload(rows)
    (upload,) = [one for one in client.uploads.list(limit=100) if one.dataset_id == dataset.id]
    assert client.uploads.get(upload.id) == upload
    assert (upload.status, upload.received_bytes) == ("complete", rows.stat().st_size)
    client.uploads.delete(upload.id)
    with pytest.raises(LadapressError, match="no upload"):
        client.uploads.get(upload.id)
    assert client.datasets.get(dataset.id) == dataset


def test_a_service_that_stays_away_is_unreachable(service: Service, rows: Path) -> None:
    class Vanishing(httpx2.BaseTransport):
        network = httpx2.HTTPTransport()

        def handle_request(self, request: httpx2.Request) -> httpx2.Response:
            if request.method == "PATCH":
                raise httpx2.ReadError("gone")
            return self.network.handle_request(request)

    with Client(service.url, handler=Vanishing(), patience_s=0.3) as client, pytest.raises(LadapressError) as caught:
        client.datasets.upload(rows)
    assert caught.value.code == "unreachable"


def test_the_key_is_not_sent_to_a_store_elsewhere(tmp_path: Path) -> None:
    """The redirect is followed, with the range that is missing; the address itself is all the store needs."""
    body = b"weights" * 100
    seen: list[tuple[str, bool, str | None]] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        if request.url.path == "/v1/artifacts/art_1":
            return httpx2.Response(200, json=artifact)
        seen.append((request.url.host, "authorization" in request.headers, request.headers.get("range")))
        if request.url.host == "service":
            return httpx2.Response(307, headers={"Location": "https://bucket.example/blob?X-Amz-Signature=1"})
        start = int((request.headers.get("range") or "bytes=0-")[6:-1])
        if not start:  # a cut after 100 bytes
            return httpx2.Response(200, stream=Cut(body[:100]))
        return httpx2.Response(206, content=body[start:])

    class Cut(httpx2.SyncByteStream):
        def __init__(self, content: bytes) -> None:
            self.content = content

        def __iter__(self):  # type: ignore[no-untyped-def]
            yield self.content
            raise httpx2.ReadError("cut")

    file = {"path": "model.onnx", "size": len(body), "sha256": hashlib.sha256(body).hexdigest()}
    artifact = {**ARTIFACT, "files": [{**file, "media_type": "application/octet-stream"}]}
    with Client("http://service", "secret", patience_s=5, handler=httpx2.MockTransport(answer)) as client:
        client.artifacts.download("art_1", tmp_path / "out")
    assert (tmp_path / "out" / "model.onnx").read_bytes() == body
    assert seen == [
        ("service", True, None),
        ("bucket.example", False, None),
        ("service", True, "bytes=100-"),
        ("bucket.example", False, "bytes=100-"),
    ]


def test_files_that_are_gone_are_said_to_be_gone_and_nothing_is_left(tmp_path: Path) -> None:
    gone = {"code": "expired", "title": "Its files are gone", "status": 410}

    def answer(request: httpx2.Request) -> httpx2.Response:
        there = request.url.path == "/v1/artifacts/art_1"
        return httpx2.Response(200, json=ARTIFACT) if there else httpx2.Response(410, json=gone)

    with (
        Client("http://service", handler=httpx2.MockTransport(answer)) as client,
        pytest.raises(LadapressError) as refused,
    ):
        client.artifacts.download("art_1", tmp_path / "out")
    assert (refused.value.code, refused.value.status) == ("expired", 410)
    assert not (tmp_path / "out").exists()
