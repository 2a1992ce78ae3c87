"""The virtual clock and the stage: what can be seen of one call, to the instant."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, closing, suppress
from typing import Any

import pytest

from streamlib.checker import Build, Case, Source, Stage
from streamlib.checker.stage import Outcome, Printed, run_case

from . import samples


def instants(outcome: Outcome) -> list[float]:
    return [round(arrival.at, 6) for arrival in outcome.arrivals]


def values(outcome: Outcome) -> list[object]:
    return [arrival.value for arrival in outcome.arrivals]


async def through(stream: Any) -> AsyncIterator[Any]:
    async with aclosing(stream):
        async for value in stream:
            yield value


# -- time --------------------------------------------------------------------------------------------------


def test_a_year_of_sleep_passes_at_once() -> None:
    outcome = run_case(samples.ticks, Case(2, 1e7), seconds=1e9)
    assert instants(outcome) == [1e7, 2e7]
    assert outcome.ended == 2e7


def test_timeouts_queues_and_task_groups_run_on_the_virtual_clock() -> None:
    async def everything() -> list[float]:
        loop, seen = asyncio.get_running_loop(), []
        began = loop.time()
        queue: asyncio.Queue[int] = asyncio.Queue()

        async def feed() -> None:
            await asyncio.sleep(5)
            await queue.put(1)

        async with asyncio.TaskGroup() as group:
            group.create_task(feed())
            await queue.get()
            seen.append(loop.time() - began)
        try:
            async with asyncio.timeout(10):
                await asyncio.Event().wait()
        except TimeoutError:
            seen.append(loop.time() - began)
        try:
            await asyncio.wait_for(asyncio.sleep(60), 20)
        except TimeoutError:
            seen.append(loop.time() - began)
        return seen

    assert run_case(everything, Case()).returned == [5, 15, 35]


def test_two_tasks_sleep_side_by_side() -> None:
    async def both() -> None:
        await asyncio.gather(asyncio.sleep(3), asyncio.sleep(4))

    assert run_case(both, Case()).ended == 4


def test_time_sleep_is_virtual_and_counted() -> None:
    async def blocking() -> None:
        await asyncio.gather(asyncio.to_thread(time.sleep, 7), asyncio.sleep(1))
        time.sleep(2)  # noqa: ASYNC251

    from streamlib.checker.intercept import Interception

    with Interception({}):
        outcome = run_case(blocking, Case())
    assert (outcome.ended, outcome.blocked) == (9, 2)


def test_worker_threads_are_played_side_by_side_at_their_own_instants() -> None:
    async def bridge() -> AsyncIterator[int]:
        queue: asyncio.Queue[int] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def work() -> None:
            for number in range(3):
                time.sleep(2)
                loop.call_soon_threadsafe(queue.put_nowait, number)

        task = asyncio.create_task(asyncio.to_thread(work))
        for _ in range(3):
            yield await queue.get()
        await task

    from streamlib.checker.intercept import Interception

    with Interception({}):
        outcome = run_case(bridge, Case())
    assert instants(outcome) == [2, 4, 6]
    assert outcome.blocked == 0


def test_an_error_in_a_worker_thread_arrives() -> None:
    async def work() -> None:
        await asyncio.to_thread(int, "x")

    assert isinstance(run_case(work, Case()).error, ValueError)


def test_a_real_thread_may_wake_the_loop() -> None:
    async def wait_for_thread() -> str:
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        thread = threading.Thread(target=lambda: loop.call_soon_threadsafe(done.set_result, "done"))
        thread.start()
        result: str = await done
        thread.join()
        return result

    assert run_case(wait_for_thread, Case()).returned == "done"


def test_clocks_do_not_start_at_zero() -> None:
    """`if not started:` is a common way to ask whether a clock was read before."""

    async def clock() -> float:
        return asyncio.get_running_loop().time()

    assert run_case(clock, Case()).returned


# -- sources -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (Source("ab", every=0.5), [0.5, 1.0]),
        (Source("ab", at=[0.0, 3.0]), [0.0, 3.0]),
        (Source("ab", at=[1.0, 2.0, 9.0]), [1.0, 2.0]),
        (Source(""), []),
    ],
)
def test_a_source_delivers_at_its_instants(source: Source, expected: list[float]) -> None:
    assert instants(run_case(through, Case(source))) == expected


def test_the_end_of_a_source_comes_later_than_its_last_value() -> None:
    assert run_case(through, Case(Source("ab", every=0.5))).ended == 1.5
    assert run_case(through, Case(Source("ab", at=[1.0, 2.0, 9.0]))).ended == 9.0
    assert run_case(through, Case(Source("ab", at=[1.0, 2.0]))).ended == 2.0


def test_a_slow_reader_finds_the_next_value_there() -> None:
    outcome = run_case(through, Case(Source("abc", every=1.0), pause=2.5))
    assert instants(outcome) == [1.0, 3.5, 6.0]


def test_the_error_of_a_source_comes_after_its_values() -> None:
    outcome = run_case(through, Case(Source("ab", error=OSError("cut"))))
    assert values(outcome) == ["a", "b"]
    assert isinstance(outcome.error, OSError)
    assert outcome.closed == (True,)


def test_each_run_gets_fresh_copies_of_the_arguments() -> None:
    case = Case([1, 2], Source([[1]], kind="iterator"))

    def spoil(numbers: list[int], lists: Any) -> list[int]:
        numbers.append(3)
        next(lists).append(2)
        return numbers

    assert run_case(spoil, case).returned == run_case(spoil, case).returned == [1, 2, 3]
    assert run_case(spoil, case).inputs_changed


def test_a_sync_source_passes_virtual_time_too() -> None:
    outcome = run_case(samples.lengths, Case(Source(["ab", "c"], every=2.0, kind="iterator")))
    assert instants(outcome) == [2.0, 4.0]
    assert outcome.blocked == 0


def test_what_is_read_when_a_value_comes_out_is_counted() -> None:
    async def pairs(stream: Any) -> AsyncIterator[Any]:
        async for first in stream:
            yield first, await anext(stream)

    outcome = run_case(pairs, Case(Source("abcd")))
    assert [arrival.read for arrival in outcome.arrivals] == [2, 4]


@pytest.mark.parametrize(
    ("case", "closed"),
    [
        (Case(Source("abc")), True),
        (Case(Source("abc"), take=1), True),
        (Case(Source("abc"), take=0), True),
        (Case(Source("abc"), cancel_at=0.15), True),
        (Case(Source("abc", kind="response"), take=1), True),
        (Case(Source("abc", kind="response"), take=0), False),  # never begun, so nobody closed the response
    ],
)
def test_whether_a_source_is_closed_is_seen(case: Case, closed: bool) -> None:
    assert run_case(through, case).closed == (closed,)


def test_a_source_that_is_read_and_left_is_open() -> None:
    async def first(stream: Any) -> Any:
        return await anext(stream)

    assert run_case(first, Case(Source("abc"))).closed == (False,)


def test_reading_one_source_twice_at_once_is_refused_as_by_a_generator() -> None:
    async def twice(stream: Any) -> Any:
        await asyncio.gather(anext(stream), anext(stream))

    assert "already running" in str(run_case(twice, Case(Source("abc"))).error)


def test_a_cancelled_read_finishes_a_source_as_it_does_a_generator() -> None:
    async def impatient(stream: Any) -> AsyncIterator[Any]:
        with suppress(TimeoutError):
            await asyncio.wait_for(anext(stream), 0.01)
        async for value in stream:
            yield value

    assert values(run_case(impatient, Case(Source("abc")))) == []


def test_as_many_instants_as_values_are_asked_for() -> None:
    with pytest.raises(ValueError, match="1 instants for 3 values"):
        Source("abc", at=[1.0])


# -- what happens ------------------------------------------------------------------------------------------


def test_a_cancelled_consumer_is_seen() -> None:
    outcome = run_case(through, Case(Source("abc", every=1.0), cancel_at=1.5))
    assert values(outcome) == ["a"]
    assert isinstance(outcome.error, asyncio.CancelledError)
    assert outcome.ended == 1.5


def test_an_awaited_stream_is_seen() -> None:
    async def opened(stream: Any) -> Any:
        return through(stream)

    outcome = run_case(opened, Case(Source("ab")))
    assert outcome.shape == "coroutine of a stream"
    assert values(outcome) == ["a", "b"]


def test_tasks_left_behind_are_counted_and_ended() -> None:
    ended = []

    async def leave() -> None:
        async def work() -> None:
            try:
                await asyncio.sleep(100)
            finally:
                ended.append(True)

        asyncio.create_task(work())  # noqa: RUF006
        await asyncio.sleep(1)

    assert run_case(leave, Case()).tasks_left == 1
    assert ended == [True]


def test_a_coroutine_nobody_awaited_is_named() -> None:
    from streamlib.checker.intercept import Interception

    async def forget() -> None:
        asyncio.sleep(1)  # type: ignore[unused-coroutine]

    with Interception({}):
        assert run_case(forget, Case()).unawaited == ("sleep",)


def test_an_argument_can_be_built_on_the_loop_of_the_run() -> None:
    async def drain(queue: asyncio.Queue[Any]) -> AsyncIterator[Any]:
        while (value := await queue.get()) is not None:
            yield value

    def make(stage: Stage) -> asyncio.Queue[Any]:
        queue: asyncio.Queue[Any] = asyncio.Queue()

        async def fill() -> None:
            for value in ("a", "b", None):
                await asyncio.sleep(1)
                await queue.put(value)

        stage.spawn(fill())
        return queue

    outcome = run_case(drain, Case(Build("queue of 'a', 'b'", make)))
    assert (values(outcome), instants(outcome), outcome.tasks_left) == (["a", "b"], [1, 2], 0)


def test_a_case_may_play_the_function_in_its_own_way() -> None:
    async def play(solution: Any, stage: Stage) -> object:
        await stage.collect(solution(stage.open_source(Source("abc"))), take=2)
        return "done"

    outcome = run_case(through, Case(play=play, note="two are enough"))
    assert (values(outcome), outcome.returned, outcome.closed) == (["a", "b"], "done", (True,))


async def test_a_case_runs_in_this_thread_inside_a_running_loop() -> None:
    loop = asyncio.get_running_loop()
    assert instants(run_case(samples.ticks, Case(2, 60.0))) == [60, 120]
    assert asyncio.get_running_loop() is loop
    await asyncio.sleep(0)


# -- the same for plain iterators --------------------------------------------------------------------------


def each(stream: Any) -> Iterator[Any]:
    with closing(stream):
        yield from stream


def each_left_open(stream: Any) -> Iterator[Any]:
    for value in stream:  # noqa: UP028 (`yield from` would close it)
        yield value


@pytest.mark.parametrize(
    ("case", "expected", "closed"),
    [
        (Case(Source("abc", kind="iterator")), [0.1, 0.2, 0.3], True),
        (Case(Source("abc", kind="iterator"), take=2), [0.1, 0.2], True),
        (Case(Source("abc", kind="iterator"), take=0), [], True),
        (Case(Source("abc", kind="iterator"), pause=1.0), [0.1, 1.1, 2.1], True),
        (Case(Source("abc", kind="iterator"), take=2, pause=1.0), [0.1, 1.1], True),
    ],
)
def test_a_generator_is_consumed_as_the_case_says(case: Case, expected: list[float], closed: bool) -> None:
    outcome = run_case(each, case)
    assert (instants(outcome), outcome.closed) == (expected, (closed,))


def test_a_generator_that_is_closed_early_may_leave_its_source_open() -> None:
    assert run_case(each_left_open, Case(Source("abc", kind="iterator"))).closed == (True,)
    assert run_case(each_left_open, Case(Source("abc", kind="iterator"), take=1)).closed == (False,)
    assert run_case(each_left_open, Case(Source("abc", kind="iterator"), take=0)).closed == (True,)
    assert run_case(each_left_open, Case(Source("abc", kind="iterator"), take=0)).read == 0


def test_a_closed_source_gives_nothing_more() -> None:
    def after_closing(stream: Any) -> list[Any]:
        first = next(stream)
        stream.close()
        return [first, *stream]

    assert run_case(after_closing, Case(Source("abc", kind="iterator"))).returned == ["a"]


@pytest.mark.parametrize("kind", ["async generator", "response", "iterator"])
def test_a_source_read_to_its_end_is_closed(kind: Any) -> None:
    async def read(stream: Any) -> list[Any]:
        return list(stream) if kind == "iterator" else [value async for value in stream]

    outcome = run_case(read, Case(Source("ab", kind=kind)))
    assert (outcome.returned, outcome.closed, outcome.read) == (["a", "b"], (True,), 2)


@pytest.mark.parametrize("way", ["async with", "close", "aclose"])
def test_a_response_can_be_closed_in_three_ways(way: str) -> None:
    async def first(stream: Any) -> Any:
        if way == "async with":
            async with stream:
                return await anext(stream)
        value = await anext(stream)
        await getattr(stream, way)()
        return value

    assert run_case(first, Case(Source("ab", kind="response"))).closed == (True,)


def test_each_of_several_sources_is_watched() -> None:
    async def second_only(one: Any, other: Any) -> Any:
        await anext(one)
        async with aclosing(other):
            return await anext(other)

    outcome = run_case(second_only, Case(Source("ab"), Source("xy")))
    assert (outcome.returned, outcome.closed, outcome.read) == ("x", (False, True), 2)


def test_two_streams_collected_in_one_play_are_counted_apart() -> None:
    async def play(solution: Any, stage: Stage) -> None:
        await stage.collect(solution(stage.open_source(Source("abc"))), take=2)
        await stage.collect(solution(stage.open_source(Source("xyz"))), take=2)

    assert values(run_case(through, Case(play=play))) == ["a", "b", "x", "y"]


def test_only_the_beginning_of_what_is_printed_is_kept() -> None:
    printed = Printed()
    printed.write("a" * 1999)
    assert str(printed) == "a" * 1999
    printed.write("bcd")
    printed.write("e" * 1000)
    assert str(printed) == "a" * 1999 + "b\n… and 1,002 more characters"
