"""Streams through stages, like a Unix pipe: `pipe`, and the stages that pass items on one by one. Lesson 4.

A **stage** is any function from a stream to a stream. A stage with settings is a function that returns one:

    async with pipe(source, redact(["secret"]), sentences, counted) as stream:
        async for sentence, number in stream:
            print(number, sentence)

Nothing runs until the reader asks; then the request travels up to the source, and an item comes down. No
stage reads ahead, and each closes the stream it reads. What a stage holds back (half a batch, half a
sentence, half a forbidden word) comes out when the source ends; if that is an error, before the error.

The stages for text are in `streamlib.text` and `streamlib.jsonstream`, one stream to several and several to
one in `streamlib.fan`. All can be imported from here.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable
from inspect import isawaitable, iscoroutine, iscoroutinefunction
from typing import Any, TypeAlias, TypeVar, overload

from .closing import Chain, closing
from .fan import merge, tee
from .jsonstream import partial_json
from .text import redact, sentences

__all__ = ["Stage", "batched", "counted", "merge", "partial_json", "pipe", "redact", "sentences", "spaced"]
__all__ += ["tap", "tee"]

T = TypeVar("T")
In = TypeVar("In")
Out = TypeVar("Out")
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")
E = TypeVar("E")

Stage: TypeAlias = Callable[[AsyncIterable[In]], AsyncIterator[Out]]


# A type checker follows an item through up to five stages: the output of each has to fit the next.
# fmt: off
@overload
def pipe(source: AsyncIterable[T], /) -> Chain[T]: ...
@overload
def pipe(source: AsyncIterable[T], a: Stage[T, A], /) -> Chain[A]: ...
@overload
def pipe(source: AsyncIterable[T], a: Stage[T, A], b: Stage[A, B], /) -> Chain[B]: ...
@overload
def pipe(source: AsyncIterable[T], a: Stage[T, A], b: Stage[A, B], c: Stage[B, C], /) -> Chain[C]: ...
@overload
def pipe(source: AsyncIterable[T], a: Stage[T, A], b: Stage[A, B], c: Stage[B, C],
         d: Stage[C, D], /) -> Chain[D]: ...
@overload
def pipe(source: AsyncIterable[T], a: Stage[T, A], b: Stage[A, B], c: Stage[B, C],
         d: Stage[C, D], e: Stage[D, E], /) -> Chain[E]: ...
@overload
def pipe(source: AsyncIterable[Any], a: Stage[Any, Any], b: Stage[Any, Any], c: Stage[Any, Any],
         d: Stage[Any, Any], e: Stage[Any, Any], f: Stage[Any, Any], /,
         *more: Stage[Any, Any]) -> Chain[Any]: ...
# fmt: on
def pipe(source: AsyncIterable[Any], /, *stages: Stage[Any, Any]) -> Chain[Any]:
    """Put `stages` behind `source`, in reading order, and own the whole chain.

    Read it inside ``async with``. When the block is left, every stage is closed, the last one first and the
    source at the end, before the next statement runs: see `streamlib.closing.Chain`. A stage of your own need
    not close anything. Joined stages are a stage: ``def clean(s): return pipe(s, redact(words), sentences)``.

    Raises
    ------
    TypeError
        `source` is not a stream, or a stage did not return one. The message says which.
    """
    links: list[Any] = [source]

    def link(stream: Any, what: str) -> None:
        items = _iterator(stream, what)
        links.extend(new for new in (stream, items) if new is not links[-1])

    link(source, "the source of pipe()")
    for number, stage in enumerate(stages, 1):
        name = getattr(stage, "__qualname__", repr(stage))
        link(stage(links[-1]), f"stage {number} of pipe(), {name},")
    return Chain(*reversed(links))


def _iterator(stream: Any, what: str) -> AsyncIterator[Any]:
    if hasattr(stream, "__aiter__"):
        return aiter(stream)
    if iscoroutine(stream):
        stream.close()
    if isawaitable(stream):
        hint = "await it first, or give the async function a `yield`"
    elif hasattr(stream, "__iter__"):
        hint = "a list or a sync iterator becomes one by streamlib.streams.from_thread"
    else:
        hint = "a stage with settings is called first, as in redact(['foo'])"
    raise TypeError(f"{what} must be an async iterable, got {type(stream).__name__}: {hint}")


async def counted(stream: AsyncIterable[T]) -> AsyncGenerator[tuple[T, int], None]:
    """Each item with its number: ``("Hel", 1)``, ``("lo", 2)``, …"""
    number = 0
    async with closing(stream) as items:
        async for item in items:
            number += 1
            yield item, number


def tap(look: Callable[[Any], object]) -> Callable[[AsyncIterable[T]], AsyncGenerator[T, None]]:
    """Call `look` with each item on its way past, and pass the item on. What `look` returns is not used."""
    if not callable(look) or iscoroutinefunction(look):
        raise TypeError(f"tap(look) needs a plain function of one item, got {look!r}")

    async def stage(stream: AsyncIterable[T]) -> AsyncGenerator[T, None]:
        async with closing(stream) as items:
            async for item in items:
                look(item)
                yield item

    return stage


def batched(n: int) -> Callable[[AsyncIterable[T]], AsyncGenerator[list[T], None]]:
    """Lists of `n` items; the last may be shorter. A batch cut short by an error comes before the error."""
    if not isinstance(n, int) or n < 1:
        raise ValueError(f"batched(n) needs a whole number from 1 up, got {n!r}")

    async def stage(stream: AsyncIterable[T]) -> AsyncGenerator[list[T], None]:
        batch: list[T] = []
        async with closing(stream) as items:
            try:
                async for item in items:
                    batch.append(item)
                    if len(batch) == n:
                        yield batch
                        batch = []
            except Exception:
                if batch:
                    yield batch
                raise
            if batch:
                yield batch

    return stage


def spaced(seconds: float) -> Callable[[AsyncIterable[T]], AsyncGenerator[T, None]]:
    """Pass items on at least `seconds` apart: at most one screen update, or one request, in that time.

    The first passes at once. An item is held while it waits, and the next is not asked for.
    """
    if not seconds >= 0:
        raise ValueError(f"spaced(seconds) needs a number from 0 up, got {seconds!r}")

    async def stage(stream: AsyncIterable[T]) -> AsyncGenerator[T, None]:
        clock = asyncio.get_running_loop().time
        earliest = clock()
        async with closing(stream) as items:
            async for item in items:
                await asyncio.sleep(earliest - clock())
                earliest = clock() + seconds
                yield item

    return stage
