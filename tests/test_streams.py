"""Lesson 3: take, paced, the bridges into the async world, collect and run."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import anyio
import pytest

from streamlib.streams import collect, collect_text, from_callback, from_queue, from_thread, paced, run, take

from .stream_helpers import Watched, fails_after, now, stream_of, virtual

# ---- take ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "expected"), [(0, ""), (1, "a"), (3, "abc"), (4, "abc")])
async def test_take_gives_the_first_n(n: int, expected: str) -> None:
    assert await collect_text(take(stream_of("abc"), n)) == expected


@pytest.mark.parametrize(("n", "pulled"), [(0, 0), (1, 1), (2, 2), (9, 3)])
async def test_take_asks_for_no_item_more_than_it_gives(n: int, pulled: int) -> None:
    source = Watched("abc")
    await collect(take(source, n))
    assert source.pulled == pulled


@pytest.mark.parametrize("n", [0, 2, 9])
async def test_take_closes_its_source_at_the_end(n: int) -> None:
    source = Watched("abc")
    await collect(take(source, n))
    assert source.closed == 1


async def test_take_closes_its_source_when_it_is_closed_early() -> None:
    source = Watched("abc")
    stream = take(source, 2)
    await anext(stream)
    await stream.aclose()
    assert source.closed == 1


async def test_take_refuses_a_negative_number() -> None:
    with pytest.raises(ValueError, match="n >= 0, got -1"):
        await collect(take(stream_of("abc"), -1))


# ---- paced ---------------------------------------------------------------------------------------


async def slow(*pauses_and_texts: tuple[float, str]) -> AsyncIterator[str]:
    for pause, text in pauses_and_texts:
        await asyncio.sleep(pause)
        yield text


async def typed(stream: AsyncIterator[str]) -> list[tuple[float, str]]:
    return [(round(now(), 6), character) async for character in stream]


def test_paced_types_one_character_at_a_time() -> None:
    out = virtual(typed(paced(stream_of(["ab", "", "c"]), per_second=4)))
    assert out == [(0.0, "a"), (0.25, "b"), (0.5, "c")]


def test_paced_does_not_add_up_a_reader_that_is_busy_less_than_one_step() -> None:
    async def main() -> list[float]:
        times = []
        async for _ in paced(stream_of(["abcd"]), per_second=1):
            times.append(now())
            await asyncio.sleep(0.6)
        return times

    assert virtual(main()) == [0.0, 1.0, 2.0, 3.0]


def test_paced_does_not_type_faster_after_a_pause() -> None:
    out = virtual(typed(paced(slow((0, "a"), (5.0, "bc")), per_second=1)))
    assert out == [(0.0, "a"), (5.0, "b"), (6.0, "c")]


def test_paced_asks_for_the_next_text_when_the_last_is_typed() -> None:
    async def main() -> list[int]:
        source = Watched(["ab", "cd"])
        return [source.pulled async for _ in paced(source, per_second=10)]

    assert virtual(main()) == [1, 1, 2, 2]


async def test_paced_closes_its_source() -> None:
    source = Watched(["ab"])
    stream = paced(source, per_second=1000)
    await anext(stream)
    await stream.aclose()
    assert source.closed == 1


@pytest.mark.parametrize("per_second", [0, -1, float("nan")])
async def test_paced_needs_a_rate(per_second: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        await collect(paced(stream_of("a"), per_second))


# ---- from_queue ----------------------------------------------------------------------------------


async def test_from_queue_ends_at_none_and_leaves_what_comes_after() -> None:
    queue: asyncio.Queue[str | None] = asyncio.Queue()
    for item in ("a", "b", None, "later"):
        queue.put_nowait(item)
    assert await collect(from_queue(queue)) == ["a", "b"]
    assert queue.qsize() == 1


async def test_from_queue_raises_what_the_producer_put_after_the_items_before_it() -> None:
    queue: asyncio.Queue[str | Exception | None] = asyncio.Queue()
    error = KeyError("from the producer")
    for item in ("a", error):
        queue.put_nowait(item)
    got = []
    with pytest.raises(KeyError) as caught:
        async for text in from_queue(queue):
            got.append(text)
    assert got == ["a"]
    assert caught.value is error


async def test_from_queue_passes_falsy_items() -> None:
    queue: asyncio.Queue[Any] = asyncio.Queue()
    for item in ("", 0, False, None):
        queue.put_nowait(item)
    assert await collect(from_queue(queue)) == ["", 0, False]


async def test_a_bounded_queue_makes_the_producer_wait() -> None:
    queue: asyncio.Queue[int | None] = asyncio.Queue(maxsize=2)
    put: list[int] = []

    async def produce() -> None:
        for number in range(6):
            await queue.put(number)
            put.append(number)
        await queue.put(None)

    producer = asyncio.create_task(produce())
    ahead = []
    async for number in from_queue(queue):
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        ahead.append(len(put) - (number + 1))
    await producer
    assert max(ahead) == 2


# ---- from_callback -------------------------------------------------------------------------------

Push = Callable[[str], None]
Done = Callable[..., None]


async def test_from_callback_gives_what_is_pushed_until_done() -> None:
    def start(push: Push, done: Done) -> None:
        for text in "abc":
            push(text)
        done()

    assert await collect(from_callback(start)) == ["a", "b", "c"]


async def test_from_callback_starts_when_the_first_item_is_asked_for() -> None:
    started = []

    def start(push: Push, done: Done) -> None:
        started.append(True)
        push("a")

    stream = from_callback(start)
    await asyncio.sleep(0)
    assert not started
    assert await anext(stream) == "a"


async def test_from_callback_delivers_while_the_producer_goes_on() -> None:
    pushes: list[Push] = []

    def start(push: Push, done: Done) -> None:
        pushes.append(push)
        asyncio.get_running_loop().call_soon(push, "a")

    stream = from_callback(start)
    assert await anext(stream) == "a"
    pushes[0]("b")
    assert await anext(stream) == "b"


async def test_from_callback_takes_pushes_from_other_threads_in_order() -> None:
    def start(push: Callable[[int], None], done: Done) -> Callable[[], None]:
        def work() -> None:
            for number in range(5000):
                push(number)
            done()

        thread = threading.Thread(target=work)
        thread.start()
        return thread.join

    assert await collect(from_callback(start)) == list(range(5000))


async def test_a_push_from_another_thread_wakes_a_loop_that_sleeps() -> None:
    def start(push: Push, done: Done) -> Callable[[], None]:
        timer = threading.Timer(0.2, push, ["a"])
        timer.start()
        return timer.cancel

    stream, begun = from_callback(start), time.monotonic()
    assert await asyncio.wait_for(anext(stream), timeout=20) == "a"
    assert time.monotonic() - begun < 15  # woken by the push, not by the end of the wait
    await stream.aclose()


async def test_from_callback_sleeps_between_two_items() -> None:
    def start(push: Push, done: Done) -> None:
        loop = asyncio.get_running_loop()
        for number, text in enumerate("abc"):
            loop.call_later(0.01 * number, push, text)
        loop.call_later(0.05, done)

    assert await collect(from_callback(start)) == ["a", "b", "c"]


async def test_from_callback_raises_the_error_after_the_items_before_it() -> None:
    def start(push: Push, done: Done) -> None:
        push("a")
        done(KeyError("lost"))
        push("too late")

    got = []
    with pytest.raises(KeyError, match="lost"):
        async for text in from_callback(start):
            got.append(text)
    assert got == ["a"]


@pytest.mark.parametrize("kind", ["plain", "async"])
async def test_from_callback_unsubscribes_when_it_is_closed(kind: str) -> None:
    stopped = []

    async def stop_async() -> None:
        await asyncio.sleep(0)
        stopped.append("async")

    def start(push: Push, done: Done) -> Callable[[], object]:
        push("a")
        return stop_async if kind == "async" else lambda: stopped.append("plain")

    stream = from_callback(start)
    await anext(stream)
    await stream.aclose()
    assert stopped == [kind]


async def test_from_callback_unsubscribes_in_a_cancelled_anyio_scope() -> None:
    stopped = []

    async def stop() -> None:
        await asyncio.sleep(0)
        stopped.append(True)

    with anyio.move_on_after(0.01):
        await collect(from_callback(lambda push, done: stop))
    assert stopped == [True]


async def test_from_callback_drops_what_is_pushed_after_it_is_closed() -> None:
    pushes: list[Push] = []

    def start(push: Push, done: Done) -> None:
        pushes.append(push)
        push("a")

    stream = from_callback(start)
    await anext(stream)
    await stream.aclose()
    pushes[0]("b")  # no error, no effect


async def test_from_callback_says_when_more_than_its_limit_waits() -> None:
    def start(push: Push, done: Done) -> None:
        for text in "abcdef":
            push(text)
        done()

    got = []
    with pytest.raises(asyncio.QueueFull, match="3 items wait"):
        async for text in from_callback(start, limit=3):
            got.append(text)
    assert got == ["a", "b", "c"]


def test_pushing_after_the_loop_has_ended_is_harmless() -> None:
    pushes: list[tuple[Push, Done]] = []

    async def main() -> None:
        def start(push: Push, done: Done) -> None:
            pushes.append((push, done))
            push("a")

        stream = from_callback(start)
        await anext(stream)
        kept.append(stream)

    kept: list[AsyncIterator[str]] = []
    asyncio.run(main())
    push, done = pushes[0]
    push("b")
    done()


# ---- from_thread ---------------------------------------------------------------------------------


class Blocking(Iterator[int]):
    """A sync stream, as the sync SDK gives: it blocks its thread, and has a close."""

    def __init__(self, n: int, *, fail_at: int | None = None) -> None:
        self.n, self.fail_at = n, fail_at
        self.pulled = 0
        self.closed = False
        self.threads: set[int] = set()
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()

    def __next__(self) -> int:
        self.threads.add(threading.get_ident())
        self.entered.set()
        assert self.gate.wait(timeout=30)
        if self.pulled == self.fail_at:
            raise OSError("cut off")
        if self.pulled == self.n:
            raise StopIteration
        self.pulled += 1
        return self.pulled

    def close(self) -> None:
        self.closed = True

    async def blocked(self) -> None:
        """Wait until the thread is inside `next`."""
        await asyncio.to_thread(self.entered.wait, 30)


async def test_from_thread_gives_the_items_and_closes() -> None:
    source = Blocking(5)
    assert await collect(from_thread(source)) == [1, 2, 3, 4, 5]
    assert source.closed


async def test_from_thread_runs_it_in_one_other_thread() -> None:
    source = Blocking(5)
    await collect(from_thread(source))
    assert len(source.threads) == 1
    assert threading.get_ident() not in source.threads


async def test_from_thread_leaves_the_event_loop_free() -> None:
    source = Blocking(1)
    source.gate.clear()
    reading = asyncio.create_task(collect(from_thread(source)))
    await source.blocked()
    for _ in range(5):
        await asyncio.sleep(0)  # the loop runs while the thread waits
    assert not reading.done()
    source.gate.set()
    assert await reading == [1]


async def test_from_thread_reads_nothing_ahead() -> None:
    source = Blocking(5)
    async with from_thread(source) as stream:
        for count in (1, 2, 3):
            await anext(stream)
            await asyncio.sleep(0.01)
            assert source.pulled == count


async def test_from_thread_raises_what_the_iterator_raised() -> None:
    source = Blocking(5, fail_at=2)
    got = []
    with pytest.raises(OSError, match="cut off"):
        async for item in from_thread(source):
            got.append(item)
    assert got == [1, 2]
    assert source.closed


async def test_from_thread_closes_before_the_next_statement_after_break() -> None:
    source = Blocking(5)
    async with from_thread(source) as stream:
        async for _ in stream:
            break
    assert source.closed


async def test_from_thread_closes_a_source_that_was_never_read() -> None:
    source = Blocking(5)
    async with from_thread(source):
        pass
    assert source.closed


async def test_from_thread_closes_a_generator_and_the_object_it_came_from() -> None:
    closed = []
    here = threading.get_ident()

    class SDKStream:
        def __iter__(self) -> Iterator[int]:
            try:
                yield 1
                yield 2
            finally:
                closed.append(("iterator", threading.get_ident() == here))

        def close(self) -> None:
            closed.append(("stream", threading.get_ident() == here))

    async with from_thread(SDKStream()) as stream:
        await anext(stream)
    # closing may block as well, so it happens in the thread; a second time, when nothing is left to do, here
    assert closed == [("iterator", False), ("stream", False), ("stream", True)]


async def test_cancelled_while_the_thread_waits_it_closes_once_the_item_is_there() -> None:
    source = Blocking(5)
    source.gate.clear()
    reading = asyncio.create_task(collect(from_thread(source)))
    await source.blocked()
    reading.cancel()
    await asyncio.sleep(0.01)
    assert not source.closed and not reading.done()
    source.gate.set()
    await asyncio.wait([reading], timeout=30)
    assert reading.cancelled() and source.closed


async def test_from_thread_closes_in_a_cancelled_anyio_scope() -> None:
    source = Blocking(5)
    with anyio.CancelScope() as scope:
        async with from_thread(source) as stream:
            async for _ in stream:
                scope.cancel()
                await anyio.sleep_forever()
    assert source.closed


async def test_from_thread_closes_when_an_anyio_scope_is_cancelled_while_the_thread_waits() -> None:
    source = Blocking(5)
    source.gate.clear()
    closed_at_the_next_statement = []

    async def reader() -> None:
        with anyio.CancelScope() as scope:
            scopes.append(scope)
            await collect(from_thread(source))
        closed_at_the_next_statement.append(source.closed)

    scopes: list[anyio.CancelScope] = []
    reading = asyncio.create_task(reader())
    await source.blocked()
    scopes[0].cancel()
    await asyncio.sleep(0.01)
    assert not source.closed  # not under the feet of the thread that reads it
    source.gate.set()
    await reading
    assert closed_at_the_next_statement == [True]


async def test_from_thread_takes_any_iterable() -> None:
    assert await collect(from_thread(["a", "b"])) == ["a", "b"]


def test_from_thread_refuses_what_cannot_be_iterated() -> None:
    with pytest.raises(TypeError, match="not iterable"):
        from_thread(3)  # type: ignore[arg-type]


# ---- collect -------------------------------------------------------------------------------------


async def test_collect_gives_all_items_and_closes() -> None:
    source = Watched([1, 2, 3])
    assert await collect(source) == [1, 2, 3]
    assert source.closed == 1


async def test_collect_text_joins() -> None:
    assert await collect_text(stream_of(["a", "", "bc"])) == "abc"


async def test_collect_lets_an_error_through() -> None:
    with pytest.raises(KeyError):
        await collect(fails_after([1], KeyError("x")))


# ---- run -----------------------------------------------------------------------------------------


async def answer() -> int:
    await asyncio.sleep(0)
    return 42


def test_run_gives_the_result_to_sync_code() -> None:
    assert run(answer()) == 42


def test_run_raises_what_the_coroutine_raised_and_nothing_around_it() -> None:
    async def fails() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError) as caught:
        run(fails())
    assert caught.value.__context__ is None


@pytest.mark.filterwarnings("error")
async def test_run_says_what_to_write_where_a_loop_is_running() -> None:
    with pytest.raises(
        RuntimeError, match=r"running here already, as in every notebook cell .* await answer\(\.\.\.\)"
    ):
        run(answer())


@pytest.mark.parametrize("wrong", [answer, 3, stream_of("a")])
def test_run_needs_a_coroutine(wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"needs a coroutine, as in run\(main\(\)\)"):
        run(wrong)
