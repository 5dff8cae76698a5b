"""The `ladapress` command as a program: exit codes, the JSON line, what goes where, and what an interrupt does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import typer
from ladapress import Client, plugins
from typer.testing import CliRunner

from tests.client.command import Captured, call, compress, environment, run, uploads_of
from tests.client.conftest import ROOT, Inputs, Service, Uploaded, free_port
from tests.client.hand import FAIL, FILES, LAST, MISS, SUCCEED, TWO_POINTS

KEYS = [
    "job_id",
    "status",
    "target_met",
    "cache_hit",
    "bytes_ratio",
    "parameter_ratio",
    "metric",
    "teacher",
    "student",
    "retention",
    "latency_ratio",
    "artifact_dir",
    "points",
    "error",
]


def test_compress_ends_with_one_json_line_and_the_verified_files(
    service: Service, inputs: Inputs, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    ended = run(service.url, *compress(inputs, out, SUCCEED, "--json", "--target", "parameter_ratio=2.5"))
    assert ended.returncode == 0, ended.stderr
    (line,) = ended.stdout.splitlines()
    result = json.loads(line)
    assert list(result) == KEYS
    assert (result["status"], result["target_met"], result["error"]) == ("succeeded", True, None)
    assert (result["metric"], result["teacher"], result["parameter_ratio"]) == ("accuracy", 0.9, 2.5)
    assert result["artifact_dir"] == str(out) == result["points"][0]["artifact_dir"]
    assert {str(file.relative_to(out)): file.read_bytes() for file in out.rglob("*") if file.is_file()} == FILES
    for progress in (
        "uploading",
        "distill",
        "[ 10%] distill step 2/20",
        "warning: only 4 rows",
        "downloading",
        "accuracy",
    ):
        assert progress in ended.stderr
    with Client(service.url) as client:
        job = client.jobs.get(result["job_id"])
    assert (job.seed, job.preset, job.target.parameter_ratio) == (SUCCEED, "ladabert-1", 2.5)


def test_a_missed_target_is_code_3_and_still_delivers(
    service: Service,
    inputs: Inputs,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Captured,
) -> None:
    assert call(monkeypatch, service.url, *compress(inputs, tmp_path / "out", MISS, "--json")) == 3
    said = capsys.readouterr()
    result = json.loads(said.out.splitlines()[-1])
    assert (result["status"], result["target_met"]) == ("succeeded", False)
    assert (tmp_path / "out" / "model.onnx").read_bytes() == FILES["model.onnx"]
    assert "target missed: parameter_ratio 5.0 wanted, 2.5 reached" in said.err


def test_of_several_points_the_first_that_meets_the_target_speaks(
    service: Service,
    inputs: Inputs,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Captured,
) -> None:
    out = tmp_path / "out"
    assert call(monkeypatch, service.url, *compress(inputs, out, TWO_POINTS, "--json")) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [point["artifact_dir"] for point in result["points"]] == [str(out / "0"), str(out / "1")]
    assert result["retention"] == result["points"][1]["retention"]
    assert result["artifact_dir"] == str(out / "1")
    assert (out / "0" / "model.onnx").is_file()


def test_a_failed_job_is_code_1_and_says_why(
    service: Service,
    inputs: Inputs,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Captured,
) -> None:
    assert call(monkeypatch, service.url, *compress(inputs, tmp_path / "out", FAIL, "--json")) == 1
    said = capsys.readouterr()
    result = json.loads(said.out.splitlines()[-1])
    assert list(result) == KEYS
    assert (result["status"], result["error"]["code"], result["points"]) == ("failed", "training_diverged", [])
    assert "the loss became NaN at step 2" in said.err
    assert not (tmp_path / "out").exists()


def test_a_refused_job_is_code_1_and_its_uploads_are_taken_back(
    service: Service,
    client: Client,
    inputs: Inputs,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Captured,
) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('[[steps]]\nmethod = "svd"\nkeep = 7\n')
    before = uploads_of(client)
    files = ["--train", inputs.train, "--eval", inputs.eval, "--out", tmp_path / "out"]
    assert call(monkeypatch, service.url, "compress", inputs.model, *files, "--recipe", recipe, "--json") == 1
    said = capsys.readouterr()
    result = json.loads(said.out.splitlines()[-1])
    assert (result["job_id"], result["status"]) == (None, "failed")
    assert "keep" in json.dumps(result["error"])
    assert uploads_of(client) == before


def test_no_service_is_code_1_and_names_the_address(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.setattr("ladapress.transport.FIRST_CONTACT_S", 0.3)
    url = f"http://127.0.0.1:{free_port()}"
    assert call(monkeypatch, url, *compress(inputs, tmp_path / "out", SUCCEED)) == 1
    assert url in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_cancels_the_job_and_is_code_130(
    service: Service, inputs: Inputs, tmp_path: Path, number: signal.Signals
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "ladapress", *map(str, compress(inputs, tmp_path / "out", LAST, "--json"))],
        env=environment(service.url),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    said = ""
    while "[ 10%] distill" not in said:
        said += (read := process.stderr.readline())
        assert read, said
    process.send_signal(number)
    output, rest = process.communicate(timeout=30)
    assert process.returncode == 130, rest
    result = json.loads(output.splitlines()[-1])
    assert result["status"] == "cancelled"
    with Client(service.url) as client:
        assert client.jobs.get(result["job_id"]).status == "cancelled"
    assert not (tmp_path / "out").exists()


def test_jobs_watch_cancel_and_download_work_on_a_job_by_its_id(
    service: Service,
    client: Client,
    uploaded: Uploaded,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Captured,
) -> None:
    def create(seed: int) -> str:
        request = {"model": uploaded.model, "train": uploaded.train, "eval": uploaded.eval, "seed": seed}
        return client.jobs.create(preset="ladabert-1", **request).id

    job_id = create(SUCCEED)
    assert call(monkeypatch, service.url, "watch", job_id, "--json") == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["job_id"] == job_id
    assert call(monkeypatch, service.url, "download", job_id, "--out", tmp_path / "job") == 0
    artifact_id = client.jobs.get(job_id).points[0].artifact_id
    assert call(monkeypatch, service.url, "download", artifact_id, "--out", tmp_path / "artifact") == 0
    assert (tmp_path / "job" / "model.onnx").read_bytes() == (tmp_path / "artifact" / "model.onnx").read_bytes()
    assert call(monkeypatch, service.url, "download", "model_x", "--out", tmp_path / "x") == 2
    lasting = create(LAST)
    capsys.readouterr()
    assert call(monkeypatch, service.url, "jobs", "--limit", 2, "--json") == 0
    assert [job["id"] for job in json.loads(capsys.readouterr().out)["data"]] == [lasting, job_id]
    assert call(monkeypatch, service.url, "cancel", lasting) == 0
    assert call(monkeypatch, service.url, "watch", lasting) == 130
    assert call(monkeypatch, service.url, "download", lasting, "--out", tmp_path / "none") == 1
    assert call(monkeypatch, service.url, "watch", "job_nosuch") == 1


def test_without_the_server_up_says_what_to_install(tmp_path: Path) -> None:
    """The client alone on the path, as after `pip install ladapress`."""
    script = (
        "import sys, importlib.metadata as metadata\n"
        "from ladapress import cli, plugins\n"
        "plugins.entry_points = lambda group: metadata.EntryPoints()\n"
        "sys.argv = ['ladapress', 'up', '--port', '1']\n"
        "code = cli.main()\n"
        "loaded = {name.split('.')[0] for name in sys.modules}\n"
        "assert not loaded & {'api', 'core', 'jobs', 'worker', 'torch', 'sqlalchemy'}, loaded\n"
        "sys.exit(code)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 2, ended.stderr
    assert "ladapress-server" in ended.stderr


def test_a_plugin_may_bring_one_command_or_several(monkeypatch: pytest.MonkeyPatch) -> None:
    """`signing` has two, as the server's own entry points name them."""
    named = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"][plugins.PLUGINS]
    points = metadata.EntryPoints(metadata.EntryPoint(name, value, plugins.PLUGINS) for name, value in named.items())
    assert {point.name for point in points} == set(plugins.SERVER_COMMANDS)
    monkeypatch.setattr(plugins, "entry_points", lambda **_: points)
    root = typer.Typer()
    plugins.add_plugins(root, ["--help"])
    for arguments, expected in ((["signing", "--help"], ("list", "rotate")), (["up", "--help"], ("--port",))):
        said = CliRunner().invoke(root, arguments, env={"COLUMNS": "200"})
        assert said.exit_code == 0
        assert all(word in said.output for word in expected)


def test_help_lists_every_command_and_the_version_is_told(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    assert call(monkeypatch, "", "--help") == 0
    said = capsys.readouterr().out
    for command in ("compress", "jobs", "watch", "cancel", "download", "push", "verify", "signing", "up"):
        assert f"\n  {command} " in said
    assert call(monkeypatch, "", "--version") == 0
    assert capsys.readouterr().out.startswith("ladapress 0.")


def test_the_bar_in_a_terminal_shows_stage_steps_and_time_left() -> None:
    from ladapress.display import Display
    from ladapress.types import JobEvent
    from rich.console import Console

    console = Console(force_terminal=True, width=120, record=True, file=open(os.devnull, "w"))  # noqa: SIM115, PTH123
    start = time.monotonic
    clock = iter(range(0, 1000, 10))
    with pytest.MonkeyPatch.context() as patch, Display(console) as display:
        patch.setattr("ladapress.display.time.monotonic", lambda: float(next(clock)) if clock else start())
        for seq, step in enumerate((10, 20, 30), start=1):
            data = {"stage": "distill", "fraction": step / 100, "step": step, "steps": 100}
            at = "2026-01-01T00:00:00Z"
            event = {"id": "evt_x", "job_id": "job_x", "seq": seq, "type": "progress", "at": at, "data": data}
            display.event(JobEvent.model_validate(event))
    shown = console.export_text()
    assert "distill" in shown
    assert "30%" in shown
    assert "step 30/100 eta 1:10" in shown
