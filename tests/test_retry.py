"""Asking again before the first token, going on after it. On a virtual clock where time matters."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from functools import partial
from random import Random
from typing import Any

import anyio
import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamlib.backoff import backoff_delays
from streamlib.chat import stream_chat
from streamlib.closing import closing
from streamlib.patience import StreamTimeout, timeouts
from streamlib.retry import overlap, resume, resume_events, retry
from streamlib.sim import SimTransport, Simulator
from streamlib.sse import ServerSentEvent

from .stream_helpers import Watched, cut, now, virtual

at_once = partial(backoff_delays, base=0)  # no waiting between attempts
BROKEN = ConnectionResetError("broken")


class Refused(Exception):
    def __init__(self, status: int, retry_after: str | None = None) -> None:
        super().__init__(f"status {status}")
        self.status = status
        self.retry_after = retry_after


class Attempt(Watched[Any]):
    """Items, then an error, if any."""

    def __init__(self, items: Iterable[Any], error: BaseException | None = None, wait: float = 0) -> None:
        super().__init__(items)
        self.error = error
        self.wait = wait

    async def __anext__(self) -> Any:
        try:
            item = await super().__anext__()
        except StopAsyncIteration:
            if self.error is not None:
                raise self.error from None
            raise
        await asyncio.sleep(self.wait)
        return item


class Server:
    """Plays one attempt after another, and knows what was asked and whether all before it were closed."""

    def __init__(self, *attempts: Attempt) -> None:
        self.attempts = attempts
        self.asked: list[Any] = []
        self.asked_at: list[float] = []

    def __call__(self, *args: Any) -> Attempt:
        assert all(attempt.closed for attempt in self.attempts[: len(self.asked)]), "the one before is open"
        self.asked.append(args[0] if args else None)
        self.asked_at.append(now())
        return self.attempts[len(self.asked) - 1]

    @property
    def open(self) -> list[Attempt]:
        return [attempt for attempt in self.attempts[: len(self.asked)] if not attempt.closed]


async def read(stream: AsyncIterator[Any], got: list[Any] | None = None) -> list[Any]:
    got = [] if got is None else got
    async with closing(stream) as items:
        async for item in items:
            got.append(item)
    return got


# --- retry ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error", [BROKEN, TimeoutError(), Refused(429), Refused(503), Refused(408), Refused(409), Refused(529)]
)
def test_a_failure_before_the_first_item_is_tried_again(error: Exception) -> None:
    server = Server(Attempt([], error), Attempt([], error), Attempt("abc"))
    assert virtual(read(retry(server))) == ["a", "b", "c"]
    assert not server.open


@pytest.mark.parametrize(
    "error", [Refused(400), Refused(401), Refused(404), Refused(425), TypeError("a bug")]
)
def test_what_would_fail_again_is_not_tried_again(error: Exception) -> None:
    server = Server(Attempt([], error))
    with pytest.raises(type(error)):
        virtual(read(retry(server)))
    assert len(server.asked) == 1
    assert not server.open


def test_after_the_first_item_the_error_goes_through() -> None:
    server, got = Server(Attempt("ab", BROKEN), Attempt("abc")), []
    with pytest.raises(ConnectionResetError):
        virtual(read(retry(server), got))
    assert got == ["a", "b"]
    assert len(server.asked) == 1
    assert not server.open


def test_an_empty_text_is_not_the_first_token() -> None:
    """The role chunk, read as `delta.content or ""`."""
    server = Server(Attempt(["", ""], BROKEN), Attempt(["", "abc"]))
    assert "".join(virtual(read(retry(server)))) == "abc"


def test_a_stream_that_ends_without_an_item_is_an_answer() -> None:
    server = Server(Attempt([]), Attempt("abc"))
    assert virtual(read(retry(server))) == []
    assert len(server.asked) == 1


@pytest.mark.parametrize("attempts", [1, 2, 5])
def test_it_is_opened_that_often_at_most_and_the_last_error_is_raised(attempts: int) -> None:
    errors = [ConnectionResetError(str(n)) for n in range(10)]
    server = Server(*(Attempt([], error) for error in errors))
    with pytest.raises(ConnectionResetError) as caught:
        virtual(read(retry(server, attempts=attempts)))
    assert caught.value is errors[attempts - 1]
    assert len(server.asked) == attempts
    assert not server.open


async def test_no_attempt_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1, got 0"):
        await read(retry(lambda: Attempt("a"), attempts=0))


def test_the_failed_attempt_is_closed_before_it_waits() -> None:
    server = Server(Attempt([], BROKEN), Attempt("abc"))
    waits: list[float] = []

    async def main() -> None:
        async def look() -> None:
            await asyncio.sleep(0.001)
            waits.append(server.attempts[0].closed)

        looking = asyncio.create_task(look())
        await read(retry(server, delays=lambda told: iter([10.0])))
        await looking

    virtual(main())
    assert waits == [1]
    assert server.asked_at == [0, 10]


def test_it_waits_as_the_server_asks() -> None:
    server = Server(Attempt([], Refused(429, "7")), Attempt([], Refused(503)), Attempt("a"))
    virtual(read(retry(server, delays=at_once)))
    assert server.asked_at == [0, 7, 7]


def test_a_server_that_asks_to_wait_too_long_is_not_waited_for() -> None:
    server, at = Server(Attempt([], Refused(429, "3600")), Attempt("a")), []

    async def main() -> None:
        with pytest.raises(Refused):
            await read(retry(server, give_up_after=60))
        at.append(now())

    virtual(main())
    assert at == [0]


def test_the_whole_time_is_bounded_also_when_nothing_comes() -> None:
    server = Server(Attempt("late", wait=1e6), Attempt("late", wait=1e6))

    async def main() -> float:
        with pytest.raises(StreamTimeout, match="did not come within 60 s"):
            await read(retry(server, give_up_after=60))
        return now()

    assert virtual(main()) == pytest.approx(60, abs=0.1)
    assert not server.open


def test_the_time_after_the_first_item_is_not_bounded() -> None:
    server = Server(Attempt("abc", wait=50))
    assert virtual(read(retry(server, give_up_after=60))) == ["a", "b", "c"]


def test_a_stream_that_is_slow_is_tried_again_when_it_has_timeouts() -> None:
    server = Server(Attempt("late", wait=1e6), Attempt("abc", wait=1))
    got = virtual(read(retry(lambda: timeouts(server(), first=5, between=2), delays=at_once)))
    assert got == ["a", "b", "c"]
    assert server.asked_at == [0, 5]


def test_each_failure_is_told_with_the_wait_that_follows() -> None:
    told: list[tuple[str, float]] = []
    server = Server(Attempt([], BROKEN), Attempt([], Refused(429, "2")), Attempt("a"))
    stream = retry(server, delays=at_once, on_retry=lambda error, delay: told.append((str(error), delay)))
    virtual(read(stream))
    assert told == [("broken", 0), ("status 429", 2)]


def test_an_opener_that_fails_by_itself_is_a_failed_attempt_too() -> None:
    calls: list[int] = []

    def refuses_twice() -> Attempt:
        calls.append(1)
        if len(calls) < 3:
            raise ConnectionRefusedError
        return Attempt("ok")

    assert virtual(read(retry(refuses_twice))) == ["o", "k"]


@pytest.mark.parametrize("again", [retry, resume])
def test_a_cancelled_reader_is_not_served_again(again: Any) -> None:
    server = Server(Attempt("late", wait=1e6), Attempt("abc"))

    async def main() -> None:
        task = asyncio.create_task(read(again(server)))
        await asyncio.sleep(3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    virtual(main())
    assert len(server.asked) == 1
    assert not server.open


@pytest.mark.parametrize("again", [retry, resume])
def test_a_reader_who_leaves_closes_the_stream(again: Any) -> None:
    server = Server(Attempt("abc"), Attempt("abc"))

    async def main() -> None:
        async with closing(again(server)) as items:
            await anext(items)
        assert not server.open

    virtual(main())
    assert len(server.asked) == 1


@pytest.mark.parametrize("again", [retry, resume])
def test_cancelled_by_anyio_while_it_waits_it_leaves_nothing_open(again: Any) -> None:
    server = Server(Attempt([], Refused(503, "30")), Attempt("abc"))

    async def main() -> float:
        with anyio.move_on_after(5):
            await read(again(server))
        return now()

    assert virtual(main()) == 5
    assert len(server.asked) == 1
    assert not server.open


# --- resume ---------------------------------------------------------------------------------------

TEXT = "Backpressure means that a slow reader slows its source down. Buffers only delay that moment. " * 3


class Continues:
    """A model that says `text` and breaks off. It goes on as `where` says: from which character it begins."""

    def __init__(
        self, text: str, breaks: Sequence[int], where: Callable[[int], int], sizes: tuple[int, int] = (1, 9)
    ) -> None:
        self.text = text
        self.breaks = iter(breaks)
        self.where = where
        self.sizes = sizes
        self.asked: list[str] = []

    def __call__(self, said: str) -> Attempt:
        assert self.text.startswith(said), "it never said that"
        self.asked.append(said)
        begin = self.where(len(said)) if said else 0
        length = next(self.breaks, None)
        new = self.text[begin:] if length is None else self.text[begin : begin + length]
        error = BROKEN if length is not None else None
        return Attempt(cut(new, self.sizes, seed=len(self.asked)), error)


@settings(max_examples=200, deadline=None)
@given(
    text=st.text(max_size=200),
    breaks=st.lists(st.integers(0, 60), max_size=8),
    sizes=st.integers(1, 12),
)
def test_with_a_server_that_continues_exactly_no_word_is_lost_and_none_comes_twice(
    text: str, breaks: list[int], sizes: int
) -> None:
    model = Continues(text, breaks, where=lambda said: said, sizes=(sizes, sizes))
    got = virtual(read(resume(model, min_overlap=None, attempts=10, delays=at_once)))
    assert "".join(got) == text


@settings(max_examples=200, deadline=None)
@given(breaks=st.lists(st.integers(20, 60), max_size=5), repeats=st.integers(12, 80), size=st.integers(1, 30))
def test_what_the_model_says_again_is_left_out(breaks: list[int], repeats: int, size: int) -> None:
    text = "".join(f"{n}: {Random(n).random():.6f}\n" for n in range(30))  # no stretch of it comes twice
    model = Continues(text, breaks, where=lambda said: max(0, said - repeats), sizes=(size, size))
    got = virtual(read(resume(model, attempts=10, delays=at_once)))
    assert "".join(got) == text


def test_an_answer_that_begins_again_is_left_out_up_to_where_it_was() -> None:
    model = Continues(TEXT[:93], [40, 70], where=lambda said: 0)
    assert "".join(virtual(read(resume(model)))) == TEXT[:93]


@pytest.mark.parametrize(
    ("said", "new", "least", "expected"),
    [
        ("the quick brown", " fox", 4, 0),
        ("the quick brown", "brown fox", 5, 5),
        ("the quick brown", "brown fox", 6, 0),
        ("the quick brown", "quick brown fox", 4, 11),
        ("the quick brown", "the quick brown", 4, 15),
        ("abc", "abcabc", 1, 3),
        ("aaa", "aa", 1, 2),
        ("x", "x", 0, 1),
        ("", "abc", 1, 0),
        ("abc", "", 1, 0),
    ],
)
def test_the_overlap_is_the_longest_beginning_that_ends_what_was_said(
    said: str, new: str, least: int, expected: int
) -> None:
    assert overlap(said, new, least) == expected


@given(st.text("ab ", max_size=30), st.text("ab ", max_size=30), st.integers(1, 5))
def test_the_overlap_equals_its_definition(said: str, new: str, least: int) -> None:
    fits = [n for n in range(least, len(new) + 1) if said.endswith(new[:n])]
    assert overlap(said, new, least) == max(fits, default=0)


def test_new_text_is_handed_on_as_soon_as_it_is_clear_that_it_is_new() -> None:
    second = Attempt(["something", " new", " and", " more"], wait=1)
    server = Server(Attempt(["Once upon a time"], BROKEN), second)

    async def main() -> list[tuple[float, str]]:
        return [(now(), text) async for text in resume(server, delays=at_once)]

    arrivals = virtual(main())
    assert arrivals[1:] == [(1, "something"), (2, " new"), (3, " and"), (4, " more")]


def test_what_was_handed_on_is_what_the_next_attempt_is_told() -> None:
    server = Server(Attempt(["a", "b"], BROKEN), Attempt([], BROKEN), Attempt(["c"], BROKEN), Attempt(["d"]))
    assert virtual(read(resume(server, delays=at_once))) == ["a", "b", "c", "d"]
    assert server.asked == ["", "ab", "ab", "abc"]


def test_a_first_attempt_that_says_nothing_is_asked_from_the_beginning() -> None:
    server = Server(Attempt([], Refused(503)), Attempt("abc"))
    assert virtual(read(resume(server))) == ["a", "b", "c"]
    assert server.asked == ["", ""]


def test_the_last_error_carries_all_that_was_handed_on() -> None:
    server = Server(Attempt("ab", BROKEN), Attempt("c", ConnectionAbortedError("the last")), Attempt("d"))
    with pytest.raises(ConnectionAbortedError) as caught:
        virtual(read(resume(server, attempts=2)))
    assert caught.value.text == "abc"  # type: ignore[attr-defined]
    assert not server.open


def test_a_request_that_is_refused_on_the_way_ends_it() -> None:
    server = Server(Attempt("ab", BROKEN), Attempt([], Refused(400)), Attempt("c"))
    with pytest.raises(Refused):
        virtual(read(resume(server)))
    assert len(server.asked) == 2


def test_the_time_to_give_up_begins_again_with_every_item() -> None:
    server = Server(*(Attempt("ab", BROKEN, wait=50) for _ in range(4)), Attempt("c", wait=50))
    got = virtual(read(resume(server, give_up_after=60, delays=at_once, min_overlap=None)))
    assert got == ["a", "b"] * 4 + ["c"]


def test_an_outage_that_lasts_ends_it() -> None:
    server = Server(Attempt("a", BROKEN), Attempt("b", wait=1e6), Attempt("b", wait=1e6))

    async def main() -> float:
        with pytest.raises(StreamTimeout):
            await read(resume(server, give_up_after=60, delays=at_once))
        return now()

    assert virtual(main()) == pytest.approx(60, abs=0.1)


# --- resume with the embedded model ---------------------------------------------------------------

QUESTION = {"role": "user", "content": "Explain backpressure in about 60 words."}
GO_ON = {"role": "user", "content": "Continue exactly where you stopped. Repeat nothing."}


class Breaking(httpx2.AsyncBaseTransport):
    """The embedded model, whose next answers break as the faults say."""

    def __init__(self, faults: Iterable[str]) -> None:
        self.simulator = Simulator(profile="fast")
        self._inner = SimTransport(self.simulator)
        self._faults = iter(faults)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        request.headers["X-Sim-Fault"] = next(self._faults, "")
        return await self._inner.handle_async_request(request)


async def answer(transport: httpx2.AsyncBaseTransport, how: str = "") -> str:
    """The answer, read to its end by `resume` when `how` says in which way."""
    async with httpx2.AsyncClient(transport=transport) as client:

        def ask(said: str) -> Any:
            messages = [QUESTION]
            if said:
                messages += [{"role": "assistant", "content": said}]
                messages += [GO_ON] if how == "asked in words" else []
            return stream_chat(messages, model="sim-1", base_url="http://sim/v1", client=client)

        if not how:
            return "".join(await read(timeouts(ask(""))))
        least = None if how == "prefilled" else 12
        slow = lambda said: timeouts(ask(said), first=5, between=2)  # noqa: E731
        return "".join(await read(resume(slow, min_overlap=least, attempts=8, give_up_after=600)))


@pytest.mark.parametrize("how", ["prefilled", "asked in words"])
def test_of_200_answers_that_are_cut_no_word_is_lost_and_none_comes_twice(how: str) -> None:
    whole = virtual(answer(SimTransport()))
    assert len(whole) > 200
    latest = 70 if how == "prefilled" else 12  # told in words to go on, no model knows that it had said all
    breaks = ("cut-after", "truncate-after", "cut-mid-event", "stall-after", "error-event")

    async def main() -> None:
        for seed in range(200):
            chance = Random(seed)
            faults = [
                f"{chance.choice(breaks)}={chance.randrange(latest)}" for _ in range(chance.randint(1, 4))
            ]
            transport = Breaking(faults)
            assert await answer(transport, how) == whole, f"seed {seed}: {faults}"
            assert transport.simulator.stats.streams_open == 0
            assert transport.simulator.stats.requests_total > 1

    virtual(main())


def test_an_answer_cut_when_all_was_said_ends_there() -> None:
    whole = virtual(answer(SimTransport()))
    assert virtual(answer(Breaking(["truncate-after=8192"]), "prefilled")) == whole


# --- resume_events --------------------------------------------------------------------------------


def events(*numbers: int) -> list[ServerSentEvent]:
    return [ServerSentEvent(f"token {n}", id=str(n)) for n in numbers]


def data(stream: AsyncIterator[ServerSentEvent]) -> list[str]:
    return [event.data.removeprefix("token ") for event in virtual(read(stream))]


def test_it_asks_for_what_comes_after_the_last_id() -> None:
    server = Server(Attempt(events(1, 2), BROKEN), Attempt(events(3), BROKEN), Attempt(events(4)))
    assert data(resume_events(server)) == ["1", "2", "3", "4"]
    assert server.asked == ["", "2", "3"]
    assert not server.open


def test_an_event_that_comes_again_at_the_seam_is_dropped() -> None:
    server = Server(Attempt(events(1, 2), BROKEN), Attempt(events(2, 3)))
    assert data(resume_events(server)) == ["1", "2", "3"]


def test_an_id_that_comes_back_later_is_no_repetition() -> None:
    server = Server(Attempt(events(1, 2), BROKEN), Attempt(events(2, 3, 2)))
    assert data(resume_events(server)) == ["1", "2", "3", "2"]


def test_events_that_share_an_id_are_all_handed_on() -> None:
    """An id holds until the next one comes: that is the standard's rule, not a repetition."""
    server = Server(Attempt(events(1, 1, 1, 2), BROKEN), Attempt(events(3, 3)))
    assert data(resume_events(server)) == ["1", "1", "1", "2", "3", "3"]


def test_an_event_without_an_id_does_not_move_the_place_to_go_on_from() -> None:
    server = Server(Attempt([*events(1), ServerSentEvent("ping")], BROKEN), Attempt(events(2)))
    assert data(resume_events(server)) == ["1", "ping", "2"]
    assert server.asked == ["", "1"]


class Keeps:
    """A server that keeps its events and sends those after an id."""

    def __init__(self, count: int, breaks: Iterable[int]) -> None:
        self.events = events(*range(1, count + 1))
        self.breaks = iter(breaks)

    def __call__(self, last: str) -> Attempt:
        rest = self.events[int(last or 0) :]
        length = next(self.breaks, None)
        return Attempt(rest) if length is None else Attempt(rest[:length], BROKEN)


@given(st.integers(0, 40), st.lists(st.integers(0, 15), max_size=8))
def test_with_a_server_that_keeps_its_events_each_comes_once(count: int, breaks: list[int]) -> None:
    got = data(resume_events(Keeps(count, breaks), attempts=9, delays=at_once))
    assert got == [str(n) for n in range(1, count + 1)]
