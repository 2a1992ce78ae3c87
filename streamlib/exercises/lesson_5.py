"""Lesson 5: wait, ask again, give up in time, go on where an answer broke off."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, suppress
from itertools import count
from typing import Any

from ..checker import Case, Exercise, Source, Stage
from ..retry import overlap

Open = Callable[[], AsyncGenerator[str, None]]
GoOn = Callable[[str], AsyncGenerator[str, None]]

# A server that fails, for trying out answers


class flaky:
    """Opens one stream after another: each is a list of tokens, and an error where it breaks.

    >>> open_stream = flaky([ConnectionError("refused")], ["Hello", " again"])
    """

    def __init__(self, *attempts: Sequence[str | Exception], every: float = 0.5) -> None:
        self.log: list[str] = []
        self._attempts = attempts
        self._every = every
        self._numbers = count(1)

    def __call__(self, said: str = "") -> AsyncGenerator[str, None]:
        return self._stream(next(self._numbers), said)

    async def _stream(self, number: int, said: str) -> AsyncGenerator[str, None]:
        self.note(f"stream {number} opened" + (f" to go on after {said!r}" if said else ""))
        try:
            for item in self._attempts[min(number, len(self._attempts)) - 1]:
                await asyncio.sleep(self._every)
                if isinstance(item, Exception):
                    raise item
                yield item
        finally:
            self.note(f"stream {number} closed")

    def note(self, line: str) -> None:
        self.log.append(f"{asyncio.get_running_loop().time() - self.start:4.1f} s  {line}")

    start = 0.0


def served(
    note: str, *attempts: Sequence[str | Exception], settings: tuple[float, ...], take: int = 100
) -> Case:
    """What a reader sees of a server that fails, and what the server sees of the reader."""

    async def play(solution: Callable[..., AsyncGenerator[str, None]], stage: Stage) -> object:
        server = flaky(*attempts)
        server.start = asyncio.get_running_loop().time()
        seen = 0
        try:
            async with aclosing(solution(server, *settings)) as stream:
                async for token in stream:
                    server.note(f"the reader gets {token!r}")
                    seen += 1
                    if seen == take:
                        break
            server.note("the reader has ended")
        except Exception as error:
            server.note(f"the reader gets {error!r}")
        return server.log

    return Case(play=play, note=note)


CUT = ConnectionError("cut")
REFUSED = ConnectionError("refused")

# with_timeouts


async def with_timeouts(
    stream: AsyncGenerator[str, None], first: float, between: float
) -> AsyncIterator[str]:
    """The tokens of a stream; `TimeoutError` when one is too slow, and then the stream is closed.

    The first token may take `first` seconds, each one after it `between` seconds, counted from when you ask
    for it. How long your reader takes with a token does not count.

    >>> open_stream = flaky(["quick", " enough"])
    >>> [token async for token in with_timeouts(open_stream(), first=2.0, between=1.0)]
    ['quick', ' enough']
    """
    async with aclosing(stream):
        limit = first
        while True:
            try:
                async with asyncio.timeout(limit):
                    token = await anext(stream)
            except StopAsyncIteration:
                return
            yield token
            limit = between


A_B_C = ["a", "b", "c"]

timing = Exercise(
    with_timeouts,
    cases=[
        Case(Source(A_B_C, every=0.5), 2.0, 1.0, note="everything in time"),
        Case(Source(A_B_C, at=[5.0, 5.5, 6.0]), 2.0, 1.0, note="the first token takes 5 s"),
        Case(Source(A_B_C, at=[0.5, 5.5, 6.0]), 2.0, 1.0, note="the second token takes 5 s"),
        Case(Source(A_B_C, at=[3.0, 3.5, 4.0]), 4.0, 1.0, note="a slow start that is allowed"),
        Case(Source(A_B_C, at=[0.5, 2.0, 3.5]), 1.0, 2.0, note="a quick start, then slower, as allowed"),
        Case(Source(["a", "b"], at=[0.5, 1.0, 9.0]), 2.0, 1.0, note="the end itself takes 8 s"),
        Case(Source(A_B_C, every=0.5), 2.0, 1.0, pause=1.7, note="a reader who takes 1.7 s for each token"),
        Case(
            Source(A_B_C, at=[0.5, 2.5, 4.5]),
            2.0,
            1.0,
            pause=1.7,
            note="a reader who takes 1.7 s for each token, and then waits 0.3 s for the next",
        ),
        Case(Source(["a", "", "b"], every=0.5), 2.0, 1.0, note="an empty token in the middle"),
        Case(Source([]), 2.0, 1.0, note="an empty stream"),
        Case(Source(["a"], error=ConnectionError("cut")), 2.0, 1.0, note="the stream breaks"),
        Case(Source(A_B_C, every=0.5), 2.0, 1.0, take=1, note="the reader stops after one"),
    ],
    hints=(
        "Two limits, one after the other: which of them holds depends on whether a token has come.",
        "An `async for` leaves no place for a limit. Ask for each token yourself, with `await anext(stream)`, inside "
        "`async with asyncio.timeout(…)`. What does `anext` do at the end of the stream?",
        "`limit = first`, then in an endless loop: `async with asyncio.timeout(limit): token = await anext(stream)`, "
        "`except StopAsyncIteration: return`, then `yield token` outside the timeout, and `limit = between`. All of it in "
        "`async with aclosing(stream)`; `aclosing` is in `contextlib`, as in lesson 3.",
    ),
)


@timing.right
async def with_wait_for(
    stream: AsyncGenerator[str, None], first: float, between: float
) -> AsyncIterator[str]:
    end = object()
    limit = first
    try:
        while True:
            token = await asyncio.wait_for(anext(stream, end), limit)
            if not isinstance(token, str):
                break
            yield token
            limit = between
    finally:
        await stream.aclose()


@timing.right
async def with_a_pending_task(
    stream: AsyncGenerator[str, None], first: float, between: float
) -> AsyncIterator[str]:
    async def ask() -> str | None:
        return await anext(stream, None)

    seconds = first
    async with aclosing(stream):
        while True:
            task = asyncio.create_task(ask())
            try:
                done, _ = await asyncio.wait([task], timeout=seconds)
            finally:
                if not task.done():
                    task.cancel()
                    await asyncio.wait([task])
            if not done:
                raise TimeoutError(f"no token for {seconds} s")
            token = task.result()
            if token is None:
                return
            yield token
            seconds = between


@timing.right
async def with_a_deadline(
    stream: AsyncGenerator[str, None], first: float, between: float
) -> AsyncIterator[str]:
    clock = asyncio.get_running_loop().time
    tokens = 0
    async with aclosing(stream) as items:
        while True:
            deadline = clock() + (between if tokens else first)
            with suppress(StopAsyncIteration):
                async with asyncio.timeout_at(deadline):
                    token = await items.__anext__()
                tokens += 1
                yield token
                continue
            break


@timing.mistake(
    "A token came too late and your stream ended as if the answer were whole. A timeout cancels the source, so asking it "
    "again gives its end. Let the `TimeoutError` through."
)
async def ends_silently(
    stream: AsyncGenerator[str, None], first: float, between: float
) -> AsyncIterator[str]:
    limit = first
    async with aclosing(stream):
        while True:
            try:
                token = await asyncio.wait_for(anext(stream), limit)
            except TimeoutError:
                continue
            except StopAsyncIteration:
                return
            yield token
            limit = between


@timing.mistake("One limit for all tokens. The first may take `first` seconds, the others `between`.")
async def the_first_limit_for_all(
    stream: AsyncGenerator[str, None], first: float, between: float
) -> AsyncIterator[str]:
    async with aclosing(stream):
        while True:
            try:
                async with asyncio.timeout(first):
                    token = await anext(stream)
            except StopAsyncIteration:
                return
            yield token


@timing.mistake(
    "You use `between` for the first token as well. A model thinks before it speaks: that is what `first` is for."
)
async def the_second_limit_for_all(
    stream: AsyncGenerator[str, None], first: float, between: float
) -> AsyncIterator[str]:
    async with aclosing(stream):
        while True:
            try:
                async with asyncio.timeout(between):
                    token = await anext(stream)
            except StopAsyncIteration:
                return
            yield token


@timing.mistake(
    "Your timeout is around the whole loop, so it limits the whole answer, and the reader's own time as well. Put it "
    "around the one `await` that asks for the next token."
)
async def one_limit_for_the_whole(
    stream: AsyncGenerator[str, None], first: float, between: float
) -> AsyncIterator[str]:
    async with aclosing(stream), asyncio.timeout(first):
        async for token in stream:
            yield token


@timing.mistake(
    "There is a `yield` inside your timeout, so it runs on while your reader works, and then strikes in the reader's own "
    "code. Inside it belongs only what may be too slow: asking for the next token."
)
async def yields_inside_the_timeout(
    stream: AsyncGenerator[str, None], first: float, between: float
) -> AsyncIterator[str]:
    async with aclosing(stream), asyncio.timeout(first) as patience:
        clock = asyncio.get_running_loop().time
        async for token in stream:
            patience.reschedule(clock() + between)
            yield token


@timing.mistake(
    "You set the time for the next token before you hand this one on, so your reader's own time counts. Set it when you "
    "ask: after the `yield`."
)
async def counts_the_readers_time(
    stream: AsyncGenerator[str, None], first: float, between: float
) -> AsyncIterator[str]:
    clock = asyncio.get_running_loop().time
    due = clock() + first
    async with aclosing(stream):
        while True:
            try:
                async with asyncio.timeout_at(due):
                    token = await anext(stream)
            except StopAsyncIteration:
                return
            due = clock() + between
            yield token


@timing.mistake(
    "You look at the clock when the token is there: a token that never comes is never too late. Something has to wake you "
    "while you wait, such as `asyncio.timeout`."
)
async def looks_at_the_clock_afterwards(
    stream: AsyncGenerator[str, None], first: float, between: float
) -> AsyncIterator[str]:
    clock = asyncio.get_running_loop().time
    asked, limit = clock(), first
    async with aclosing(stream):
        async for token in stream:
            if clock() - asked > limit:
                raise TimeoutError
            yield token
            asked, limit = clock(), between


@timing.mistake(
    "At the end of the stream `anext` raises `StopAsyncIteration`, and Python does not let that out of a generator. Catch it "
    "and return."
)
async def lets_the_end_out(
    stream: AsyncGenerator[str, None], first: float, between: float
) -> AsyncIterator[str]:
    limit = first
    async with aclosing(stream):
        while True:
            async with asyncio.timeout(limit):
                token = await anext(stream)
            yield token
            limit = between


@timing.mistake(
    "When the reader stops, the source stays open. `async with aclosing(stream)` around everything closes it on every way "
    "out."
)
async def leaves_the_source_open(
    stream: AsyncGenerator[str, None], first: float, between: float
) -> AsyncIterator[str]:
    limit = first
    while True:
        try:
            async with asyncio.timeout(limit):
                token = await anext(stream)
        except StopAsyncIteration:
            return
        yield token
        limit = between


@timing.mistake(
    "You have one limit for all that follows the first token, so a long answer is too late in the middle. `between` is for "
    "each token: put the timeout around each `await anext(stream)`."
)
async def one_limit_for_the_rest(
    stream: AsyncGenerator[str, None], first: float, between: float
) -> AsyncIterator[str]:
    async with aclosing(stream):
        async with asyncio.timeout(first):
            token = await anext(stream)
        yield token
        async with asyncio.timeout(between):
            async for token in stream:
                yield token


@timing.mistake(
    "You look at the clock when the token is there: a token that never comes is never too late. Something has to wake you "
    "while you wait, such as `asyncio.timeout`. And nothing closes the stream."
)
async def looks_at_the_clock_and_leaves(
    stream: AsyncGenerator[str, None], first: float, between: float
) -> AsyncIterator[str]:
    clock = asyncio.get_running_loop().time
    asked, limit = clock(), first
    async for token in stream:
        if clock() - asked > limit:
            raise TimeoutError
        yield token
        asked, limit = clock(), between


@timing.mistake(
    "An empty token is not the end: models send some. You end at the first value that is false. Compare with `is None`, or "
    "catch `StopAsyncIteration`."
)
async def takes_empty_for_the_end(
    stream: AsyncGenerator[str, None], first: float, between: float
) -> AsyncIterator[str]:
    limit = first
    async with aclosing(stream):
        while token := await asyncio.wait_for(anext(stream, None), limit):
            yield token
            limit = between


# backoff_delays


def backoff_delays(retries: int, base: float, cap: float, retry_after: float | None = None) -> list[float]:
    """The seconds to wait before each of `retries` further attempts.

    Each is random: the first between 0 and `base`, the next between 0 and twice that, then four times, and so
    on, the upper end never above `cap`. When the server said `retry_after`, that is added to each of them.

    >>> delays = backoff_delays(4, base=1.0, cap=5.0)
    >>> [0 <= delay <= limit for delay, limit in zip(delays, [1, 2, 4, 5])]
    [True, True, True, True]
    >>> min(backoff_delays(4, base=1.0, cap=5.0, retry_after=9.0)) >= 9
    True
    """
    told = retry_after or 0.0
    return [told + random.uniform(0, min(cap, base * 2**n)) for n in range(retries)]


DRAWS = 400


def drawn(retries: int, base: float, cap: float) -> Case:
    """Where the delays of many clients lie. A single draw says nothing; 400 fill the range they come from."""

    async def play(solution: Callable[..., list[float]], stage: Stage) -> object:
        clients = [list(solution(retries, base, cap)) for _ in range(DRAWS)]
        seen = [f"delays per client: {sorted({len(delays) for delays in clients})}"]
        alike = len({tuple(delays) for delays in clients}) == 1
        seen.append(f"all clients wait equally long: {alike}")
        for n, delays in enumerate(zip(*clients, strict=False)):
            tenth = min(cap, base * 2**n) / 10
            low, high = (round(round(end / tenth) * tenth, 2) for end in (min(delays), max(delays)))
            seen.append(f"delay {n + 1} of all clients: about {low:g} to {high:g} s")
        if all(clients):
            short_firsts = [delays[0] < base / 2 for delays in clients]
            short_lasts = [delays[-1] < cap / 2 for delays in clients]
            in_step = sum(a == b for a, b in zip(short_firsts, short_lasts, strict=True)) / DRAWS
            quarters = [int(4 * delays[-1] / cap) for delays in clients]
            even = all(0.15 < quarters.count(quarter) / DRAWS < 0.35 for quarter in range(4))
            seen.append(f"the last one is in each quarter of its range equally often: {even}")
            seen.append(f"each one is drawn by itself: {0.35 < in_step < 0.65}")
        return seen

    return Case(play=play, note=f"the delays of {DRAWS} clients, {retries} each, base={base:g}, cap={cap:g}")


def told(retries: int, base: float, cap: float, retry_after: float) -> Case:
    """Where the delays of many clients lie that were all told the same, and whether any come back together."""

    async def play(solution: Callable[..., list[float]], stage: Stage) -> object:
        clients = [list(solution(retries, base, cap, retry_after)) for _ in range(DRAWS)]
        seen = [f"delays per client: {sorted({len(delays) for delays in clients})}"]
        for n, delays in enumerate(zip(*clients, strict=False)):
            if len(set(delays)) == 1:
                seen.append(f"delay {n + 1}: all clients wait {delays[0]:g} s, and come back together")
                continue
            tenth = min(cap, base * 2**n) / 10
            low, high = (
                round(retry_after + round((end - retry_after) / tenth) * tenth, 2)
                for end in (min(delays), max(delays))
            )
            seen.append(f"delay {n + 1} of all clients: about {low:g} to {high:g} s")
        return seen

    note = f"{DRAWS} clients, {retries} delays each, base={base:g}, cap={cap:g}, retry_after={retry_after:g}"
    return Case(play=play, note=note)


waiting = Exercise(
    backoff_delays,
    cases=[
        drawn(4, 1.0, 8.0),
        drawn(6, 0.5, 4.0),
        told(4, 1.0, 8.0, 3.0),
        told(3, 1.0, 4.0, 10.0),
        Case(0, 1.0, 8.0, note="no retry at all"),
    ],
    hints=(
        "What doubles from one delay to the next is not the delay, it is the upper end of the range it is drawn from.",
        "`random.uniform(0, end)` draws one. The end for number n (from 0) is `base * 2**n`, or `cap` where that is "
        "smaller. What the server said is added: all who were told the same still come back one by one.",
        "For each n in `range(retries)`: `(retry_after or 0) + random.uniform(0, min(cap, base * 2**n))`. Draw anew for "
        "each.",
    ),
)


@waiting.right
def doubling_on_the_way(
    retries: int, base: float, cap: float, retry_after: float | None = None
) -> list[float]:
    delays: list[float] = []
    end = base
    while len(delays) < retries:
        delay = random.random() * min(end, cap)
        if retry_after is not None:
            delay += retry_after
        delays.append(delay)
        end *= 2
    return delays


@waiting.right
def between_two_ends(retries: int, base: float, cap: float, retry_after: float | None = None) -> list[float]:
    least = 0 if retry_after is None else retry_after
    ends = [min(cap, base * pow(2, n)) for n in range(retries)]
    return [random.uniform(least, least + end) for end in ends]


@waiting.right
def with_a_source_of_its_own(
    retries: int, base: float, cap: float, retry_after: float | None = None
) -> list[float]:
    chance = random.Random()
    delays = []
    for n in range(retries):
        end = base
        for _ in range(n):
            end = min(cap, end * 2)
        delays.append(chance.uniform(0.0, end) + (retry_after if retry_after else 0.0))
    return delays


@waiting.mistake(
    "Nothing is random here: all clients that failed together come back together, every time. Draw each delay from the "
    "whole range, from 0 up."
)
def no_jitter(retries: int, base: float, cap: float, retry_after: float | None = None) -> list[float]:
    return [(retry_after or 0.0) + min(cap, base * 2**n) for n in range(retries)]


@waiting.mistake(
    "You vary the delay a little, so the clients still come in a crowd, only a wider one. Full jitter draws from 0 on."
)
def a_little_jitter(retries: int, base: float, cap: float, retry_after: float | None = None) -> list[float]:
    return [(retry_after or 0.0) + min(cap, base * 2**n) * random.uniform(0.75, 1) for n in range(retries)]


@waiting.mistake("Half of each delay is fixed. Full jitter draws from the whole range, from 0 on.")
def half_jitter(retries: int, base: float, cap: float, retry_after: float | None = None) -> list[float]:
    return [(retry_after or 0.0) + min(cap, base * 2**n) * random.uniform(0.5, 1) for n in range(retries)]


@waiting.mistake("There is no cap: after ten failures somebody would wait for a quarter of an hour.")
def no_cap(retries: int, base: float, cap: float, retry_after: float | None = None) -> list[float]:
    return [(retry_after or 0.0) + random.uniform(0, base * 2**n) for n in range(retries)]


@waiting.mistake(
    "You draw first and cap then, so many clients wait for exactly `cap` seconds and meet again. Cap the range, then draw."
)
def caps_after_drawing(
    retries: int, base: float, cap: float, retry_after: float | None = None
) -> list[float]:
    return [(retry_after or 0.0) + min(cap, random.uniform(0, base * 2**n)) for n in range(retries)]


@waiting.mistake(
    "The range grows by the same step each time. It doubles: a server in trouble needs room quickly."
)
def grows_in_steps(retries: int, base: float, cap: float, retry_after: float | None = None) -> list[float]:
    return [(retry_after or 0.0) + random.uniform(0, min(cap, base * (n + 1))) for n in range(retries)]


@waiting.mistake("The first range ends at `base` itself: `2**0` is 1, so count from 0.")
def doubles_too_early(retries: int, base: float, cap: float, retry_after: float | None = None) -> list[float]:
    return [(retry_after or 0.0) + random.uniform(0, min(cap, base * 2**n)) for n in range(1, retries + 1)]


@waiting.mistake(
    "You draw once and use that for every delay: who waits long, waits long each time. Draw anew for each."
)
def draws_once(retries: int, base: float, cap: float, retry_after: float | None = None) -> list[float]:
    part = random.random()
    return [(retry_after or 0.0) + part * min(cap, base * 2**n) for n in range(retries)]


@waiting.mistake(
    "The server said how long to wait, and some delays are shorter. What it says is the least: add it to each."
)
def ignores_retry_after(
    retries: int, base: float, cap: float, retry_after: float | None = None
) -> list[float]:
    return [random.uniform(0, min(cap, base * 2**n)) for n in range(retries)]


@waiting.mistake(
    "`cap` is for your own guess. When the server asks for more than that, it knows better: `retry_after` wins."
)
def caps_retry_after(retries: int, base: float, cap: float, retry_after: float | None = None) -> list[float]:
    ends = [min(cap, base * 2**n) for n in range(retries)]
    return [min(cap, (retry_after or 0.0) + random.uniform(0, end)) for end in ends]


@waiting.mistake(
    "Told how long to wait, you wait for exactly that each time, so all clients come back together. What the server says is "
    "the least: the chance is added to it."
)
def waits_exactly_as_told(
    retries: int, base: float, cap: float, retry_after: float | None = None
) -> list[float]:
    if retry_after is not None:
        return [retry_after] * retries
    return [random.uniform(0, min(cap, base * 2**n)) for n in range(retries)]


@waiting.mistake(
    "You take the longer of the two. Whoever draws less than the server said then waits for exactly that, and all of these "
    "come back together. Add what the server said to what you draw."
)
def takes_the_longer(retries: int, base: float, cap: float, retry_after: float | None = None) -> list[float]:
    return [max(retry_after or 0.0, random.uniform(0, min(cap, base * 2**n))) for n in range(retries)]


@waiting.mistake("You add `retry_after` to the first delay only. None of them may be shorter.")
def listens_once(retries: int, base: float, cap: float, retry_after: float | None = None) -> list[float]:
    delays = [random.uniform(0, min(cap, base * 2**n)) for n in range(retries)]
    return [delay + (retry_after or 0.0) if n == 0 else delay for n, delay in enumerate(delays)]


@waiting.mistake(
    "Mostly the server says nothing: then `retry_after` is None, and None is no number. `retry_after or 0` is one."
)
def adds_to_none(retries: int, base: float, cap: float, retry_after: float | None = None) -> list[float]:
    told: Any = retry_after
    return [told + random.uniform(0, min(cap, base * 2**n)) for n in range(retries)]


@waiting.mistake(
    "Nothing is random here: all clients that failed together come back together, every time. With a fixed seed each of "
    "them draws the same numbers."
)
def same_seed_for_all(retries: int, base: float, cap: float, retry_after: float | None = None) -> list[float]:
    chance = random.Random(0)
    return [(retry_after or 0.0) + chance.uniform(0, min(cap, base * 2**n)) for n in range(retries)]


# retry_until_first_token


async def retry_until_first_token(open_stream: Open, attempts: int, delay: float) -> AsyncIterator[str]:
    """The tokens of `open_stream()`. While none has come, a `ConnectionError` leads to another attempt.

    There are `attempts` in all, `delay` seconds apart; the last error is raised. Once a token was handed on,
    every error goes through. So does any other kind of error, always.

    >>> open_stream = flaky([ConnectionError("refused")], ["Hello", " again"])
    >>> [token async for token in retry_until_first_token(open_stream, attempts=3, delay=0.1)]
    ['Hello', ' again']
    """
    for attempt in range(attempts):
        started = False
        try:
            async with aclosing(open_stream()) as stream:
                async for token in stream:
                    started = True
                    yield token
            return
        except ConnectionError:
            if started or attempt == attempts - 1:
                raise
        await asyncio.sleep(delay)


retrying = Exercise(
    retry_until_first_token,
    cases=[
        served("the first attempt works", ["Hi", " there"], settings=(3, 1.0)),
        served("the first attempt is refused", [REFUSED], ["Hi", " there"], settings=(3, 1.0)),
        served("two are refused", [REFUSED], [REFUSED], ["Hi", " there"], settings=(3, 2.0)),
        served("it breaks after a token", ["Hi", CUT], ["Hi", " there"], settings=(3, 1.0)),
        served("every attempt is refused", [REFUSED], [REFUSED], [CUT], ["too late"], settings=(3, 1.0)),
        served("one attempt only", [REFUSED], ["too late"], settings=(1, 1.0)),
        served("the request itself is wrong", [ValueError("400")], ["Hi"], settings=(3, 1.0)),
        served("an empty answer, which is an answer", [], ["Hi"], settings=(3, 1.0)),
        served("the reader stops after one token", [REFUSED], ["Hi", " there"], settings=(3, 1.0), take=1),
    ],
    hints=(
        "Opening a stream runs nothing of it. Where does the error of a refused connection appear?",
        "In the loop that reads. So the `try` goes around that loop, and you remember whether a token was handed on.",
        "For each attempt: `started = False`, then in a `try` an `async with aclosing(open_stream()) as stream` with the "
        "loop; `return` after it. `except ConnectionError`: raise again if `started` or if it was the last attempt. "
        "Then sleep.",
    ),
)


@retrying.right
async def with_the_first_token_apart(open_stream: Open, attempts: int, delay: float) -> AsyncIterator[str]:
    left = attempts
    while True:
        stream = open_stream()
        left -= 1
        try:
            try:
                first = await anext(stream)
            except StopAsyncIteration:
                return
            except ConnectionError:
                if left == 0:
                    raise
            else:
                yield first
                async for token in stream:
                    yield token
                return
        finally:
            await stream.aclose()
        await asyncio.sleep(delay)


@retrying.right
async def with_recursion(open_stream: Open, attempts: int, delay: float) -> AsyncIterator[str]:
    tokens = 0
    try:
        async with aclosing(open_stream()) as stream:
            async for token in stream:
                tokens += 1
                yield token
        return
    except ConnectionError:
        if tokens or attempts <= 1:
            raise
    await asyncio.sleep(delay)
    async with aclosing(with_recursion(open_stream, attempts - 1, delay)) as rest:  # type: ignore[type-var]
        async for token in rest:
            yield token


@retrying.right
async def remembering_the_error(open_stream: Open, attempts: int, delay: float) -> AsyncIterator[str]:
    problem: ConnectionError | None = None
    for number in range(attempts):
        if number:
            await asyncio.sleep(delay)
        said = []
        stream = open_stream()
        try:
            async for token in stream:
                said.append(token)
                yield token
            return
        except ConnectionError as error:
            if said:
                raise
            problem = error
        finally:
            await stream.aclose()
    if problem is not None:
        raise problem


@retrying.mistake(
    "After the break you begin again, and the reader sees the beginning twice. Once a token was handed on, a new attempt "
    "comes too late: let the error through."
)
async def begins_again(open_stream: Open, attempts: int, delay: float) -> AsyncIterator[str]:
    for attempt in range(1, attempts + 1):
        try:
            async with aclosing(open_stream()) as stream:
                async for token in stream:
                    yield token
            return
        except ConnectionError:
            if attempt == attempts:
                raise
        await asyncio.sleep(delay)


@retrying.mistake(
    "The `try` is around the opening alone, and opening an async generator runs nothing of it. The error appears when the "
    "first token is asked for."
)
async def tries_only_to_open(open_stream: Open, attempts: int, delay: float) -> AsyncIterator[str]:
    for attempt in range(1, attempts + 1):
        try:
            stream = open_stream()
            break
        except ConnectionError:
            if attempt == attempts:
                raise
            await asyncio.sleep(delay)
    async with aclosing(stream):
        async for token in stream:
            yield token


@retrying.mistake(
    "You retry every error. A request that is wrong stays wrong: only a `ConnectionError` deserves another attempt."
)
async def retries_everything(open_stream: Open, attempts: int, delay: float) -> AsyncIterator[str]:
    for attempt in range(1, attempts + 1):
        started = False
        try:
            async with aclosing(open_stream()) as stream:
                async for token in stream:
                    started = True
                    yield token
            return
        except Exception:
            if started or attempt == attempts:
                raise
        await asyncio.sleep(delay)


@retrying.mistake("That is one attempt too many: `attempts` counts the first one too.")
async def one_attempt_too_many(open_stream: Open, attempts: int, delay: float) -> AsyncIterator[str]:
    for attempt in range(attempts + 1):
        started = False
        try:
            async with aclosing(open_stream()) as stream:
                async for token in stream:
                    started = True
                    yield token
            return
        except ConnectionError:
            if started or attempt == attempts:
                raise
        await asyncio.sleep(delay)


@retrying.mistake(
    "Between two attempts nobody waits. A server in trouble gets all of them in the same instant."
)
async def does_not_wait(open_stream: Open, attempts: int, delay: float) -> AsyncIterator[str]:
    for attempt in range(1, attempts + 1):
        started = False
        try:
            async with aclosing(open_stream()) as stream:
                async for token in stream:
                    started = True
                    yield token
            return
        except ConnectionError:
            if started or attempt == attempts:
                raise


@retrying.mistake(
    "`time.sleep` holds up the event loop: while this stream waits, every other one does. `await asyncio.sleep(delay)`."
)
async def sleeps_for_everybody(open_stream: Open, attempts: int, delay: float) -> AsyncIterator[str]:
    for attempt in range(1, attempts + 1):
        started = False
        try:
            async with aclosing(open_stream()) as stream:
                async for token in stream:
                    started = True
                    yield token
            return
        except ConnectionError:
            if started or attempt == attempts:
                raise
        time.sleep(delay)  # noqa: ASYNC251


@retrying.mistake(
    "After the last attempt you wait once more before the error is raised. There is nothing left to wait for."
)
async def waits_for_nothing(open_stream: Open, attempts: int, delay: float) -> AsyncIterator[str]:
    for attempt in range(1, attempts + 1):
        started = False
        try:
            async with aclosing(open_stream()) as stream:
                async for token in stream:
                    started = True
                    yield token
            return
        except ConnectionError:
            if started:
                raise
            await asyncio.sleep(delay)
            if attempt == attempts:
                raise


@retrying.mistake(
    "When all attempts have failed your stream ends as if the answer were empty. The reader must learn of it: raise the "
    "last error."
)
async def gives_up_silently(open_stream: Open, attempts: int, delay: float) -> AsyncIterator[str]:
    for attempt in range(1, attempts + 1):
        started = False
        try:
            async with aclosing(open_stream()) as stream:
                async for token in stream:
                    started = True
                    yield token
            return
        except ConnectionError:
            if started:
                raise
        if attempt < attempts:
            await asyncio.sleep(delay)


@retrying.mistake(
    "A stream that ends without a token has not failed: the answer is empty. Only an error leads to another attempt."
)
async def takes_empty_for_failed(open_stream: Open, attempts: int, delay: float) -> AsyncIterator[str]:
    for attempt in range(1, attempts + 1):
        started = False
        try:
            async with aclosing(open_stream()) as stream:
                async for token in stream:
                    started = True
                    yield token
            if started:
                return
        except ConnectionError:
            if started or attempt == attempts:
                raise
        await asyncio.sleep(delay)


@retrying.mistake(
    "When the reader stops, the stream you opened stays open: `async for` does not close it. `async with aclosing(…)` does."
)
async def leaves_it_open(open_stream: Open, attempts: int, delay: float) -> AsyncIterator[str]:
    for attempt in range(1, attempts + 1):
        started = False
        try:
            async for token in open_stream():
                started = True
                yield token
            return
        except ConnectionError:
            if started or attempt == attempts:
                raise
        await asyncio.sleep(delay)


@retrying.mistake(
    "You read the whole answer before you hand anything on, to be sure that it is whole. Then nothing streams any more."
)
async def waits_for_the_whole(open_stream: Open, attempts: int, delay: float) -> AsyncIterator[str]:
    for attempt in range(1, attempts + 1):
        try:
            async with aclosing(open_stream()) as stream:
                tokens = [token async for token in stream]
            break
        except ConnectionError:
            if attempt == attempts:
                raise
        await asyncio.sleep(delay)
    for token in tokens:
        yield token


@retrying.mistake(
    "When all attempts have failed your stream waits once more and then ends as if the answer were empty. The reader must "
    "learn of it: raise the last error, at once."
)
async def waits_and_gives_up(open_stream: Open, attempts: int, delay: float) -> AsyncIterator[str]:
    for _ in range(attempts):
        started = False
        try:
            async with aclosing(open_stream()) as stream:
                async for token in stream:
                    started = True
                    yield token
            return
        except ConnectionError:
            if started:
                raise
        await asyncio.sleep(delay)


@retrying.mistake("The answer is whole, and you ask for it again. `return` after the loop that reads it.")
async def asks_again_when_done(open_stream: Open, attempts: int, delay: float) -> AsyncIterator[str]:
    started = False
    for attempt in range(1, attempts + 1):
        try:
            async with aclosing(open_stream()) as stream:
                async for token in stream:
                    started = True
                    yield token
        except ConnectionError:
            if started or attempt == attempts:
                raise
            await asyncio.sleep(delay)


@retrying.mistake(
    "You open one stream and read it again after it failed. A generator that has raised is over, and asked again it gives "
    "its end. Call `open_stream()` for each attempt."
)
async def opens_once(open_stream: Open, attempts: int, delay: float) -> AsyncIterator[str]:
    started = False
    async with aclosing(open_stream()) as stream:
        for attempt in range(1, attempts + 1):
            try:
                async for token in stream:
                    started = True
                    yield token
                return
            except ConnectionError:
                if started or attempt == attempts:
                    raise
            await asyncio.sleep(delay)


@retrying.mistake(
    "An answer can be empty. Then `anext` raises `StopAsyncIteration`, and Python does not let that out of a generator. Catch "
    "it and return."
)
async def needs_a_first_token(open_stream: Open, attempts: int, delay: float) -> AsyncIterator[str]:
    for attempt in range(1, attempts + 1):
        async with aclosing(open_stream()) as stream:
            try:
                first = await anext(stream)
            except ConnectionError:
                if attempt == attempts:
                    raise
            else:
                yield first
                async for token in stream:
                    yield token
                return
        await asyncio.sleep(delay)


@retrying.mistake("Your waits grow. That is right in life; here every wait is `delay` seconds.")
async def waits_twice_as_long(open_stream: Open, attempts: int, delay: float) -> AsyncIterator[str]:
    for attempt in range(attempts):
        started = False
        try:
            async with aclosing(open_stream()) as stream:
                async for token in stream:
                    started = True
                    yield token
            return
        except ConnectionError:
            if started or attempt == attempts - 1:
                raise
        await asyncio.sleep(delay * 2**attempt)


# resume


async def resume(open_stream: GoOn, attempts: int, min_overlap: int) -> AsyncIterator[str]:
    """The pieces of `open_stream("")`; after a `ConnectionError` those of `open_stream(text so far)`.

    The first piece of such a continuation may begin with the end of the text so far, said once more. A
    repetition of `min_overlap` characters or more is left out; a piece of which nothing remains is not handed
    on. There are `attempts` in all; the last error is raised, and any other kind of error at once.

    `overlap(said, new, least)` gives the length of the longest repetition, 0 if it is shorter than `least`.

    >>> open_stream = flaky(["Hello", " wor", ConnectionError("cut")], [" world", "!"])
    >>> [piece async for piece in resume(open_stream, attempts=3, min_overlap=3)]
    ['Hello', ' wor', 'ld', '!']
    """
    said = ""
    for attempt in range(attempts):
        continues = bool(said)
        try:
            async with aclosing(open_stream(said)) as stream:
                async for piece in stream:
                    if continues:
                        piece = piece[overlap(said, piece, min_overlap) :]
                        continues = False
                    if piece:
                        said += piece
                        yield piece
            return
        except ConnectionError:
            if attempt == attempts - 1:
                raise


resuming = Exercise(
    resume,
    cases=[
        served("nothing breaks", ["Hello", " world", "!"], settings=(3, 3)),
        served("cut, and continued exactly", ["Hello", " wor", CUT], ["ld", "!"], settings=(3, 3)),
        served("the end is said again", ["Hello", " wor", CUT], ["lo world", "!"], settings=(3, 3)),
        served("all is said again", ["Hello", " wor", CUT], ["Hello world", "!"], settings=(3, 3)),
        served("cut twice", ["one ", "two ", CUT], ["three ", CUT], ["four"], settings=(3, 3)),
        served(
            "cut twice, and repeated twice",
            ["one ", "two ", CUT],
            ["two three ", CUT],
            ["three four"],
            settings=(3, 3),
        ),
        served("a letter that is the same by chance", ["all", CUT], ["ligators"], settings=(3, 3)),
        served(
            "the first piece is repetition and no more", ["Hello", CUT], ["Hello", " you"], settings=(3, 3)
        ),
        served(
            "a later piece that repeats on purpose",
            ["tick ", CUT],
            ["tock ", "tock ", "tock "],
            settings=(3, 3),
        ),
        served("the text repeats itself", ["ha ha ", CUT], ["ha ha ha!"], settings=(3, 3)),
        served("refused before the first word", [REFUSED], ["Hello", "!"], settings=(3, 3)),
        served("it never gets to the end", ["a ", CUT], ["b ", CUT], ["c ", CUT], ["d"], settings=(3, 3)),
        served("the request to go on is wrong", ["a ", CUT], [ValueError("400")], ["b"], settings=(3, 3)),
        served("the reader stops after one piece", ["a ", "b ", "c"], settings=(3, 3), take=1),
    ],
    hints=(
        "What does the model need to know to go on? What do you need to know to see that it repeats itself? It is the same.",
        "Keep the text that was handed on, over all attempts. Give it to `open_stream`, and compare the first piece of the "
        "new stream with it.",
        "For each attempt read `open_stream(said)`. The first piece, if `said` is not empty, becomes "
        "`piece[overlap(said, piece, min_overlap):]`. Then, if anything is left: `said += piece` and `yield piece`. On "
        "`ConnectionError` go to the next attempt, unless it was the last.",
    ),
)


@resuming.right
async def with_a_list_of_pieces(open_stream: GoOn, attempts: int, min_overlap: int) -> AsyncIterator[str]:
    pieces: list[str] = []
    while True:
        said = "".join(pieces)
        stream = open_stream(said)
        attempts -= 1
        number = 0
        try:
            async for piece in stream:
                number += 1
                new = piece[overlap(said, piece, min_overlap) :] if number == 1 else piece
                if new:
                    pieces.append(new)
                    yield new
            return
        except ConnectionError:
            if attempts == 0:
                raise
        finally:
            await stream.aclose()


@resuming.right
async def looking_for_the_overlap_itself(
    open_stream: GoOn, attempts: int, min_overlap: int
) -> AsyncIterator[str]:
    text = ""
    for left in reversed(range(attempts)):
        begun = text == ""
        try:
            async with aclosing(open_stream(text)) as stream:
                async for piece in stream:
                    if not begun:
                        begun = True
                        for length in range(len(piece), max(min_overlap, 1) - 1, -1):
                            if text.endswith(piece[:length]):
                                piece = piece[length:]
                                break
                    text += piece
                    if piece != "":
                        yield piece
            break
        except ConnectionError:
            if not left:
                raise


@resuming.right
async def with_the_first_piece_apart(
    open_stream: GoOn, attempts: int, min_overlap: int
) -> AsyncIterator[str]:
    said, error = "", None
    for _ in range(attempts):
        async with aclosing(open_stream(said)) as stream:
            try:
                first = await anext(stream, "")
                first = first[overlap(said, first, min_overlap) :] if said else first
                if first:
                    said += first
                    yield first
                async for piece in stream:
                    if piece:
                        said += piece
                        yield piece
                return
            except ConnectionError as problem:
                error = problem
    if error:
        raise error


@resuming.mistake(
    "You ask for the whole answer again: the reader sees the beginning twice. `open_stream` takes the text so far."
)
async def asks_from_the_beginning(open_stream: GoOn, attempts: int, min_overlap: int) -> AsyncIterator[str]:
    for attempt in range(1, attempts + 1):
        try:
            async with aclosing(open_stream("")) as stream:
                async for piece in stream:
                    yield piece
            return
        except ConnectionError:
            if attempt == attempts:
                raise


@resuming.mistake(
    "What the model says again comes out again. Compare the first piece of the new stream with the end of the text so far."
)
async def keeps_the_repetition(open_stream: GoOn, attempts: int, min_overlap: int) -> AsyncIterator[str]:
    said = ""
    for attempt in range(1, attempts + 1):
        try:
            async with aclosing(open_stream(said)) as stream:
                async for piece in stream:
                    said += piece
                    yield piece
            return
        except ConnectionError:
            if attempt == attempts:
                raise


@resuming.mistake(
    "You forget the text at each break, and tell the model only what it said last. The text so far is that of all attempts."
)
async def remembers_one_attempt(open_stream: GoOn, attempts: int, min_overlap: int) -> AsyncIterator[str]:
    before = ""
    for attempt in range(1, attempts + 1):
        said, first = "", bool(before)
        try:
            async with aclosing(open_stream(before)) as stream:
                async for piece in stream:
                    if first:
                        piece = piece[overlap(before, piece, min_overlap) :]
                        first = False
                    if piece:
                        said += piece
                        yield piece
            return
        except ConnectionError:
            before = said
            if attempt == attempts:
                raise


@resuming.mistake(
    "A letter is missing: two texts often meet in one letter by chance. A repetition counts from `min_overlap` characters on."
)
async def cuts_what_is_chance(open_stream: GoOn, attempts: int, min_overlap: int) -> AsyncIterator[str]:
    said = ""
    for attempt in range(1, attempts + 1):
        first = bool(said)
        try:
            async with aclosing(open_stream(said)) as stream:
                async for piece in stream:
                    if first:
                        piece = piece[overlap(said, piece, 1) :]
                        first = False
                    if piece:
                        said += piece
                        yield piece
            return
        except ConnectionError:
            if attempt == attempts:
                raise


@resuming.mistake(
    "You look for a repetition in every piece, and cut what the text repeats on purpose. Only the first piece of a "
    "continuation can repeat what was said before the break."
)
async def cuts_in_every_piece(open_stream: GoOn, attempts: int, min_overlap: int) -> AsyncIterator[str]:
    said = ""
    for attempt in range(1, attempts + 1):
        continues = bool(said)
        try:
            async with aclosing(open_stream(said)) as stream:
                async for piece in stream:
                    if continues:
                        piece = piece[overlap(said, piece, min_overlap) :]
                    if piece:
                        said += piece
                        yield piece
            return
        except ConnectionError:
            if attempt == attempts:
                raise


@resuming.mistake(
    "You stop at the shortest repetition that fits. In a text that repeats itself a longer one may fit as well: try the "
    "longest first."
)
async def takes_the_shortest(open_stream: GoOn, attempts: int, min_overlap: int) -> AsyncIterator[str]:
    said = ""
    for attempt in range(1, attempts + 1):
        first = bool(said)
        try:
            async with aclosing(open_stream(said)) as stream:
                async for piece in stream:
                    if first:
                        first = False
                        for length in range(min_overlap, len(piece) + 1):
                            if said.endswith(piece[:length]):
                                piece = piece[length:]
                                break
                    if piece:
                        said += piece
                        yield piece
            return
        except ConnectionError:
            if attempt == attempts:
                raise


@resuming.mistake(
    "You note the piece before you cut it, so the text so far holds the repetition twice, and that is what the model is told "
    "at the next break. Note what you hand on."
)
async def notes_before_cutting(open_stream: GoOn, attempts: int, min_overlap: int) -> AsyncIterator[str]:
    said = ""
    for attempt in range(1, attempts + 1):
        first = bool(said)
        try:
            async with aclosing(open_stream(said)) as stream:
                async for piece in stream:
                    new = piece[overlap(said, piece, min_overlap) :] if first else piece
                    first = False
                    said += piece
                    if new:
                        yield new
            return
        except ConnectionError:
            if attempt == attempts:
                raise


@resuming.mistake(
    "An empty piece comes out where the repetition was all there was. Hand on only what is left."
)
async def hands_on_empty_pieces(open_stream: GoOn, attempts: int, min_overlap: int) -> AsyncIterator[str]:
    said = ""
    for attempt in range(1, attempts + 1):
        first = bool(said)
        try:
            async with aclosing(open_stream(said)) as stream:
                async for piece in stream:
                    if first:
                        piece = piece[overlap(said, piece, min_overlap) :]
                        first = False
                    said += piece
                    yield piece
            return
        except ConnectionError:
            if attempt == attempts:
                raise


@resuming.mistake(
    "After the last attempt the answer is still not whole, and your stream ends as if it were. Raise the last error."
)
async def takes_half_for_whole(open_stream: GoOn, attempts: int, min_overlap: int) -> AsyncIterator[str]:
    said = ""
    for _ in range(attempts):
        first = bool(said)
        with suppress(ConnectionError):
            async with aclosing(open_stream(said)) as stream:
                async for piece in stream:
                    if first:
                        piece = piece[overlap(said, piece, min_overlap) :]
                        first = False
                    if piece:
                        said += piece
                        yield piece
            return


@resuming.mistake(
    "You go on after every error. A request that is wrong stays wrong: only a `ConnectionError` counts."
)
async def goes_on_after_everything(open_stream: GoOn, attempts: int, min_overlap: int) -> AsyncIterator[str]:
    said = ""
    for attempt in range(1, attempts + 1):
        first = bool(said)
        try:
            async with aclosing(open_stream(said)) as stream:
                async for piece in stream:
                    if first:
                        piece = piece[overlap(said, piece, min_overlap) :]
                        first = False
                    if piece:
                        said += piece
                        yield piece
            return
        except Exception:
            if attempt == attempts:
                raise


@resuming.mistake(
    "When the reader stops, the stream you opened stays open, and the model goes on writing. `async with aclosing(…)`."
)
async def leaves_the_stream_open(open_stream: GoOn, attempts: int, min_overlap: int) -> AsyncIterator[str]:
    said = ""
    for attempt in range(1, attempts + 1):
        first = bool(said)
        try:
            async for piece in open_stream(said):
                if first:
                    piece = piece[overlap(said, piece, min_overlap) :]
                    first = False
                if piece:
                    said += piece
                    yield piece
            return
        except ConnectionError:
            if attempt == attempts:
                raise


@resuming.mistake("The answer is whole, and you ask for more of it. `return` after the loop that reads it.")
async def goes_on_when_done(open_stream: GoOn, attempts: int, min_overlap: int) -> AsyncIterator[str]:
    said = ""
    for attempt in range(1, attempts + 1):
        first = bool(said)
        try:
            async with aclosing(open_stream(said)) as stream:
                async for piece in stream:
                    if first:
                        piece = piece[overlap(said, piece, min_overlap) :]
                        first = False
                    if piece:
                        said += piece
                        yield piece
        except ConnectionError:
            if attempt == attempts:
                raise
