"""When tokens leave: named profiles, and due times on one absolute schedule (lessons 2 and 7).

Due times are seconds after the request, drawn in advance from a seed. Whoever sends waits until ``t0 +
due``, never ``sleep(gap)`` after ``sleep(gap)``: relative sleeps add up their lateness and run several per
cent slow.
"""

from __future__ import annotations

import math
from bisect import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from random import Random
from statistics import NormalDist

from .model import Part, Piece


@dataclass(frozen=True, slots=True)
class Profile:
    """A kind of server. Times to first token and gaps are lognormal, as measured on real ones: a floor and
    a long tail."""

    ttft: float  # median time to first token, seconds
    ttft_spread: float  # sigma of its logarithm
    rate: float  # mean tokens per second after the first
    gap_spread: float  # sigma of the gaps' logarithm
    chunk: tuple[float, ...]  # how likely a chunk carries one token, two, three, …
    thinks: bool = False  # reasoning tokens before the answer
    batch: int | None = None  # how many answers at once; with None load changes nothing
    slowdown: float = 1.0  # how many times slower a full batch is than a lonely answer (``load.py``)


PROFILES = {
    "fast": Profile(ttft=0.12, ttft_spread=0.15, rate=150, gap_spread=0.35, chunk=(0.5, 0.25, 0.15, 0.1)),
    "typical": Profile(ttft=0.35, ttft_spread=0.2, rate=50, gap_spread=0.3, chunk=(0.75, 0.17, 0.08)),
    "slow": Profile(ttft=1.2, ttft_spread=0.25, rate=20, gap_spread=0.4, chunk=(0.9, 0.1)),
    "reasoning": Profile(
        ttft=0.5, ttft_spread=0.2, rate=60, gap_spread=0.3, chunk=(0.7, 0.2, 0.1), thinks=True
    ),
    "congested": Profile(ttft=1.8, ttft_spread=0.5, rate=25, gap_spread=0.9, chunk=(0.55, 0.25, 0.12, 0.08)),
    "loaded": Profile(
        ttft=0.15, ttft_spread=0.1, rate=50, gap_spread=0.2, chunk=(0.9, 0.1), batch=8, slowdown=2.0
    ),
}

HEADERS_AT = 0.4  # the status line leaves at this part of the time to first token,
ROLE_AT = 0.6  # the chunk that names the role at this one


PREFILL = 10_000  # tokens of a prompt that a server reads in a second, before it writes


def time_to_first_token(profile: Profile, rng: Random, prompt_tokens: int = 0) -> float:
    """Seconds from the request to its first token."""
    return profile.ttft * rng.lognormvariate(0, profile.ttft_spread) + prompt_tokens / PREFILL


GAPS = 4096


@lru_cache
def gaps_of(profile: Profile) -> tuple[float, ...]:
    """Gaps between tokens in seconds, each as likely as any other: the profile's lognormal distribution.

    To pick one of them takes a fifth of the time that ``rng.lognormvariate`` takes.
    """
    normal = NormalDist()
    gaps = [math.exp(profile.gap_spread * normal.inv_cdf((i + 0.5) / GAPS)) for i in range(GAPS)]
    scale = GAPS / sum(gaps) / profile.rate
    return tuple(gap * scale for gap in gaps)


def due_times(profile: Profile, rng: Random, first: float) -> Iterator[float]:
    """The due time of each token, without end, beginning with ``first``."""
    gaps, random = gaps_of(profile), rng.random
    at = first
    while True:
        yield at
        at += gaps[int(random() * GAPS)]


def pieces(
    parts: Sequence[Part], profile: Profile, rng: Random, due: Iterator[float], break_at: int | None = None
) -> Iterator[Piece]:
    """The answer as chunks of one to a few tokens; a chunk leaves when its last token is due.

    No chunk crosses the end of a part, nor the ``break_at``-th token of the answer: a fault that strikes
    after N tokens strikes after N tokens, not N rounded up.
    """
    likely = list(accumulate(profile.chunk))
    made = 0
    for index, part in enumerate(parts):
        start = 0
        while start < len(part.tokens):
            # as random.choices draws, which would add up the weights each time
            size = bisect(likely, rng.random() * likely[-1], hi=len(likely) - 1) + 1
            if break_at is not None and made < break_at:
                size = min(size, break_at - made)
            tokens = part.tokens[start : start + size]
            for _ in tokens:
                at = next(due)
            yield Piece(at, index, tokens)
            start += size
            made += len(tokens)
