"""Many prompts -> many answers: so many at once, so many a minute, for so much money, in order. Lesson 8.

    ask = partial(stream_chat, model=model.name, max_completion_tokens=100)
    prompts = {"a.txt": "Summarise: …", "b.txt": "Summarise: …"}
    results = await run_batch(prompts, ask=ask, concurrency=8, per_minute=500, path="summaries.jsonl")
    print(report(results))

What a batch promises:

- The results come in the order of the jobs. A job that fails is a result with an error, and stops no other.
- Never more requests or tokens than allowed, in *any* window of a minute (`streamlib.rates`).
- The budget is kept by reserving: a job starts when the most it can cost still fits. Nothing is cut short.
- With a `path` each answer is on disk as soon as it is whole (`streamlib.journal`). Kill the process at any
  moment and run the batch again: what is there is not paid twice. Lost is what was on its way, at most
  `concurrency` answers.
"""

from __future__ import annotations

import asyncio
import math
import os
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import Any, Literal

from .closing import closing
from .journal import Journal, Prompt, Result
from .patience import Opened, opening
from .rates import Budget, Permit, RateLimiter
from .retry import is_transient, retry, retry_after
from .tokens import Price, TokenUsage, cost, token_usage

__all__ = ["Prompt", "Result", "report", "run_batch"]

LONGEST_WAIT = 600.0  # seconds: told to wait longer (Retry-After), a job fails instead

_ONE_PER_TOKEN = Price(input=1_000_000, output=1_000_000)


async def run_batch(
    jobs: Mapping[str, Prompt],
    *,
    ask: Callable[[Prompt], Opened[str]],
    concurrency: int = 4,
    per_minute: float | None = None,
    tokens_per_minute: float | None = None,
    window: float = 60.0,
    budget: float | None = None,
    price: Price = _ONE_PER_TOKEN,
    answer_tokens: int | None = None,
    path: str | os.PathLike[str] | None = None,
    attempts: int = 4,
    progress: bool = True,
    on_start: Callable[[str], object] | None = None,
    on_text: Callable[[str, str], object] | None = None,
    on_result: Callable[[Result], object] | None = None,
) -> list[Result]:
    """One result for each of `jobs`, a mapping of your names for the prompts to the prompts, in its order.

    ask: opens the stream of text for a prompt: `stream_chat` with its settings, or a function of yours. It
        must raise when an answer is not whole. If what it gives has a `usage`, that is what counts; else the
        tokens are counted here. What fails for a time is asked again before the first token, `attempts`
        times in all; each attempt counts as a request. A Retry-After holds up all jobs.
    concurrency: streams open at once.
    per_minute, tokens_per_minute: the limits of your account. The tokens of a request are those of the prompt
        plus `answer_tokens`; what the answer did not use is given back when it is there.
    window: seconds. Some servers enforce a limit of 600 a minute as 10 a second: for them it is 1.0.
    budget: what all may cost together, in the currency of `price`; without a price, a number of tokens. What
        `path` says was spent before is counted in. The first job that does not fit ends the batch: it and all
        after it are "not run".
    answer_tokens: the most an answer can have, the `max_completion_tokens` of your requests (for older
        servers `max_tokens`). A budget and a limit on tokens need it, and are as strict as it is true.
    path: a file of JSON lines, one for each answer, only ever appended to. Jobs that failed, and prompts that
        have changed, are asked again. For other settings, such as another model, take another file.
    progress: a bar. on_start: called with a job's name when it begins, which may be to wait until the rate
        allows it. on_text: called with name and text as it arrives; it should be quick. on_result: called
        with each result when it is there, also with those that `path` had.

    Raises ValueError for limits that make no sense, and for a file that holds something else. Errors of the
    jobs are in the results. Those of your own functions, and of writing to `path`, stop the batch.
    """
    if concurrency < 1:
        raise ValueError(f"concurrency is how many streams are open at once, at least 1, got {concurrency}")
    if attempts < 1:
        raise ValueError(f"attempts counts the first one too: it is at least 1, got {attempts}")
    if answer_tokens is None and (budget is not None or tokens_per_minute is not None):
        raise ValueError("budget and tokens_per_minute need answer_tokens=…, the most an answer can have")
    batch = _Batch(
        ask=ask,
        attempts=attempts,
        limiter=RateLimiter(
            _in_a_window("per_minute", per_minute, window),
            _in_a_window("tokens_per_minute", tokens_per_minute, window),
            seconds=window,
        ),
        budget=Budget(math.inf if budget is None else budget),
        price=price,
        answer_tokens=answer_tokens,
        on_start=on_start or (lambda key: None),
        on_text=on_text or (lambda key, text: None),
        on_result=on_result or (lambda result: None),
    )
    with ExitStack() as stack:
        if path is not None:
            batch.journal = stack.enter_context(Journal(path, price))
            batch.budget.spent = batch.journal.spent
            for key, prompt in jobs.items():
                if result := batch.journal.find(key, prompt):
                    batch.keep(result)
        batch.waiting = iter([job for job in jobs.items() if job[0] not in batch.results])
        batch.bar = stack.enter_context(_bar(len(jobs), len(batch.results), progress))
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(concurrency):
                    group.create_task(batch.work())
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
    return [batch.results.get(key) or Result(key, "not run") for key in jobs]


def report(results: Sequence[Result]) -> str:
    """How a batch ended, for people: one line in all, and one for each kind of error."""
    states = Counter(result.state for result in results)
    counts = ", ".join(f"{count} {state}" for state, count in states.items())
    failed: dict[str, list[str]] = {}
    for result in results:
        if result.error:
            failed.setdefault(f"{type(result.error).__name__}: {result.error}", []).append(result.key)
    lines = [f"{', '.join(keys[:3])}{' …' if keys[3:] else ''}: {error}" for error, keys in failed.items()]
    return "\n".join([f"{counts or 'no jobs'}; {sum(result.cost for result in results):g} spent", *lines])


@dataclass(slots=True)
class _Answer:
    """What is known of an answer besides its text."""

    opened: object = None
    permit: Permit | None = None
    error: Exception | None = None


@dataclass(slots=True, kw_only=True)
class _Batch:
    """A batch at work: what its workers share."""

    ask: Callable[[Prompt], Opened[str]]
    attempts: int
    limiter: RateLimiter
    budget: Budget
    price: Price
    answer_tokens: int | None
    on_start: Callable[[str], object]
    on_text: Callable[[str, str], object]
    on_result: Callable[[Result], object]
    journal: Journal | None = None
    bar: Any = None
    waiting: Iterator[tuple[str, Prompt]] = field(default_factory=lambda: iter(()))
    results: dict[str, Result] = field(default_factory=dict)
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)  # jobs start one by one, in order

    async def work(self) -> None:
        """One job after the other, as long as there are any and there is money for them."""
        while job := await self._next():
            key, prompt, most = job
            result = await self._run(key, prompt, most.input + most.output)
            if self.journal is not None:
                self.journal.add(prompt, result)
            self.budget.settle(cost(most, self.price), result.cost)
            self.bar.set_postfix_str(f"{self.budget.spent:g} spent", refresh=False)
            self.bar.update()
            self.keep(result)

    def keep(self, result: Result) -> None:
        self.results[result.key] = result
        self.on_result(result)

    async def _next(self) -> tuple[str, Prompt, TokenUsage] | None:
        """The next job, and the most it can use, for which the money is reserved. None: this is the end."""
        async with self.turn:
            job = next(self.waiting, None)
            if job is None:
                return None
            most = TokenUsage(0, 0)
            if self.answer_tokens is not None:
                most = TokenUsage(token_usage(job[1], "").input, self.answer_tokens)
            if await self.budget.reserve(cost(most, self.price)):
                return *job, most
            self.waiting = iter(())  # it does not fit: this is the end, also for smaller ones
            return None

    async def _run(self, key: str, prompt: Prompt, most: int) -> Result:
        clock = asyncio.get_running_loop().time
        start = clock()
        parts: list[str] = []
        answer = _Answer()
        self.on_start(key)
        async with closing(self._texts(prompt, most, answer)) as texts:
            async for text in texts:
                if not isinstance(text, str):
                    raise TypeError(f"ask has to give a stream of text, this one gives {type(text).__name__}")
                parts.append(text)
                self.on_text(key, text)
        text, seconds = "".join(parts), clock() - start
        reported = getattr(answer.opened, "usage", None)
        usage = None
        if text or reported or not answer.error:  # else it was refused, and nothing is paid
            with suppress(ValueError):  # what an image costs only the vendor can say
                usage = token_usage(prompt, text, reported)
        if usage and answer.permit:
            answer.permit.correct(usage.input + usage.output)
        paid = cost(usage, self.price) if usage else 0.0
        state: Literal["done", "failed"] = "failed" if answer.error else "done"
        return Result(key, state, text, usage, paid, seconds, answer.error)

    async def _texts(self, prompt: Prompt, most: int, answer: _Answer) -> AsyncGenerator[str, None]:
        """The text of an answer. An error of the stream ends it and is noted; the reader's own go through."""

        async def attempt() -> AsyncGenerator[str, None]:
            # Here, and not before a worker is free: permit and request have to be at one instant.
            answer.permit = await self.limiter.acquire(most)
            answer.opened = self.ask(prompt)
            async with opening(answer.opened) as texts:
                async for text in texts:
                    yield text

        def worth_it(error: Exception) -> bool:
            return is_transient(error) and (retry_after(error) or 0) <= LONGEST_WAIT

        def told(error: Exception, delay: float) -> None:
            self.limiter.hold(retry_after(error) or 0)  # what the server tells one of us it tells all

        # No time limit: a long wait for a permit is no failure.
        stream = retry(attempt, attempts=self.attempts, give_up_after=math.inf, when=worth_it, on_retry=told)
        try:
            async with closing(stream) as texts:
                async for text in texts:
                    yield text
        except Exception as error:
            answer.error = error


def _in_a_window(name: str, per_minute: float | None, window: float) -> int | None:
    if per_minute is None:
        return None
    limit = int(per_minute * window / 60 + 1e-9)
    if limit < 1:
        raise ValueError(f"{name}={per_minute:g} is less than 1 in {window:g} s: take a longer window")
    return limit


def _bar(jobs: int, done: int, progress: bool) -> Any:
    from tqdm.auto import tqdm  # a widget in a notebook, a line of text in a terminal

    class Bar(tqdm):  # type: ignore[type-arg, unused-ignore]
        monitor_interval = 0  # no thread that watches it

    return Bar(total=jobs, initial=done, unit="job", disable=not progress)
