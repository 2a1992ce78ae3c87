"""The front desk: `check`, `hint`, `solution` and `progress`, as every notebook uses them.

Each `lesson_N.py` beside this file holds the exercises of one lesson. A lesson is loaded when one of its
exercises is asked for.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import pkgutil
import re
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from typing import Any

from ..checker import Attempts, Block, Card, Code, Exercise, Mood, Tally, Text, Verdict, judge

ATTEMPTS_BEFORE_SOLUTION = 3


class NotAFunction(TypeError):
    """Something else than a function was passed. In a notebook it shows its message alone."""

    def _render_traceback_(self) -> list[str]:
        return [str(self)]


class NoSuchExercise(ValueError):
    """No exercise has that name. In a notebook it shows its message alone."""

    def _render_traceback_(self) -> list[str]:
        return [str(self)]


def check(fn: Callable[..., Any], *, name: str | None = None) -> Verdict:
    """Check a function against the exercise of its name (or of `name`) and say what is right and what is not.

    Works in a notebook, in a script and inside a running event loop; it needs no `await`. Raises
    NotAFunction when `fn` is none, NoSuchExercise when no exercise has that name.
    """
    require_function(fn)
    exercise = find(name or name_of(fn))
    verdict = judge(fn, exercise)
    attempts = Attempts()
    attempts.add_check(verdict)
    next_step = Text(what_next(verdict, attempts.of(exercise.name)))
    problem = [Text(attempts.problem)] if attempts.problem else []
    return replace(verdict, details=[*verdict.details, next_step, *problem])


def what_next(verdict: Verdict, tally: Tally) -> str:
    """Where to go from here, as the last line of a verdict."""
    name = verdict.exercise
    if verdict.passed:
        return f'`solution("{name}")` shows how others wrote it.'
    if verdict.state != "not attempted" and tally.attempts >= ATTEMPTS_BEFORE_SOLUTION:
        return f'`hint("{name}")` gives a hint, `solution("{name}")` is open now.'
    return f'`hint("{name}")` gives a hint.'


def hint(name: str | Callable[..., Any]) -> Card:
    """The next hint for an exercise: a nudge first, then the idea, then nearly all of it."""
    exercise = find(name if isinstance(name, str) else name_of(name))
    attempts = Attempts()
    attempts.add_hint(exercise.name)
    count = len(exercise.hints)
    number = min(max(attempts.of(exercise.name).hints, 1), count)
    blocks: list[Block] = [Text(exercise.hints[number - 1])]
    if number < count:
        blocks.append(Text(f'`hint("{exercise.name}")` again gives the next one.'))
    else:
        blocks.append(Text(f'That was the last hint. `solution("{exercise.name}")` shows a right answer.'))
    blocks += [Text(attempts.problem)] if attempts.problem else []
    return Card(f"{exercise.name}: hint {number} of {count}", "neutral", blocks)


def solution(name: str | Callable[..., Any]) -> Card:
    """The course's own answer, and others: after success, after three attempts, or when asked for twice."""
    exercise = find(name if isinstance(name, str) else name_of(name))
    attempts = Attempts()
    attempts.add_solution_request(exercise.name)
    tally = attempts.of(exercise.name)
    open_now = tally.solved or tally.attempts >= ATTEMPTS_BEFORE_SOLUTION or tally.solution_requests >= 2
    if not open_now:
        left = ATTEMPTS_BEFORE_SOLUTION - tally.attempts
        words = (
            f"It opens when you have solved it, or after {left} more attempt{'s' if left > 1 else ''}. "
            f'To see it now, call `solution("{exercise.name}")` once more. `hint("{exercise.name}")` gives less away.'
        )
        return Card(f"{exercise.name}: solution closed", "neutral", [Text(words)])
    blocks: list[Block] = [Code("", source_of(exercise.reference))]
    for other in exercise.right_answers:
        blocks.append(Code(f"Another right answer: `{other.__name__}`", source_of(other), folded=True))
    return Card(f"{exercise.name}: a right answer", "neutral", blocks)


def progress() -> Card:
    """What is solved, a line for each lesson."""
    tallies = Attempts().tally()

    def standing(name: str) -> str:
        tally = tallies.get(name)
        if tally and tally.solved:
            return f"✓ {name}"
        if tally and tally.attempts:
            return f"✗ {name} (tried {'once' if tally.attempts == 1 else f'{tally.attempts} times'})"
        return f"○ {name}"

    lines = [f"Lesson {number:<4}" + "   ".join(map(standing, names)) for number, names in lessons().items()]
    names = {name for names in lessons().values() for name in names}
    solved = {name for name in names if name in tallies and tallies[name].solved}
    mood: Mood = "good" if solved == names else "neutral"
    return Card(f"{len(solved)} of {len(names)} exercises solved", mood, [Code("", "\n".join(lines))])


# -- which exercises there are -------------------------------------------------------------------------------


def lesson_numbers() -> list[int]:
    """The lessons that have exercises, in order."""
    names = [module.name for module in pkgutil.iter_modules(__path__)]
    return sorted(int(name.removeprefix("lesson_")) for name in names if re.fullmatch(r"lesson_\d+", name))


@functools.cache
def lesson(number: int) -> dict[str, Exercise]:
    """The exercises of one lesson by name, in the order of its file."""
    module = import_module(f"{__name__}.lesson_{number}")
    exercises = [value for value in vars(module).values() if isinstance(value, Exercise)]
    return {exercise.name: exercise for exercise in exercises}


def lessons() -> dict[int, dict[str, Exercise]]:
    """All lessons' exercises."""
    return {number: lesson(number) for number in lesson_numbers()}


def find(name: str) -> Exercise:
    """The exercise of that name. Raises NoSuchExercise, with the nearest names."""
    for number in lesson_numbers():
        if name in lesson(number):
            return lesson(number)[name]
    known = [known for exercises in lessons().values() for known in exercises]
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    words = f"Did you mean {' or '.join(near)}?" if near else f"There are: {', '.join(known)}."
    raise NoSuchExercise(
        f"There is no exercise {name!r}. {words} check(function, name=…) names it if yours is called differently."
    )


# -- what was passed to check ---------------------------------------------------------------------------------


def require_function(fn: object) -> None:
    """Raise NotAFunction, saying what to pass instead, unless `fn` can be called."""
    if inspect.iscoroutine(fn) or inspect.isgenerator(fn) or inspect.isasyncgen(fn):
        name = fn.__name__
        if not inspect.isasyncgen(fn):
            fn.close()  # so that Python does not complain that it was never awaited
        raise NotAFunction(
            f"check() wants the function itself, not what calling it gives: write check({name}), without ()."
        )
    if isinstance(fn, str):
        raise NotAFunction(f"check() wants the function, not its name: write check({fn}), without quotes.")
    if not callable(fn):
        raise NotAFunction(
            f"check() wants a function, got {type(fn).__name__}. Pass the function itself, without calling it: check(my_function)."
        )


def name_of(fn: Any) -> str:
    """The name a function was defined with, also behind a partial or a method."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    name = getattr(fn, "__name__", "")
    if not name or name == "<lambda>":
        raise NoSuchExercise(
            f'{type(fn).__name__ if not name else "A lambda"} has no name: say which exercise it answers, check(…, name="…").'
        )
    return str(name)


def source_of(function: Callable[..., Any]) -> str:
    """A function's source, without the decorator that registers it."""
    lines = inspect.getsource(function).splitlines()
    start = next(i for i, line in enumerate(lines) if re.match(r"(async )?def |class ", line))
    return "\n".join(lines[start:])
