"""Several streams into one, `merge`, and one stream to several readers, `tee`. Lesson 4.

Both need tasks, since two things are waited for at once. Each source is read and closed by one task of its
own, from its first item to its last: scopes and context variables inside it need that. The tasks belong to
the object that started them, and none is left when it is closed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Sequence
from typing import Any, Generic, TypeVar

from anyio import CancelScope

from .closing import Chain, close, closing

__all__ = ["Tee", "merge", "tee"]

T = TypeVar("T")

_END: Any = object()


def merge(*streams: AsyncIterable[T]) -> Chain[T]:
    """The items of all `streams` as they come, in one stream: ``pipe(merge(left, right), counted)``.

    Each stream keeps its own order. Of each at most one item is read ahead. It ends when all have ended; an
    error of one comes after the items that came before it, and closes the others.
    """
    return Chain(_merged(streams), *streams)


async def _merged(streams: tuple[AsyncIterable[T], ...]) -> AsyncIterator[T]:
    # What arrives: an item with the event that lets its stream go on, or a pump that is done.
    arrived: asyncio.Queue[tuple[T, asyncio.Event] | asyncio.Task[None]] = asyncio.Queue()

    async def pump(stream: AsyncIterable[T]) -> None:
        taken = asyncio.Event()
        async with closing(stream) as items:
            async for item in items:
                arrived.put_nowait((item, taken))
                await taken.wait()
                taken.clear()

    pumps = [asyncio.create_task(pump(stream)) for stream in streams]
    for task in pumps:
        task.add_done_callback(arrived.put_nowait)
    try:
        running = len(pumps)
        while running:
            news = await arrived.get()
            if isinstance(news, asyncio.Task):
                news.result()  # raises what its stream raised
                running -= 1
            else:
                item, taken = news
                taken.set()
                yield item
    finally:
        await _cancel(pumps)


def tee(stream: AsyncIterable[T], n: int = 2, *, max_lag: int = 64) -> Tee[T]:
    """One stream for `n` readers, each of which gets every item: ``async with tee(source) as (screen, log)``.

    Read each branch in a task of its own. The fastest may be `max_lag` items ahead of the slowest, no more:
    then it waits, so that memory stays bounded. A branch that nobody reads holds the others up for ever; once
    it is closed, ``await branch.aclose()``, it no longer counts.

    The source is asked for an item only when a reader waits for it. It is closed with the last branch, or
    when the block is left. Its error reaches every branch, after the items before it.
    """
    if n < 1 or max_lag < 1:
        raise ValueError(f"tee(stream, n, max_lag) needs both from 1 up, got n={n!r}, max_lag={max_lag!r}")
    return Tee(stream, n, max_lag)


class Tee(Generic[T]):
    """What `tee` returns: an async context manager that gives the branches and closes everything."""

    def __init__(self, stream: AsyncIterable[T], n: int, max_lag: int) -> None:
        self._stream = stream
        self._max_lag = max_lag
        self._branches = tuple(Branch(self) for _ in range(n))
        self._may_pull = asyncio.Event()
        self._pump: asyncio.Task[None] | None = None

    async def __aenter__(self) -> tuple[Branch[T], ...]:
        self._pump = asyncio.create_task(self._pull())
        self._pump.add_done_callback(lambda _: self._wake())
        return self._branches

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the branches and the source."""
        for branch in self._branches:
            branch.closed = True
        self._wake()
        try:
            if self._pump is not None:
                await _cancel([self._pump])
        finally:
            await close(self._stream)  # a pump that was cancelled before it began has closed nothing

    async def _pull(self) -> None:
        async with closing(self._stream) as items:
            while True:
                await self._may_pull.wait()
                item = await anext(items, _END)
                if item is _END:
                    return
                for branch in self._branches:
                    if not branch.closed:
                        branch.waiting.append(item)
                self._wake()
                self.update()

    def _wake(self) -> None:
        for branch in self._branches:
            branch.news.set()

    def update(self) -> None:
        """A branch took an item, wants one or was closed: may the next be pulled?"""
        wanted = any(branch.hungry and not branch.waiting for branch in self._branches)
        if wanted and all(len(branch.waiting) < self._max_lag for branch in self._branches):
            self._may_pull.set()
        else:
            self._may_pull.clear()

    async def branch_closed(self) -> None:
        self.update()
        if all(branch.closed for branch in self._branches):
            await self.aclose()

    def at_end(self) -> bool:
        """Has the source ended? Raises what it raised."""
        if self._pump is None or not self._pump.done():
            return False
        self._pump.result()
        return True


class Branch(AsyncIterator[T]):
    """One reader's side of a `tee`."""

    def __init__(self, tee: Tee[T]) -> None:
        self._tee = tee
        self.waiting: deque[T] = deque()  # what the source gave and this reader has not taken
        self.hungry = False  # the reader waits for an item
        self.news = asyncio.Event()
        self.closed = False

    async def __anext__(self) -> T:
        while not self.waiting:
            if self.closed or self._tee.at_end():
                raise StopAsyncIteration
            self.news.clear()
            self.hungry = True
            self._tee.update()
            try:
                await self.news.wait()
            finally:
                self.hungry = False
        item = self.waiting.popleft()
        self._tee.update()
        return item

    async def aclose(self) -> None:
        """Stop reading: the others no longer wait for this branch. The last to close closes the source."""
        if not self.closed:
            self.closed = True
            self.hungry = False
            self.waiting.clear()  # a closed branch holds nobody up
            self.news.set()
            await self._tee.branch_closed()


async def _cancel(tasks: Sequence[asyncio.Task[None]]) -> None:
    """End the tasks and wait until they have closed what they read."""
    for task in tasks:
        task.cancel()
    if tasks:
        with CancelScope(shield=True):
            await asyncio.wait(tasks)
