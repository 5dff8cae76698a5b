"""Run the test suites in order, all of them even if one fails, and tell minutes against each suite's budget.

    python tests/suites.py [SUITE ...] [--since EPOCH_SECONDS]     every suite, or the named ones
    python tests/suites.py --long                                  only tests marked `long`

Checks and browser come first, then all other suites in one pytest run: torch and its like are loaded once, and no
process waits at the end of each suite for the other. A suite's minutes are its tests' seconds over the processes.

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

PROCESSES = 2
ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Suite:
    """Test files, and commands that come before any of them. `alone`: in a pytest run of its own."""

    name: str
    budget_minutes: float
    paths: tuple[str, ...]
    commands: tuple[tuple[str, ...], ...] = ()
    alone: bool = False

    def files(self) -> list[Path]:
        """Give the suite's test files."""
        places = [ROOT / "tests" / path for path in self.paths]
        return [file for place in places for file in ([place] if place.is_file() else sorted(place.rglob("test_*.py")))]


@dataclass
class Outcome:
    """What one suite came to. Counts are tests; `broken` holds commands that failed."""

    suite: Suite
    minutes: float = 0
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    broken: tuple[str, ...] = ()

    @property
    def good(self) -> bool:
        """Tell whether everything passed."""
        return not self.failed and not self.broken


# Files start in this order, so that at the end no process is left alone with a file of minutes.
SUITES = (
    Suite(
        "checks",  # its minutes include the installation
        4,
        ("test_architecture.py", "test_house.py", "test_supply.py"),
        (("ruff", "format", "--check", "."), ("ruff", "check", "."), ("mypy",), ("python", "docker/audit.py")),
        alone=True,
    ),
    Suite("end to end", 4, ("e2e", "demo", "worker")),
    Suite("unit", 5, ("core", "bench")),
    Suite("methods", 3, ("methods",)),
    Suite("tasks", 1, ("tasks",)),
    Suite("families", 1, ("families",)),
    Suite("chaos", 3, ("chaos",)),
    Suite("fuzz", 2, ("fuzz",)),
    Suite("browser", 2, ("browser",), alone=True),  # Playwright leaves an event loop running in its process
    Suite("http and database", 5, ("corpus", "jobs", "client", "api", "test_ephemeral.py")),
)
SHORT = "not long and not fuzz and not chaos and not soak"  # what `make test` runs
REST = Suite("start and wait", 1, ())  # what the joint run took beyond its tests


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
        chosen = [Suite("long", 60, tuple(path for suite in SUITES for path in suite.paths))]
    else:
        chosen = [suite for suite in SUITES if suite.name in (options.suites or [s.name for s in SUITES])]
    chosen = [suite for suite in chosen if suite.files()]
    outcomes: list[Outcome] = []
    start = options.since
    for together in (*([one] for one in chosen if one.alone), [one for one in chosen if not one.alone]):
        if together:
            outcomes += run(together, start, marker="long" if options.long else SHORT)
            start = time.time()
    print(table(outcomes), flush=True)
    return 0 if outcomes and all(outcome.good for outcome in outcomes) else 1


def run(suites: list[Suite], start: float, *, marker: str) -> list[Outcome]:
    """Run these in one go, commands first; `start` is when it began, epoch seconds. REST comes last."""
    print(f"\n=== {', '.join(suite.name for suite in suites)} ===", flush=True)
    outcomes = [Outcome(suite) for suite in suites]
    for outcome in outcomes:
        outcome.broken = tuple(" ".join(command) for command in outcome.suite.commands if call(command) != 0)
    files = [str(file.relative_to(ROOT)) for suite in suites for file in suite.files()]
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        # -v once: takes back the -q of pyproject.toml, so that pytest ends with its usual line
        status = call(
            (
                "pytest",
                "-v",
                "-n",
                str(PROCESSES),
                "--dist",
                "loadfile",
                "--no-loadscope-reorder",
                "-m",
                marker,
                "--no-header",
                f"--junit-xml={report}",
                *files,
            )
        )
        strays = count(report, outcomes) if report.exists() else 0
    for outcome in outcomes:
        if not outcome.passed + outcome.failed:
            outcome.broken += ("pytest ran no test",)
    left = (time.time() - start) / 60 - sum(outcome.minutes for outcome in outcomes)
    broken = ("pytest",) if status != 0 and not strays and all(outcome.good for outcome in outcomes) else ()
    if len(outcomes) == 1:  # all of the time is its own
        outcomes[0].minutes += left
        outcomes[0].failed += strays
        outcomes[0].broken += broken
        return outcomes
    return [*outcomes, Outcome(REST, left, failed=strays, broken=broken)]


def call(command: tuple[str, ...]) -> int:
    """Run a tool of the environment from the repository's root; give its exit status."""
    print(f"$ {' '.join(command[:6])}{' ...' if len(command) > 6 else ''}", flush=True)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
    return subprocess.run([BIN / command[0], *command[1:]], cwd=ROOT, env=environment, check=False).returncode


def count(report: Path, outcomes: list[Outcome]) -> int:
    """Add pytest's JUnit file to the suites its tests are of. Returns how many failed outside of all, at collection."""
    of = {
        ".".join(file.relative_to(ROOT).with_suffix("").parts): outcome
        for outcome in outcomes
        for file in outcome.suite.files()
    }
    strays = 0
    for case in ET.parse(report).getroot().iter("testcase"):
        found = {child.tag for child in case}
        bad = bool(found & {"failure", "error"})
        outcome = of.get(case.get("classname", ""))
        if outcome is None:
            strays += bad
            continue
        outcome.minutes += float(case.get("time", 0)) / 60 / PROCESSES
        outcome.failed += bad
        outcome.skipped += not bad and "skipped" in found
        outcome.passed += not found & {"failure", "error", "skipped"}
    return strays


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
