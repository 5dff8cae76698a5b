"""`ladapress doctor`: each planted fault is found by name, a sound service has none, and nothing is changed."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from sqlalchemy import text
from typer.testing import CliRunner

from demo.ephemeral import free_port
from jobs import checkup
from jobs.checkup import Finding, checks, settings_of
from jobs.cli import doctor
from jobs.db import connect
from jobs.keys import create_key
from jobs.scope import Scope
from jobs.settings import Settings
from jobs.signing import SigningKey


def told(settings: Settings, level: str = "fail") -> list[str]:
    return [one.check for one in checks(settings) if one.level == level]


def sound(tmp_path: Path, url: str, **given: object) -> Settings:
    """A small service, whose disk has room."""
    return Settings.model_validate(
        {"data_dir": tmp_path / "data", "database_url": url, "max_model_bytes": 1 << 20, **given}
    )


def test_a_sound_service_has_no_fault_and_is_left_as_it_was(tmp_path: Path, database_url: str, redis_url: str) -> None:
    """Before the first start and after it. No folder, no key, no schema is made."""
    fresh = sound(tmp_path / "fresh", f"sqlite:///{tmp_path / 'fresh.db'}")
    running = sound(tmp_path, database_url, broker_url=redis_url)
    before = sorted(tmp_path.rglob("*"))
    for settings in (fresh, running):
        assert {one.level for one in checks(settings)} == {"ok"}, list(checks(settings))
    assert sorted(path for path in tmp_path.rglob("*") if not path.name.endswith(("-wal", "-shm"))) == before


def no_folder(settings: Settings) -> Settings:
    settings.data_dir.parent.mkdir(parents=True, exist_ok=True)
    settings.data_dir.write_text("a file where a folder is wanted")
    return settings


def no_room(settings: Settings) -> Settings:
    return settings.model_copy(update={"max_model_bytes": 1 << 60})


def open_folder(settings: Settings) -> Settings:
    settings.data_dir.mkdir(parents=True)
    settings.data_dir.chmod(0o755)
    return settings


def newer_schema(settings: Settings) -> Settings:
    return revision(settings, "9999_from_the_future")


def older_schema(settings: Settings) -> Settings:
    from alembic.script import ScriptDirectory

    from jobs.db import MIGRATIONS

    return revision(settings, [one.revision for one in ScriptDirectory(str(MIGRATIONS)).walk_revisions()][1])


def revision(settings: Settings, to: str) -> Settings:
    database = connect(settings)
    with database.sessions.begin() as s:
        s.execute(text("UPDATE alembic_version SET version_num = :to"), {"to": to[:32]})
    database.dispose()
    return settings


def silent_redis(settings: Settings) -> Settings:
    return settings.model_copy(update={"broker_url": f"redis://127.0.0.1:{free_port()}/0"})


def open_bind(settings: Settings) -> Settings:
    return settings.model_copy(update={"host": "0.0.0.0"})


def broken_key(settings: Settings) -> Settings:
    settings.data_dir.mkdir(parents=True, mode=0o700)
    settings.signing_key_file.write_text("no key")
    return settings


def shown_key(settings: Settings) -> Settings:
    settings.data_dir.mkdir(parents=True, mode=0o700)
    SigningKey.load_or_create(settings.signing_key_file)
    settings.signing_key_file.chmod(0o644)
    return settings


def no_registries(settings: Settings) -> Settings:
    return settings.model_copy(update={"registries_file": settings.data_dir / "absent.toml"})


@pytest.mark.parametrize(
    ("spoil", "level", "check"),
    [
        (no_folder, "fail", "folders"),
        (no_room, "warn", "folders"),
        (open_folder, "warn", "folders"),
        (newer_schema, "fail", "migrations"),
        (older_schema, "warn", "migrations"),
        (silent_redis, "warn", "broker"),
        (open_bind, "fail", "door"),
        (broken_key, "fail", "secrets"),
        (shown_key, "warn", "secrets"),
        (no_registries, "fail", "registries"),
    ],
)
def test_a_planted_fault_is_found_and_nothing_else(
    tmp_path: Path, database_url: str, spoil: Callable[[Settings], Settings], level: str, check: str
) -> None:
    """With what to do about it."""
    settings = spoil(sound(tmp_path, database_url))
    found = [one for one in checks(settings) if one.level != "ok"]
    assert {(one.level, one.check) for one in found} == {(level, check)}, found
    assert all(one.remedy for one in found)


def test_a_database_that_is_away_is_told_within_seconds(tmp_path: Path) -> None:
    """And hides nothing of the rest; its password is not shown."""
    away = sound(tmp_path, f"postgresql://me:hush@127.0.0.1:{free_port()}/none")
    begun = time.monotonic()
    found = list(checks(away))
    assert time.monotonic() - begun < 30
    assert [one.check for one in found if one.level == "fail"] == ["database"]
    assert "secrets" in {one.check for one in found}
    assert "hush" not in str(found)


def test_a_clock_that_runs_wrong_is_told(tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A little is a warning; so much that leases would end at once is a fault."""
    settings = sound(tmp_path, database_url)
    there = time.time

    class Clock:
        ahead = 5.0
        perf_counter = staticmethod(time.perf_counter)

        @classmethod
        def time(cls) -> float:
            return there() + cls.ahead

    monkeypatch.setattr(checkup, "time", Clock)
    assert told(settings, "warn") == ["clock"]
    Clock.ahead = -settings.lease_s
    assert told(settings) == ["clock"]


def test_keys_let_the_network_in(tmp_path: Path, database_url: str) -> None:
    settings = open_bind(sound(tmp_path, database_url))
    database = connect(settings)
    with database.sessions.begin() as s:
        create_key(s, Scope(), "first", ("admin",), None)
    database.dispose()
    assert told(settings) == []


def test_a_folder_named_as_an_address_is_looked_at_and_not_made(tmp_path: Path, database_url: str) -> None:
    settings = sound(tmp_path, database_url, store_url=(tmp_path / "store" / "deep").as_uri())
    assert told(settings) == []
    assert not (tmp_path / "store").exists()


def test_a_list_that_is_none_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lists are written as JSON; the likeliest slip is to write them otherwise."""
    monkeypatch.setenv("LADAPRESS_WEBHOOK_PORTS", "443,8443")
    settings, found = settings_of(os.environ)
    assert settings is None
    assert (found[-1].level, "webhook_ports" in found[-1].text) == ("fail", True)


def test_settings_that_nobody_reads_or_takes_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slip of the pen is as silent as a default; variables of clients and tests are no slips."""
    monkeypatch.setenv("LADAPRESS_PROT", "1")
    monkeypatch.setenv("LADAPRESS_URL", "http://localhost")
    monkeypatch.setenv("LADAPRESS_THREADS", "2")
    settings, found = settings_of(os.environ)
    assert settings is not None
    assert [(one.level, one.text.partition(":")[0]) for one in found if one.level != "ok"] == [
        ("warn", "LADAPRESS_PROT")
    ]
    assert "LADAPRESS_PORT" in found[0].remedy
    monkeypatch.setenv("LADAPRESS_LEASE_S", "long")
    settings, found = settings_of(os.environ)
    assert settings is None
    assert found[-1].level == "fail"
    assert found[-1].text.startswith("LADAPRESS_LEASE_S: ")


@pytest.mark.parametrize("level", ["ok", "warn", "fail"])
def test_the_command_ends_with_1_where_something_fails(level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both forms tell the same."""
    finding = Finding("disk", level, "three bytes free", "buy one")  # type: ignore[arg-type]
    monkeypatch.setattr(doctor, "findings", lambda: iter([finding]))
    app = typer.Typer()
    app.command()(doctor.command)
    plain, data = CliRunner().invoke(app, []), CliRunner().invoke(app, ["--json"])
    assert plain.exit_code == data.exit_code == (level == "fail")
    assert "three bytes free" in plain.output
    assert "-> buy one" in plain.output
    assert json.loads(data.output) == finding.as_json()
