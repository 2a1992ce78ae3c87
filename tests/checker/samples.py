"""Exercises of each kind, small, for testing the judge."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import aclosing

from streamlib.checker import Case, Exercise, Source

HINTS = ("a nudge", "the idea", "nearly there")


def double(numbers: list[int]) -> list[int]:
    return [2 * number for number in numbers]


plain = Exercise(double, [Case([1, 2]), Case([]), Case([-1], note="a negative number")], HINTS)


@plain.mistake("Adding two is not doubling.")
def adds_two(numbers: list[int]) -> list[int]:
    return [number + 2 for number in numbers]


@plain.mistake("A negative number can be doubled too.")
def only_positive(numbers: list[int]) -> list[int]:
    return [2 * number for number in numbers if number > 0]


def lengths(lines: Iterable[str]) -> Iterator[int]:
    for line in lines:
        yield len(line)


lazy = Exercise(
    lengths,
    [
        Case(Source(["ab", "c"], kind="iterator")),
        Case(Source(["ab", "c"], kind="iterator"), take=1, note="the reader stops"),
    ],
    HINTS,
)


async def joined(stream: AsyncIterator[str], limit: int) -> str:
    text = ""
    async with aclosing(stream):  # type: ignore[type-var]
        async for piece in stream:
            text += piece
            if len(text) >= limit:
                break
    return text


waiting = Exercise(joined, [Case(Source(["ab", "cd", "ef"]), 3), Case(Source(["ab", "cd"]), 9)], HINTS)


async def take(stream: AsyncIterator[str], n: int) -> AsyncIterator[str]:
    if n <= 0:
        return
    async with aclosing(stream):  # type: ignore[type-var]
        count = 0
        async for value in stream:
            yield value
            count += 1
            if count == n:
                return


streaming = Exercise(
    take,
    [
        Case(Source(["a", "b", "c"]), 2),
        Case(Source(["a"], error=ConnectionError("cut")), 2, note="the source breaks"),
        Case(Source(["a", "b", "c", "d"]), 3, pause=1.0, note="a slow reader"),
        Case(Source(["a", "b"]), 2, cancel_at=0.15, note="cancelled in between"),
    ],
    HINTS,
)


@streaming.mistake("You read everything before you hand anything on.")
async def reads_everything_first(stream: AsyncIterator[str], n: int) -> AsyncIterator[str]:
    values = [value async for value in stream]
    for value in values[:n]:
        yield value


async def ticks(count: int, delay: float) -> AsyncIterator[int]:
    for number in range(count):
        await asyncio.sleep(delay)
        yield number


pacing = Exercise(ticks, [Case(3, 60.0)], HINTS)
