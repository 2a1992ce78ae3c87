"""Strict windows: never more than the limit in any of them; a budget that holds. On a virtual clock."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import count, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamlib.rates import MARGIN, Budget, RateLimiter

from .stream_helpers import now, virtual

WINDOW = 10.0

# A client: when it comes, how many tokens it asks for, what part it used, and after how long that is known.
clients = st.lists(
    st.tuples(st.floats(0, 40), st.integers(0, 50), st.floats(0, 1), st.floats(0, 15)),
    min_size=1,
    max_size=25,
)


async def crowd(
    limiter: RateLimiter, arriving: Sequence[tuple[float, int, float, float]]
) -> list[tuple[float, int, int]]:
    """When each was let through, in that order: instant, tokens used, who had come so many-th."""
    through: list[tuple[float, int, int]] = []
    numbers = count()

    async def client(at: float, tokens: int, part: float, later: float) -> None:
        await asyncio.sleep(at)
        number = next(numbers)
        permit = await limiter.acquire(tokens)
        used = int(tokens * part)
        through.append((now(), used, number))
        await asyncio.sleep(later)
        permit.correct(used)

    await asyncio.gather(*(client(*one) for one in arriving))
    return through


def worst(instants: Sequence[float], weights: Sequence[int], window: float) -> int:
    """The most in any window: the worst one begins with a request."""
    return max(
        sum(weight for at, weight in zip(instants, weights, strict=True) if start <= at <= start + window)
        for start in instants
    )


@settings(max_examples=60)
@given(clients, st.integers(1, 5))
def test_never_more_requests_than_the_limit_in_any_window(
    arriving: list[tuple[float, int, float, float]], limit: int
) -> None:
    through = virtual(crowd(RateLimiter(limit, seconds=WINDOW), arriving))
    assert worst([at for at, _, _ in through], [1] * len(through), WINDOW) <= limit


@settings(max_examples=60)
@given(clients, st.integers(50, 120))
def test_never_more_tokens_than_the_limit_in_any_window(
    arriving: list[tuple[float, int, float, float]], limit: int
) -> None:
    through = virtual(crowd(RateLimiter(None, limit, seconds=WINDOW), arriving))
    assert worst([at for at, _, _ in through], [used for _, used, _ in through], WINDOW) <= limit


@settings(max_examples=60)
@given(clients, st.integers(1, 5), st.integers(50, 120))
def test_with_both_limits_both_hold(
    arriving: list[tuple[float, int, float, float]], requests: int, tokens: int
) -> None:
    through = virtual(crowd(RateLimiter(requests, tokens, seconds=WINDOW), arriving))
    instants = [at for at, _, _ in through]
    assert worst(instants, [1] * len(through), WINDOW) <= requests
    assert worst(instants, [used for _, used, _ in through], WINDOW) <= tokens


@settings(max_examples=60)
@given(clients)
def test_first_come_first_served(arriving: list[tuple[float, int, float, float]]) -> None:
    through = virtual(crowd(RateLimiter(3, 60, seconds=WINDOW), arriving))
    assert [number for _, _, number in through] == list(range(len(arriving)))


def test_nobody_waits_longer_than_the_window_asks() -> None:
    through = virtual(crowd(RateLimiter(2, seconds=WINDOW), [(0.0, 0, 0.0, 0.0)] * 6))
    turns = [0.0, 0.0, 1.0, 1.0, 2.0, 2.0]
    assert [at for at, _, _ in through] == pytest.approx([turn * (WINDOW + MARGIN) for turn in turns])


def test_what_was_reserved_and_not_used_is_free_at_once() -> None:
    async def main() -> float:
        limiter = RateLimiter(None, 100, seconds=WINDOW)
        permit = await limiter.acquire(100)
        waiting = asyncio.create_task(limiter.acquire(60))
        await asyncio.sleep(2)
        permit.correct(40)
        await waiting
        return now()

    assert virtual(main()) == 2


def test_what_was_used_beyond_the_guess_holds_others_up() -> None:
    async def main() -> float:
        limiter = RateLimiter(None, 100, seconds=WINDOW)
        (await limiter.acquire(10)).correct(90)
        await limiter.acquire(20)
        return now()

    assert virtual(main()) == pytest.approx(WINDOW + MARGIN)


def test_a_large_request_is_not_overtaken_by_small_ones() -> None:
    arriving = [(0.0, 50, 1.0, 0.0), (1.0, 100, 1.0, 0.0), *[(2.0 + n, 1, 1.0, 0.0) for n in range(5)]]
    through = virtual(crowd(RateLimiter(None, 100, seconds=WINDOW), arriving))
    assert [number for _, _, number in through][:2] == [0, 1]


def test_more_tokens_than_any_window_has_is_an_error() -> None:
    async def main() -> None:
        with pytest.raises(ValueError, match="101 tokens never fits into a limit of 100"):
            await RateLimiter(None, 100).acquire(101)

    virtual(main())


def test_one_who_no_longer_waits_takes_no_place() -> None:
    async def main() -> float:
        limiter = RateLimiter(1, seconds=WINDOW)
        await limiter.acquire()
        gone = asyncio.create_task(limiter.acquire())
        await asyncio.sleep(1)
        gone.cancel()
        await limiter.acquire()
        return now()

    assert virtual(main()) == pytest.approx(WINDOW + MARGIN)


def test_what_one_is_told_holds_for_all() -> None:
    async def main() -> list[float]:
        limiter = RateLimiter(1, seconds=WINDOW)
        await limiter.acquire()
        waiting = asyncio.create_task(limiter.acquire())
        await asyncio.sleep(1)
        limiter.hold(30)
        limiter.hold(5)  # a shorter word changes nothing
        await waiting
        first = now()
        await limiter.acquire()
        return [first, now()]

    assert virtual(main()) == pytest.approx([31, 31 + WINDOW + MARGIN])


def test_without_limits_nobody_waits() -> None:
    through = virtual(crowd(RateLimiter(), [(0.0, 10**9, 1.0, 0.0)] * 50))
    assert {at for at, _, _ in through} == {0.0}


@pytest.mark.parametrize("limits", [{"requests": 0}, {"tokens": -1}, {"seconds": 0}])
def test_a_limit_has_to_be_above_zero(limits: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=f"needs {next(iter(limits))} above 0"):
        RateLimiter(**limits)


def test_the_wait_does_not_grow_with_the_past() -> None:
    async def main() -> int:
        limiter = RateLimiter(3, seconds=WINDOW)
        for _ in range(100):
            await limiter.acquire()
        return len(limiter._log)

    assert virtual(main()) <= 3


def test_requests_leave_at_the_instant_they_were_counted_for() -> None:
    async def main() -> list[tuple[float, float]]:
        limiter = RateLimiter(1, seconds=WINDOW)
        pairs = []
        for _ in range(4):
            permit = await limiter.acquire()
            pairs.append((permit.at, now()))
        return pairs

    pairs = virtual(main())
    assert all(counted == left for counted, left in pairs)
    assert all(b - a > WINDOW for (a, _), (b, _) in pairwise(pairs))


# Each job: the most it can use, what part of that it does use, how long it takes.
jobs = st.lists(st.tuples(st.integers(1, 50), st.floats(0, 1), st.floats(0, 9)), max_size=15)


@given(jobs, st.integers(0, 150))
@settings(max_examples=60)
def test_a_budget_is_never_exceeded_and_no_job_that_fits_is_turned_away(
    jobs: list[tuple[int, float, float]], limit: int
) -> None:
    async def main() -> None:
        budget = Budget(limit)
        used, possible = 0, 0  # spent for certain, and what all that run could use

        async def run(most: int, part: float, seconds: float) -> None:
            nonlocal used, possible
            await asyncio.sleep(seconds)
            budget.settle(most, int(most * part))
            used += int(most * part)
            possible -= most

        async with asyncio.TaskGroup() as group:
            for most, part, seconds in jobs:
                if await budget.reserve(most):
                    possible += most
                    assert used + possible <= limit
                    group.create_task(run(most, part, seconds))
                else:
                    assert possible == 0
                    assert used + most > limit
        assert budget.spent == used

    virtual(main())


def test_what_was_spent_before_is_part_of_a_budget() -> None:
    async def main() -> list[bool]:
        budget = Budget(100, spent=70)
        return [await budget.reserve(31), await budget.reserve(30)]

    assert virtual(main()) == [False, True]


def test_without_a_limit_a_budget_counts_only() -> None:
    async def main() -> float:
        budget = Budget()
        assert await budget.reserve(1e9)
        budget.settle(1e9, 5)
        return budget.spent

    assert virtual(main()) == 5
