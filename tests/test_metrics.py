"""Arrival times to numbers: the definitions by hand, the edges, and real streams on a clock of our own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator
from types import SimpleNamespace

import httpx2
import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlib.metrics import (
    Arrival,
    StreamStats,
    StreamTimer,
    concurrency_for,
    goodput,
    inter_token_latencies,
    kind_of,
    percentile,
    stream_stats,
    throughput,
    ttft,
)

# ---------------------------------------------------------------- lists of times


@pytest.mark.parametrize(
    ("arrivals", "first", "gaps", "rate"),
    [
        ([0.5, 0.75, 1.0], 0.5, [0.25, 0.25], 3.0),
        ([], None, [], None),  # no tokens: nothing to measure
        ([0.5], 0.5, [], 2.0),  # one token has a rate from the request on, but no gap
        ([0.5, 0.5, 0.5], 0.5, [0.0, 0.0], 6.0),  # all at one instant
        ([0.0, 0.0], 0.0, [0.0], None),  # and no time has passed: no rate
        ([1, 2, 4], 1, [1, 2], 0.75),
        ((0.5, 1.0), 0.5, [0.5], 2.0),
    ],
)
def test_numbers_of_a_list_of_times(arrivals, first, gaps, rate):
    assert ttft(arrivals) == first
    assert inter_token_latencies(arrivals) == gaps
    assert throughput(arrivals) == rate


@pytest.mark.parametrize("function", [ttft, inter_token_latencies, throughput])
@pytest.mark.parametrize(
    ("arrivals", "complaint"),
    [
        ([0.5, 0.75, 0.7], r"arrivals\[2\] is 0\.7, after 0\.75"),
        ([-0.1, 0.5], r"arrivals\[0\] is -0\.1"),
        ([0.1, float("nan")], r"arrivals\[1\] is nan"),
        ([float("inf")], r"arrivals\[0\] is inf"),
    ],
)
def test_what_cannot_be_arrival_times_is_refused(function, arrivals, complaint):
    with pytest.raises(ValueError, match=complaint):
        function(arrivals)


@given(
    times=st.lists(st.floats(0.001, 1e6), min_size=2).map(sorted),
)
def test_gaps_and_first_token_add_up_to_the_last_arrival(times):
    assert ttft(times) + sum(inter_token_latencies(times)) == pytest.approx(times[-1])
    assert throughput(times) * times[-1] == pytest.approx(len(times))


# ---------------------------------------------------------------- percentiles, concurrency, goodput


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=50), st.floats(0, 100))
def test_percentile_is_numpys_default(values, q):
    assert percentile(values, q) == pytest.approx(numpy.percentile(values, q), rel=1e-9, abs=1e-6)


@pytest.mark.parametrize(("q", "value"), [(0, 1), (50, 3), (100, 5), (75, 4), (90, 4.6)])
def test_percentile_sorts_and_interpolates(q, value):
    assert percentile([5, 3, 1, 4, 2], q) == pytest.approx(value)


def test_percentile_of_one_value_is_that_value_and_of_none_is_none():
    assert percentile([7.0], 99) == 7.0
    assert percentile([], 50) is None


def test_percentile_takes_infinity_for_a_value():
    assert percentile([1.0, 2.0, float("inf")], 50) == 2.0


@pytest.mark.parametrize("q", [-1, 100.1, float("nan")])
def test_percentile_needs_a_percentage(q):
    with pytest.raises(ValueError, match="from 0 to 100"):
        percentile([1.0], q)


def test_percentile_refuses_nan_among_the_values():
    with pytest.raises(ValueError, match="nan"):
        percentile([1.0, float("nan")], 50)


@pytest.mark.parametrize(
    ("rate", "latency", "open_at_once"), [(4, 2.5, 10), (0, 3, 0), (5, 0, 0), (0.5, 60, 30)]
)
def test_littles_law(rate, latency, open_at_once):
    assert concurrency_for(rate, latency) == open_at_once


@pytest.mark.parametrize(("rate", "latency"), [(-1, 1), (1, -1), (float("nan"), 1), (1, float("inf"))])
def test_littles_law_needs_a_rate_and_a_time(rate, latency):
    with pytest.raises(ValueError, match="rate and latency"):
        concurrency_for(rate, latency)


def stream(first: float, gap: float, tokens: int = 11, end: bool = True) -> StreamStats:
    """A stream with even gaps, as numbers."""
    arrivals = [Arrival(first + gap * k, "text", "x") for k in range(tokens)]
    if end:
        arrivals.append(Arrival(arrivals[-1].at if arrivals else first, "end"))
    return stream_stats(arrivals)


@pytest.mark.parametrize(
    ("limits", "good"),
    [
        ({}, 4),
        ({"ttft": 0.2}, 3),  # the limit itself is good
        ({"ttft": 0.19}, 0),
        ({"itl": 0.05}, 3),
        ({"tpot": 0.05}, 3),
        ({"end_to_end": 0.5}, 2),
        ({"ttfo": 0.2}, 3),
        ({"ttft": 0.2, "itl": 0.05}, 2),
    ],
)
def test_goodput_counts_streams_that_meet_every_limit(limits, good):
    runs = [
        stream(0.2, 0.02),
        stream(0.2, 0.10),
        stream(0.9, 0.02),
        stream(0.2, 0, tokens=1),  # a single token has no gap to be too long
        stream(0.2, 0.02, end=False),  # cut: never good
        stream(0.2, 0, tokens=0),  # without text: never good
    ]
    assert goodput(runs, 2.0, **limits) == good / 2.0


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf")])
def test_goodput_needs_the_duration_of_the_measurement(seconds):
    with pytest.raises(ValueError, match="per second"):
        goodput([], seconds)


def test_goodput_names_an_unknown_limit():
    with pytest.raises(ValueError, match="latency"):
        goodput([], 1, latency=3)


# ---------------------------------------------------------------- one stream, by hand


def by_hand(arrivals: list[Arrival], tokens: int) -> dict[str, float]:
    """The definitions once more, straight from their words and in whole microseconds."""
    at = {
        kind: [round(a.at * 1e6) for a in arrivals if a.kind == kind] for kind in {a.kind for a in arrivals}
    }
    texts = sorted(at.get("reasoning", []) + at.get("text", []))
    last = max(round(a.at * 1e6) for a in arrivals)
    return {
        "ttft": texts[0] / 1e6,
        "ttfo": min(at["text"]) / 1e6,
        "itl": (texts[-1] - texts[0]) / (tokens - 1) / 1e6,
        "tpot": (last - texts[0]) / (tokens - 1) / 1e6,
        "throughput": tokens * 1e6 / last,
        "output_rate": (tokens - 1) * 1e6 / (texts[-1] - texts[0]),
        "end_to_end": last / 1e6,
        "headers": at["headers"][0] / 1e6,
        "first_byte": at["bytes"][0] / 1e6,
        "role": at["role"][0] / 1e6,
    }


def measured_server(per_chunk: int = 1, reasoning: int = 0) -> list[Arrival]:
    """64 tokens as a benchmark's test server sends them: role at 50 ms, text at 200 ms, then 20 ms each."""
    arrivals = [Arrival(0.049, "headers"), Arrival(0.0495, "bytes"), Arrival(0.05, "role")]
    for k in range(0, 64, per_chunk):
        kind = "reasoning" if k < reasoning else "text"
        arrivals.append(Arrival(round(0.2 + 0.02 * k, 6), kind, "word " * per_chunk))
    return [*arrivals, Arrival(arrivals[-1].at + 0.001, "other"), Arrival(arrivals[-1].at + 0.002, "end")]


@pytest.mark.parametrize(("per_chunk", "reasoning"), [(1, 0), (4, 0), (1, 16)])
def test_the_numbers_are_those_of_the_definitions(per_chunk, reasoning):
    arrivals = measured_server(per_chunk, reasoning)
    stats = stream_stats(arrivals, usage=64)
    expected = by_hand(arrivals, 64)
    assert {name: getattr(stats, name) for name in expected} == pytest.approx(expected)


def test_the_numbers_of_the_measured_server():
    """What aiperf and guidellm measured there, too, within two percent."""
    plain = stream_stats(measured_server(), usage=64)
    assert plain.ttft == pytest.approx(0.2)  # not 0.05: the role chunk is no token
    assert plain.itl == pytest.approx(0.02)
    assert plain.gaps == pytest.approx([0.02] * 63)
    assert plain.end_to_end == pytest.approx(1.46 + 0.002)
    thinking = stream_stats(measured_server(reasoning=16), usage=64)
    assert (thinking.ttft, thinking.first_reasoning) == pytest.approx((0.2, 0.2))
    assert thinking.ttfo == pytest.approx(0.52)


def test_gaps_are_between_chunks_and_itl_is_per_token():
    stats = stream_stats(measured_server(per_chunk=4), usage=64)
    assert stats.gaps == pytest.approx([0.08] * 15)
    assert stats.itl == pytest.approx(15 * 0.08 / 63)


@pytest.mark.parametrize(
    ("given", "tokens", "counted_by"),
    [
        ({"usage": 64, "count": lambda text: 1}, 64, "usage"),
        ({"count": lambda text: len(text.split())}, 64, "counted"),
        ({}, 16, "chunks"),
        ({"usage": 0}, 0, "usage"),
    ],
)
def test_tokens_come_from_usage_else_are_counted_else_are_chunks(given, tokens, counted_by):
    stats = stream_stats(measured_server(per_chunk=4), **given)
    assert (stats.tokens, stats.counted_by) == (tokens, counted_by)


def test_a_stream_without_anything_has_no_numbers():
    assert stream_stats([]) == StreamStats(*[None] * 11, (), 0, "chunks", False)


def test_a_stream_without_text_has_an_end_and_no_token():
    stats = stream_stats([Arrival(0.1, "role"), Arrival(0.3, "end")])
    assert (stats.ttft, stats.itl, stats.throughput) == (None, None, None)
    assert (stats.role, stats.end_to_end, stats.completed) == (0.1, 0.3, True)


def test_one_chunk_of_many_tokens_has_a_throughput_and_no_inter_token_latency():
    stats = stream_stats([Arrival(0.5, "text", "a whole answer")], usage=10)
    assert (stats.ttft, stats.throughput) == (0.5, 20.0)
    assert (stats.itl, stats.tpot, stats.output_rate, stats.gaps) == (None, None, None, ())


def test_tokens_at_one_instant_have_no_time_between_them_and_no_rate():
    stats = stream_stats([Arrival(0.5, "text", "a"), Arrival(0.5, "text", "b"), Arrival(0.5, "end")])
    assert (stats.itl, stats.tpot, stats.output_rate, stats.gaps) == (0.0, 0.0, None, (0.0,))


def test_a_stream_that_was_stopped_is_not_complete():
    assert not stream_stats([Arrival(0.5, "text", "a")]).completed


def test_arrivals_out_of_order_are_refused():
    with pytest.raises(ValueError, match=r"arrivals\[1\] is 0\.1, after 0\.2"):
        stream_stats([Arrival(0.2, "text", "a"), Arrival(0.1, "text", "b")])


# ---------------------------------------------------------------- items


def chunk(finish_reason=None, **delta):
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]}


def as_object(value):
    if isinstance(value, dict):
        return SimpleNamespace(**{key: as_object(inner) for key, inner in value.items()})
    return [as_object(inner) for inner in value] if isinstance(value, list) else value


@pytest.mark.parametrize(
    ("item", "kind"),
    [
        (chunk(role="assistant", content=""), ("role", "")),
        (chunk(role="assistant", content=None), ("role", "")),
        (chunk(role="assistant", content="Hi"), ("text", "Hi")),
        (chunk(content="Hi"), ("text", "Hi")),
        (chunk(content=" "), ("text", " ")),
        (chunk(content=None, reasoning_content="Hm"), ("reasoning", "Hm")),
        (chunk(content="", reasoning="Hm"), ("reasoning", "Hm")),
        (chunk(content="Hi", reasoning="Hm"), ("text", "Hi")),
        (chunk(finish_reason="stop"), ("other", "")),
        (chunk(tool_calls=[{"index": 0}]), ("other", "")),
        ({"choices": [], "usage": {"completion_tokens": 3}}, ("other", "")),
        ({"error": {"message": "overloaded"}}, ("other", "")),
    ],
)
def test_the_kind_of_a_chunk(item, kind):
    assert kind_of(item) == kind
    assert kind_of(as_object(item)) == kind


@pytest.mark.parametrize(
    ("item", "kind"),
    [("Hi", ("text", "Hi")), ("", ("other", "")), (b"data:", ("bytes", "")), (b"", ("other", ""))],
)
def test_the_kind_of_text_and_bytes(item, kind):
    assert kind_of(item) == kind


# ---------------------------------------------------------------- real streams, on a clock the source sets


class Clock:
    """Nanoseconds that stand still until somebody sets them."""

    def __init__(self) -> None:
        self.now = 1_000_000_000_000

    def __call__(self) -> int:
        return self.now

    def at(self, seconds: float) -> None:
        self.now = 1_000_000_000_000 + round(seconds * 1e9)


async def timed(
    clock: Clock, items: list[tuple[float, object]], closed: list[str] | None = None
) -> AsyncIterator:
    """Each item at its second."""
    try:
        for seconds, item in items:
            clock.at(seconds)
            if isinstance(item, Exception):
                raise item
            yield item
    finally:
        if closed is not None:
            closed.append("closed")


CHUNKS = [
    (0.05, chunk(role="assistant", content="")),
    (0.20, chunk(reasoning_content="Hm")),
    (0.30, chunk(content="to")),
    (0.40, chunk(content="ken")),
    (0.41, chunk(finish_reason="stop")),
    (0.42, {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 3}}),
]


async def test_watch_hands_on_every_item_and_stamps_it():
    clock, closed = Clock(), []
    timer = StreamTimer(clock)
    items = [item async for item in timer.watch(timed(clock, CHUNKS, closed))]
    assert items == [item for _, item in CHUNKS]
    assert timer.arrivals == [
        Arrival(0.05, "role"),
        Arrival(0.20, "reasoning", "Hm"),
        Arrival(0.30, "text", "to"),
        Arrival(0.40, "text", "ken"),
        Arrival(0.41, "other"),
        Arrival(0.42, "other"),
        Arrival(0.42, "end"),
    ]
    assert closed == ["closed"]


async def test_the_usage_that_comes_in_a_chunk_is_used():
    clock = Clock()
    timer = StreamTimer(clock)
    [_ async for _ in timer.watch(timed(clock, CHUNKS))]
    assert (timer.usage, timer.stats().tokens, timer.stats().counted_by) == (3, 3, "usage")
    assert timer.stats(usage=7).tokens == 7
    assert timer.stats().itl == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("chunks", "details", "tokens"),
    [
        (CHUNKS[2:-1], {"reasoning_tokens": 1}, 2),  # it was never sent: not of this stream
        (CHUNKS[:-1], {"reasoning_tokens": 1}, 3),  # here it was
        (CHUNKS[2:-1], {"reasoning_tokens": 9}, 3),  # some servers do not count it in
        (CHUNKS[2:-1], {"reasoning_tokens": 3}, 0),  # all of them
        (CHUNKS[2:-1], {"reasoning_tokens": None}, 3),
        (CHUNKS[2:-1], None, 3),
    ],
)
async def test_reasoning_that_the_server_kept_to_itself_is_not_counted(chunks, details, tokens):
    clock = Clock()
    timer = StreamTimer(clock)
    usage = {"completion_tokens": 3, "completion_tokens_details": details}
    [_ async for _ in timer.watch(timed(clock, [*chunks, (0.42, {"choices": [], "usage": usage})]))]
    assert (timer.usage, timer.stats().tokens, timer.stats(usage=7).tokens) == (3, tokens, 7)


async def test_a_chunk_without_usage_does_not_undo_the_usage_before_it():
    clock = Clock()
    timer = StreamTimer(clock)
    [_ async for _ in timer.watch(timed(clock, [*CHUNKS, (0.43, {"choices": [], "usage": None})]))]
    assert timer.usage == 3


async def test_a_stream_of_text_is_timed_and_counted():
    clock = Clock()
    timer = StreamTimer(clock)
    [_ async for _ in timer.watch(timed(clock, [(0.2, "to"), (0.3, "ken")]))]
    stats = timer.stats(count=lambda text: {"token": 1}[text])
    assert (stats.ttft, stats.tokens, stats.counted_by, stats.completed) == (0.2, 1, "counted", True)


async def test_a_reader_that_is_late_measures_itself():
    """The observer effect: what arrives is stamped when the reader asks for it."""
    clock = Clock()
    timer = StreamTimer(clock)

    async def at_once() -> AsyncIterator[str]:
        yield "a"
        yield "b"

    async for _ in timer.watch(at_once()):
        clock.now += 500_000_000  # half a second of drawing after each token
    assert [arrival.at for arrival in timer.arrivals] == [0.0, 0.5, 1.0]


async def test_leaving_early_closes_the_source_and_is_not_complete():
    clock, closed = Clock(), []
    timer = StreamTimer(clock)
    watched = timer.watch(timed(clock, CHUNKS, closed))
    async for _ in watched:
        break
    await watched.aclose()
    assert closed == ["closed"]
    assert not timer.stats().completed


async def test_an_error_passes_through_and_the_stream_is_not_complete():
    clock = Clock()
    timer = StreamTimer(clock)
    with pytest.raises(ConnectionError):
        [_ async for _ in timer.watch(timed(clock, [*CHUNKS[:3], (0.35, ConnectionError("cut"))]))]
    stats = timer.stats()
    assert (stats.completed, stats.ttft, stats.tokens) == (False, 0.2, 2)


async def test_a_stream_that_was_cut_without_an_error_is_not_complete():
    clock = Clock()
    timer = StreamTimer(clock)
    [_ async for _ in timer.watch(timed(clock, CHUNKS[:4]))]
    assert not timer.stats().completed


def transport(clock: Clock, refusals: int = 0) -> httpx2.MockTransport:
    """A server on our clock: `refusals` times a 500, then headers, each chunk as an event, [DONE]."""
    requests = []

    async def body() -> AsyncIterator[bytes]:
        async for item in timed(clock, CHUNKS):
            shape = {"id": "1", "object": "chat.completion.chunk", "created": 0, "model": "m"}
            if usage := item.get("usage"):
                item = {**item, "usage": {**usage, "total_tokens": 12}}
            yield b"data: " + json.dumps(shape | item).encode() + b"\n\n"
        clock.at(0.43)
        yield b"data: [DONE]\n\n"

    def answer(request: httpx2.Request) -> httpx2.Response:
        requests.append(request)
        clock.at(0.01 * len(requests))
        if len(requests) <= refusals:
            return httpx2.Response(500, headers={"retry-after-ms": "1"})
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=body())

    return httpx2.MockTransport(answer)


@pytest.mark.parametrize("refusals", [0, 1])
async def test_five_clocks_of_a_stream_of_the_openai_client(refusals):
    from openai import AsyncOpenAI

    clock = Clock()
    timer = StreamTimer(clock)
    http_client = httpx2.AsyncClient(transport=transport(clock, refusals), event_hooks=timer.hooks())
    async with AsyncOpenAI(api_key="x", base_url="http://test/v1", http_client=http_client) as client:
        chunks = await client.chat.completions.create(model="m", messages=[], stream=True)
        assert len([c async for c in timer.watch(chunks)]) == len(CHUNKS)
    stats = timer.stats()
    assert stats.headers == pytest.approx(0.01 * (refusals + 1))
    assert (stats.first_byte, stats.role) == (0.05, 0.05)
    assert (stats.first_reasoning, stats.ttft, stats.ttfo) == (0.20, 0.20, 0.30)
    assert (stats.end_to_end, stats.tokens, stats.counted_by, stats.completed) == (0.43, 3, "usage", True)


async def test_leaving_a_hooked_stream_early_closes_the_connection():
    from openai import AsyncOpenAI

    closed = []

    class Endless(httpx2.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            shape = {"id": "1", "object": "chat.completion.chunk", "created": 0, "model": "m"}
            while True:
                yield b"data: " + json.dumps(shape | chunk(content="a")).encode() + b"\n\n"

        async def aclose(self) -> None:
            closed.append("connection")

    class Server(httpx2.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
            return httpx2.Response(200, headers={"content-type": "text/event-stream"}, stream=Endless())

    timer = StreamTimer()
    http_client = httpx2.AsyncClient(transport=Server(), event_hooks=timer.hooks())
    async with AsyncOpenAI(api_key="x", base_url="http://test/v1", http_client=http_client) as client:
        chunks = await client.chat.completions.create(model="m", messages=[], stream=True)
        watched = timer.watch(chunks)
        await anext(watched)
        await watched.aclose()
        assert closed == ["connection"]


async def test_an_httpx2_stream_of_bytes_is_timed():
    clock = Clock()
    timer = StreamTimer(clock)
    async with (
        httpx2.AsyncClient(transport=transport(clock)) as client,
        client.stream("POST", "http://test/v1/chat/completions") as response,
    ):
        timer.mark("headers")
        [_ async for _ in timer.watch(response.aiter_bytes())]
    stats = timer.stats()
    assert (stats.headers, stats.first_byte, stats.end_to_end, stats.completed) == (0.01, 0.05, 0.43, True)


async def test_the_clock_is_monotonic_and_starts_with_the_timer():
    timer = StreamTimer()
    timer.mark("text", "a")
    timer.mark("text", "b")
    first, second = timer.arrivals
    assert 0 <= first.at <= second.at < 60


def test_importing_loads_no_client_and_nothing_to_draw_with():
    heavy = (
        "openai",
        "httpx2",
        "numpy",
        "matplotlib",
        "streamlib.widgets",
        "streamlib.checker",
        "streamlib.sim",
    )
    code = f"import sys, streamlib.metrics; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"
