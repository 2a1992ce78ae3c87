"""The sentence for each thing that can be wrong, word for word: input, expected, got, likely cause."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable
from contextlib import aclosing
from typing import Any

import pytest

from streamlib.checker import Case, Exercise, Source, judge

from . import samples


async def letters(stream: Any) -> Any:
    """The reference of most rows: every piece in capitals."""
    async with aclosing(stream):
        async for piece in stream:
            yield piece.upper()


async def count(stream: Any) -> int:
    """A coroutine as a reference."""
    return sum([1 async for _ in stream])


def words(text: str) -> Any:
    """A generator as a reference."""
    yield from text.split()


def number(text: str) -> int:
    """A plain function as a reference."""
    return int(text)


async def one_too_few(stream: Any) -> Any:
    values = [piece.upper() async for piece in stream]
    for value in values[:-1]:
        yield value


async def one_too_many(stream: Any) -> Any:
    async for piece in stream:
        yield piece.upper()
    yield "!"


async def lower(stream: Any) -> Any:
    async for piece in stream:
        yield piece


async def third_is_late(stream: Any) -> Any:
    index = 0
    async for piece in stream:
        index += 1
        if index == 3:
            await asyncio.sleep(0.05)
        yield piece.upper()


async def late_and_together(stream: Any) -> Any:
    pieces = [piece async for piece in stream]
    for piece in pieces:
        yield piece.upper()


async def ends_late(stream: Any) -> Any:
    async for piece in stream:
        yield piece.upper()
    await asyncio.sleep(1)


async def breaks_off(stream: Any) -> Any:
    async for piece in stream:
        yield piece.upper()
        raise KeyError("k")


async def breaks_off_without_words(stream: Any) -> Any:
    async for piece in stream:
        yield piece.upper()
        raise KeyError


async def coroutine_that_breaks(stream: Any) -> Any:
    raise KeyError("k")


async def early(stream: Any) -> Any:
    for piece in "abc":
        yield piece.upper()


async def early_without_await(stream: Any) -> Any:
    asyncio.sleep(0.1)  # type: ignore[unused-coroutine]
    for piece in "abc":
        yield piece.upper()


async def waits_for_ever(stream: Any) -> Any:
    async for piece in stream:
        yield piece.upper()
        await asyncio.Event().wait()


async def goes_on_and_on(stream: Any) -> Any:
    while True:
        yield 1


async def never(stream: Any) -> Any:
    await asyncio.Event().wait()


async def sleeps(stream: Any) -> int:
    time.sleep(0.25)  # noqa: ASYNC251
    return sum([1 async for _ in stream])


async def counts_early(stream: Any) -> int:
    return 3


async def forgets_to_await(stream: Any) -> Any:
    count(stream)  # type: ignore[unused-coroutine]
    return 4


async def two_tasks(stream: Any) -> int:
    for _ in range(2):
        asyncio.create_task(asyncio.sleep(100))  # noqa: RUF006
    return await count(stream)


ABC = Case(Source("abc"), note="three pieces")
CALL = "For `letters(<stream: 'a', 'b', 'c'>)` (three pieces): "
ABCDE = Case(Source("abcde"))
FIVE = "For `letters(<stream: 'a', 'b', 'c', 'd', 'e'>)`: "
COUNT = "For `count(<stream: 'a', 'b', 'c'>)` (three pieces): "
WORDS = Case("a b")

TABLE: list[tuple[Callable[..., Any], Case, Callable[..., Any], str]] = [
    # values of a stream
    (letters, ABC, lower, CALL + "expected `['A', 'B', 'C']`, got `['a', 'b', 'c']`."),
    (letters, ABC, one_too_few, CALL + "expected `['A', 'B', 'C']`, got `['A', 'B']`."),
    (letters, ABC, one_too_many, CALL + "expected `['A', 'B', 'C']`, got `['A', 'B', 'C', '!']`."),
    (
        letters,
        ABCDE,
        one_too_few,
        FIVE + "value 5 of 5 is missing: expected `'E'`, got only 4.",
    ),
    (
        letters,
        ABCDE,
        one_too_many,
        FIVE + "expected 5 values, got 6: `'!'` is too many.",
    ),
    (
        letters,
        ABCDE,
        lower,
        FIVE + "value 1 of 5 differs: expected `'A'`, got `'a'`.",
    ),
    # instants
    (
        letters,
        ABC,
        third_is_late,
        CALL + "value 3 of 3 (`'C'`) should come out at 0.3 s, and comes out at 0.35 s. "
        "It was known before: hand it on at once.",
    ),
    (
        letters,
        ABC,
        late_and_together,
        CALL + "value 1 of 3 (`'A'`) should come out at 0.1 s, and comes out at 0.4 s. "
        "All come out together: they are collected first. `yield` each one as soon as it is known.",
    ),
    (
        letters,
        ABC,
        early,
        CALL + "value 1 of 3 (`'A'`) should come out at 0.1 s, and comes out at 0 s. "
        "It does not wait as long as it should.",
    ),
    (
        letters,
        ABC,
        early_without_await,
        CALL + "value 1 of 3 (`'A'`) should come out at 0.1 s, and comes out at 0 s. "
        "`sleep(…)` was called without `await`, so it never ran.",
    ),
    (
        letters,
        ABC,
        ends_late,
        CALL + "it should be done at 0.4 s, and is done at 1.4 s. It waits longer than it has to.",
    ),
    (count, ABC, counts_early, COUNT + "it should be done at 0.4 s, and is done at 0 s. It ends too early."),
    # errors
    (
        letters,
        ABC,
        breaks_off,
        CALL + "expected the values `['A', 'B', 'C']`, but it raised `KeyError: 'k'` in "
        'line {line}: `raise KeyError("k")`.',
    ),
    (
        letters,
        ABC,
        breaks_off_without_words,
        CALL
        + "expected the values `['A', 'B', 'C']`, but it raised `KeyError` in line {line}: `raise KeyError`.",
    ),
    (number, Case("7"), lambda text: 0 * len(text), "For `number('7')`: expected `7`, got `0`."),
    (
        number,
        Case("x"),
        lambda text: 0,
        "For `number('x')`: expected `ValueError: invalid literal for int() with base 10: 'x'`, "
        "got `0` and no error.",
    ),
    (
        number,
        Case("x"),
        lambda text: ValueError("no number"),
        "For `number('x')`: expected `ValueError: invalid literal for int() with base 10: 'x'`, "
        "got `ValueError('no number')` and no error. "
        "You return the error. `raise` it, so that nobody overlooks it.",
    ),
    (
        letters,
        Case(Source("a", error=OSError("cut"))),
        lower,
        "For `letters(<stream: 'a', then OSError>)`: expected `['A']`, got `['a']`.",
    ),
    (
        letters,
        Case(Source("", error=OSError("cut"))),
        early,
        "For `letters(<stream: then OSError>)`: expected `OSError: cut`, "
        "got the values `['A', 'B', 'C']` and no error.",
    ),
    # the kind of result
    (
        letters,
        ABC,
        count,
        CALL + "expected a stream (an async generator), got a coroutine that gives `3`. "
        "There is no `yield` in it: "
        "`async def` with `yield` makes a stream, `async def` with `return` gives one value at the end.",
    ),
    (
        letters,
        ABC,
        coroutine_that_breaks,
        CALL + "expected a stream (an async generator), got a coroutine. There is no `yield` in it: "
        "`async def` with `yield` makes a stream, `async def` with `return` gives one value at the end.",
    ),
    (
        letters,
        ABC,
        lambda stream: ["A", "B", "C"],
        CALL + "expected a stream (an async generator), got `['A', 'B', 'C']`. "
        "Write `async def`, and `yield` each value as it arrives.",
    ),
    (
        letters,
        ABC,
        lambda stream: iter("ABC"),
        CALL + "expected a stream (an async generator), got a plain generator. "
        "`async for` needs what an `async def` with `yield` gives.",
    ),
    (
        words,
        WORDS,
        lambda text: text.split(),
        "For `words('a b')`: expected an iterator that gives its values one by one, got `['a', 'b']`. "
        "`yield` each value as soon as it is known, instead of returning all of them at the end.",
    ),
    (
        words,
        WORDS,
        lambda text: [].clear(),
        "For `words('a b')`: expected an iterator that gives its values one by one, got `None`. "
        "It gives nothing back: did you forget `yield`?",
    ),
    (
        number,
        Case("7"),
        lambda text: map(int, text),
        "For `number('7')`: expected a value, got an iterator that gives its values one by one. "
        "A generator has not computed anything yet. Collect the values and `return` them.",
    ),
    (
        count,
        ABC,
        lambda stream: 3,
        COUNT + "expected a coroutine to await, got `3`. "
        "The caller writes `await`, so this must be an `async def`.",
    ),
    (
        count,
        ABC,
        letters,
        COUNT + "expected a coroutine to await, got a stream (an async generator). "
        "`return` one value at the end instead of `yield`.",
    ),
    # one value
    (
        number,
        Case("7"),
        lambda text: text,
        "For `number('7')`: expected `7`, got `'7'`. It should be of type `int`, and is of type `str`.",
    ),
    (
        number,
        Case("1"),
        lambda text: True,
        "For `number('1')`: expected `1`, got `True`. It should be of type `int`, and is of type `bool`.",
    ),
    (
        number,
        Case("7"),
        lambda text: [].clear(),
        "For `number('7')`: expected `7`, got `None`. Did you forget `return`?",
    ),
    (
        number,
        Case("7"),
        lambda text: print(int(text)),
        "For `number('7')`: expected `7`, got `None`. "
        "It prints its answer. `return` it, so that the caller can use it.",
    ),
    (
        count,
        ABC,
        forgets_to_await,
        COUNT + "expected `3`, got `4`. `count(…)` was called without `await`, so it never ran.",
    ),
    # everything else
    (
        letters,
        ABC,
        waits_for_ever,
        CALL + "it does not come to an end: after 1 value it waits for something that never comes, at "
        "line {line}: `await asyncio.Event().wait()`.",
    ),
    (
        letters,
        ABC,
        goes_on_and_on,
        CALL + "it does not come to an end: after 1,030 values it goes on and on, at line {line}: `yield 1`.",
    ),
    (
        count,
        ABC,
        never,
        COUNT + "it does not come to an end: it waits for something that never comes, at "
        "line {line}: `await asyncio.Event().wait()`.",
    ),
    (
        count,
        ABC,
        sleeps,
        COUNT + "the event loop stood still for 0.25 s in `time.sleep`. "
        "While `time.sleep` sleeps, no other stream gets a turn. Write `await asyncio.sleep(…)`.",
    ),
    (
        count,
        ABC,
        two_tasks,
        COUNT + "2 tasks it started still ran when it was done. "
        "Whoever creates a task awaits it or cancels it; `asyncio.TaskGroup` does both.",
    ),
]


async def first_two(stream: Any) -> str:
    """The reference of the rows about reading."""
    async with aclosing(stream):
        return str(await anext(stream)) + str(await anext(stream))


async def reads_all(stream: Any) -> str:
    return "".join([piece async for piece in stream][:2])


async def upper_late(stream: Any) -> Any:
    async for piece in stream:
        await asyncio.sleep(1)
        yield piece.upper()


async def one_task(stream: Any) -> int:
    asyncio.create_task(asyncio.sleep(100))  # noqa: RUF006
    return await count(stream)


def prints_and_errs(text: str) -> int:
    print(text)
    return 8


def wrong_error(text: str) -> int:
    raise KeyError(text)


def leaves_the_program(text: str) -> int:
    raise SystemExit(3)


def dawdles(text: str) -> int:
    time.sleep(2)
    return int(text)


TABLE += [
    (
        first_two,
        Case(Source("abc", at=[0.0, 0.0, 0.0])),
        reads_all,
        "For `first_two(<stream: 'a', 'b', 'c'>)`: it read 3 values from its source; 2 are enough. "
        "Stop reading when you have what you need.",
    ),
    (
        letters,
        Case(Source("a")),
        upper_late,
        "For `letters(<stream: 'a'>)`: value 1 of 1 (`'A'`) should come out at 0.1 s, "
        "and comes out at 1.1 s. It was known before: hand it on at once.",
    ),
    (
        count,
        ABC,
        one_task,
        COUNT + "a task it started still ran when it was done. "
        "Whoever creates a task awaits it or cancels it; `asyncio.TaskGroup` does both.",
    ),
    (number, Case("7"), prints_and_errs, "For `number('7')`: expected `7`, got `8`."),
    (
        number,
        Case("x"),
        wrong_error,
        "For `number('x')`: expected `ValueError: invalid literal for int() with base 10: 'x'`, "
        "but it raised `KeyError: 'x'` in line {line}: `raise KeyError(text)`.",
    ),
    (
        number,
        Case("7"),
        leaves_the_program,
        "For `number('7')`: expected `7`, but it raised `SystemExit: 3` in "
        "line {line}: `raise SystemExit(3)`. `sys.exit()` ends the whole program, the notebook's "
        "kernel too. Use `return`.",
    ),
    (
        number,
        Case("7"),
        dawdles,
        "For `number('7')`: it should be done at 0 s, and is done at 2 s. It waits longer than it has to.",
    ),
]


@pytest.mark.parametrize(("reference", "case", "answer", "message"), TABLE, ids=range(len(TABLE)))
def test_the_message(
    reference: Callable[..., Any], case: Case, answer: Callable[..., Any], message: str
) -> None:
    verdict = judge(answer, Exercise(reference, [case], samples.HINTS))
    place = verdict.message.partition("line ")[2].partition(":")[0]
    assert verdict.message == message.replace("{line}", f"line {place}".removeprefix("line "))


def test_the_line_is_the_answers_own() -> None:
    verdict = judge(breaks_off, Exercise(letters, [ABC], samples.HINTS))
    source, start = inspect.getsourcelines(breaks_off)
    offset = next(i for i, line in enumerate(source) if "raise" in line)
    assert f"line {start + offset}:" in verdict.message


def test_a_stuck_answer_is_recognised_too() -> None:
    exercise = Exercise(letters, [ABC], samples.HINTS)
    exercise.mistake("Nobody sets this event.")(waits_for_ever)

    async def other(stream: Any) -> Any:
        yield (await anext(stream)).upper()
        await asyncio.Queue().get()

    assert judge(other, exercise).mistake == "waits_for_ever"


def test_a_play_is_told_by_its_note() -> None:
    async def play(solution: Any, stage: Any) -> object:
        return solution("7")

    verdict = judge(lambda text: 8, Exercise(number, [Case(play=play, note="a seven")], samples.HINTS))
    assert verdict.message == "For `number(…)` (a seven): expected `7`, got `8`."


def test_arguments_by_name_are_shown_with_their_names() -> None:
    exercise = Exercise(number, [Case(kwargs={"text": "7"})], samples.HINTS)
    assert judge(lambda text: 8, exercise).message.startswith("For `number(text='7')`:")
    assert judge(lambda word: 7, exercise).mistake == "wrong_signature"


async def blocking_count(stream: Any) -> int:
    time.sleep(0.25)  # noqa: ASYNC251
    return await count(stream)


def emptying(values: list[int]) -> int:
    total = sum(values)
    values.clear()
    return total


def test_what_the_reference_does_is_no_fault_of_an_answer() -> None:
    """Not even blocking the loop, or changing what was passed in."""
    assert judge(blocking_count, Exercise(blocking_count, [ABC], samples.HINTS)).passed
    assert judge(emptying, Exercise(emptying, [Case([1, 2])], samples.HINTS)).passed
    assert judge(lambda values: sum(values), Exercise(emptying, [Case([1, 2])], samples.HINTS)).passed
