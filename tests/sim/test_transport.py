"""The simulator inside an httpx2 client: exact on a virtual clock, and under the official client."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import httpx2
import pytest
from openai import APIConnectionError, APITimeoutError, AsyncOpenAI, NotFoundError, OpenAI

from streamlib.checker.clock import Clock, VirtualLoop
from streamlib.sim import SimTransport, Simulator

from .talk import ask, body_of, frames

T = TypeVar("T")
URL = "http://sim/v1/chat/completions"


def on_virtual_clock(work: Callable[[], Awaitable[T]]) -> T:
    """Run ``work`` on a loop on which waiting costs nothing."""
    loop = VirtualLoop(Clock(10_000))
    try:
        return loop.run_until_complete(work())
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


def client(profile: str = "fast", **kwargs: Any) -> tuple[AsyncOpenAI, SimTransport]:
    transport = SimTransport(Simulator(profile=profile))
    http = httpx2.AsyncClient(transport=transport)
    return AsyncOpenAI(base_url="http://sim/v1", api_key="none", http_client=http, **kwargs), transport


def test_every_frame_arrives_at_its_instant() -> None:
    async def arrivals() -> list[tuple[float, bytes]]:
        loop = asyncio.get_running_loop()
        t0 = loop.time()
        async with (
            httpx2.AsyncClient(transport=SimTransport()) as http,
            http.stream("POST", URL, json=body_of(stream=True)) as response,
        ):
            got = [(loop.time() - t0, b"")]
            async for data in response.aiter_raw():
                got.append((loop.time() - t0, data))
        return got

    headers, *got = on_virtual_clock(arrivals)
    response = ask()
    expected = frames(response)
    assert headers[0] == pytest.approx(response.headers_at)
    assert [len(data) for _, data in got] == [len(frame.data) for frame in expected]
    assert [at for at, _ in got] == pytest.approx([frame.at for frame in expected])


def test_a_slow_reader_gets_what_is_late_at_once() -> None:
    async def read() -> float:
        loop = asyncio.get_running_loop()
        async with (
            httpx2.AsyncClient(transport=SimTransport()) as http,
            http.stream("POST", URL, json=body_of(stream=True)) as response,
        ):
            received = response.aiter_raw()
            await anext(received)
            await asyncio.sleep(60)
            t0 = loop.time()
            async for _ in received:
                pass
            return loop.time() - t0

    assert on_virtual_clock(read) == 0


@pytest.mark.parametrize("fault", ["stall-after=3", "slow-first-byte=60"])
def test_a_read_timeout_strikes_when_nothing_comes(fault: str) -> None:
    async def read() -> float:
        loop = asyncio.get_running_loop()
        async with httpx2.AsyncClient(transport=SimTransport(), timeout=5.0) as http:
            t0 = loop.time()
            with pytest.raises(httpx2.ReadTimeout):
                async with http.stream(
                    "POST", URL, json=body_of(stream=True), headers={"X-Sim-Fault": fault}
                ) as response:
                    async for _ in response.aiter_raw():
                        t0 = loop.time()
            return loop.time() - t0

    assert on_virtual_clock(read) == pytest.approx(5.0)


def test_a_reader_who_is_cancelled_ends_the_stream() -> None:
    transport = SimTransport()

    async def read() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.0):
                async with (
                    httpx2.AsyncClient(transport=transport) as http,
                    http.stream("POST", URL, json=body_of(stream=True)) as response,
                ):
                    async for _ in response.aiter_raw():
                        pass

    on_virtual_clock(read)
    stats = transport.simulator.stats
    assert stats.streams_open == 0
    assert stats.clients_left == 1
    assert 0 < stats.tokens_produced < 60
    assert stats.tokens_saved > 0


def test_a_reader_who_is_cancelled_before_the_headers_leaves_nothing_open() -> None:
    transport = SimTransport()

    async def read() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05), httpx2.AsyncClient(transport=transport) as http:
                await http.post(URL, json=body_of(stream=True))

    on_virtual_clock(read)
    assert transport.simulator.stats.streams_open == 0
    assert transport.simulator.stats.tokens_produced == 0


# --- the official client ---------------------------------------------------------------------------


async def test_the_official_client_streams() -> None:
    openai, _ = client()
    stream = await openai.chat.completions.create(
        **body_of(), stream=True, stream_options={"include_usage": True}
    )
    pieces, arrivals, usage = [], [], None
    async with stream:
        async for chunk in stream:
            usage = chunk.usage or usage
            if chunk.choices and chunk.choices[0].delta.content:
                pieces.append(chunk.choices[0].delta.content)
                arrivals.append(time.perf_counter())
    whole = await openai.chat.completions.create(**body_of())
    assert "".join(pieces) == whole.choices[0].message.content
    assert usage == whole.usage
    assert arrivals[-1] - arrivals[0] > 0.05  # streamed, not handed over at once


def test_the_synchronous_client_streams() -> None:
    http = httpx2.Client(transport=SimTransport(Simulator(profile="fast")))
    openai = OpenAI(base_url="http://sim/v1", api_key="none", http_client=http)
    with openai.chat.completions.create(**body_of(max_tokens=10), stream=True) as stream:
        said = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
    assert said.startswith("Server-Sent Events")
    assert openai.models.list().data[0].id == "sim-1"


async def test_leaving_the_official_stream_stops_the_model() -> None:
    openai, transport = client()
    async with await openai.chat.completions.create(**body_of(), stream=True) as stream:
        async for chunk in stream:
            if chunk.choices[0].delta.content:
                break
    assert transport.simulator.stats.streams_open == 0
    assert transport.simulator.stats.tokens_saved > 50


@pytest.mark.parametrize("fault", ["refuse", "cut-after=3", "cut-mid-event=3"])
async def test_a_broken_connection_looks_as_over_a_socket(fault: str) -> None:
    openai, _ = client(max_retries=0)
    with pytest.raises(APIConnectionError) as caught:
        async with await openai.chat.completions.create(
            **body_of(), stream=True, extra_headers={"X-Sim-Fault": fault}
        ) as stream:
            async for _ in stream:
                pass
    assert isinstance(caught.value.__cause__, httpx2.RemoteProtocolError)


@pytest.mark.parametrize("synchronous", [False, True])
async def test_a_stalled_stream_meets_the_clients_timeout(synchronous: bool) -> None:
    headers = {"X-Sim-Fault": "stall-after=1"}
    with pytest.raises(APITimeoutError):
        if synchronous:
            http = httpx2.Client(transport=SimTransport(Simulator(profile="fast")))
            sync = OpenAI(
                base_url="http://sim/v1", api_key="none", http_client=http, timeout=0.5, max_retries=0
            )
            for _ in sync.chat.completions.create(**body_of(), stream=True, extra_headers=headers):
                pass
        openai, _ = client(timeout=0.5, max_retries=0)
        async for _ in await openai.chat.completions.create(**body_of(), stream=True, extra_headers=headers):
            pass


async def test_errors_have_the_official_classes() -> None:
    openai, _ = client(max_retries=0)
    response = await openai.with_raw_response.models.list()
    assert response.headers["x-request-id"].startswith("req_sim")
    with pytest.raises(NotFoundError, match="one model, 'sim-1'"):
        await openai.chat.completions.create(model="gpt-9", messages=[{"role": "user", "content": "Hi"}])
