"""Runs a script in a process where only the standard library and a given set of packages can be imported.

    python -I gate.py ORDER.json OUT.npz

ORDER holds `script`, `modules` (top-level names that may be imported), `distributions` (those that importlib.metadata
may see) and whatever the script reads. Standard library only; imports nothing of this project, and so neither can the
script. A package that is not allowed looks absent, as it would where it is not installed: `find_spec` gives None.
"""

import json
import runpy
import sys
from collections.abc import Iterable, Sequence
from importlib.metadata import Distribution, DistributionFinder
from pathlib import Path
from typing import Any


class Gate:
    """A meta path finder that lets through the standard library and what is allowed."""

    def __init__(self, finder: Any, modules: set[str], distributions: set[str]) -> None:
        self.finder, self.modules, self.distributions = finder, modules, distributions

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: Any = None) -> Any:
        return self.finder.find_spec(name, path, target) if self.allows(name) else None

    def allows(self, name: str) -> bool:
        # The interpreter's own build data are a module that is named after the platform.
        return name.partition(".")[0] in self.modules or name.startswith("_sysconfigdata_")

    def find_distributions(self, context: DistributionFinder.Context | None = None) -> Iterable[Distribution]:
        find = getattr(self.finder, "find_distributions", None)
        found = () if find is None else find(context or DistributionFinder.Context())
        return [one for one in found if one.name.lower().replace("_", "-").replace(".", "-") in self.distributions]

    def invalidate_caches(self) -> None:
        getattr(self.finder, "invalidate_caches", lambda: None)()


def close(modules: set[str], distributions: set[str]) -> None:
    """Put a gate before every finder, and forget what start-up hooks of site-packages have imported already."""
    allowed = modules | sys.stdlib_module_names | {"__main__"}
    for name in [name for name in sys.modules if name.partition(".")[0] not in allowed]:
        del sys.modules[name]
    sys.meta_path[:] = [Gate(finder, allowed, distributions) for finder in sys.meta_path]
    sys.path_importer_cache.clear()


if __name__ == "__main__":
    order = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    close(set(order["modules"]), set(order["distributions"]))
    runpy.run_path(order["script"], run_name="__main__")
