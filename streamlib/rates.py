"""So many in any window of time, `RateLimiter`; so much in all, `Budget`. Lesson 8.

The limiter is a **sliding log**: the instant of every request is kept for as long as it counts, and the next
one goes when it fits. Two cheaper ways let more through. A counter that starts again at each full minute
allows twice the limit around it. A bucket that fills at an even pace allows what has gathered in it, and then
the even pace on top.

Of the libraries, `pyrate-limiter` keeps strict windows too, and is the one to take where it fits: it shares a
limit between processes, over Redis or a database. It does not fit a batch of answers. Requests and tokens
have to be allowed in one step, since what waits for the second after it has been given the first leaves at
another instant than the one it was counted for. And tokens are reserved by a guess, and given back.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from contextlib import suppress
from itertools import accumulate

__all__ = ["Budget", "Permit", "RateLimiter"]

# Requests take a little differently long to the server: two that leave a window apart may arrive closer.
MARGIN = 0.05


class Permit:
    """One request in the log: `at`, when it was allowed (seconds, the loop's clock), and its `tokens`."""

    __slots__ = ("_limiter", "at", "tokens")

    def __init__(self, limiter: RateLimiter, at: float, tokens: int) -> None:
        self._limiter = limiter
        self.at = at
        self.tokens = tokens

    def correct(self, tokens: int) -> None:
        """What it used, now that it is known. What was reserved beyond that is free for others at once."""
        self._limiter.correct(self, tokens)


class RateLimiter:
    """At most `requests`, and `tokens`, in any `seconds`; None for no limit.

    >>> limiter = RateLimiter(10, seconds=60.0)
    >>> async def ask(prompt):
    ...     await limiter.acquire()     # here it waits
    ...     ...                         # send the request at once: this is the instant that was counted

    Who comes first is served first, so a large request is not overtaken for ever by small ones. What leaves
    here in time may still be too early for a server that counts differently: it says 429, and you wait.
    """

    def __init__(
        self, requests: int | None = None, tokens: int | None = None, *, seconds: float = 60.0
    ) -> None:
        for name, limit in (("requests", requests), ("tokens", tokens), ("seconds", seconds)):
            if limit is not None and not limit > 0:
                raise ValueError(f"RateLimiter needs {name} above 0, got {limit!r}")
        self.requests = requests
        self.tokens = tokens
        self.seconds = seconds + MARGIN
        self._log: deque[Permit] = deque()  # those that still count, the oldest first
        self._used = 0  # tokens of all of them
        self._corrected = asyncio.Event()  # look again before the time is up
        self._held_until = 0.0
        self._turn = asyncio.Lock()  # first come, first served

    async def acquire(self, tokens: int = 0) -> Permit:
        """Wait until a request of so many tokens fits, and count it. Go on without another `await`.

        Raises ValueError for more tokens than the limit: no window is ever free enough for that.
        """
        if self.tokens is not None and tokens > self.tokens:
            raise ValueError(f"a request of {tokens} tokens never fits into a limit of {self.tokens}")
        clock = asyncio.get_running_loop().time
        async with self._turn:
            while (free_at := self._free_at(tokens, clock())) is not None:
                self._corrected.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout_at(free_at):
                        await self._corrected.wait()
            permit = Permit(self, clock(), tokens)
            self._log.append(permit)
            self._used += tokens
            return permit

    def hold(self, seconds: float) -> None:
        """Let nobody through for so long: the server has told one of them to wait (Retry-After)."""
        now = asyncio.get_running_loop().time()
        self._held_until = max(self._held_until, now + seconds)

    def correct(self, permit: Permit, tokens: int) -> None:
        """See `Permit.correct`."""
        if self._log and permit.at >= self._log[0].at:  # else it has left the window, and counts no more
            self._used += tokens - permit.tokens
            self._corrected.set()
        permit.tokens = tokens

    def _free_at(self, tokens: int, now: float) -> float | None:
        """The instant at which the next request fits as things stand; None: it fits now."""
        if now < self._held_until:
            return self._held_until
        log = self._log
        while log and log[0].at + self.seconds <= now:
            self._used -= log.popleft().tokens
        leave = 0  # how many of the oldest have to leave the window first
        if self.requests is not None:
            leave = max(leave, len(log) + 1 - self.requests)
        if self.tokens is not None:
            too_many = self._used + tokens - self.tokens
            freed = accumulate((permit.tokens for permit in log), initial=0)
            leave = max(leave, next(n for n, free in enumerate(freed) if free >= too_many))
        return log[leave - 1].at + self.seconds if leave else None


class Budget:
    """An amount of money or tokens. Before a job starts, the most it can use is set aside.

    >>> budget = Budget(100.0)
    >>> async def job():
    ...     if await budget.reserve(40.0):  # False: what is left is not enough, and nothing will come back
    ...         ...
    ...         budget.settle(40.0, 25.0)   # it has used 25; the rest is free again

    It is never exceeded as long as no job uses more than it has reserved.
    """

    def __init__(self, limit: float = math.inf, spent: float = 0.0) -> None:
        self.limit = limit
        self.spent = spent
        self._reserved: list[float] = []  # one entry for each job that runs
        self._settled = asyncio.Event()

    async def reserve(self, most: float) -> bool:
        """Set `most` aside. While it does not fit, wait for running jobs: they may use less than they can."""
        while self.spent + sum(self._reserved) + most > self.limit:
            if not self._reserved:
                return False
            self._settled.clear()
            await self._settled.wait()
        self._reserved.append(most)
        return True

    def settle(self, most: float, used: float) -> None:
        """A job that had reserved `most` is over and has used `used`."""
        self._reserved.remove(most)
        self.spent += used
        self._settled.set()
