"""The painter process: it starts, draws, dies, comes again, and ends with its parent."""

import asyncio
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psutil
import pytest

from streamlib.widgets import painter as module
from streamlib.widgets.painter import Painter, PainterError, painter

from .scripted import until

HERE = Path(__file__).resolve().parents[2]

drawn: list[object] = []  # in the painter process: what it has drawn


def shout(scene: str) -> str:
    return scene.upper()


def whereabouts(scene: object) -> tuple[int, str]:
    return os.getpid(), threading.current_thread().name


def remember(scene: object) -> list[object]:
    drawn.append(scene)
    return drawn


def blob(size: int) -> bytes:
    return bytes(size)


def loaded(scene: object) -> list[str]:
    return list(sys.modules)


def priority(scene: object) -> int:
    return os.getpriority(os.PRIO_PROCESS, 0)


def prints(scene: str) -> str:
    print("a stray word")
    return scene


def fails(scene: object) -> str:
    raise LookupError(f"no colour for {scene}")


class Odd(Exception):
    def __init__(self, one: object, two: object) -> None:
        super().__init__(f"{one} and {two}")


def fails_oddly(scene: object) -> str:
    raise Odd(1, 2)  # cannot be read again from its pickle


def draws_a_lambda(scene: object) -> object:
    return lambda: scene


def dies(scene: int) -> str:
    os._exit(scene)


def dies_once(mark: str) -> str:
    if not Path(mark).exists():
        Path(mark).touch()
        os._exit(1)
    return "second"


def sleeps(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def interrupts(scene: str) -> str:
    signal.raise_signal(signal.SIGINT)
    return scene


def ended(pid: int) -> bool:
    """Is there no such process, or only its remains?"""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.fixture(scope="module")
def shared() -> Iterator[Painter]:
    """A painter for the tests that leave it as it was: a process starts once."""
    it = Painter()
    yield it
    it.close()


@pytest.fixture
async def one() -> AsyncIterator[Painter]:
    """A painter of the test's own."""
    it = Painter()
    yield it
    it.close()


async def test_a_picture_is_drawn_in_another_process(shared: Painter) -> None:
    pid, _ = await shared.paint(whereabouts, 1)
    assert pid == shared.pid != os.getpid()


async def test_one_process_draws_all_pictures_and_keeps_what_its_modules_hold(one: Painter) -> None:
    pictures = [await one.paint(remember, n) for n in range(3)]
    assert pictures == [[0], [0, 1], [0, 1, 2]]
    assert drawn == []


async def test_text_and_bytes_of_any_size_come_back_whole(shared: Painter) -> None:
    assert await shared.paint(shout, "sch\u00f6n \ud83d") == "SCH\u00d6N \ud83d"
    assert await shared.paint(blob, 5_000_000) == bytes(5_000_000)
    assert await shared.paint(shout, "x" * 5_000_000) == "X" * 5_000_000


async def test_the_same_scene_is_not_drawn_again(one: Painter) -> None:
    first = await one.paint(remember, "a")
    assert await one.paint(remember, "a") is first
    assert await one.paint(remember, "b") == ["a", "b"]
    assert await one.paint(remember, "a") == ["a", "b", "a"]


async def test_the_scene_is_taken_when_it_is_handed_over(one: Painter) -> None:
    scene = [1]
    painting = asyncio.ensure_future(one.paint(remember, scene))
    await asyncio.sleep(0)
    scene.append(2)
    assert await painting == [[1]]


async def test_pictures_come_in_order_one_at_a_time(shared: Painter) -> None:
    came: list[object] = []

    async def ask(scene: object) -> None:
        came.append((await shared.paint(remember, scene))[-1])

    await asyncio.gather(*map(ask, range(20)))
    assert came == list(range(20))


async def test_who_no_longer_waits_costs_no_drawing(one: Painter) -> None:
    slow = asyncio.ensure_future(one.paint(sleeps, 0.5))
    given_up = asyncio.ensure_future(one.paint(remember, "never"))
    await asyncio.sleep(0.05)
    given_up.cancel()
    await slow
    assert await one.paint(remember, "next") == ["next"]


async def test_after_a_wait_that_was_given_up_the_next_picture_is_the_right_one(shared: Painter) -> None:
    await shared.paint(shout, "a")
    slow = asyncio.ensure_future(shared.paint(sleeps, 0.3))
    await asyncio.sleep(0.1)  # it is being drawn
    slow.cancel()
    assert await shared.paint(shout, "b") == "B"


async def test_the_loop_goes_on_while_a_picture_is_drawn(shared: Painter) -> None:
    await shared.paint(shout, "ready")
    slow = asyncio.ensure_future(shared.paint(sleeps, 0.5))
    turns = 0
    while not slow.done():
        await asyncio.sleep(0.01)
        turns += 1
    assert turns > 5


async def test_an_exception_comes_back_with_a_note_and_the_process_lives(shared: Painter) -> None:
    with pytest.raises(LookupError, match="no colour for 3") as caught:
        await shared.paint(fails, 3)
    assert "test_painter.py" in caught.value.__notes__[0]
    assert "in fails" in caught.value.__notes__[0]
    pid = shared.pid
    assert await shared.paint(shout, "a") == "A"
    assert shared.pid == pid


async def test_an_exception_that_cannot_travel_comes_as_its_words(shared: Painter) -> None:
    with pytest.raises(RuntimeError, match="Odd: 1 and 2"):
        await shared.paint(fails_oddly, 1)


async def test_what_cannot_travel_is_refused_by_name(shared: Painter) -> None:
    with pytest.raises((pickle.PicklingError, AttributeError), match="lambda"):
        await shared.paint(lambda scene: scene, 1)
    with pytest.raises((pickle.PicklingError, AttributeError), match="lambda"):
        await shared.paint(draws_a_lambda, 1)
    assert await shared.paint(shout, "a") == "A"


async def test_what_a_drawing_prints_does_no_harm(shared: Painter) -> None:
    assert await shared.paint(prints, "a") == "a"
    assert await shared.paint(prints, "b") == "b"


async def test_it_starts_again_when_it_died_between_two_pictures(one: Painter) -> None:
    await one.paint(shout, "a")
    first = one.pid
    assert first
    os.kill(first, signal.SIGKILL)
    assert await one.paint(shout, "b") == "B"
    assert one.pid != first


async def test_a_picture_that_killed_it_is_tried_once_more(one: Painter, tmp_path: Path) -> None:
    assert await one.paint(dies_once, str(tmp_path / "mark")) == "second"


async def test_a_picture_that_kills_it_twice_is_an_error_and_the_next_is_drawn(one: Painter) -> None:
    with pytest.raises(PainterError, match=r"died while it drew: dies, exit code 7"):
        await one.paint(dies, 7)
    assert await one.paint(shout, "a") == "A"


async def test_a_picture_that_takes_for_ever_is_ended(one: Painter, monkeypatch: pytest.MonkeyPatch) -> None:
    await one.paint(shout, "ready")
    monkeypatch.setattr(module, "SECONDS", 0.3)
    pid = one.pid
    assert pid
    with pytest.raises(PainterError, match=r"sleeps drew for more than 0.3 s"):
        await one.paint(sleeps, 60)
    monkeypatch.setattr(module, "SECONDS", 30)
    assert await one.paint(shout, "a") == "A"
    assert ended(pid)


@pytest.mark.skipif(sys.platform == "win32", reason="no such signal")
async def test_an_interrupt_is_for_the_kernel_alone(shared: Painter) -> None:
    assert await shared.paint(interrupts, "a") == "a"
    assert shared.pid
    assert os.getpgid(shared.pid) != os.getpgid(0)


@pytest.mark.skipif(sys.platform == "win32", reason="another measure there")
async def test_receiving_comes_before_drawing(shared: Painter) -> None:
    assert await shared.paint(priority, 0) > os.getpriority(os.PRIO_PROCESS, 0)


async def test_it_imports_only_what_the_drawing_needs(one: Painter) -> None:
    from streamlib.widgets.race_picture import compare

    modules = set(await one.paint(loaded, 1))
    assert "streamlib.widgets.painter" not in modules - {module.__name__}
    with pytest.raises(TypeError):
        await one.paint(compare, 1)  # its module is imported now
    modules = set(await one.paint(loaded, 2))
    assert "streamlib.widgets.race_picture" in modules
    assert not modules & {"ipywidgets", "IPython", "httpx2", "matplotlib", "openai", "numpy"}


async def test_where_no_process_can_be_started_it_draws_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    it = Painter()
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    assert (await it.paint(whereabouts, 1))[0] == os.getpid()
    assert (await it.paint(whereabouts, 2))[0] == os.getpid()
    assert it.pid is None
    it.close()


@pytest.mark.skipif(sys.platform == "win32", reason="no such program")
async def test_where_the_process_ends_before_it_is_there_it_draws_in_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    it = Painter()
    monkeypatch.setattr(sys, "executable", shutil.which("true"))
    assert (await it.paint(whereabouts, 1))[0] == os.getpid()
    it.close()


async def test_in_a_browser_there_is_neither_process_nor_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "emscripten")
    it = Painter()
    assert await it.paint(whereabouts, 1) == (os.getpid(), threading.current_thread().name)
    assert it._thread is None


async def test_a_function_of_the_notebook_itself_is_drawn_in_place(
    one: Painter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(whereabouts, "__module__", "__main__")
    assert (await one.paint(whereabouts, 1))[0] == os.getpid()
    assert one.pid is None


async def test_closing_ends_process_and_thread(one: Painter) -> None:
    await one.paint(shout, "a")
    pid, thread = one.pid, one._thread
    assert pid
    assert thread
    one.close()
    assert ended(pid)
    assert not thread.is_alive()
    with pytest.raises(PainterError, match="closed"):
        await one.paint(shout, "b")


async def test_who_waits_when_it_is_closed_is_told(one: Painter) -> None:
    await one.paint(shout, "ready")
    waiting = [asyncio.ensure_future(one.paint(sleeps, n)) for n in (60, 61)]
    await asyncio.sleep(0.1)
    one.close()
    for each in waiting:
        with pytest.raises(PainterError):
            await each


async def test_a_kernel_has_one_and_a_new_one_when_that_is_closed() -> None:
    first = painter()
    assert painter() is first
    first.close()
    assert painter() is not first


def test_it_serves_one_loop_after_another() -> None:
    it = Painter()
    pids = {asyncio.run(it.paint(whereabouts, n))[0] for n in range(3)}
    assert pids == {it.pid}
    it.close()


PARENT = """
import asyncio, os, sys, time
sys.path.insert(0, {here!r})
from streamlib.widgets.painter import painter
from tests.widgets.test_painter import whereabouts, sleeps

async def main():
    print((await painter().paint(whereabouts, 1))[0], flush=True)
    {then}

asyncio.run(main())
"""


def parent(then: str) -> tuple[subprocess.Popen[str], int]:
    """A process with a painter, and the painter's number."""
    code = PARENT.format(here=str(HERE), then=then)
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, int(process.stdout.readline())


async def test_it_ends_with_its_parent() -> None:
    process, pid = parent("pass")
    _, complaints = await asyncio.to_thread(process.communicate, timeout=30)
    assert (process.returncode, complaints) == (0, "")
    await until(lambda: ended(pid))


async def test_it_ends_with_a_parent_that_ends_while_it_draws() -> None:
    process, pid = parent("asyncio.ensure_future(painter().paint(sleeps, 60)); await asyncio.sleep(0.1)")
    _, complaints = await asyncio.to_thread(process.communicate, timeout=30)
    assert (process.returncode, complaints) == (0, "")
    await until(lambda: ended(pid))


async def test_it_ends_with_a_parent_that_is_killed() -> None:
    process, pid = parent("time.sleep(60)")
    assert not ended(pid)
    process.kill()
    process.communicate()
    await until(lambda: ended(pid))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
async def test_it_ends_with_its_parent_though_a_forked_child_lives() -> None:
    process, pid = parent("child = os.fork() or time.sleep(60); print(child, flush=True); time.sleep(60)")
    assert process.stdout is not None
    child = int(process.stdout.readline())
    try:
        process.kill()
        await until(lambda: ended(pid))
    finally:
        os.kill(child, signal.SIGKILL)
        process.communicate()
