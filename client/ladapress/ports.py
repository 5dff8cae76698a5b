"""The two ways in which the client touches the world: `Blocking` in the caller's thread, `Waiting` on an event loop.

Both have the same methods, all of them `async`; those of `Blocking` return without ever waiting for a loop.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol, TypeVar

import anyio
import anyio.to_thread
import httpx2

from ladapress.modes import drive, drive_each

T = TypeVar("T")


class Port(Protocol):
    """What `Transport` needs of the world."""

    waits: bool  # whether calls are awaited

    def request(self, method: str, path: str, *, body: AsyncIterator[bytes] | None, **options: Any) -> httpx2.Request:
        """Make a request; `body` is read while it is sent."""

    async def send(self, request: httpx2.Request, *, follow_redirects: bool) -> httpx2.Response:
        """The head of the answer; its body is still to come."""

    async def read(self, response: httpx2.Response) -> None:
        """Read the whole body."""

    async def close(self, response: httpx2.Response) -> None:
        """Leave the rest of a body unread."""

    def chunks(self, response: httpx2.Response) -> AsyncGenerator[bytes, None]:
        """The body as it comes."""

    def messages(self, response: httpx2.Response) -> AsyncGenerator[httpx2.ServerSentEvent, None]:
        """The body as server-sent events."""

    async def sleep(self, seconds: float) -> None:
        """Do nothing for a while."""

    async def work(self, function: Callable[..., T], *args: Any) -> T:
        """Call a function that keeps disk or processor busy."""

    def shield(self) -> AbstractContextManager[Any]:
        """What is awaited inside is done although the caller was cancelled: clearing up."""

    async def shut(self) -> None:
        """Give the sockets back."""

    def run(self, coroutine: Coroutine[Any, Any, T]) -> Any:
        """A coroutine as the caller wants it: its result, or itself."""

    def iterate(self, source: AsyncIterator[T]) -> Any:
        """A generator as the caller wants it."""


class Blocking:
    """The caller's thread."""

    waits = False

    def __init__(self, handler: httpx2.BaseTransport | None = None, **options: Any) -> None:
        self._http = httpx2.Client(transport=handler, **options)

    def request(self, method: str, path: str, *, body: AsyncIterator[bytes] | None, **options: Any) -> httpx2.Request:
        content = None if body is None else drive_each(body)
        return self._http.build_request(method, path, content=content, **options)

    async def send(self, request: httpx2.Request, *, follow_redirects: bool) -> httpx2.Response:
        return self._http.send(request, stream=True, follow_redirects=follow_redirects)

    async def read(self, response: httpx2.Response) -> None:
        response.read()

    async def close(self, response: httpx2.Response) -> None:
        response.close()

    async def chunks(self, response: httpx2.Response) -> AsyncGenerator[bytes, None]:
        for chunk in response.iter_bytes():
            yield chunk

    async def messages(self, response: httpx2.Response) -> AsyncGenerator[httpx2.ServerSentEvent, None]:
        for message in httpx2.EventSource(response):
            yield message

    async def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    async def work(self, function: Callable[..., T], *args: Any) -> T:
        return function(*args)

    def shield(self) -> AbstractContextManager[Any]:
        return nullcontext()

    async def shut(self) -> None:
        self._http.close()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return drive(coroutine)

    def iterate(self, source: AsyncIterator[T]) -> Iterator[T]:
        return drive_each(source)


class Waiting:
    """An event loop, asyncio's or trio's; files are read and hashed in threads beside it."""

    waits = True

    def __init__(self, handler: httpx2.AsyncBaseTransport | None = None, **options: Any) -> None:
        self._http = httpx2.AsyncClient(transport=handler, **options)

    def request(self, method: str, path: str, *, body: AsyncIterator[bytes] | None, **options: Any) -> httpx2.Request:
        return self._http.build_request(method, path, content=body, **options)

    async def send(self, request: httpx2.Request, *, follow_redirects: bool) -> httpx2.Response:
        return await self._http.send(request, stream=True, follow_redirects=follow_redirects)

    async def read(self, response: httpx2.Response) -> None:
        await response.aread()

    async def close(self, response: httpx2.Response) -> None:
        await response.aclose()

    async def chunks(self, response: httpx2.Response) -> AsyncGenerator[bytes, None]:
        async for chunk in response.aiter_bytes():
            yield chunk

    async def messages(self, response: httpx2.Response) -> AsyncGenerator[httpx2.ServerSentEvent, None]:
        async for message in httpx2.EventSource(response):
            yield message

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(seconds)

    async def work(self, function: Callable[..., T], *args: Any) -> T:
        return await anyio.to_thread.run_sync(function, *args)

    def shield(self) -> AbstractContextManager[Any]:
        return anyio.CancelScope(shield=True)

    async def shut(self) -> None:
        await self._http.aclose()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> Coroutine[Any, Any, T]:
        return coroutine

    def iterate(self, source: AsyncIterator[T]) -> AsyncIterator[T]:
        return source
