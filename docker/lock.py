"""Write `docker/requirements/*.txt`: every file that an image installs, by its sha256. `make constraints` runs it.

Versions are those of constraints.txt, which the tests ran with; what is only in images is added, and kept as long as
it serves. `torch.txt` is apart, for PyPI's torch is the CUDA build: an image for machines without a GPU takes another,
from torch's own index.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parent.parent
LOCKS = ROOT / "docker" / "requirements"
EXTRAS = {"api": (), "worker": ("worker", "openvino")}
BUILD = ("cyclonedx-bom", "editables", "hatchling", "uv")
TORCH = re.compile(r"(torch|triton|nvidia-.*|cuda-.*)==")


def main() -> None:
    """Resolve each image, and what builds them."""
    LOCKS.mkdir(exist_ok=True)
    for image, extras in EXTRAS.items():
        wanted = [part for extra in extras for part in ("--extra", extra)]
        found = _compile([*wanted, "--no-emit-package", "ladapress", "pyproject.toml"], (image, "torch"))
        _write(image, [block for block in found if not TORCH.match(block)])
        if extras:
            _write("torch", [block for block in found if TORCH.match(block)])
    _write("build", _compile(["-"], ("build",), "\n".join(BUILD)))


def _compile(arguments: list[str], kept: tuple[str, ...], given: str = "") -> list[str]:
    """One block of text for each package: its version and its hashes. Versions of the locks in `kept` are preferred."""
    command = [str(Path(sys.executable).parent / "uv"), "pip", "compile", "--quiet", "--universal", "--generate-hashes"]
    command += ["--no-header", "--no-annotate", "--python-version", "3.11", "-c", "constraints.txt"]
    with TemporaryDirectory() as folder:
        out = Path(folder, "lock.txt")
        there = [path for path in (LOCKS / f"{name}.txt" for name in kept) if path.exists()]
        out.write_text("".join(path.read_text(encoding="utf-8") for path in there), encoding="utf-8")
        done = subprocess.run(  # noqa: S603 - our own command
            [*command, "-o", str(out), *arguments], cwd=ROOT, input=given, capture_output=True, text=True, check=False
        )
        if done.returncode:
            sys.exit(done.stderr)
        return re.split(r"\n(?=\S)", out.read_text(encoding="utf-8").strip())


def _write(name: str, blocks: list[str]) -> None:
    (LOCKS / f"{name}.txt").write_text("\n".join(blocks) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
