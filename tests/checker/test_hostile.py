"""Whatever a learner's function does, a check ends, the kernel lives and the next check works."""

from __future__ import annotations

import asyncio
import functools
import gc
import itertools
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from streamlib.checker import Case, Exercise, judge
from streamlib.checker.clock import Clock, VirtualLoop
from streamlib.checker.guard import _Worker

from . import samples

REAL = {"sleep": time.sleep}  # in a dictionary the judge does not find it
GATE = threading.Event()


@pytest.fixture(autouse=True)
def nobody_is_left_behind() -> Iterator[None]:
    """A thread that a test leaves in a C call returns from it before the next test."""
    GATE.clear()
    yield
    GATE.set()
    for thread in threading.enumerate():
        while isinstance(thread, _Worker) and thread.may_print():
            thread.join(0.05)


def endless_loop(numbers: Any) -> Any:
    while True:
        pass


def swallows_everything(numbers: Any) -> Any:
    while True:
        try:
            while True:
                pass
        except BaseException:
            continue


def swallows_everything_three_times(numbers: Any) -> Any:
    while True:
        try:
            try:
                while True:
                    try:
                        numbers = [*numbers]
                    except BaseException:
                        numbers = []
            except BaseException:
                continue
        except BaseException:
            print("still here")


def recursion(numbers: Any) -> Any:
    return recursion(numbers)


def sleeps_virtually(numbers: Any) -> Any:
    time.sleep(100)
    return [2 * number for number in numbers]


def blocks_in_c(numbers: Any) -> Any:
    GATE.wait()


def sleeps_for_real(numbers: Any) -> Any:
    REAL["sleep"](1.5)
    print("awake again")


def piles_up(numbers: Any) -> Any:
    pile = []
    while True:
        pile.append(bytes(100_000))


def one_huge_object(numbers: Any) -> Any:
    return bytes(10**13)


def prints_without_end(numbers: Any) -> Any:
    while True:
        print("x" * 1000)


def asks(numbers: Any) -> Any:
    return input("numbers? ")


def exits(numbers: Any) -> Any:
    sys.exit(1)


def interrupts(numbers: Any) -> Any:
    raise KeyboardInterrupt


def cancels(numbers: Any) -> Any:
    raise asyncio.CancelledError


def own_base_exception(numbers: Any) -> Any:
    class Unusual(BaseException):
        pass

    raise Unusual


def starts_a_loop(numbers: Any) -> Any:
    async def work() -> None:
        pass

    return [asyncio.run(work())]


def forgets_a_coroutine_in_a_circle(numbers: Any) -> Any:
    circle: list[Any] = [asyncio.sleep(1)]
    circle.append(circle)


def endless_generator(numbers: Any) -> Any:
    yield from itertools.count()


def endless_repr(numbers: Any) -> Any:
    class Value:
        def __repr__(self) -> str:
            while True:
                pass

    return [Value()]


def raising_everything(numbers: Any) -> Any:
    class Value:
        def __repr__(self) -> str:
            raise ValueError

        def __eq__(self, other: object) -> bool:
            raise ValueError

        def __deepcopy__(self, memo: object) -> Any:
            raise ValueError

    return [Value()]


async def spins(stream: Any, n: int) -> Any:
    while True:  # noqa: ASYNC110
        await asyncio.sleep(0)
    yield


async def polls(stream: Any, n: int) -> Any:
    while not hasattr(stream, "finished"):  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    yield


async def swallows_cancellation(stream: Any, n: int) -> Any:
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            continue
    yield


async def never_wakes(stream: Any, n: int) -> Any:
    await asyncio.Event().wait()
    yield


async def endless_stream(stream: Any, n: int) -> Any:
    while True:
        yield "a" * 1000


async def endless_finally(stream: Any, n: int) -> Any:
    try:
        async for value in samples.take(stream, n):
            yield value
    finally:
        while True:  # noqa: ASYNC110
            await asyncio.sleep(1)


async def exits_in_a_task(stream: Any, n: int) -> Any:
    async def end() -> None:
        sys.exit(1)

    await asyncio.create_task(end())
    yield


async def exits_while_it_is_cleaned_up(stream: Any, n: int) -> Any:
    async def end() -> None:
        try:
            await asyncio.sleep(100)
        finally:
            sys.exit(1)

    task = asyncio.create_task(end())
    await asyncio.sleep(0)
    async for value in samples.take(stream, n):
        yield value
    assert not task.done()


async def stops_the_loop(stream: Any, n: int) -> Any:
    asyncio.get_running_loop().stop()
    async for value in stream:
        yield value


async def cancels_itself(stream: Any, n: int) -> Any:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    async for value in stream:
        yield value


async def blocks_the_loop_for_ever(stream: Any, n: int) -> Any:
    async for value in stream:
        yield value
    while True:
        pass


async def sleeps_for_ever(stream: Any, n: int) -> Any:
    await asyncio.sleep(float("inf"))
    yield


PLAIN = [
    (endless_loop, "stuck"),
    (swallows_everything, "stuck"),
    (swallows_everything_three_times, "stuck"),
    (recursion, "raised"),
    (sleeps_virtually, "wrong"),
    (blocks_in_c, "stuck"),
    (sleeps_for_real, "stuck"),
    (piles_up, "stuck"),
    (one_huge_object, "stuck"),
    (prints_without_end, "stuck"),
    (asks, "raised"),
    (exits, "raised"),
    (interrupts, "raised"),
    (cancels, "raised"),
    (own_base_exception, "raised"),
    (starts_a_loop, "raised"),
    (forgets_a_coroutine_in_a_circle, "wrong"),
    (endless_generator, "stuck"),
    (endless_repr, "stuck"),
    (raising_everything, "wrong"),
]
ASYNC = [
    (spins, "stuck"),
    (polls, "stuck"),
    (swallows_cancellation, "stuck"),
    (never_wakes, "stuck"),
    (endless_stream, "stuck"),
    (endless_finally, "stuck"),
    (exits_in_a_task, "raised"),
    (exits_while_it_is_cleaned_up, "wrong"),
    (stops_the_loop, "stuck"),
    (cancels_itself, "raised"),
    (blocks_the_loop_for_ever, "stuck"),
    (sleeps_for_ever, "stuck"),
]
TABLE = [(fn, samples.plain, state) for fn, state in PLAIN] + [
    (fn, samples.streaming, state) for fn, state in ASYNC
]


@pytest.mark.parametrize(
    ("answer", "exercise", "state"), TABLE, ids=lambda value: getattr(value, "__name__", "")
)
def test_it_ends_as_a_verdict_and_the_next_check_works(
    answer: Callable[..., Any], exercise: Exercise, state: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()  # what other tests left, such as their event loops, must not count
    began = time.perf_counter()
    verdict = judge(answer, exercise, seconds=0.6)
    assert verdict.state == state, verdict
    with warnings.catch_warnings(record=True) as said_later:
        warnings.simplefilter("always")
        gc.collect()
    assert [str(warning.message) for warning in said_later] == []
    assert judge(exercise.reference, exercise).passed
    assert time.perf_counter() - began < 30  # a watchdog: what would hang would hang for ever
    assert capfd.readouterr() == ("", "")


def test_the_default_bound_is_below_five_seconds() -> None:
    from streamlib.checker import guard
    from streamlib.checker.judge import SECONDS

    assert SECONDS + 0.1 + guard.INSISTING + 0.02 < 5


def test_a_slow_answer_is_not_an_endless_one() -> None:
    """Each case has the time to itself: on a slow machine all of them together take longer."""

    def double(numbers: list[int]) -> list[int]:
        REAL["sleep"](0.3)
        return [2 * number for number in numbers]

    assert judge(double, samples.plain, seconds=0.7).passed


def test_what_the_reference_loads_at_first_is_not_the_answer_s_time() -> None:
    """A tokenizer, on a new and busy machine: the answer only happens to be the first that needs it."""

    @functools.cache
    def load() -> int:
        REAL["sleep"](1.5)
        return 2

    def double(numbers: list[int]) -> list[int]:
        return [load() * number for number in numbers]

    exercise = Exercise(double, samples.plain.cases, samples.HINTS)
    assert judge(lambda numbers: [load() * number for number in numbers], exercise, seconds=0.7).passed


def test_a_mistake_that_is_slow_is_told_by_its_name() -> None:
    def double(numbers: list[int]) -> list[int]:
        if not numbers:
            REAL["sleep"](0.5)
        return [number + 2 for number in numbers]

    exercise = Exercise(samples.double, samples.plain.cases, samples.HINTS)
    for name in ("one", "two"):  # two that fit: to tell them apart, the other cases are played

        def mistaken(numbers: list[int]) -> list[int]:
            return double(numbers)

        mistaken.__name__ = name
        exercise.mistake(name)(mistaken)
    assert judge(double, exercise, seconds=0.7).mistake == "one"


def test_many_slow_cases_have_an_end_too() -> None:
    def double(numbers: list[int]) -> list[int]:
        REAL["sleep"](0.2)
        return [2 * number for number in numbers]

    exercise = Exercise(samples.double, [Case([number]) for number in range(20)], samples.HINTS)
    verdict = judge(double, exercise, seconds=0.3)
    assert verdict.state == "stuck"
    assert "still running after 1.5 seconds" in verdict.message


def test_the_stuck_line_is_named() -> None:
    assert "`while True:`" in judge(endless_loop, samples.plain, seconds=0.3).message or "`pass`" in (
        judge(endless_loop, samples.plain, seconds=0.3).message
    )
    assert "`await asyncio.Event().wait()`" in judge(never_wakes, samples.streaming).message


def test_what_a_stuck_answer_printed_is_shown() -> None:
    def double(numbers: list[int]) -> list[int]:
        print("before the loop")
        while True:
            numbers = [*numbers]

    assert "before the loop" in repr(judge(double, samples.plain, seconds=0.2))


@pytest.mark.parametrize("answer", [endless_loop, swallows_everything, swallows_everything_three_times])
def test_no_thread_goes_on_spinning(answer: Callable[..., Any]) -> None:
    judge(answer, samples.plain, seconds=0.2)
    mine = [thread for thread in threading.enumerate() if thread.name == "streamlib check"]
    frames = sys._current_frames()
    before = [frames[thread.ident or 0].f_lasti for thread in mine if thread.ident in frames]
    for _ in range(20):
        time.sleep(0.005)
        frames = sys._current_frames()
        assert before == [frames[thread.ident or 0].f_lasti for thread in mine if thread.ident in frames]


def test_a_thread_left_behind_cannot_print_any_more(capfd: pytest.CaptureFixture[str]) -> None:
    def waits_in_c(numbers: Any) -> Any:
        GATE.wait()
        while True:
            print("I am back")

    threads = set(threading.enumerate())
    assert judge(waits_in_c, samples.plain, seconds=0.2).state == "stuck"
    left = [thread for thread in threading.enumerate() if thread not in threads]
    assert len(left) == 1
    print("the notebook prints")
    GATE.set()
    left[0].join(1)
    assert capfd.readouterr() == ("the notebook prints\n", "")
    assert judge(samples.double, samples.plain).passed


def test_prints_go_to_the_real_screen_again_when_no_thread_is_left_behind() -> None:
    stdout = sys.stdout
    judge(endless_loop, samples.plain, seconds=0.2)
    judge(samples.double, samples.plain)
    assert sys.stdout is stdout


def test_what_is_known_before_time_runs_out_is_the_verdict() -> None:
    """The first case fails, a later one never ends: the judge says the first."""

    def double(numbers: list[int]) -> list[int]:
        while not numbers:
            pass
        return [number + 2 for number in numbers[:1]]

    exercise = Exercise(samples.double, samples.plain.cases, samples.HINTS)
    for name in ("one", "two"):  # two that fit: to tell them apart, the other cases are played

        def mistaken(numbers: list[int]) -> list[int]:
            return [number + 2 for number in numbers[:1]]

        mistaken.__name__ = name
        exercise.mistake(name)(mistaken)
    verdict = judge(double, exercise, seconds=0.5)
    assert (verdict.state, verdict.mistake) == ("wrong", None)
    assert "item 2" in verdict.message or "expected `[2, 4]`" in verdict.message


def test_halt_in_a_finalizer_is_nobody_s_news(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python hands it to `sys.unraisablehook`, which a notebook or a test runner may have replaced."""

    class Endless:
        def __del__(self) -> None:
            while True:
                pass

    def double(numbers: list[int]) -> list[int]:
        Endless()
        return [2 * number for number in numbers]

    told: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", told.append)
    assert judge(double, samples.plain, seconds=0.2).state == "stuck"
    assert told == []
    assert sys.unraisablehook == told.append


def test_what_a_finalizer_raises_is_printed_on_the_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    class Bad:
        def __del__(self) -> None:
            raise ValueError("in the finalizer")

    def double(numbers: list[int]) -> list[int]:
        Bad()
        return [2 * number for number in numbers]

    told: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", told.append)
    verdict = judge(double, samples.plain)
    assert verdict.passed
    assert "in the finalizer" in repr(verdict)
    assert told == []


def test_a_loop_that_was_not_closed_goes_quietly() -> None:
    """As when the guard ends a thread in the middle of closing it."""
    loop = VirtualLoop(Clock(1))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        del loop
        gc.collect()
    # Only of this loop: those that other tests left behind (nbclient leaves some) are collected here, too.
    assert [str(warning.message) for warning in said if "VirtualLoop" in str(warning.message)] == []


def test_an_interrupt_of_the_person_ends_the_answers_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    from streamlib.checker import guard

    def pressed(*args: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(guard, "_watch", pressed)
    threads = set(threading.enumerate())
    with pytest.raises(KeyboardInterrupt):
        judge(endless_loop, samples.plain)
    for thread in set(threading.enumerate()) - threads:
        thread.join(5)
    assert set(threading.enumerate()) <= threads


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux bounds the address space")
def test_a_builtin_that_never_lets_go_runs_out_of_memory() -> None:
    verdict = judge(lambda numbers: list(itertools.count()), samples.plain)
    assert verdict.state == "stuck"
    assert "memory" in verdict.message


def test_where_no_thread_can_start_the_judge_works_without(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert judge(samples.take, samples.streaming).passed
    assert judge(spins, samples.streaming).state == "stuck"


async def test_without_threads_it_works_inside_a_running_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert judge(samples.take, samples.streaming).passed
    await asyncio.sleep(0)
    assert asyncio.get_running_loop().is_running()


def test_it_works_after_nest_asyncio() -> None:
    """In a process of its own, since nest_asyncio patches asyncio for good."""
    import subprocess

    code = (
        "import asyncio, nest_asyncio\n"
        "from streamlib.checker import judge\n"
        "from tests.checker import samples\n"
        "async def main():\n"
        "    nest_asyncio.apply()\n"
        "    print(judge(samples.take, samples.streaming).state)\n"
        "asyncio.run(main())\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (run.stdout, run.stderr) == ("right\n", "")
