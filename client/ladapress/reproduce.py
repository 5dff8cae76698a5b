"""`ladapress reproduce`: train a delivered model again from what its manifest names, and compare.

Two promises. On a machine with the same processor flags, threads, device and versions the weights are the same, bit for
bit. Elsewhere, and where the clock or another point decided how long was trained, the metric is within 0.3 point.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ladapress import outcome
from ladapress.client import Client
from ladapress.compress import Order, run
from ladapress.display import Display
from ladapress.download import MANIFEST
from ladapress.errors import LadapressError
from ladapress.folder import Damaged, check, refusal
from ladapress.uploads import model_files, sha256

WITHIN = 0.003
REPORT = "report.json"
NEEDED = (
    "weights_sha256", "input_hashes", "recipe", "target", "task", "metric", "seed", "columns", "hardware", "continued",
)  # fmt: skip


@dataclass(frozen=True)
class Verdict:
    """Which promise applied, whether it was kept, and the figures of both."""

    promise: str  # "equal weights" or "metric within 0.003"
    kept: bool
    why: str  # that this promise applied
    weights: tuple[str, str]
    student: tuple[float, float]

    def line(self) -> str:
        """For people."""
        first, again = self.student
        said = f"{self.promise} ({self.why}): {'kept' if self.kept else 'BROKEN'}"
        digests = "the weights are the same" if len({*self.weights}) == 1 else "the weights differ"
        return f"{said}; {digests}; {first:.6f} then, {again:.6f} now"


def order(folder: Path, model: Path, data: Mapping[str, Path], out: Path) -> Order:
    """The job that makes this artifact again. `data`: role -> file.

    Raises:
        LadapressError: the folder is damaged or its manifest too old; inputs_differ, with every input that is another.
    """
    if not folder.is_dir():
        raise LadapressError.local("usage", f"{folder}: must be a folder")
    Order(model, dict(data), out).check()
    try:
        check(folder)
    except Damaged as damage:
        raise refusal(damage.findings[0].code, *damage.findings) from None
    manifest = json.loads((folder / MANIFEST).read_bytes())
    if missing := [name for name in NEEDED if name not in manifest]:
        lacks = f"{folder}: its manifest lacks {', '.join(missing)}, as before version 2"
        raise LadapressError.local("cannot_reproduce", lacks)
    if wrong := differences(manifest["input_hashes"], model, data):
        raise LadapressError.local("inputs_differ", "; ".join(wrong))
    options = {
        "recipe": manifest["recipe"],
        "target": manifest["target"] or None,
        "task": manifest["task"],
        "metric": manifest["metric"],
        "seed": manifest["seed"],
        "outputs": manifest.get("outputs", []),  # of version 2 only later ones have them
        "resources": {"device": manifest["hardware"]["device"]},
        "cache": "bypass",  # what the first job made, given again, would prove nothing
    }
    return Order(model, dict(data), out, options, manifest["columns"])


def differences(hashes: Mapping[str, str], model: Path, data: Mapping[str, Path]) -> list[str]:
    """What is not the input that the manifest names, a sentence each."""
    given = {f"model/{name}": path for name, path in model_files(model).items()} | dict(data)
    found = [f"{name} ({given[name]}) is no input of this artifact" for name in given if name not in hashes]
    for name, expected in hashes.items():
        if name not in given:
            found.append(f"{name} is not given; its sha256 is {expected}")
        elif (found_sha := sha256(given[name])) != expected:
            found.append(f"{name} ({given[name]}) has the sha256 {found_sha}, not {expected}")
    return found


def compare(folder: Path, again: Path) -> Verdict:
    """Two artifacts of one order."""
    manifests = [json.loads((place / MANIFEST).read_bytes()) for place in (folder, again)]
    points = [json.loads((place / REPORT).read_bytes())["point"] for place in (folder, again)]
    weights = (manifests[0]["weights_sha256"], manifests[1]["weights_sha256"])
    student = (points[0]["student"], points[1]["student"])
    if (other := _elsewhere(*manifests)) is None:
        return Verdict("equal weights", weights[0] == weights[1], "same machine", weights, student)
    kept = weights[0] == weights[1] or abs(student[0] - student[1]) <= WITHIN
    return Verdict(f"metric within {WITHIN}", kept, other, weights, student)


def _elsewhere(first: Mapping[str, Any], again: Mapping[str, Any]) -> str | None:
    """Why the weights need not be the same; None where they must be."""
    if first["continued"]:
        return "it was trained on from another point of its ladder"
    if "max_minutes" in first["target"]:
        return "the clock decided how long was trained"
    differ = [
        name for name in ("device", "cpu_flags", "threads", "versions")
        if first["hardware"][name] != again["hardware"][name]
    ]  # fmt: skip
    if differ:
        return f"other {', '.join(differ)}"
    return None if first["hardware"]["device"] == "cpu" else "a GPU sums in no fixed order"


def reproduce(client: Client, asked: Order, folder: Path, display: Display) -> tuple[int, dict[str, Any]]:
    """Run the job, download it, compare. Returns the exit code and the result as `--json` prints it.

    Raises:
        LadapressError: `cannot_reproduce` where the service trained nothing and gave what an equal job had made.
    """
    code, result = run(client, asked, display)
    if result["cache_hit"]:
        taken = f"{result['job_id']} trained nothing: the service gave what an equal job had made before"
        raise LadapressError.local("cannot_reproduce", taken)
    if code not in (outcome.DONE, outcome.MISSED) or result["artifact_dir"] is None:
        return code, {**result, "promise": None, "kept": None}
    found = compare(folder, Path(result["artifact_dir"]))
    display.say(found.line())
    facts = {"promise": found.promise, "why": found.why, "kept": found.kept, "weights_sha256": found.weights}
    return outcome.DONE if found.kept else outcome.FAILED, {**result, **facts, "students": found.student}
