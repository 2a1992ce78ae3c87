"""`streamlib.chat` against the embedded model, in process and over a socket: what each fault looks like."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx2
import pytest

from streamlib.backoff import is_transient, retry_after
from streamlib.chat import (
    BadAnswer,
    ChatError,
    ChatStream,
    ChatTimeout,
    ConnectionFailed,
    StatusError,
    StreamError,
    StreamTruncated,
    stream_chat,
)
from streamlib.sim import SimTransport, Simulator

WHOLE = "a é b c d e f g h i"  # ten tokens
FIVE = "a é b c d"

Chat = Callable[..., ChatStream]


@pytest.fixture(params=["in process", "over a socket"])
async def chat(request: pytest.FixtureRequest) -> AsyncIterator[Chat]:
    """`stream_chat` at the embedded model, with the faults of an answer as an argument."""
    if request.param == "in process":
        base_url, transport = "http://sim/v1", SimTransport(Simulator(profile="fast"))
    else:
        base_url, transport = request.getfixturevalue("sim_server"), None
    async with httpx2.AsyncClient(transport=transport) as client:

        def chat(prompt: str = f"Repeat: {WHOLE}", fault: str = "", **arguments: Any) -> ChatStream:
            client.headers["X-Sim-Fault"] = fault
            return stream_chat(
                prompt, **{"model": "sim-1", "base_url": base_url, "client": client} | arguments
            )

        yield chat


async def stats(base_url: str) -> dict[str, Any]:
    async with httpx2.AsyncClient() as client:
        answer: dict[str, Any] = (await client.get(base_url.removesuffix("/v1") + "/sim/stats")).json()
        return answer


@pytest.mark.parametrize(
    ("fault", "error", "text"),
    [
        ("refuse", ConnectionFailed, ""),
        ("status=400", StatusError, ""),
        ("status=429;retry-after=2", StatusError, ""),
        ("status=429;retry-after-date=2", StatusError, ""),
        ("status=500", StatusError, ""),
        ("status=503", StatusError, ""),
        ("cut-after=0", StreamTruncated, ""),
        ("cut-after=5", StreamTruncated, FIVE),
        ("cut-after=10", StreamTruncated, WHOLE),  # all words are there, and nobody said that they are all
        ("truncate-after=5", StreamTruncated, FIVE),
        ("truncate-after=10", StreamTruncated, WHOLE),
        ("cut-mid-event=5", StreamTruncated, FIVE),
        ("stall-after=5", ChatTimeout, FIVE),
        ("slow-first-byte=60", ChatTimeout, ""),
        ("error-event=5", StreamError, FIVE),
        ("bad-json=5", BadAnswer, FIVE),
        ("no-done", None, WHOLE),
        ("slow-first-byte=0.6", None, WHOLE),
        ("clump=0.1", None, WHOLE),
        ("split-utf8", None, WHOLE),
        ("crlf", None, WHOLE),
        ("comments", None, WHOLE),
        ("crlf;comments;split-utf8;no-done", None, WHOLE),
        ("cut-after=5;crlf;comments;split-utf8", StreamTruncated, FIVE),
    ],
)
async def test_what_a_fault_looks_like(
    chat: Chat, fault: str, error: type[ChatError] | None, text: str
) -> None:
    patience = httpx2.Timeout(20, read=1.5 if error is ChatTimeout else 20)
    stream = chat(fault=fault, timeout=patience)
    seen: list[str] = []
    raised: ChatError | None = None
    try:
        async with stream:
            async for piece in stream:
                seen.append(piece)
    except ChatError as problem:
        raised = problem
    assert type(raised) is (error or type(None))
    assert "".join(seen) == stream.text == text
    assert raised is None or raised.text == text
    assert stream.finish_reason == (None if raised else "stop")


@pytest.mark.parametrize(
    ("fault", "status", "said", "transient"),
    [
        ("status=429;retry-after=2", 429, "Rate limit reached", True),
        ("status=500", 500, "The server had an error", True),
        ("status=503", 503, "currently overloaded", True),
        ("status=400", 400, "This request fails", False),
    ],
)
async def test_an_error_status_tells_lesson_5_what_to_do(
    chat: Chat, fault: str, status: int, said: str, transient: bool
) -> None:
    with pytest.raises(StatusError, match=said) as raised:
        async with chat(fault=fault):
            pass
    assert raised.value.status == status
    assert is_transient(raised.value) is transient


@pytest.mark.parametrize(
    ("fault", "least", "most"), [("retry-after=7", 7, 7), ("retry-after-date=900", 600, 901)]
)
async def test_retry_after_is_there_as_the_server_sent_it(
    chat: Chat, fault: str, least: float, most: float
) -> None:
    with pytest.raises(StatusError) as raised:
        async with chat(fault=f"status=429;{fault}"):
            pass
    assert isinstance(raised.value.retry_after, str)
    seconds = retry_after(raised.value)
    assert seconds is not None
    assert least <= seconds <= most


async def test_a_whole_answer_with_its_usage(chat: Chat) -> None:
    stream = chat()
    async with stream:
        pieces = [piece async for piece in stream]
    assert "".join(pieces) == stream.text == WHOLE
    assert stream.finish_reason == "stop"
    assert stream.usage is not None
    assert stream.usage["completion_tokens"] == 10


async def test_a_limit_of_tokens_is_a_finish_reason(chat: Chat) -> None:
    stream = chat(max_tokens=3)
    async with stream:
        async for _ in stream:
            pass
    assert (stream.text, stream.finish_reason) == ("a é b", "length")


async def test_a_wrong_model_is_told_what_is_wrong(chat: Chat) -> None:
    with pytest.raises(StatusError, match=r"answered 404 Not Found: .*gpt-9") as raised:
        async with chat(model="gpt-9"):
            pass
    assert raised.value.status == 404


async def test_reasoning_is_no_part_of_the_answer() -> None:
    transport = SimTransport(Simulator(profile="reasoning"))
    async with httpx2.AsyncClient(transport=transport) as client:
        stream = stream_chat(f"Repeat: {WHOLE}", model="sim-1", base_url="http://sim/v1", client=client)
        async with stream:
            async for _ in stream:
                pass
    assert stream.text == WHOLE
    assert stream.reasoning
    assert stream.reasoning not in stream.text


async def test_leaving_early_stops_the_model(sim_server: str) -> None:
    before = await stats(sim_server)
    prompt = "Write 2000 tokens about streaming"
    async with stream_chat(prompt, model="sim-1", base_url=sim_server) as stream:
        async for _ in stream:
            break
    async with asyncio.timeout(20):
        while (after := await stats(sim_server))["streams_open"] > before["streams_open"]:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    assert after["clients_left"] > before["clients_left"]
    assert after["tokens_saved"] - before["tokens_saved"] > 1000


async def test_the_environment_names_the_server(sim_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", sim_server)
    async with stream_chat(f"Repeat: {WHOLE}", model="sim-1") as stream:
        assert "".join([text async for text in stream]) == WHOLE
