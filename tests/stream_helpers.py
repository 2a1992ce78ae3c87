"""For the tests of streams and pipelines: sources that are watched, chunkings, a clock that does not wait."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Coroutine, Iterable
from typing import Any, TypeVar

from hypothesis import strategies as st

T = TypeVar("T")


async def stream_of(items: Iterable[T]) -> AsyncIterator[T]:
    for item in items:
        yield item


async def fails_after(items: Iterable[T], error: Exception) -> AsyncIterator[T]:
    for item in items:
        yield item
    raise error


class Watched(AsyncIterator[T]):
    """A stream that knows how many items were pulled, how often it was closed, and by which task."""

    def __init__(self, items: Iterable[T]) -> None:
        self.pulled = 0
        self.closed = 0
        self.closed_by: asyncio.Task[Any] | None = None
        self._items = iter(items)

    async def __anext__(self) -> T:
        try:
            item = next(self._items)
        except StopIteration:
            raise StopAsyncIteration from None
        self.pulled += 1
        return item

    async def aclose(self) -> None:
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        self.closed += 1
        self.closed_by = asyncio.current_task()


def cut(text: str, sizes: int | tuple[int, int], seed: int = 0) -> list[str]:
    """`text` in pieces of one size, or of random sizes from a range."""
    chance = random.Random(seed)
    low, high = (sizes, sizes) if isinstance(sizes, int) else sizes
    pieces, at = [], 0
    while at < len(text):
        size = chance.randint(low, high)
        pieces.append(text[at : at + size])
        at += size
    return pieces


@st.composite
def chunkings(draw: st.DrawFn, texts: st.SearchStrategy[str]) -> list[str]:
    """A text, cut anywhere, empty pieces included."""
    text = draw(texts)
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=12)))
    return [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop whose clock jumps to the next timer instead of waiting for it."""

    _now = 0.0

    def time(self) -> float:
        return self._now

    def _run_once(self) -> None:
        timers = [timer for timer in self._scheduled if not timer.cancelled()]  # type: ignore[attr-defined]
        if not self._ready and timers:  # type: ignore[attr-defined]
            self._now = max(self._now, min(timer.when() for timer in timers))
        super()._run_once()  # type: ignore[misc]


def virtual(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run on a loop with a virtual clock, which starts at 0 seconds."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(coroutine)


def now() -> float:
    return asyncio.get_running_loop().time()
