"""Every fault of the embedded model, met through every client of the course: what a reader gets.

One table. `part` is the text of the five tokens before the fault, `whole` all of it, `""` none. All texts are
compared exactly, so nothing is lost or doubled where the table says `whole`. The fault strikes the first
request; the ones after it are answered well.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from functools import cache
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest
from openai import AsyncOpenAI, OpenAI

from streamlib.chat import stream_chat
from streamlib.closing import closing
from streamlib.retry import resume, retry, timeouts
from streamlib.sim import SimTransport, Simulator
from streamlib.sim.faults import FAULTS

from .stream_helpers import now, virtual

URL = "http://sim/v1"
QUESTION = {"role": "user", "content": "Explain backpressure in about 40 words."}
PATIENCE = 5.0  # seconds of silence that the clients bear

Row = tuple[str, str, int]  # the text, the error ("" for none), the requests
GOOD = ("whole", "", 1)
AGAIN = ("whole", "", 2)


@dataclass(frozen=True)
class Fault:
    text: str  # what is delivered before it
    chat: str  # the error of stream_chat
    openai: str  # the error of the official client, sync and async; "" where it notices nothing
    openai_retries: bool = False  # whether the official client, with its own retries, gets over it

    @property
    def by_chat(self) -> Row:
        return self.text, self.chat, 1

    @property
    def by_openai(self) -> Row:
        return self.text, self.openai, 1


TABLE = {
    "": Fault("whole", "", ""),
    "refuse": Fault("", "ConnectionFailed", "APIConnectionError", True),
    "status=400": Fault("", "StatusError", "BadRequestError"),
    "status=401": Fault("", "StatusError", "AuthenticationError"),
    "status=409": Fault("", "StatusError", "ConflictError", True),
    "status=429": Fault("", "StatusError", "RateLimitError", True),
    "status=500": Fault("", "StatusError", "InternalServerError", True),
    "status=503; retry-after=3": Fault("", "StatusError", "InternalServerError", True),
    "retry-after-date=3": Fault("", "StatusError", "RateLimitError", True),
    "slow-first-byte=60": Fault("", "ChatTimeout", "APITimeoutError", True),
    "cut-after=0": Fault("", "StreamTruncated", "APIConnectionError"),
    "cut-after=5": Fault("part", "StreamTruncated", "APIConnectionError"),
    "truncate-after=0": Fault("", "StreamTruncated", ""),
    "truncate-after=5": Fault("part", "StreamTruncated", ""),
    "cut-mid-event=5": Fault("part", "StreamTruncated", "APIConnectionError"),
    "stall-after=5": Fault("part", "ChatTimeout", "APITimeoutError"),
    "error-event=5": Fault("part", "StreamError", "APIError"),
    "bad-json=5": Fault("part", "BadAnswer", "JSONDecodeError"),
    "no-done": Fault("whole", "", ""),
    "clump=1": Fault("whole", "", ""),
    "split-utf8": Fault("whole", "", ""),
    "crlf": Fault("whole", "", ""),
    "comments": Fault("whole", "", ""),
}

every_fault = pytest.mark.parametrize("fault", TABLE, ids=lambda fault: fault or "none")


def test_every_fault_of_the_embedded_model_is_in_the_table() -> None:
    met = {part.partition("=")[0] for fault in TABLE for part in fault.split("; ") if part}
    assert met == set(FAULTS)


# --- the clients ----------------------------------------------------------------------------------


class FirstBreaks(httpx2.AsyncBaseTransport, httpx2.BaseTransport):
    """The embedded model; the first request meets the fault."""

    def __init__(self, fault: str) -> None:
        self.simulator = Simulator(profile="fast")
        self._inner = SimTransport(self.simulator)
        self._fault = fault
        self.requests = 0

    def _break(self, request: httpx2.Request) -> None:
        if self.requests == 0:
            request.headers["X-Sim-Fault"] = self._fault
        self.requests += 1

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self._break(request)
        return await self._inner.handle_async_request(request)

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        self._break(request)
        return self._inner.handle_request(request)


def ask_chat(http: httpx2.AsyncClient, said: str = "", timeout: float | None = PATIENCE) -> Any:
    messages = [QUESTION, {"role": "assistant", "content": said}] if said else [QUESTION]
    return stream_chat(messages, model="sim-1", base_url=URL, client=http, timeout=timeout)


async def ask_openai(http: httpx2.AsyncClient, max_retries: int) -> AsyncIterator[str]:
    client = AsyncOpenAI(
        base_url=URL, api_key="none", http_client=http, max_retries=max_retries, timeout=PATIENCE
    )
    client._platform = "Linux"  # type: ignore[assignment]  # else it asks a thread, whom no virtual clock waits for
    stream = await client.chat.completions.create(model="sim-1", messages=[QUESTION], stream=True)  # type: ignore[list-item]
    async with stream:
        async for chunk in stream:
            for choice in chunk.choices:
                yield choice.delta.content or ""


@dataclass
class Met:
    """What came of it: the row of the table, the seconds it took, and the streams it left open."""

    row: Row
    seconds: float
    open: int


def met(fault: str, open_stream: Any) -> Met:
    """Read ``open_stream(http client)`` to its end, on a virtual clock."""
    transport = FirstBreaks(fault)
    got: list[str] = []

    async def main() -> tuple[str, float]:
        async with httpx2.AsyncClient(transport=transport) as http:
            try:
                async with closing(timeouts(open_stream(http))) as pieces:
                    async for text in pieces:
                        got.append(text)
            except Exception as problem:
                return type(problem).__name__, now()
        return "", now()

    error, seconds = virtual(main())
    row = (named("".join(got)), error, transport.requests)
    return Met(row, seconds, transport.simulator.stats.streams_open)


def named(text: str) -> str:
    """`whole`, `part` or nothing, when that is exactly what it is."""
    whole, part = texts()
    return {whole: "whole", part: "part"}.get(text, text)


@cache
def texts() -> tuple[str, str]:
    """The whole answer, and its first five tokens, from blocking requests that nothing happens to."""

    async def main() -> tuple[str, str]:
        async with httpx2.AsyncClient(transport=SimTransport()) as http:
            body = {"model": "sim-1", "messages": [QUESTION]}
            whole, part = [
                (await http.post(f"{URL}/chat/completions", json=body | more)).json()["choices"][0]["message"]
                for more in ({}, {"max_tokens": 5})
            ]
        return whole["content"], part["content"]

    whole, part = virtual(main())
    assert whole.startswith(part) and 0 < len(part) < len(whole)
    return whole, part


# --- the table ------------------------------------------------------------------------------------


@every_fault
def test_stream_chat(fault: str) -> None:
    result = met(fault, ask_chat)
    assert result.row == TABLE[fault].by_chat
    assert result.open == 0


@every_fault
def test_the_async_client(fault: str) -> None:
    result = met(fault, lambda http: ask_openai(http, max_retries=0))
    assert result.row == TABLE[fault].by_openai
    assert result.open == 0


@every_fault
def test_the_async_client_with_its_own_retries(fault: str) -> None:
    result = met(fault, lambda http: ask_openai(http, max_retries=2))
    assert result.row == (AGAIN if TABLE[fault].openai_retries else TABLE[fault].by_openai)
    assert result.open == 0


@pytest.fixture
def played_time(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The embedded model waits in no time, under sync clients as well."""
    clock = [0.0]
    played = SimpleNamespace(
        monotonic=lambda: clock[0],
        time=lambda: 1_795_000_000 + clock[0],
        sleep=lambda seconds: clock.__setitem__(0, clock[0] + seconds),
    )
    monkeypatch.setattr("streamlib.sim.transport.time", played)
    yield


@every_fault
def test_the_sync_client(fault: str, played_time: None) -> None:
    transport = FirstBreaks(fault)
    got, error = [], ""
    with httpx2.Client(transport=transport) as http:
        client = OpenAI(base_url=URL, api_key="none", http_client=http, max_retries=0, timeout=PATIENCE)
        try:
            with client.chat.completions.create(
                model="sim-1",
                messages=[QUESTION],  # type: ignore[list-item]
                stream=True,
            ) as stream:
                for chunk in stream:
                    for choice in chunk.choices:
                        got.append(choice.delta.content or "")
        except Exception as problem:
            error = type(problem).__name__
    assert (named("".join(got)), error, transport.requests) == TABLE[fault].by_openai
    assert transport.simulator.stats.streams_open == 0


# --- with retry, resume and timeouts --------------------------------------------------------------

WORTH_IT = [fault for fault in TABLE if fault not in ("status=400", "status=401")]
BEFORE = [fault for fault in WORTH_IT if TABLE[fault].text == ""]
INSIDE = [fault for fault in WORTH_IT if TABLE[fault].text == "part"]


@every_fault
def test_with_retry_what_fails_before_the_first_token_is_asked_again_and_nothing_else(fault: str) -> None:
    result = met(fault, lambda http: retry(lambda: ask_chat(http)))
    assert result.row == (AGAIN if fault in BEFORE else TABLE[fault].by_chat)
    assert result.open == 0


@every_fault
def test_with_resume_the_answer_is_whole_whatever_happens_unless_the_request_is_wrong(fault: str) -> None:
    result = met(fault, lambda http: resume(lambda said: ask_chat(http, said), min_overlap=None))
    assert result.row == (AGAIN if fault in BEFORE + INSIDE else TABLE[fault].by_chat)
    assert result.open == 0


@every_fault
def test_with_timeouts_silence_is_an_error_and_all_else_as_before(fault: str) -> None:
    """The client itself would wait for ever."""
    result = met(fault, lambda http: timeouts(ask_chat(http, timeout=None), first=5, between=2))
    text, error, requests = TABLE[fault].by_chat
    assert result.row == (text, "StreamTimeout" if error == "ChatTimeout" else error, requests)
    assert result.open == 0


@pytest.mark.parametrize("fault", ["slow-first-byte=60", "stall-after=5"])
def test_a_silent_stream_is_left_in_time_and_gone_on_with(fault: str) -> None:
    def patient(http: httpx2.AsyncClient) -> AsyncIterator[str]:
        return resume(lambda said: timeouts(ask_chat(http, said, None), first=5, between=2), min_overlap=None)

    result = met(fault, patient)
    assert result.row == AGAIN
    assert result.seconds < 10
    assert result.open == 0


@pytest.mark.parametrize("fault", ["status=503; retry-after=3", "retry-after-date=3"])
@pytest.mark.parametrize("how", ["retry", "resume"])
def test_the_server_is_waited_for_as_it_asks(fault: str, how: str) -> None:
    def waiting(http: httpx2.AsyncClient) -> AsyncIterator[str]:
        return retry(lambda: ask_chat(http)) if how == "retry" else resume(lambda said: ask_chat(http, said))

    result = met(fault, waiting)
    assert result.row == AGAIN
    assert result.seconds >= 3


def test_a_duplicate_is_seen_by_this_table() -> None:
    """The table compares texts exactly: an answer that begins again is neither `part` nor `whole`."""

    async def twice(http: httpx2.AsyncClient) -> AsyncIterator[str]:
        for _ in range(2):
            try:
                async with ask_chat(http) as stream:
                    async for text in stream:
                        yield text
                return
            except Exception:
                await asyncio.sleep(0)

    whole, part = texts()
    assert met("cut-after=5", twice).row == (part + whole, "", 2)
