"""The Python client against the real api over real HTTP, with a wire between them that breaks on command."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import httpx2
import pytest
from ladapress import Client, LadapressError
from ladapress.download import STAGING, fetch
from ladapress.modes import drive
from ladapress.types import Artifact, ArtifactFile, JobEvent

from tests.client.conftest import Inputs, Service, Uploaded
from tests.client.hand import FILES, SLOW, SLOW_STEPS, SUCCEED
from tests.client.wire import Wire


def create(client: Client, uploaded: Uploaded, seed: int = SUCCEED, **options: object) -> str:
    job = client.jobs.create(
        model=uploaded.model, train=uploaded.train, eval=uploaded.eval, preset="ladabert-1", seed=seed, **options
    )
    return job.id


def artifact_of(client: Client, uploaded: Uploaded) -> str:
    job = client.jobs.wait(create(client, uploaded))
    assert job.error is None
    return job.points[0].artifact_id


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_upload_submit_wait_and_download_give_the_published_bytes(
    client: Client, inputs: Inputs, tmp_path: Path
) -> None:
    model = client.models.upload(inputs.model)
    assert model.status == "ready"
    assert {file.path for file in model.files} == {"config.json", "model.safetensors", "tokenizer.json"}
    train, evaluation = client.datasets.upload(inputs.train), client.datasets.upload(inputs.eval)
    assert train.sha256 == hashlib.sha256(inputs.train.read_bytes()).hexdigest()
    job = client.jobs.create(
        model=model.id, train=train.id, eval=evaluation.id, preset="ladabert-1", columns={"text": "text"}, name="mine"
    )
    seen: list[JobEvent] = []
    job = client.jobs.wait(job.id, on_event=seen.append)
    assert (job.status, job.target_met, job.name) == ("succeeded", True, "mine")
    assert job.id in [listed.id for listed in client.jobs.list(limit=5).data]
    assert [event.seq for event in seen] == list(range(1, len(seen) + 1))
    paths = client.artifacts.download(job.points[0].artifact_id, tmp_path / "out")
    assert tree(tmp_path / "out") == FILES
    assert {str(path.relative_to(tmp_path / "out")) for path in paths} == set(FILES)
    client.jobs.delete(job.id)
    with pytest.raises(LadapressError) as refused:
        client.jobs.get(job.id)
    assert (refused.value.code, refused.value.status) == ("not_found", 404)


def test_the_catalogue_names_methods_and_presets(client: Client) -> None:
    assert "svd" in {method.name for method in client.methods().data}
    assert "ladabert" in {preset.name for preset in client.presets().data}


def test_a_refusal_carries_the_services_problem(client: Client, uploaded: Uploaded) -> None:
    with pytest.raises(LadapressError) as refused:
        create(client, uploaded, target={"parameter_ratio": 0.5})
    assert refused.value.status == 422
    assert refused.value.problem.request_id
    assert "parameter_ratio" in str(refused.value)


def test_a_refused_model_upload_leaves_no_model_behind(client: Client, inputs: Inputs) -> None:
    (inputs.model / "model.safetensors").write_bytes(b"\x80\x04 a pickle under another name")
    before = [model.id for model in client.models.list().data]
    with pytest.raises(LadapressError) as refused:
        client.models.upload(inputs.model)
    assert refused.value.code == "model_unsafe"
    assert [model.id for model in client.models.list().data] == before


def test_how_embeddings_are_pooled_goes_with_the_model_under_its_own_name(client: Client, inputs: Inputs) -> None:
    """A folder of Sentence Transformers has two files called config.json."""
    (inputs.model / "1_Pooling").mkdir()
    settings = inputs.model / "1_Pooling/config.json"
    settings.write_text('{"pooling_mode_mean_tokens": true}')
    sizes = {file.path: file.size for file in client.models.upload(inputs.model).files}
    assert sizes["pooling_config.json"] == settings.stat().st_size
    assert sizes["config.json"] == (inputs.model / "config.json").stat().st_size


def test_a_submission_whose_answer_is_lost_is_still_one_job(
    service: Service, wire: Wire, wired: Client, uploaded: Uploaded
) -> None:
    wire.fault("POST /v1/jobs", "cut")
    before = len(service.hand.seen)
    job_id = create(wired, uploaded, metadata={"try": "once"})
    wired.jobs.wait(job_id)
    assert wire.pending == 0
    assert len([line for line in wire.requests if line.startswith("POST /v1/jobs")]) == 2
    assert service.hand.seen[before:] == [job_id]


def test_an_upload_whose_answer_is_lost_is_sent_again(wire: Wire, wired: Client, inputs: Inputs) -> None:
    wire.fault("PUT /v1/models/", "cut")
    assert wired.models.upload(inputs.model).status == "ready"
    assert wire.pending == 0


def test_events_go_on_after_a_cut_stream_without_gap_or_repeat(wire: Wire, wired: Client, uploaded: Uploaded) -> None:
    job_id = create(wired, uploaded, seed=SLOW)
    stream = f"GET /v1/jobs/{job_id}/events"
    wire.fault(stream, "cut", after=900)
    wire.fault(stream, "cut", after=1400)
    events = list(wired.jobs.events(job_id))
    assert wire.pending == 0
    resumed = [line for head in wire.requests for line in head.splitlines() if line.startswith("last-event-id: ")]
    assert resumed[0] == "last-event-id: 0"
    assert len(resumed) >= 2
    assert "last-event-id: 0" not in resumed[1:]
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert sum(event.type == "progress" for event in events) == SLOW_STEPS
    assert events[-1].data["state"] == "succeeded"


def test_no_event_is_seen_twice_where_a_proxy_drops_the_last_event_id(
    wire: Wire, client: Client, uploaded: Uploaded
) -> None:
    class Forgetful(httpx2.HTTPTransport):
        def handle_request(self, request: httpx2.Request) -> httpx2.Response:
            request.headers.pop("last-event-id", None)
            return super().handle_request(request)

    job_id = create(client, uploaded, seed=SLOW)
    wire.fault(f"GET /v1/jobs/{job_id}/events", "cut", after=1400)
    with Client(wire.url, handler=Forgetful()) as through:
        events = list(through.jobs.events(job_id))
    assert wire.pending == 0
    assert [event.seq for event in events] == list(range(1, len(events) + 1))


def test_events_are_polled_where_no_stream_passes(client: Client, service: Service, uploaded: Uploaded) -> None:
    class Proxy(httpx2.BaseTransport):
        """Answers as the service does, but knows no event streams."""

        def __init__(self) -> None:
            self.network = httpx2.HTTPTransport()
            self.streams = 0

        def handle_request(self, request: httpx2.Request) -> httpx2.Response:
            if request.headers.get("accept") == "text/event-stream":
                self.streams += 1
                return httpx2.Response(200, headers={"content-type": "text/html"}, content=b"<p>no streams")
            return self.network.handle_request(request)

    proxy = Proxy()
    job_id = create(client, uploaded, seed=SLOW)
    with Client(service.url, handler=proxy) as through:
        events = list(through.jobs.events(job_id))
    assert proxy.streams == 1
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert events[-1].data["state"] == "succeeded"


def test_a_wait_with_a_limit_leaves_the_job_running(client: Client, service: Service, uploaded: Uploaded) -> None:
    service.hand.slow_step.clear()
    try:
        job_id = create(client, uploaded, seed=SLOW)
        with pytest.raises(LadapressError) as late:
            client.jobs.wait(job_id, timeout_s=0.2)
        assert late.value.code == "timeout"
    finally:
        service.hand.slow_step.set()
    assert client.jobs.wait(job_id, timeout_s=30).status == "succeeded"


@pytest.mark.parametrize("out_exists", [False, True])
def test_a_damaged_download_is_refused_and_leaves_nothing(
    client: Client, wire: Wire, wired: Client, uploaded: Uploaded, tmp_path: Path, out_exists: bool
) -> None:
    artifact_id, out = artifact_of(client, uploaded), tmp_path / "deep" / "out"
    if out_exists:
        out.mkdir(parents=True)
        (out / "notes.txt").write_text("mine")
    wire.fault(f"GET /v1/artifacts/{artifact_id}/files/model.onnx", "flip", after=150_000)
    with pytest.raises(LadapressError) as damaged:
        wired.artifacts.download(artifact_id, out)
    assert wire.pending == 0
    assert damaged.value.code == "damaged_download"
    assert "model.onnx" in str(damaged.value)
    assert tree(tmp_path / "deep") == ({"out/notes.txt": b"mine"} if out_exists else {})
    assert (tmp_path / "deep").exists() == out_exists


def test_a_second_artifact_in_a_folder_replaces_the_first_whole(
    client: Client, uploaded: Uploaded, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    (out / "pytorch").mkdir(parents=True)
    for name in ("pytorch/old.safetensors", "tokenizer.json", "notes.txt"):
        (out / name).write_text("earlier")
    listed = {name: {} for name in ("pytorch/old.safetensors", "tokenizer.json", "../outside")}
    (out / "manifest.json").write_text(json.dumps({"version": 1, "files": listed}))
    artifact_id = artifact_of(client, uploaded)
    client.artifacts.download(artifact_id, out)
    assert (out / "pytorch" / "old.safetensors").exists(), "a manifest that names other folders is not followed"
    (out / "manifest.json").write_text(json.dumps({"version": 1, "files": dict(list(listed.items())[:2])}))
    client.artifacts.download(artifact_id, out)
    assert tree(out) == {**FILES, "notes.txt": b"earlier"}


def test_an_unsigned_artifact_does_not_come_under_the_signature_of_an_earlier_one(tmp_path: Path) -> None:
    """A service of before signs nothing; what it sends must not look signed, nor be called a forgery."""
    body = b'{"version": 1, "files": {}}'
    digest = hashlib.sha256(body).hexdigest()
    listed = {"path": "manifest.json", "size": len(body), "sha256": digest, "media_type": "application/json"}
    known = Artifact.model_construct(id="art_1", files=[ArtifactFile.model_validate(listed)])
    for name in ("manifest.json", "signature.json"):
        (tmp_path / name).write_text('{"files": {}}')
    answer = httpx2.MockTransport(lambda _: httpx2.Response(200, content=body))
    with Client("http://service.example", handler=answer) as client:
        drive(fetch(client._transport, known, tmp_path, lambda _: None))
    assert tree(tmp_path) == {"manifest.json": body}


def test_a_cut_download_goes_on_from_where_it_was(
    client: Client, wire: Wire, wired: Client, uploaded: Uploaded, tmp_path: Path
) -> None:
    artifact_id = artifact_of(client, uploaded)
    wire.fault(f"GET /v1/artifacts/{artifact_id}/files/model.onnx", "cut", after=200_000)
    moved: list[int] = []
    wired.artifacts.download(artifact_id, tmp_path / "out", moved=moved.append)
    assert wire.pending == 0
    assert tree(tmp_path / "out") == FILES
    assert any("range: bytes=" in head for head in wire.requests)
    assert min(moved) >= 0, "a resumed download starts no file again"
    assert sum(moved) == sum(map(len, FILES.values()))


def test_a_later_download_uses_only_the_good_bytes_that_an_absent_service_left(
    client: Client, service: Service, uploaded: Uploaded, tmp_path: Path
) -> None:
    class Vanishing(httpx2.BaseTransport):
        """Delivers half of model.onnx and is gone for good."""

        network = httpx2.HTTPTransport()
        gone = False

        def handle_request(self, request: httpx2.Request) -> httpx2.Response:
            if self.gone:
                raise httpx2.ConnectError("gone")
            response = self.network.handle_request(request)
            if not request.url.path.endswith("model.onnx"):
                return response
            self.gone = True
            return httpx2.Response(200, headers=response.headers, stream=Half(response))

    class Half(httpx2.SyncByteStream):
        def __init__(self, response: httpx2.Response) -> None:
            self.response = response

        def __iter__(self):  # type: ignore[no-untyped-def]
            yield self.response.read()[:100_000]
            raise httpx2.ReadError("cut")

    artifact_id, out = artifact_of(client, uploaded), tmp_path / "out"
    with Client(service.url, handler=Vanishing(), patience_s=0.5) as vanishing:
        with pytest.raises(LadapressError) as absent:
            vanishing.artifacts.download(artifact_id, out)
        assert absent.value.code == "unreachable"
    assert all(STAGING in path for path in tree(out)), "no file has its name before all are right"
    part = max((out / STAGING).iterdir(), key=lambda path: path.stat().st_size)
    assert part.stat().st_size == 100_000
    part.write_bytes(bytes(100_000))  # the disk lied meanwhile
    client.artifacts.download(artifact_id, out)
    assert tree(out) == FILES


@pytest.mark.parametrize("path", ["../evil", "/etc/evil", "a/../../evil", "a\\evil", "", "c:evil"])
def test_an_artifact_that_names_a_path_outside_its_folder_is_refused(
    client: Client, uploaded: Uploaded, tmp_path: Path, path: str
) -> None:
    file = {"path": path, "size": 1, "sha256": "a" * 64, "media_type": "text/plain"}
    hostile = Artifact.model_construct(id="art_x", files=[type("File", (), file)()])
    with pytest.raises(LadapressError) as refused:
        drive(fetch(client._transport, hostile, tmp_path / "out", lambda _: None))
    assert refused.value.code == "protocol"
    assert not (tmp_path / "out").exists()
