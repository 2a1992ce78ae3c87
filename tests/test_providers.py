"""One adapter for all providers: with the official clients, and with events that are nobody's."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import aclosing, nullcontext
from types import SimpleNamespace as Event
from typing import Any

import httpx2
import pytest

from streamlib.backoff import is_transient
from streamlib.chat import BadAnswer, StreamError, StreamTruncated
from streamlib.providers import PROVIDERS, text_deltas

from .sim.conftest import instant  # noqa: F401
from .sim.sdks import PATHS, QUESTION, client_of, read, simulated

WAYS = {"openai": "chat", "responses": "responses", "anthropic": "messages", "google": "google"}
every_provider = pytest.mark.parametrize("provider", PROVIDERS)
pytestmark = pytest.mark.usefixtures("instant")


async def events_of(provider: str, transport: Any = None, fault: str = "", **options: Any) -> Any:
    """The events of an answer, from the official client."""
    way = PATHS[WAYS[provider]]
    prompt = options.pop("prompt", QUESTION)
    base = options.pop("base", "http://sim")
    client = client_of(
        way.provider, transport, base=base, asynchronous=True, timeout=options.pop("timeout", 20)
    )
    KEEP.append(client)  # Google's closes itself when nobody holds it
    headers = {"X-Sim-Fault": fault} if fault else {}
    return await way.open(client, prompt, headers, **options)


KEEP: list[Any] = []


async def given(*events: Any) -> AsyncIterator[Any]:
    for event in events:
        yield event


# --- the same for all ------------------------------------------------------------------------------


@every_provider
async def test_the_text_comes_in_pieces_and_is_whole(provider: str) -> None:
    async with text_deltas(await events_of(provider, simulated()), provider) as stream:
        pieces = [text async for text in stream]
    whole = read(WAYS[provider], simulated())
    assert stream.text == "".join(pieces) == whole.text
    assert len(pieces) > 10
    assert "" not in pieces
    assert stream.finish_reason == whole.finish
    assert stream.output_tokens == whole.tokens
    assert stream.input_tokens and stream.input_tokens > 10


@every_provider
async def test_it_can_be_read_without_a_block(provider: str) -> None:
    events = await events_of(provider, simulated())
    assert len([text async for text in text_deltas(events, provider)]) > 10


@every_provider
async def test_thoughts_are_no_text(provider: str) -> None:
    transport = simulated("instant-reasoning")
    async with text_deltas(await events_of(provider, transport), provider) as stream:
        text = "".join([text async for text in stream])
    assert text == read(WAYS[provider], simulated()).text
    assert stream.output_tokens and stream.output_tokens > 100


@every_provider
async def test_an_answer_that_hit_the_limit_is_whole_too(provider: str) -> None:
    limit = {"max_tokens": 7} if provider in ("openai", "anthropic") else {"max_output_tokens": 7}
    async with text_deltas(await events_of(provider, simulated(), **limit), provider) as stream:
        assert [text async for text in stream]
    assert stream.finish_reason in ("length", "max_output_tokens", "max_tokens", "MAX_TOKENS")
    assert stream.output_tokens == 7


async def test_the_stream_helpers_give_the_same_text() -> None:
    for way, provider in (("messages helper", "anthropic"), ("responses helper", "responses")):
        path = PATHS[way]
        client = client_of(path.provider, simulated(), asynchronous=True)
        async with path.open(client, QUESTION, {}) as events, text_deltas(events, provider) as stream:
            assert "".join([text async for text in stream]) == read(way, simulated()).text


# --- what goes wrong -------------------------------------------------------------------------------


@every_provider
@pytest.mark.parametrize("after", [0, 6])
async def test_a_truncated_stream_is_an_error_that_has_the_text(provider: str, after: int) -> None:
    stream = text_deltas(await events_of(provider, simulated(), f"truncate-after={after}"), provider)
    with pytest.raises(StreamTruncated) as caught:
        async with stream:
            async for _ in stream:
                pass
    assert caught.value.text == stream.text
    assert bool(caught.value.text) == bool(after)
    assert stream.finish_reason is None


@every_provider
async def test_without_the_last_event_an_answer_counts_as_whole_when_its_reason_came(provider: str) -> None:
    stream = text_deltas(await events_of(provider, simulated(), "no-done"), provider)
    if provider in ("openai", "anthropic"):  # the last event is only an end mark
        assert [text async for text in stream]
    else:  # the last event is the one with the reason
        with pytest.raises(StreamTruncated):
            assert [text async for text in stream]


@every_provider
@pytest.mark.parametrize("fault", ["cut-after=6", "error-event=6", "bad-json=6"])
async def test_an_error_of_the_client_comes_through_and_the_text_is_kept(provider: str, fault: str) -> None:
    stream = text_deltas(await events_of(provider, simulated(), fault), provider)
    with pytest.raises(Exception) as caught:
        async with stream:
            async for _ in stream:
                pass
    seen = read(WAYS[provider], simulated(), fault)
    assert stream.text == seen.text != ""
    assert type(caught.value) is (type(seen.error) if seen.error else StreamError)


async def test_an_error_among_the_events_is_raised() -> None:
    failed = Event(type="response.failed", response=Event(error=Event(message="out of memory")))
    for event in (Event(type="error", message="out of memory"), failed):
        with pytest.raises(StreamError, match="out of memory") as caught:
            delta = Event(type="response.output_text.delta", delta="Half")
            assert [text async for text in text_deltas(given(delta, event), "responses")]
        assert caught.value.text == "Half"


async def test_a_prompt_that_google_blocks_is_an_error() -> None:
    blocked = Event(candidates=None, usage_metadata=None, prompt_feedback=Event(block_reason="SAFETY"))
    with pytest.raises(StreamError, match=r"blocked \(SAFETY\)"):
        assert [text async for text in text_deltas(given(blocked), "google")]


async def test_a_google_chunk_may_have_next_to_nothing() -> None:
    def chunk(content: Any, reason: str | None = None) -> Event:
        return Event(
            candidates=[Event(content=content, finish_reason=reason)],
            usage_metadata=None,
            prompt_feedback=None,
        )

    nothing = Event(candidates=[], usage_metadata=None, prompt_feedback=None)
    call = Event(text=None, thought=None)
    chunks = given(nothing, chunk(None), chunk(Event(parts=None)), chunk(Event(parts=[call]), "STOP"))
    async with text_deltas(chunks, "google") as stream:
        assert [text async for text in stream] == []
    assert stream.finish_reason == "STOP"
    assert (stream.input_tokens, stream.output_tokens) == (None, None)


async def test_of_several_answers_the_first_is_read() -> None:
    def choice(index: int, text: str) -> Event:
        return Event(index=index, delta=Event(content=text), finish_reason="stop")

    chunk = Event(choices=[choice(1, "other"), choice(0, "first")], usage=None)
    assert [text async for text in text_deltas(given(chunk), "openai")] == ["first"]


@pytest.mark.parametrize(
    ("provider", "other"),
    [(one, other) for one in PROVIDERS for other in PROVIDERS if one != other],
)
async def test_events_of_another_provider_are_no_answer(provider: str, other: str) -> None:
    with pytest.raises((BadAnswer, StreamTruncated), match=rf"{other!r}") as caught:
        async for _ in text_deltas(await events_of(provider, simulated()), other):
            pass
    assert caught.value.text == ""


def test_a_provider_that_is_none_is_told() -> None:
    with pytest.raises(ValueError, match=r"no provider 'mistral': it is one of openai, responses"):
        text_deltas(given(), "mistral")


async def test_events_that_are_none_are_told() -> None:
    client = client_of("openai", simulated(), asynchronous=True)
    forgotten = PATHS["chat"].open(client, QUESTION, {})
    with pytest.raises(TypeError, match="coroutine: await the call"):
        text_deltas(forgotten, "openai")
    forgotten.close()
    synchronous = PATHS["chat"].open(client_of("openai", simulated()), QUESTION, {})
    with pytest.raises(TypeError, match="Stream: use the asynchronous client"):
        text_deltas(synchronous, "openai")


@every_provider
@pytest.mark.parametrize("fault", ["cut-after=3", "truncate-after=3", "error-event=3", "bad-json=3"])
async def test_a_stream_that_breaks_is_worth_another_attempt(provider: str, fault: str) -> None:
    with pytest.raises(Exception) as caught:
        async for _ in text_deltas(await events_of(provider, simulated(), fault), provider):
            pass
    assert is_transient(caught.value), repr(caught.value)


# --- closing ---------------------------------------------------------------------------------------


@every_provider
@pytest.mark.parametrize("read_first", [0, 1, 4])
async def test_leaving_closes_before_the_next_statement(provider: str, read_first: int) -> None:
    transport = simulated("fast")
    async with text_deltas(await events_of(provider, transport), provider) as stream:
        seen = 0
        while seen < read_first:
            await anext(stream)
            seen += 1
    assert transport.simulator.stats.streams_open == 0
    assert transport.simulator.stats.tokens_saved > 10


@every_provider
async def test_cancelling_closes(provider: str) -> None:
    transport = simulated("fast")
    events = await events_of(provider, transport, "stall-after=3", timeout=60)

    async def reader() -> None:
        async with text_deltas(events, provider) as stream:
            async for _ in stream:
                pass

    task = asyncio.create_task(reader())
    while not transport.simulator.stats.tokens_delivered:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert transport.simulator.stats.streams_open == 0


@every_provider
async def test_a_generator_around_it_closes_it(provider: str) -> None:
    transport = simulated("fast")

    async def shouting(texts: Any) -> AsyncIterator[str]:
        async with texts:
            async for text in texts:
                yield text.upper()

    async with aclosing(shouting(text_deltas(await events_of(provider, transport), provider))) as loud:  # type: ignore[type-var]
        await anext(loud)
    assert transport.simulator.stats.streams_open == 0


async def test_a_generator_below_google_s_is_closed_also_when_chunks_are_waiting() -> None:
    closed = []

    async def below() -> AsyncIterator[Any]:
        try:
            for text in "abcde":
                part = Event(text=text, thought=None)
                candidate = Event(content=Event(parts=[part]), finish_reason=None)
                yield Event(candidates=[candidate], usage_metadata=None, prompt_feedback=None)
            await asyncio.Event().wait()
        finally:
            closed.append("below")

    held = below()  # as Google's response object does

    async def above() -> AsyncIterator[Any]:
        async for chunk in held:
            yield chunk

    async with text_deltas(above(), "google") as stream:
        assert await anext(stream) == "a"
    assert closed == ["below"]


@pytest.mark.parametrize("last", ["", None, "stop"])
async def test_an_empty_finish_reason_is_none(last: str | None) -> None:
    """Older Ollama and SGLang send it in every chunk: https://github.com/ollama/ollama/issues/4357"""

    async def chunks() -> AsyncIterator[Any]:
        for text, reason in (("Half", ""), (" an", last)):
            choice = Event(index=0, delta=Event(content=text), finish_reason=reason)
            yield Event(choices=[choice], usage=None)

    stream = text_deltas(chunks(), "openai")
    with nullcontext() if last else pytest.raises(StreamTruncated):
        async with stream:
            async for _ in stream:
                pass
    assert (stream.text, stream.finish_reason) == ("Half an", last or None)


async def test_the_iterator_of_a_response_is_closed_as_well() -> None:
    closed = []

    class Response:
        async def __aiter__(self) -> AsyncIterator[Any]:
            try:
                yield Event(
                    choices=[Event(index=0, delta=Event(content="a"), finish_reason=None)], usage=None
                )
                await asyncio.Event().wait()
            finally:
                closed.append("iterator")

        async def close(self) -> None:
            closed.append("response")

    async with text_deltas(Response(), "openai") as stream:
        assert await anext(stream) == "a"
    assert closed[:2] == ["iterator", "response"]


@every_provider
async def test_the_server_sees_it_over_a_socket(provider: str, sim_server: str) -> None:
    root = sim_server.removesuffix("/v1")

    async def counts() -> tuple[int, int]:
        async with httpx2.AsyncClient() as http:
            stats = (await http.get(f"{root}/sim/stats")).json()
        return stats["streams_open"], stats["clients_left"]

    open_before, left_before = await counts()
    prompt = "Explain streaming in 400 words."
    async with text_deltas(await events_of(provider, base=root, prompt=prompt), provider) as stream:
        await anext(stream)
    end = time.monotonic() + 20
    while await counts() != (open_before, left_before + 1):
        assert time.monotonic() < end, "the server still sends"
        await asyncio.sleep(0.01)


# --- the module ------------------------------------------------------------------------------------


def test_it_needs_no_client() -> None:
    code = "import streamlib.providers, sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    names = {name.partition(".")[0] for name in loaded.stdout.split()}
    assert not names & {"openai", "anthropic", "google"}
