"""What surrounds the code: images, compose file, wheels, pins, Makefile, documents. All of it without a network."""

import importlib.util
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from api.app import create_app
from core.catalogue import METHODS
from core.recipe import PRESETS
from jobs.settings import Settings

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
DOCKERFILES = sorted((ROOT / "docker").glob("*.Dockerfile"))
COMPOSE, PUSH = ROOT / "docker-compose.yml", ROOT / "docker-compose.push.yml"
# Built in halves, so that this file does not find itself.
LEFTOVERS = "|".join(["TO" + "DO", "FIX" + "ME", "NotImplemented" + "Error", r"mark\.(skip|xfail)" + r"\b"])
PLACES = "|".join(["/opt/" + "wheels", "/work/" + "main", "/root" + "/", "pypi" + r"\.org", "deb" + r"\.debian"])
OUTSIDE_SETTINGS = {"LADAPRESS_URL", "LADAPRESS_API_KEY", "LADAPRESS_TEST_DATABASE_URL", "LADAPRESS_TEST_REDIS_URL"}
OUTSIDE_SETTINGS |= {"LADAPRESS_CHAOS_SEED", "LADAPRESS_CHAOS_AWAY_S", "LADAPRESS_SOAK_JOBS"}
OUTSIDE_SETTINGS |= {"LADAPRESS_FUZZ_SEED", "LADAPRESS_FUZZ_EXAMPLES", "LADAPRESS_FUZZ_IDS"}


def tracked(*patterns: str) -> list[Path]:
    """Files that git holds or will hold: the ignored ones left out."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", *patterns],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [ROOT / line for line in listing.stdout.splitlines() if (ROOT / line).is_file()]


def documents() -> list[Path]:
    """Every page that people read."""
    return [page for page in tracked("*.md") if page.is_relative_to(ROOT)]


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a tool of the environment from the repository's root."""
    return subprocess.run([BIN / command[0], *command[1:]], cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda file: file.name)
def test_hadolint_finds_nothing_in_an_image(dockerfile: Path) -> None:
    """Every finding counts, notes included."""
    done = run("hadolint", "--failure-threshold", "style", dockerfile)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_compose_file_follows_the_compose_schema(tmp_path: Path) -> None:
    """And the schema is awake: the same file with a misspelt key is refused."""
    check = ("check-jsonschema", "--builtin-schema", "vendor.compose-spec")
    for file in (COMPOSE, PUSH):
        done = run(*check, file)
        assert done.returncode == 0, done.stdout + done.stderr
    wrong = tmp_path / "docker-compose.yml"
    wrong.write_text(COMPOSE.read_text().replace("healthcheck:", "healthchek:"))
    assert run(*check, wrong).returncode == 1


def test_the_compose_services_are_those_that_operations_needs() -> None:
    """A GPU for the worker only, a broker that asks for a password and drops nothing, a first key, loopback."""
    services = yaml.safe_load(COMPOSE.read_text())["services"]
    assert set(services) == {"api", "worker", "webhooks", "postgres", "redis"}
    devices = services["worker"]["deploy"]["resources"]["reservations"]["devices"]
    assert devices[0]["capabilities"] == ["gpu"]
    assert {"--requirepass", "noeviction"} <= set(services["redis"]["command"])
    assert "LADAPRESS_BOOTSTRAP_KEY_FILE" in services["api"]["environment"]
    assert all(port.startswith("127.0.0.1:") for port in services["api"]["ports"])


def test_only_the_pushing_service_has_tokens_and_no_training_one_a_way_out() -> None:
    """The worker's network is closed; the tokens lie where neither it nor the API looks."""
    plain, more = (yaml.safe_load(file.read_text()) for file in (COMPOSE, PUSH))
    ways_out = {name for name, one in plain["services"].items() if "front" in one["networks"]}
    assert ways_out == {"api", "webhooks"}
    assert plain["services"]["webhooks"]["command"] == ["python", "-m", "worker", "--only", "webhooks"]
    assert plain["services"]["worker"]["environment"]["LADAPRESS_WEBHOOKS"] == "false"
    assert plain["networks"]["back"]["internal"]
    assert plain["services"]["worker"]["networks"] == ["back"]
    assert set(more["services"]) == {"api", "push"}
    assert [name for name, one in more["services"].items() if "tokens" in str(one["volumes"])] == ["push"]
    assert more["services"]["push"]["command"] == ["python", "-m", "worker", "--only", "push"]


def test_images_start_modules_that_exist() -> None:
    """`CMD ["python", "-m", X]` names a package with a `__main__`."""
    for dockerfile in DOCKERFILES:
        (module,) = re.findall(r'^CMD \["python", "-m", "(\w+)"\]$', dockerfile.read_text(), re.MULTILINE)
        assert importlib.util.find_spec(f"{module}.__main__"), f"{dockerfile.name}: {module}"


def test_every_setting_named_outside_the_code_exists() -> None:
    """A misspelt LADAPRESS_ variable in an image, the compose file or a document would be ignored in silence."""
    known = {f"LADAPRESS_{name.upper()}" for name in Settings.model_fields} | OUTSIDE_SETTINGS
    for file in [*DOCKERFILES, COMPOSE, PUSH, *documents(), ROOT / "Makefile"]:
        unknown = set(re.findall(r"\bLADAPRESS_[A-Z_]+[A-Z]\b", file.read_text())) - known
        assert not unknown, f"{file.relative_to(ROOT)} names {unknown}"


@pytest.mark.parametrize(
    ("folder", "packages", "needed"),
    [
        (
            ".",
            {"api", "core", "jobs", "worker"},
            {
                "core/presets/*.toml",
                "core/export/page.html.j2",
                "core/export/page.css",
                "core/export/card.md.j2",
                "jobs/migrations/env.py",
                "jobs/migrations/versions/*.py",
            },
        ),
        ("client", {"ladapress"}, {"ladapress/*.py", "ladapress/py.typed"}),
    ],
)
def test_a_wheel_holds_its_packages_and_nothing_else(
    folder: str, packages: set[str], needed: set[str], tmp_path: Path
) -> None:
    """Tests, demo and bench stay out; recipes and migrations are in."""
    options = ("--wheel", "--offline", "--no-build-isolation", "--python", BIN / "python", "--out-dir", tmp_path)
    done = run("uv", "build", *options, ROOT / folder)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = [Path(name) for name in archive.namelist()]
    assert {name.parts[0] for name in names if not name.parts[0].endswith(".dist-info")} == packages
    assert any(name.name == "LICENSE" for name in names)
    for pattern in needed:
        assert any(name.match(pattern) for name in names), f"{pattern} is missing"


def test_every_dependency_is_pinned_and_torch_to_no_build() -> None:
    """constraints.txt holds `name==version` lines only; torch without a local tag, so that either build serves."""
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    pins = {pin.name: str(pin.specifier) for pin in map(Requirement, lines)}
    assert all(re.fullmatch(r"==[^=,]+", version) for version in pins.values()), pins
    assert "+" not in pins["torch"]
    server, client = (tomllib.loads((ROOT / path).read_text()) for path in ("pyproject.toml", "client/pyproject.toml"))
    wanted = [*server["project"]["dependencies"], *server["project"]["optional-dependencies"]["worker"]]
    wanted += [*server["dependency-groups"]["dev"], *client["project"]["dependencies"]]
    for requirement in map(Requirement, wanted):
        if requirement.marker is None or requirement.marker.evaluate():
            assert requirement.name in {*pins, "ladapress"}, f"{requirement.name} has no pin"
            version = pins.get(requirement.name, "==0.1.0").removeprefix("==")
            assert requirement.specifier.contains(version, prereleases=True), requirement


def test_every_make_target_that_a_document_names_exists() -> None:
    """And every target tells in one line what it does."""
    targets = dict(re.findall(r"^([a-z-]+):[^#=\n]*(## .+)?$", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert all(targets.values()), targets
    for page in documents():
        named = set(re.findall(r"(?:^|`|sudo )make ([a-z][a-z-]+)", page.read_text(), re.MULTILINE))
        assert named <= set(targets), f"{page.relative_to(ROOT)} names {named - set(targets)}"


def test_readme_ci_and_makefile_ask_for_the_same_packages() -> None:
    """CI proves README's apt line and CONTRIBUTING's, which adds the browser, only if it runs that very line."""
    (line,) = re.findall(r"apt-get install -y (make .+)$", (ROOT / "README.md").read_text(), re.MULTILINE)
    script = ROOT / ".ci/run"
    assert f"--no-install-recommends {line} chromium;" in script.read_text()
    assert f"apt-get install -y --no-install-recommends {line} chromium\n" in (ROOT / "CONTRIBUTING.md").read_text()
    assert f"apt-get install -y {line}" in (ROOT / "Makefile").read_text()
    assert script.stat().st_mode & 0o111, "CI's script is not executable"


def test_every_test_file_belongs_to_one_suite() -> None:
    """A test file that no suite names would never run."""
    spec = importlib.util.spec_from_file_location("suites", ROOT / "tests/suites.py")
    assert spec is not None
    assert spec.loader is not None
    suites = importlib.util.module_from_spec(spec)
    sys.modules["suites"] = suites
    spec.loader.exec_module(suites)
    listed = [file for suite in suites.SUITES for file in suite.files()]
    assert sorted(listed) == sorted((ROOT / "tests").rglob("test_*.py"))


def test_every_promise_of_the_reliability_page_names_tests_that_are_there() -> None:
    page = (ROOT / "docs/reliability.md").read_text()
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", page)
    assert len(named) > 20
    for file, test in named:
        assert f"def {test}(" in (ROOT / file).read_text(), f"{file}::{test}"


def test_nothing_is_left_for_later_and_no_machine_is_named() -> None:
    """No marker of unfinished work, no skipped test, no path of one machine, no registry's host."""
    for file in tracked("*.py", "*.toml", "*.yml", "*.yaml", "*.Dockerfile", "Makefile", ".ci/run", "*.md"):
        for number, line in enumerate(file.read_text().splitlines(), 1):
            found = re.search(rf"\b({LEFTOVERS})\b|{PLACES}", line)
            assert not found, f"{file.relative_to(ROOT)}:{number}: {line.strip()}"


def test_the_operations_page_lists_every_setting_with_its_default() -> None:
    """A setting that is not on the page, or on the one about access that it links to, is not there for its reader."""
    page = (ROOT / "docs/operations.md").read_text() + (ROOT / "docs/auth.md").read_text()
    rows = dict(re.findall(r"^\| `LADAPRESS_(\w+)` \| (.+?) \|", page, re.MULTILINE))
    assert set(rows) == {name.upper() for name in Settings.model_fields}
    for name, field in Settings.model_fields.items():
        if isinstance(field.default, int | float) and not name.endswith("_bytes"):
            assert rows[name.upper()] == f"`{field.default}`", name


def test_readme_lists_every_method_and_preset() -> None:
    """The tables are what `GET /v1/methods` and `GET /v1/presets` would say, no more and no less."""
    rows = re.findall(r"^\| `([\w-]+)` \| .+? \|(?: (.*?) \|)?$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert {name for name, target in rows if not target} == set(METHODS)
    assert {name for name, target in rows if target} == set(PRESETS)
    for name, target in rows:
        if target:
            given = PRESETS[name].target.given()
            assert target == ", ".join(f"`{key}` {value:g}" for key, value in given.items()), name


def test_every_yes_of_the_comparison_has_its_test() -> None:
    """A row that says "yes" of ours links a file and names a test that is in it."""
    table = (ROOT / "README.md").read_text().partition("## Beside other job APIs")[2].partition("\n## ")[0]
    rows = [line.split(" | ") for line in table.splitlines() if line.startswith("| ") and "---" not in line][1:]
    assert len(rows) >= 30
    for row in rows:
        linked = re.fullmatch(r'\[yes\]\((tests/\S+\.py) "(test_\w+)"\)', row[1])
        assert linked is not None, row
        assert f"def {linked[2]}(" in (ROOT / linked[1]).read_text(), row


def test_quickstart_lists_every_route(tmp_path: Path) -> None:
    """Method and path, as OpenAPI has them."""
    schema = create_app(Settings(data_dir=tmp_path)).openapi()
    served = {f"{verb.upper()} {path}" for path, verbs in schema["paths"].items() for verb in verbs}
    page = (ROOT / "docs/quickstart.md").read_text()
    assert set(re.findall(r"`((?:GET|POST|PUT|DELETE|PATCH) /\S+)`", page)) - {"GET /openapi.json"} == served


def test_every_page_that_a_document_or_the_code_names_exists() -> None:
    """Links between pages, and `docs/...` in a docstring, a comment or a recipe."""
    for page in documents():
        for link in re.findall(r'\]\(([^)#:\s]+)(?: "[^"]*")?\)', page.read_text()):
            assert (page.parent / link).exists(), f"{page.relative_to(ROOT)} links to {link}"
    for file in tracked("*.py", "*.toml", "*.yml", "*.Dockerfile"):
        for name in re.findall(r"\bdocs/[\w/-]+\.md\b", file.read_text()):
            assert (ROOT / name).exists(), f"{file.relative_to(ROOT)} names {name}"
        for number in re.findall(r"\bdocs/decisions/(\d{4})", file.read_text()):
            assert list((ROOT / "docs/decisions").glob(f"{number}-*.md")), f"{file.relative_to(ROOT)}: {number}"
