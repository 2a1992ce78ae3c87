"""Closing: what has an aclose or a close is closed when the block is left, in a cancelled anyio scope too."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import anyio
import pytest

from streamlib.closing import Chain, close, closing

from .stream_helpers import Watched, stream_of


async def test_close_awaits_aclose() -> None:
    stream = Watched([1])
    await close(stream)
    assert stream.closed == 1


async def test_close_calls_a_plain_close() -> None:
    class Plain:
        closed = False

        def close(self) -> None:
            self.closed = True

    stream = Plain()
    await close(stream)
    assert stream.closed


async def test_close_awaits_an_async_close() -> None:
    class Async:
        closed = False

        async def close(self) -> None:
            await asyncio.sleep(0)
            self.closed = True

    stream = Async()
    await close(stream)
    assert stream.closed


async def test_close_leaves_alone_what_cannot_be_closed() -> None:
    await close(object())


async def test_close_is_shielded_from_a_cancelled_anyio_scope() -> None:
    stream = Watched([1])
    with anyio.CancelScope() as scope:
        scope.cancel()
        await close(stream)
    assert stream.closed == 1


async def test_closing_gives_the_iterator_and_closes_it_and_its_stream() -> None:
    closed = []

    class Iterable:
        """Like openai's AsyncStream: each aiter() is a generator of its own, and the object has an aclose."""

        async def __aiter__(self) -> AsyncIterator[int]:
            try:
                yield 1
                yield 2
            finally:
                closed.append("iterator")

        async def aclose(self) -> None:
            closed.append("stream")

    async with closing(Iterable()) as items:
        assert await anext(items) == 1
    assert closed == ["iterator", "stream"]


async def test_closing_closes_the_stream_even_if_its_iterator_fails_to_close() -> None:
    stream = Watched([1])

    class Iterable:
        async def __aiter__(self) -> AsyncIterator[int]:
            try:
                yield 1
            finally:
                raise OSError("the connection is gone")

        async def aclose(self) -> None:
            await stream.aclose()

    with pytest.raises(OSError, match="gone"):
        async with closing(Iterable()) as items:
            await anext(items)
    assert stream.closed == 1


async def test_a_chain_closes_its_items_first_and_then_its_sources_in_order() -> None:
    order = []

    class Link:
        def __init__(self, name: str) -> None:
            self.name = name

        async def aclose(self) -> None:
            order.append(self.name)

    async def items() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            order.append("items")

    async with Chain(items(), Link("near"), Link("far")) as stream:
        await anext(stream)
    assert order == ["items", "near", "far"]


async def test_an_error_in_one_aclose_leaves_no_other_link_open_and_is_raised() -> None:
    class Broken:
        async def aclose(self) -> None:
            raise OSError("broken pipe")

    last = Watched([1])
    with pytest.raises(OSError, match="broken pipe"):
        async with Chain(stream_of([1]), Broken(), last):
            pass
    assert last.closed == 1


async def test_a_second_loop_over_a_chain_goes_on_where_the_first_stopped() -> None:
    async def slow() -> AsyncIterator[int]:
        for number in (1, 2, 3):
            await asyncio.sleep(0)
            yield number

    chain = Chain(slow())
    assert aiter(chain) is aiter(chain)
    async for item in chain:
        assert item == 1
        break
    await asyncio.sleep(0)
    assert [item async for item in chain] == [2, 3]


async def test_inside_async_with_a_chain_costs_nothing_the_reader_gets_the_items_themselves() -> None:
    items = stream_of([1])
    async with Chain(items) as stream:
        assert aiter(stream) is items


async def test_a_second_cancel_gets_through_to_a_clean_up_that_hangs() -> None:
    class Hangs:
        async def aclose(self) -> None:
            await asyncio.Event().wait()

    task = asyncio.create_task(close(Hangs()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
