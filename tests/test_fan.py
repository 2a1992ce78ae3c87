"""merge and tee: order, bounds, errors, and that no task and no source is left behind."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import AsyncIterator

import anyio
import pytest

from streamlib.fan import merge, tee
from streamlib.pipeline import counted, pipe
from streamlib.streams import collect

from .stream_helpers import Watched, fails_after, now, stream_of, virtual


async def turns(n: int = 20) -> None:
    for _ in range(n):
        await asyncio.sleep(0)


def tasks_left() -> set[asyncio.Task[object]]:
    return asyncio.all_tasks() - {asyncio.current_task()}


async def ticking(name: str, seconds: float, n: int) -> AsyncIterator[str]:
    for number in range(n):
        await asyncio.sleep(seconds)
        yield f"{name}{number}"


# ---- merge ---------------------------------------------------------------------------------------


def test_merge_gives_items_as_they_come() -> None:
    async def main() -> list[str]:
        return await collect(merge(ticking("a", 1.0, 3), ticking("b", 1.6, 2)))

    assert virtual(main()) == ["a0", "b0", "a1", "a2", "b1"]


def test_merge_reads_its_streams_at_the_same_time() -> None:
    async def main() -> float:
        await collect(merge(*(ticking("x", 1.0, 5) for _ in range(10))))
        return now()

    assert virtual(main()) == 5.0


async def test_merge_keeps_the_order_of_each_stream() -> None:
    out = await collect(merge(stream_of(range(50)), stream_of(range(100, 150))))
    assert [item for item in out if item < 100] == list(range(50))
    assert [item for item in out if item >= 100] == list(range(100, 150))


@pytest.mark.parametrize("n", [0, 1])
async def test_merge_of_none_or_one(n: int) -> None:
    assert await collect(merge(*(stream_of("ab") for _ in range(n)))) == ["a", "b"] * n


async def test_merge_reads_at_most_one_item_of_each_stream_ahead() -> None:
    left, right = Watched(range(100)), Watched(range(100))
    taken = {"left": 0, "right": 0}

    async def marked(name: str, source: Watched[int]) -> AsyncIterator[str]:
        async for _ in source:
            yield name

    async with merge(marked("left", left), marked("right", right)) as stream:
        async for name in stream:
            taken[name] += 1
            await turns()
            assert left.pulled - taken["left"] <= 1
            assert right.pulled - taken["right"] <= 1


async def test_merge_raises_the_error_of_one_and_closes_the_others() -> None:
    other = Watched(range(1000))
    got = []
    with pytest.raises(KeyError):
        async for item in merge(fails_after(["a"], KeyError("lost")), other):
            got.append(item)
    assert "a" in got
    assert other.closed
    assert not tasks_left()


async def test_merge_closes_all_streams_and_tasks_before_the_next_statement() -> None:
    sources = [Watched(range(1000)) for _ in range(3)]
    async with pipe(merge(*sources), counted) as stream:
        async for _, number in stream:
            if number == 5:
                break
    assert all(source.closed for source in sources)
    assert not tasks_left()


async def test_merge_closes_streams_that_wait() -> None:
    closed = []

    async def waits() -> AsyncIterator[int]:
        try:
            await asyncio.Event().wait()
            yield 1
        finally:
            await asyncio.sleep(0)
            closed.append(True)

    async with merge(waits(), stream_of([1])) as stream:
        assert await anext(stream) == 1
    assert closed == [True]


async def test_merge_that_is_never_read_closes_its_streams() -> None:
    sources = [Watched([1]), Watched([2])]
    async with pipe(merge(*sources), counted):
        pass
    assert [source.closed for source in sources] == [1, 1]


async def test_merge_closes_its_streams_when_its_reader_is_cancelled() -> None:
    source, reading = Watched(range(1000)), asyncio.Event()

    async def reader() -> None:
        async with merge(source) as stream:
            async for _ in stream:
                reading.set()
                await asyncio.Event().wait()

    task = asyncio.create_task(reader())
    await reading.wait()
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled() and source.closed
    assert not tasks_left()


async def test_a_source_read_through_merge_cleans_up_in_a_cancelled_anyio_scope() -> None:
    """It has a task of its own, which the scope does not reach: also what awaits in its `finally` is done."""
    closed = []

    async def unshielded() -> AsyncIterator[int]:
        try:
            await anyio.sleep_forever()
            yield 1
        finally:
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            closed.append(True)

    with anyio.move_on_after(0.01):
        async with pipe(merge(unshielded()), counted) as stream:
            async for _ in stream:
                pass
    assert closed == [True]


async def test_merge_runs_each_source_in_one_task_of_its_own() -> None:
    seen = []

    async def source() -> AsyncIterator[int]:
        try:
            for number in range(100):
                seen.append(asyncio.current_task())
                yield number
        finally:
            seen.append(asyncio.current_task())

    async with merge(source()) as stream:
        async for number in stream:
            if number == 3:
                break
    assert len(set(seen)) == 1
    assert asyncio.current_task() not in seen


async def test_merge_does_not_hang_on_a_stream_that_cancels_itself() -> None:
    async def cancels() -> AsyncIterator[int]:
        yield 1
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(collect(merge(cancels())), timeout=30)


# ---- tee -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 5])
async def test_every_branch_gets_every_item(n: int) -> None:
    async with tee(stream_of(range(200)), n, max_lag=3) as branches:
        assert await asyncio.gather(*map(collect, branches)) == [list(range(200))] * n


async def test_tee_asks_for_an_item_only_when_a_reader_waits() -> None:
    source = Watched(range(10))
    async with tee(source, 2) as (left, right):
        await turns()
        assert source.pulled == 0
        await anext(left)
        await turns()
        assert source.pulled == 1
        await anext(right)
        await turns()
        assert source.pulled == 1


async def test_the_fastest_branch_waits_at_max_lag_until_the_slowest_reads() -> None:
    source = Watched(range(100))
    async with tee(source, 2, max_lag=4) as (fast, slow):
        got: list[int] = []

        async def read_fast() -> None:
            async for item in fast:
                got.append(item)

        reader = asyncio.create_task(read_fast())
        await turns(100)
        assert got == [0, 1, 2, 3]
        assert await anext(slow) == 0
        await turns(100)
        assert got == [0, 1, 2, 3, 4]
        assert source.pulled == 5
        assert await collect(slow) == list(range(1, 100))
        await reader
        assert got == list(range(100))


async def test_a_closed_branch_no_longer_holds_the_others_up() -> None:
    async with tee(stream_of(range(50)), 2, max_lag=2) as (left, right):
        reader = asyncio.create_task(collect(left))
        await turns(100)
        assert not reader.done()
        await right.aclose()
        assert await reader == list(range(50))
        assert await collect(right) == []


async def test_closing_a_branch_ends_its_reader_and_pulls_nothing_for_it() -> None:
    source = Watched(range(5))
    async with tee(source, 2, max_lag=1) as (left, right):
        reader = asyncio.create_task(collect(left))
        await turns()  # the reader has the first item, and waits: the other branch is full
        await left.aclose()
        assert await anext(right) == 0
        assert await asyncio.wait_for(reader, timeout=20) == [0]
        await turns()
        assert source.pulled == 1
        assert await collect(right) == [1, 2, 3, 4]


async def test_the_last_branch_to_close_closes_the_source() -> None:
    source = Watched(range(10))
    async with tee(source, 2) as (left, right):
        await anext(left)
        await left.aclose()
        assert not source.closed
        await right.aclose()
        assert source.closed
    assert not tasks_left()


async def test_leaving_the_block_closes_the_source_before_the_next_statement() -> None:
    source = Watched(range(10))
    async with tee(source, 2) as (left, _):
        async for _item in left:
            break
    assert source.closed
    assert not tasks_left()


async def test_a_tee_that_is_never_read_closes_its_source() -> None:
    source = Watched(range(10))
    async with tee(source, 2):
        pass
    assert source.closed
    assert not tasks_left()


async def test_leaving_the_block_in_a_cancelled_anyio_scope_closes_the_source() -> None:
    source = Watched(range(10))
    with anyio.CancelScope() as scope:
        async with tee(source, 2) as (left, _):
            await anext(left)
            scope.cancel()
            await anyio.sleep_forever()
    assert source.closed
    assert not tasks_left()


async def test_an_error_reaches_every_branch_after_the_items_before_it() -> None:
    error = KeyError("lost")
    got: list[list[str]] = [[], []]

    async def read(number: int, branch: AsyncIterator[str]) -> BaseException | None:
        try:
            async for item in branch:
                got[number].append(item)
        except KeyError as caught:
            return caught
        return None

    async with tee(fails_after("abc", error), 2) as branches:
        caught = await asyncio.gather(*(read(number, branch) for number, branch in enumerate(branches)))
    assert got == [["a", "b", "c"]] * 2
    assert caught == [error, error]


async def test_cancelling_one_reader_loses_nothing_for_the_others() -> None:
    """The trap of a tee whose readers pull the source themselves: the cancelled one kills it for all."""
    gate = asyncio.Event()

    async def source() -> AsyncIterator[str]:
        yield "a"
        await gate.wait()
        yield "b"
        yield "c"

    async with tee(source(), 2) as (left, right):
        first = asyncio.create_task(collect(left))
        second = asyncio.create_task(collect(right))
        await turns()
        first.cancel()
        await turns()
        gate.set()
        assert await second == ["a", "b", "c"]


async def test_a_reader_that_waits_ends_when_the_block_is_left() -> None:
    async def silent() -> AsyncIterator[str]:
        await asyncio.Event().wait()
        yield "never"

    async with tee(silent(), 2) as (left, _):
        reader = asyncio.create_task(collect(left))
        await turns()
    assert await asyncio.wait_for(reader, timeout=30) == []


async def test_the_source_runs_in_one_task_from_its_first_item_to_its_last() -> None:
    seen = []

    async def source() -> AsyncIterator[int]:
        try:
            for number in range(3):
                seen.append(asyncio.current_task())
                yield number
        finally:
            seen.append(asyncio.current_task())

    async with tee(source(), 2) as branches:
        await asyncio.gather(*map(collect, branches))
    assert len(seen) == 4
    assert len(set(seen)) == 1


@pytest.mark.parametrize(("n", "max_lag"), [(0, 1), (2, 0), (-1, 5)])
def test_tee_needs_readers_and_room(n: int, max_lag: int) -> None:
    with pytest.raises(ValueError, match="both from 1 up"):
        tee(stream_of("a"), n, max_lag=max_lag)


async def test_memory_of_tee_and_merge_does_not_grow_with_the_stream() -> None:
    async def drop(stream: AsyncIterator[int]) -> None:
        async for _ in stream:
            pass

    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        async with tee(merge(stream_of(range(5_000)), stream_of(range(5_000))), 2, max_lag=16) as (
            left,
            right,
        ):
            await asyncio.gather(drop(left), drop(right))
        grown = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    assert grown < 200_000
