"""pipe() and the stages that pass items on one by one. The closing table is the heart of it."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections.abc import AsyncIterable, AsyncIterator, Callable
from contextlib import suppress
from functools import partial
from typing import Any

import anyio
import pytest

from streamlib.closing import close
from streamlib.pipeline import batched, counted, merge, partial_json, pipe, redact, sentences, spaced, tap
from streamlib.streams import collect, take

from .stream_helpers import Watched, fails_after, now, stream_of, virtual

Stage = Callable[[AsyncIterable[Any]], AsyncIterator[Any]]

# ---- the closing table ---------------------------------------------------------------------------


class Boom(Exception):
    """Raised on purpose."""


class Source:
    """A source whose `finally` takes some turns of the loop, as closing a connection does."""

    def __init__(self) -> None:
        self.closed_by: list[asyncio.Task[Any] | None] = []
        self.fail_at: int | None = None
        self.pause_at: int | None = None
        self.paused = asyncio.Event()

    async def tokens(self) -> AsyncIterator[str]:
        try:
            for number in range(1000):
                if number == self.fail_at:
                    raise Boom
                if number == self.pause_at:
                    self.paused.set()
                    await asyncio.Event().wait()
                yield f"Sentence {number}. "
        finally:
            for _ in range(3):
                await asyncio.sleep(0)
            self.closed_by.append(asyncio.current_task())


async def careless(stream: AsyncIterable[Any]) -> AsyncIterator[Any]:
    """A stage as most people write it: it closes nothing."""
    async for item in stream:
        yield item


async def careless_and_short(stream: AsyncIterable[Any]) -> AsyncIterator[Any]:
    """Ends before its source does."""
    left = 5
    async for item in stream:
        yield item
        left -= 1
        if not left:
            return


async def careless_and_broken(stream: AsyncIterable[Any]) -> AsyncIterator[Any]:
    async for item in stream:
        yield item
        raise Boom


OURS: list[Stage] = [tap(len), redact(["zzz"]), sentences, batched(2), counted, spaced(0)]
CARELESS: list[Stage] = [careless] * 6
CHAINS = [
    pytest.param(stages[:length], id=f"{kind}-{length}")
    for kind, stages in (("ours", OURS), ("careless", CARELESS))
    for length in range(1, 7)
]
every_chain = pytest.mark.parametrize("stages", CHAINS)


@every_chain
async def test_break_closes_the_source_before_the_next_statement(stages: list[Stage]) -> None:
    source = Source()
    async with pipe(source.tokens(), *stages) as stream:
        async for _ in stream:
            break
    assert source.closed_by == [asyncio.current_task()]


@every_chain
async def test_the_end_closes_the_source_before_the_next_statement(stages: list[Stage]) -> None:
    source = Source()
    async with pipe(source.tokens(), careless_and_short, *stages) as stream:
        async for _ in stream:
            pass
    assert source.closed_by == [asyncio.current_task()]


@every_chain
async def test_an_error_of_the_reader_closes_the_source(stages: list[Stage]) -> None:
    source = Source()
    with pytest.raises(Boom):
        async with pipe(source.tokens(), *stages) as stream:
            async for _ in stream:
                raise Boom
    assert source.closed_by == [asyncio.current_task()]


@every_chain
async def test_an_error_of_the_source_arrives_as_it_is_and_closes(stages: list[Stage]) -> None:
    source = Source()
    source.fail_at = 9
    with pytest.raises(Boom):
        async with pipe(source.tokens(), *stages) as stream:
            async for _ in stream:
                pass
    assert source.closed_by == [asyncio.current_task()]


@every_chain
async def test_an_error_of_a_stage_closes_the_source(stages: list[Stage]) -> None:
    source = Source()
    with pytest.raises(Boom):
        async with pipe(source.tokens(), careless_and_broken, *stages) as stream:
            async for _ in stream:
                pass
    assert source.closed_by == [asyncio.current_task()]


@every_chain
async def test_cancelling_the_reader_closes_the_source(stages: list[Stage]) -> None:
    source, reading = Source(), asyncio.Event()
    closed_at_the_next_statement: list[bool] = []

    async def reader() -> None:
        try:
            async with pipe(source.tokens(), *stages) as stream:
                async for _ in stream:
                    reading.set()
                    await asyncio.Event().wait()
        except asyncio.CancelledError:
            closed_at_the_next_statement.append(source.closed_by == [task])
            raise

    task = asyncio.create_task(reader())
    await reading.wait()
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert closed_at_the_next_statement == [True]


@every_chain
async def test_cancelling_while_the_source_waits_closes_the_source(stages: list[Stage]) -> None:
    source = Source()
    source.pause_at = 9

    async def reader() -> None:
        async with pipe(source.tokens(), *stages) as stream:
            async for _ in stream:
                pass

    task = asyncio.create_task(reader())
    await source.paused.wait()
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert source.closed_by == [task]


@every_chain
async def test_a_cancelled_anyio_scope_closes_the_source(stages: list[Stage]) -> None:
    source = Source()
    with anyio.CancelScope() as scope:
        async with pipe(source.tokens(), *stages) as stream:
            async for _ in stream:
                scope.cancel()  # what FastAPI does when the reader of an answer leaves
                await anyio.sleep_forever()
    assert source.closed_by == [asyncio.current_task()]


@every_chain
async def test_an_anyio_deadline_closes_the_source(stages: list[Stage]) -> None:
    source = Source()
    with anyio.move_on_after(0.01):
        async with pipe(source.tokens(), *stages) as stream:
            async for _ in stream:
                await anyio.sleep_forever()
    assert source.closed_by == [asyncio.current_task()]


@every_chain
async def test_a_pipe_that_is_never_iterated_closes_the_source(stages: list[Stage]) -> None:
    source = Source()
    tokens = source.tokens()
    await anext(tokens)  # it has been started: there is something to close
    async with pipe(tokens, *stages):
        pass
    assert source.closed_by == [asyncio.current_task()]


@every_chain
async def test_a_pipe_that_is_never_iterated_closes_an_sdk_stream(stages: list[Stage]) -> None:
    source = Watched(["a"])
    async with pipe(source, *stages):
        pass
    assert source.closed >= 1


@every_chain
async def test_without_async_with_the_end_closes_too(stages: list[Stage]) -> None:
    source = Source()
    async for _ in pipe(source.tokens(), careless_and_short, *stages):
        pass
    assert source.closed_by == [asyncio.current_task()]


@every_chain
async def test_without_async_with_an_error_of_a_stage_closes_too(stages: list[Stage]) -> None:
    source = Source()
    with pytest.raises(Boom):
        async for _ in pipe(source.tokens(), careless_and_broken, *stages):
            pass
    assert source.closed_by == [asyncio.current_task()]


async def test_anyio_cancelling_the_source_in_its_own_await_is_left_to_the_source() -> None:
    """The limit `Chain` names: the source unwinds by itself, so it has to shield what it awaits."""
    closed = []

    async def shielding() -> AsyncIterator[int]:
        try:
            await anyio.sleep_forever()
            yield 1
        finally:
            closed.append("entered")
            with anyio.CancelScope(shield=True):
                await asyncio.sleep(0)
            closed.append("left")

    with anyio.move_on_after(0.01):
        async with pipe(shielding(), counted) as stream:
            async for _ in stream:
                pass
    assert closed == ["entered", "left"]


async def test_each_stage_by_itself_closes_its_source_on_aclose() -> None:
    stages: list[Stage] = [*OURS, partial_json, partial(take, n=5)]
    for stage in stages:
        source = Watched(["[1, 2. ", "3. ", "4. ", "5. ", "6. "])
        stream = stage(source)
        with suppress(ValueError):  # partial_json's opinion of "2. "
            await anext(stream)
        await close(stream)
        assert source.closed == 1, stage


async def test_stages_are_closed_from_the_last_to_the_first_and_then_the_source() -> None:
    order: list[str] = []

    def named(name: str) -> Stage:
        async def stage(stream: AsyncIterable[Any]) -> AsyncIterator[Any]:
            try:
                async for item in stream:
                    yield item
            finally:
                order.append(name)

        return stage

    async with pipe(named("source")(stream_of("abc")), named("1"), named("2"), named("3")) as stream:
        await anext(aiter(stream))
    assert order == ["3", "2", "1", "source"]


async def test_a_stage_that_yields_while_it_is_closed_does_not_keep_the_source_open() -> None:
    async def stubborn(stream: AsyncIterable[Any]) -> AsyncIterator[Any]:
        try:
            async for item in stream:
                yield item
        finally:
            yield "one more"

    source = Source()
    with pytest.raises(RuntimeError, match="ignored GeneratorExit"):
        async with pipe(source.tokens(), stubborn) as stream:
            await anext(aiter(stream))
    assert source.closed_by == [asyncio.current_task()]


async def test_closing_twice_is_harmless() -> None:
    source = Source()
    stream = pipe(source.tokens(), counted)
    await anext(stream)
    await stream.aclose()
    await stream.aclose()
    assert len(source.closed_by) == 1


async def test_a_pipe_of_a_pipe_closes_the_innermost_source() -> None:
    source = Source()
    async with pipe(pipe(source.tokens(), sentences), counted) as stream:
        async for _ in stream:
            break
    assert source.closed_by == [asyncio.current_task()]


# ---- pipe ----------------------------------------------------------------------------------------


async def test_stages_run_in_reading_order() -> None:
    stream = pipe(stream_of("abcde"), batched(2), counted)
    assert await collect(stream) == [(["a", "b"], 1), (["c", "d"], 2), (["e"], 3)]


async def test_without_stages_the_source_passes() -> None:
    assert await collect(pipe(stream_of("abc"))) == ["a", "b", "c"]


async def test_joined_stages_are_a_stage() -> None:
    def clean(stream: AsyncIterable[str]) -> AsyncIterator[str]:
        return pipe(stream, redact(["no"]), sentences)

    source = Watched(["Yes. N", "o no. ", "Ok."])
    async with pipe(source, clean, counted) as stream:
        assert await collect(stream) == [("Yes.", 1), ("No ***.", 2), ("Ok.", 3)]
    assert source.closed >= 1


async def test_joined_stages_that_are_never_iterated_close_what_they_opened() -> None:
    opened = Watched(["a"])

    def with_a_preface(stream: AsyncIterable[str]) -> AsyncIterator[str]:
        return merge(opened, stream)

    async with pipe(stream_of("b"), with_a_preface, counted):
        pass
    assert opened.closed >= 1


async def test_an_sdk_stream_is_a_source() -> None:
    """Only __aiter__, as a generator, and close: what openai's AsyncStream and httpx2's streams look like."""

    class SDKStream:
        closed = False

        async def __aiter__(self) -> AsyncIterator[str]:
            for text in ("a", "b", "c"):
                yield text

        async def close(self) -> None:
            self.closed = True

    source = SDKStream()
    async with pipe(source, counted) as stream:
        assert await anext(stream) == ("a", 1)
    assert source.closed


async def test_nothing_runs_until_somebody_asks() -> None:
    source = Watched("abc")
    async with pipe(source, tap(print), counted):
        await asyncio.sleep(0)
    assert source.pulled == 0


WRONG_PIPES: list[tuple[Callable[[], Any], str]] = [
    (lambda: pipe(["a", "b"], counted), r"the source of pipe\(\) .*got list: .*from_thread"),  # type: ignore
    (lambda: pipe(asyncio.sleep(0), counted), r"the source of pipe\(\) .*got coroutine: await it"),  # type: ignore
    (lambda: pipe(stream_of("a"), lambda s: None), r"stage 1 of pipe\(\), .*<lambda>.*got NoneType"),  # type: ignore
    (lambda: pipe(stream_of("a"), counted, batched), r"batched\(n\) needs a whole number"),  # type: ignore
    (lambda: pipe(stream_of("a"), redact), r"redact\(blocklist\) needs several phrases"),  # type: ignore
]


@pytest.mark.filterwarnings("error")  # no "was never awaited" besides
@pytest.mark.parametrize(("build", "message"), WRONG_PIPES)
async def test_what_is_not_a_stream_or_a_stage_is_refused_in_words(
    build: Callable[[], Any], message: str
) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        build()


async def test_an_async_function_without_yield_is_named_as_the_stage_that_is_wrong() -> None:
    async def forgot(stream: AsyncIterable[str]) -> list[str]:
        return [item async for item in stream]

    with pytest.raises(TypeError, match=r"stage 2 of pipe\(\), .*forgot.*got coroutine.*`yield`"):
        pipe(stream_of("a"), counted, forgot)  # type: ignore[arg-type, misc]


# ---- none reads ahead ----------------------------------------------------------------------------

READS: list[tuple[str, Stage, int, int]] = [
    # stage, items taken from it, items it may have pulled by then
    ("counted", counted, 3, 3),
    ("tap", tap(len), 3, 3),
    ("batched", batched(2), 2, 4),
    ("spaced", spaced(0), 3, 3),
    ("redact", redact(["x"]), 3, 3),
    ("sentences", sentences, 2, 3),  # the space after a mark is in the next item
    ("take", partial(take, n=3), 3, 3),
]


@pytest.mark.parametrize(("name", "stage", "taken", "pulled"), READS, ids=[row[0] for row in READS])
async def test_no_stage_reads_ahead(name: str, stage: Stage, taken: int, pulled: int) -> None:
    source = Watched([" So.", " Yes.", " No.", " Ok.", " Go.", " Up."])
    async with pipe(source, stage) as stream:
        for _ in range(taken):
            await anext(stream)
        assert source.pulled == pulled


async def test_a_text_with_several_sentences_is_given_out_before_more_is_read() -> None:
    source = Watched(["One. Two. Three. ", "Four."])
    async with pipe(source, sentences) as stream:
        assert [await anext(stream) for _ in range(3)] == ["One.", "Two.", "Three."]
        assert source.pulled == 1


# ---- what is held back survives an error of the source -------------------------------------------

HOLDS: list[tuple[Stage, list[Any], list[Any]]] = [
    (batched(3), [1, 2, 3, 4, 5], [[1, 2, 3], [4, 5]]),
    (redact(["secret"]), ["a sec", "ret sec"], ["a ", "*** ", "sec"]),
    (sentences, ["One. Two", " thr"], ["One.", "Two thr"]),
]


@pytest.mark.parametrize(("stage", "items", "expected"), HOLDS, ids=["batched", "redact", "sentences"])
async def test_first_what_was_held_back_then_the_error(
    stage: Stage, items: list[Any], expected: list[Any]
) -> None:
    got = []
    with pytest.raises(Boom):
        async for item in stage(fails_after(items, Boom())):
            got.append(item)
    assert got == expected


async def test_a_part_batch_passes_the_stages_behind_it_before_the_error() -> None:
    got = []
    with pytest.raises(Boom):
        async for item in pipe(fails_after("abcde", Boom()), batched(3), counted, tap(len)):
            got.append(item)
    assert got == [(["a", "b", "c"], 1), (["d", "e"], 2)]


# ---- the simple stages ---------------------------------------------------------------------------


async def test_counted_numbers_from_one() -> None:
    assert await collect(counted(stream_of("ab"))) == [("a", 1), ("b", 2)]


async def test_tap_sees_each_item_as_it_passes_and_changes_nothing() -> None:
    seen: list[str] = []
    async with pipe(stream_of("abc"), tap(seen.append)) as stream:
        assert await anext(stream) == "a"
        assert seen == ["a"]
        assert await collect(stream) == ["b", "c"]
    assert seen == ["a", "b", "c"]


def test_tap_refuses_an_async_function() -> None:
    async def look(item: str) -> None: ...

    with pytest.raises(TypeError, match="plain function"):
        tap(look)


@pytest.mark.parametrize(
    ("n", "count", "expected"), [(2, 4, [2, 2]), (2, 5, [2, 2, 1]), (1, 2, [1, 1]), (9, 2, [2]), (3, 0, [])]
)
async def test_batched_gives_lists_of_n(n: int, count: int, expected: list[int]) -> None:
    assert [len(batch) for batch in await collect(pipe(stream_of(range(count)), batched(n)))] == expected


async def test_batched_gives_a_new_list_each_time() -> None:
    first, second = await collect(pipe(stream_of("abcd"), batched(2)))
    assert first == ["a", "b"] and second == ["c", "d"]


@pytest.mark.parametrize("n", [0, -1, 1.5, "3"])
def test_batched_needs_a_whole_number(n: Any) -> None:
    with pytest.raises(ValueError, match="whole number"):
        batched(n)


def test_spaced_lets_the_first_pass_and_keeps_the_others_apart() -> None:
    async def main() -> list[float]:
        return [now() async for _ in pipe(stream_of("abc"), spaced(2.0))]

    assert virtual(main()) == [0.0, 2.0, 4.0]


def test_spaced_adds_nothing_to_a_reader_or_a_source_that_is_slower() -> None:
    async def slow(items: str) -> AsyncIterator[str]:
        for item in items:
            await asyncio.sleep(3.0)
            yield item

    async def slow_source() -> list[float]:
        return [now() async for _ in pipe(slow("abc"), spaced(2.0))]

    async def slow_reader() -> list[float]:
        times = []
        async for _ in pipe(stream_of("abc"), spaced(2.0)):
            times.append(now())
            await asyncio.sleep(3.0)
        return times

    assert virtual(slow_source()) == [3.0, 6.0, 9.0]
    assert virtual(slow_reader()) == [0.0, 3.0, 6.0]


def test_spaced_never_lets_two_items_closer_than_its_seconds_after_a_late_one() -> None:
    async def uneven() -> AsyncIterator[float]:
        for pause in (0.0, 2.9, 0.0, 0.0):
            await asyncio.sleep(pause)
            yield pause

    async def main() -> list[float]:
        return [now() async for _ in pipe(uneven(), spaced(1.0))]

    assert virtual(main()) == pytest.approx([0.0, 2.9, 3.9, 4.9])


@pytest.mark.parametrize("seconds", [-1, float("nan")])
def test_spaced_needs_a_time(seconds: float) -> None:
    with pytest.raises(ValueError, match="from 0 up"):
        spaced(seconds)


# ---- memory --------------------------------------------------------------------------------------

MIB = 1024 * 1024
WORDS = ["one ", "two. ", "se", "cret ", "three, "]


async def many(n: int) -> AsyncIterator[str]:
    for number in range(n):
        yield WORDS[number % 5]


async def peak(tokens: int, *stages: Stage) -> int:
    """Bytes at the peak over the start, results dropped."""
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        async with pipe(many(tokens), *stages) as stream:
            async for _ in stream:
                pass
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


async def test_a_million_tokens_through_five_stages_stay_under_one_mib() -> None:
    assert await peak(1_000_000, tap(len), counted, batched(20), tap(len), counted) < MIB


async def test_the_stages_that_look_back_stay_under_one_mib() -> None:
    """A tenth of the tokens: tracemalloc makes text work slow, and what grows shows as well."""
    assert await peak(100_000, redact(["secret"]), sentences, tap(len), batched(20), counted) < MIB
