"""Query parameters that every list has, and the strictness that every route has: an unknown one is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Depends, Path, Query, Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from api.schemas import Time
from jobs import requests
from jobs.problem import refuse

Limit = Annotated[int, Query(ge=1, le=100, description="Rows of one page.")]
After = Annotated[str | None, Query(max_length=64, description="Id of the last row of the page before.")]
Before = Annotated[str | None, Query(max_length=64, description="Id of a row: the page of newer ones just before it.")]
Since = Annotated[Time | None, Query(description="Only rows made at this time or later (RFC 3339).")]
Until = Annotated[Time | None, Query(description="Only rows made before this time (RFC 3339).")]
Id = Annotated[str, Path(max_length=64)]


def window(
    limit: Limit = 20,
    after: After = None,
    before: Before = None,
    created_after: Since = None,
    created_before: Until = None,
) -> dict[str, Any]:
    """The arguments of `jobs.scope.page` that every list takes. Raises Refused (request_invalid)."""
    if after is not None and before is not None:
        raise refuse("request_invalid", "query.before: give either after or before, not both", param="query.before")
    return {
        "limit": limit,
        "after": after,
        "before": before,
        "created_after": created_after and created_after.timestamp(),
        "created_before": created_before and created_before.timestamp(),
    }


Window = Annotated[dict[str, Any], Depends(window)]


_known: dict[Callable[..., Any], dict[str, bool]] = {}  # by endpoint; a route cannot be a key


async def known_parameters(request: Request) -> None:
    """Refuse a query parameter that the route does not have: `?statsu=failed` must not list everything.

    Raises:
        Refused: request_invalid.
    """
    route = request.scope.get("route")
    if not request.query_params or not isinstance(route, APIRoute):
        return
    legal = _parameters(route)
    for name in request.query_params:
        if name.partition("[")[0] not in legal or ("[" in name) != legal[name.partition("[")[0]]:
            shown = ", ".join(f"{one}[KEY]" if deep else one for one, deep in sorted(legal.items())) or "none"
            detail = f"query.{name[:80]}: unknown query parameter; legal: {shown}"
            raise refuse("request_invalid", detail, param=f"query.{name[:80]}")


def _parameters(route: APIRoute) -> dict[str, bool]:
    """The query parameters of a route -> whether it is a map, `name[KEY]=value`."""
    if route.endpoint not in _known:
        plain = dict.fromkeys(_queries(route.dependant), False)
        extra = (route.openapi_extra or {}).get("parameters", [])
        deep = {one["name"]: one.get("style") == "deepObject" for one in extra if one["in"] == "query"}
        _known[route.endpoint] = plain | deep
    return _known[route.endpoint]


def _queries(dependant: Dependant) -> set[str]:
    inner = (_queries(one) for one in dependant.dependencies)
    return {field.alias for field in dependant.query_params}.union(*inner)


def storable(text: str, param: str) -> str:
    """A text to compare rows with. Raises Refused (request_invalid) where no row can hold it."""
    try:
        return requests.storable(text)
    except ValueError as error:
        raise refuse("request_invalid", f"{param}: {error}", param=param) from None
