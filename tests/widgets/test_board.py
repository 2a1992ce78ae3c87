"""The board without a screen: what a run measures, what fails, what is left behind."""

from __future__ import annotations

import asyncio
import csv
import io
import pickle
import re
from array import array
from dataclasses import replace
from pathlib import Path
from statistics import median

import pytest

from streamlib.metrics import Arrival, StreamStats, stream_stats
from streamlib.sim.faults import parse_faults
from streamlib.widgets import Board, Race, view
from streamlib.widgets.board_load import Stream, make_prompt
from streamlib.widgets.board_picture import draw_board, draw_file, nice
from streamlib.widgets.board_run import Result, Run, Tally, rates
from streamlib.widgets.board_screen import EMPTY, FAULTS, NONE, Choice, still
from streamlib.widgets.board_server import too_late

from .scripted import CUT, DONE, HANG, ROLE, STOP, Server, answer, event, serving, until

USAGE = b'data: {"choices": [], "usage": {"completion_tokens": 7}}\n\n'
TYPICAL = {"X-Sim-Profile": "typical"}
BROKEN = b'data: {"choices": [{"del\n\n'


def board(server: Server, prompt: str | None = None, **options: object) -> Board:
    return Board(prompt, model="model-1", base_url=server.base_url, **options)


def marks_in(picture: str) -> int:
    """How many marks a picture has; the lines of throughput are none."""
    return "".join(re.findall(r'<path d="([^"L]+)" fill=', picture)).count("M")


# -- what a run measures


async def test_a_run_has_the_numbers_of_its_streams() -> None:
    async with serving(*answer("Hel", "lo", " you")) as server:
        run = await board(server).run("one", concurrency=2, requests=3)
    assert (run.label, run.failed, run.valid, len(run.streams)) == ("one", 0, True, 3)
    for stats in run.streams:
        assert stats.completed
        assert stats.headers is not None
        assert stats.ttft is not None
        assert stats.headers <= stats.ttft < stats.end_to_end < run.seconds


async def test_tokens_are_those_of_the_usage_else_counted() -> None:
    async with serving(ROLE, event(" streaming tokens"), STOP, USAGE, DONE) as server:
        run = await board(server).run(requests=1)
        assert (run.streams[0].tokens, run.streams[0].counted_by) == (7, "usage")
        server.stream = answer(" streaming", " tokens")
        run = await board(server).run(requests=1)
        assert (run.streams[0].tokens, run.streams[0].counted_by) == (2, "counted")


async def test_the_usage_is_asked_for() -> None:
    async with serving(*answer("a")) as server:
        await board(server).run(requests=1)
    assert server.requests[0]["stream_options"] == {"include_usage": True}


async def test_so_many_streams_so_many_at_once() -> None:
    async with serving(*answer("a", "b")) as server:
        run = await board(server).run(concurrency=3, requests=7)
    ends = [(result.started, result.started + result.stats.end_to_end) for result in run.results]
    assert len(ends) == len(server.requests) == 7
    assert max(sum(begin <= at < end for begin, end in ends) for at, _ in ends) == 3


async def test_connections_are_open_before_the_first_clock_starts() -> None:
    async with serving(*answer("a")) as server:
        await board(server).run(concurrency=4, requests=4)
        # one for the list of models, which is then one of the four
        assert server.warm_ups == 5
        assert server.open_connections <= 4


@pytest.mark.parametrize(("concurrency", "requests"), [(0, 1), (1, 0), (-1, 5)])
async def test_a_run_without_streams_is_refused(concurrency: int, requests: int) -> None:
    async with serving(*answer("a")) as server:
        with pytest.raises(ValueError, match="at least one stream"):
            await board(server).run(concurrency=concurrency, requests=requests)


async def test_what_goes_into_the_request() -> None:
    async with serving(*answer("a")) as server:
        b = board(server, "Hi", temperature=0)
        await b.run(concurrency=1, requests=2, max_tokens=5, headers=lambda number: {"X-Number": str(number)})
    for request in server.requests:
        assert request["messages"] == [{"role": "user", "content": "Hi"}]
        assert (request["temperature"], request["max_tokens"], request["model"]) == (0, 5, "model-1")
    assert [headers["x-number"] for headers in server.headers] == ["1", "2"]
    assert all("x-sim-seed" not in headers for headers in server.headers)


async def test_headers_of_a_run_join_those_of_the_board() -> None:
    async with serving(*answer("a")) as server:
        b = board(server, headers={"X-Class": "7b", "X-Row": "1"})
        await b.run(requests=1, headers={"X-Row": "2"})
    assert (server.headers[0]["x-class"], server.headers[0]["x-row"]) == ("7b", "2")


async def test_without_a_prompt_no_two_streams_ask_the_same() -> None:
    async with serving(*answer("a")) as server:
        run = await board(server).run(requests=3, prompt_words=40)
    prompts = [request["messages"][0]["content"] for request in server.requests]
    assert len(set(prompts)) == 3
    assert [len(prompt.split()) for prompt in prompts] == [40, 40, 40]
    assert run.settings.prompt_words == 40


def test_a_prompt_is_never_shorter_than_its_question() -> None:
    assert len(make_prompt(1)(1).split()) == len(make_prompt(14)(1).split())


# -- what fails is counted, and is no number


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        ([ROLE, event("a"), CUT], "The connection broke"),
        ([ROLE, event("a")], "ended in the middle"),
        ([ROLE, event("a"), BROKEN, *answer("b")], "not JSON"),
        ([ROLE, event("a"), b'data: {"error": {"message": "full"}}\n\n'], "sent an error: full"),
        ([ROLE, b"data: 5\n\n"], "not a chunk"),
    ],
)
async def test_a_stream_that_breaks(script: list[object], sentence: str) -> None:
    async with serving(*script) as server:
        run = await board(server).run(concurrency=1, requests=2)
    assert (run.failed, run.whole) == (2, ())
    assert all(sentence in result.error for result in run.results)
    assert not any(stats.completed for stats in run.streams)
    assert f"2 failed. {run.results[0].error}" in repr(run)


async def test_a_refusal() -> None:
    async with serving(status=429, error="Slow <b>down</b>") as server:
        b = board(server)
        run = await b.run("r", requests=3)
    assert run.failed == 3
    assert run.results[0].error == "The server answered 429: Slow <b>down</b>"
    assert "Slow &lt;b&gt;down" in draw_board(b.scene()).whole()


async def test_half_a_character_in_what_a_server_says_can_be_shown() -> None:
    async with serving(status=500, error="half \ud83d") as server:
        b = board(server)
        await b.run("r", requests=1)
    assert "half ?" in still(draw_board(b.scene()).whole(), b.text())["text/html"]
    b.csv().encode()


async def test_no_server() -> None:
    async with serving() as server:
        pass
    run = await board(server).run(requests=2)
    assert run.failed == 2
    assert "Is it running?" in run.results[0].error


async def test_stop_ends_the_streams_that_run() -> None:
    async with serving(ROLE, event("Hel"), HANG) as server:
        b = board(server)
        running = asyncio.create_task(b.run("s", concurrency=3, requests=9))
        await until(lambda: server.log.count("stream asked") == 3)
        b.stop()
        run = await running
        assert [result.error for result in run.results] == ["stopped"] * 3
        assert (run.failed, run.whole) == (0, ())
        assert "(+3 stopped)" in b.text()
        await until(lambda: server.open_connections == 0)


async def test_stop_before_the_first_stream_begins_none() -> None:
    async with serving(*answer("a")) as server:
        b = board(server)
        running = asyncio.create_task(b.run("s"))
        await until(lambda: b._loads)
        b.stop()
        assert (await running).results == ()
    assert server.requests == []
    assert b.runs == []


async def test_a_cancelled_run_keeps_what_had_come_and_closes_its_connections() -> None:
    async with serving(ROLE, event("Hel"), HANG) as server:
        b = board(server)
        running = asyncio.create_task(b.run("s", concurrency=2, requests=9))
        await until(lambda: server.log.count("stream asked") == 2)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert [len(run.results) for run in b.runs] == [2]
        await until(lambda: server.open_connections == 0)


async def test_nothing_runs_after_a_run() -> None:
    async with serving(*answer("a")) as server:
        before = asyncio.all_tasks()
        await board(server).run(requests=2)
        await until(lambda: server.open_connections == 0)
        assert not [task for task in asyncio.all_tasks() - before if "streamlib" in repr(task)]


# -- the history


async def test_runs_with_one_label_are_one_group_and_clear_forgets_them() -> None:
    async with serving(*answer("a", "b")) as server:
        b = board(server)
        for label in ("x", "y", "x"):
            await b.run(label, requests=2)
    assert [(group.summary.label, group.summary.streams) for group in b.scene().groups] == [
        ("x", 4),
        ("y", 2),
    ]
    b.clear()
    assert b.text() == "Board: no run yet"


async def test_runs_that_are_awaited_together_share_the_board() -> None:
    async with serving(*answer("a", "b")) as server:
        b = board(server)
        first, second = await asyncio.gather(b.run("x", requests=2), b.run("y", requests=2))
    assert {run.label for run in b.runs} == {"x", "y"}
    assert len(first.whole) == len(second.whole) == 2


async def test_streams_that_somebody_else_measured_can_be_added() -> None:
    async with serving(*answer("a", "b")) as server:
        b = board(server)
        measured = (await b.run("x", requests=2)).streams
    run = b.add("mine", measured)
    assert run.streams == measured
    groups = b.scene().groups
    assert [(group.summary.label, len(group.done) / 2) for group in groups] == [("x", 2), ("mine", 2)]


async def test_csv_has_a_line_for_each_stream() -> None:
    async with serving(*answer("a", "b")) as server:
        b = board(server)
        await b.run('one, "two"', requests=2, max_completion_tokens=5, headers={"X-Sim-Profile": "fast"})
        server.stream = [ROLE, event("a"), CUT]
        await b.run("broken", requests=1, max_tokens=7)
    lines = list(csv.DictReader(io.StringIO(b.csv())))
    assert [(line["run"], line["label"], line["stream"]) for line in lines] == [
        ("1", 'one, "two"', "1"),
        ("1", 'one, "two"', "2"),
        ("2", "broken", "1"),
    ]
    assert lines[0]["headers"] == "X-Sim-Profile: fast"
    assert [line["max_tokens"] for line in lines] == ["5", "5", "7"]
    assert float(lines[0]["ttft"]) == pytest.approx(b.runs[0].streams[0].ttft, rel=1e-4)
    assert "broke" in lines[2]["error"]
    assert lines[2]["completed"] == "False"


@pytest.mark.parametrize(("name", "begins"), [("b.csv", b"run,"), ("b.png", b"\x89PNG"), ("b.svg", b"<?xml")])
async def test_save(name: str, begins: bytes, tmp_path: Path) -> None:
    async with serving(*answer("a", "b")) as server:
        b = board(server)
        await b.run("x", requests=2)
    b.save(tmp_path / name)
    assert (tmp_path / name).read_bytes().startswith(begins)


def test_in_plain_python_it_is_its_table(capsys: pytest.CaptureFixture[str]) -> None:
    b = Board(model="m", base_url="http://127.0.0.1:1/v1")
    b.clear()
    b._ipython_display_()
    assert capsys.readouterr().out == "Board: no run yet\n" == f"{b!r}\n"


def test_save_as_something_else(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\.csv, \.png or \.svg"):
        Board(model="m", base_url="http://127.0.0.1:1/v1").save(tmp_path / "board.jpg")


async def test_awaited_in_plain_python_it_prints_its_table(capsys: pytest.CaptureFixture[str]) -> None:
    async with serving(*answer("a", "b")) as server:
        b = await board(server, "Hi")
    assert len(b.runs) == 1
    assert "TTFT p50 (s)" in capsys.readouterr().out


async def test_another_view_stops_a_board_of_an_earlier_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(ROLE, event("Hel"), HANG) as hanging, serving(*answer("a")) as server:
        b = board(hanging)
        running = asyncio.create_task(b.run("s", requests=2, concurrency=2))
        await until(lambda: hanging.log.count("stream asked") == 2)
        monkeypatch.setattr(view, "_running", [(-1, run) for _, run in view._running])  # an earlier cell's
        await Race("Hi", model="m", base_url=server.base_url)
        assert (await running).results[0].error == "stopped"


# -- while it runs


def test_a_stream_has_a_rate_when_a_few_tokens_have_come() -> None:
    stream = Stream(1, started=1.0)
    assert (stream.ttft(1.5), stream.rate(1.5)) == (0.5, None)
    stream.first, stream.tokens = 1.75, 3
    assert (stream.ttft(9), stream.rate(9)) == (0.75, None)
    stream.tokens = 11
    assert stream.rate(1.76) is None
    assert stream.rate(2.75) == 10
    assert stream.rate(3.75) == 5  # it sinks while nothing comes


async def test_the_scene_of_a_run_that_runs() -> None:
    async with serving(ROLE, *[event(" token")] * 8, HANG) as server:
        b = board(server)
        running = asyncio.create_task(b.run("s", requests=2, concurrency=2))
        await until(lambda: b._loads and b._loads[0].streams)
        await until(lambda: b.scene().groups[0].waiting)
        await until(lambda: len(b.scene().groups[0].streaming) / 2 == 2)
        scene = pickle.loads(pickle.dumps(b.scene()))
        assert "of 2 streams 0 ended, 2 streaming, 0 waiting" in scene.title
        b.stop()
        await running
    without = replace(scene, groups=(replace(scene.groups[0], streaming=array("d")),))
    limits = replace(without, groups=(replace(without.groups[0], faint=scene.groups[0].streaming),))
    assert marks_in(draw_board(scene).html) == marks_in(draw_board(limits).html) == 2
    assert len(b.scene().groups[0].faint) / 2 == 2


async def test_while_it_runs_the_scene_says_what_has_come_and_what_failed() -> None:
    async with serving(*answer(*[" token"] * 9)) as server:
        b = board(server)
        running = asyncio.create_task(b.run("s", requests=30, concurrency=1))
        await until(lambda: b.scene().groups and b.scene().groups[0].summary.streams)
        load = b._loads[0]
        tokens, before = 9 * len(load.results), load.clock()
        together = b.scene().groups[0].summary.together
        assert tokens / load.clock() <= together <= tokens / before
        server.stream = [ROLE, event("a"), CUT]
        await until(lambda: b.scene().groups[0].summary.failed)
        assert not running.done()
        assert re.match(r"s: \d+ failed\. ", b.scene().remarks[0])
        b.stop()
        await running


def test_rates_are_of_the_second_before() -> None:
    assert rates({0: 5, 1: 5, 4: 20}, 2.0) == (
        (0.25, 20),
        (0.5, 20),
        (0.75, 10 / 0.75),
        (1, 10),
        (1.25, 25),
        (1.5, 20),
        (1.75, 20),
        (2, 20),
    )


def test_the_tokens_of_added_streams_are_spread_over_their_chunks() -> None:
    timed = [Arrival(at, "text", "word") for at in (0.1, 0.3, 1.1)] + [Arrival(1.6, "end")]
    b = Board(model="m", base_url="http://x/v1")
    run = b.add("mine", [stream_stats(timed, usage=6), stream_stats(timed, usage=12)])
    assert run.seconds == 1.6
    assert run.rates == ((0.25, 24), (0.5, 24), (0.75, 16), (1, 12), (1.25, 12), (1.5, 6))
    assert b.scene().groups[0].rates == run.rates


# -- the embedded model


async def test_the_embedded_model_takes_other_times_for_each_stream(sim_server: str) -> None:
    b = Board("Hi", model="sim-1", base_url=sim_server, max_tokens=5, headers={"X-Sim-Profile": "fast"})
    run = await b.run(requests=4)
    assert len({round(stats.ttft, 2) for stats in run.streams}) > 1
    assert {stats.counted_by for stats in run.streams} == {"usage"}
    assert "X-Sim-Seed" not in b.csv()


async def test_how_late_it_sent_before_a_run_is_not_asked(sim_server: str) -> None:
    b = Board("Hi", model="sim-1", base_url=sim_server, max_tokens=5)
    await b.run(requests=6, headers={"X-Sim-Profile": "fast"})
    await b.run(requests=1, headers={"X-Sim-Profile": "fast"})
    async with b.ask.client() as client:
        stats = (await client.get(client.base_url.join("../sim/stats"))).json()
    assert stats["schedule_lag"]["frames"] < 20  # the six streams before sent 40


@pytest.mark.parametrize(("share", "valid"), [(0.0, True), (0.09, True), (0.11, False), (50, False)])
async def test_a_run_on_a_busy_machine_is_invalid(share: float, valid: bool, sim_server: str) -> None:
    run = await Board("Hi", model="sim-1", base_url=sim_server, max_tokens=5).run(requests=3, concurrency=3)
    late = share * median(stats.itl for stats in run.streams)
    words = too_late(run, late)
    assert (words == "") == valid
    assert valid or f"{1000 * late:.1f} ms late (p99), more than 10%" in words


async def test_an_invalid_run_is_shown_without_numbers(sim_server: str) -> None:
    b = Board("Hi", model="sim-1", base_url=sim_server, max_tokens=20, headers=TYPICAL)
    run = await b.run("busy", requests=2)
    b.runs = [Run(run.label, run.settings, run.results, run.seconds, run.rates, "the machine was busy")]
    summary = b.scene().groups[0].summary
    assert (summary.streams, summary.ttft, summary.rate) == (0, (None,) * 3, (None,) * 3)
    assert b.scene().title == "1 run, 0 streams measured, 1 of the runs invalid"
    assert "busy (invalid)" in b.text()
    assert "busy: invalid, the machine was busy." in b.text()
    assert "the machine was busy" in draw_board(b.scene()).whole()
    assert ",False,sim-1," in b.csv()


def test_the_controls_make_headers_and_a_label() -> None:
    choice = Choice("m", 8, 24, 20, "slow", "status=429")
    assert choice.label == "m, 8 at once, prompt of 20 words, slow, 1 in 4 status=429"
    assert [dict(choice.headers(number)) for number in (3, 4)] == [
        {"X-Sim-Profile": "slow"},
        {"X-Sim-Profile": "slow", "X-Sim-Fault": "status=429"},
    ]
    assert Choice("m", 1, 1, 20).headers(4) == {}


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault != NONE])
def test_the_faults_to_choose_are_faults(fault: str) -> None:
    parse_faults(fault)


# -- the picture


async def test_a_mark_for_each_stream_and_letters_that_are_text() -> None:
    async with serving(*answer(*[" token"] * 9)) as server:
        b = board(server)
        assert marks_in(draw_board(b.scene()).html) == 0
        await b.run("<i>x</i>", requests=5, concurrency=1)
    picture = draw_board(b.scene()).whole()
    assert "&lt;i&gt;x&lt;/i&gt;" in picture
    assert "<i>" not in picture
    assert "time to first token, TTFT (s)</text>" in picture
    assert "output rate of a stream (tokens/s)</text>" in picture
    assert "currentColor" in picture
    assert not re.search(r"<style|<metadata|#010203|<\?xml", picture)
    assert marks_in(picture) == 5
    assert 'aria-label="one mark is one stream' in picture


def test_axes_are_not_sent_with_every_picture() -> None:
    def stats(ttft: float) -> StreamStats:
        return stream_stats([Arrival(ttft + 0.1 * n, "text", "a") for n in range(9)], usage=9)

    b = Board(model="m", base_url="http://127.0.0.1:1/v1")
    b.add("x", [stats(0.2)])
    picture = draw_board(b.scene())
    b.add("x", [stats(0.3)])  # another mark on the same axes
    again = draw_board(b.scene())
    referred = re.findall(r'<use href="#(board-[^"]+)"', picture.html)
    assert len(referred) == 2
    assert re.findall(r'<g id="(board-[^"]+)"', picture.hidden_axes()) == referred
    assert "TTFT (s)</text>" not in picture.html
    assert "TTFT (s)</text>" in picture.hidden_axes()
    assert "board-" not in picture.whole()
    assert again.html != picture.html
    assert again.hidden_axes() == picture.hidden_axes()


async def test_marks_that_look_alike_are_one_path() -> None:
    """It is most of what a frame sends to the browser, and of what it does there."""
    async with serving(*answer(*[" token"] * 9)) as server:
        b = board(server)
        await b.run("x", requests=20, concurrency=1)
    html = draw_board(b.scene()).html
    (row,) = re.findall(r'<path d="([^"]+)" fill="none" stroke="#0072b2" stroke-width="7.5"', html)
    assert re.fullmatch(r"(M\d+(\.\d)? \d+(\.\d)?h0){20}", row)


async def test_streams_that_have_ended_are_worked_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[int] = []
    add = Tally.add

    def noted(tally: Tally, result: Result, valid: bool = True) -> None:
        looked_at.append(result.number)
        add(tally, result, valid)

    monkeypatch.setattr(Tally, "add", noted)
    async with serving(*answer(*[" token"] * 9)) as server:
        b = board(server)
        running = asyncio.create_task(b.run("x", requests=5, concurrency=1))
        while not running.done():
            shown = b.scene()
            assert sum(group.summary.streams for group in shown.groups) == len(looked_at)
            assert sum(len(group.done) / 2 for group in shown.groups) == len(looked_at)
            await asyncio.sleep(0.001)
        assert len(set(looked_at)) == len(looked_at)
        looked_at.clear()
        await b.run("y", requests=2)
        assert [group.summary.streams for group in b.scene().groups] == [5, 2]
        assert b.scene() == b.scene()
        assert sorted(looked_at) == [1, 1, 2, 2, 3, 4, 5]  # once, now that the runs are over
        looked_at.clear()
        await b.run("x", requests=3)
    assert [group.summary.streams for group in b.scene().groups] == [8, 2]
    assert [len(group.done) / 2 for group in b.scene().groups] == [8, 2]
    assert len(looked_at) == 8
    b.runs[1] = replace(b.runs[1], invalid="late")
    assert [group.summary.streams for group in b.scene().groups] == [8, 0]
    b.clear()
    await asyncio.sleep(0)
    assert b.scene().groups == ()


async def test_the_same_scene_is_the_same_picture() -> None:
    async with serving(*answer("a", "b")) as server:
        b = board(server)
        await b.run("x", requests=2)
    assert draw_board(b.scene()).whole() == draw_board(b.scene()).whole()
    assert draw_file((b.scene(), "svg")) == draw_file((b.scene(), "svg"))


def test_the_picture_drawn_in_advance_says_what_the_drawn_one_says() -> None:
    drawn = draw_board(Board(model="m", base_url="http://x/v1").scene()).whole()
    words = re.compile(r">([^<>]+)<")
    assert words.findall(EMPTY.strip()) == words.findall(drawn)
    assert "<svg" in EMPTY


@pytest.mark.parametrize(
    ("value", "end"),
    [(0, 0.5), (0.51, 0.6), (0.6, 0.6), (0.61, 0.8), (0.99, 1), (1.2, 1.5), (81, 100), (1234, 1500)],
)
def test_axes_end_at_round_numbers(value: float, end: float) -> None:
    assert nice(value, 0.5) == pytest.approx(end)
