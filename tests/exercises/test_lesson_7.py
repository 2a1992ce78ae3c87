"""What lesson 7 has its learners write is what `streamlib.metrics` does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from streamlib import metrics
from streamlib.exercises import lesson

EXERCISES = lesson(7)
instants = st.lists(st.floats(0, 1e6), max_size=30).map(sorted)
finite = st.floats(-1e6, 1e6)


def answers(name: str) -> list[Callable[..., Any]]:
    """The reference and every other answer that passes."""
    return [EXERCISES[name].reference, *EXERCISES[name].right_answers]


@pytest.mark.parametrize("name", ["ttft", "inter_token_latencies", "throughput"])
@given(instants)
@example([0.0, 0.0])
def test_numbers_of_a_stream_are_the_librarys(name: str, arrivals: list[float]) -> None:
    expected = getattr(metrics, name)(arrivals)
    for answer in answers(name):
        assert answer(arrivals) == pytest.approx(expected), answer.__name__


@given(st.lists(finite, min_size=1, max_size=30), st.floats(0, 100))
def test_percentiles_are_the_librarys(values: list[float], q: float) -> None:
    expected = metrics.percentile(values, q)
    for answer in answers("percentile"):
        assert answer(values, q) == pytest.approx(expected, rel=1e-6, abs=1e-6), answer.__name__


@given(st.floats(0, 1e6), st.floats(0, 1e6))
def test_concurrency_is_the_librarys(rate: float, latency: float) -> None:
    for answer in answers("concurrency_for"):
        assert answer(rate, latency) == pytest.approx(metrics.concurrency_for(rate, latency)), answer.__name__
