"""The judge: an answer and an exercise in, a `Verdict` out.

Each case is played twice on a virtual clock, by the reference and by the answer; the first difference decides.
Then the exercise's named mistakes play that case too: the one that goes wrong in the same way has found out what
the learner was thinking.
"""

from __future__ import annotations

import dis
import functools
import inspect
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from .card import Block, Code, Text
from .compare import Difference, alike, difference
from .exercise import Case, Exercise, Mistake, Solution
from .guard import Overrun, run_guarded
from .intercept import Interception, stage_here
from .picture import picture_of
from .stage import Outcome, line_of_code, run_case
from .verdict import State, Verdict
from .wording import call_text

SECONDS = 4.0  # of real time for one check; ending a thread takes up to 0.6 more
PATIENCE = 10_000.0  # virtual seconds an answer may go on after the reference is done

_one_at_a_time = threading.Lock()


@dataclass
class Trial:
    """How far a check has come. The judge's thread writes it, and it is all that is left when that thread is ended."""

    case: Case | None = None
    verdict: Verdict | None = None
    printed: str = ""


def judge(solution: Solution, exercise: Exercise, *, seconds: float = SECONDS) -> Verdict:
    """Check `solution`; returns within `seconds` of real time, plus a moment to end what does not end by itself."""
    if stage_here() is not None:
        raise RuntimeError("check() was called by a function that is being checked: call it outside")
    plain = plain_function(solution)
    if plain is not None and is_stub(plain):
        return not_attempted(exercise)
    home = plain.__module__ if plain is not None else str(getattr(solution, "__module__", ""))
    names = plain.__globals__ if plain is not None else {}
    trial = Trial()
    with _one_at_a_time, Interception(names) as interception:
        try:
            return run_guarded(lambda: try_out(solution, exercise, home, trial), seconds=seconds)
        except Overrun as overrun:
            if overrun.thread.is_alive():
                interception.mute(overrun.thread)
            if trial.verdict is not None:  # what was wrong was known; only its name was still sought
                return trial.verdict
            line = innermost_line(overrun.frame, home)
            facts = f"it does not come to an end: {overrun.reason}{f', at {line}' if line else ''}"
            return failed(exercise, trial.case, "stuck", Difference("stuck", facts), trial)


def try_out(solution: Solution, exercise: Exercise, home: str, trial: Trial) -> Verdict:
    """All cases, in this thread. The first that differs makes the verdict."""
    for number, case in enumerate(exercise.cases):
        trial.case = case
        expected = run_case(exercise.reference, case)
        if case.play is None and (problem := signature_problem(solution, case)):
            return failed(exercise, case, "wrong", problem, trial)
        got = play_answer(solution, case, expected, home)
        trial.printed = trial.printed or got.printed
        found = difference(expected, got, exercise.show)
        if found is None:
            continue
        if number == 0 and is_left_over_stub(got):
            return not_attempted(exercise, got.where)
        state: State = "stuck" if got.stuck else "raised" if raised(expected, got) else "wrong"
        details = [picture] if (picture := picture_of(expected, got, exercise.show)) else []
        trial.verdict = failed(exercise, case, state, found, trial, details)
        if mistake := recognise(solution, exercise, number, expected, got, home):
            found = Difference(found.aspect, found.facts, mistake.message, mistake.id)
            return failed(exercise, case, state, found, trial, details)
        return trial.verdict
    count = len(exercise.cases)
    return Verdict(exercise.name, "right", f"All {count} cases pass.", details=printed_block(trial))


def play_answer(solution: Solution, case: Case, expected: Outcome, home: str) -> Outcome:
    """The answer gets a bound on its time and its values, both far beyond the reference's."""
    return run_case(
        solution,
        case,
        seconds=expected.ended + PATIENCE,
        values=1_000 + 10 * len(expected.arrivals),
        home=home,
    )


def raised(expected: Outcome, got: Outcome) -> bool:
    """Whether the answer raised what it should not have."""
    return got.error is not None and (
        expected.error is None or not isinstance(got.error, type(expected.error))
    )


def recognise(
    solution: Solution, exercise: Exercise, failing: int, expected: Outcome, got: Outcome, home: str
) -> Mistake | None:
    """The named mistake that gives the same outcome where the answer first fails; of several, the one that agrees
    with it in most of the other cases."""
    suspects = [
        mistake
        for mistake in exercise.mistakes
        if alike(play_answer(mistake.solution, exercise.cases[failing], expected, ""), got)
    ]
    if len(suspects) < 2:
        return suspects[0] if suspects else None
    agreements = [0] * len(suspects)
    for case in exercise.cases:
        wanted = run_case(exercise.reference, case)
        given = play_answer(solution, case, wanted, home)
        for number, mistake in enumerate(suspects):
            agreements[number] += alike(play_answer(mistake.solution, case, wanted, ""), given)
    return suspects[agreements.index(max(agreements))]


def failed(
    exercise: Exercise,
    case: Case | None,
    state: State,
    found: Difference,
    trial: Trial,
    details: list[Block] | None = None,
) -> Verdict:
    """The verdict in words: input, expected, got, likely cause."""
    facts = found.facts if found.facts.endswith((".", "!", "?")) else found.facts + "."
    message = facts
    if case is not None:
        note = f" ({case.note})" if case.note else ""
        message = f"For `{call_text(exercise, case)}`{note}: {facts}"
    if found.cause:
        message = f"{message} {found.cause}"
    hint = Text(f'`hint("{exercise.name}")` gives a hint.')
    return Verdict(
        exercise.name, state, message, found.mistake, [*(details or []), *printed_block(trial), hint]
    )


def printed_block(trial: Trial) -> list[Block]:
    return [Code("What it printed while it was checked", trial.printed, folded=True)] if trial.printed else []


def not_attempted(exercise: Exercise, where: str = "") -> Verdict:
    """The kind word for a stub."""
    if where:
        words = f"It still reaches `raise NotImplementedError`, in {where}. Remove that line when your code is done."
    else:
        words = f'Not attempted yet. Write the body, run the cell again; `hint("{exercise.name}")` helps.'
    return Verdict(exercise.name, "not attempted", words)


# -- looking at a function before it runs -----------------------------------------------------------------------


def plain_function(solution: Any) -> Any | None:
    """The function behind a partial, a method, a decorator made with `functools.wraps`, or a callable object."""
    while True:
        if isinstance(solution, functools.partial):
            solution = solution.func
        elif hasattr(solution, "__wrapped__"):
            solution = solution.__wrapped__
        elif inspect.ismethod(solution):
            solution = solution.__func__
        elif inspect.isfunction(solution):
            return solution
        elif inspect.isclass(solution) and inspect.isfunction(solution.__init__):
            return solution.__init__
        elif not inspect.isclass(solution) and inspect.isfunction(getattr(type(solution), "__call__", None)):
            return type(solution).__call__
        else:
            return None


_STUBS = """
{0}def stub():
    {1}
"""


@functools.cache
def _stub_patterns() -> frozenset[tuple[object, ...]]:
    """What stubs of all kinds compile to: an empty body, or only `raise NotImplementedError`."""
    patterns = set()
    for kind in ("", "async "):
        for body in (
            "pass",
            "raise NotImplementedError",
            "raise NotImplementedError()",
            'raise NotImplementedError("")',
        ):
            for tail in ("", "\n    yield", "\n    return\n    yield"):
                space: dict[str, Any] = {}
                exec(_STUBS.format(kind, body + (tail if body != "pass" or "return" in tail else "")), space)
                patterns.add(_pattern(space["stub"]))
    return frozenset(patterns)


def _pattern(function: Any) -> tuple[object, ...]:
    """A function's instructions, whatever the words of a message in it are."""
    return tuple(
        (step.opname, "" if isinstance(step.argval, str) and step.opname == "LOAD_CONST" else step.argval)
        for step in dis.get_instructions(function)
        if step.opname not in ("NOP", "RESUME", "CACHE", "EXTENDED_ARG")
    )


def is_stub(function: Any) -> bool:
    """Whether nothing has been written yet: the body is a docstring, `pass`, `...` or `raise NotImplementedError`."""
    return _pattern(function) in _stub_patterns()


def is_left_over_stub(got: Outcome) -> bool:
    """Whether it ran into a `raise NotImplementedError` of its own."""
    return type(got.error) is NotImplementedError and "raise NotImplementedError" in got.where


def signature_problem(solution: Solution, case: Case) -> Difference | None:
    """Whether it can be called as the exercise says at all."""
    try:
        signature = inspect.signature(solution)
    except (TypeError, ValueError):
        return None
    try:
        signature.bind(*case.args, **case.kwargs)
    except TypeError as error:
        name = getattr(solution, "__name__", "yours")
        return Difference(
            "signature",
            f"it cannot be called like this: {error}",
            f"Yours is `{name}{signature}`. Keep the parameters of the stub, with their names and order.",
            "wrong_signature",
        )
    return None


def innermost_line(frame: FrameType | None, home: str) -> str:
    """The learner's line that a running thread is in."""
    while frame is not None:
        if line := line_of_code(frame, frame.f_lineno, home):
            return line
        frame = frame.f_back
    return ""
