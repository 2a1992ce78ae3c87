"""A live line for each of many answers, without a notebook: what it keeps and what it draws."""

from __future__ import annotations

import asyncio
from html import escape
from time import perf_counter

import pytest

from streamlib.batch import Result, run_batch
from streamlib.tokens import TokenUsage
from streamlib.widgets import Lines
from streamlib.widgets.lines import SHOWN, draw_lines


async def three_answers(view: Lines) -> str:
    for name in ("a", "b"):
        view.begin(name)
    view.write("a", "Hello ")
    view.write("a", "there")
    view.write("b", "<b>half")
    view.end("a", note="2 tokens")
    view.end("b", ConnectionError("cut <here>"))
    return "all told"


async def test_each_line_has_its_words_and_how_it_ended(capsys: pytest.CaptureFixture[str]) -> None:
    view = await Lines("abc", three_answers)
    assert view.result == "all told"
    a, b, c = view.text().splitlines()
    assert "2 tokens  Hello there" in a
    assert "✗ ConnectionError: cut <here>" in b
    assert "not asked" in c
    assert capsys.readouterr().out.strip() == view.text()


async def test_a_picture_can_be_drawn_at_every_moment() -> None:
    pictures = []

    async def work(view: Lines) -> None:
        pictures.append(draw_lines(view.scene(perf_counter())))
        view.begin("a")
        pictures.append(draw_lines(view.scene(perf_counter())))
        view.write("a", "")
        view.write("a", "some words")
        pictures.append(draw_lines(view.scene(perf_counter())))
        view.end("a")

    view = await Lines(["a"], work)
    pictures.append(view.html(None))
    assert ["some words" in picture for picture in pictures] == [False, False, True, True]
    assert ["1 of 1" in picture for picture in pictures] == [False, False, False, True]


async def test_what_a_model_or_a_server_wrote_is_escaped() -> None:
    evil = "<img src=x onerror=alert(1)>"

    async def work(view: Lines) -> None:
        view.begin(evil)
        view.write(evil, evil)
        assert evil not in draw_lines(view.scene(perf_counter()))
        view.end(evil, ValueError(evil), evil)

    view = await Lines([evil], work)
    assert evil not in view.html(None)
    assert escape(evil) in view.html(None)


async def test_of_a_long_answer_the_end_is_seen_while_it_arrives_and_the_beginning_after() -> None:
    async def work(view: Lines) -> None:
        view.begin("a")
        view.write("a", "first " + "x" * SHOWN)
        view.write("a", " last")
        live = draw_lines(view.scene(perf_counter()))
        assert "last" in live
        assert "first x" not in live
        view.end("a")

    view = await Lines(["a"], work)
    assert "first x" in view.html(None)
    assert len(view.scene(None).lines[0].tail) <= SHOWN


async def test_what_is_under_way_when_it_is_stopped_is_unfinished() -> None:
    async def work(view: Lines) -> None:
        view.begin("a")
        view.stop()
        await asyncio.sleep(3600)

    view = await Lines(["a", "b"], work)
    assert view.stopped
    assert "unfinished" in view.text()
    assert "0 of 2" in view.html(None)
    assert "not asked" in view.text()


async def test_an_error_of_the_work_is_raised() -> None:
    async def work(view: Lines) -> None:
        raise KeyError("a misspelled name")

    with pytest.raises(KeyError, match="a misspelled name"):
        await Lines(["a"], work)


async def test_it_takes_what_a_batch_tells(capsys: pytest.CaptureFixture[str]) -> None:
    async def ask(prompt: object):
        yield f"{prompt}, "
        if prompt == "bad":
            raise ConnectionError("cut")
        yield "in short"

    jobs = {"a": "good", "b": "bad"}

    def work(view: Lines):
        return run_batch(
            jobs, ask=ask, progress=False, on_start=view.begin, on_text=view.write, on_result=view.keep
        )

    view = await Lines(jobs, work)
    assert [result.state for result in view.result] == ["done", "failed"]
    a, b = view.text().splitlines()
    assert "tokens  good, in short" in a
    assert "✗ ConnectionError: cut" in b


async def test_an_answer_from_before_is_shown_without_times() -> None:
    async def work(view: Lines) -> None:
        view.keep(Result("a", "done", "an old answer", TokenUsage(1, 3)))

    view = await Lines(["a"], work)
    assert "from before: an old answer" in view.text()
    assert "an old answer" in view.html(None)
