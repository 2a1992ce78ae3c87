"""Whoever reads a stream closes it: `close`, `closing` and `Chain`. Lessons 3 and 4.

Leaving an ``async for`` loop does not close the async generator behind it. Its ``finally`` runs some
turns of the event loop later and in another task, or when the garbage collector comes by; until then a
connection stays open and a model goes on writing. Everything here closes *before the next statement*.

Two things are done on top of `contextlib.aclosing`:

- any async iterable will do, with or without an ``aclose``: a generator, an SDK's stream, your own class;
- closing is shielded. Inside a cancelled anyio scope every ``await`` is cancelled again, also the ones
  that clean up, and such a scope is what FastAPI and Starlette cancel when a reader leaves.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator
from contextlib import AsyncExitStack
from inspect import isawaitable
from typing import Generic, TypeVar

from anyio import CancelScope, get_available_backends

__all__ = ["Chain", "close", "closing"]

# Loads the part of anyio that the shield needs. Else the first stream that closes would wait for it.
get_available_backends()

T = TypeVar("T")


async def close(stream: object) -> None:
    """Close one stream by its ``aclose()``, else its ``close()``, plain or async. Without either: nothing.

    The shield holds against cancelled anyio scopes. A second `asyncio.Task.cancel` while closing still gets
    through: it is the way out of a clean-up that hangs.
    """
    closer = getattr(stream, "aclose", None) or getattr(stream, "close", None)
    if closer is None:
        return
    with CancelScope(shield=True):
        result = closer()
        if isawaitable(result):
            await result


class closing(Generic[T]):
    """``async with closing(stream) as items``: iterate `items`; `stream` is closed when the block is left.

    >>> async def first(stream):
    ...     async with closing(stream) as items:
    ...         async for item in items:
    ...             return item         # the stream is closed before the caller goes on
    """

    __slots__ = ("_items", "_stream")

    def __init__(self, stream: AsyncIterable[T]) -> None:
        self._stream = stream
        self._items = aiter(stream)

    async def __aenter__(self) -> AsyncIterator[T]:
        return self._items

    async def __aexit__(self, *exc_info: object) -> None:
        # The iterator of an iterable may be a generator of its own: openai's AsyncStream is made that way.
        try:
            await close(self._items)
        finally:
            if self._stream is not self._items:
                await close(self._stream)


class Chain(AsyncIterator[T]):
    """An async iterator that owns what it reads from: it closes `items`, then each of `sources`, in order.

    Use it as ``async with chain as stream: async for item in stream``. Everything is closed when the block
    is left: at the end, by ``break``, by an error, by cancellation, and also when nothing was ever read. That
    last case is why there is an owner: a generator that was never started has no ``finally`` to run, so
    it cannot close its source.

    Without ``async with`` a chain still closes at its end and on an error inside it. After a ``break`` it
    cannot: that is Python's rule for every iterator.

    A source that is cancelled in its *own* ``await`` unwinds by itself, before anybody outside can help.
    Under anyio it has to shield what it awaits in its ``finally``, as httpx2 does.
    """

    __slots__ = ("_entered", "_items", "_sources", "_until_the_end")

    def __init__(self, items: AsyncIterator[T], *sources: object) -> None:
        self._items = items
        self._sources = sources
        self._entered = False
        self._until_the_end: AsyncIterator[T] | None = None

    def __aiter__(self) -> AsyncIterator[T]:
        # Inside `async with` the block closes, so the reader gets `items` itself: no cost per item.
        # Without it a generator watches for the end. It is kept: a second loop continues the first.
        if self._entered:
            return self._items
        if self._until_the_end is None:
            self._until_the_end = _until_the_end(self._items, self._sources)
        return self._until_the_end

    async def __anext__(self) -> T:
        return await anext(aiter(self))

    async def __aenter__(self) -> Chain[T]:
        self._entered = True
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close everything, `items` first. An error while closing one keeps none of the others open."""
        await _close_all(self._items, *self._sources)


async def _until_the_end(items: AsyncIterator[T], sources: tuple[object, ...]) -> AsyncIterator[T]:
    try:
        async for item in items:
            yield item
    finally:
        await _close_all(items, *sources)


async def _close_all(*streams: object) -> None:
    async with AsyncExitStack() as stack:
        for stream in reversed(streams):  # the stack unwinds last in, first out
            stack.push_async_callback(close, stream)
