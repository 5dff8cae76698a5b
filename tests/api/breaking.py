"""What of a new OpenAPI document would break a caller of an old one.

A caller sends requests that were legal and reads answers that were promised: an operation, a parameter or a field that
goes, a request field that becomes needed or takes less, an answer field that is no longer promised or may be more than
it was. New operations, optional request fields and further answer fields break nobody (docs/api.md asks callers to
expect those).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Node = dict[str, Any]
LOWER = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
UPPER = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")


def breaks(old: Node, new: Node) -> list[str]:
    """Each break in a line that says where."""
    return sorted(set(_Comparison(old, new).operations()))


class _Comparison:
    def __init__(self, old: Node, new: Node) -> None:
        self.old, self.new = old, new
        self.seen: set[tuple[str, str, bool]] = set()

    def operations(self) -> Iterator[str]:
        for path, methods in self.old["paths"].items():
            for method, before in methods.items():
                after = self.new["paths"].get(path, {}).get(method)
                where = f"{method.upper()} {path}"
                if after is None:
                    yield f"{where}: gone"
                    continue
                if before["operationId"] != after["operationId"]:
                    yield f"{where}: operationId {before['operationId']} is now {after['operationId']}"
                yield from self.parameters(where, before.get("parameters", []), after.get("parameters", []))
                yield from self.bodies(where, before, after)
                yield from self.answers(where, before["responses"], after["responses"])

    def parameters(self, where: str, before: list[Node], after: list[Node]) -> Iterator[str]:
        known = {(one["in"], one["name"].lower()): one for one in after}
        had = {(one["in"], one["name"].lower()) for one in before}
        for one in before:
            at = f"{where}: {one['in']} {one['name']}"
            now = known.get((one["in"], one["name"].lower()))
            if now is None:
                yield f"{at}: gone"
                continue
            if now.get("required") and not one.get("required"):
                yield f"{at}: is needed now"
            yield from self.schema(at, one["schema"], now["schema"], request=True)
        for key in sorted(set(known) - had):
            if known[key].get("required"):
                yield f"{where}: {key[0]} {key[1]}: is new and needed"

    def bodies(self, where: str, before: Node, after: Node) -> Iterator[str]:
        was, now = before.get("requestBody", {}), after.get("requestBody", {})
        if now.get("required") and not was.get("required"):
            yield f"{where}: a body is needed now"
        for media, content in was.get("content", {}).items():
            if media not in now.get("content", {}):
                yield f"{where}: body {media}: gone"
            else:
                taken = now["content"][media]
                yield from self.schema(f"{where}: body", content.get("schema", {}), taken["schema"], request=True)

    def answers(self, where: str, before: Node, after: Node) -> Iterator[str]:
        for status, answer in before.items():
            if not status.startswith("2"):
                continue
            if status not in after:
                yield f"{where}: {status}: gone"
                continue
            for media, content in answer.get("content", {}).items():
                given = after[status].get("content", {}).get(media)
                if given is None:
                    yield f"{where}: {status} {media}: gone"
                else:
                    at = f"{where}: {status}"
                    yield from self.schema(at, content.get("schema", {}), given.get("schema", {}), request=False)

    def schema(self, where: str, old: Node, new: Node, *, request: bool) -> Iterator[str]:
        """Requests may widen, answers may narrow."""
        key = (str(old.get("$ref", id(old))), str(new.get("$ref", id(new))), request)
        if key in self.seen:
            return
        self.seen.add(key)
        was, now = self.variants(self.old, old), self.variants(self.new, new)
        taken = was if request else now
        holding = now if request else was
        for kind in sorted(set(taken) - set(holding)):
            added = not request and _tag(now[kind])  # a method: docs/api.md says that there may be new ones
            if "any" not in holding and not added:
                yield f"{where}: {kind} is {'no longer taken' if request else 'new'}"
        for kind in set(was) & set(now):
            yield from self.same_kind(where, was[kind], now[kind], request=request)

    def variants(self, document: Node, node: Node) -> dict[str, Node]:
        """The options of a schema by kind: its JSON type, its constant, or the name of what it refers to."""
        if "$ref" in node:
            name = node["$ref"].rpartition("/")[2]
            return self.variants(document, document["components"]["schemas"][name])
        if options := node.get("anyOf", node.get("oneOf")):
            found: dict[str, Node] = {}
            for option in options:
                for kind, one in self.variants(document, option).items():
                    tag = _tag(one)
                    found[f"{kind} {tag}" if tag else kind] = one
            return found
        kinds = node.get("type", "any")
        return dict.fromkeys(kinds if isinstance(kinds, list) else [kinds], node)

    def same_kind(self, where: str, old: Node, new: Node, *, request: bool) -> Iterator[str]:
        yield from _enumerations(where, _values(old), _values(new), request=request)
        if request:
            yield from _limits(where, old, new)
        if "items" in old and "items" in new:
            yield from self.schema(f"{where}[]", old["items"], new["items"], request=request)
        needed, promised = set(new.get("required", [])), set(old.get("required", []))
        for name, one in old.get("properties", {}).items():
            at = f"{where}.{name}"
            if name not in new.get("properties", {}):
                yield f"{at}: gone"
                continue
            if request and name in needed - promised:
                yield f"{at}: is needed now"
            if not request and name in promised - needed:
                yield f"{at}: is no longer promised"
            yield from self.schema(at, one, new["properties"][name], request=request)
        if request:
            for name in sorted(needed - set(old.get("properties", {}))):
                yield f"{where}.{name}: is new and needed"


def _tag(node: Node) -> str:
    """The method of a step of a recipe; nothing of another schema."""
    return str(node.get("properties", {}).get("method", {}).get("const", ""))


def _enumerations(where: str, was: set[str] | None, now: set[str] | None, *, request: bool) -> Iterator[str]:
    if request and now is not None and was is None:
        yield f"{where}: takes {sorted(now)} only"
    if request and now is not None and was is not None and was - now:
        yield f"{where}: no longer takes {sorted(was - now)}"
    if not request and was is not None and now is None:
        yield f"{where}: may be anything"
    if not request and was is not None and now is not None and now - was:
        yield f"{where}: may be {sorted(now - was)}"


def _limits(where: str, old: Node, new: Node) -> Iterator[str]:
    for name in (*LOWER, *UPPER):
        if name in new and (name not in old or (new[name] > old[name] if name in LOWER else new[name] < old[name])):
            yield f"{where}: {name} is now {new[name]}"


def _values(node: Node) -> set[str] | None:
    """What a schema enumerates, or None where it does not."""
    if "const" in node:
        return {repr(node["const"])}
    return {repr(value) for value in node["enum"]} if "enum" in node else None
