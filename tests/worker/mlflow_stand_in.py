"""What a tracking server of MLflow does with the calls that are made here: its limits and its refusals, too."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

API = "/api/2.0/mlflow/"


class No(Exception):
    """An answer of 4xx."""


@dataclass
class Run:
    info: dict[str, Any]
    tags: dict[str, str]
    params: dict[str, str] = field(default_factory=dict)
    metrics: set[tuple[str, float, int, int]] = field(default_factory=set)  # equal points are one

    def curve(self, name: str) -> list[tuple[int, float]]:
        return sorted((step, value) for key, value, _, step in self.metrics if key == name)


@dataclass
class StandIn:
    url: str = ""
    experiments: dict[str, str] = field(default_factory=dict)
    runs: dict[str, Run] = field(default_factory=dict)
    away: bool = False
    deaf_after: int | None = None  # answers 503 after having done so many calls more
    tokens: set[str] = field(default_factory=set)

    def call(self, path: str, given: dict[str, Any]) -> dict[str, Any]:
        match path:
            case "experiments/create":
                if given["name"] in self.experiments:
                    raise No("RESOURCE_ALREADY_EXISTS")
                self.experiments[given["name"]] = str(len(self.experiments) + 1)
                return {"experiment_id": self.experiments[given["name"]]}
            case "experiments/get-by-name":
                return {"experiment": {"experiment_id": self.experiments[given["experiment_name"]]}}
            case "runs/create":
                info = {**given, "run_id": f"{len(self.runs):032x}", "status": "RUNNING"}
                tags = {one["key"]: one["value"] for one in info.pop("tags")}
                self.runs[info["run_id"]] = Run(info, tags)
                return {"run": {"info": info}}
            case "runs/search":
                name, _, value = (
                    given["filter"].removeprefix("tags.").replace("`", "").replace("'", "").partition(" = ")
                )
                found = [run for run in self.runs.values() if run.tags.get(name) == value]
                return {"runs": [{"info": run.info} for run in found]} if found else {}
            case "runs/log-batch":
                self._batch(self.runs[given["run_id"]], given)
            case "runs/set-tag":
                self.runs[given["run_id"]].tags[given["key"]] = given["value"]
            case "runs/update":
                self.runs[given["run_id"]].info.update(given)
            case _:
                raise No("ENDPOINT_NOT_FOUND")
        return {}

    def _batch(self, run: Run, given: dict[str, Any]) -> None:
        metrics, params = given.get("metrics", []), given.get("params", [])
        if len(metrics) > 1000 or len(params) > 100 or any(len(one["value"]) > 6000 for one in params):
            raise No("INVALID_PARAMETER_VALUE")
        for one in params:
            if run.params.setdefault(one["key"], one["value"]) != one["value"]:
                raise No("INVALID_PARAMETER_VALUE")
        run.metrics |= {(one["key"], one["value"], one["timestamp"], one["step"]) for one in metrics}


@contextmanager
def standing_in() -> Iterator[StandIn]:
    """A server on a port of its own until the context ends."""
    state = StandIn()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            self._answer(urlsplit(self.path).path, body)

        def do_GET(self) -> None:
            asked = urlsplit(self.path)
            self._answer(asked.path, {name: values[0] for name, values in parse_qs(asked.query).items()})

        def _answer(self, path: str, given: dict[str, Any]) -> None:
            state.tokens.add(self.headers.get("authorization", ""))
            status, answer = 503, {}
            if not state.away:
                try:
                    status, answer = 200, state.call(path.removeprefix(API), given)
                except No as no:
                    status, answer = 400, {"error_code": str(no), "message": f"no: {no}"}
                if state.deaf_after is not None:
                    state.deaf_after -= 1
                    state.away = state.deaf_after < 0
                    status = 503 if state.away else status
            sent = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
