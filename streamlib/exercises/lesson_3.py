"""Lesson 3: streams of one's own: produce, transform, take, bridge a queue."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing

from ..checker import Build, Case, Exercise, Source, Stage

# stream_tokens


async def stream_tokens(text: str, delay: float) -> AsyncIterator[str]:
    """The words of a text as a stream of tokens, each after `delay` seconds.

    The first token is the first word, every other one is a space and a word: joined they read well.

    >>> [token async for token in stream_tokens("Hello async world", delay=0.01)]
    ['Hello', ' async', ' world']
    """
    for number, word in enumerate(text.split()):
        await asyncio.sleep(delay)
        yield word if number == 0 else " " + word


producing = Exercise(
    stream_tokens,
    cases=[
        Case("Hello async world", 0.1, note="three words"),
        Case("token by token by token", 0.5, note="slower, and the first word comes again"),
        Case("one", 2.0, note="one word"),
        Case("", 0.1, note="an empty text"),
        Case("spaces   and\nlines\n", 0.1, note="several spaces and newlines between the words"),
        Case("no waiting at all", 0, note="a delay of 0"),
        Case("only the first of these", 0.3, take=1, note="the reader stops after one token"),
    ],
    hints=(
        "What turns an `async def` into a stream of values? And what waits without holding up everybody else?",
        "Go through `text.split()`. For each word: wait, then hand it on. The first has no space before it.",
        "`for i, word in enumerate(text.split()):`, then `await asyncio.sleep(delay)`, then `yield` the word, "
        'with `" "` in front when `i > 0`.',
    ),
)


@producing.right
async def with_a_growing_separator(text: str, delay: float) -> AsyncIterator[str]:
    separator = ""
    for word in text.split():
        await asyncio.sleep(delay)
        yield separator + word
        separator = " "


@producing.right
async def from_a_list_of_tokens(text: str, delay: float) -> AsyncIterator[str]:
    words = text.split()
    tokens = words[:1] + [f" {word}" for word in words[1:]]
    while tokens:
        await asyncio.sleep(delay)
        yield tokens.pop(0)


@producing.right
async def with_an_event_that_never_comes(text: str, delay: float) -> AsyncIterator[str]:
    for i, word in enumerate(text.split()):
        try:
            await asyncio.wait_for(asyncio.Event().wait(), timeout=delay)
        except TimeoutError:
            yield (" " if i else "") + word


@producing.mistake(
    "`time.sleep` stops the whole event loop: while this stream waits, no other stream moves, and the Stop button "
    "does not work. Wait with `await asyncio.sleep(delay)`."
)
async def sleeps_for_everybody(text: str, delay: float) -> AsyncIterator[str]:
    for number, word in enumerate(text.split()):
        time.sleep(delay)  # noqa: ASYNC251
        yield word if number == 0 else " " + word


@producing.mistake("The words come without a pause: where does it wait for `delay` seconds?")
async def does_not_wait(text: str, delay: float) -> AsyncIterator[str]:
    for number, word in enumerate(text.split()):
        yield word if number == 0 else " " + word


@producing.mistake(
    "You wait after each token. The first one comes at once, and at the end the reader waits for nothing. "
    "A model thinks before it speaks: wait first, then `yield`."
)
async def waits_after_the_token(text: str, delay: float) -> AsyncIterator[str]:
    for number, word in enumerate(text.split()):
        yield word if number == 0 else " " + word
        await asyncio.sleep(delay)


@producing.mistake(
    "These are characters. `for x in text` goes through a string letter by letter; split it first."
)
async def character_by_character(text: str, delay: float) -> AsyncIterator[str]:
    for character in text:
        await asyncio.sleep(delay)
        yield character


@producing.mistake("Joined, your words run together: each token but the first brings its space along.")
async def without_spaces(text: str, delay: float) -> AsyncIterator[str]:
    for word in text.split():
        await asyncio.sleep(delay)
        yield word


@producing.mistake(
    "Your spaces come after the words, so the text ends in one. Here a space stands before a word."
)
async def space_behind(text: str, delay: float) -> AsyncIterator[str]:
    for word in text.split():
        await asyncio.sleep(delay)
        yield word + " "


# word_count_stream


async def word_count_stream(tokens: AsyncIterator[str]) -> AsyncIterator[tuple[str, int]]:
    """Each token with the number of words so far: the non-empty parts of `token.split()`, counted per token.

    >>> [pair async for pair in word_count_stream(stream_tokens("two words", 0))]
    [('two', 1), (' words', 2)]
    """
    words = 0
    async for token in tokens:
        words += len(token.split())
        yield token, words


counting = Exercise(
    word_count_stream,
    cases=[
        Case(Source(["Hello", " async", " world"]), note="a word in each token"),
        Case(Source(["one two", " three  four", " "]), note="several words in a token, and none"),
        Case(Source(["  leading", "\n", "trailing  "]), note="spaces and a newline"),
        Case(Source(["to", "ken"]), note="one word in two tokens: per token that counts as two"),
        Case(Source(["", "a", ""]), note="empty tokens"),
        Case(Source([]), note="an empty stream"),
        Case(Source(["a b", " c"], error=ConnectionError("cut")), note="the source breaks after two tokens"),
        Case(Source(["a", " b", " c"], every=1.0), take=2, note="the reader stops after two"),
        Case(
            Source(["a", " b", " c"]),
            pause=1.0,
            note="a slow reader: nothing is asked for before it is wanted",
        ),
    ],
    hints=(
        "It is a filter in the middle: it takes a token, adds to a number, hands both on, and takes the next.",
        "`async for token in tokens:` inside an `async def`, with one `yield` in the loop. Keep the number outside it.",
        "`words += len(token.split())`, then `yield token, words`. `split()` without arguments gives no empty parts.",
    ),
)


@counting.right
async def with_anext(tokens: AsyncIterator[str]) -> AsyncIterator[tuple[str, int]]:
    total = 0
    iterator = aiter(tokens)
    while True:
        try:
            token = await anext(iterator)
        except StopAsyncIteration:
            return
        total = total + sum(1 for part in token.split() if part)
        yield (token, total)


@counting.right
async def closing_its_source(tokens: AsyncGenerator[str, None]) -> AsyncIterator[tuple[str, int]]:
    counts: list[int] = []
    async with aclosing(tokens):
        async for token in tokens:
            counts.append(len(token.split()))
            yield token, sum(counts)


@counting.right
async def counting_with_a_filter(tokens: AsyncIterator[str]) -> AsyncIterator[tuple[str, int]]:
    words = 0
    async for token in tokens:
        for _ in filter(None, token.replace("\n", " ").split(" ")):
            words += 1
        yield token, words


@counting.mistake(
    "You count tokens. A token can hold two words, or none: count the parts of `token.split()`."
)
async def counts_tokens(tokens: AsyncIterator[str]) -> AsyncIterator[tuple[str, int]]:
    words = 0
    async for token in tokens:
        words += 1
        yield token, words


@counting.mistake(
    '`split(" ")` gives empty parts for spaces at the ends or in a row. `split()` without an argument does not.'
)
async def counts_empty_parts(tokens: AsyncIterator[str]) -> AsyncIterator[tuple[str, int]]:
    words = 0
    async for token in tokens:
        words += len(token.split(" "))
        yield token, words


@counting.mistake("That is the number of words in this token alone. The count runs on: it adds up.")
async def does_not_add_up(tokens: AsyncIterator[str]) -> AsyncIterator[tuple[str, int]]:
    async for token in tokens:
        yield token, len(token.split())


@counting.mistake(
    "You gather all tokens, then hand them on: whoever reads sees nothing until the end. `yield` inside the loop "
    "that reads."
)
async def gathers_first(tokens: AsyncIterator[str]) -> AsyncIterator[tuple[str, int]]:
    pairs, words = [], 0
    async for token in tokens:
        words += len(token.split())
        pairs.append((token, words))
    for pair in pairs:
        yield pair


@counting.mistake("Only the numbers come out. Whoever reads needs the token as well: `yield token, words`.")
async def forgets_the_token(tokens: AsyncIterator[str]) -> AsyncIterator[int]:
    words = 0
    async for token in tokens:
        words += len(token.split())
        yield words


@counting.mistake(
    "You count the words of the text so far, where `to` + `ken` is one word. Here each token is counted by itself."
)
async def counts_the_joined_text(tokens: AsyncIterator[str]) -> AsyncIterator[tuple[str, int]]:
    text = ""
    async for token in tokens:
        text += token
        yield token, len(text.split())


# take


async def take(stream: AsyncGenerator[str, None], n: int) -> AsyncIterator[str]:
    """The first `n` items of a stream; then the stream is closed, and no further item was asked for.

    >>> [token async for token in take(stream_tokens("a b c d", 0), 2)]
    ['a', ' b']
    """
    async with aclosing(stream):
        if n == 0:
            return
        taken = 0
        async for item in stream:
            yield item
            taken += 1
            if taken == n:
                return


async def none_of_a_begun_stream(
    solution: Callable[[AsyncGenerator[str, None], int], AsyncIterator[str]], stage: Stage
) -> object:
    """Take 0 items of a stream from which somebody has read already; is it closed afterwards?"""
    closed = False

    async def source() -> AsyncGenerator[str, None]:
        nonlocal closed
        try:
            for item in ("a", "b", "c"):
                yield item
        finally:
            closed = True

    stream = source()
    await anext(stream)
    items = [item async for item in solution(stream, 0)]
    return f"{len(items)} items, and the stream is {'closed' if closed else 'open'}"


taking = Exercise(
    take,
    cases=[
        Case(Source(["a", "b", "c", "d"]), 2, note="two of four"),
        Case(Source(["a", "b"]), 5, note="fewer items than asked for"),
        Case(Source(["a", "b"]), 2, note="exactly as many"),
        Case(Source(["a", "b"]), 0, note="none at all"),
        Case(Source(["a", "b", "c"], at=[0.1, 0.2, 60.0]), 2, note="the third item would take a minute"),
        Case(Source(["a", "b", "c"]), 3, take=1, note="the reader itself stops after one"),
        Case(play=none_of_a_begun_stream, note="0 items of a stream that was read from before"),
        Case(Source(["a"], error=ConnectionError("cut")), 3, note="the source breaks"),
        Case(Source(["a", "b", "c"], every=1.0), 3, cancel_at=1.5, note="cancelled between two items"),
    ],
    hints=(
        "Who closes the stream when you stop early? Neither `break` nor `return` does.",
        "Put the loop in `async with aclosing(stream):`, and leave it as soon as you have handed on `n` items: before "
        "the loop asks for another one.",
        "Count after the `yield`, and `return` when the count is `n`. For `n == 0` return before the loop.",
    ),
)


@taking.right
async def with_anext_and_finally(stream: AsyncGenerator[str, None], n: int) -> AsyncIterator[str]:
    try:
        for _ in range(n):
            try:
                item = await anext(stream)
            except StopAsyncIteration:
                break
            yield item
    finally:
        await stream.aclose()


@taking.right
async def counting_down(stream: AsyncGenerator[str, None], n: int) -> AsyncIterator[str]:
    async with aclosing(stream) as items:
        while n > 0:
            item = await anext(items, None)
            if item is None:
                return
            yield item
            n -= 1


@taking.right
async def looking_at_the_number(stream: AsyncGenerator[str, None], n: int) -> AsyncIterator[str]:
    try:
        if n > 0:
            number = 0
            async for item in stream:
                number += 1
                yield item
                if number >= n:
                    break
    finally:
        await stream.aclose()


@taking.mistake(
    "It gives the right items and leaves the source open: `break` and `return` end the loop, not the stream. "
    "Behind it a model may go on writing."
)
async def does_not_close(stream: AsyncGenerator[str, None], n: int) -> AsyncIterator[str]:
    taken = 0
    if n == 0:
        return
    async for item in stream:
        yield item
        taken += 1
        if taken == n:
            return


@taking.mistake(
    "You ask for one item more than you need: the check stands at the top of the loop, when the next item is "
    "already there. It may take a minute, or cost a token. Check after the `yield`."
)
async def asks_for_one_more(stream: AsyncGenerator[str, None], n: int) -> AsyncIterator[str]:
    async with aclosing(stream):
        taken = 0
        async for item in stream:
            if taken == n:
                break
            yield item
            taken += 1


@taking.mistake("One item too many comes out. Count when you hand an item on, then compare.")
async def one_too_many(stream: AsyncGenerator[str, None], n: int) -> AsyncIterator[str]:
    async with aclosing(stream):
        taken = 0
        async for item in stream:
            yield item
            if taken == n:
                return
            taken += 1


@taking.mistake(
    "You read the whole stream and then cut the list: the reader waits for the end, and every token is paid for."
)
async def reads_everything(stream: AsyncGenerator[str, None], n: int) -> AsyncIterator[str]:
    async with aclosing(stream):
        items = [item async for item in stream]
    for item in items[:n]:
        yield item


@taking.mistake(
    "You close the stream only when you have had enough items. It can end in other ways: the reader stops, an error, "
    "a cancellation. `finally` or `aclosing` covers them all."
)
async def closes_only_at_the_end(stream: AsyncGenerator[str, None], n: int) -> AsyncIterator[str]:
    taken = 0
    if n > 0:
        async for item in stream:
            yield item
            taken += 1
            if taken == n:
                break
    await stream.aclose()


# from_queue


async def from_queue(queue: asyncio.Queue[str | Exception | None]) -> AsyncIterator[str]:
    """The items of a queue as a stream: `None` ends it, an exception in the queue is raised.

    >>> queue = asyncio.Queue()
    >>> for item in ("a", "b", None):
    ...     queue.put_nowait(item)
    >>> [item async for item in from_queue(queue)]
    ['a', 'b']
    """
    while True:
        item = await queue.get()
        if item is None:
            return
        if isinstance(item, Exception):
            raise item
        yield item


def fed(*items: str | Exception | None, every: float = 0.1) -> Build:
    """A queue into which somebody puts one item every so many seconds."""

    def make(stage: Stage) -> asyncio.Queue[str | Exception | None]:
        queue: asyncio.Queue[str | Exception | None] = asyncio.Queue()

        async def produce() -> None:
            for item in items:
                await asyncio.sleep(every)
                queue.put_nowait(item)

        stage.spawn(produce())
        return queue

    return Build(f"<queue that gets {', '.join(map(repr, items))}>", make)


def filled(*items: str | Exception | None) -> Build:
    """A queue with all its items in it."""

    def make(stage: Stage) -> asyncio.Queue[str | Exception | None]:
        queue: asyncio.Queue[str | Exception | None] = asyncio.Queue()
        for item in items:
            queue.put_nowait(item)
        return queue

    return Build(f"<queue with {', '.join(map(repr, items))}>", make)


def left_in_the_queue(*items: str | Exception | None, take: int, note: str) -> Case:
    """Which items come out when the reader takes so many, and which ones are still in the queue then."""

    async def play(solution: Callable[..., AsyncIterator[str]], stage: Stage) -> object:
        queue: asyncio.Queue[str | Exception | None] = asyncio.Queue()
        for item in items:
            queue.put_nowait(item)
        stream, out = aiter(solution(queue)), []
        for _ in range(take):
            async for item in stream:
                out.append(item)
                break
        return {"came out": out, "still in the queue": [queue.get_nowait() for _ in range(queue.qsize())]}

    return Case(play=play, note=note)


bridging = Exercise(
    from_queue,
    cases=[
        Case(filled("a", "b", "c", None), note="everything is there already"),
        Case(fed("a", "b", None), note="somebody puts an item in every 0.1 s"),
        Case(fed("a", "", "b", None), note="an empty string is an item like any other"),
        Case(fed(None), note="it ends before it began"),
        Case(fed("a", "b", ConnectionError("cut")), note="the producer fails after two items"),
        Case(fed("a", "b", "c", None), take=1, note="the reader stops after one"),
        left_in_the_queue("a", "b", None, take=1, note="what nobody asked for stays in the queue"),
        left_in_the_queue("a", None, "b", take=2, note="what comes after the end belongs to somebody else"),
    ],
    hints=(
        "Where does the waiting happen? One call gives you the next item, or waits until there is one.",
        "Endless loop: `await queue.get()`, then three cases: the end, an exception, an item. In which order do you "
        "ask?",
        "`if item is None: return`, `if isinstance(item, Exception): raise item`, else `yield item`.",
    ),
)


@bridging.right
async def with_a_walrus(queue: asyncio.Queue[str | Exception | None]) -> AsyncIterator[str]:
    while (item := await queue.get()) is not None:
        if isinstance(item, BaseException):
            raise item
        yield item


@bridging.right
async def with_a_match(queue: asyncio.Queue[str | Exception | None]) -> AsyncIterator[str]:
    while True:
        match await queue.get():
            case None:
                break
            case Exception() as error:
                raise error
            case item:
                yield item


@bridging.right
async def telling_the_queue(queue: asyncio.Queue[str | Exception | None]) -> AsyncIterator[str]:
    done = False
    while not done:
        item = await queue.get()
        queue.task_done()
        done = item is None
        if isinstance(item, Exception):
            raise item
        if not done and isinstance(item, str):
            yield item


@bridging.mistake(
    "`queue.empty()` says that nothing is there now, not that nothing will come: your stream ends at the first pause. "
    "Wait with `await queue.get()` until `None` says it is over."
)
async def ends_when_empty(queue: asyncio.Queue[str | Exception | None]) -> AsyncIterator[str]:
    while not queue.empty():
        item = await queue.get()
        if item is None:
            return
        if isinstance(item, Exception):
            raise item
        yield item


@bridging.mistake(
    "`None` came out as an item. It is the sign for the end: look at the item before you hand it on."
)
async def hands_on_the_end(queue: asyncio.Queue[str | Exception | None]) -> AsyncIterator[str | None]:
    while True:
        item = await queue.get()
        if isinstance(item, Exception):
            raise item
        yield item
        if item is None:
            return


@bridging.mistake(
    "The exception came out as an item. Whoever reads would print it like a token: `raise` it instead."
)
async def hands_on_the_error(queue: asyncio.Queue[str | Exception | None]) -> AsyncIterator[object]:
    while (item := await queue.get()) is not None:
        yield item


@bridging.mistake(
    'An empty string ends your stream: `not item` is true for `""` as well. Compare with `is None`.'
)
async def ends_at_anything_empty(queue: asyncio.Queue[str | Exception | None]) -> AsyncIterator[str]:
    while item := await queue.get():
        if isinstance(item, Exception):
            raise item
        yield item


@bridging.mistake(
    "You wait until everything is there and hand it on at the end. `yield` each item as soon as it comes."
)
async def waits_for_all(queue: asyncio.Queue[str | Exception | None]) -> AsyncIterator[str]:
    items: list[str] = []
    while (item := await queue.get()) is not None:
        if isinstance(item, Exception):
            for earlier in items:
                yield earlier
            raise item
        items.append(item)
    for item in items:
        yield item


@bridging.mistake(
    "The producer failed, and your stream ends as if all were well. Whoever reads must learn of it."
)
async def ends_quietly_on_error(queue: asyncio.Queue[str | Exception | None]) -> AsyncIterator[str]:
    while (item := await queue.get()) is not None:
        if isinstance(item, Exception):
            return
        yield item


@bridging.mistake(
    "You empty the queue at once and keep the items with you. When the reader stops, they are gone: take one item out, "
    "hand it on, and come back for the next when the reader asks."
)
async def empties_the_queue(queue: asyncio.Queue[str | Exception | None]) -> AsyncIterator[str]:
    while True:
        items = [await queue.get()]
        while not queue.empty():
            items.append(queue.get_nowait())
        for item in items:
            if item is None:
                return
            if isinstance(item, Exception):
                raise item
            yield item
