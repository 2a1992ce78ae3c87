"""Waiting for a stream, but not for ever: `timeouts`, and `opening` whatever a client gives. Lesson 5.

One timeout does not fit a stream. A model thinks before it speaks, then speaks at an even pace, and a long
answer takes long: so there is a limit to the first token, one between tokens, and one for the whole.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from inspect import isawaitable
from typing import Any, TypeAlias, TypeVar

from .closing import closing

__all__ = ["Opened", "StreamTimeout", "opening", "timeouts"]

T = TypeVar("T")

# What opening a stream may give: the stream, an awaitable of it (AsyncOpenAI's `create`), or a context
# manager around it (`stream_chat`).
Opened: TypeAlias = (
    AsyncIterable[T] | Awaitable[AsyncIterable[T]] | AbstractAsyncContextManager[AsyncIterable[T]]
)

_END: Any = object()


class StreamTimeout(TimeoutError):
    """A stream was too slow. `limit` says which limit it broke: "first", "between" or "total"."""

    def __init__(self, limit: str, seconds: float, items: int) -> None:
        what = {"first": "the first item did not come", "between": "the next item did not come"}
        said = what.get(limit, "the stream did not end")
        super().__init__(f"{said} within {seconds:g} s ({items} items came before)")
        self.limit = limit
        self.seconds = seconds
        self.items = items


async def timeouts(
    stream: Opened[T],
    *,
    first: float = math.inf,
    between: float = math.inf,
    total: float = math.inf,
) -> AsyncGenerator[T, None]:
    """The items of `stream`; `StreamTimeout` when it is too slow, and the stream is closed.

    first: seconds from the first request to the first item, opening included, when `stream` is the
        coroutine of a client's ``create(…)`` or an async generator.
        An empty text is no item yet, so give it text, not the chunks of a client.
    between: seconds from asking for the next item until it is there. The reader's own time does not count.
    total: seconds from the first request to the end, whoever spends them. What is there already is handed on
        also after that.

    Raises `StreamTimeout`, and ValueError for a limit that is not above 0.

    `asyncio.wait_for(anext(stream), …)` looks the same and is not: it cancels the stream, so whoever catches
    the error and reads on gets a clean end, and half an answer looks whole. Here the error is the end.
    """
    for name, given in (("first", first), ("between", between), ("total", total)):
        if not given > 0:
            raise ValueError(f"timeouts needs {name} above 0 seconds, got {given!r}")
    clock = asyncio.get_running_loop().time
    start = clock()
    count = 0
    async with AsyncExitStack() as stack:
        items: AsyncIterator[T] | None = None
        while True:
            limit, seconds = ("between", between) if count else ("first", first)
            due = (clock() if count else start) + seconds
            if start + total < due:
                limit, seconds, due = "total", total, start + total
            try:
                # No `yield` in this block: a timeout that spans one would cancel the reader's own waiting.
                async with asyncio.timeout_at(None if due == math.inf else due) as patience:
                    if items is None:
                        items = await stack.enter_async_context(opening(stream))
                    item = await anext(items, _END)
            except TimeoutError:
                if not patience.expired():
                    raise  # the stream's own
            if patience.expired():
                raise StreamTimeout(limit, seconds, count)
            if item is _END:
                return
            count += item != ""
            yield item


@asynccontextmanager
async def opening(opened: Opened[T]) -> AsyncGenerator[AsyncIterator[T], None]:
    """The items of what opening a stream gave; everything is closed when the block is left."""
    made: Any = await opened if isawaitable(opened) else opened
    async with AsyncExitStack() as stack:
        if hasattr(made, "__aenter__"):
            made = await stack.enter_async_context(made)
        yield await stack.enter_async_context(closing(made))
