"""The list of methods, found by walking the family folders. A file that breaks the contract is an error, not a gap.

Feeds validation, OpenAPI, `GET /v1/methods`, the docs and the tests that run over every method.
"""

from __future__ import annotations

import importlib
import pkgutil

from core.method import Method

FAMILIES = ("structure", "factorize", "prune", "quantize", "distill")


def discover() -> dict[str, type[Method]]:
    """Public name -> class of every mechanism file, in family order, then by name."""
    found: dict[str, type[Method]] = {}
    for family in FAMILIES:
        package = importlib.import_module(f"core.{family}")
        for info in sorted(pkgutil.iter_modules(package.__path__), key=lambda info: info.name):
            module = importlib.import_module(f"core.{family}.{info.name}")
            own = [
                member
                for member in vars(module).values()
                if isinstance(member, type) and issubclass(member, Method) and member.__module__ == module.__name__
            ]
            method = own[0] if len(own) == 1 else None
            if method is None or method.name() != info.name or info.name in found:
                raise TypeError(f"{module.__name__} must define exactly one method, named {info.name!r}")
            if not method.card():
                raise TypeError(f"{module.__name__} has no docstring, so it has no card")
            found[info.name] = method
    return found


METHODS = discover()
