"""Arrival times -> time to first token, inter-token latency, throughput. Lesson 7.

`StreamTimer` writes down when things arrive, and nothing else. Pure functions make numbers of it afterwards:
seconds since the request was sent, and tokens per second. The names are those of the serving benchmarks,
which do not agree on what they mean. Here:

- TTFT, time to first token: to the first text of the answer or of its reasoning. A chunk that only names the
  role is no text (vLLM's benchmark counts it). TTFO, to the first output: to the first text of the answer.
- ITL, inter-token latency: (last text - first text) / (tokens - 1), as in aiperf and guidellm; one a stream.
- TPOT, time per output token: (end to end - TTFT) / (tokens - 1), as in vLLM: to the end of the stream, not
  to its last text. (guidellm's TPOT and llmperf's ITL include the time to the first token.)
- Gaps: between chunks with text. aiperf calls them inter-chunk latency, vLLM ITL.
- Throughput: tokens / end to end. Output rate: (tokens - 1) / (last text - first text).

What does not exist is None: a stream without text has no TTFT, a single token has no gap. What cannot be an
arrival time is a ValueError.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import inf, isfinite, isnan
from time import perf_counter_ns
from typing import Any, Literal, TypeAlias, TypeVar

from .closing import closing

__all__ = ["Arrival", "StreamStats", "StreamTimer", "concurrency_for", "goodput", "inter_token_latencies"]
__all__ += ["kind_of", "percentile", "stream_stats", "throughput", "ttft"]

T = TypeVar("T")

Kind: TypeAlias = Literal["headers", "bytes", "role", "reasoning", "text", "other", "end"]
Counted: TypeAlias = Literal["usage", "counted", "chunks"]


# ---- one stream as a list of times: when each token came, in seconds since the request, in order


def ttft(arrivals: Sequence[float]) -> float | None:
    """Time to the first token, in seconds. None without tokens.

    >>> ttft([0.5, 0.75, 1.0])
    0.5
    """
    _check(arrivals)
    return arrivals[0] if arrivals else None


def inter_token_latencies(arrivals: Sequence[float]) -> list[float]:
    """The gaps between tokens in seconds, one fewer than tokens. Those that come together are 0.0 apart.

    >>> inter_token_latencies([0.5, 0.75, 1.0])
    [0.25, 0.25]
    """
    _check(arrivals)
    return [later - earlier for earlier, later in pairwise(arrivals)]


def throughput(arrivals: Sequence[float]) -> float | None:
    """Tokens per second, from the request to the last token. None without tokens, or if no time has passed.

    >>> throughput([0.5, 0.75, 1.0])
    3.0
    """
    _check(arrivals)
    return len(arrivals) / arrivals[-1] if arrivals and arrivals[-1] else None


def _check(arrivals: Sequence[float]) -> None:
    for place, at in enumerate(arrivals):
        if not isfinite(at) or at < 0:
            raise ValueError(f"arrivals[{place}] is {at}: seconds since the request are zero or more")
        if place and at < arrivals[place - 1]:
            raise ValueError(
                f"arrivals[{place}] is {at}, after {arrivals[place - 1]}: times do not run backwards"
            )


# ---- many streams


def percentile(values: Iterable[float], q: float) -> float | None:
    """The `q`-th percentile (0 to 100) of `values` in any order; None of none.

    Between two values it interpolates linearly: numpy's default, definition 7 of Hyndman and Fan (1996).

    >>> percentile([1.0, 2.0, 4.0], 75)
    3.0
    """
    if not 0 <= q <= 100:
        raise ValueError(f"q is a percentage from 0 to 100, got {q}")
    ordered = sorted(values)
    if any(map(isnan, ordered)):
        raise ValueError("nan has no place in an order: leave out what was not measured")
    return percentile_in_order(ordered, q)


def percentile_in_order(ordered: Sequence[float], q: float) -> float | None:
    """The same for values that are in order already: only the two that it lies between are looked at."""
    if not ordered:
        return None
    place = (len(ordered) - 1) * q / 100
    below = int(place)
    share = place - below
    return ordered[below] * (1 - share) + ordered[below + 1] * share if share else ordered[below]


def concurrency_for(rate: float, latency: float) -> float:
    """How many streams are open at once, on average: `rate` a second begin, each takes `latency` seconds.

    This is Little's law. It holds for any distribution of the two, as long as the server keeps up.

    >>> concurrency_for(rate=4, latency=2.5)
    10.0
    """
    if not (0 <= rate < inf and 0 <= latency < inf):
        raise ValueError(f"rate and latency are zero or more, got {rate=}, {latency=}")
    return rate * latency


def goodput(runs: Iterable[StreamStats], seconds: float, **limits: float) -> float:
    """Good streams per second, of a measurement that took `seconds`.

    Good is a stream that came to its end, brought text, and met every limit. Limits are seconds, by the
    names in `StreamStats`. A single token meets any limit on `itl` and `tpot`.

    >>> goodput(runs, 60, ttft=0.5, itl=0.05)
    """
    if not 0 < seconds < inf:
        raise ValueError(f"goodput is per second, so the measurement took some: got {seconds=}")
    if unknown := limits.keys() - {"ttft", "ttfo", "itl", "tpot", "end_to_end"}:
        raise ValueError(f"goodput knows limits on ttft, ttfo, itl, tpot and end_to_end, not on {unknown}")

    def meets(run: StreamStats, name: str, limit: float) -> bool:
        value: float | None = getattr(run, name)
        return name in ("itl", "tpot") if value is None else value <= limit

    good = [run for run in runs if run.completed and run.ttft is not None]
    return sum(all(meets(run, *limit) for limit in limits.items()) for run in good) / seconds


# ---- from a stream to its arrivals, and from those to its numbers


@dataclass(frozen=True, slots=True)
class Arrival:
    """Something came `at` seconds after the request; the `text` it brought is "" for most kinds."""

    at: float
    kind: Kind
    text: str = ""


@dataclass(frozen=True, slots=True)
class StreamStats:
    """The numbers of one stream, in seconds and tokens per second, as the module's docstring defines them.

    The five clocks: `headers`, `first_byte`, `role` (a chunk that only names it), `first_reasoning`, `ttfo`.
    `counted_by` says who counted `tokens`: the API ("usage"), a tokenizer ("counted"), or nobody: then the
    "chunks" with text were taken for tokens. `completed` is False for a stream that was stopped, or cut. A
    silent cut shows by the finish reason that never came.
    """

    ttft: float | None
    itl: float | None
    tpot: float | None
    throughput: float | None
    output_rate: float | None
    end_to_end: float | None
    headers: float | None
    first_byte: float | None
    role: float | None
    first_reasoning: float | None
    ttfo: float | None
    gaps: tuple[float, ...]
    tokens: int
    counted_by: Counted
    completed: bool


def stream_stats(
    arrivals: Iterable[Arrival], *, usage: int | None = None, count: Callable[[str], int] | None = None
) -> StreamStats:
    """All numbers of one stream. `usage` is its tokens by the API's report, without those that were never
    sent; else `count` counts the text."""
    arrivals = list(arrivals)
    _check([arrival.at for arrival in arrivals])
    texts = [arrival for arrival in arrivals if arrival.kind in ("reasoning", "text")]
    times = [arrival.at for arrival in texts]
    first = {arrival.kind: arrival.at for arrival in reversed(arrivals)}

    counted_by: Counted = "chunks"
    tokens = len(texts)
    if usage is not None:
        tokens, counted_by = usage, "usage"
    elif count is not None:
        tokens, counted_by = count("".join([arrival.text for arrival in texts])), "counted"

    end = arrivals[-1].at if arrivals else None
    start = times[0] if times else None
    itl = tpot = None
    if end is not None and start is not None and len(times) > 1 and tokens > 1:  # one instant has no rate
        itl = (times[-1] - start) / (tokens - 1)
        tpot = (end - start) / (tokens - 1)
    return StreamStats(
        ttft=start,
        itl=itl,
        tpot=tpot,
        throughput=tokens / end if tokens and end else None,
        output_rate=1 / itl if itl else None,
        end_to_end=end,
        headers=first.get("headers"),
        first_byte=first.get("bytes"),
        role=first.get("role"),
        first_reasoning=first.get("reasoning"),
        ttfo=first.get("text"),
        gaps=tuple(inter_token_latencies(times)),
        tokens=tokens,
        counted_by=counted_by,
        completed="end" in first,
    )


def kind_of(item: Any) -> tuple[Kind, str]:
    """What an item of a stream is, and its text: bytes, text, or a chat completion chunk (object or dict)."""
    if isinstance(item, str):
        return ("text" if item else "other"), item
    if isinstance(item, bytes):
        return ("bytes" if item else "other"), ""
    choices = _get(item, "choices")  # none in the usage chunk
    delta = _get(choices[0], "delta") if choices else None
    if text := _get(delta, "content"):
        return "text", text
    if text := _get(delta, "reasoning_content") or _get(delta, "reasoning"):
        return "reasoning", text
    return ("role" if _get(delta, "role") else "other"), ""


def _get(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, Mapping) else getattr(value, name, None)


class StreamTimer:
    """Writes down when each item of a stream arrives. Its clock starts when you make it, before the request.

    >>> timer = StreamTimer()
    >>> stream = await client.chat.completions.create(model=model.name, messages=messages, stream=True)
    >>> async for chunk in timer.watch(stream): ...
    >>> timer.stats().ttft

    An item arrives when its reader asks for it. A reader that is busy, with drawing say, measures itself.
    """

    __slots__ = ("_clock", "_reasoning", "_seen", "_start", "usage")

    def __init__(self, clock: Callable[[], int] = perf_counter_ns) -> None:
        self.usage: int | None = None  # tokens of the answer, when a chunk has reported them …
        self._reasoning = 0  # … and how many of them are reasoning
        self._seen: list[tuple[int, Kind, str]] = []
        self._clock = clock  # in nanoseconds, and never set back
        self._start = clock()

    def mark(self, kind: Kind, text: str = "") -> None:
        """Something arrives now."""
        self._seen.append((self._clock(), kind, text))

    def report(self, usage: Any) -> None:
        """The API's own count, in a chunk's `usage`; None in most chunks."""
        tokens = _get(usage, "completion_tokens")
        if tokens is not None:
            self.usage = tokens
            self._reasoning = _get(_get(usage, "completion_tokens_details"), "reasoning_tokens") or 0

    async def watch(self, stream: AsyncIterable[T]) -> AsyncIterator[T]:
        """A stage that hands on every item as it is, and closes `stream`. For the items `kind_of` knows."""
        whole = True
        async with closing(stream) as items:
            async for item in items:
                now = self._clock()  # before anything else
                self._seen.append((now, *kind_of(item)))
                if choices := _get(item, "choices"):
                    whole = bool(_get(choices[0], "finish_reason"))  # has the last one a finish reason?
                self.report(_get(item, "usage"))
                yield item
            if whole:
                self.mark("end")

    def hooks(self) -> dict[str, list[Callable[[Any], Any]]]:
        """For the two clocks below the chunks, headers and first byte: hooks for an httpx2 client.

        >>> http_client = httpx2.AsyncClient(event_hooks=timer.hooks())
        >>> client = AsyncOpenAI(http_client=http_client)  # for this one stream

        A refusal (429, 500) marks nothing, the answer to the SDK's next attempt does.
        """

        async def mark_headers(response: Any) -> None:
            if response.is_success:
                self.mark("headers")
                response.stream = _marked(response.stream, self)

        return {"response": [mark_headers]}

    @property
    def arrivals(self) -> list[Arrival]:
        """What has arrived so far."""
        return [Arrival((at - self._start) / 1e9, kind, text) for at, kind, text in self._seen]

    def stats(self, *, usage: int | None = None, count: Callable[[str], int] | None = None) -> StreamStats:
        """The numbers so far, by `stream_stats`. Usage that came in a chunk is known already: its tokens
        without the reasoning, when the server kept that to itself."""
        arrivals = self.arrivals
        if usage is None and self.usage is not None:
            hidden = 0 if any(arrival.kind == "reasoning" for arrival in arrivals) else self._reasoning
            usage = self.usage - hidden if hidden <= self.usage else self.usage  # some do not count it in
        return stream_stats(arrivals, usage=usage, count=count)


def _marked(stream: Any, timer: StreamTimer) -> Any:
    """The body of an httpx2 response, with a mark at each read of the socket."""
    from httpx2 import AsyncByteStream

    class Marked(AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            async with closing(aiter(stream)) as reads:
                async for data in reads:
                    timer.mark("bytes")
                    yield data

        async def aclose(self) -> None:
            await stream.aclose()

    return Marked()
