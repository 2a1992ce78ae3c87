"""What lesson 6 needs behind the scene: servers that start and end, a proxy, readers who count."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from flask import Flask, Response

from streamlib import backstage
from streamlib.backstage import (
    behind_nginx,
    find_nginx,
    hold,
    page,
    serving,
    serving_process,
    serving_threads,
    start,
    ticker,
)
from streamlib.serve import sse_response

from .serving import TwoTokens, Upstream

needs_nginx = pytest.mark.skipif(find_nginx() is None, reason="nginx is not installed")


def app_of(make: Callable[[], Any]) -> FastAPI:
    app = FastAPI()

    @app.get("/")
    async def endpoint() -> Any:
        return make()

    return app


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


def is_free(url: str) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((backstage.HOST, port_of(url))) != 0


async def test_an_app_is_served_for_the_length_of_the_block() -> None:
    async with serving(app_of(lambda: {"here": True})) as url, httpx2.AsyncClient() as client:
        assert (await client.get(url)).json() == {"here": True}
    assert is_free(url)


async def test_two_apps_get_two_ports() -> None:
    async with serving(app_of(lambda: 1)) as one, serving(app_of(lambda: 2)) as two:
        assert one != two


async def test_the_notebooks_stop_button_stays_the_notebooks() -> None:
    before = signal.getsignal(signal.SIGINT)
    async with serving(app_of(lambda: 1)):
        assert signal.getsignal(signal.SIGINT) is before


async def test_a_site_runs_until_it_is_stopped() -> None:
    site = await start(app_of(lambda: 1))
    assert not is_free(site.url)
    await site.stop()
    assert is_free(site.url)


async def test_a_block_ends_although_a_reader_is_still_there() -> None:
    upstream = Upstream(["a"] * 10_000, every=0.01)
    async with asyncio.timeout(20), httpx2.AsyncClient() as client:
        async with serving(app_of(lambda: sse_response(upstream))) as url:
            response = await client.send(client.build_request("GET", url), stream=True)
            await anext(response.aiter_bytes())
        await response.aclose()
    assert upstream.cleaned_up


async def test_each_stream_holds_a_thread_of_the_pool() -> None:
    busy: list[int] = []
    at_once = 0
    flask = Flask("test")

    @flask.get("/")
    def endpoint() -> Response:
        def body() -> Iterator[str]:
            nonlocal at_once
            busy.append(1)
            at_once = max(at_once, len(busy))
            for _ in range(3):
                time.sleep(0.05)
                yield "x"
            busy.pop()

        return Response(body())

    async with serving_threads(flask, threads=2) as url, httpx2.AsyncClient() as client:
        answers = await asyncio.gather(*(client.get(url) for _ in range(6)))
    assert [answer.text for answer in answers] == ["xxx"] * 6
    assert at_once == 2
    assert is_free(url)


async def test_a_wsgi_reader_may_leave() -> None:
    flask = Flask("test")

    @flask.get("/")
    def endpoint() -> Response:
        return Response("x" for _ in iter(lambda: time.sleep(0.01), 1))

    async with serving_threads(flask, threads=1) as url, httpx2.AsyncClient() as client:
        for _ in range(2):  # the second gets the one thread: the first has given it back
            async with client.stream("GET", url) as response:
                assert await anext(response.aiter_bytes())


async def test_a_ticker_in_a_process_of_its_own_is_counted() -> None:
    async with asyncio.timeout(60), serving_process("streamlib.backstage:ticker") as url:
        held = await hold(url, streams=5, rate=10, seconds=1.0)
    assert (held.streams, held.rate, held.opened) == (5, 10, 5)
    assert 0 < held.events_per_second < 200  # 50, on a machine that does nothing else
    assert 0 <= held.late_p50 <= held.late_p99
    assert "5 streams at 10 events/s" in str(held)
    assert is_free(url)


async def test_the_ticker_says_when_each_event_was_due() -> None:
    async with (
        serving(ticker) as url,
        httpx2.AsyncClient() as client,
        client.stream("GET", url, params={"rate": "50"}) as response,
    ):
        lines = response.aiter_lines()
        due = [json.loads((await _data(lines))[6:]) for _ in range(3)]
    assert due[1] - due[0] == pytest.approx(0.02)
    assert due[2] - due[1] == pytest.approx(0.02)


async def _data(lines: AsyncIterator[str]) -> str:
    async for line in lines:
        if line.startswith("data: "):
            return line
    raise AssertionError("the stream ended")


async def test_a_process_ends_also_when_the_kernel_is_killed() -> None:
    code = """
import asyncio
from streamlib.backstage import serving_process
async def main():
    async with serving_process("streamlib.backstage:ticker") as url:
        print(url, flush=True)
        await asyncio.sleep(100)
asyncio.run(main())
"""
    kernel = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    assert kernel.stdout is not None
    async with asyncio.timeout(60):
        url = (await kernel.stdout.readline()).decode().strip()
        assert not is_free(url)
        kernel.kill()
        await kernel.wait()
        while not is_free(url):  # noqa: ASYNC110 (nobody tells)
            await asyncio.sleep(0.05)


async def test_a_process_that_does_not_start_says_why() -> None:
    with pytest.raises(RuntimeError, match="no_such_module"):
        async with serving_process("no_such_module:app"):
            pass


@needs_nginx
async def test_nginx_passes_on_and_ends_with_the_block() -> None:
    async with serving(app_of(lambda: {"here": True})) as url, httpx2.AsyncClient() as client:
        async with behind_nginx(url) as proxy:
            response = await client.get(proxy)
        assert response.json() == {"here": True}
        assert response.headers["server"].startswith("nginx")
        assert is_free(proxy)


@needs_nginx
@pytest.mark.parametrize(
    "settings", [{}, {"buffering": False}, {"gzip": True}, {"buffering": False, "gzip": True}]
)
async def test_through_any_nginx_a_token_arrives_before_the_next_is_there(settings: dict[str, Any]) -> None:
    upstream = TwoTokens()
    async with (
        asyncio.timeout(20),
        serving(app_of(lambda: sse_response(upstream))) as url,
        behind_nginx(url, **settings) as proxy,
        httpx2.AsyncClient() as client,
        client.stream("GET", proxy) as response,
    ):
        pieces = response.aiter_bytes()
        assert b'"a"' in await anext(pieces)
        upstream.go_on.set()
        assert b'"b"' in b"".join([piece async for piece in pieces])


@needs_nginx
async def test_through_nginx_a_reader_who_leaves_stops_the_model() -> None:
    upstream = Upstream(["a"] * 10_000, every=0.02)
    async with serving(app_of(lambda: sse_response(upstream))) as url, behind_nginx(url) as proxy:
        async with httpx2.AsyncClient() as client, client.stream("GET", proxy) as response:
            await anext(response.aiter_bytes())
        await asyncio.wait_for(upstream.closed.wait(), 10)


@needs_nginx
@pytest.mark.parametrize("heartbeat", [0.2, 100.0])
async def test_heartbeats_keep_a_proxy_patient(heartbeat: float) -> None:
    upstream = Upstream(["a"], every=3.0)
    async with (
        serving(app_of(lambda: sse_response(upstream, heartbeat=heartbeat))) as url,
        behind_nginx(url, patience=1.5) as proxy,
        httpx2.AsyncClient() as client,
    ):
        response = await client.get(proxy)
    assert (response.status_code == 200) == (heartbeat < 1)


async def test_without_nginx_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backstage, "find_nginx", lambda: None)
    with pytest.raises(FileNotFoundError, match="apt install nginx"):
        async with behind_nginx("http://127.0.0.1:1"):
            pass


def test_a_page_holds_the_script_as_it_is() -> None:
    script = "const x = `${1}` + '$y';"
    assert script in page(script)
