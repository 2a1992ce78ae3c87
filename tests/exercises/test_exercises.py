"""What holds for every exercise of every lesson, whoever wrote it."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import doctest
import inspect
import io
from collections.abc import Callable
from types import CodeType
from typing import Any

import pytest

from streamlib.checker import Exercise, Mistake, judge
from streamlib.checker.clock import Clock, VirtualLoop
from streamlib.exercises import lessons

EXERCISES = [exercise for exercises in lessons().values() for exercise in exercises.values()]
every_exercise = pytest.mark.parametrize("exercise", EXERCISES, ids=lambda exercise: exercise.name)


def stub_of(exercise: Exercise) -> Callable[..., Any]:
    """The stub as a notebook has it, made from the reference's signature and docstring."""
    reference = exercise.reference
    is_async = inspect.iscoroutinefunction(reference) or inspect.isasyncgenfunction(reference)
    signature = inspect.signature(reference)
    names = [
        parameter.replace(annotation=inspect.Parameter.empty) for parameter in signature.parameters.values()
    ]
    shown = str(signature.replace(parameters=names, return_annotation=inspect.Signature.empty))
    head = f"{'async ' if is_async else ''}def {exercise.name}{shown}:"
    source = f"{head}\n    {exercise.task!r}\n    raise NotImplementedError"
    namespace: dict[str, Any] = {}
    exec(source, namespace)
    function: Callable[..., Any] = namespace[exercise.name]
    return function


@every_exercise
def test_the_stub_is_not_attempted(exercise: Exercise) -> None:
    verdict = judge(stub_of(exercise), exercise)
    assert (verdict.state, verdict.mistake) == ("not attempted", None)


@pytest.mark.parametrize(
    ("exercise", "answer"),
    [
        pytest.param(exercise, answer, id=f"{exercise.name}-{answer.__name__}")
        for exercise in EXERCISES
        for answer in (exercise.reference, *exercise.right_answers)
    ],
)
def test_a_right_answer_is_right(exercise: Exercise, answer: Callable[..., Any]) -> None:
    verdict = judge(answer, exercise)
    assert verdict.passed, verdict


@pytest.mark.parametrize(
    ("exercise", "mistake"),
    [
        pytest.param(exercise, mistake, id=f"{exercise.name}-{mistake.id}")
        for exercise in EXERCISES
        for mistake in exercise.mistakes
    ],
)
def test_a_mistake_is_told_by_its_own_name_and_message(exercise: Exercise, mistake: Mistake) -> None:
    verdict = judge(mistake.solution, exercise)
    assert not verdict.passed
    assert verdict.state != "not attempted"
    assert verdict.mistake == mistake.id
    assert verdict.message.endswith(mistake.message)


@every_exercise
def test_there_are_three_of_everything(exercise: Exercise) -> None:
    assert len(exercise.mistakes) >= 3
    assert len({mistake.id for mistake in exercise.mistakes}) == len(exercise.mistakes)
    assert len({mistake.message for mistake in exercise.mistakes}) == len(exercise.mistakes)
    assert len([exercise.reference, *exercise.right_answers]) >= 3
    assert len(exercise.hints) == 3
    assert all(len(hint) > 20 for hint in exercise.hints)


def test_every_name_is_used_once() -> None:
    names = [exercise.name for exercise in EXERCISES]
    assert len(set(names)) == len(names)


@every_exercise
def test_the_example_in_the_task_runs_and_is_true(exercise: Exercise) -> None:
    examples = doctest.DocTestParser().get_examples(inspect.cleandoc(exercise.task))
    assert examples, "the docstring has no example"
    assert run_examples(examples, exercise.reference.__globals__) == []


def run_examples(examples: list[doctest.Example], names: dict[str, Any]) -> list[str]:
    """What went wrong in a doctest in which `await` is allowed; it runs on a virtual clock."""
    problems = []
    names = dict(names)
    checker = doctest.OutputChecker()
    loop = VirtualLoop(Clock(1e6))

    async def run(code: CodeType) -> None:
        if inspect.iscoroutine(result := eval(code, names)):
            await result

    for example in examples:
        printed = io.StringIO()
        code = compile(example.source, "<example>", "single", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        with contextlib.redirect_stdout(printed):
            try:
                loop.run_until_complete(run(code))
            except Exception as error:
                printed.write(f"{type(error).__name__}: {error}\n")
        wanted = f"{example.exc_msg}" if example.exc_msg else example.want
        options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
        if not checker.check_output(wanted, printed.getvalue(), options):
            problems.append(f"{example.source} gives {printed.getvalue()!r}, not {wanted!r}")
    loop.close()
    return problems


def test_an_example_may_await_and_may_be_wrong() -> None:
    async def slow(x: int) -> int:
        await asyncio.sleep(1000)
        return x

    parse = doctest.DocTestParser().get_examples
    assert run_examples(parse(">>> await slow(3)\n3\n"), {"slow": slow}) == []
    assert run_examples(parse(">>> [x async for x in aiter(())]\n"), {"slow": slow}) != []
    assert run_examples(parse(">>> await slow(3)\n4\n"), {"slow": slow}) != []
