"""The five states, recognised mistakes, and what a verdict says."""

from __future__ import annotations

import asyncio
import functools
import random
import time
from collections.abc import Callable
from contextlib import aclosing
from time import sleep
from typing import Any

import pytest

from streamlib.checker import Case, Exercise, Source, Verdict, judge

from . import samples

# -- right -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "exercise", [samples.plain, samples.lazy, samples.waiting, samples.streaming, samples.pacing]
)
def test_the_reference_is_right(exercise: Exercise) -> None:
    verdict = judge(exercise.reference, exercise)
    assert (verdict.state, verdict.passed, verdict.mistake) == ("right", True, None)


class AsyncIteratorClass:
    """A right answer to `take` without a generator."""

    def __init__(self, stream: Any, n: int) -> None:
        self.stream, self.left = stream, n

    def __aiter__(self) -> AsyncIteratorClass:
        return self

    async def __anext__(self) -> str:
        if self.left == 0:
            await self.aclose()
            raise StopAsyncIteration
        self.left -= 1
        try:
            value: str = await anext(self.stream)
        except BaseException:
            await self.aclose()
            raise
        return value

    async def aclose(self) -> None:
        await self.stream.aclose()


def shout(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any) -> Any:
        return function(*args)

    return wrapper


class Doubler:
    def __call__(self, numbers: list[int]) -> list[int]:
        return [2 * number for number in numbers]

    def method(self, numbers: list[int]) -> list[int]:
        return [2 * number for number in numbers]


def multiply(factor: int, numbers: list[int]) -> list[int]:
    return [factor * number for number in numbers]


@pytest.mark.parametrize(
    ("answer", "exercise"),
    [
        (AsyncIteratorClass, samples.streaming),
        (shout(samples.double), samples.plain),
        (Doubler(), samples.plain),
        (Doubler().method, samples.plain),
        (functools.partial(multiply, 2), samples.plain),
        (lambda numbers: [number + number for number in numbers], samples.plain),
        (lambda numbers, extra=1: [number + number for number in numbers], samples.plain),
        (lambda count, delay: samples.ticks(count, delay), samples.pacing),
    ],
)
def test_any_callable_can_be_an_answer(answer: Callable[..., Any], exercise: Exercise) -> None:
    verdict = judge(answer, exercise)
    assert verdict.passed, verdict


# -- not attempted -----------------------------------------------------------------------------------------

STUBS = """
def f(a, b=1): pass
def f(a): ...
def f(a): "A docstring."
def f(a): return
def f(a): raise NotImplementedError
def f(a): raise NotImplementedError()
def f(a): raise NotImplementedError("write this")
def f(a): raise NotImplementedError; yield
async def f(a): pass
async def f(a): raise NotImplementedError
async def f(a): raise NotImplementedError("write this"); yield
def f(a, *, b: int = 3) -> int: "doc"; raise NotImplementedError
""".strip().splitlines()

NO_STUBS = """
def f(a): return 1
def f(a): return a
def f(a): return "text"
def f(a): raise ValueError
async def f(a): return a
async def f(a): yield a
def f(a): yield
""".strip().splitlines()


def defined(line: str) -> Callable[..., Any]:
    names: dict[str, Any] = {"__name__": "learner"}
    exec(line, names)
    function: Callable[..., Any] = names["f"]
    return function


@pytest.mark.parametrize("line", STUBS)
def test_a_stub_is_not_attempted(line: str) -> None:
    assert judge(defined(line), samples.plain).state == "not attempted"


@pytest.mark.parametrize("line", NO_STUBS)
def test_an_answer_is_attempted(line: str) -> None:
    assert judge(defined(line), samples.plain).state in ("wrong", "raised")


def test_code_above_a_left_over_raise_is_not_an_attempt_yet() -> None:
    def double(numbers: list[int]) -> list[int]:
        doubled = [2 * number for number in numbers]
        assert doubled
        raise NotImplementedError

    verdict = judge(double, samples.plain)
    assert verdict.state == "not attempted"
    assert "raise NotImplementedError" in verdict.message


def test_a_not_implemented_error_from_elsewhere_is_an_error() -> None:
    def double(numbers: list[int]) -> list[int]:
        asyncio.AbstractEventLoop().run_forever()
        return numbers

    assert judge(double, samples.plain).state == "raised"


# -- wrong -------------------------------------------------------------------------------------------------


async def collects(stream: Any, n: int) -> Any:
    async with aclosing(stream):
        values = []
        async for value in stream:
            values.append(value)
            if len(values) == n:
                break
    for value in values:
        yield value


async def leaves_open(stream: Any, n: int) -> Any:
    async for value in stream:
        yield value
        n -= 1
        if n == 0:
            return


async def reads_ahead(stream: Any, n: int) -> Any:
    queue: asyncio.Queue[Any] = asyncio.Queue()

    async def pump() -> None:
        try:
            for _ in range(n):
                await queue.put(await anext(stream))
        except BaseException as error:
            await queue.put(error)
        finally:
            await stream.aclose()

    task = asyncio.create_task(pump())
    try:
        for _ in range(n):
            value = await queue.get()
            if isinstance(value, BaseException):
                raise value
            yield value
    finally:
        task.cancel()


async def leaves_a_task(stream: Any, n: int) -> Any:
    asyncio.create_task(asyncio.sleep(100))  # noqa: RUF006
    async for value in samples.take(stream, n):
        yield value


async def swallows(stream: Any, n: int) -> Any:
    try:
        async for value in samples.take(stream, n):
            yield value
    except asyncio.CancelledError:
        pass


async def no_yield(stream: Any, n: int) -> Any:
    return [value async for value in samples.take(stream, n)]


async def stream_in_coroutine(stream: Any, n: int) -> Any:
    return samples.take(stream, n)


def not_async(stream: Any, n: int) -> Any:
    yield "a"
    yield "b"


async def no_await(count: int, delay: float) -> Any:
    for number in range(count):
        asyncio.sleep(delay)  # type: ignore[unused-coroutine]
        yield number


async def blocks(count: int, delay: float) -> Any:
    for number in range(count):
        time.sleep(delay)  # noqa: ASYNC251
        yield number


async def blocks_by_imported_name(count: int, delay: float) -> Any:
    for number in range(count):
        sleep(delay)  # noqa: ASYNC251
        yield number


def changes_input(numbers: list[int]) -> list[int]:
    answer = [2 * number for number in numbers]
    numbers.clear()
    return answer


def no_return(numbers: list[int]) -> None:
    [2 * number for number in numbers]


def prints(numbers: list[int]) -> None:
    print([2 * number for number in numbers])


def yields(numbers: list[int]) -> Any:
    for number in numbers:
        yield 2 * number


async def needless_async(numbers: list[int]) -> list[int]:
    return [2 * number for number in numbers]


def a_list_not_an_iterator(lines: Any) -> list[int]:
    return [len(line) for line in lines]


def collects_lines(lines: Any) -> Any:
    yield from [len(line) for line in lines]


def plain_joined(stream: Any, limit: int) -> str:
    return "abcd"


async def yields_not_returns(stream: Any, limit: int) -> Any:
    async for piece in stream:
        yield piece


async def returns_late(stream: Any, limit: int) -> str:
    text = await samples.joined(stream, limit)
    await asyncio.sleep(1)
    return text


@pytest.mark.parametrize(
    ("answer", "exercise", "mistake"),
    [
        (collects, samples.streaming, "collects_first"),
        (leaves_open, samples.streaming, "leaves_source_open"),
        (reads_ahead, samples.streaming, "reads_ahead"),
        (leaves_a_task, samples.streaming, "leaves_tasks_behind"),
        (swallows, samples.streaming, "swallows_cancellation"),
        (no_yield, samples.streaming, "forgot_yield"),
        (stream_in_coroutine, samples.streaming, "superfluous_async"),
        (not_async, samples.streaming, "forgot_async"),
        (no_await, samples.pacing, None),
        (blocks, samples.pacing, "blocks_the_loop"),
        (blocks_by_imported_name, samples.pacing, "blocks_the_loop"),
        (changes_input, samples.plain, "changes_its_input"),
        (no_return, samples.plain, "forgot_return"),
        (prints, samples.plain, "printed"),
        (yields, samples.plain, "yield_instead_of_return"),
        (needless_async, samples.plain, "superfluous_async"),
        (a_list_not_an_iterator, samples.lazy, "forgot_yield"),
        (collects_lines, samples.lazy, "collects_first"),
        (plain_joined, samples.waiting, "forgot_async"),
        (yields_not_returns, samples.waiting, "yield_instead_of_return"),
        (returns_late, samples.waiting, None),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_mistake_any_function_can_have_is_told(
    answer: Callable[..., Any], exercise: Exercise, mistake: str | None
) -> None:
    verdict = judge(answer, exercise)
    assert (verdict.state, verdict.mistake) == ("wrong", mistake), verdict


def test_a_forgotten_await_is_named() -> None:
    assert "`sleep(…)` was called without `await`" in judge(no_await, samples.pacing).message


@pytest.mark.parametrize(
    "line",
    [
        "def f(): return []",
        "def f(a, b): return a",
        "def f(*, numbers): return []",
        "async def f(a, b): yield",
    ],
)
def test_a_wrong_signature_is_told(line: str) -> None:
    verdict = judge(defined(line), samples.plain)
    assert (verdict.state, verdict.mistake) == ("wrong", "wrong_signature")
    assert line.removeprefix("async ").partition(" ")[2].partition(":")[0] in verdict.message


def test_a_message_has_input_expected_got_and_note() -> None:
    def double(numbers: list[int]) -> list[int]:
        return [abs(2 * number) for number in numbers]

    message = judge(double, samples.plain).message
    assert message == "For `double([-1])` (a negative number): expected `[-2]`, got `[2]`."


# -- recognised mistakes -----------------------------------------------------------------------------------


def test_a_named_mistake_is_recognised_in_other_words() -> None:
    def double(numbers: list[int]) -> list[int]:
        return list(map((2).__add__, numbers))

    verdict = judge(double, samples.plain)
    assert verdict.mistake == "adds_two"
    assert verdict.message.endswith("Adding two is not doubling.")


def test_a_named_mistake_wins_over_a_general_one() -> None:
    async def take(stream: Any, n: int) -> Any:
        buffer = []
        async for value in stream:
            buffer.append(value)
        for value in buffer[:n]:
            yield value

    assert judge(take, samples.streaming).mistake == "reads_everything_first"


def test_another_wrong_answer_is_not_taken_for_a_named_mistake() -> None:
    def double(numbers: list[int]) -> list[int]:
        return [3 * number for number in numbers]

    assert judge(double, samples.plain).mistake is None


def test_of_two_mistakes_that_fit_the_one_that_agrees_more_is_meant() -> None:
    def half(x: float) -> float:
        return x / 2

    exercise = Exercise(half, [Case(4), Case(3), Case(5)], samples.HINTS)

    @exercise.mistake("zero")
    def zero(x: float) -> float:
        return x / 2 if x == 4 else 1

    @exercise.mistake("floor")
    def floor(x: float) -> float:
        return x // 2

    assert judge(lambda x: int(x / 2), exercise).mistake == "floor"
    assert judge(lambda x: [2, 1, 1][int(x) % 4 % 3], exercise).state == "wrong"


def test_a_mistake_that_raises_is_recognised() -> None:
    def first(values: list[int]) -> int | None:
        return values[0] if values else None

    exercise = Exercise(first, [Case([1]), Case([])], samples.HINTS)

    @exercise.mistake("There may be none.")
    def no_guard(values: list[int]) -> int:
        return values[0]

    verdict = judge(lambda values: values[-1], exercise)
    assert (verdict.state, verdict.mistake) == ("raised", "no_guard")


# -- raised ------------------------------------------------------------------------------------------------


def test_an_exception_is_reported_with_its_input_and_the_learners_line() -> None:
    def double(numbers: list[int]) -> list[int]:
        return [numbers[0] * 2, numbers[1] * 2]

    verdict = judge(double, samples.plain)
    assert verdict.state == "raised"
    assert (
        "For `double([])`: expected `[]`, but it raised `IndexError: list index out of range`"
        in verdict.message
    )
    assert "`return [numbers[0] * 2, numbers[1] * 2]`" in verdict.message


def test_the_error_of_the_source_must_come_through_after_the_partial_output() -> None:
    async def take(stream: Any, n: int) -> Any:
        try:
            async for value in samples.take(stream, n):
                yield value
        except ConnectionError:
            pass

    verdict = judge(take, samples.streaming)
    assert verdict.state == "wrong"
    assert "expected `ConnectionError: cut`" in verdict.message
    assert "the source breaks" in verdict.message


def test_a_subclass_of_the_expected_error_will_do() -> None:
    def number(text: str) -> int:
        raise LookupError(text)

    exercise = Exercise(number, [Case("x")], samples.HINTS)
    assert judge(lambda text: {}[text], exercise).passed
    assert judge(lambda text: [][0], exercise).passed
    assert judge(lambda text: 1 / 0, exercise).state == "raised"
    assert judge(lambda text: 1, exercise).state == "wrong"


# -- values ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expected", "got", "same"),
    [
        (1, 1, True),
        (1, True, False),
        (True, 1, False),
        (1, 1.0, True),
        (0.1 + 0.2, 0.3, True),
        (10**9, 10**9 + 1, False),
        (1.0, 1.1, False),
        ("1", 1, False),
        (b"a", "a", False),
        ([1], (1,), False),
        ([1, 2], [1], False),
        ({"a": [1]}, {"a": [1]}, True),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
        ({"a": 1}, {"a": True}, False),
        (None, "", False),
        (None, None, True),
        ({1, 2}, {2, 1}, True),
        (float("nan"), float("nan"), False),
    ],
)
def test_when_values_are_the_same(expected: object, got: object, same: bool) -> None:
    exercise = Exercise(defined_as(expected), [Case()], samples.HINTS)
    assert judge(defined_as(got), exercise).passed is same


def defined_as(value: object) -> Callable[[], object]:
    def answer() -> object:
        holder = [value]
        return holder[0]

    return answer


def test_a_value_yielded_and_changed_afterwards_counts_as_it_was() -> None:
    def growing(n: int) -> Any:
        for k in range(n):
            yield list(range(k))

    def same_list(n: int) -> Any:
        values: list[int] = []
        for k in range(n):
            yield values
            values.append(k)

    assert judge(same_list, Exercise(growing, [Case(3)], samples.HINTS)).passed


# -- the same again ----------------------------------------------------------------------------------------


def test_an_identical_answer_gets_an_identical_verdict() -> None:
    def double(numbers: list[int]) -> list[int]:
        return [number + random.randrange(1000) for number in numbers]

    first, second = judge(double, samples.plain), judge(double, samples.plain)
    assert repr(first) == repr(second)
    assert first.state == "wrong"


def test_the_random_numbers_of_the_caller_are_left_alone() -> None:
    random.seed(7)
    expected = random.random()
    random.seed(7)
    judge(samples.double, samples.plain)
    assert random.random() == expected


async def test_it_works_inside_a_running_loop() -> None:
    assert judge(samples.take, samples.streaming).passed
    assert asyncio.get_running_loop().is_running()


def test_it_works_in_another_thread() -> None:
    import threading

    verdicts: list[Verdict] = []
    thread = threading.Thread(target=lambda: verdicts.append(judge(samples.take, samples.streaming)))
    thread.start()
    thread.join(60)
    assert verdicts[0].passed


def test_printing_is_captured_and_shown_in_the_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    def double(numbers: list[int]) -> list[int]:
        print("got", numbers)
        return [2 * number for number in numbers]

    verdict = judge(double, samples.plain)
    assert verdict.passed
    assert "got [1, 2]" in repr(verdict)
    assert capsys.readouterr() == ("", "")


def test_only_the_beginning_of_endless_printing_is_kept() -> None:
    def double(numbers: list[int]) -> list[int]:
        for _ in range(1000):
            print("x" * 100)
        return [2 * number for number in numbers]

    assert len(repr(judge(double, samples.plain))) < 4000


def test_time_is_real_again_after_a_check() -> None:
    before = time.sleep, time.time, time.monotonic, time.perf_counter, sleep
    judge(blocks_by_imported_name, samples.pacing)
    assert before == (time.sleep, time.time, time.monotonic, time.perf_counter, sleep)


def test_a_check_inside_a_checked_function_is_refused() -> None:
    verdict = judge(lambda numbers: judge(samples.double, samples.plain), samples.plain)
    assert verdict.state == "raised"
    assert "call it outside" in verdict.message


def test_judged_clocks_follow_virtual_time() -> None:
    async def measured(seconds: float) -> list[float]:
        clocks = [time.time, time.monotonic, time.perf_counter, asyncio.get_running_loop().time]
        before = [clock() for clock in clocks]
        await asyncio.sleep(seconds)
        return [round(clock() - start, 3) for clock, start in zip(clocks, before, strict=True)]

    async def expected(seconds: float) -> list[float]:
        await asyncio.sleep(seconds)
        return [seconds] * 4

    assert judge(measured, Exercise(expected, [Case(3600.0)], samples.HINTS)).passed


def test_a_source_that_needs_a_response_is_closed_like_one() -> None:
    async def first(stream: Any) -> str:
        async with stream:
            async for value in stream:
                return str(value)
        return ""

    async def by_close(stream: Any) -> str:
        value = await anext(stream)
        await stream.close()
        return str(value)

    exercise = Exercise(first, [Case(Source(["a", "b"], kind="response"))], samples.HINTS)
    assert judge(by_close, exercise).passed
    generator = Exercise(samples.joined, [Case(Source(["a", "b"]), 1)], samples.HINTS)
    assert judge(lambda stream, limit: by_close(stream), generator).state == "raised"  # it has no `close`


def test_asyncio_run_inside_an_answer_gets_its_own_word() -> None:
    async def work() -> int:
        return 1

    verdict = judge(lambda numbers: [asyncio.run(work())], samples.plain)
    assert verdict.state == "raised"
    assert "`await` the coroutine instead" in verdict.message


def test_an_iterable_object_is_a_value_not_a_stream() -> None:
    class Pair:
        def __iter__(self) -> Any:
            yield 1

        def __eq__(self, other: object) -> bool:
            return type(other).__name__ == "Pair"

    assert judge(lambda: Pair(), Exercise(lambda: Pair(), [Case()], samples.HINTS)).passed
    assert not judge(lambda: iter([1]), Exercise(lambda: Pair(), [Case()], samples.HINTS)).passed


@pytest.mark.parametrize("error", [Exception("x"), RuntimeError("x")])
def test_a_source_may_not_raise_what_a_bug_could_raise(error: Exception) -> None:
    with pytest.raises(ValueError, match="bug of the answer's own"):
        Source(["a"], error=error)


def test_a_builtin_can_be_an_answer() -> None:
    def number(text: str) -> int:
        return int(text)

    exercise = Exercise(number, [Case("7"), Case("x")], samples.HINTS)
    assert judge(int, exercise).passed
    assert judge(len, exercise).state == "wrong"


@pytest.mark.parametrize(
    "wrap",
    [
        shout,
        functools.partial,
        lambda stub: type("Callable", (), {"__call__": lambda self, numbers: None})(),
        lambda stub: type("Holder", (), {"method": lambda self, numbers: None})().method,
    ],
)
def test_a_stub_in_a_wrapper_is_still_a_stub(wrap: Callable[[Any], Any]) -> None:
    def double(numbers: list[int]) -> list[int]:
        raise NotImplementedError

    assert judge(wrap(double), samples.plain).state == "not attempted"


def test_what_is_printed_in_the_failing_case_is_shown_and_nothing_else() -> None:
    def double(numbers: list[int]) -> list[int]:
        print("got", numbers)
        return [abs(2 * number) for number in numbers]

    shown = repr(judge(double, samples.plain))
    assert "got [-1]" in shown
    assert "got [1, 2]" not in shown


def test_printing_in_no_case_shows_no_heading() -> None:
    assert "printed" not in repr(judge(samples.double, samples.plain))
