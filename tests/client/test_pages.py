"""Lists that are walked: every row once, in order, whatever the size of a page, with either client."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ladapress import AsyncClient, Client, LadapressError

ROW = {
    "object": "dataset",
    "name": None,
    "format": "csv",
    "size_bytes": 1,
    "sha256": "",
    "created_at": "2026-01-01T00:00:00Z",
    "expires_at": None,
}


class Shelf:
    """Datasets ds_0 (the newest) to ds_N, in pages as the api makes them; `queries` holds what was asked."""

    def __init__(self, count: int) -> None:
        self.ids = [f"ds_{index}" for index in range(count)]
        self.queries: list[dict[str, str]] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        query = dict(request.url.params)
        self.queries.append(query)
        limit = int(query["limit"])
        rows = self.ids
        if after := query.get("after"):
            rows = rows[rows.index(after) + 1 :]
        if before := query.get("before"):
            rows = rows[: rows.index(before)]
            page, more = rows[-limit:], len(rows) > limit
        else:
            page, more = rows[:limit], len(rows) > limit
        told = {"first_id": page[0] if page else None, "last_id": page[-1] if page else None, "has_more": more}
        return httpx2.Response(200, json={"data": [{**ROW, "id": one} for one in page], **told})


def sync(shelf: Shelf, **query: Any) -> list[str]:
    with Client("http://service", handler=httpx2.MockTransport(shelf)) as client:
        return [row.id for row in client.datasets.list(**query)]


def awaited(shelf: Shelf, **query: Any) -> list[str]:
    async def walk() -> list[str]:
        async with AsyncClient("http://service", handler=httpx2.MockTransport(shelf)) as client:
            return [row.id async for row in client.datasets.list(**query)]

    return asyncio.run(walk())


@settings(max_examples=30, deadline=None)
@given(count=st.integers(0, 12), limit=st.integers(1, 5))
def test_a_walk_gives_every_row_once_in_order_in_as_many_pages_as_it_takes(count: int, limit: int) -> None:
    shelf = Shelf(count)
    assert sync(shelf, limit=limit) == shelf.ids
    assert len(shelf.queries) == max(1, -(-count // limit))
    assert awaited(shelf, limit=limit) == shelf.ids


@settings(max_examples=30, deadline=None)
@given(start=st.integers(0, 9), limit=st.integers(1, 5))
def test_a_walk_from_the_middle_goes_towards_either_end(start: int, limit: int) -> None:
    ids = Shelf(10).ids
    assert sync(Shelf(10), limit=limit, after=ids[start]) == ids[start + 1 :]
    assert sorted(sync(Shelf(10), limit=limit, before=ids[start])) == ids[:start]


def test_one_page_is_one_request_and_says_where_it_ends() -> None:
    shelf = Shelf(5)
    with Client("http://service", handler=httpx2.MockTransport(shelf)) as client:
        page = client.datasets.list(limit=2)
        assert ([row.id for row in page.data], page.has_more, page.last_id) == (["ds_0", "ds_1"], True, "ds_1")
        assert len(shelf.queries) == 1
        further = page.next()
        assert further is not None
        assert [row.id for row in further.data] == ["ds_2", "ds_3"]


def test_an_awaited_list_is_one_page() -> None:
    async def ask() -> tuple[list[str], list[str]]:
        async with AsyncClient("http://service", handler=httpx2.MockTransport(Shelf(5))) as client:
            page = await client.datasets.list(limit=2)
            return [row.id for row in page.data], [row.id async for row in page]

    assert asyncio.run(ask()) == (["ds_0", "ds_1"], Shelf(5).ids)


def test_filters_go_with_every_page() -> None:
    """Times in RFC 3339 with their zone, each pair of metadata on its own, and nothing that was not given."""
    queries: list[dict[str, str]] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        queries.append(dict(request.url.params))
        return httpx2.Response(200, json={"data": [], "has_more": False})

    with Client("http://service", handler=httpx2.MockTransport(answer)) as client:
        since = datetime(2026, 11, 28, 10, tzinfo=UTC)
        assert list(client.jobs.list(metadata={"team": "a b", "x": "1"}, created_after=since, status="failed")) == []
    (query,) = queries
    assert query == {
        "status": "failed", "metadata[team]": "a b", "metadata[x]": "1", "created_after": "2026-11-28T10:00:00Z",
        "limit": "20",
    }  # fmt: skip


@pytest.mark.parametrize("answer", [{"rows": []}, [], {"data": [{"id": 3}]}])
def test_a_page_that_is_none_is_one_error(answer: object) -> None:
    handler = httpx2.MockTransport(lambda _: httpx2.Response(200, json=answer))
    with Client("http://service", handler=handler) as client, pytest.raises(LadapressError) as error:
        client.datasets.list()
    assert error.value.code == "protocol"
    assert "/v1/datasets" in str(error.value)
