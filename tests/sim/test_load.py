"""The embedded model under load: a batch, a queue, and a knee that can be found."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx2
import pytest

from streamlib.sim import SimTransport, Simulator
from streamlib.sim.load import Batch, Seat, under_load
from streamlib.sim.model import Frame
from streamlib.sim.timing import PROFILES

from .talk import NOW, ask, body_of, request
from .test_transport import URL, on_virtual_clock

# --- the batch -------------------------------------------------------------------------------------


def seats(batch: Batch, n: int) -> list[Seat]:
    taken = [Seat(batch) for _ in range(n)]
    for seat in taken:
        seat.take()
    return taken


@pytest.mark.parametrize(("running", "factor"), [(0, 1.0), (1, 1.0), (2, 1.5), (3, 2.0), (4, 2.5), (5, 3.0)])
def test_time_grows_linearly_with_the_answers_in_the_batch(running: int, factor: float) -> None:
    batch = Batch(5, 3.0)
    seats(batch, running)
    assert batch.factor == factor


def test_what_does_not_fit_waits_and_is_served_in_order_of_arrival() -> None:
    batch = Batch(2, 2.0)
    one, other, third, fourth = seats(batch, 4)
    assert [seat.ahead for seat in (one, other, third, fourth)] == [None, None, 0, 1]
    other.leave()
    assert (third.ahead, fourth.ahead, batch.running) == (None, 0, 2)


def test_who_leaves_the_queue_frees_no_place_in_the_batch() -> None:
    batch = Batch(2, 2.0)
    one, _, third, fourth = seats(batch, 4)
    third.leave()
    assert (fourth.ahead, batch.running) == (0, 2)
    one.leave()
    assert (fourth.ahead, batch.running) == (None, 2)


def test_everybody_leaves_and_the_batch_is_empty() -> None:
    batch = Batch(2, 2.0)
    for seat in seats(batch, 5):
        seat.leave()
    assert (batch.running, len(batch.waiting)) == (0, 0)


# --- frames ----------------------------------------------------------------------------------------

FRAMES = [Frame(1.0, b"a", 1, 1), Frame(1.5, b"b", 1, 1), Frame(2.0, b"c", 1, 1)]


def test_an_answer_alone_is_as_fast_as_without_load() -> None:
    (seat,) = seats(Batch(4, 4.0), 1)
    assert list(under_load(FRAMES, seat, 0.1)) == FRAMES


def test_every_gap_is_as_long_as_the_load_of_its_time_makes_it() -> None:
    batch = Batch(4, 4.0)
    (seat,) = seats(batch, 1)
    made = under_load(FRAMES, seat, 0.1)
    first = next(made)
    others = seats(batch, 3)
    second = next(made)
    for other in others:
        other.leave()
    assert [first.at, second.at, next(made).at] == [1.0, 1.0 + 4 * 0.5, 3.0 + 0.5]


def test_a_queued_answer_begins_when_it_gets_its_place() -> None:
    batch = Batch(2, 2.0)
    _, other, queued = seats(batch, 3)
    made = under_load(FRAMES, queued, 0.25, start=1.0)
    assert [next(made) for _ in range(2)] == [Frame(1.25), Frame(1.5)]
    other.leave()
    assert [frame.at for frame in made] == [1.5, 2.5, 3.5]


# --- the profile -----------------------------------------------------------------------------------


def test_the_other_profiles_know_no_load() -> None:
    assert [name for name, profile in PROFILES.items() if profile.batch is not None] == ["loaded"]


def stats_of(simulator: Simulator) -> dict[str, Any]:
    return simulator.stats.as_dict()


def test_answers_that_run_and_wait_are_counted() -> None:
    simulator = Simulator(profile="loaded")
    size = PROFILES["loaded"].batch or 0
    responses = [ask(simulator=simulator, stream=i % 2 == 0) for i in range(size + 3)]
    for response in responses:
        response.delivery.__enter__()
    assert (stats_of(simulator)["answers_running"], stats_of(simulator)["answers_waiting"]) == (size, 3)
    for response in responses:
        response.delivery.__exit__(None, None, None)
    assert (stats_of(simulator)["answers_running"], stats_of(simulator)["answers_waiting"]) == (0, 0)


def test_an_answer_that_is_an_error_takes_no_place() -> None:
    simulator = Simulator(profile="loaded")
    with ask(simulator=simulator, fault="status=503").delivery:
        assert stats_of(simulator)["answers_running"] == 0
    refused = simulator.respond(request(b"{"), NOW)
    with refused.delivery:
        assert stats_of(simulator)["answers_running"] == 0


def test_a_client_that_leaves_the_queue_leaves_nothing_behind() -> None:
    async def main() -> dict[str, Any]:
        transport = SimTransport(Simulator(profile="loaded"))
        async with httpx2.AsyncClient(transport=transport, timeout=None) as http:
            tasks = [asyncio.create_task(http.post(URL, json=body_of(stream=True))) for _ in range(20)]
            await asyncio.sleep(0.5)
            assert stats_of(transport.simulator)["answers_waiting"] == 12
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return stats_of(transport.simulator)

    stats = on_virtual_clock(main)
    assert (stats["streams_open"], stats["answers_running"], stats["answers_waiting"]) == (0, 0, 0)


# --- the knee --------------------------------------------------------------------------------------


async def level(http: httpx2.AsyncClient, concurrency: int, requests: int) -> tuple[float, float, float]:
    """Tokens per second of the whole run, mean time to first token, mean gap, at a steady concurrency."""
    loop = asyncio.get_running_loop()
    firsts, gaps, tokens, left = [], [], 0, requests
    t0 = loop.time()

    async def worker() -> None:
        nonlocal tokens, left
        while left:
            left -= 1
            asked, arrivals = loop.time(), []
            async with http.stream("POST", URL, json=body_of(stream=True, max_tokens=16)) as response:
                async for data in response.aiter_raw():
                    arrivals += [loop.time()] * (b'"content": "' in data and b'"role"' not in data)
            tokens += 16
            firsts.append(arrivals[0] - asked)
            gaps.append((arrivals[-1] - arrivals[0]) / 15)

    await asyncio.gather(*(worker() for _ in range(concurrency)))
    return tokens / (loop.time() - t0), sum(firsts) / requests, sum(gaps) / requests


def sweep() -> dict[int, tuple[float, float, float]]:
    """What a learner measures: concurrency doubled from 1 to 32. Number 0 holds the seconds it took."""

    async def main() -> dict[int, tuple[float, float, float]]:
        loop = asyncio.get_running_loop()
        t0 = loop.time()
        transport = SimTransport(Simulator(profile="loaded"))
        async with httpx2.AsyncClient(transport=transport, timeout=None) as http:
            found = {n: await level(http, n, 3 * n) for n in (1, 2, 4, 8, 16, 32)}
        return {**found, 0: (loop.time() - t0, 0, 0)}

    return on_virtual_clock(main)


def test_the_knee_is_where_the_batch_is_full_and_found_in_half_a_minute() -> None:
    found = sweep()
    assert found[0][0] < 30
    rate = {n: found[n][0] for n in (1, 2, 4, 8, 16, 32)}
    assert rate[2] > 1.6 * rate[1]
    assert rate[4] > 1.4 * rate[2]
    assert rate[8] > 1.3 * rate[4]
    assert 0.85 < rate[16] / rate[8] < 1.1
    assert 0.85 < rate[32] / rate[8] < 1.1
    first, gap = ({n: found[n][i] for n in rate} for i in (1, 2))
    assert first[8] < 2.2 * first[1]
    assert first[16] > 2 * first[8]
    assert first[32] > 2 * first[16]
    assert gap[8] == pytest.approx(2 * gap[1], rel=0.1)
    assert gap[32] == pytest.approx(gap[8], rel=0.1)


def test_the_same_order_of_arrivals_has_the_same_times() -> None:
    assert sweep() == sweep()
