"""A stream of tokens as an SSE response, on a real server: what a reader gets, what the model sees."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import httpx2
import pytest
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import Response
from starlette.routing import Route

from streamlib.chat import StatusError, StreamTruncated
from streamlib.serve import sse_response
from streamlib.sse import ServerSentEvent, SSEParser

from .serving import Reader, TwoTokens, Upstream, serving
from .stream_helpers import now, stream_of, virtual

NEVER = 1000.0


def app_of(make: Callable[[], Response]) -> FastAPI:
    app = FastAPI()

    @app.get("/")
    async def endpoint() -> Response:
        return make()

    return app


async def get(stream: Any, **options: Any) -> httpx2.Response:
    """The whole answer to a GET."""
    async with (
        serving(app_of(lambda: sse_response(stream, **options))) as url,
        httpx2.AsyncClient() as client,
    ):
        return await client.get(url)


def events(body: bytes) -> list[ServerSentEvent]:
    return SSEParser().feed(body)


async def events_in_process(stream: Any) -> list[ServerSentEvent]:
    """The events of a response, without a server: for properties that need many runs."""
    body = bytearray()

    async def send(message: Any) -> None:
        body.extend(message.get("body", b""))

    async def receive() -> Any:
        return await asyncio.Event().wait()

    await sse_response(stream)({"type": "http", "method": "GET"}, receive, send)
    return events(bytes(body))


# -- what goes over the wire


async def test_each_token_is_an_event_and_done_is_the_last() -> None:
    response = await get(stream_of(["Hel", "lo"]))
    assert response.content == b'data: "Hel"\n\ndata: "lo"\n\nevent: done\ndata: {}\n\n'


async def test_the_headers_say_event_stream_and_no_buffering() -> None:
    response = await get(stream_of(["x"]))
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert response.headers["cache-control"] == "no-cache"
    assert response.headers["x-accel-buffering"] == "no"


async def test_own_headers_are_added_and_win() -> None:
    response = await get(stream_of(["x"]), headers={"cache-control": "no-store", "X-Model": "m"})
    assert response.headers.get_list("cache-control") == ["no-store"]
    assert response.headers["x-model"] == "m"


async def test_an_event_keeps_its_name_id_and_retry() -> None:
    event = ServerSentEvent("two\nlines", event="note", id="7", retry=100)
    assert (await events_in_process(stream_of([event])))[0] == event


async def test_the_streams_own_done_is_the_only_one() -> None:
    done = ServerSentEvent('{"tokens": 3}', event="done")
    assert await events_in_process(stream_of(["x", done])) == [ServerSentEvent('"x"'), done]


async def test_an_empty_stream_is_done() -> None:
    assert await events_in_process(stream_of([])) == [ServerSentEvent("{}", event="done")]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
anything = st.text(st.characters(exclude_categories=())) | json_values  # half surrogate pairs too


@given(st.lists(anything, max_size=5))
def test_every_item_comes_back_as_it_was(items: list[Any]) -> None:
    got = asyncio.run(events_in_process(stream_of(items)))
    assert [event.json() for event in got[:-1]] == items


@given(st.lists(st.text(st.characters(exclude_categories=())), max_size=5))
def test_on_the_wire_there_is_no_character_that_a_reader_could_take_for_a_line_end(tokens: list[str]) -> None:
    got = asyncio.run(events_in_process(stream_of(tokens)))
    assert all(event.data.isascii() and event.data.splitlines() == [event.data] for event in got)


async def test_a_token_leaves_before_the_next_is_there() -> None:
    upstream = TwoTokens()
    async with serving(app_of(lambda: sse_response(upstream))) as url:
        reader = await Reader.of(url)
        await reader.until(b'"a"')
        upstream.go_on.set()
        assert b'"b"' in await reader.to_the_end()


async def test_middleware_that_compresses_does_not_hold_tokens_back() -> None:
    upstream = TwoTokens()
    app = app_of(lambda: sse_response(upstream))
    app.add_middleware(GZipMiddleware)
    async with serving(app) as url:
        reader = await Reader.of(url, "Accept-Encoding: gzip\r\n")
        await reader.until(b'"a"')
        upstream.go_on.set()
        await reader.to_the_end()


# -- heartbeats (on a virtual clock: a machine that is busy sends no more of them than an idle one)


def sent(stream: Any, **options: Any) -> list[tuple[float, str]]:
    """What is handed to the server, and when."""
    messages = []

    async def send(message: Any) -> None:
        if message.get("body"):
            messages.append((round(now(), 3), message["body"].decode().strip()))

    async def receive() -> Any:
        return await asyncio.Event().wait()

    virtual(sse_response(stream, **options)({"type": "http", "method": "GET"}, receive, send))
    return messages


BEAT = ": still here"


def test_silence_is_broken_by_comments() -> None:
    upstream = Upstream(["a"], every=2.5)
    last = (5.01, "event: done\ndata: {}")
    assert sent(upstream, heartbeat=1.0) == [
        *[(1, BEAT), (2, BEAT), (2.5, 'data: "a"'), (3.5, BEAT), (4.5, BEAT)],
        last,
    ]


def test_each_token_puts_the_heartbeat_off() -> None:
    assert BEAT not in [text for _, text in sent(Upstream(["x"] * 10, every=0.9), heartbeat=1.0)]


def test_without_saying_so_the_heartbeat_comes_after_15_seconds() -> None:
    assert sent(Upstream(["a"], every=20))[0] == (15, BEAT)


def test_a_heartbeat_loses_no_token() -> None:
    tokens = [str(n) for n in range(20)]
    got = sent(Upstream(tokens, every=0.7), heartbeat=0.3)
    assert [text for _, text in got if text.startswith("data")] == [f'data: "{n}"' for n in tokens]


def test_a_heartbeat_waits_for_its_turn() -> None:
    """A server may take its time with a message; two at once would mix."""
    busy = []

    async def send(message: Any) -> None:
        assert not busy
        busy.append(message)
        await asyncio.sleep(3)
        busy.clear()

    async def receive() -> Any:
        return await asyncio.Event().wait()

    response = sse_response(Upstream(["a", "b"], every=0.5), heartbeat=1)
    virtual(response({"type": "http", "method": "GET"}, receive, send))


# -- errors


async def test_before_the_first_byte_an_http_exception_has_its_own_status() -> None:
    response = await get(Upstream([], then=HTTPException(402, "No credit left.", {"X-Credit": "0"})))
    assert (response.status_code, response.json()) == (402, {"detail": "No credit left."})
    assert response.headers["x-credit"] == "0"
    response = await get(Upstream([], then=HTTPException(504, "Own words.")))
    assert (response.status_code, response.json()) == (504, {"detail": "Own words."})


@pytest.mark.parametrize(
    ("error", "retry_after"),
    [
        (StatusError("busy", status=429, retry_after="7"), "7"),
        (StatusError("busy", status=503, retry_after="1.5"), "2"),
        (StreamTruncated("cut"), None),
        (ConnectionError("refused"), None),
    ],
)
async def test_before_the_first_byte_what_may_pass_is_503(error: Exception, retry_after: str | None) -> None:
    response = await get(Upstream([], then=error))
    assert response.status_code == 503
    assert response.headers.get("retry-after") == retry_after
    assert str(error) not in response.text


async def test_before_the_first_byte_any_other_error_is_500() -> None:
    assert (await get(Upstream([], then=KeyError("a bug")))).status_code == 500
    response = await get(Upstream([], then=StatusError("wrong key", status=401)))
    assert response.status_code == 500  # our key is wrong, not the reader's
    assert "key" not in response.text


async def test_before_the_first_byte_the_apps_own_handlers_are_asked() -> None:
    app = app_of(lambda: sse_response(Upstream([], then=KeyError("x"))))

    @app.exception_handler(KeyError)
    async def handle(request: Request, error: KeyError) -> JSONResponse:
        return JSONResponse({"sorry": True}, 418)

    async with serving(app) as url, httpx2.AsyncClient() as client:
        assert (await client.get(url)).status_code == 418


async def test_later_an_error_is_the_last_event_and_the_connection_ends_in_order() -> None:
    response = await get(Upstream(["a"], then=ConnectionError("host db-7 refused")))
    assert response.status_code == 200
    first, last = events(response.content)
    assert (first.json(), last.event) == ("a", "error")
    assert last.json()["try_again"] is True
    assert "db-7" not in response.text


async def test_after_a_heartbeat_an_error_is_an_event_too() -> None:
    response = await get(Upstream([], every=0.2, then=KeyError("a bug")), heartbeat=0.05)
    assert response.status_code == 200
    [event] = events(response.content)
    assert (event.event, event.json()["try_again"]) == ("error", False)


async def test_the_detail_of_an_http_exception_is_told_the_reader() -> None:
    response = await get(Upstream(["a"], then=HTTPException(402, "No credit left.")))
    assert events(response.content)[-1].json()["message"] == "No credit left."


async def test_an_error_after_the_first_event_is_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="streamlib.serve"):
        await get(Upstream(["a"], then=KeyError("a bug")))
        await get(Upstream(["a"], then=ConnectionError("refused")))
    bug, refused = caplog.records
    assert "a bug" in bug.getMessage()
    assert bug.exc_info  # with its traceback, and what may pass without one
    assert "refused" in refused.getMessage()
    assert not refused.exc_info


@pytest.mark.parametrize("item", [object(), float("nan"), b"bytes"])
async def test_an_item_that_json_cannot_say_is_an_error_event(item: Any) -> None:
    got = await events_in_process(stream_of(["a", item]))
    assert [event.event for event in got] == ["message", "error"]


# -- the reader leaves

leaving = pytest.mark.parametrize("rudely", [False, True], ids=["closing", "reset"])


@leaving
async def test_upstream_is_closed_while_it_waits_for_a_token(rudely: bool) -> None:
    async def thinks() -> AsyncIterator[str]:
        try:
            yield "a"
            await asyncio.sleep(NEVER)
        finally:
            await asyncio.sleep(0.01)
            closed.set()

    closed = asyncio.Event()
    async with serving(app_of(lambda: sse_response(thinks()))) as url:
        reader = await Reader.of(url)
        await reader.until(b'"a"')
        if rudely:
            reader.leave_rudely()
        else:
            await reader.leave()
        await asyncio.wait_for(closed.wait(), 10)


@leaving
async def test_upstream_is_closed_before_its_first_token(rudely: bool) -> None:
    upstream = Upstream(["a"], every=NEVER)
    async with serving(app_of(lambda: sse_response(upstream))) as url:
        reader = await Reader.of(url)
        await asyncio.wait_for(upstream.begun.wait(), 10)
        if rudely:
            reader.leave_rudely()
        else:
            await reader.leave()
        await asyncio.wait_for(upstream.closed.wait(), 10)
    assert upstream.cleaned_up


async def test_upstream_is_closed_while_the_connection_is_full() -> None:
    upstream = Upstream(["x" * 100_000] * 1000)
    async with serving(app_of(lambda: sse_response(upstream))) as url:
        reader = await Reader.of(url)
        await reader.until(b"data:")
        made = -1
        while made != upstream.made:  # it comes to a stand: the reader does not read
            made = upstream.made
            await asyncio.sleep(0.5)
        assert made < 1000
        await reader.leave()
        await asyncio.wait_for(upstream.closed.wait(), 10)
        assert upstream.made <= made + 1  # a connection that ends has room again, for a moment


async def test_a_reader_who_reads_nothing_counts_as_gone() -> None:
    upstream = Upstream(["x" * 100_000] * 1000)
    async with serving(app_of(lambda: sse_response(upstream, send_timeout=0.5))) as url:
        reader = await Reader.of(url)
        await asyncio.wait_for(upstream.closed.wait(), 20)
        assert upstream.made < 1000
        reader.leave_rudely()


def test_without_saying_so_a_full_connection_has_a_minute() -> None:
    upstream = Upstream(["a"] * 10, every=1)

    async def send(message: Any) -> None:
        if b"a" in message.get("body", b""):
            await asyncio.Event().wait()

    async def receive() -> Any:
        return await asyncio.Event().wait()

    virtual(sse_response(upstream)({"type": "http", "method": "GET"}, receive, send))
    assert (upstream.made, upstream.closed_at) == (1, 1 + 60)


async def test_upstream_is_closed_under_middleware_that_cancels_scopes() -> None:
    upstream = Upstream(["a"] * 1000, every=0.02)
    app = app_of(lambda: sse_response(upstream))

    @app.middleware("http")
    async def middleware(request: Request, call_next: Any) -> Any:
        return await call_next(request)

    async with serving(app) as url:
        reader = await Reader.of(url)
        await reader.until(b'"a"', 3)
        await reader.leave()
        await asyncio.wait_for(upstream.closed.wait(), 10)
    assert upstream.cleaned_up
    assert upstream.made < 1000


async def test_no_task_is_left_behind() -> None:
    upstream = Upstream(["a"] * 1000, every=0.01)
    async with serving(app_of(lambda: sse_response(upstream))) as url:
        before = asyncio.all_tasks()
        for _ in range(5):
            reader = await Reader.of(url)
            await reader.until(b'"a"')
            await reader.leave()
        async with asyncio.timeout(10):
            while asyncio.all_tasks() - before:  # noqa: ASYNC110 (there is no event for that)
                await asyncio.sleep(0.01)


async def test_a_server_that_raises_when_the_reader_has_left_is_understood() -> None:
    """As ASGI 2.4 has it, and as uvicorn does not."""
    upstream = Upstream(["a"] * 10)

    async def send(message: Any) -> None:
        raise OSError("gone")

    async def receive() -> Any:
        return await asyncio.Event().wait()

    await sse_response(upstream)({"type": "http", "method": "GET"}, receive, send)
    assert (upstream.made, upstream.cleaned_up) == (1, True)


async def test_a_reader_who_has_left_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    sent = []

    async def send(message: Any) -> None:
        sent.append(message)
        raise OSError("gone")

    async def receive() -> Any:
        return await asyncio.Event().wait()

    await sse_response(stream_of(["a", "b"]))({"type": "http", "method": "GET"}, receive, send)
    assert len(sent) == 1
    assert not caplog.records


async def test_in_a_cancelled_scope_upstream_is_closed_before_the_scope_is_left() -> None:
    upstream = Upstream(["a"] * 1000, every=0.01)

    async def send(message: Any) -> None:
        if message.get("body"):
            scope.cancel()

    async def receive() -> Any:
        return await asyncio.Event().wait()

    with anyio.CancelScope() as scope:
        await sse_response(upstream)({"type": "http", "method": "GET"}, receive, send)
    assert (upstream.made, upstream.cleaned_up) == (1, True)


async def test_upstream_is_closed_when_the_server_shuts_down() -> None:
    upstream = Upstream(["a"] * 1000, every=0.01)
    app = app_of(lambda: sse_response(upstream))
    async with serving(app) as url:
        await (await Reader.of(url)).until(b'"a"')
    assert upstream.cleaned_up  # the server has shut down with the reader still there


# -- and besides


async def test_head_gets_the_headers_and_costs_nothing() -> None:
    upstream = Upstream(["a"])
    app = Starlette(routes=[Route("/", lambda request: sse_response(upstream))])
    async with serving(app) as url, httpx2.AsyncClient() as client:
        response = await client.head(url)
        assert (await client.get(url)).status_code == 200
    assert response.headers["content-type"].startswith("text/event-stream")
    assert upstream.made == 1  # by the GET


async def test_a_background_task_runs_afterwards() -> None:
    done = asyncio.Event()

    async def note() -> None:
        done.set()

    def make() -> Response:
        response = sse_response(stream_of(["a"]))
        response.background = BackgroundTask(note)
        return response

    async with serving(app_of(make)) as url, httpx2.AsyncClient() as client:
        await client.get(url)
        await asyncio.wait_for(done.wait(), 10)


@pytest.mark.parametrize(
    ("stream", "hint"),
    [(["a"], "from_thread"), (stream_of, "called"), (None, "async iterable")],
)
def test_what_is_no_stream_is_refused_with_a_hint(stream: Any, hint: str) -> None:
    with pytest.raises(TypeError, match=hint):
        sse_response(stream)


@pytest.mark.parametrize("seconds", [0, -1, float("nan")])
@pytest.mark.parametrize("name", ["heartbeat", "send_timeout"])
def test_seconds_are_above_zero(name: str, seconds: float) -> None:
    with pytest.raises(ValueError, match=f"{name} is a number of seconds above 0"):
        sse_response(Upstream([]), **{name: seconds})


def test_the_error_event_is_json() -> None:
    got = asyncio.run(events_in_process(Upstream(["a"], then=KeyError("x"))))
    assert set(json.loads(got[-1].data)) == {"message", "try_again"}
