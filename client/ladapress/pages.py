"""Lists: a page as the service gives it, which goes on to the next ones when it is walked.

for job in client.jobs.list(status="failed"): ...
async for job in client.jobs.list(status="failed"): ...          # AsyncClient
client.jobs.list(limit=5).data                                   # one page
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import wraps
from typing import Any, Concatenate, Generic, TypedDict, TypeVar, overload

from pydantic import BaseModel

from ladapress.modes import Async, Mode, Moded, P, Sync, operation, stream
from ladapress.transport import Transport, given, parsed, rfc3339

Row = TypeVar("Row")


class Envelope(BaseModel):
    """What every list looks like."""

    data: list[Any]
    has_more: bool = False
    first_id: str | None = None
    last_id: str | None = None


class Window(TypedDict, total=False):
    """What every list takes: rows made from `created_after` on and before `created_before`; `limit` a page, 20 where it
    is not given; from the page after or just before a row's id on."""

    created_after: datetime | str | None
    created_before: datetime | str | None
    limit: int
    after: str | None
    before: str | None


@dataclass
class Asked(Generic[Row]):
    """A list as it is asked for: the path, what a row becomes, and the query."""

    path: str
    row: Callable[[Any], Row]
    query: dict[str, Any]


class Page(Moded[Mode], Generic[Mode, Row]):
    """Some rows, newest first; walked, it asks for the pages after it.

    `data`, `has_more`, `first_id` and `last_id` are of this page; `answer` is the page as the service sent it.
    """

    def __init__(self, transport: Transport, asked: Asked[Row], answer: Mapping[str, Any]) -> None:
        self._transport, self._asked, self.answer = transport, asked, answer
        envelope = parsed(Envelope, answer, f"GET {asked.path}")
        self.data: list[Row] = [asked.row(row) for row in envelope.data]
        self.has_more, self.first_id, self.last_id = envelope.has_more, envelope.first_id, envelope.last_id

    @operation
    async def next(self) -> Page[Mode, Row] | None:
        """The page after this one; None where this is the last. From `before` on, it is the one with newer rows."""
        back = "before" in self._asked.query
        edge = self.first_id if back else self.last_id
        if not (self.has_more and self.data and edge):
            return None
        query = {**self._asked.query, "before" if back else "after": edge}
        return await fetch(self._transport, Asked(self._asked.path, self._asked.row, query))

    @stream
    async def _walk(self) -> AsyncIterator[Row]:
        page: Page[Mode, Row] | None = self
        while page is not None:
            for row in page.data:
                yield row
            page = await Page.next(page)

    def __iter__(self: Page[Sync, Row]) -> Iterator[Row]:
        return self._walk()

    def __aiter__(self: Page[Async, Row]) -> AsyncIterator[Row]:
        return self._walk()


class AsyncList(Generic[Row]):
    """A list that is still to be asked for: `await` it for one page, or walk it with `async for`."""

    def __init__(self, transport: Transport, asked: Asked[Row]) -> None:
        self._transport, self._asked = transport, asked

    def __await__(self) -> Generator[Any, None, Page[Async, Row]]:
        return self._page().__await__()

    async def _page(self) -> Page[Async, Row]:
        return await fetch(self._transport, self._asked)

    async def __aiter__(self) -> AsyncIterator[Row]:
        async for row in await self:
            yield row


async def fetch(transport: Transport, asked: Asked[Row]) -> Page[Any, Row]:
    """One page."""
    return Page(transport, asked, await transport.json("GET", asked.path, params=asked.query))


class listing(Generic[P, Row]):  # noqa: N801  # a decorator
    """A method of a `Moded` class that says how a list is `Asked` for: a call of the client that gives it."""

    def __init__(self, body: Callable[Concatenate[Any, P], Asked[Row]]) -> None:
        self.body = body
        self.__doc__ = body.__doc__

    @overload
    def __get__(self, of: None, owner: type) -> Callable[Concatenate[Any, P], Asked[Row]]: ...
    @overload
    def __get__(self, of: Moded[Sync], owner: type) -> Callable[P, Page[Sync, Row]]: ...
    @overload
    def __get__(self, of: Moded[Async], owner: type) -> Callable[P, AsyncList[Row]]: ...
    def __get__(self, of: Moded[Any] | None, owner: type) -> Any:
        if of is None:
            return self.body
        method = self.body.__get__(of)
        transport = of._transport

        @wraps(method)
        def call(*args: P.args, **options: P.kwargs) -> Any:
            asked = method(*args, **options)
            return AsyncList(transport, asked) if transport.port.waits else transport.port.run(fetch(transport, asked))

        return call


def query(window: Window, *, metadata: Mapping[str, str] | None = None, **filters: Any) -> dict[str, Any]:
    """Filters as they stand in an address: times in RFC 3339, `metadata[key]=value` each; None is left out."""
    if unknown := sorted(window.keys() - Window.__annotations__.keys()):
        raise TypeError(f"a list takes no {', '.join(unknown)}")
    told = {name: _told(value) for name, value in given({**filters, "limit": 20, **window}).items()}
    return told | {f"metadata[{key}]": value for key, value in (metadata or {}).items()}


def _told(value: Any) -> Any:
    return rfc3339(value) if isinstance(value, datetime) else value
