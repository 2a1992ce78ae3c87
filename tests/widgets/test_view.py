import asyncio
import os
import signal
import sys
import threading
import time
from time import perf_counter

import pytest

from streamlib.widgets import view
from streamlib.widgets.painter import painter
from streamlib.widgets.view import FRAMES_PER_SECOND, View

from .scripted import until


def draw_count(scene: tuple[int, float | None, bool]) -> str:
    frames, now, stopped = scene
    return f"frame {frames}" if now else "stopped" if stopped else "final"


class Count(View):
    """Counts its frames; receives until it is told."""

    draw = staticmethod(draw_count)

    def __init__(self) -> None:
        super().__init__()
        self.frames = 0
        self.over = asyncio.Event()

    async def receive(self) -> None:
        await self.over.wait()

    def scene(self, now: float | None) -> tuple[int, float | None, bool]:
        self.frames += 1
        return self.frames, now, self.stopped

    def text(self) -> str:
        return "all that came"


def draw_slowly(scene: object) -> str:
    time.sleep(0.1)
    return str(scene)


class Slow(Count):
    draw = staticmethod(draw_slowly)


def draw_whereabouts(scene: object) -> str:
    return str(os.getpid())


class Whereabouts(Count):
    draw = staticmethod(draw_whereabouts)


def draw_badly(scene: object) -> str:
    raise LookupError("no <colour>")


class Bad(Count):
    draw = staticmethod(draw_badly)


def draw_still(scene: str) -> str:
    return scene


class Still(View):
    """Half a second in which nothing changes."""

    draw = staticmethod(draw_still)

    async def receive(self) -> None:
        await asyncio.sleep(0.5)

    def scene(self, now: float | None) -> str:
        return "drawn once"

    def text(self) -> str:
        return "nothing"


class FakeScreen:
    def __init__(self, first_frame: str, name: str) -> None:
        self.shown = [first_frame]
        self.button = self

    def on_click(self, handler: object) -> None:
        self.click = handler

    def draw(self, frame: str) -> None:
        self.shown.append(frame)

    def freeze(self, html: str, text: str) -> None:
        self.shown.append(html)


@pytest.fixture
def cell(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """As if in a notebook; the list holds the number of the running cell."""
    number = [1]
    monkeypatch.setattr(view, "cell_number", lambda: number[0])
    monkeypatch.setattr(view, "_Screen", FakeScreen)
    return number


def tasks() -> int:
    return len(asyncio.all_tasks()) - 1  # without the test's own


async def test_awaiting_gives_the_view_and_prints_the_text_outside_a_notebook(
    capsys: pytest.CaptureFixture[str],
) -> None:
    count = Count()
    count.over.set()
    assert await count is count
    assert capsys.readouterr().out == "all that came\n"
    assert repr(count) == "all that came"
    assert not count.stopped


async def test_frames_are_drawn_while_receive_waits_and_no_faster_than_the_cap(cell: list[int]) -> None:
    count = Count()
    began = perf_counter()
    count.start()
    await until(lambda: count.frames > 5)
    assert count.frames <= FRAMES_PER_SECOND * (perf_counter() - began) + 2
    count.over.set()
    await count


async def test_a_slow_frame_makes_the_next_one_later(cell: list[int]) -> None:
    slow = Slow()
    began = perf_counter()
    slow.start()
    await until(lambda: slow.frames >= 5)
    slow.over.set()
    await slow
    assert slow.frames <= (perf_counter() - began) / 0.2 + 4  # each costs 0.1 s and then 0.1 s of rest


async def test_pictures_are_drawn_by_the_painter_but_for_the_first(cell: list[int]) -> None:
    view = Whereabouts()
    view.start()
    await until(lambda: view.frames > 3)
    view.over.set()
    await view
    here, *others = view._screen.shown
    assert here == str(os.getpid())
    assert set(others) == {str(painter().pid)}


async def test_the_first_picture_is_shown_before_anything_is_received(cell: list[int]) -> None:
    count = Count()
    count.start()
    assert count._screen.shown == ["frame 1"]
    count.stop()
    await count


async def test_a_slow_drawing_does_not_hold_up_receiving(cell: list[int]) -> None:
    slow = Slow()
    slow.html = lambda now: "first"  # this one is drawn here
    slow.start()
    await until(lambda: slow.frames >= 2)
    loop, turns = asyncio.get_running_loop(), 0
    end = loop.time() + 0.5
    while loop.time() < end:
        await asyncio.sleep(0.005)
        turns += 1
    assert turns > 20  # of 100; were it drawn here, five pictures would leave no time at all
    slow.stop()
    await slow


async def test_a_drawing_that_fails_is_told_and_receiving_goes_on(cell: list[int]) -> None:
    bad = Bad()
    bad.start()
    await until(lambda: len(bad._screen.shown) >= 2)
    assert not bad._task.done()
    bad.over.set()
    await bad
    first, moving, *_, final = bad._screen.shown
    for picture in (first, moving, final):
        assert "could not be drawn: LookupError: no &lt;colour&gt;" in picture
    assert "in draw_badly" in moving
    assert "all that came" in final
    assert "all that came" not in moving


async def test_a_painter_that_dies_costs_no_picture(cell: list[int]) -> None:
    view = Whereabouts()
    view.start()
    await until(lambda: len(view._screen.shown) >= 2)
    os.kill(painter().pid, signal.SIGKILL)
    view.over.set()
    await view
    assert view._screen.shown[-1] == str(painter().pid)


async def test_where_there_is_no_process_the_pictures_are_drawn_here(
    cell: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    painter().close()
    monkeypatch.setattr(sys, "platform", "emscripten")
    view = Whereabouts()
    view.start()
    await until(lambda: view.frames > 3)
    view.over.set()
    await view
    assert set(view._screen.shown) == {str(os.getpid())}
    painter().close()


async def test_stopped_twice_it_still_leaves_a_picture(cell: list[int]) -> None:
    slow = Slow()
    slow.html = lambda now: "drawn here"
    slow.start()
    await until(lambda: slow.frames >= 2)
    slow.stop()
    await asyncio.sleep(0.02)  # the last picture is being drawn
    slow.stop()
    await slow
    assert slow._screen.shown[-1] == "drawn here"
    assert tasks() == 0


async def test_the_final_picture_is_the_last_and_no_frame_follows(cell: list[int]) -> None:
    count = Count()
    count.over.set()
    await count
    assert count._screen.shown[-1] == "final"
    frames = count.frames
    await asyncio.sleep(3 / FRAMES_PER_SECOND)
    assert count.frames == frames
    assert tasks() == 0


async def test_stop_ends_it_and_the_cell_goes_on(cell: list[int]) -> None:
    count = Count()
    asyncio.get_running_loop().call_later(0.05, count.stop)
    await count
    assert count.stopped
    assert count._screen.shown[-1] == "stopped"
    assert tasks() == 0


async def test_stop_before_it_has_begun(cell: list[int]) -> None:
    count = Count()
    count.start()
    count.stop()
    await count
    assert count.stopped
    assert count._screen.shown[-1] == "stopped"


async def test_the_stop_button_may_be_clicked_in_another_thread(cell: list[int]) -> None:
    class Watched(Count):
        def stop(self) -> None:
            self.stopped_in = threading.current_thread()
            super().stop()

    count = Watched()
    count.start()
    await asyncio.to_thread(count._screen.click, None)
    await count
    assert count.stopped
    assert count.stopped_in is threading.main_thread()


async def test_an_interrupt_of_the_cell_ends_the_view_and_reaches_the_cell(cell: list[int]) -> None:
    count = Count()
    waiting = asyncio.ensure_future(count._wait())
    await until(lambda: count.frames > 1)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError, match="Count was interrupted"):
        await waiting
    assert count._screen.shown[-1] == "stopped"
    assert tasks() == 0


async def test_an_exception_reaches_the_cell_and_the_view_is_frozen(cell: list[int]) -> None:
    class Broken(Count):
        async def receive(self) -> None:
            raise KeyError("x")

    broken = Broken()
    with pytest.raises(KeyError):
        await broken
    assert broken._screen.shown[-1] == "final"
    assert tasks() == 0


async def test_it_runs_once(cell: list[int]) -> None:
    count = Count()
    assert count.start() is count.start()
    count.over.set()
    await count
    frames = count.frames
    assert await count is count
    assert count.frames == frames


async def test_a_view_of_an_earlier_cell_stops_when_another_begins(cell: list[int]) -> None:
    old, beside, new = Count(), Count(), Count()
    old.start()
    beside.start()
    cell[0] += 1
    new.start()
    async with asyncio.timeout(30):
        await old
        await beside
    assert old.stopped
    assert beside.stopped
    assert not new.stopped
    new.over.set()
    await new


async def test_views_of_one_cell_run_side_by_side(cell: list[int]) -> None:
    first, second = Count(), Count()
    asyncio.get_running_loop().call_later(0.05, lambda: (first.over.set(), second.over.set()))
    await asyncio.gather(first, second)
    assert not first.stopped
    assert not second.stopped


async def test_as_the_value_of_a_cell_it_starts(cell: list[int]) -> None:
    count = Count()
    count._ipython_display_()
    assert tasks() == 1
    count.over.set()
    await count


def test_its_repr_before_it_has_begun_says_await() -> None:
    assert "await" in repr(Count())


def test_half_a_surrogate_pair_can_be_sent() -> None:
    assert view._sendable("a\ud83db").encode() == b"a?b"
