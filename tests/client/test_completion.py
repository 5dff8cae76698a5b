"""What a shell offers after the tab key, asked by the script that users install."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from ladapress import Client, completion

from tests.client.command import Captured, call, environment
from tests.client.conftest import Service, Uploaded, free_port

BIN = Path(sys.executable).parent


def press_tab(url: str, line: str) -> list[str]:
    """What bash has in COMPREPLY after the tab key at the end of `line`."""
    script = (
        'source <(ladapress completion bash)\nread -ra COMP_WORDS <<< "$1"\n[[ $1 == *" " ]] && COMP_WORDS+=("")\n'
        "COMP_CWORD=$((${#COMP_WORDS[@]} - 1))\n_ladapress_completion ladapress\nprintf '%s\\n' \"${COMPREPLY[@]}\""
    )
    paths = {**environment(url), "PATH": f"{BIN}:/usr/bin:/bin"}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script, "bash", line],
        env=paths, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.split()


def offered(monkeypatch: pytest.MonkeyPatch, capsys: Captured, url: str, line: str) -> list[str]:
    """The same in this process, which spares two starts."""
    monkeypatch.setenv(completion.VARIABLE, "complete_bash")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(line.split(" ")) - 1))
    capsys.readouterr()
    call(monkeypatch, url)
    return capsys.readouterr().out.split()


def test_bash_offers_the_services_jobs(service: Service, client: Client, uploaded: Uploaded) -> None:
    job = client.jobs.create(model=uploaded.model, train=uploaded.train, eval=uploaded.eval, preset="ladabert-1")
    assert job.id in press_tab(service.url, f"ladapress jobs watch {job.id[:10]}")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("ladapress can", {"cancel"}),
        ("ladapress jobs re", {"resume", "retry"}),
        ("ladapress sig", {"signing"}),
        ("ladapress jobs list --status pau", {"paused", "pausing"}),
        ("ladapress compress --preset ladabert-", {"ladabert-1"}),
        ("ladapress compress --device c", {"cpu", "cuda"}),
        ("ladapress completion f", {"fish"}),
    ],
)
def test_words_that_are_known_are_offered(
    service: Service, monkeypatch: pytest.MonkeyPatch, capsys: Captured, line: str, words: set[str]
) -> None:
    found = offered(monkeypatch, capsys, service.url, line)
    assert words <= set(found)
    assert all(word.startswith(line.rsplit(" ", maxsplit=1)[-1]) for word in found)


def test_models_and_datasets_are_offered_each_to_its_group(
    service: Service, uploaded: Uploaded, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    found = offered(monkeypatch, capsys, service.url, "ladapress models show ")
    assert uploaded.model in found
    assert uploaded.train not in found
    assert uploaded.train in offered(monkeypatch, capsys, service.url, "ladapress datasets delete ")


def test_without_a_service_nothing_is_offered_and_nobody_waits(
    monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    assert offered(monkeypatch, capsys, f"http://127.0.0.1:{free_port()}", "ladapress jobs watch ") == []
    assert not slept


@pytest.mark.parametrize("shell", completion.SHELLS)
def test_every_shell_has_a_script(shell: str, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    assert call(monkeypatch, "", "completion", shell) == 0
    assert completion.VARIABLE in capsys.readouterr().out


def test_another_shell_is_code_2(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    assert call(monkeypatch, "", "completion", "csh") == 2
    assert "bash, zsh, fish" in capsys.readouterr().err
