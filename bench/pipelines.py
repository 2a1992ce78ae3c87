"""What a pipeline costs per token, side by side with hand-written generators and the well-known libraries.

    python bench/pipelines.py

Bars, checked at the end (exit code 1 if one does not hold): `streamlib` within 1.15 of nested generators
written by hand in both tables; in the first, the whole pipeline, at least twice as fast as each library; the
stages that look back take time linear in the text. The second table gives out every token, so the source and
the reader, which are the same for all, weigh more in it.

Rounds are interleaved, so that a busy machine slows all alike: each ratio is the median of the ratios
within one round. The source waits for nothing: this is the cost of the plumbing alone. Each library is used
the way its manual recommends, closing included; "closed" says whether the source's `finally` had run on the
statement after a `break`.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from statistics import median
from typing import Any

import asyncstdlib
from aioitertools import builtins as aio
from aioitertools.itertools import filterfalse
from aioitertools.more_itertools import chunked
from aiostream import pipe as ap
from aiostream import stream as astream

from streamlib.pipeline import Stage, batched, counted, partial_json, pipe, redact, sentences

TOKENS, ROUNDS, BATCH = 10_000, 15, 20
HAND, OURS = "generators by hand", "streamlib"
closed: list[bool] = []


async def source(n: int) -> AsyncIterator[str]:
    try:
        for _ in range(n):
            yield "token "
    finally:
        closed.append(True)


def upper(token: str) -> str:
    return token.upper()


def is_text(token: str) -> bool:
    return token != ""


def is_empty(token: str) -> bool:
    return token == ""


# ---- by hand: what everybody writes ---------------------------------------------------------------


async def hand_map(stream: AsyncIterable[str]) -> AsyncIterator[str]:
    async for token in stream:
        yield upper(token)


async def hand_filter(stream: AsyncIterable[str]) -> AsyncIterator[str]:
    async for token in stream:
        if is_text(token):
            yield token


async def hand_count(stream: AsyncIterable[str]) -> AsyncIterator[tuple[str, int]]:
    number = 0
    async for token in stream:
        number += 1
        yield token, number


async def hand_batch(stream: AsyncIterable[Any]) -> AsyncIterator[list[Any]]:
    batch = []
    async for item in stream:
        batch.append(item)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


# ---- the same four stages, five ways; `stop` leaves with a break after the first item -----------------


async def drain(stream: AsyncIterable[Any], stop: bool) -> int:
    items = 0
    async for _ in stream:
        items += 1
        if stop:
            break
    return items


async def by_hand(n: int, batches: bool, stop: bool = False) -> int:
    stream: AsyncIterator[Any] = hand_count(hand_filter(hand_map(source(n))))
    return await drain(hand_batch(stream) if batches else stream, stop)


async def by_streamlib(n: int, batches: bool, stop: bool = False) -> int:
    # map and filter are stages a user writes, as plain as above; count and batch are ours.
    last: list[Stage[Any, Any]] = [batched(BATCH)] if batches else []
    async with pipe(source(n), hand_map, hand_filter, counted, *last) as stream:
        return await drain(stream, stop)


async def by_asyncstdlib(n: int, batches: bool, stop: bool = False) -> int:
    stream: Any = asyncstdlib.enumerate(asyncstdlib.filter(is_text, asyncstdlib.map(upper, source(n))))
    async with asyncstdlib.scoped_iter(asyncstdlib.batched(stream, BATCH) if batches else stream) as items:
        return await drain(items, stop)


async def by_aioitertools(n: int, batches: bool, stop: bool = False) -> int:
    stream: Any = aio.enumerate(filterfalse(is_empty, aio.map(upper, source(n))))
    return await drain(chunked(stream, BATCH) if batches else stream, stop)


async def by_aiostream(n: int, batches: bool, stop: bool = False) -> int:
    stream: Any = astream.iterate(source(n)) | ap.map(upper) | ap.filter(is_text) | ap.enumerate()
    async with (stream | ap.chunks(BATCH) if batches else stream).stream() as items:
        return await drain(items, stop)


WAYS: dict[str, Callable[..., Awaitable[int]]] = {
    HAND: by_hand,
    OURS: by_streamlib,
    "aioitertools": by_aioitertools,
    "asyncstdlib": by_asyncstdlib,
    "aiostream": by_aiostream,
}


async def seconds(run: Awaitable[Any]) -> float:
    """Processor time: what other programs take meanwhile does not count."""
    gc.collect()
    gc.disable()
    start = time.process_time()
    await run
    elapsed = time.process_time() - start
    gc.enable()
    return elapsed


async def closes_at_once(way: Callable[..., Awaitable[int]]) -> bool:
    async def stops_early() -> bool:
        closed.clear()
        await way(1000, batches=False, stop=True)
        return bool(closed)

    at_once = await stops_early()
    await asyncio.sleep(0.05)  # let a late one finish before the next is measured
    return at_once


async def compare(batches: bool) -> list[str]:
    """Print one table; what does not hold comes back as sentences."""
    results = {name: await way(TOKENS, batches) for name, way in WAYS.items()}  # also the warm-up
    assert len(set(results.values())) == 1, results
    times: dict[str, list[float]] = {name: [] for name in WAYS}
    for _ in range(ROUNDS):
        # There and back again, so that a machine that grows busier within a round favours nobody.
        there = {name: await seconds(way(TOKENS, batches)) for name, way in WAYS.items()}
        back = {name: await seconds(WAYS[name](TOKENS, batches)) for name in reversed(WAYS)}
        for name in WAYS:
            times[name].append((there[name] + back[name]) / 2)

    def ratio(name: str, other: str) -> float:
        return median(a / b for a, b in zip(times[name], times[other], strict=True))

    what = (
        f"map, filter, count, batches of {BATCH}"
        if batches
        else "map, filter, count: every token is given out"
    )
    print(f"\n{what} ({TOKENS} tokens, {ROUNDS} rounds)")
    print(f"{'':20} {'us/token':>9} {'x by hand':>10} {'x streamlib':>12}   closed after break")
    failures = []
    for name, way in WAYS.items():
        cost = (
            f"{median(times[name]) / TOKENS * 1e6:9.2f} {ratio(name, HAND):10.2f} {ratio(name, OURS):12.2f}"
        )
        print(f"{name:20} {cost}   {'yes' if await closes_at_once(way) else 'no'}")
        if batches and name not in (HAND, OURS) and ratio(name, OURS) < 2:
            failures.append(
                f"{what}: {name} takes {ratio(name, OURS):.2f} times as long as streamlib, below 2"
            )
    if ratio(OURS, HAND) > 1.15:
        failures.append(
            f"{what}: streamlib takes {ratio(OURS, HAND):.2f} times as long as by hand, over 1.15"
        )
    return failures


# ---- four times the text takes about four times the time ------------------------------------------------


def long_string(n: int) -> str:
    return json.dumps({"title": "a file", "text": "word" * n})


def many_values(n: int) -> str:
    return json.dumps([{"a": 1}] * (n // 2))


LOOKING_BACK: list[tuple[str, Stage[str, Any], Callable[[int], str]]] = [
    ("partial_json, one string", partial_json, long_string),
    ("partial_json, many values", partial_json, many_values),
    ("redact", redact(["secret", "wordy"]), lambda n: "word" * n),
    ("sentences, short", sentences, lambda n: "A word. " * (n // 2)),
    ("sentences, one that never ends", sentences, lambda n: "word" * n),
]


async def four_characters_each(text: str) -> AsyncIterator[str]:
    for at in range(0, len(text), 4):
        yield text[at : at + 4]


async def compare_lengths() -> list[str]:
    print(f"\n{'linear in the text':32} {'us/token':>9} {'x for 4 x the text':>19}   (quadratic would be 16)")
    failures = []
    for name, stage, text in LOOKING_BACK:
        short, long = text(25_000), text(100_000)
        ratios, long_times = [], []
        for _ in range(3):
            short_time = await seconds(drain(stage(four_characters_each(short)), stop=False))
            long_times.append(await seconds(drain(stage(four_characters_each(long)), stop=False)))
            ratios.append(long_times[-1] / short_time)
        print(f"{name:32} {median(long_times) / (len(long) / 4) * 1e6:9.2f} {median(ratios):19.2f}")
        if median(ratios) > 7:
            failures.append(f"{name}: {median(ratios):.1f} times the time for 4 times the text, over 7")
    return failures


async def main() -> int:
    start = time.perf_counter()
    failures = await compare(batches=True) + await compare(batches=False) + await compare_lengths()
    print(f"\nPython {sys.version.split()[0]}, {time.perf_counter() - start:.0f} s")
    for failure in failures:
        print("FAIL", failure)
    if not failures:
        print("All bars hold.")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
