"""Run the test suites in order, all of them even if one fails, and tell minutes against each suite's budget.

    python tests/suites.py [SUITE ...] [--since EPOCH_SECONDS]     every suite, or the named ones
    python tests/suites.py --long                                  only tests marked `long`

Exit status 1 if anything failed, or if a suite that has files ran no test. Time alone fails nothing: a suite above
its budget is named. The last line counts tests: `tests: 12 passed, 0 failed`.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Suite:
    """Commands that come first, then one pytest run over those of `paths` that hold tests.

    Files start in the order of their number of tests, most first; with `in_order` in that of `paths`, so that the
    minutes of a file with a single test do not come last, beside a process that has nothing left to do.
    """

    name: str
    budget_minutes: float
    paths: tuple[str, ...]
    commands: tuple[tuple[str, ...], ...] = ()
    in_order: bool = False

    def files(self) -> list[Path]:
        """Give the suite's test files."""
        places = [ROOT / "tests" / path for path in self.paths]
        return [file for place in places for file in ([place] if place.is_file() else sorted(place.rglob("test_*.py")))]


@dataclass
class Outcome:
    """What one suite came to. Counts are tests; `broken` holds commands that failed."""

    suite: Suite
    minutes: float
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    broken: tuple[str, ...] = ()

    @property
    def good(self) -> bool:
        """Tell whether everything passed and something ran."""
        return not self.failed and not self.broken and self.passed > 0


SUITES = (
    Suite(
        "checks",  # its minutes include the installation
        4,
        ("test_architecture.py", "test_house.py"),
        (("ruff", "format", "--check", "."), ("ruff", "check", "."), ("mypy",)),
    ),
    Suite("unit", 5, ("core", "bench")),
    Suite("http and database", 5, ("jobs", "api", "client", "corpus", "test_ephemeral.py")),
    Suite(
        "end to end",
        4,
        ("e2e/test_killed.py", "e2e/test_sessions.py", "e2e/test_documents.py", "demo", "worker"),
        in_order=True,
    ),
    Suite("methods", 5, ("methods",)),
    Suite("families", 4, ("families",)),
    Suite("tasks", 3, ("tasks",)),
    Suite("chaos", 3, ("chaos",)),
    Suite("fuzz", 2, ("fuzz",)),
    Suite("browser", 2, ("browser",)),
)


def main(arguments: list[str]) -> int:
    """Run what the command line asks for and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=", ".join(suite.name for suite in SUITES))
    parser.add_argument("--since", type=float, default=time.time(), help="count the first suite from this time")
    parser.add_argument("--long", action="store_true", help="only the tests that take minutes")
    options = parser.parse_args(arguments)
    if unknown := set(options.suites) - {suite.name for suite in SUITES}:
        parser.error(f"no such suite: {', '.join(sorted(unknown))}")
    if options.long:
        everything = tuple(path for suite in SUITES for path in suite.paths)
        chosen = [Suite("long", 60, everything)]
    else:
        chosen = [suite for suite in SUITES if suite.name in (options.suites or [s.name for s in SUITES])]
    outcomes = []
    start = options.since
    for suite in chosen:
        if suite.files():
            outcomes.append(run(suite, start, marker="long" if options.long else "not long and not fuzz"))
        start = time.time()
    print(table(outcomes), flush=True)
    return 0 if outcomes and all(outcome.good for outcome in outcomes) else 1


def run(suite: Suite, start: float, *, marker: str) -> Outcome:
    """Run one suite; `start` is when its minutes began, epoch seconds."""
    print(f"\n=== {suite.name} ===", flush=True)
    broken = tuple(" ".join(command) for command in suite.commands if call(command) != 0)
    paths = [str(file.relative_to(ROOT)) for file in suite.files()]
    order = ["--no-loadscope-reorder"] if suite.in_order else []
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        # -v once: takes back the -q of pyproject.toml, so that pytest ends with its usual line
        status = call(
            (
                "pytest",
                "-v",
                "-n",
                "2",
                "--dist",
                "loadfile",
                *order,
                "-m",
                marker,
                "--no-header",
                f"--junit-xml={report}",
                *paths,
            )
        )
        counts = count(report) if report.exists() else (0, 0, 0)
    if status != 0:
        broken += ("pytest" if status != 5 else "pytest ran no test",)
    return Outcome(suite, (time.time() - start) / 60, *counts, broken)


def call(command: tuple[str, ...]) -> int:
    """Run a tool of the environment from the repository's root; give its exit status."""
    print(f"$ {' '.join(command[:6])}{' ...' if len(command) > 6 else ''}", flush=True)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
    return subprocess.run([BIN / command[0], *command[1:]], cwd=ROOT, env=environment, check=False).returncode


def count(report: Path) -> tuple[int, int, int]:
    """Give (passed, failed or broken, skipped) of pytest's JUnit file."""
    passed = failed = skipped = 0
    for suite in ET.parse(report).getroot().iter("testsuite"):
        bad = int(suite.get("failures", 0)) + int(suite.get("errors", 0))
        omitted = int(suite.get("skipped", 0))
        failed += bad
        skipped += omitted
        passed += max(int(suite.get("tests", 0)) - bad - omitted, 0)
    return passed, failed, skipped


def table(outcomes: list[Outcome]) -> str:
    """Render minutes against budgets, what went wrong, and the counting line that comes last."""
    lines = ["", f"{'suite':<20}{'passed':>8}{'failed':>8}{'minutes':>9}{'budget':>8}"]
    for one in outcomes:
        above = "  ABOVE BUDGET" if one.minutes > one.suite.budget_minutes else ""
        lines.append(
            f"{one.suite.name:<20}{one.passed:>8}{one.failed:>8}{one.minutes:>9.1f}{one.suite.budget_minutes:>8g}{above}"
        )
    total, budget = sum(one.minutes for one in outcomes), sum(one.suite.budget_minutes for one in outcomes)
    passed, failed, skipped = (sum(getattr(one, name) for one in outcomes) for name in ("passed", "failed", "skipped"))
    lines.append(f"{'total':<20}{passed:>8}{failed:>8}{total:>9.1f}{budget:>8g}")
    lines += [f"FAILED  {one.suite.name}: {what}" for one in outcomes for what in one.broken]
    lines.append(f"tests: {passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
