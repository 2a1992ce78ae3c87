"""Async generators that close what they read, and bridges from code that is not async. Lesson 3.

On the way: `take` the first few, `paced` like a typewriter. Into the async world: `from_queue`,
`from_callback` and `from_thread` make a stream of values that somebody else hands over. Out of it: `collect`
a whole stream, `run` async code from sync code. Nothing here reads an item before somebody asks for it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Coroutine, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from inspect import isawaitable
from typing import Any, Protocol, TypeVar

from anyio import CancelScope

from .closing import Chain, closing

__all__ = ["collect", "collect_text", "from_callback", "from_queue", "from_thread", "paced", "run", "take"]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

_END: Any = object()  # says "no more items" where StopIteration cannot travel


async def take(stream: AsyncIterable[T], n: int) -> AsyncGenerator[T, None]:
    """The first `n` items, then close `stream`; item `n + 1` is never asked for.

    In a pipeline: ``pipe(source, partial(take, n=5))``.
    """
    if n < 0:
        raise ValueError(f"take(stream, n) needs n >= 0, got {n}")
    async with closing(stream) as items:
        left = n
        if left == 0:
            return
        async for item in items:
            yield item
            left -= 1
            if left == 0:
                return


async def paced(stream: AsyncIterable[str], per_second: float = 60.0) -> AsyncGenerator[str, None]:
    """Like a typewriter: the same text, one character at a time, `per_second` of them at most.

    Text that arrives in lumps flows evenly. Each character has its instant on a schedule, start +
    k / per_second: ``sleep(1 / per_second)`` between them would add up every late wake-up. After a pause of
    the source or of the reader the schedule starts again: nothing is typed faster to catch up. The next item
    is asked for when the last one is typed.
    """
    if not per_second > 0:
        raise ValueError(f"paced(stream, per_second) needs a number above 0, got {per_second}")
    clock = asyncio.get_running_loop().time
    due = clock()
    async with closing(stream) as texts:
        async for text in texts:
            for character in text:
                due = max(due, clock())
                await asyncio.sleep(due - clock())
                yield character
                due += 1 / per_second


class _Gives(Protocol[T_co]):
    """What `from_queue` needs of a queue. `asyncio.Queue` has it."""

    async def get(self) -> T_co: ...


async def from_queue(queue: _Gives[T | BaseException | None]) -> AsyncGenerator[T, None]:
    """The items somebody puts into `queue`: ``None`` ends the stream, an exception put there is raised here.

    >>> async def produce(queue):
    ...     try:
    ...         await queue.put("a token")
    ...         await queue.put(None)
    ...     except Exception as error:
    ...         await queue.put(error)

    A bounded queue, ``asyncio.Queue(maxsize=8)``, makes the producer wait for a slow reader.
    """
    while (item := await queue.get()) is not None:
        if isinstance(item, BaseException):
            raise item
        yield item


async def from_callback(
    start: Callable[[Callable[[T], None], Callable[..., None]], Callable[[], object] | None],
    *,
    limit: int = 10_000,
) -> AsyncGenerator[T, None]:
    """The items that code with callbacks pushes.

    When the first item is asked for, ``start(push, done)`` is called. Hand `push` to what calls back with
    one item, and `done` to what calls back at the end, as ``done()`` or ``done(error)``: the error is raised
    here, after the items before it. Both may be called from any thread. `start` may return a function: it is
    called when the stream is closed, to unsubscribe. What is pushed after that is dropped.

    Who calls back cannot be told to wait, so items pile up until they are read. With more than `limit`
    waiting the reader gets those, then `asyncio.QueueFull`.
    """
    loop = asyncio.get_running_loop()
    waiting: deque[T] = deque()  # append, popleft and len are safe between threads
    ended: list[BaseException | None] = []  # empty until it is over, then how it ended comes first
    news = asyncio.Event()

    def wake() -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(news.set)

    def push(item: T) -> None:
        if ended:
            return
        if len(waiting) >= limit:
            done(asyncio.QueueFull(f"{limit} items wait to be read and more arrive: raise the limit"))
        else:
            waiting.append(item)
            wake()

    def done(error: BaseException | None = None) -> None:
        ended.append(error)
        wake()

    stop = start(push, done)
    try:
        while waiting or not ended:
            if waiting:
                yield waiting.popleft()
                continue
            news.clear()  # no news is missed: `set` runs on this loop, so never between these two lines
            await news.wait()
        if ended[0] is not None:
            raise ended[0]
    finally:
        ended.append(None)
        if stop is not None:
            with CancelScope(shield=True):
                result = stop()
                if isawaitable(result):
                    await result


def from_thread(iterable: Iterable[T]) -> Chain[T]:
    """The items of a sync iterable, such as the sync SDK's stream, without blocking the event loop.

    One worker thread takes one item each time somebody asks, nothing ahead, and closes the iterable at the
    end. A thread cannot be interrupted: cancelled while it waits for an item, closing lasts until that item
    is there.

    Opening the stream may block as well: ``from_thread(await asyncio.to_thread(open_it))``.
    """
    iterator = iter(iterable)
    return Chain(_from_thread(iterator, iterable), iterator, iterable)


async def _from_thread(iterator: Iterator[T], iterable: Iterable[T]) -> AsyncGenerator[T, None]:
    loop = asyncio.get_running_loop()
    worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="streamlib.from_thread")

    def close_both() -> None:
        for thing in (iterator, iterable):
            getattr(thing, "close", lambda: None)()

    try:
        while (item := await loop.run_in_executor(worker, next, iterator, _END)) is not _END:
            yield item
    finally:
        try:
            with CancelScope(shield=True):
                # The worker has one thread: this waits its turn behind a `next` that is still blocked.
                await loop.run_in_executor(worker, close_both)
        finally:
            worker.shutdown(wait=False)


async def collect(stream: AsyncIterable[T]) -> list[T]:
    """Everything the stream gives, as a list, once it has ended; then the stream is closed.

    An error of the stream goes through, and no list comes. To keep what came before it, loop and append.
    """
    async with closing(stream) as items:
        return [item async for item in items]


async def collect_text(stream: AsyncIterable[str]) -> str:
    """The whole text of a stream of text."""
    return "".join(await collect(stream))


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run async code from sync code and give its result: `asyncio.run` with a clear sentence when it cannot.

    In a notebook cell and in async code an event loop is running already, and a thread runs one at a time:
    there, ``await`` the coroutine.

    Raises
    ------
    RuntimeError
        A loop is running in this thread. The message says what to write instead.
    TypeError
        `coroutine` is not a coroutine: often the function was not called.
    """
    if not asyncio.iscoroutine(coroutine):
        raise TypeError(f"run() needs a coroutine, as in run(main()), got {coroutine!r}")
    if not loop_is_running():
        return asyncio.run(coroutine)
    coroutine.close()  # or Python would complain as well that it was never awaited
    call = f"{getattr(coroutine, '__name__', 'coroutine')}(...)"
    raise RuntimeError(
        f"run({call}) cannot start an event loop: one is running here already, as in every notebook cell "
        f"and every async function. Write: await {call}"
    )


def loop_is_running() -> bool:
    """Does an event loop run in this thread, as in every notebook cell?"""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
