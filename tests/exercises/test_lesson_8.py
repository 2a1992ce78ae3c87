"""Answers to lesson 8 that are not in its module: other ways to be right, other ways to be wrong."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterable, Callable, Sequence
from typing import Any

import pytest

from streamlib.checker import Exercise, judge
from streamlib.exercises.lesson_8 import Job, Request, Summarise, bounded, pacing, spending


async def workers_and_a_queue(documents: Sequence[str], summarise: Summarise, limit: int) -> list[Any]:
    queue: asyncio.Queue[int] = asyncio.Queue()
    for number in range(len(documents)):
        queue.put_nowait(number)
    results: list[Any] = [None] * len(documents)

    async def worker() -> None:
        while not queue.empty():
            number = queue.get_nowait()
            try:
                results[number] = await summarise(documents[number])
            except Exception as error:
                results[number] = error

    await asyncio.gather(*(worker() for _ in range(limit)))
    return results


async def on_the_real_clock(jobs: AsyncIterable[Job], per_minute: int) -> list[str]:
    starts: list[float] = []
    tasks = []
    async for job in jobs:
        while len([at for at in starts if time.monotonic() - at < 60]) >= per_minute:  # noqa: ASYNC110
            await asyncio.sleep(0.5)
        starts.append(time.monotonic())
        tasks.append(asyncio.ensure_future(job()))
    return [await task for task in tasks]


@pytest.mark.parametrize(
    ("exercise", "answer"), [(bounded, workers_and_a_queue), (pacing, on_the_real_clock)]
)
def test_another_right_answer(exercise: Exercise, answer: Callable[..., Any]) -> None:
    verdict = judge(answer, exercise)
    assert verdict.passed, verdict


async def a_semaphore_for_each(documents: Sequence[str], summarise: Summarise, limit: int) -> list[Any]:
    async def one(document: str) -> Any:
        async with asyncio.Semaphore(limit):
            try:
                return await summarise(document)
            except Exception as error:
                return error

    return await asyncio.gather(*map(one, documents))


async def asks_a_failed_one_again(documents: Sequence[str], summarise: Summarise, limit: int) -> list[Any]:
    free = asyncio.Semaphore(limit)

    async def one(document: str) -> Any:
        async with free:
            try:
                return await summarise(document)
            except Exception:
                return await summarise(document)

    return await asyncio.gather(*map(one, documents), return_exceptions=True)


async def one_more_than_the_limit(jobs: AsyncIterable[Job], per_minute: int) -> list[str]:
    starts: list[float] = []
    tasks = []
    clock = asyncio.get_running_loop().time
    async for job in jobs:
        if len(starts) > per_minute:
            await asyncio.sleep(max(0, starts[-per_minute] + 60 - clock()))
        starts.append(clock())
        tasks.append(asyncio.ensure_future(job()))
    return list(await asyncio.gather(*tasks))


async def whoever_fits_goes_first(jobs: Sequence[Request], budget: int) -> list[int | None]:
    used: list[int | None] = [None] * len(jobs)
    left, running = budget, 0
    changed = asyncio.Condition()

    async def run(number: int) -> None:
        nonlocal left, running
        async with changed:
            await changed.wait_for(lambda: jobs[number].most <= left or not running)
            if jobs[number].most > left:
                return
            left -= jobs[number].most
            running += 1
        used[number] = tokens = await jobs[number].run()
        async with changed:
            left += jobs[number].most - tokens
            running -= 1
            changed.notify_all()

    await asyncio.gather(*map(run, range(len(jobs))))
    return used


@pytest.mark.parametrize(
    ("exercise", "answer", "mistake"),
    [
        (bounded, a_semaphore_for_each, "gathers_without_a_limit"),
        (bounded, asks_a_failed_one_again, None),
        (pacing, one_more_than_the_limit, "one_too_many"),
        (spending, whoever_fits_goes_first, "takes_whatever_fits"),
    ],
)
def test_another_wrong_answer(exercise: Exercise, answer: Callable[..., Any], mistake: str | None) -> None:
    verdict = judge(answer, exercise)
    assert not verdict.passed
    assert verdict.mistake == mistake
