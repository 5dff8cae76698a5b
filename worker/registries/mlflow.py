"""A version of a registered model of an MLflow server, by its REST API: nine calls need no client of 24 packages.

The files go through the server (`mlflow server` serves artifacts unless told otherwise) into one run, as
`model/artifact/...`; beside them lies `model/MLmodel`, which MLflow wants and no artifact may hold. Run and version
bear the content's hash as a tag, by which a second push finds what the first one made.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpx2

from worker.registries.order import CHUNK, TIMEOUT, Order, Pushed, PushFailed, answered

API, FILES = "/api/2.0/mlflow", "/api/2.0/mlflow-artifacts/artifacts"
TAG, ARTIFACT_TAG = "ladapress.content", "ladapress.artifact"
ROOT, FOLDER = "model", "artifact"


def push(order: Order) -> Pushed:
    """Make one version of the model that holds the artifact, and give it the alias.

    Raises:
        PushFailed: the server refuses, does not answer as MLflow does, or serves no artifacts.
        httpx2.TransportError: see `order.failure`.
    """
    with connect(order.url, order.username, order.token) as client:
        return _Server(client, order).push()


def connect(url: str, username: str | None, token: str | None) -> httpx2.Client:
    """A client that shows the token as a bearer, or as the password of `username`."""
    headers = {"Authorization": f"Bearer {token}"} if token and username is None else {}
    basic = (username, token or "") if username is not None else None
    return httpx2.Client(base_url=url, headers=headers, auth=basic, timeout=TIMEOUT)


class Rest:
    """The REST API of one server."""

    def __init__(self, client: httpx2.Client) -> None:
        self._client = client

    def call(self, method: str, path: str, fields: dict[str, Any], *, unless: str = "") -> dict[str, Any]:
        """One call. `unless` is an error code that is no error here; then the answer is empty.

        Raises:
            PushFailed: the server refuses, or its answer is none of MLflow's.
        """
        how: dict[str, Any] = {"params": fields} if method == "GET" else {"json": fields}
        response = self._client.request(method, f"{API}/{path}", **how)
        if unless and response.status_code == 400 and _fields(response).get("error_code") == unless:
            return {}
        if not response.is_success:
            raise answered(response)
        return _fields(response)


def experiment_id(rest: Rest, name: str) -> str:
    """The experiment of this name, made where it is missing."""
    created = rest.call("POST", "experiments/create", {"name": name}, unless="RESOURCE_ALREADY_EXISTS")
    if (made := created.get("experiment_id")) is not None:
        return str(made)
    found = rest.call("GET", "experiments/get-by-name", {"experiment_name": name})
    return str(found["experiment"]["experiment_id"])


class _Server:
    def __init__(self, client: httpx2.Client, order: Order) -> None:
        self._client, self._order = client, order
        self._call = Rest(client).call
        self._content = order.content()

    def push(self) -> Pushed:
        order = self._order
        self._call("POST", "registered-models/create", {"name": order.to}, unless="RESOURCE_ALREADY_EXISTS")
        version = self._version()
        made = version is None
        if version is None:
            version = self._create()
        if order.alias is not None:
            self._call("POST", "registered-models/alias", {"name": order.to, "alias": order.alias, "version": version})
        url = f"{order.url}/#/models/{quote(order.to, safe='')}/versions/{version}"
        return Pushed(url=url, version=version, unchanged=not made)

    def _version(self) -> str | None:
        """The version that holds this content, if one does. A version is made when its files are all there."""
        page = ""
        while True:
            asked = {"filter": f"name='{self._order.to}'", "max_results": "1000", "page_token": page}
            found = self._call("GET", "model-versions/search", asked)
            for version in found.get("model_versions", ()):
                tags = {tag["key"]: tag["value"] for tag in version.get("tags", ())}
                if tags.get(TAG) == self._content and version.get("status") == "READY":
                    return str(version["version"])
            if not (page := found.get("next_page_token", "")):
                return None

    def _create(self) -> str:
        order = self._order
        tags = [{"key": TAG, "value": self._content}, {"key": ARTIFACT_TAG, "value": order.artifact_id}]
        run = self._run(tags)
        run_id, place = run["run_id"], run["artifact_uri"]
        address = urlsplit(place)
        if address.scheme != "mlflow-artifacts":
            scheme = address.scheme or "a path"
            raise PushFailed("registry_refused", f"the server keeps artifacts at {scheme}; legal: --serve-artifacts")
        base = f"{FILES}{quote(address.path)}/{ROOT}"
        for file in order.files:
            self._send(f"{base}/{FOLDER}/{quote(file.path)}", file.blob, file.size)
        card = mlmodel(order, run_id)
        self._answer(self._client.put(f"{base}/MLmodel", content=card))
        stamp = run["start_time"]  # the same again: MLflow keeps one of equal points
        points = [{"key": k, "value": v, "timestamp": stamp, "step": 0} for k, v in order.figures.items()]
        self._call("POST", "runs/log-batch", {"run_id": run_id, "metrics": points})
        self._call("POST", "runs/update", {"run_id": run_id, "status": "FINISHED", "end_time": _now()})
        asked = {"name": order.to, "source": f"{place}/{ROOT}", "run_id": run_id, "tags": tags}
        made = self._call("POST", "model-versions/create", asked)
        return str(made["model_version"]["version"])

    def _run(self, tags: list[dict[str, str]]) -> dict[str, Any]:
        """The run of this content: the one that an earlier attempt began, or a new one."""
        experiment = experiment_id(Rest(self._client), self._order.experiment)
        same = f"tags.`{TAG}` = '{self._content}'"
        asked = {"experiment_ids": [experiment], "filter": same, "max_results": 1, "order_by": ["start_time ASC"]}
        found: list[dict[str, Any]] = self._call("POST", "runs/search", asked).get("runs", [])
        if not found:
            begun = {"experiment_id": experiment, "start_time": _now(), "run_name": self._order.to, "tags": tags}
            found = [self._call("POST", "runs/create", begun)["run"]]
        info: dict[str, Any] = found[0]["info"]
        return info

    def _send(self, path: str, blob: Path, size: int) -> None:
        def pieces() -> Iterator[bytes]:
            with blob.open("rb") as file:
                while chunk := file.read(CHUNK):
                    yield chunk

        self._answer(self._client.put(path, content=pieces(), headers={"Content-Length": str(size)}))

    def _answer(self, response: httpx2.Response) -> None:
        if not response.is_success:
            raise answered(response)


def mlmodel(order: Order, run_id: str) -> bytes:
    """MLflow's description of a model: JSON, which is YAML. `mlflow.onnx.load_model` finds the graph by it.

    There is no pyfunc: MLflow's own for ONNX wants this file beside the graph, where no artifact may hold it.
    """
    flavors: dict[str, Any] = {}
    if any(file.path == "model.onnx" for file in order.files):
        graph = f"{FOLDER}/model.onnx"
        flavors["onnx"] = {"data": graph, "providers": ["CPUExecutionProvider"], "onnx_version": None, "code": None}
    described = {"artifact_path": ROOT, "run_id": run_id, "flavors": flavors, "metadata": {TAG: order.content()}}
    return json.dumps(described, indent=1).encode() + b"\n"


def _fields(response: httpx2.Response) -> dict[str, Any]:
    try:
        found = response.json()
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise PushFailed("registry_refused", "the registry's answer is none of an MLflow server")
    return found


def _now() -> int:
    return time.time_ns() // 1_000_000
