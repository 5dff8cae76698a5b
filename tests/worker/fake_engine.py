"""An engine without torch behind the real child: it sleeps in steps and writes a file of 4 kB.

What it does is written in the training file, as one JSON object: see `Wish`.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))  # `-I` leaves the checkout out

from worker import child, engine, sandbox

DATA = bytes(range(256)) * 16  # 4 kB: the artifact


@dataclass(frozen=True)
class Wish:
    steps: int = 3
    step_s: float = 0.02
    die_at: int | None = None  # the step at which it kills itself, in every attempt
    rests_at: int | None = None  # the step at which it sits until it is killed, in the first attempt
    deaf: bool = False  # ignores SIGTERM
    endless: bool = False  # writes a line without an end into the pipe of events
    babble: bool = False  # garbage on standard output, error and the pipe of events
    keep_at: int | None = None  # the step at which it leaves a checkpoint; a later attempt goes on from there
    keep_every: int | None = None  # leaves one every so many steps, and delivers what all steps together come to
    keep_link: bool = False  # the checkpoint is a link to somewhere else
    spawn: bool = False  # starts a program of its own that sleeps
    stuck: bool = False  # sits in C code with the interpreter's lock held, so that no other thread runs
    probe: dict[str, str] | None = None  # things to reach; what happened goes into found.json
    measures: bool = False  # says what it measured, unless it was told; what it was told goes into told.json
    error: dict[str, Any] | None = None
    lies: list[str] | None = None  # files that the manifest names and that are not delivered
    no_manifest: bool = False
    forges: bool = False  # delivers a signature.json of its own
    link_to: str | None = None  # a path outside, delivered as if it were a result
    busy_s: float = 0  # CPU seconds of an inspection
    eat_bytes: int = 0  # memory of an inspection
    crash: bool = False  # an inspection that ends by SIGSEGV
    sampled: list[dict[str, Any]] | None = None  # what an inspection says of the teacher after its verdict
    samples_s: float = 0  # how long that takes


def warm(kind: str) -> list[str]:
    return ["cpu"]


def work(order: dict[str, Any], send: Any) -> dict[str, Any]:
    spec = order["spec"]
    wish = Wish(**json.loads(Path(spec["train"]).read_text()))
    if order["kind"] == "inspect":
        verdict = inspect(wish)
        if not spec["sample"] or wish.sampled is None:
            return verdict
        send(verdict)
        time.sleep(wish.samples_s)
        return {"type": "sampled", "findings": wish.sampled}
    if wish.measures and spec.get("profile") is None:
        send({"type": "profiled", "profile": {"int8": 0.25}})
    return {"type": "result", "report": None, "points": []} if spec.get("dry_run") else compress(spec, wish, send)


def inspect(wish: Wish) -> dict[str, Any]:
    end = time.process_time() + wish.busy_s
    while time.process_time() < end:
        pass
    if wish.eat_bytes:
        try:
            bytearray(wish.eat_bytes)
        except MemoryError as error:
            return engine.as_failure(error) or {}
    if wish.crash:
        os.kill(os.getpid(), signal.SIGSEGV)
    matrices = [{"name": name, "rows": 1000, "cols": 1000, "kind": "linear"} for name in "ab"]
    shape = {"family": "bert", "task": "classification", "parameters": 2_000_100, "layers": 1, "hidden": 1000}
    shape |= {"labels": ["no", "yes"], "matrices": matrices}
    return {"type": "verdict", "verdict": {"ok": True, "shape": shape, "rows": {"train": 1, "eval": 1}}}


def compress(spec: dict[str, Any], wish: Wish, send: Any) -> dict[str, Any]:
    out = Path(spec["out"]) / "0"
    out.mkdir()
    events_fd = int(sys.argv[sys.argv.index("--events-fd") + 1])
    if wish.babble:
        print('{"type": "result", "report": {}}', flush=True)
        os.write(1, b"\xff\xfe\0garbage\n" * 100)
        os.write(2, b"\xff" * 5000)
        for line in (b"no json", b"[1]", b'{"type": "result"}', b'{"type": "progress", "fraction": 7}', b"\xff\0"):
            os.write(events_fd, line + b"\n")
    if wish.deaf:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if wish.spawn:
        subprocess.Popen([sys.executable, "-I", "-c", "import time; time.sleep(600)"])
    if wish.endless:
        os.write(events_fd, b"x" * 5000)
        time.sleep(600)
    if wish.stuck:
        send({"type": "stage", "stage": "distill"})
        ctypes.PyDLL(None).sleep(600)
    left = [(Path(folder) / "step").read_text() for folder in spec.get("checkpoints", [])]
    number, _, chain = left[0].partition(" ") if left else ("0", "", "")
    resumed = int(number)
    for step in range(resumed, wish.steps):
        send({"type": "stage", "stage": "distill"})
        send({"type": "progress", "stage": "distill", "fraction": step / wish.steps, "step": step, "steps": wish.steps})
        if step == wish.keep_at and not left:
            keep(out, step, f"{step}", send, wish.keep_link)
        if wish.keep_every and step > resumed and step % wish.keep_every == 0:
            keep(out, step, f"{step} {chain}", send, wish.keep_link)
        chain = hashlib.sha256(f"{chain}{step}".encode()).hexdigest()
        (out / "chain.json").write_text(json.dumps({"resumed": resumed, "done": step + 1, "chain": chain}))
        time.sleep(600 if step == wish.rests_at and not spec["used_s"] else wish.step_s)
        if step == wish.die_at:
            print("I shall die now", flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
    if wish.error:
        return {"type": "error", **wish.error}
    (out / "model.onnx").write_bytes(DATA)
    (out / "told.json").write_text(json.dumps(spec.get("profile")))
    (out / "left.json").write_text(json.dumps(left))
    (out / "found.json").write_text(json.dumps({what: attempt(what, at) for what, at in (wish.probe or {}).items()}))
    files = ["found.json", "model.onnx", *(["left.json"] if wish.keep_at is not None else [])]
    files += ["told.json"] if wish.measures else []
    files += ["chain.json"] if wish.keep_every else []
    if wish.link_to:
        (out / "linked").symlink_to(wish.link_to)
        files.append("linked")
    files += manifest(out, files, wish)
    return {"type": "result", "report": report(), "points": [{"dir": "0", "files": files, "report": report()["point"]}]}


def manifest(out: Path, files: list[str], wish: Wish) -> list[str]:
    """Write what names the files, and whatever else was wished for; the names of both."""
    listed = {name: out / name for name in files if not (out / name).is_symlink()}
    listed |= {name: Path(name) for name in wish.lies or ()}
    entries = {name: entry(path) for name, path in listed.items()}
    (out / "manifest.json").write_text(json.dumps({"version": 1, "files": entries}))
    (out / "signature.json").write_text("{}")
    return ["manifest.json"] * (not wish.no_manifest) + ["signature.json"] * wish.forges


def entry(path: Path) -> dict[str, Any]:
    """A file as the manifest has it; one that is not there is made up."""
    content = path.read_bytes() if path.is_file() else b""
    return {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def keep(out: Path, step: int, text: str, send: Any, link: bool) -> None:
    folder = out.parent / "checkpoints" / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    if link:
        (folder / "step").symlink_to("/etc/hostname")
    else:
        (folder / "step").write_text(text)
    send({"type": "checkpoint", "dir": f"checkpoints/checkpoint-{step}", "files": ["step"]})


def attempt(what: str, at: str) -> str:
    """Try to reach something as a child that was taken over would; what came of it, as text."""
    try:
        if what == "environment":
            return " ".join(os.environ) + " ".join(os.environ.values())
        if what == "tcp":
            host, _, port = at.partition(":")
            socket.create_connection((host, int(port)), timeout=3).close()
        elif what in ("read", "database"):
            Path(at).read_bytes()
        elif what == "input":
            Path("in", at).chmod(0o600)
            with Path("in", at).open("r+") as file:
                file.write("changed")
        elif what == "write":
            Path(at).write_text("changed")
        elif what == "memory":
            bytearray(int(at))
        elif what == "parent":
            return Path(f"/proc/{at}/environ").read_text()
    except (OSError, MemoryError) as error:
        return type(error).__name__
    return "reached"


def report() -> dict[str, Any]:
    """The smallest legal report."""
    sizes = {"parameters": 2, "nonzero": 1, "bytes_on_disk": {"model.onnx": len(DATA)}, "bytes_in_memory": 8}
    point = {
        "parameter_ratio": 2.0,
        "bytes_ratio": 2.0,
        "latency_ratio": 1.5,
        "metric": "accuracy",
        "teacher": 0.9,
        "student": 0.9,
        "retention": 1.0,
        "target": {"parameter_ratio": 2.0},
        "target_met": True,
        "shortfall": {},
        "sizes": sizes,
        "sizes_teacher": sizes,
        "planned_bytes": len(DATA),
        "latency": [],
        "parity": [],
        "student_by_file": {"model.onnx": 0.9},
    }
    return {
        "preset": None,
        "recipe": {},
        "target": {},
        "seed": 0,
        "task": "classification",
        "labels": ["no", "yes"],
        "rows": {"train": 1},
        "select_seen_by_teacher": "assumed",
        "input_hashes": {},
        "point": point,
        "stages": [],
        "hardware": {"device": "cpu", "machine": "none", "cpu_flags": [], "threads": 1, "versions": {}},
    }


if __name__ == "__main__":
    if "--unwalled" in sys.argv:  # as on a host without Landlock
        sys.argv.remove("--unwalled")
        sandbox.close_files = lambda _: (False, False)
    child.main(warm=warm, work=work)
