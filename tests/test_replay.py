"""Answers that outlive a broken connection: what a reader who comes back gets, when the model is stopped."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI, Request
from hypothesis import given
from hypothesis import strategies as st
from starlette.exceptions import HTTPException
from starlette.responses import Response

from streamlib.replay import Replay
from streamlib.retry import resume_events
from streamlib.serve import sse_response
from streamlib.sse import ServerSentEvent, aiter_events
from streamlib.streams import collect, take

from .serving import Reader, Upstream, serving
from .stream_helpers import now, stream_of, virtual


async def first(n: int, stream: AsyncGenerator[ServerSentEvent, None]) -> list[ServerSentEvent]:
    """The first events; then the reader leaves."""
    return await collect(take(stream, n))


def status_of(call: Any) -> int:
    with pytest.raises(HTTPException) as caught:
        call()
    return caught.value.status_code


def test_without_an_id_the_whole_stream_comes_numbered() -> None:
    events = virtual(collect(Replay()(stream_of(["a", "b"]))))
    assert [event.data for event in events] == ['"a"', '"b"', "{}"]
    assert [event.event for event in events] == ["message", "message", "done"]
    assert [event.id.rpartition(":")[2] for event in events] == ["1", "2", "3"]


@given(st.lists(st.integers(0, 6), max_size=6))
def test_whoever_comes_back_misses_nothing_and_gets_nothing_twice(visits: list[int]) -> None:
    async def read() -> list[str]:
        replay, upstream, last, got = Replay(), Upstream(list("abcdefghij"), every=0.1), "", []
        for length in [*visits, 99]:
            stream = replay(upstream, last) if last else replay(upstream)
            for event in await first(length, stream) if length < 99 else await collect(stream):
                got.append(event.data)
                last = event.id
            if len(got) == 11:
                break
        return got

    got = virtual(read())
    assert got == [f'"{letter}"' for letter in "abcdefghij"] + ["{}"]


def test_the_model_goes_on_while_nobody_reads() -> None:
    async def read() -> int:
        replay, upstream = Replay(linger=5), Upstream(["a"] * 10, every=0.1)
        await first(2, replay(upstream))
        await asyncio.sleep(2)
        return upstream.made

    assert virtual(read()) == 10


def test_when_nobody_comes_back_the_model_is_stopped() -> None:
    async def read() -> float:
        upstream = Upstream(["a"] * 1000, every=0.1)
        await first(2, Replay(linger=5)(upstream))
        await upstream.closed.wait()
        return upstream.closed_at

    assert virtual(read()) == pytest.approx(5.2)


def test_a_reader_who_came_back_starts_the_clock_anew() -> None:
    async def read() -> float:
        replay, upstream = Replay(linger=5), Upstream(["a"] * 1000, every=0.1)
        [*_, event] = await first(2, replay(upstream))
        await asyncio.sleep(3)
        await first(1, replay(upstream, event.id))
        await upstream.closed.wait()
        return upstream.closed_at

    assert virtual(read()) == pytest.approx(8.2)


def test_two_readers_of_one_answer_get_all_of_it() -> None:
    async def read() -> list[list[ServerSentEvent]]:
        replay, upstream = Replay(), Upstream(["a", "b", "c"], every=0.1)
        [event] = await first(1, replay(upstream))
        return await asyncio.gather(*(collect(replay(upstream, event.id)) for _ in range(2)))

    one, other = virtual(read())
    assert one == other
    assert [event.data for event in one] == ['"b"', '"c"', "{}"]


def test_one_of_two_readers_leaving_stops_nothing() -> None:
    async def read() -> list[ServerSentEvent]:
        replay, upstream = Replay(linger=1), Upstream(["a"] * 100, every=0.1)
        [event] = await first(1, replay(upstream))
        stays = asyncio.create_task(collect(replay(upstream, event.id)))
        await first(3, replay(upstream, event.id))
        return await stays

    assert len(virtual(read())) == 100


def test_the_stream_it_is_called_with_again_is_not_touched() -> None:
    async def read() -> int:
        replay = Replay()
        [event] = await first(1, replay(Upstream(["a", "b"])))
        unused = Upstream(["x"])
        await collect(replay(unused, event.id))
        return unused.made

    assert virtual(read()) == 0


@pytest.mark.parametrize(
    "id", ["never:1", "nonsense", ":", "1", "{key}:99", "{key}:-1", "{key}:x", "{key}:²"]
)
def test_an_id_that_is_not_known_is_gone(id: str) -> None:
    async def ask() -> int:
        replay, upstream = Replay(), Upstream(["a"] * 10, every=0.1)
        [event] = await first(1, replay(upstream))
        key = event.id.rpartition(":")[0]
        return status_of(lambda: replay(upstream, id.format(key=key)))

    assert virtual(ask()) == 410


def test_an_answer_is_forgotten_after_a_while() -> None:
    async def ask() -> int:
        replay = Replay(linger=5)
        events = await collect(replay(stream_of(["a"])))
        await asyncio.sleep(4.9)
        await collect(replay(stream_of([]), events[0].id))
        await asyncio.sleep(5.1)
        return status_of(lambda: replay(stream_of([]), events[0].id))

    assert virtual(ask()) == 410


def test_whoever_has_seen_done_is_told_to_stop_coming_back() -> None:
    async def ask() -> int:
        replay = Replay()
        events = await collect(replay(stream_of(["a"])))
        return status_of(lambda: replay(stream_of([]), events[-1].id))

    assert virtual(ask()) == 204


def test_whoever_missed_only_done_gets_done() -> None:
    async def ask() -> list[ServerSentEvent]:
        replay = Replay()
        events = await collect(replay(stream_of(["a"])))
        return await collect(replay(stream_of([]), events[-2].id))

    assert [event.event for event in virtual(ask())] == ["done"]


def test_an_error_comes_after_what_was_said_before_it_also_for_who_comes_back() -> None:
    async def ask() -> list[str]:
        replay, upstream, got = Replay(), Upstream(["a", "b"], then=ConnectionError("cut")), []
        [event] = await first(1, replay(upstream))
        for _ in range(2):
            with pytest.raises(ConnectionError):
                async for later in replay(upstream, event.id):
                    got.append(later.data)
        return got

    assert virtual(ask()) == ['"b"', '"b"']


def test_whoever_has_seen_all_but_the_error_gets_the_error() -> None:
    async def ask() -> None:
        replay = Replay()
        [event] = await first(1, replay(Upstream(["a"], then=ConnectionError("cut"))))
        await asyncio.sleep(1)
        await collect(replay(stream_of([]), event.id))

    with pytest.raises(ConnectionError):
        virtual(ask())


def test_only_the_latest_events_are_kept() -> None:
    async def ask() -> tuple[list[str], int]:
        replay, upstream = Replay(keep=3), Upstream(list("abcdef"))
        [event] = await first(1, replay(upstream))
        await asyncio.sleep(1)
        key = event.id.rpartition(":")[0]
        rest = await collect(replay(upstream, f"{key}:4"))
        with pytest.raises(HTTPException) as caught:
            await collect(replay(upstream, event.id))
        return [event.data for event in rest], caught.value.status_code

    assert virtual(ask()) == (['"e"', '"f"', "{}"], 410)


def test_a_stream_that_nobody_reads_is_never_begun() -> None:
    async def ask() -> tuple[int, Any]:
        replay, upstream = Replay(), Upstream(["a"])
        await replay(upstream).aclose()
        await asyncio.sleep(1)
        return upstream.made, replay._tapes

    assert virtual(ask()) == (0, {})


def test_nothing_is_left_of_a_forgotten_answer() -> None:
    async def ask() -> tuple[Any, int]:
        replay = Replay(linger=1)
        await first(1, replay(Upstream(["a"] * 1000, every=0.1)))
        await asyncio.sleep(2)
        return replay._tapes, len(asyncio.all_tasks())

    assert virtual(ask()) == ({}, 1)


@pytest.mark.parametrize("options", [{"linger": -1}, {"keep": 0}])
def test_settings_that_make_no_sense(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="Replay needs"):
        Replay(**options)


# -- on a real server


def app_of(replay: Replay, *answers: Upstream) -> FastAPI:
    app = FastAPI()
    rest = iter(answers)

    @app.get("/")
    async def endpoint(request: Request) -> Response:
        last = request.headers.get("last-event-id")
        return sse_response(replay(stream_of([]) if last else next(rest), last))

    return app


async def test_a_reader_whose_connection_breaks_gets_the_rest_from_the_same_answer() -> None:
    upstream = Upstream([f"{n} " for n in range(30)], every=0.01)
    async with serving(app_of(Replay(), upstream)) as url, httpx2.AsyncClient() as client:

        async def open_stream(last: str) -> AsyncGenerator[ServerSentEvent, None]:
            async with client.stream("GET", url, headers={"Last-Event-ID": last} if last else {}) as response:
                async for number, event in _numbered(aiter_events(response.aiter_bytes())):
                    yield event
                    if number == 8 and event.event != "done":
                        raise ConnectionError("cut")

        events = await collect(resume_events(open_stream, delays=lambda told: (0.01 for _ in told)))
    assert [event.json() for event in events[:-1]] == [f"{n} " for n in range(30)]
    assert upstream.made == 30  # one answer


async def _numbered(stream: Any) -> Any:
    number = 0
    async for event in stream:
        number += 1
        yield number, event


async def test_the_reader_who_left_is_waited_for_then_the_model_is_stopped() -> None:
    upstream = Upstream(["a"] * 100_000, every=0.01)
    async with serving(app_of(Replay(linger=0.3), upstream)) as url:
        reader = await Reader.of(url)
        await reader.until(b'"a"')
        left = now()
        reader.leave_rudely()
        await asyncio.wait_for(upstream.closed.wait(), 10)
        assert upstream.closed_at - left >= 0.25


async def test_statuses_reach_the_reader() -> None:
    async with serving(app_of(Replay(), Upstream(["a"]))) as url, httpx2.AsyncClient() as client:
        text = (await client.get(url)).text
        last = text.rpartition("id: ")[2].partition("\n")[0]
        statuses = [
            (await client.get(url, headers={"Last-Event-ID": id})).status_code for id in (last, "gone:1")
        ]
    assert statuses == [204, 410]
