"""What images are made of: every file by its hash, every licence known, every known vulnerability named."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
LOCKS = sorted((ROOT / "docker" / "requirements").glob("*.txt"))


def script(name: str) -> ModuleType:
    """A module of docker/, which is no package."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "docker" / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


audit, licences = script("audit"), script("licences")


def pins(text: str) -> dict[str, str]:
    return dict(re.findall(r"^([A-Za-z0-9._-]+)==([^\s;]+)", text, re.MULTILINE))


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_a_lock_names_files_by_hash_in_the_versions_that_were_tested(lock: Path) -> None:
    text = lock.read_text()
    for block in re.split(r"\n(?=\S)", text.strip()):
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", block), block
    tested = pins((ROOT / "constraints.txt").read_text())
    differing = {name: version for name, version in pins(text).items() if tested.get(name, version) != version}
    assert not differing


def needed(name: str, extras: frozenset[str], seen: set[tuple[str, frozenset[str]]]) -> Iterator[str]:
    """A package and all that it asks for on this machine."""
    if (name, extras) in seen:
        return
    seen.add((name, extras))
    yield name
    try:
        asked = requires(name) or []
    except PackageNotFoundError:
        return  # another platform's
    for line in asked:
        one = Requirement(line)
        if one.marker is None or any(one.marker.evaluate({"extra": extra}) for extra in (*extras, "")):
            yield from needed(canonicalize_name(one.name), frozenset(one.extras), seen)


@pytest.mark.parametrize(("image", "extras"), [("api", ()), ("worker", ("worker", "openvino"))])
def test_a_lock_leaves_nothing_out_that_its_image_needs(image: str, extras: tuple[str, ...]) -> None:
    listed = {canonicalize_name(each.name) for lock in (image, "torch") for each in licences.requirements(lock)}
    wanted = {canonicalize_name(name) for name in needed("ladapress-server", frozenset(extras), set())}
    assert len(wanted) > 60
    assert wanted - listed == {"ladapress", "ladapress-server"}


def test_an_image_holds_what_install_sh_puts_there_and_nothing_else() -> None:
    for dockerfile in (ROOT / "docker").glob("*.Dockerfile"):
        assert re.findall(r"\bpip\b.*", dockerfile.read_text()) == []
        assert f"docker/install.sh /opt/ladapress {dockerfile.stem}" in dockerfile.read_text()


def test_every_licence_is_known_and_lets_us_ship() -> None:
    """None is unknown, none is the GPL or AGPL; libraries under the LGPL and MPL are used as they are."""
    for name in licences.packages():
        declared = licences.licence(name)
        assert declared, name
        assert not re.search(r"\b(A?GPL)", declared), (name, declared)


def test_the_page_of_licences_is_current(capsys: pytest.CaptureFixture[str]) -> None:
    """`python docker/licences.py > docs/third-party.md`"""
    licences.main()
    assert capsys.readouterr().out == (ROOT / "docs" / "third-party.md").read_text()


BAD = {"name": "x", "version": "1", "vulns": [{"id": "PYSEC-1", "aliases": ["CVE-9"], "fix_versions": ["2"]}]}
GOOD = {"name": "y", "version": "1", "vulns": []}
UNKNOWN = {"name": "z", "skip_reason": "not found"}


def test_a_vulnerability_fails_until_it_is_accepted_and_after_that_again() -> None:
    """By its id or an alias; for a reason, and to a day."""
    assert audit.verdict([GOOD, BAD], set())[1]
    assert "x 1: PYSEC-1, mended in ['2']" in audit.verdict([GOOD, BAD], set())[0]
    for accepted in ("PYSEC-1", "CVE-9"):
        assert not audit.verdict([GOOD, BAD], {accepted})[1]
    table = "[[accepted]]\nid = 'CVE-9'\nwhy = '{}'\nuntil = {}-01-01"
    for why, year, holds in (("no such call", 2999, True), ("no such call", 2020, False), ("", 2999, False)):
        held = audit.exceptions(audit.tomllib.loads(table.format(why, year)))
        assert (held == {"CVE-9"}) == holds


def test_what_could_not_be_looked_at_is_said_and_fails_nothing() -> None:
    lines, failed = audit.verdict([GOOD, UNKNOWN], set())
    assert not failed
    assert "NOT AUDITED: 1 of 2 packages" in "\n".join(lines)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_the_api_image_is_whole_without_torch_and_says_what_it_holds(tmp_path: Path) -> None:
    """The very script that the image runs."""
    prefix = tmp_path / "env"
    subprocess.run(["sh", "docker/install.sh", str(prefix), "api"], cwd=ROOT, check=True, timeout=500)
    code = "import api.app, sys; print(sorted({'torch', 'numpy', 'pip', 'uv'} & sys.modules.keys()))"
    done = subprocess.run(
        [prefix / "bin" / "python", "-I", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
    listed = {one["name"]: one["version"] for one in json.loads((prefix / "sbom.cdx.json").read_text())["components"]}
    locked = {each.name: next(iter(each.specifier)).version for each in licences.requirements("api")}
    assert listed.items() >= locked.items()
    assert {"ladapress", "ladapress-server"} <= listed.keys()
