"""A checking process sees the standard library, what it was given, and nothing else."""

import importlib.metadata
import json
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from core.errors import VerificationFailed
from core.verify import run_isolated
from core.verify.closure import ONNX, TORCH, closure

PROBE = """
import importlib, importlib.metadata, importlib.util, json, os, sys
import numpy as np

order = json.load(open(sys.argv[1]))
seen = {}
for name in order["try"]:
    try:
        importlib.import_module(name)
        seen[name] = "imported"
    except ModuleNotFoundError as error:
        seen[name] = str(error)
seen["spec of torch"] = str(importlib.util.find_spec("torch"))
try:
    seen["torch"] = importlib.metadata.version("torch")
except importlib.metadata.PackageNotFoundError:
    seen["torch"] = "not installed"
seen["numpy"] = importlib.metadata.version("numpy")
seen["secret"] = str([value for value in os.environ.values() if "hush" in value])
seen["threads"] = os.environ["OMP_NUM_THREADS"]
np.savez(sys.argv[2], seen=np.array(json.dumps(seen)))
"""


def run(tmp_path: Path, script: str, timeout_s: float = 60, **order: object) -> dict[str, str]:
    path = tmp_path / "probe.py"
    path.write_text(script)
    found = run_isolated(path, order, closure(ONNX), threads=3, timeout_s=timeout_s)
    seen: dict[str, str] = json.loads(str(found["seen"]))
    return seen


def test_only_the_closure_and_the_standard_library_can_be_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The project and undeclared packages look absent, by import, by spec and by metadata; no secret comes along."""
    monkeypatch.setenv("LADAPRESS_KEY", "hush")
    allowed = ["onnxruntime", "tokenizers", "google.protobuf", "sqlite3", "email.message"]
    barred = ["core", "core.verify", "jobs", "ladapress", "torch", "transformers", "pytest", "sklearn", "onnx"]
    seen = run(tmp_path, PROBE, **{"try": [*allowed, *barred]})
    assert {name: seen[name] for name in allowed} == dict.fromkeys(allowed, "imported")
    for name in barred:
        assert seen[name] in (f"No module named '{name.partition('.')[0]}'", "not installed"), name
    assert (seen["spec of torch"], seen["torch"], seen["secret"], seen["threads"]) == (
        "None",
        "not installed",
        "[]",
        "3",
    )
    assert seen["numpy"]


def test_a_script_that_fails_fails_with_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(VerificationFailed, match=r"^probe: the process ended with 1: KeyError: 'no weight called so'$"):
        run(tmp_path, "raise KeyError('no weight called so')")


def test_a_script_that_does_not_end_is_ended(tmp_path: Path) -> None:
    with pytest.raises(VerificationFailed, match=r"not done after 0\.5 s"):
        run(tmp_path, "import time; time.sleep(60)", timeout_s=0.5)


def test_the_closure_follows_requirements_and_leaves_extras_out() -> None:
    onnx, torch = closure(ONNX), closure(TORCH)
    assert {"onnxruntime", "numpy", "tokenizers", "protobuf"} <= set(onnx.names)
    assert {"google", "numpy"} <= onnx.modules
    assert not {"torch", "transformers", "onnx", "core", "ladapress"} & (set(onnx.names) | onnx.modules)
    assert {"torch", "transformers", "tokenizers", "regex"} <= set(torch.names)
    assert not {"onnxruntime", "accelerate", "pytest", "scikit-learn"} & set(torch.names)
    assert all("==" in entry for entry in torch.distributions)


def test_an_extra_is_followed_where_a_requirement_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class Fake:
        files = ()
        version = "1"

        def __init__(self, requires: list[str]) -> None:
            self.requires = requires

    installed = {
        "app": Fake(['lib[fast]>=1; python_version >= "3"', 'never; sys_platform == "nowhere"', "absent"]),
        "lib": Fake(['speed; extra == "fast"', 'docs; extra == "docs"', "base"]),
        **{name: Fake([]) for name in ("speed", "docs", "base", "never")},
    }

    def distribution(name: str) -> Fake:
        if name not in installed:
            raise PackageNotFoundError(name)
        return installed[name]

    monkeypatch.setattr(importlib.metadata, "distribution", distribution)
    assert closure.__wrapped__(("app",)).names == ("app", "base", "lib", "speed")
    with pytest.raises(PackageNotFoundError):
        closure.__wrapped__(("absent",))
