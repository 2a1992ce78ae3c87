"""A load on a model: so many streams, so many at once, and what each of them does meanwhile. Lesson 7.

Every request is plain httpx2 and our `SSEParser`, and every arrival is written down by a `StreamTimer` next
to the read that brought it. So any OpenAI-compatible server can be measured, and nothing is measured but the
server and the way to it.

- Connections are open before the first clock starts: a run begins with as many requests for the list of
  models as it will have streams at once.
- The load is closed: each of `concurrency` workers asks, reads to the end, and only then asks again.
- Tokens are those of the API's `usage`, else counted from the text; `StreamStats.counted_by` says which.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from operator import attrgetter
from time import perf_counter
from typing import Any, TypeAlias

import httpx2

from ..metrics import StreamTimer, kind_of
from ..sse import SSEParser
from ..tokens import TokenCounter, count_tokens
from .ask import Ask, refusal, trouble, warm_up
from .board_run import STOPPED, Result, Run, Settings, put, rates
from .board_server import Server, forget_lag, lag, look_at, too_late

Headers: TypeAlias = Mapping[str, str] | Callable[[int], Mapping[str, str]]

LIMITS = ("max_completion_tokens", "max_tokens")  # the name of today, and the one before it

RATE_AFTER = (4, 0.1)  # tokens and seconds of a stream before it has a rate: two tokens say nothing

QUESTION = "Explain in about 100 words how a streamed answer reaches its reader."
FILLER = "Tokens are made one by one, and each is sent as soon as it is there."


class Stream:
    """One stream while it runs. Its instants are seconds since the run began."""

    __slots__ = ("first", "number", "started", "tokens")

    def __init__(self, number: int, started: float) -> None:
        self.number = number
        self.started = started
        self.tokens = 0
        self.first: float | None = None  # when its first text came

    def ttft(self, now: float) -> float:
        """Seconds to the first text; for a stream that still waits, the seconds it has waited."""
        return (now if self.first is None else self.first) - self.started

    def rate(self, now: float) -> float | None:
        """Tokens per second since the first text; None as long as too few have come to say."""
        if self.first is None:
            return None
        seconds = now - self.first
        enough = self.tokens >= RATE_AFTER[0] and seconds >= RATE_AFTER[1]
        return (self.tokens - 1) / seconds if enough else None


class Load:
    """A run while it runs: `streams` changes, and `run()` returns the `Run` when all is over.

    With `prompt` each stream asks something else, by its number: a server that remembers what it has read
    would answer the second one sooner. `headers` may be such a function too.
    """

    def __init__(
        self,
        ask: Ask,
        *,
        label: str,
        concurrency: int,
        requests: int,
        prompt: Callable[[int], str] | None = None,
        headers: Headers | None = None,
    ) -> None:
        if concurrency < 1 or requests < 1:
            raise ValueError(f"a run has at least one stream, got {concurrency=}, {requests=}")
        self.ask = ask
        self.label = label
        self.concurrency = concurrency
        self.requests = requests
        self.prompt = prompt
        self.headers = headers
        self.streams: list[Stream] = []  # that are open now
        self.bins: dict[int, float] = {}  # tokens that came in each bin of time
        self.server = Server()
        self.invalid = ""
        self.results: list[Result] = []  # of the streams that have ended, in the order of their ends
        self.tokens = 0  # of these
        self.errors: Counter[str] = Counter()  # why they failed
        self._workers: list[asyncio.Task[None]] = []
        self._stopped = False
        self._began: float | None = None  # on `perf_counter`: the connections are open, the clocks run
        self._seconds: float | None = None

    async def run(self) -> Run:
        """Ask until all streams have ended, or `stop` was called. No error of a stream leaves it."""
        await asyncio.to_thread(count_tokens, "the vocabulary is read before the clocks start")
        async with self.ask.client() as client:
            self.server = await look_at(client)
            at_once = min(self.concurrency, self.requests)
            await asyncio.gather(*(warm_up(client) for _ in range(at_once)))
            await forget_lag(client, self.server)
            numbers = iter(range(1, 1 if self._stopped else self.requests + 1))
            self._began = perf_counter()
            try:
                async with asyncio.TaskGroup() as group:
                    self._workers = [group.create_task(self._work(client, numbers)) for _ in range(at_once)]
            finally:
                self._seconds = perf_counter() - self._began
            self.invalid = too_late(self.so_far(), await lag(client, self.server))
        return self.so_far()

    def stop(self) -> None:
        """End the streams that are open now, and begin no more."""
        self._stopped = True
        for worker in self._workers:
            worker.cancel()

    def so_far(self) -> Run:
        """The streams that have ended, as a run."""
        seconds = self.clock()
        results = tuple(sorted(self.results, key=attrgetter("number")))
        return Run(self.label, self._settings, results, seconds, rates(self.bins, seconds), self.invalid)

    @cached_property
    def _settings(self) -> Settings:
        body, headers = self._request(1)
        options = self.ask.options
        return Settings(
            self.ask.model,
            self.concurrency,
            self.requests,
            sum(len(str(message.get("content")).split()) for message in body["messages"]),
            next((options[name] for name in LIMITS if name in options), None),
            "; ".join(f"{name}: {value}" for name, value in headers.items() if name != "X-Sim-Seed"),
        )

    def clock(self) -> float:
        """Seconds since the run began."""
        if self._began is None:
            return 0.0
        return perf_counter() - self._began if self._seconds is None else self._seconds

    async def _work(self, client: httpx2.AsyncClient, numbers: Iterator[int]) -> None:
        for number in numbers:
            stream = Stream(number, self.clock())
            self.streams.append(stream)
            timer, why = StreamTimer(), ""
            try:
                await self._read(client, stream, timer)
            except httpx2.HTTPError as error:
                why = trouble(error)
            except ValueError as error:
                why = str(error)
            except asyncio.CancelledError:
                why = STOPPED
                raise
            finally:
                self.streams.remove(stream)
                result = Result(number, stream.started, timer.stats(count=count_tokens), why)
                self.results.append(result)
                self.tokens += result.stats.tokens
                if result.failed:
                    self.errors[why] += 1

    async def _read(self, client: httpx2.AsyncClient, stream: Stream, timer: StreamTimer) -> None:
        body, headers = self._request(stream.number)
        parser, counter, complete = SSEParser(), TokenCounter(), False
        async with client.stream("POST", "chat/completions", json=body, headers=headers) as response:
            if sentence := await refusal(response):
                raise ValueError(sentence)
            timer.mark("headers")
            async for data in response.aiter_bytes():
                timer.mark("bytes")
                for event in parser.feed(data):
                    if event.data == "[DONE]":
                        complete = True
                        continue
                    chunk = chunk_in(event.data)
                    kind, text = kind_of(chunk)
                    timer.mark(kind, text)
                    if text:
                        self._count(stream, counter.add(text))
                    complete |= any(choice.get("finish_reason") for choice in chunk.get("choices") or ())
                    timer.report(chunk.get("usage"))
        if not complete:
            raise ValueError("The answer ended in the middle: no [DONE], no finish reason.")
        timer.mark("end")

    def _count(self, stream: Stream, tokens: int) -> None:
        now = self.clock()
        if stream.first is None:
            stream.first = now
        put(self.bins, now, tokens - stream.tokens)
        stream.tokens = tokens

    def _request(self, number: int) -> tuple[dict[str, Any], dict[str, str]]:
        """The JSON and the headers of a stream. The embedded model takes the same time for the same question:
        another seed is another roll of its dice."""
        body = self.ask.body(stream=True) | {"stream_options": {"include_usage": True}}
        if self.prompt is not None:
            body["messages"] = [{"role": "user", "content": self.prompt(number)}]
        seed = {"X-Sim-Seed": str(number)} if self.server.is_simulated else {}
        return body, seed | headers_of(self.headers, number)


def headers_of(headers: Headers | None, number: int) -> dict[str, str]:
    """The headers of the stream with this number."""
    return dict(headers(number) if callable(headers) else headers or {})


def chunk_in(data: str) -> dict[str, Any]:
    """The chunk in the data of an event. Raises ValueError when it is none, or brings an error."""
    try:
        chunk = json.loads(data)
    except ValueError:
        raise ValueError(f"An event is not JSON: {data[:80]!r}") from None
    if not isinstance(chunk, dict):
        raise ValueError(f"An event is not a chunk: {data[:80]!r}")
    if error := chunk.get("error"):
        words = error.get("message") if isinstance(error, dict) else error
        raise ValueError(f"The server sent an error: {str(words)[:300]}")
    return chunk


def make_prompt(words: int) -> Callable[[int], str]:
    """For each stream a prompt of about so many words, no two alike from their first words on."""
    filler = FILLER.split()
    room = max(0, words - len(QUESTION.split()) - 2)
    padding = (filler * (room // len(filler) + 1))[:room]
    return lambda number: " ".join([f"Reader {number}:", *padding, QUESTION])
