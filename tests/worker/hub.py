"""A stand-in of the Hugging Face hub: the HTTP interface that `huggingface_hub` speaks, over real sockets and bytes.

Repositories hold commits, a commit is a dict of path -> bytes. Hashes and sizes that a client claims are checked.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

GITATTRIBUTES = b"*.onnx filter=lfs diff=lfs merge=lfs -text\n"
LARGE = (".onnx", ".safetensors")
Answer = tuple[int, Any]


def blob_name(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@dataclass
class Repository:
    private: bool
    commits: list[tuple[str, str, dict[str, bytes]]] = field(default_factory=list)  # sha, message, files
    branches: dict[str, int] = field(default_factory=dict)  # -> place in commits

    def commit(self, branch: str, message: str, files: dict[str, bytes]) -> str:
        sha = hashlib.sha1(f"{len(self.commits)} {message}".encode()).hexdigest()
        self.commits.append((sha, message, files))
        self.branches[branch] = len(self.commits) - 1
        return sha

    def at(self, revision: str) -> tuple[str, str, dict[str, bytes]] | None:
        if revision in self.branches:
            return self.commits[self.branches[revision]]
        return next((one for one in self.commits if one[0] == revision), None)


@dataclass
class Hub:
    """What the server holds, and how it misbehaves. `failing` is a status that every request gets, `lose` the number
    of commits whose answer gets lost after they were made."""

    url: str
    token: str
    repositories: dict[str, Repository] = field(default_factory=dict)
    large: dict[str, bytes] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    failing: int | None = None
    lose: int = 0
    says: str = "Invalid credentials in Authorization header"
    forbidden: str = ""  # a namespace that the token has no right in
    on_commit: Callable[[], None] = lambda: None

    def files(self, name: str, branch: str = "main") -> dict[str, bytes]:
        found = self.repositories[name].at(branch)
        assert found is not None
        return found[2]


@contextmanager
def hub(token: str) -> Iterator[Hub]:
    """A hub on a free port of loopback that knows one token."""
    server = _Server(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    server.hub = Hub(f"http://127.0.0.1:{server.server_address[1]}", token)  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server.hub  # type: ignore[attr-defined]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed reads no answer."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Silence."""

    def _serve(self) -> None:
        hub: Hub = self.server.hub  # type: ignore[attr-defined]
        path = unquote(urlsplit(self.path).path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        hub.requests.append(f"{self.command} {path}")
        if hub.failing is not None:
            return self._send(hub.failing, {"error": "a fault"})
        if not path.startswith("/storage/") and self.headers.get("Authorization") != f"Bearer {hub.token}":
            return self._send(401, {"error": hub.says})
        for method, pattern, route in _ROUTES:
            if method == self.command and (match := re.fullmatch(pattern, path)):
                status, answer = route(hub, *match.groups(), body)
                if route is _commit and status == 200 and hub.lose:
                    hub.lose -= 1
                    self.close_connection = True
                    return None
                return self._send(status, answer)
        return self._send(404, {"error": f"no route {path}"})

    do_GET = do_HEAD = do_POST = do_PUT = _serve  # noqa: N815

    def _send(self, status: int, answer: Any) -> None:
        headers = {}
        if isinstance(answer, tuple):
            answer, headers = answer
        content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        if status >= 400 and isinstance(answer, dict):
            headers = {"X-Error-Message": answer["error"], "X-Error-Code": answer.get("code", "Other")}
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def _found(hub: Hub, name: str, revision: str) -> tuple[Repository, tuple[str, str, dict[str, bytes]]] | Answer:
    repository = hub.repositories.get(name)
    if repository is None:
        return 404, {"error": "Repository not found", "code": "RepoNotFound"}
    found = repository.at(revision)
    return (404, {"error": "Invalid rev", "code": "RevisionNotFound"}) if found is None else (repository, found)


def _create(hub: Hub, body: bytes) -> Answer:
    asked = json.loads(body)
    name = f"{asked['organization']}/{asked['name']}"
    if asked["organization"] == hub.forbidden:
        return 403, {"error": "You don't have the rights to create a model under the namespace"}
    if name in hub.repositories:
        return 409, {"error": "You already created this model repo", "url": f"{hub.url}/{name}"}
    made = hub.repositories[name] = Repository(asked.get("private", False) or asked.get("visibility") == "private")
    made.commit("main", "initial commit", {".gitattributes": GITATTRIBUTES})
    return 200, {"url": f"{hub.url}/{name}", "name": name, "id": name}


def _branch(hub: Hub, name: str, branch: str, _body: bytes) -> Answer:
    repository = hub.repositories[name]
    if branch in repository.branches:
        return 409, {"error": "Reference already exists"}
    repository.branches[branch] = repository.branches["main"]
    return 200, {}


def _info(hub: Hub, name: str, revision: str, _body: bytes) -> Answer:
    found = _found(hub, name, revision)
    if isinstance(found[0], int):
        return found  # type: ignore[return-value]
    sha, _, files = found[1]
    siblings = [{"rfilename": file, "size": len(content)} for file, content in files.items()]
    return 200, {"_id": "1", "id": name, "sha": sha, "private": True, "siblings": siblings}


def _tree(hub: Hub, name: str, revision: str, _body: bytes) -> Answer:
    found = _found(hub, name, revision)
    if isinstance(found[0], int):
        return found  # type: ignore[return-value]
    listed: list[dict[str, Any]] = []
    for path, content in found[1][2].items():
        one: dict[str, Any] = {"type": "file", "path": path, "size": len(content), "oid": blob_name(content)}
        if path.endswith(LARGE):
            one["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
        listed.append(one)
    return 200, listed


def _yaml(_hub: Hub, body: bytes) -> Answer:
    content = json.loads(body)["content"]
    if not content.startswith("---\n"):
        return 400, {"error": "no front matter", "errors": [{"message": "no front matter"}], "warnings": []}
    return 200, {"errors": [], "warnings": []}


def _preupload(hub: Hub, name: str, revision: str, body: bytes) -> Answer:
    files = hub.files(name, revision)
    answer = []
    for asked in json.loads(body)["files"]:
        path = asked["path"]
        there, large = files.get(path), path.endswith(LARGE)
        oid = None if there is None else hashlib.sha256(there).hexdigest() if large else blob_name(there)
        mode = "lfs" if large else "regular"
        answer.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oid})
    return 200, {"files": answer}


def _batch(hub: Hub, _name: str, body: bytes) -> Answer:
    objects = []
    for asked in json.loads(body)["objects"]:
        one: dict[str, Any] = {"oid": asked["oid"], "size": asked["size"]}
        if asked["oid"] not in hub.large:
            one["actions"] = {"upload": {"href": f"{hub.url}/storage/{asked['oid']}?X-Signature=signed"}}
        objects.append(one)
    return 200, {"transfer": "basic", "objects": objects}


def _store(hub: Hub, oid: str, body: bytes) -> Answer:
    if hashlib.sha256(body).hexdigest() != oid:
        return 400, {"error": "the bytes have another sha256"}
    hub.large[oid] = body
    return 200, b""


def _commit(hub: Hub, name: str, branch: str, body: bytes) -> Answer:
    hub.on_commit()
    repository = hub.repositories[name]
    found = repository.at(branch)
    assert found is not None
    files = dict(found[2])
    head, *lines = [json.loads(line) for line in body.splitlines()]
    assert head["key"] == "header"
    if head["value"].get("parentCommit", found[0]) != found[0]:
        return 412, {"error": "A commit has happened since. Please refresh and try again."}
    for line in lines:
        value = line["value"]
        match line["key"]:
            case "file":
                assert value["encoding"] == "base64"
                files[value["path"]] = base64.b64decode(value["content"])
            case "lfsFile":
                if value["oid"] not in hub.large:
                    return 400, {"error": "the large file was never sent"}
                files[value["path"]] = hub.large[value["oid"]]
            case "deletedFile":
                del files[value["path"]]
    sha = repository.commit(branch, head["value"]["summary"], files)
    return 200, {"success": True, "commitOid": sha, "commitUrl": f"{hub.url}/{name}/commit/{sha}"}


def _resolve(hub: Hub, name: str, revision: str, path: str, _body: bytes) -> Answer:
    found = _found(hub, name, revision)
    if isinstance(found[0], int):
        return found  # type: ignore[return-value]
    sha, _, files = found[1]
    if path not in files:
        return 404, {"error": "Entry not found", "code": "EntryNotFound"}
    tag = hashlib.sha256(files[path]).hexdigest() if path.endswith(LARGE) else blob_name(files[path])
    return 200, (files[path], {"X-Repo-Commit": sha, "ETag": f'"{tag}"', "Accept-Ranges": "bytes"})


_ID = r"([\w.-]+/[\w.-]+)"
_ROUTES: tuple[tuple[str, str, Callable[..., Answer]], ...] = (
    ("POST", "/api/repos/create", _create),
    ("POST", f"/api/models/{_ID}/branch/(.+)", _branch),
    ("GET", f"/api/(?:models|datasets)/{_ID}", lambda hub, name, body: _info(hub, name, "main", body)),
    ("GET", f"/api/(?:models|datasets)/{_ID}/revision/([^/]+)", _info),
    ("GET", f"/api/(?:models|datasets)/{_ID}/tree/([^/]+)/?", _tree),
    ("POST", "/api/validate-yaml", _yaml),
    ("POST", f"/api/models/{_ID}/preupload/([^/]+)", _preupload),
    ("POST", rf"/{_ID}\.git/info/lfs/objects/batch", _batch),
    ("PUT", "/storage/([0-9a-f]{64})", _store),
    ("POST", f"/api/models/{_ID}/commit/([^/]+)", _commit),
    ("GET", f"/(?:datasets/)?{_ID}/resolve/([^/]+)/(.+)", _resolve),
    ("HEAD", f"/{_ID}/resolve/([^/]+)/(.+)", _resolve),
)
