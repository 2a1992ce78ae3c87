import asyncio
import pickle
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import given

from streamlib.pipeline import batched, counted, pipe, redact, sentences, spaced, tap
from streamlib.streams import paced, take
from streamlib.widgets import Flow, flow, flow_picture
from streamlib.widgets.flow import name_of
from streamlib.widgets.flow_picture import COLUMNS, HELP, Part, Strip, draw_flow, meaning, text_of

from ..stream_helpers import Watched, chunkings, fails_after, now, st, stream_of, virtual
from .scripted import ROLE, answer, event, serving, until

EVIL = '<img src=x onerror="alert(1)">&'


async def ticking(count: int, every: float) -> AsyncIterator[str]:
    for number in range(count):
        await asyncio.sleep(every)
        yield f"word{number} "


def slow(seconds: float) -> Callable[[Any], Any]:
    async def stage(stream: AsyncIterator[Any]) -> AsyncIterator[Any]:
        async for item in stream:
            await asyncio.sleep(seconds)
            yield item

    return stage


def rest(seconds: float) -> Callable[[Any], Any]:
    async def consume(item: Any) -> None:
        await asyncio.sleep(seconds)

    return consume


def run(flow_: Flow, monkeypatch: pytest.MonkeyPatch) -> Flow:
    """All of it on a virtual clock: the times are exact."""
    monkeypatch.setattr(flow, "perf_counter", now)

    async def receive() -> Flow:
        await flow_.receive()
        return flow_

    return virtual(receive())


def seconds(flow_: Flow) -> list[tuple[float, float, float]]:
    """Of each part, rounded: works, not asked, no input."""
    return [tuple(round(value, 3) for value in part.seconds.values()) for part in flow_.parts]


# -- counts


async def test_each_part_counts_what_it_took_and_gave() -> None:
    f = await Flow(stream_of(range(10)), batched(4), counted)
    assert [part.name for part in f.parts] == ["stream_of", "batched", "counted", "reader"]
    assert [(part.taken, part.given) for part in f.parts] == [(None, 10), (10, 3), (3, 3), (3, None)]


async def test_the_reader_gets_every_item_in_order() -> None:
    plain: list[int] = []
    await Flow(stream_of([1, 2, 3]), consume=plain.append)
    assert plain == [1, 2, 3]
    awaited: list[int] = []

    async def consume(item: int) -> None:
        await asyncio.sleep(0)
        awaited.append(item)

    await Flow(stream_of([1, 2, 3]), consume=consume)
    assert awaited == [1, 2, 3]


async def test_nothing_runs_ahead() -> None:
    source = Watched(range(1000))
    f = await Flow(source, tap(id), partial(take, n=5))
    assert source.pulled == 5
    assert [part.given for part in f.parts] == [5, 5, 5, None]


async def test_an_empty_stream_is_a_flow_without_items() -> None:
    f = await Flow(stream_of([]), sentences)
    assert [part.given for part in f.parts] == [0, 0, None]
    assert "<svg" in f.html(None)


# -- who waits for whom


def test_a_slow_source_leaves_the_others_without_input(monkeypatch: pytest.MonkeyPatch) -> None:
    f = run(Flow(ticking(10, 0.5), slow(0), slow(0)), monkeypatch)
    assert seconds(f) == [(5, 0, 0), (0, 0, 5), (0, 0, 5), (0, 0, 5)]


def test_a_slow_reader_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    f = run(Flow(ticking(10, 0), slow(0), consume=rest(0.5)), monkeypatch)
    assert seconds(f) == [(0, 5, 0), (0, 5, 0), (5, 0, 0)]


def test_a_slow_stage_holds_up_those_above_and_starves_those_below(monkeypatch: pytest.MonkeyPatch) -> None:
    f = run(Flow(ticking(10, 0), slow(0), slow(0.5), slow(0)), monkeypatch)
    assert seconds(f) == [(0, 5, 0), (0, 5, 0), (5, 0, 0), (0, 0, 5), (0, 0, 5)]


def test_a_part_that_ends_early_does_nothing_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    f = run(Flow(ticking(4, 0.5), paced_in_the_end), monkeypatch)
    assert seconds(f)[0] == (2, 0, 0)
    assert seconds(f)[1] == (3, 0, 2)


async def paced_in_the_end(stream: AsyncIterator[str]) -> AsyncIterator[str]:
    async for item in stream:
        yield item
    await asyncio.sleep(3)


def test_while_the_source_is_opened_it_works(monkeypatch: pytest.MonkeyPatch) -> None:
    async def open_stream() -> AsyncIterator[str]:
        await asyncio.sleep(2)
        return ticking(1, 1)

    f = run(Flow(open_stream()), monkeypatch)
    assert seconds(f) == [(3, 0, 0), (0, 0, 3)]


def test_a_stage_that_reads_ahead_is_no_input_while_it_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    async def ahead(stream: AsyncIterator[str]) -> AsyncIterator[str]:
        following = asyncio.ensure_future(anext(stream, None))
        while (item := await following) is not None:
            following = asyncio.ensure_future(anext(stream, None))
            yield item

    f = run(Flow(ticking(4, 1), ahead, consume=rest(1)), monkeypatch)
    assert seconds(f)[0][0] == pytest.approx(4)  # the source makes one while the reader works
    assert f.scene(None).clock == pytest.approx(5)


@given(st.lists(st.tuples(st.sampled_from(flow_picture.STATES), st.floats(0, 3)), max_size=30))
def test_a_strip_keeps_every_second_however_long_it_gets(spans: list[tuple[Any, float]]) -> None:
    strip, at = Strip(), 0.0
    for state, length in spans:
        strip.add(state, at, at + length)
        strip.mark(at)
        at += length
    for state, columns in (("works", strip.works), ("not asked", strip.unasked)):
        assert sum(columns) == pytest.approx(sum(length for was, length in spans if was == state), abs=1e-3)
        assert all(column <= strip.width * 1.001 for column in columns)
    assert sum(strip.items) == len(spans)
    assert len(strip.works) == len(strip.items) == COLUMNS


# -- what is not passed on


@given(chunkings(st.text("swordfih ", max_size=60)))
def test_what_redact_holds_back_is_what_it_took_and_has_not_given(pieces: list[str]) -> None:
    """Not one of the phrases occurs, so what came out is the beginning of what went in."""
    f = Flow(stream_of(pieces), redact(["swordfish!"]))
    stage, kept = f.parts[1], []
    ask = Part.asks

    def asks(part: Part) -> None:
        if part is stage:
            took, gave = "".join(pieces[: part.taken]), part.below.amount
            kept.append((part.kept_text, took[gave:]))
        ask(part)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Part, "asks", asks)
        asyncio.run(f.receive())
    assert all(shown == held for shown, held in kept)
    assert stage.most_kept == max((len(held) for _, held in kept), default=0)
    assert stage.kept == 0


@pytest.mark.parametrize(
    ("items", "stage", "most"),
    [
        (["The ", "sec", "ret", " is out. ", "A", "b"], redact(["secret"]), 3),  # "sec", and no mask counts
        (["a ", "sword", "fish", " b"], redact(["swordfish"]), 5),  # not 6, which is "swordfish" less "***"
        (["One", " two.", " Three", "."], sentences, 8),  # "One two."
        (["ab", "c"], partial(paced, per_second=1e6), 0),
        (range(7), batched(3), 2),
        (["a", "b", "c"], batched(2), 1),
        (["a", "b"], counted, 0),
        ([1, 2, 3], spaced(0), 0),
        (["a", "b"], slow(0), 0),
    ],
)
async def test_most_that_a_part_had_and_did_not_pass_on(items: Any, stage: Any, most: int) -> None:
    f = await Flow(stream_of(items), stage)
    assert f.parts[1].most_kept == most


async def test_what_was_left_out_is_over_when_the_next_text_is_passed_on() -> None:
    async def without_x(stream: AsyncIterator[str]) -> AsyncIterator[str]:
        async for text in stream:
            if "x" not in text:
                yield text

    f = await Flow(stream_of(["aa", "xxxx", "b"]), without_x)
    assert (f.parts[1].most_kept, f.parts[1].kept) == (4, 0)


async def test_text_and_other_things_do_not_compare() -> None:
    async def lengths(stream: AsyncIterator[str]) -> AsyncIterator[int]:
        async for text in stream:
            yield len(text)

    f = await Flow(stream_of(["abc"]), lengths)
    assert f.parts[1].kept is None


@pytest.mark.parametrize(
    ("item", "text"),
    [("a", "a"), (["a", "b"], "ab"), (("a", 1), "a"), ([("a", 1), ("b", 2)], "ab"), (1, None), ([1], None)],
)
def test_the_text_in_an_item(item: Any, text: str | None) -> None:
    assert text_of(item) == text


# -- what it takes


async def test_a_client_s_stream_that_needs_async_with() -> None:
    from streamlib.chat import stream_chat

    async with serving(*answer("Hel", "lo")) as server:
        f = await Flow(stream_chat("Hi", model="m", base_url=server.base_url))
        await until(lambda: server.open_connections == 0)
    assert (f.parts[0].name, f.parts[0].given) == ("ChatStream", 2)


async def test_the_coroutine_of_a_client_s_create() -> None:
    from openai import AsyncOpenAI

    async with serving(ROLE, event("Hi"), *answer("!")) as server:
        async with AsyncOpenAI(base_url=server.base_url, api_key="x") as client:
            create = client.chat.completions.create(model="m", messages=[], stream=True)
            f = await Flow(create, consume=lambda chunk: chunk.choices[0].delta)
        await until(lambda: server.open_connections == 0)
    assert f.parts[0].given == 5


def test_names_are_those_that_the_reader_wrote() -> None:
    async def upper(stream: Any) -> Any: ...

    assert name_of(upper) == "upper"
    assert name_of(redact(["x"])) == "redact"
    assert name_of(partial(take, n=5)) == "take(n=5)"
    assert name_of(ticking(1, 1)) == "ticking"
    assert name_of(pipe(ticking(1, 1))) == "Chain"
    assert name_of(partial(rest, print)) == "rest(print)"
    assert len(name_of(partial(redact, ["x" * 100]))) < 40


# -- errors


async def test_an_error_is_raised_and_shown_at_the_part_that_raised_it() -> None:
    async def broken(stream: AsyncIterator[str]) -> AsyncIterator[str]:
        async for item in stream:
            yield item
            raise ValueError("half a word")

    f = Flow(stream_of(["a", "b"]), broken, slow(0))
    with pytest.raises(ValueError, match="half a word") as caught:
        await f
    assert f.error is caught.value
    assert [part.error for part in f.parts] == ["", "ValueError: half a word", "", ""]
    assert "✗ ValueError: half a word" in f.html(None)
    assert "broken: ValueError: half a word" in f.text()
    assert all(part.over for part in f.parts)


async def test_an_error_of_the_source_comes_after_what_was_held_back() -> None:
    got: list[list[int]] = []
    f = Flow(fails_after(range(5), ConnectionError("cut")), batched(3), consume=got.append)
    with pytest.raises(ConnectionError):
        await f
    assert got == [[0, 1, 2], [3, 4]]
    assert f.parts[0].error == "ConnectionError: cut"


def test_a_part_that_failed_is_over_while_another_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    async def mourning(stream: AsyncIterator[str]) -> AsyncIterator[str]:
        try:
            async for item in stream:
                yield item
        except ConnectionError:
            await asyncio.sleep(3)
            yield "sorry"

    f = run(Flow(fails_after(["a"], ConnectionError("cut")), mourning, consume=rest(1)), monkeypatch)
    assert seconds(f) == [(0, 1, 0), (3, 2, 0), (2, 0, 3)]
    assert f.parts[0].error == "ConnectionError: cut"


async def test_an_error_of_the_reader_is_the_reader_s() -> None:
    def consume(item: str) -> None:
        raise KeyError("no")

    f = Flow(stream_of("ab"), slow(0), consume=consume)
    with pytest.raises(KeyError):
        await f
    assert [bool(part.error) for part in f.parts] == [False, False, True]


async def test_a_source_that_cannot_be_opened() -> None:
    async def refused() -> Any:
        raise ConnectionError("refused")

    f = Flow(refused(), slow(0))
    with pytest.raises(ConnectionError):
        await f
    assert f.parts[0].error == "ConnectionError: refused"


@pytest.mark.parametrize(
    ("source", "stages", "words"),
    [
        (["a"], [], r"the source of pipe\(\) must be an async iterable, got list"),
        (stream_of("a"), [slow(0), lambda stream: None], r"stage 2 of pipe\(\), .*lambda.*got NoneType"),
        (stream_of("a"), [redact], "needs several phrases"),
    ],
)
async def test_what_is_no_stream_is_named(source: Any, stages: list[Any], words: str) -> None:
    with pytest.raises(TypeError, match=words):
        await Flow(source, *stages)


# -- the end


class Log(Watched[str]):
    """A source, or a stage, that writes down when it is closed."""

    def __init__(self, name: str, log: list[str], items: Any) -> None:
        super().__init__(items)
        self.name, self.log = name, log

    async def aclose(self) -> None:
        self.log.append(self.name)


def logged(name: str, log: list[str]) -> Callable[[Any], Any]:
    async def stage(stream: Any) -> Any:
        try:
            async for item in stream:
                yield item
        finally:
            log.append(name)

    return stage


@pytest.mark.parametrize("ending", ["end", "error", "stop"])
async def test_all_is_closed_the_last_stage_first(ending: str) -> None:
    log: list[str] = []
    asked = asyncio.Event()

    async def consume(item: str) -> None:
        asked.set()
        if ending == "error":
            raise KeyError
        if ending == "stop":
            await asyncio.Event().wait()

    f = Flow(Log("source", log, "abc"), logged("A", log), logged("B", log), consume=consume)
    f.start()
    await asked.wait()
    if ending == "stop":
        f.stop()
    try:
        await f
    except KeyError:
        assert ending == "error"
    expected = ["A", "B", "source"] if ending == "end" else ["B", "A", "source"]
    assert list(dict.fromkeys(log)) == expected
    assert f.stopped == (ending == "stop")
    assert ("Stopped before the end." in f.text()) == (ending == "stop")
    assert len(asyncio.all_tasks()) == 1


async def test_stop_while_a_token_is_awaited() -> None:
    async with serving(*answer("Hel"), hold_blocking=True) as server:
        server.stream = [ROLE, event("Hel"), *[event(" x")] * 4000]
        from streamlib.chat import stream_chat

        f = Flow(stream_chat("Hi", model="m", base_url=server.base_url), sentences)
        f.start()
        await until(lambda: f.parts[0].given)
        f.stop()
        await f
        await until(lambda: server.open_connections == 0)
    assert f.stopped


# -- what it looks like


def test_the_picture_says_who_set_the_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    f = run(Flow(ticking(10, 0.1), slow(0.3)), monkeypatch)
    scene = f.scene(None)
    assert meaning(scene)[0].startswith("slow worked most: 75 % of 4.00 s.")
    assert HELP in draw_flow(scene)
    table = f.text().splitlines()
    assert " ".join(table[1].split()) == "in out works not asked no input not passed on, at most"
    assert " ".join(table[3].split()).startswith("slow 10 10 75 % 0 % 25 %")
    for sentence in meaning(scene):
        assert sentence in f.text()
        assert sentence in f.html(None)


async def test_what_models_and_learners_wrote_is_escaped() -> None:
    def consume(item: str) -> None:
        raise ValueError(EVIL)

    consume.__qualname__ = EVIL
    f = Flow(stream_of([EVIL, EVIL[:9], EVIL[9:]]), redact([EVIL]), batched(2), consume=consume)
    f.parts[1].kept_text = EVIL
    for html in (f.html(1.0), f.html(None)):
        assert "<img" not in html
    with pytest.raises(ValueError, match="img"):
        await f
    for html in (f.html(1.0), f.html(None)):
        assert "<img" not in html
        assert '"alert' not in html
    assert EVIL in f.text()


async def test_a_picture_at_every_stage_from_what_was_pickled() -> None:
    gate = asyncio.Event()

    async def consume(item: str) -> None:
        await gate.wait()

    def picture(f: Flow, live: bool) -> str:
        return draw_flow(pickle.loads(pickle.dumps(f.scene(1.0 if live else None))))

    f = Flow(stream_of(["One. ", "Two. ", "Thr"]), sentences, consume=consume)
    assert "not asked" in picture(f, live=True)
    f.start()
    await until(lambda: f.parts[-1].taken)
    assert "works" in picture(f, live=True)
    assert "held back" not in picture(f, live=True)
    gate.set()
    await f
    assert "held back" in picture(f, live=False)


async def test_a_long_run_is_no_longer_a_scene() -> None:
    f = Flow(stream_of(["word "] * 20_000), slow_join)
    await f.receive()
    assert len(pickle.dumps(f.scene(None))) < 30_000
    assert len(f.html(None)) < 40_000
    assert f.parts[1].kept is not None


async def slow_join(stream: AsyncIterator[str]) -> AsyncIterator[str]:
    """Holds everything back, as no stage should."""
    yield "".join([text async for text in stream])


def test_every_state_has_a_sign_besides_its_colour() -> None:
    html = draw_flow(Flow(stream_of([])).scene(1.0))
    for sign, state in zip("■□━", flow_picture.STATES, strict=True):
        assert any(sign in key for key in flow_picture.LEGEND)
        assert f"{sign}<br>{state}" in html.replace("</span>", "")
