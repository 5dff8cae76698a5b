"""One body for two clients: every operation is written once, as a coroutine.

`Client` runs it to its end in the caller's thread, over a port whose awaits never wait (`ports.Blocking`);
`AsyncClient` hands it to the caller's event loop. The descriptors below give either form its type, so that
`client.jobs.get("job_1")` is a job here and something to await there (docs/decisions/0019). On the class an operation
is the coroutine function itself, which is how one calls another.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Generator, Iterator
from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, overload

if TYPE_CHECKING:
    from ladapress.transport import Transport

P = ParamSpec("P")
T = TypeVar("T")


class Sync:
    """Of `Client`: operations return their result."""


class Async:
    """Of `AsyncClient`: operations are awaited."""


Mode = TypeVar("Mode")
"""`Sync` or `Async`."""


class Moded(Generic[Mode]):
    """What belongs to one of the clients: its resources, and what they hand out."""

    _transport: Transport


class operation(Generic[P, T]):  # noqa: N801  # a decorator
    """An `async def` of a `Moded` class: a call of the client."""

    def __init__(self, body: Callable[Concatenate[Any, P], Coroutine[Any, Any, T]]) -> None:
        self.body = body
        self.__doc__ = body.__doc__

    @overload
    def __get__(self, of: None, owner: type) -> Callable[Concatenate[Any, P], Coroutine[Any, Any, T]]: ...
    @overload
    def __get__(self, of: Moded[Sync], owner: type) -> Callable[P, T]: ...
    @overload
    def __get__(self, of: Moded[Async], owner: type) -> Callable[P, Coroutine[Any, Any, T]]: ...
    def __get__(self, of: Moded[Any] | None, owner: type) -> Any:
        return self.body if of is None else _bound(of, self.body, of._transport.port.run)


class stream(Generic[P, T]):  # noqa: N801  # a decorator
    """An `async def` with `yield` of a `Moded` class: a call of the client that gives one thing after another."""

    def __init__(self, body: Callable[Concatenate[Any, P], AsyncIterator[T]]) -> None:
        self.body = body
        self.__doc__ = body.__doc__

    @overload
    def __get__(self, of: None, owner: type) -> Callable[Concatenate[Any, P], AsyncIterator[T]]: ...
    @overload
    def __get__(self, of: Moded[Sync], owner: type) -> Callable[P, Iterator[T]]: ...
    @overload
    def __get__(self, of: Moded[Async], owner: type) -> Callable[P, AsyncIterator[T]]: ...
    def __get__(self, of: Moded[Any] | None, owner: type) -> Any:
        return self.body if of is None else _bound(of, self.body, of._transport.port.iterate)


def _bound(of: Moded[Any], body: Callable[..., Any], run: Callable[[Any], Any]) -> Callable[..., Any]:
    method = body.__get__(of)

    @wraps(method)
    def call(*args: Any, **options: Any) -> Any:
        return run(method(*args, **options))

    return call


def drive(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that never waits for a loop."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    coroutine.close()
    raise RuntimeError("a coroutine of the synchronous client waits for an event loop")


def drive_each(source: AsyncIterator[T]) -> Generator[T, None, None]:
    """What an asynchronous generator yields that never waits for a loop; left early, it is closed at once."""
    assert isinstance(source, AsyncGenerator)  # noqa: S101  # every stream is one
    try:
        while True:
            try:
                item = drive(source.__anext__())
            except StopAsyncIteration:
                return
            yield item
    finally:
        drive(source.aclose())
