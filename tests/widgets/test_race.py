import asyncio

import pytest

from streamlib.widgets import Race
from streamlib.widgets.race_picture import compare, meaning

from .scripted import CUT, DONE, HANG, ROLE, STOP, Server, answer, event, serving, until

MODEL = "model-1"


def race(server: Server, **options: object) -> Race:
    return Race("Hi", model=MODEL, base_url=server.base_url, **options)


async def test_both_lanes_have_their_answer_and_their_times() -> None:
    async with serving(*answer("Hel", "lo"), blocking="Hello", hold_blocking=True) as server:
        r = await race(server)
    assert (r.blocking.answer, r.streaming.answer) == ("Hello", "Hello")
    assert r.streaming.first < r.streaming.total
    assert r.streaming.first < r.blocking.first <= r.blocking.total
    assert not r.blocking.error
    assert not r.streaming.error


async def test_the_role_chunk_is_not_the_first_text() -> None:
    async with serving(ROLE, HANG) as server:
        r = race(server)
        r.start()
        await until(lambda: server.log.count("stream asked"))
        await asyncio.sleep(0.05)
        assert r.streaming.first is None
        r.stop()
        await r


async def test_the_two_requests_differ_in_stream_alone() -> None:
    async with serving(*answer("a")) as server:
        await race(server, max_tokens=5, headers={"X-Sim-Fault": "none"})
    one, two = sorted(server.requests, key=lambda request: request["stream"])
    assert one == {
        "model": MODEL,
        "messages": [{"role": "user", "content": "Hi"}],
        "stream": False,
        "max_tokens": 5,
    }
    assert two == one | {"stream": True}
    assert [headers["x-sim-fault"] for headers in server.headers] == ["none", "none"]


async def test_both_connections_are_open_before_the_clocks_start() -> None:
    async with serving(*answer("a")) as server:
        await race(server)
    assert server.warm_ups == 2


async def test_one_after_the_other_when_asked() -> None:
    async with serving(*answer("a", "b")) as server:
        r = await race(server, together=False)
    assert server.log == ["stream asked", "stream ended", "blocking asked"]
    assert r.blocking.total is not None


async def test_a_refusal_is_shown_with_what_the_server_said() -> None:
    async with serving(status=429, error="Slow <b>down</b>") as server:
        r = await race(server)
    assert r.streaming.error == r.blocking.error == "The server answered 429: Slow <b>down</b>"
    assert "Slow <b>down</b>" in r.text()
    assert "Slow &lt;b&gt;down" in r.html(None)
    assert r.streaming.total is None


async def test_no_server_is_shown_not_raised() -> None:
    async with serving() as server:
        pass
    r = await race(server)
    assert "Is it running?" in r.streaming.error
    assert "Is it running?" in r.text()


@pytest.mark.parametrize(
    ("stream", "words"),
    [
        ((ROLE, event("Hel"), CUT), "connection broke"),
        ((ROLE, event("Hel")), "ended in the middle"),
        (
            (ROLE, event("Hel"), b'data: {"error": {"message": "full"}}\n\n', DONE),
            "The server sent an error: full",
        ),
    ],
)
async def test_half_an_answer_is_not_taken_for_a_whole_one(stream: tuple[object, ...], words: str) -> None:
    async with serving(*stream) as server:
        r = await race(server)
    assert words in r.streaming.error
    assert r.streaming.answer == "Hel"
    assert r.streaming.total is None
    assert words in r.text()


@pytest.mark.parametrize("ending", [(STOP,), (DONE,)])
async def test_a_finish_reason_or_done_ends_an_answer(ending: tuple[bytes, ...]) -> None:
    async with serving(event("Hello"), *ending) as server:
        r = await race(server)
    assert not r.streaming.error


async def test_an_answer_without_text_has_no_first_words() -> None:
    async with serving(ROLE, STOP, DONE, blocking="") as server:
        r = await race(server)
    assert r.blocking.first is None
    assert r.streaming.first is None
    assert not r.blocking.error
    assert "No text has arrived." in r.text()


async def test_stop_closes_both_connections_and_keeps_what_came() -> None:
    async with serving(ROLE, event("Hel"), HANG, hold_blocking=True) as server:
        r = race(server)
        r.start()
        await until(lambda: r.streaming.answer)
        r.stop()
        await r
        server.stream_ended.set()  # lets the server's blocking answer go
        await until(lambda: server.open_connections == 0)
    assert r.stopped
    assert r.streaming.answer == "Hel"
    assert "Stopped before the end." in r.text()
    assert len(asyncio.all_tasks()) == 1


async def test_pictures_are_drawn_at_every_stage() -> None:
    async with serving(ROLE, event("<img src=x>"), HANG, hold_blocking=True) as server:
        r = race(server)
        assert "waiting for the first words" in r.html(1.0)
        r.start()
        await until(lambda: r.streaming.answer)
        live = r.html(asyncio.get_running_loop().time() + 1)
        assert "&lt;img src=x&gt;" in live
        assert "<img" not in live
        r.stop()
        await r
    assert "<img" not in r.html(None)
    assert "✗ Stopped." in r.html(None)


async def test_text_and_picture_say_the_same() -> None:
    async with serving(*answer("a", "b"), hold_blocking=True) as server:
        r = await race(server)
    for sentence in meaning(r.scene(None)):
        assert sentence in r.text()
        assert sentence in r.html(None)


@pytest.mark.parametrize(
    ("blocking", "streaming", "words"),
    [
        (6.0, 0.5, "12.0 times sooner"),
        (3.0, 2.0, "50 % sooner"),
        (1.0, 1.05, "about the same"),
        (1.0, 0.95, "about the same"),
        (1.0, 4.0, "4.0 times later"),
        (0.0, 0.0, "about the same"),
    ],
)
def test_compare(blocking: float, streaming: float, words: str) -> None:
    assert compare(blocking, streaming) == words
