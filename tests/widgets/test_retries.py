import asyncio
import pickle
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import pytest

from streamlib.backoff import backoff_delays
from streamlib.chat import stream_chat
from streamlib.retry import resume, retry, timeouts
from streamlib.widgets import Retries, retries
from streamlib.widgets.retries import LIVE_PIECES
from streamlib.widgets.retries_picture import HELP, draw_retries, meaning, words

from ..stream_helpers import now, virtual
from .scripted import CUT, HANG, ROLE, answer, event, serving, until

EVIL = '<img src=x onerror="alert(1)">&'
QUESTION = "Explain backpressure in about 40 words."
quickly = partial(resume, delays=partial(backoff_delays, base=0.01))


def asked(server: str, *faults: str, how: Any = quickly, **options: Any) -> Retries:
    return Retries(QUESTION, model="sim-1", base_url=server, faults=faults, how=how, **options)


def plays(*attempts: list[Any], every: float = 0.0) -> Callable[..., AsyncIterator[str]]:
    """Opens streams: the first call plays the first list; an exception in it is raised."""
    following = iter(attempts)

    async def play(script: list[Any]) -> AsyncIterator[str]:
        for step in script:
            await asyncio.sleep(every)
            if isinstance(step, Exception):
                raise step
            yield step

    return lambda *said: play(next(following))


def run(view: Retries, monkeypatch: pytest.MonkeyPatch) -> Retries:
    """All of it on a virtual clock: the times are exact."""
    monkeypatch.setattr(retries, "perf_counter", now)

    async def receive() -> Retries:
        await view.receive()
        return view

    return virtual(receive())


def told(*seconds: float) -> Any:
    """Delays as a function of `retry` and `resume` takes them."""
    return lambda told: iter(seconds)


# -- against a server


async def test_faults_in_a_row_and_no_word_lost(sim_server: str) -> None:
    async with stream_chat(QUESTION, model="sim-1", base_url=sim_server) as stream:
        whole = "".join([text async for text in stream])
    r = await asked(sim_server, "status=503", "cut-after=12", "", "truncate-after=3")
    assert r.answer == whole
    assert [a.fault for a in r.attempts] == ["503", "StreamTruncated", ""]
    assert [a.said for a in r.attempts] == [0, 0, r.attempts[1].characters]
    assert r.attempts[1].characters > 0
    assert [a.complete for a in r.attempts] == [False, False, True]
    assert r.error is None


async def test_each_attempt_has_its_instants_in_order(sim_server: str) -> None:
    r = await asked(sim_server, "cut-after=5")
    for a in r.attempts:
        at, status = a.answered
        assert status == 200
        assert a.started <= a.sent <= at <= a.pieces[0] <= a.pieces[-1] <= a.ended
    assert r.attempts[0].connects
    assert r.attempts[0].ended <= r.attempts[1].started


async def test_what_the_server_asked_for_is_noted(sim_server: str) -> None:
    r = await asked(sim_server, "status=429; retry-after=1", how=partial(resume, attempts=1))
    assert r.attempts[0].told == 1.0
    assert r.attempts[0].fault == "429"


async def test_the_error_that_ends_it_is_kept_and_shown(sim_server: str) -> None:
    r = await asked(sim_server, "status=400")
    assert len(r.attempts) == 1
    assert r.error.status == 400
    assert "It gave up after 0 characters: StatusError" in r.text()
    assert "attempt 1: 400" in r.html(None)
    assert "1: StatusError: " in r.html(None)


async def test_no_server_is_shown_not_raised() -> None:
    async with serving() as server:
        pass
    r = await asked(server.base_url, how=partial(quickly, attempts=3))
    assert [a.fault for a in r.attempts] == ["ConnectionFailed"] * 3
    assert r.attempts[0].answered is None


async def test_settings_of_the_request_go_along() -> None:
    async with serving(*answer("Hi")) as server:
        await asked(server.base_url, "no-done", max_tokens=5, headers={"X-Mine": "1"})
    assert server.requests[0]["max_tokens"] == 5
    assert server.headers[0]["x-mine"] == "1"
    assert server.headers[0]["x-sim-fault"] == "no-done"


async def test_a_fault_goes_with_one_attempt_only() -> None:
    async with serving(ROLE, event("Hel"), CUT) as server:
        await asked(server.base_url, "a=1", "", "c=3", how=partial(quickly, attempts=4))
    assert [headers.get("x-sim-fault") for headers in server.headers] == ["a=1", None, "c=3", None]


async def test_the_rest_is_asked_for_with_the_text_so_far() -> None:
    async with serving(ROLE, event("Hel"), CUT) as server:
        await asked(server.base_url, how=partial(quickly, attempts=2))
    assert server.requests[1]["messages"][-1] == {"role": "assistant", "content": "Hel"}


# -- around a function that opens streams


def test_backoff_is_what_it_did_and_what_it_planned(monkeypatch: pytest.MonkeyPatch) -> None:
    open_stream = plays([ConnectionError("x")], [ConnectionError("y")], ["a", "b"], every=1)
    r = run(Retries(open_stream, how=partial(retry, delays=told(2, 4))), monkeypatch)
    assert [(a.started, a.ended, a.delay) for a in r.attempts] == [(0, 1, 2), (3, 4, 4), (8, 10, None)]
    assert r.handed_on == [(9, "a"), (10, "b")]
    assert (
        meaning(r.scene(None))[0] == "3 attempts, 2 failed; 6.00 s of 10.0 s went into waiting to ask again."
    )


def test_a_function_of_ones_own_without_callbacks(monkeypatch: pytest.MonkeyPatch) -> None:
    async def mine(open_stream: Any, attempts: int, delay: float) -> Any:
        for _ in range(attempts):
            try:
                async for token in open_stream():
                    yield token
                return
            except ConnectionError:
                await asyncio.sleep(delay)

    open_stream = plays([ConnectionError("x")], ["a"])
    r = run(Retries(open_stream, how=partial(mine, attempts=2, delay=3)), monkeypatch)
    assert [(a.started, a.fault, a.complete) for a in r.attempts] == [
        (0, "ConnectionError", False),
        (3, "", True),
    ]
    assert "then 3.00 s of backoff" in words(0, *r.attempts)
    assert r.scene(None).name == "mine(attempts=2, delay=3)"


def test_a_limit_that_strikes_from_outside_is_the_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    async def silent() -> AsyncIterator[str]:
        await asyncio.sleep(100)
        yield "too late"

    r = run(Retries(silent, how=partial(retry, give_up_after=5)), monkeypatch)
    assert r.attempts[0].fault == "StreamTimeout"
    assert r.attempts[0].ended == pytest.approx(5)
    assert r.error is not None


def test_a_limit_inside_is_a_fault_like_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    async def stalls() -> AsyncIterator[str]:
        yield "a"
        await asyncio.sleep(100)

    opened = iter([stalls(), plays(["b"])()])
    r = run(
        Retries(lambda said: timeouts(next(opened), between=2), how=partial(resume, delays=told(1))),
        monkeypatch,
    )
    assert [a.fault for a in r.attempts] == ["StreamTimeout", ""]
    assert r.attempts[1].started == pytest.approx(3)


async def test_what_a_function_makes_of_an_error_does_not_replace_it() -> None:
    async def gives_up(open_stream: Any) -> Any:
        try:
            async for token in open_stream():
                yield token
        except ConnectionError as error:
            raise TimeoutError("no time left") from error

    r = await Retries(plays([ConnectionError("x")]), how=gives_up)
    assert r.attempts[0].fault == "ConnectionError"
    assert "TimeoutError: no time left" in r.text()


async def test_a_callback_of_ones_own_is_left_alone() -> None:
    heard = []
    how = partial(retry, delays=told(0), on_retry=lambda error, delay: heard.append(str(error)))
    r = await Retries(plays([ConnectionError("x")], ["a"]), how=how)
    assert heard == ["x"]
    assert r.attempts[0].fault == "ConnectionError"


async def test_a_broken_function_is_not_taken_for_a_broken_stream() -> None:
    async def broken(open_stream: Any) -> Any:
        async for token in open_stream():
            yield token + 1

    with pytest.raises(TypeError):
        await Retries(plays(["a"]), how=broken)


async def test_a_function_that_stops_in_the_middle() -> None:
    async def first(open_stream: Any) -> Any:
        async for token in open_stream():
            yield token
            break

    r = await Retries(plays(["a", "b"]), how=first)
    await until(lambda: r.attempts[0].ended is not None)  # when Python closes it: `first` does not
    assert r.attempts[0].outcome == "closed before its end"


async def test_a_moving_picture_carries_the_end_of_the_text_and_every_instant() -> None:
    texts = [str(number) for number in range(LIVE_PIECES + 5)]
    r = await Retries(plays(texts))
    assert [text for _, text in r.scene(1.0).handed_on] == texts[5:]
    assert list(r.scene(1.0).handed_at) == [at for at, _ in r.handed_on]
    assert [text for _, text in r.scene(None).handed_on] == texts
    assert f"to the end: {len(r.answer)} characters" in r.text()


async def test_an_empty_text_is_not_the_first() -> None:
    r = await Retries(plays(["", "a"]))
    assert (len(r.attempts[0].pieces), r.attempts[0].characters) == (1, 1)
    assert r.answer == "a"


@pytest.mark.parametrize(
    ("ask", "options", "sentence"),
    [
        ("Hi", {}, "which model"),
        (plays(), {"model": "m"}, "a function asks in its own way"),
        (plays(), {"faults": ["refuse"]}, "a function asks in its own way"),
    ],
)
def test_what_does_not_go_together_is_said(ask: Any, options: Any, sentence: str) -> None:
    with pytest.raises(TypeError, match=sentence):
        Retries(ask, **options)


# -- the end, and what it looks like


@pytest.mark.parametrize("where", ["stream", "backoff"])
async def test_stop_leaves_nothing_behind(where: str) -> None:
    async with serving(ROLE, event("Hel"), HANG if where == "stream" else CUT) as server:
        r = asked(server.base_url, how=partial(resume, delays=told(50)))
        r.start()
        await until(lambda: r.answer and (where == "stream" or r.attempts[0].delay))
        assert "Hel" in r.html(1e9)
        r.stop()
        await r
        await until(lambda: server.open_connections == 0)
    assert r.stopped
    assert r.answer == "Hel"
    assert "Stopped before the end." in r.text()
    assert len(asyncio.all_tasks()) == 1


async def test_what_models_and_servers_wrote_is_escaped() -> None:
    async with serving(ROLE, event(EVIL), status=200) as server:
        r = await asked(server.base_url, how=partial(quickly, attempts=2))
    assert EVIL in r.answer
    fails = await Retries(plays([ConnectionError(EVIL)]), how=partial(resume, attempts=1))
    for html in (r.html(1.0), r.html(None), fails.html(1.0), fails.html(None)):
        assert "<img" not in html
        assert '"alert' not in html


async def test_a_picture_at_every_stage_from_what_was_pickled() -> None:
    gate = asyncio.Event()

    async def stream() -> AsyncIterator[str]:
        yield "a"
        await gate.wait()

    def picture(r: Retries, live: bool) -> str:
        return draw_retries(pickle.loads(pickle.dumps(r.scene(1.0 if live else None))))

    r = Retries(stream, how=retry)
    assert "<svg" in picture(r, live=True)
    r.start()
    await until(lambda: r.answer)
    assert "attempt 1: open" in picture(r, live=True)
    gate.set()
    await r
    assert "It came to the end: 1 character in all." in picture(r, live=False)
    assert HELP in picture(r, live=True)


async def test_text_and_picture_say_the_same() -> None:
    open_stream = plays(["Hel", ConnectionError("x")], ["lo"])
    r = await Retries(open_stream, how=partial(resume, delays=told(0)))
    for sentence in meaning(r.scene(None)):
        assert sentence in r.text()
        assert sentence in r.html(None)
    assert ">1</span>Hel" in r.html(None)
    assert ">2</span>lo" in r.html(None)
    assert r.text().splitlines()[-1] == "Hello"
