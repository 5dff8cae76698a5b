"""What a distribution needs to run, by its own metadata: the only things that a checking process may import."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from pathlib import PurePosixPath

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ONNX = ("onnxruntime", "numpy", "tokenizers")
TORCH = ("torch", "transformers", "safetensors")


@dataclass(frozen=True)
class Closure:
    """Distributions as `name==version`, sorted, and the top-level modules that they install."""

    distributions: tuple[str, ...]
    modules: frozenset[str]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(entry.partition("==")[0] for entry in self.distributions)


@lru_cache
def closure(roots: tuple[str, ...]) -> Closure:
    """`roots` and everything that they require here, extras only where a requirement names them.

    A requirement that is not installed is left out, as its importer will find it missing.

    Raises:
        importlib.metadata.PackageNotFoundError: a root is not installed.
    """
    versions: dict[str, str] = {}
    modules: set[str] = set()
    seen: set[tuple[str, str]] = set()
    waiting = [(canonicalize_name(root), "") for root in roots]
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        try:
            found = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            if name in roots:
                raise
            continue
        if name not in versions:
            versions[name] = found.version
            modules |= _modules(found)
        for line in found.requires or ():
            need = Requirement(line)
            if need.marker is None or need.marker.evaluate({"extra": extra}):
                waiting += [(canonicalize_name(need.name), wanted) for wanted in ("", *need.extras)]
    return Closure(tuple(f"{name}=={versions[name]}" for name in sorted(versions)), frozenset(modules))


def _modules(found: metadata.Distribution) -> set[str]:
    """Top-level names by the list of installed files; `packages_distributions` misses lone extension modules."""
    modules = set()
    for file in found.files or ():
        first, *rest = PurePosixPath(file).parts
        name = first if rest else inspect.getmodulename(first)
        if name and name.isidentifier() and name != "__pycache__":
            modules.add(name)
    return modules
