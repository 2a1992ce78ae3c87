"""Lesson 8: many at once, but not too many: bounded, paced, within a budget."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from ..checker import Case, Exercise, Stage
from ..rates import RateLimiter

Summarise = Callable[[str], Awaitable[str]]
Job = Callable[[], Awaitable[str]]


def clock() -> float:
    return asyncio.get_running_loop().time()


# summarise_all


async def one_summary(document: str) -> str:
    """A summary of a document after a second; of the one that is "damaged", an error. For trying things out."""
    await asyncio.sleep(1.0)
    if document == "damaged":
        raise ConnectionError("cut")
    return f"{document}, in short"


async def summarise_all(documents: Sequence[str], summarise: Summarise, limit: int) -> list[str | Exception]:
    """The summary of each document, in the order of the documents; where one fails, its exception.

    `await summarise(document)` makes one. At most `limit` are in the making at once, and never fewer while
    documents wait. When the call is cancelled, nothing that it began runs on.

    >>> await summarise_all(["one", "damaged", "three"], one_summary, limit=2)
    ['one, in short', ConnectionError('cut'), 'three, in short']
    """
    free = asyncio.Semaphore(limit)

    async def one(document: str) -> str | Exception:
        async with free:
            try:
                return await summarise(document)
            except Exception as error:
                return error

    return await asyncio.gather(*map(one, documents))


def read(
    note: str, *seconds: float, limit: int, failing: Sequence[int] = (), stop_at: float | None = None
) -> Case:
    """Documents that take so many seconds each. What is compared: the results, and when each was worked on."""

    async def play(solution: Callable[..., Awaitable[object]], stage: Stage) -> object:
        start = clock()
        documents = [f"document {n}" for n in range(1, len(seconds) + 1)]
        worked: dict[str, list[str]] = {document: [] for document in documents}
        at_once = most = 0

        async def summarise(document: str) -> str:
            nonlocal at_once, most
            number = int(document.removeprefix("document "))
            began, ended = clock() - start, "stopped"
            at_once += 1
            most = max(most, at_once)
            try:
                await asyncio.sleep(seconds[number - 1])
                if number in failing:
                    ended = "failed"
                    raise ConnectionError(f"{document} was cut")
                ended = "done"
                return f"summary {number}"
            finally:
                at_once -= 1
                worked[document].append(f"{began:.1f} to {clock() - start:.1f} s, {ended}")

        call = asyncio.ensure_future(solution(list(documents), summarise, limit))
        if stop_at is None:
            returned = await call
            seen = [f"{document}: {' and '.join(spans) or 'never'}" for document, spans in worked.items()]
            return [f"at once, at most: {most}", *seen, f"returned {returned!r}"]
        await asyncio.sleep(stop_at)
        call.cancel()
        await asyncio.wait([call])
        return [f"still in the making: {at_once}"]

    return Case(play=play, note=f"{note}; limit={limit}")


bounded = Exercise(
    summarise_all,
    cases=[
        read("documents that take 3, 1 and 2 seconds", 3.0, 1.0, 2.0, limit=3),
        read("four documents, a second each", 1.0, 1.0, 1.0, 1.0, limit=2),
        read("documents that take 3, 1, 1, 1 and 2 seconds", 3.0, 1.0, 1.0, 1.0, 2.0, limit=2),
        read("the second of three fails", 1.0, 0.5, 2.0, limit=3, failing=[2]),
        read("the first fails while others wait", 0.5, 1.0, 1.0, 1.0, limit=1, failing=[1]),
        read("all fail", 1.0, 1.0, 1.0, limit=2, failing=[1, 2, 3]),
        read("fewer documents than the limit", 1.0, 2.0, limit=10),
        read("no documents", limit=3),
        read("two in a row fail, more wait", 1.0, 1.0, 2.0, 1.0, 1.0, limit=2, failing=[1, 2]),
        read("you are cancelled after 1.5 s", 1.0, 2.0, 2.0, 2.0, limit=2, stop_at=1.5),
    ],
    hints=(
        "Three separate questions: how many at once, in which order the results stand, and what a failure is. Each has its "
        "own small answer.",
        "Wrap the work on one document in a function of its own: it waits until it may begin, and it turns an exception into "
        "a value. `asyncio.gather` runs all of them and keeps the order.",
        "Make one `asyncio.Semaphore(limit)` before anything starts. `async def one(document)`: `async with` the semaphore, "
        "`try: return await summarise(document)`, `except Exception as error: return error`. Then "
        "`await asyncio.gather(*map(one, documents))`.",
    ),
)


@bounded.right
async def what_gather_returns(
    documents: Sequence[str], summarise: Summarise, limit: int
) -> list[str | BaseException]:
    free = asyncio.Semaphore(limit)

    async def one(document: str) -> str:
        async with free:
            return await summarise(document)

    return await asyncio.gather(*(one(document) for document in documents), return_exceptions=True)


@bounded.right
async def with_workers(
    documents: Sequence[str], summarise: Summarise, limit: int
) -> list[str | Exception | None]:
    results: list[str | Exception | None] = [None] * len(documents)
    waiting = iter(enumerate(documents))

    async def worker() -> None:
        for number, document in waiting:
            try:
                results[number] = await summarise(document)
            except Exception as error:
                results[number] = error

    async with asyncio.TaskGroup() as group:
        for _ in range(limit):
            group.create_task(worker())
    return results


@bounded.right
async def with_a_group_and_a_dict(
    documents: Sequence[str], summarise: Summarise, limit: int
) -> list[str | Exception]:
    by_number: dict[int, str | Exception] = {}
    slots = asyncio.BoundedSemaphore(limit)

    async def work(number: int) -> None:
        await slots.acquire()
        try:
            by_number[number] = await summarise(documents[number])
        except Exception as error:
            by_number[number] = error
        finally:
            slots.release()

    async with asyncio.TaskGroup() as group:
        for number in range(len(documents)):
            group.create_task(work(number))
    return [by_number[number] for number in range(len(documents))]


@bounded.right
async def starting_one_when_one_ends(
    documents: Sequence[str], summarise: Summarise, limit: int
) -> list[str | BaseException]:
    tasks: list[asyncio.Future[str]] = []
    running: set[asyncio.Future[str]] = set()
    try:
        for document in documents:
            if len(running) == limit:
                _, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            tasks.append(asyncio.ensure_future(summarise(document)))
            running.add(tasks[-1])
        return await asyncio.gather(*tasks, return_exceptions=True)
    finally:
        for task in tasks:
            task.cancel()


@bounded.mistake(
    "All of them start at once. `gather` knows no limit. Something has to hold the others back until one is done; a semaphore "
    "does, if it is one for all, made before the work starts, and not a new one for each document."
)
async def gathers_without_a_limit(
    documents: Sequence[str], summarise: Summarise, limit: int
) -> list[str | BaseException]:
    return await asyncio.gather(*map(summarise, documents), return_exceptions=True)


@bounded.mistake(
    "One after the other: each `await` in your loop waits for a whole summary. Start them as tasks, or hand them to `gather`."
)
async def one_after_the_other(
    documents: Sequence[str], summarise: Summarise, limit: int
) -> list[str | Exception]:
    results: list[str | Exception] = []
    for document in documents:
        try:
            results.append(await summarise(document))
        except Exception as error:
            results.append(error)
    return results


@bounded.mistake(
    "The results stand in the order in which they came. The reader needs to know which belongs to which document: `gather` "
    "keeps the order, or keep the number of each."
)
async def in_order_of_arrival(
    documents: Sequence[str], summarise: Summarise, limit: int
) -> list[str | Exception]:
    free = asyncio.Semaphore(limit)
    results: list[str | Exception] = []

    async def one(document: str) -> str:
        async with free:
            return await summarise(document)

    for done in asyncio.as_completed([one(document) for document in documents]):
        try:
            results.append(await done)
        except Exception as error:
            results.append(error)
    return results


@bounded.mistake(
    "One document fails and all the others are lost, those that are done and paid for as well. An exception has to become a "
    "value before `gather` sees it."
)
async def one_failure_loses_the_rest(documents: Sequence[str], summarise: Summarise, limit: int) -> list[str]:
    free = asyncio.Semaphore(limit)

    async def one(document: str) -> str:
        async with free:
            return await summarise(document)

    return await asyncio.gather(*map(one, documents))


@bounded.mistake(
    "One document fails, and the task group cancels all the others: that is its rule. Catch the exception inside the task."
)
async def the_group_cancels_the_rest(documents: Sequence[str], summarise: Summarise, limit: int) -> list[str]:
    free = asyncio.Semaphore(limit)

    async def one(document: str) -> str:
        async with free:
            return await summarise(document)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(document)) for document in documents]
    return [task.result() for task in tasks]


@bounded.mistake(
    "You work in groups of `limit`, and each group waits for its slowest. A slow document leaves places empty while others "
    "wait: let the next one start as soon as *one* is done."
)
async def in_groups(documents: Sequence[str], summarise: Summarise, limit: int) -> list[str | BaseException]:
    results: list[str | BaseException] = []
    for start in range(0, len(documents), limit):
        group = documents[start : start + limit]
        results += await asyncio.gather(*map(summarise, group), return_exceptions=True)
    return results


@bounded.mistake(
    "The failed one is missing, so every summary after it stands at the wrong place. Put the exception where the summary "
    "would be."
)
async def leaves_the_failed_out(
    documents: Sequence[str], summarise: Summarise, limit: int
) -> list[str | BaseException]:
    free = asyncio.Semaphore(limit)

    async def one(document: str) -> str:
        async with free:
            return await summarise(document)

    results = await asyncio.gather(*map(one, documents), return_exceptions=True)
    return [result for result in results if not isinstance(result, BaseException)]


@bounded.mistake(
    "You turn the exception into a text. Nobody can tell it from a summary any more: put the exception itself there."
)
async def errors_as_text(documents: Sequence[str], summarise: Summarise, limit: int) -> list[str]:
    free = asyncio.Semaphore(limit)

    async def one(document: str) -> str:
        async with free:
            try:
                return await summarise(document)
            except Exception as error:
                return str(error)

    return await asyncio.gather(*map(one, documents))


@bounded.mistake(
    "`None` says that there is no summary, and not why. Whoever reads the results wants to know: put the exception there."
)
async def errors_as_none(documents: Sequence[str], summarise: Summarise, limit: int) -> list[str | None]:
    free = asyncio.Semaphore(limit)

    async def one(document: str) -> str | None:
        async with free:
            try:
                return await summarise(document)
            except Exception:
                return None

    return await asyncio.gather(*map(one, documents))


@bounded.mistake(
    "A failed document keeps its place for ever, since `release` is not reached. `async with` gives it back on every way out."
)
async def keeps_the_place(
    documents: Sequence[str], summarise: Summarise, limit: int
) -> list[str | BaseException]:
    free = asyncio.Semaphore(limit)

    async def one(document: str) -> str:
        await free.acquire()
        summary = await summarise(document)
        free.release()
        return summary

    return await asyncio.gather(*map(one, documents), return_exceptions=True)


@bounded.mistake(
    "When you are cancelled, your tasks go on without you, and go on costing money. `gather` and `TaskGroup` take theirs "
    "along; tasks of your own you have to cancel, in a `finally`."
)
async def leaves_tasks_behind(
    documents: Sequence[str], summarise: Summarise, limit: int
) -> list[str | Exception]:
    free = asyncio.Semaphore(limit)

    async def one(document: str) -> str | Exception:
        async with free:
            try:
                return await summarise(document)
            except Exception as error:
                return error

    tasks = [asyncio.create_task(one(document)) for document in documents]
    if tasks:
        await asyncio.wait(tasks)
    return [task.result() for task in tasks]


@bounded.mistake(
    "You return a dictionary. Asked for is a list: for each document, in their order, its summary or its exception."
)
async def a_dictionary(
    documents: Sequence[str], summarise: Summarise, limit: int
) -> dict[str, str | Exception]:
    free = asyncio.Semaphore(limit)
    results: dict[str, str | Exception] = {}

    async def one(document: str) -> None:
        async with free:
            try:
                results[document] = await summarise(document)
            except Exception as error:
                results[document] = error

    await asyncio.gather(*map(one, documents))
    return results


@bounded.mistake(
    "`gather` has been called, and nobody awaits it: you return what is still to come. `await` it first."
)
async def gather_without_await(
    documents: Sequence[str], summarise: Summarise, limit: int
) -> asyncio.Future[list[str | BaseException]]:
    return asyncio.gather(*map(summarise, documents), return_exceptions=True)


# rate_limited


class coming:
    """Jobs that come in over time: one at each of the instants (seconds), each of which takes `takes` seconds.

    >>> jobs = coming(0, 0, 30)
    """

    def __init__(self, *instants: float, takes: float | Sequence[float] = 1.0) -> None:
        self.started: dict[str, float] = {}
        self._instants = instants
        self._takes = takes if isinstance(takes, Sequence) else [takes] * len(instants)

    def __aiter__(self) -> AsyncIterator[Job]:
        return self._come()

    async def _come(self) -> AsyncIterator[Job]:
        start = clock()
        for number, (at, takes) in enumerate(zip(self._instants, self._takes, strict=True), 1):
            await asyncio.sleep(start + at - clock())
            yield partial(self._job, f"job {number}", takes, start)

    async def _job(self, name: str, takes: float, start: float) -> str:
        self.started[name] = round(clock() - start, 1)
        await asyncio.sleep(takes)
        return f"answer to {name}"


async def rate_limited(jobs: AsyncIterable[Job], per_minute: int) -> list[str]:
    """The answers of all jobs, in the order in which the jobs came.

    `await job()` makes a request and gives its answer. In any 60 seconds, wherever they begin, at most
    `per_minute` jobs are started, and none is started later than that asks for: a job may start exactly 60
    seconds after another one. They come in over time, and may last longer than a minute. To keep it short,
    no job fails.

    >>> await rate_limited(coming(0, 0, 30), per_minute=2)
    ['answer to job 1', 'answer to job 2', 'answer to job 3']
    """
    started: deque[float] = deque(maxlen=per_minute)
    tasks = []
    async with asyncio.TaskGroup() as group:
        async for job in jobs:
            if len(started) == per_minute:
                await asyncio.sleep(started[0] + 60 - clock())
            started.append(clock())
            tasks.append(group.create_task(_awaited(job)))
    return [task.result() for task in tasks]


async def _awaited(job: Job) -> str:
    return await job()


def come(note: str, *instants: float, per_minute: int, takes: float | Sequence[float] = 1.0) -> Case:
    async def play(solution: Callable[..., Awaitable[object]], stage: Stage) -> object:
        jobs = coming(*instants, takes=takes)
        returned = await solution(jobs, per_minute)
        starts = [f"{name} starts at {at:g} s" for name, at in sorted(jobs.started.items())]
        return [*starts, f"returned {returned!r}"]

    return Case(
        play=play,
        note=f"jobs come at {', '.join(f'{at:g}' for at in instants) or '(none)'} s{note}; {per_minute=}",
    )


pacing = Exercise(
    rate_limited,
    cases=[
        come("", 0, 0, 0, 0, 0, per_minute=2),
        come("", 0, 10, 20, per_minute=5),
        come("", 0, 50, 55, 61, 62, 63, per_minute=2),
        come(", each lasts 100 s", 0, 1, 2, 70, per_minute=2, takes=100.0),
        come(", the first takes longest", 0, 0, 0, per_minute=3, takes=[5.0, 3.0, 1.0]),
        come("", 0, 200, 201, 202, 203, 204, per_minute=2),
        come("", per_minute=3),
        come("", 0, 0, 0, per_minute=1),
        come("", 0, 30, 30, 61, 90, 90, 91, 121, per_minute=3),
    ],
    hints=(
        "What has to be remembered to know whether a job may start now? Not a number: instants.",
        "The job may start when, of the last `per_minute` starts, the oldest is 60 seconds ago. Start it as a task, so that "
        "the next one need not wait for its answer.",
        "`started = deque(maxlen=per_minute)`. For each job: when the deque is full, `await asyncio.sleep(started[0] + 60 - "
        "now)`, then append the instant (`asyncio.get_running_loop().time()`) and create the task. At the end the results "
        "of the tasks, in order.",
    ),
)


@pacing.right
async def with_a_log_that_is_pruned(jobs: AsyncIterable[Job], per_minute: int) -> list[str]:
    log: list[float] = []
    tasks: list[asyncio.Future[str]] = []
    async for job in jobs:
        while True:
            log = [at for at in log if clock() - at < 60]
            if len(log) < per_minute:
                break
            await asyncio.sleep(log[0] + 60 - clock())
        log.append(clock())
        tasks.append(asyncio.ensure_future(job()))
    return list(await asyncio.gather(*tasks))


@pacing.right
async def with_a_semaphore_given_back_after_a_minute(jobs: AsyncIterable[Job], per_minute: int) -> list[str]:
    permits = asyncio.Semaphore(per_minute)
    loop = asyncio.get_running_loop()
    answers: dict[int, str] = {}
    number = 0

    async def run(number: int, job: Job) -> None:
        answers[number] = await job()

    async with asyncio.TaskGroup() as group:
        async for job in jobs:
            await permits.acquire()
            loop.call_later(60, permits.release)
            group.create_task(run(number, job))
            number += 1
    return [answers[n] for n in range(number)]


@pacing.right
async def each_task_waits_behind_a_lock(jobs: AsyncIterable[Job], per_minute: int) -> list[str]:
    starts: list[float] = []
    turn = asyncio.Lock()

    async def run(job: Job) -> str:
        async with turn:
            if len(starts) >= per_minute:
                await asyncio.sleep(max(0, starts[-per_minute] + 60 - clock()))
            starts.append(clock())
        return await job()

    tasks = []
    async for job in jobs:
        tasks.append(asyncio.create_task(run(job)))
    return [await task for task in tasks]


@pacing.right
async def reserving_the_next_free_instant(jobs: AsyncIterable[Job], per_minute: int) -> list[str]:
    planned: list[float] = []

    async def run(job: Job, at: float) -> str:
        await asyncio.sleep(at - clock())
        return await job()

    async with asyncio.TaskGroup() as group:
        tasks = []
        async for job in jobs:
            free = planned[-per_minute] + 60 if len(planned) >= per_minute else 0.0
            planned.append(max(clock(), free))
            tasks.append(group.create_task(run(job, planned[-1])))
    return [task.result() for task in tasks]


@pacing.mistake(
    "A semaphore bounds how many are *running*. Where an answer takes a second, one place lets 60 through in a minute. Count "
    "starts in time, not jobs at work."
)
async def bounds_how_many_run(jobs: AsyncIterable[Job], per_minute: int) -> list[str]:
    free = asyncio.Semaphore(per_minute)

    async def run(job: Job) -> str:
        async with free:
            return await job()

    tasks = []
    async for job in jobs:
        tasks.append(asyncio.create_task(run(job)))
    return list(await asyncio.gather(*tasks))


@pacing.mistake(
    "You wait after each job, so they leave one by one at an even pace. The limit is kept, but the first ones wait without "
    "need: nothing was sent before them."
)
async def waits_after_each(jobs: AsyncIterable[Job], per_minute: int) -> list[str]:
    tasks = []
    async with asyncio.TaskGroup() as group:
        async for job in jobs:
            tasks.append(group.create_task(_awaited(job)))
            await asyncio.sleep(60 / per_minute)
    return [task.result() for task in tasks]


@pacing.mistake(
    "You wait for each answer before the next job may start, and then for the pace as well. Start the job as a task; what "
    "has to wait is only its start."
)
async def serial_and_paced(jobs: AsyncIterable[Job], per_minute: int) -> list[str]:
    results = []
    async for job in jobs:
        results.append(await job())
        await asyncio.sleep(60 / per_minute)
    return results


@pacing.mistake(
    "Your window is right, and each job waits for the answer of the one before. Start the job as a task, so that only its "
    "start has to wait."
)
async def serial(jobs: AsyncIterable[Job], per_minute: int) -> list[str]:
    started: deque[float] = deque(maxlen=per_minute)
    results = []
    async for job in jobs:
        if len(started) == per_minute:
            await asyncio.sleep(started[0] + 60 - clock())
        started.append(clock())
        results.append(await job())
    return results


@pacing.mistake(
    "You count within the minutes of the clock. At the full minute the count starts again: the last second of one minute and "
    "the first of the next together take twice the limit. *Any* 60 seconds count."
)
async def counts_by_the_clock(jobs: AsyncIterable[Job], per_minute: int) -> list[str]:
    minute, used = -1, 0
    tasks = []
    async with asyncio.TaskGroup() as group:
        async for job in jobs:
            if clock() // 60 != minute:
                minute, used = int(clock() // 60), 0
            if used == per_minute:
                minute, used = minute + 1, 0
                await asyncio.sleep(minute * 60 - clock())
            used += 1
            tasks.append(group.create_task(_awaited(job)))
    return [task.result() for task in tasks]


@pacing.mistake(
    "Your minute begins with the first job, and when it is over the count starts again. Jobs from the end of one minute and "
    "the beginning of the next are less than 60 seconds apart: together they are too many. Look back from each job."
)
async def minutes_in_a_row(jobs: AsyncIterable[Job], per_minute: int) -> list[str]:
    tasks = []
    begun, used = clock(), 0
    async with asyncio.TaskGroup() as group:
        async for job in jobs:
            if clock() - begun >= 60:
                begun, used = clock(), 0
            if used == per_minute:
                await asyncio.sleep(begun + 60 - clock())
                begun, used = clock(), 0
            used += 1
            tasks.append(group.create_task(_awaited(job)))
    return [task.result() for task in tasks]


@pacing.mistake(
    "A bucket that fills at an even pace: what has gathered in it goes at once, and the even pace comes on top, in the same "
    "minute. That is up to twice the limit."
)
async def fills_a_bucket(jobs: AsyncIterable[Job], per_minute: int) -> list[str]:
    tokens, last = float(per_minute), clock()
    tasks = []
    async with asyncio.TaskGroup() as group:
        async for job in jobs:
            tokens, last = min(per_minute, tokens + (clock() - last) * per_minute / 60), clock()
            if tokens < 1:
                await asyncio.sleep((1 - tokens) * 60 / per_minute)
                tokens, last = 1.0, clock()
            tokens -= 1
            tasks.append(group.create_task(_awaited(job)))
    return [task.result() for task in tasks]


@pacing.mistake(
    "All that wait look once, sleep equally long, and then go together, without a second look. Let one at a time look (a "
    "lock), or look again after the sleep."
)
async def all_wake_together(jobs: AsyncIterable[Job], per_minute: int) -> list[str]:
    started: list[float] = []

    async def run(job: Job) -> str:
        recent = [at for at in started if clock() - at < 60]
        if len(recent) >= per_minute:
            await asyncio.sleep(recent[0] + 60 - clock())
        started.append(clock())
        return await job()

    tasks = []
    async for job in jobs:
        tasks.append(asyncio.create_task(run(job)))
    return list(await asyncio.gather(*tasks))


@pacing.mistake(
    "The answers stand in the order in which they came, not in that of the jobs. Keep the tasks in a list and take the "
    "results from it."
)
async def answers_as_they_come(jobs: AsyncIterable[Job], per_minute: int) -> list[str]:
    started: deque[float] = deque(maxlen=per_minute)
    answers: list[str] = []

    async def run(job: Job) -> None:
        answers.append(await job())

    async with asyncio.TaskGroup() as group:
        async for job in jobs:
            if len(started) == per_minute:
                await asyncio.sleep(started[0] + 60 - clock())
            started.append(clock())
            group.create_task(run(job))
    return answers


@pacing.mistake(
    "Your minute begins when a job *ends*. What counts is when it starts; a long answer would block its place for longer "
    "than a minute."
)
async def counts_from_the_end(jobs: AsyncIterable[Job], per_minute: int) -> list[str]:
    permits = asyncio.Semaphore(per_minute)

    async def run(job: Job) -> str:
        answer = await job()
        asyncio.get_running_loop().call_later(60, permits.release)
        return answer

    tasks = []
    async for job in jobs:
        await permits.acquire()
        tasks.append(asyncio.create_task(run(job)))
    return list(await asyncio.gather(*tasks))


@pacing.mistake(
    "You wait until all jobs have come before the first one starts. They come in over time: start each when it comes, if it "
    "may."
)
async def waits_for_all_to_come(jobs: AsyncIterable[Job], per_minute: int) -> list[str]:
    all_jobs = [job async for job in jobs]
    tasks = []
    async with asyncio.TaskGroup() as group:
        for number, job in enumerate(all_jobs):
            if number and number % per_minute == 0:
                await asyncio.sleep(60)
            tasks.append(group.create_task(_awaited(job)))
    return [task.result() for task in tasks]


@pacing.mistake(
    "After each `per_minute` jobs you wait a whole minute, however long ago the first of them started. Wait for what is left "
    "of it, or not at all."
)
async def pauses_a_minute(jobs: AsyncIterable[Job], per_minute: int) -> list[str]:
    tasks: list[asyncio.Task[str]] = []
    async with asyncio.TaskGroup() as group:
        async for job in jobs:
            if tasks and len(tasks) % per_minute == 0:
                await asyncio.sleep(60)
            tasks.append(group.create_task(_awaited(job)))
    return [task.result() for task in tasks]


@pacing.mistake(
    "You collect coroutines and run them at the end: `job()` alone begins nothing. `asyncio.create_task(job())` begins it while "
    "you wait for the next one."
)
async def begins_nothing_until_the_end(jobs: AsyncIterable[Job], per_minute: int) -> list[str]:
    started: deque[float] = deque(maxlen=per_minute)
    coroutines = []
    async for job in jobs:
        if len(started) == per_minute:
            await asyncio.sleep(started[0] + 60 - clock())
        started.append(clock())
        coroutines.append(job())
    return list(await asyncio.gather(*coroutines))


@pacing.mistake(
    "Jobs come in over time, and a plain `for` cannot wait for the next one: they are read with `async for`."
)
async def a_plain_for(jobs: Any, per_minute: int) -> list[str]:
    results = []
    for job in jobs:
        results.append(await job())
    return results


@pacing.mistake(
    "One too many gets through: with `per_minute` starts in the last minute there is no room for another."
)
async def one_too_many(jobs: AsyncIterable[Job], per_minute: int) -> list[str]:
    started: deque[float] = deque()
    tasks = []
    async with asyncio.TaskGroup() as group:
        async for job in jobs:
            if len(started) > per_minute:
                await asyncio.sleep(started.popleft() + 60 - clock())
            started.append(clock())
            tasks.append(group.create_task(_awaited(job)))
    return [task.result() for task in tasks]


@pacing.mistake(
    "You note an instant when the answer is there. Until then the job does not count, and too many start: note it when you start "
    "the job."
)
async def notes_the_end(jobs: AsyncIterable[Job], per_minute: int) -> list[str]:
    ended: deque[float] = deque(maxlen=per_minute)

    async def run(job: Job) -> str:
        answer = await job()
        ended.append(clock())
        return answer

    tasks = []
    async with asyncio.TaskGroup() as group:
        async for job in jobs:
            if len(ended) == per_minute:
                await asyncio.sleep(ended[0] + 60 - clock())
            tasks.append(group.create_task(run(job)))
    return [task.result() for task in tasks]


@pacing.mistake(
    "The library's `RateLimiter` keeps a moment's distance from the limit, since requests are not equally long on their way. "
    "Here it is 60 seconds to the instant, and the memory is yours to write."
)
async def with_the_library(jobs: AsyncIterable[Job], per_minute: int) -> list[str]:
    limiter = RateLimiter(per_minute)

    async def run(job: Job) -> str:
        await limiter.acquire()
        return await job()

    tasks = []
    async for job in jobs:
        tasks.append(asyncio.create_task(run(job)))
    return list(await asyncio.gather(*tasks))


# within_budget


class Request:
    """A job: `most` is how many tokens it can use; `await request.run()` makes it and says how many it used.

    >>> request = Request(most=100, uses=60)
    """

    def __init__(self, most: int, uses: int, seconds: float = 1.0) -> None:
        self.most = most
        self.seen = "not run"
        self._uses = uses
        self._seconds = seconds

    async def run(self) -> int:
        began, self.seen = clock(), "stopped"
        await asyncio.sleep(self._seconds)
        self.seen = f"{began - self.start:.1f} to {clock() - self.start:.1f} s"
        return self._uses

    start = 0.0


async def within_budget(jobs: Sequence[Request], budget: int) -> list[int | None]:
    """Run the jobs at the same time, as far as the budget allows; the tokens each has used, in order.

    A job is begun when it fits for certain: what the finished ones have used, the `most` of those that run, and its
    own `most` are together at most `budget`. If it does not fit yet, it waits: one that runs may use less than
    its `most`. If nothing runs and it still does not fit, the batch is over: for this job and all after it,
    None. Jobs are begun in order, each as early as possible. To keep it short, no job fails.

    >>> await within_budget([Request(most=100, uses=60), Request(most=100, uses=90)], budget=200)
    [60, 90]
    >>> await within_budget([Request(most=100, uses=60), Request(most=100, uses=90)], budget=150)
    [60, None]
    """
    used: list[int | None] = [None] * len(jobs)
    left, running = budget, 0
    ended = asyncio.Event()

    async def run(number: int) -> None:
        nonlocal left, running
        used[number] = tokens = await jobs[number].run()
        left += jobs[number].most - tokens
        running -= 1
        ended.set()

    async with asyncio.TaskGroup() as group:
        for number, job in enumerate(jobs):
            while job.most > left and running:
                ended.clear()
                await ended.wait()
            if job.most > left:
                break
            left -= job.most
            running += 1
            group.create_task(run(number))
    return used


def spend(note: str, *jobs: tuple[int, int, float], budget: int) -> Case:
    """Jobs as (most, uses, seconds)."""

    async def play(solution: Callable[..., Awaitable[object]], stage: Stage) -> object:
        requests = [Request(*job) for job in jobs]
        for request in requests:
            request.start = clock()
        returned = await solution(list(requests), budget)
        runs = [f"job {number}: {request.seen}" for number, request in enumerate(requests, 1)]
        return [*runs, f"returned {returned!r}"]

    how = ", ".join(f"at most {most}, uses {uses}" for most, uses, _ in jobs) or "none"
    return Case(play=play, note=f"{note}; jobs: {how}; {budget=}")


spending = Exercise(
    within_budget,
    cases=[
        spend("it does not fit", (100, 80, 1.0), budget=50),
        spend("it fits exactly", (100, 60, 1.0), budget=100),
        spend("there is enough for all", (100, 60, 1.0), (100, 90, 1.0), budget=200),
        spend("the third does not fit", (100, 100, 1.0), (100, 100, 1.0), (100, 100, 1.0), budget=250),
        spend(
            "the third fits when the first is done",
            (100, 40, 1.0),
            (100, 90, 3.0),
            (100, 50, 1.0),
            budget=250,
        ),
        spend(
            "the third fits when both are done, each leaving half of what it takes",
            (100, 75, 1.0),
            (100, 75, 2.0),
            (100, 10, 1.0),
            (100, 10, 1.0),
            budget=250,
        ),
        spend(
            "the second is too large, the third would fit",
            (10, 10, 1.0),
            (100, 50, 1.0),
            (10, 5, 1.0),
            budget=50,
        ),
        spend("the first is too large", (100, 50, 1.0), (10, 5, 1.0), budget=50),
        spend(
            "a large one waits and holds up the small one after it",
            (50, 30, 2.0),
            (60, 60, 1.0),
            (5, 5, 1.0),
            budget=100,
        ),
        spend("the budget is used up exactly", (40, 40, 1.0), (60, 60, 1.0), budget=100),
        spend("nothing is left for the last", (40, 40, 1.0), (60, 60, 1.0), (1, 1, 1.0), budget=100),
        spend(
            "one ends much later than the other",
            (50, 50, 5.0),
            (50, 10, 1.0),
            (40, 30, 1.0),
            (20, 20, 1.0),
            budget=100,
        ),
        spend("no jobs", budget=100),
        spend("no money", (1, 1, 1.0), budget=0),
    ],
    hints=(
        "While jobs run, nobody knows what they will use. What do you know about them? Count with that until they are done.",
        "Keep one number: what is left. Take `most` away when a job is begun, give back what it did not use when it is done. "
        "A job that does not fit waits until one that runs is done, and then looks again.",
        "In an `asyncio.TaskGroup`, for each job: `while job.most > left and running:` wait for an `asyncio.Event` that each "
        "job sets when it is done. If it still does not fit, `break`. Else `left -= job.most`, `running += 1`, create the "
        "task. The task awaits `job.run()`, notes the tokens, and does `left += job.most - tokens`, `running -= 1`.",
    ),
)


@spending.right
async def waiting_for_the_first_that_ends(jobs: Sequence[Request], budget: int) -> list[int | None]:
    running: dict[asyncio.Task[int], int] = {}
    tasks: list[asyncio.Task[int]] = []
    spent = 0
    for job in jobs:
        while running and spent + sum(running.values()) + job.most > budget:
            done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                del running[task]
                spent += task.result()
        if spent + sum(running.values()) + job.most > budget:
            break
        tasks.append(asyncio.create_task(job.run()))
        running[tasks[-1]] = job.most
    used: list[int | None] = list(await asyncio.gather(*tasks))
    return used + [None] * (len(jobs) - len(used))


@spending.right
async def with_a_condition(jobs: Sequence[Request], budget: int) -> list[int | None]:
    state = {"left": budget, "running": 0}
    changed = asyncio.Condition()

    async def run(job: Request) -> int:
        tokens = await job.run()
        async with changed:
            state["left"] += job.most - tokens
            state["running"] -= 1
            changed.notify_all()
        return tokens

    tasks: list[asyncio.Task[int]] = []
    async with asyncio.TaskGroup() as group:
        for job in jobs:
            async with changed:
                await changed.wait_for(lambda: job.most <= state["left"] or not state["running"])  # noqa: B023
            if job.most > state["left"]:
                break
            state["left"] -= job.most
            state["running"] += 1
            tasks.append(group.create_task(run(job)))
    return [task.result() for task in tasks] + [None] * (len(jobs) - len(tasks))


@spending.right
async def with_a_future_for_each_end(jobs: Sequence[Request], budget: int) -> list[int | None]:
    results: list[int | None] = []
    reserved: dict[int, int] = {}
    spent = 0
    ends: asyncio.Queue[int] = asyncio.Queue()

    async def run(number: int) -> None:
        results[number] = await jobs[number].run()
        await ends.put(number)

    tasks = []
    for number, job in enumerate(jobs):
        results.append(None)
        while spent + sum(reserved.values()) + job.most > budget and reserved:
            ended = await ends.get()
            spent += results[ended] or 0
            del reserved[ended]
        if spent + sum(reserved.values()) + job.most <= budget:
            reserved[number] = job.most
            tasks.append(asyncio.create_task(run(number)))
        else:
            break
    await asyncio.gather(*tasks)
    return results + [None] * (len(jobs) - len(results))


@spending.mistake(
    "You look at what is spent so far, and nothing is spent while jobs run: all of them are begun. What those that run *can* "
    "use has to be taken off when they are begun."
)
async def nothing_is_spent_yet(jobs: Sequence[Request], budget: int) -> list[int | None]:
    used: list[int | None] = [None] * len(jobs)
    spent = 0

    async def run(number: int) -> None:
        nonlocal spent
        used[number] = tokens = await jobs[number].run()
        spent += tokens

    async with asyncio.TaskGroup() as group:
        for number in range(len(jobs)):
            if spent + jobs[number].most > budget:
                break
            group.create_task(run(number))
    return used


@spending.mistake(
    "You stop when the budget is spent, and then it is too late: the last job went over it. Ask *before* a job is begun, with "
    "the most it can use."
)
async def stops_when_it_is_spent(jobs: Sequence[Request], budget: int) -> list[int | None]:
    used: list[int | None] = [None] * len(jobs)
    spent = 0
    for number, job in enumerate(jobs):
        if spent >= budget:
            break
        used[number] = tokens = await job.run()
        spent += tokens
    return used


@spending.mistake(
    "The sum is right, but one runs after the other. Begin each as a task, as long as the next one fits for certain."
)
async def one_by_one(jobs: Sequence[Request], budget: int) -> list[int | None]:
    used: list[int | None] = [None] * len(jobs)
    for number, job in enumerate(jobs):
        if job.most > budget:
            break
        used[number] = tokens = await job.run()
        budget -= tokens
    return used


@spending.mistake(
    "A job does not fit *now*, and you end the batch with money left. Others still run and may use less than their `most`: "
    "when one is done, count what it used instead, and look again."
)
async def gives_nothing_back(jobs: Sequence[Request], budget: int) -> list[int | None]:
    tasks = []
    async with asyncio.TaskGroup() as group:
        for job in jobs:
            if job.most > budget:
                break
            budget -= job.most
            tasks.append(group.create_task(job.run()))
    return [task.result() for task in tasks] + [None] * (len(jobs) - len(tasks))


@spending.mistake(
    "You leave out the job that does not fit and go on with smaller ones. The batch ends there: this job and all after it are "
    "not run."
)
async def skips_what_does_not_fit(jobs: Sequence[Request], budget: int) -> list[int | None]:
    used: list[int | None] = [None] * len(jobs)
    left, running = budget, 0
    ended = asyncio.Event()

    async def run(number: int) -> None:
        nonlocal left, running
        used[number] = tokens = await jobs[number].run()
        left += jobs[number].most - tokens
        running -= 1
        ended.set()

    async with asyncio.TaskGroup() as group:
        for number, job in enumerate(jobs):
            while job.most > left and running:
                ended.clear()
                await ended.wait()
            if job.most > left:
                continue
            left -= job.most
            running += 1
            group.create_task(run(number))
    return used


@spending.mistake(
    "You wait for one that ends, then look once and give up. The next end may make room as well: look again for as long as "
    "anything runs."
)
async def waits_once(jobs: Sequence[Request], budget: int) -> list[int | None]:
    used: list[int | None] = [None] * len(jobs)
    left, running = budget, 0
    ended = asyncio.Event()

    async def run(number: int) -> None:
        nonlocal left, running
        used[number] = tokens = await jobs[number].run()
        left += jobs[number].most - tokens
        running -= 1
        ended.set()

    async with asyncio.TaskGroup() as group:
        for number, job in enumerate(jobs):
            if job.most > left and running:
                ended.clear()
                await ended.wait()
            if job.most > left:
                break
            left -= job.most
            running += 1
            group.create_task(run(number))
    return used


@spending.mistake(
    "The jobs that were not run are missing from the result. Put None at their places: then it says which were run."
)
async def a_shorter_list(jobs: Sequence[Request], budget: int) -> list[int]:
    used = []
    running: dict[asyncio.Task[int], int] = {}
    spent = 0
    for job in jobs:
        while running and spent + sum(running.values()) + job.most > budget:
            done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                del running[task]
                spent += task.result()
        if spent + sum(running.values()) + job.most > budget:
            break
        used.append(asyncio.create_task(job.run()))
        running[used[-1]] = job.most
    return list(await asyncio.gather(*used))


@spending.mistake(
    "You wait until *all* that run are done before you look again. One that ends early may make enough room: wait for the "
    "first (`asyncio.wait(…, return_when=FIRST_COMPLETED)`, or an `Event`)."
)
async def waits_for_all_of_them(jobs: Sequence[Request], budget: int) -> list[int | None]:
    used: list[int | None] = []
    running: list[Request] = []
    left = budget
    for job in jobs:
        if job.most > left:
            tokens = await asyncio.gather(*(one.run() for one in running))
            used += tokens
            left += sum(one.most for one in running) - sum(tokens)
            running = []
        if job.most > left:
            break
        left -= job.most
        running.append(job)
    used += await asyncio.gather(*(one.run() for one in running))
    return used + [None] * (len(jobs) - len(used))


@spending.mistake("You run all of them, and never ask whether there is money for the next one.")
async def runs_all(jobs: Sequence[Request], budget: int) -> list[int]:
    return await asyncio.gather(*(job.run() for job in jobs))


@spending.mistake(
    "You begin whatever fits, past a job that does not. They are begun in order: the first that does not fit holds up the rest, "
    "and when nothing runs any more, it ends the batch."
)
async def takes_whatever_fits(jobs: Sequence[Request], budget: int) -> list[int | None]:
    used: list[int | None] = [None] * len(jobs)
    waiting = list(range(len(jobs)))
    running: dict[asyncio.Task[int], int] = {}
    left = budget
    while True:
        for number in list(waiting):
            if jobs[number].most <= left:
                left -= jobs[number].most
                waiting.remove(number)
                running[asyncio.create_task(jobs[number].run())] = number
        if not running:
            return used
        done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            number = running.pop(task)
            used[number] = task.result()
            left += jobs[number].most - task.result()


def _spender(
    give_back: Callable[[int, int], int], spare: int = 0
) -> Callable[..., Awaitable[list[int | None]]]:
    """The right program, but for what a finished job gives back and what must stay free."""

    async def spender(jobs: Sequence[Request], budget: int) -> list[int | None]:
        used: list[int | None] = [None] * len(jobs)
        running: dict[asyncio.Task[int], int] = {}
        left = budget
        for number, job in enumerate(jobs):
            while job.most + spare > left and running:
                done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                left += sum(give_back(jobs[running.pop(task)].most, task.result()) for task in done)
            if job.most + spare > left:
                break
            left -= job.most
            running[task := asyncio.create_task(job.run())] = number
            task.add_done_callback(lambda task, number=number: used.__setitem__(number, task.result()))  # type: ignore[misc]
        if running:
            await asyncio.wait(running)
        return used

    return spender


@spending.mistake(
    "A job that is done gives back all of its `most`, as if it had used nothing. What it used is spent: only the rest is free again."
)
async def gives_all_back(jobs: Sequence[Request], budget: int) -> list[int | None]:
    return await _spender(lambda most, tokens: most)(jobs, budget)


@spending.mistake(
    "A job that fits exactly is not begun. Together they may be *at most* the budget: `<=`, not `<`."
)
async def never_uses_the_last(jobs: Sequence[Request], budget: int) -> list[int | None]:
    return await _spender(lambda most, tokens: most - tokens, spare=1)(jobs, budget)


@spending.mistake(
    "You return while jobs still run. Wait for all that you have begun: a `TaskGroup` does, and so does `gather`."
)
async def does_not_wait_for_the_last(jobs: Sequence[Request], budget: int) -> list[int | None]:
    used: list[int | None] = [None] * len(jobs)

    async def run(number: int) -> None:
        used[number] = await jobs[number].run()

    tasks = []
    for number, job in enumerate(jobs):
        if job.most > budget:
            break
        budget -= job.most
        tasks.append(asyncio.create_task(run(number)))
    return used
