"""Known vulnerabilities in what the images install, by pip-audit. `make audit`; `make check` runs it too.

Exit status 1 for one that `audit-exceptions.toml` does not name, or whose exception has run out. Where no database can
be asked, that is said, and nothing fails: what was not looked at is neither good nor bad.
"""

from __future__ import annotations

import datetime
import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def main() -> None:
    """Ask for every lock; print what was found."""
    accepted = exceptions(tomllib.loads((HERE / "audit-exceptions.toml").read_text(encoding="utf-8")))
    audited: dict[tuple[str, str], Any] = {}
    for lock in sorted((HERE / "requirements").glob("*.txt")):
        audited |= {(one["name"], one.get("version", "")): one for one in ask(lock)}
    lines, failed = verdict([*audited.values()], accepted)
    print(*lines, sep="\n")
    sys.exit(failed)


def exceptions(table: dict[str, Any]) -> set[str]:
    """Ids that are accepted today: each has a reason, and a day from which it counts no more."""
    today = datetime.datetime.now(tz=datetime.UTC).date()
    return {one["id"] for one in table.get("accepted", []) if one["why"] and one["until"] > today}


def ask(lock: Path) -> list[dict[str, Any]]:
    """pip-audit's findings, package by package."""
    command = [str(Path(sys.executable).parent / "pip-audit"), "--progress-spinner", "off", "--disable-pip"]
    command += ["--require-hashes", "-f", "json", "-r", str(lock)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    try:
        found: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except ValueError:
        return [{"name": lock.name, "skip_reason": done.stderr.strip().splitlines()[-1:] or "no answer"}]
    return found


def verdict(found: list[dict[str, Any]], accepted: set[str]) -> tuple[list[str], bool]:
    """What to print, and whether it fails."""
    skipped = [one for one in found if "skip_reason" in one]
    known = [(one, each) for one in found for each in one.get("vulns", ())]
    bad = [(one, each) for one, each in known if not accepted & {each["id"], *each.get("aliases", ())}]
    lines = [
        f"{one['name']} {one['version']}: {each['id']}, mended in {each['fix_versions'] or 'none'}" for one, each in bad
    ]
    if skipped:
        lines.append(f"NOT AUDITED: {len(skipped)} of {len(found)} packages, of which no database told anything: "
                     f"{skipped[0]['name']}: {skipped[0]['skip_reason']}")  # fmt: skip
    lines.append(f"{len(found) - len(skipped)} packages audited, {len(bad)} known vulnerabilities, "
                 f"{len(known) - len(bad)} accepted")  # fmt: skip
    return lines, bool(bad)


if __name__ == "__main__":
    main()
