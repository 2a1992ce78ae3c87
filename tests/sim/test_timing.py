"""When tokens leave."""

from __future__ import annotations

from itertools import islice, pairwise
from random import Random
from statistics import mean, median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlib.sim.model import Part
from streamlib.sim.timing import PREFILL, PROFILES, due_times, pieces, time_to_first_token


@pytest.mark.parametrize("name", PROFILES)
def test_a_profile_has_the_first_token_and_the_pace_it_promises(name: str) -> None:
    profile = PROFILES[name]
    firsts = [time_to_first_token(profile, Random(seed)) for seed in range(2000)]
    assert median(firsts) == pytest.approx(profile.ttft, rel=0.1)
    times = list(islice(due_times(profile, Random(1), 0.5), 20_000))
    assert mean(b - a for a, b in pairwise(times)) == pytest.approx(1 / profile.rate, rel=0.05)


def test_a_long_prompt_takes_time_to_read() -> None:
    short, long = (time_to_first_token(PROFILES["fast"], Random(1), tokens) for tokens in (10, 2_010))
    assert long - short == pytest.approx(2_000 / PREFILL)


def test_due_times_never_go_back() -> None:
    times = list(islice(due_times(PROFILES["congested"], Random(3), 0.5), 1000))
    assert times == sorted(times)
    assert times[0] == 0.5


PARTS = st.lists(
    st.builds(Part, st.just("text"), st.lists(st.just("x"), max_size=30).map(tuple)), min_size=1, max_size=4
)  # fmt: skip


@given(PARTS, st.sampled_from(sorted(PROFILES)), st.integers(0, 60), st.integers())
def test_chunks_carry_every_token_once_in_order_and_break_where_told(
    parts: list[Part], name: str, break_at: int, seed: int
) -> None:
    rng = Random(seed)
    made = list(pieces(parts, PROFILES[name], rng, due_times(PROFILES[name], rng, 0.5), break_at))
    total = sum(len(part.tokens) for part in parts)
    assert sum(len(piece.tokens) for piece in made) == total
    for index, part in enumerate(parts):
        assert sum((piece.tokens for piece in made if piece.part == index), ()) == part.tokens
    ends, n = {0}, 0
    for piece in made:
        ends.add(n := n + len(piece.tokens))
    assert min(break_at, total) in ends


def test_a_chunk_is_due_with_its_last_token() -> None:
    profile = PROFILES["fast"]
    made = list(pieces([Part("text", ("x",) * 50)], profile, Random(1), iter(range(50)), None))
    n = 0
    for piece in made:
        n += len(piece.tokens)
        assert piece.at == n - 1
    assert len(made) < 50
