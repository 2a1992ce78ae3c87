"""The judge: an answer and an exercise in, a `Verdict` out.

Each case is played twice on a virtual clock, by the reference and by the answer; the first difference
decides. Then the exercise's named mistakes play that case too: the one that goes wrong in the same way tells
what the learner was thinking.
"""

from __future__ import annotations

import functools
import gc
import inspect
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from ..card import Block, Code
from .compare import Difference, alike, difference
from .exercise import Case, Exercise, Mistake, Solution
from .guard import Overrun, run_guarded
from .intercept import Interception, mute_this_thread, stage_here
from .picture import picture_of
from .stage import Outcome, Printed, line_of_code, run_case
from .stub import is_stub
from .verdict import State, Verdict
from .wording import call_text

SECONDS = 3.0  # of real time for one case, five times that for all; ending a thread takes up to 0.6 more
FIRST_SECONDS = 60.0  # for the reference, the first time: it may load what takes long on a busy machine
PATIENCE = 10_000.0  # virtual seconds an answer may go on after the reference is done

_one_at_a_time = threading.Lock()


@dataclass
class Trial:
    """How far a check has come: all that is left when the thread that writes it must be ended."""

    case: Case | None = None
    steps: int = 0  # how often somebody, an answer or a mistake, has begun to play a case
    verdict: Verdict | None = None
    printed: list[Printed] = field(default_factory=list)  # one for each case


def judge(solution: Solution, exercise: Exercise, *, seconds: float = SECONDS) -> Verdict:
    """Check `solution`; a case has `seconds` of real time, and what does not end is ended a moment later."""
    if stage_here() is not None:
        raise RuntimeError("check() was called by a function that is being checked: call it outside")
    plain = plain_function(solution)
    if plain is not None and is_stub(plain):
        return not_attempted(exercise)
    home = plain.__module__ if plain is not None else str(getattr(solution, "__module__", ""))
    names = plain.__globals__ if plain is not None else {}
    trial = Trial()
    with _one_at_a_time, Interception(names) as interception:
        warm_up(exercise.reference, exercise.cases[0])
        try:
            work = functools.partial(tidily, solution, exercise, home, trial)
            return run_guarded(work, step=lambda: trial.steps, seconds=seconds)
        except Overrun as overrun:
            interception.mute_while(overrun.may_print)
            if trial.verdict is not None:  # what is wrong was known; only its name was still sought
                return trial.verdict
            line = innermost_line(overrun.frame, home)
            facts = f"it does not come to an end: {overrun.reason}{f', at {line}' if line else ''}"
            verdict = failed(exercise, trial, "stuck", Difference("stuck", facts))
        free_memory()
        return verdict


@functools.cache
def warm_up(reference: Solution, case: Case) -> None:
    """Play the reference once before time counts: the seconds that a tokenizer takes to load are our own."""
    with suppress(Overrun):
        run_guarded(functools.partial(run_case, reference, case), seconds=FIRST_SECONDS)


def tidily(solution: Solution, exercise: Exercise, home: str, trial: Trial) -> Verdict:
    """`try_out`, and what is left of it is collected here and now, where it cannot print any warnings."""
    try:
        return try_out(solution, exercise, home, trial)
    finally:
        gc.collect(1)


def free_memory() -> None:
    """Give back what a stuck answer piled up; here too nothing of it may print."""
    mute_this_thread()
    try:
        gc.collect()
    finally:
        mute_this_thread(False)


def try_out(solution: Solution, exercise: Exercise, home: str, trial: Trial) -> Verdict:
    """Play all cases, in this thread. The first that differs makes the verdict."""
    for number, case in enumerate(exercise.cases):
        trial.case = case
        trial.steps += 1
        if problem := signature_problem(solution, case):
            return failed(exercise, trial, "wrong", problem)
        expected = run_case(exercise.reference, case)
        got = play_answer(solution, case, expected, home, trial)
        found = difference(expected, got, exercise.show)
        if found is None:
            continue
        if number == 0 and type(got.error) is NotImplementedError and got.raised_here:
            return not_attempted(exercise, got.where)
        state: State = "stuck" if found.aspect == "stuck" else "raised" if found.raised else "wrong"
        picture = picture_of(expected, got, exercise.show)
        details = [picture] if picture else []
        trial.verdict = failed(exercise, trial, state, found, details)
        if mistake := recognise(solution, exercise, number, got, home, trial):
            found = Difference(found.aspect, found.facts, mistake.message, mistake.id)
            return failed(exercise, trial, state, found, details)
        return trial.verdict
    message = f"All {len(exercise.cases)} cases pass."
    return Verdict(exercise.name, "right", message, details=printed_block(trial.printed))


def play_answer(
    solution: Solution, case: Case, expected: Outcome, home: str = "", trial: Trial | None = None
) -> Outcome:
    """Play a case with bounds on its virtual time and its values, both far beyond the reference's."""
    printed = Printed()
    if trial is not None:
        trial.printed.append(printed)
    return run_case(
        solution,
        case,
        seconds=expected.ended + PATIENCE,
        values=1_000 + 10 * len(expected.arrivals),
        home=home,
        printed=printed,
    )


def recognise(
    solution: Solution, exercise: Exercise, failing: int, got: Outcome, home: str, trial: Trial
) -> Mistake | None:
    """The named mistake with the same outcome in the case that failed, or None.

    When there are several, the one that agrees with the answer in most of the other cases too.
    """
    expected = run_case(exercise.reference, exercise.cases[failing])
    suspects = []
    for mistake in exercise.mistakes:
        trial.steps += 1
        if alike(play_answer(mistake.solution, exercise.cases[failing], expected), got):
            suspects.append(mistake)
    if len(suspects) < 2:
        return suspects[0] if suspects else None
    agreements = [0] * len(suspects)
    for case in exercise.cases:
        expected = run_case(exercise.reference, case)
        trial.steps += 1
        given = play_answer(solution, case, expected, home)
        for number, mistake in enumerate(suspects):
            trial.steps += 1
            agreements[number] += alike(play_answer(mistake.solution, case, expected), given)
    return suspects[agreements.index(max(agreements))]


# -- the verdict in words ------------------------------------------------------------------------------------


def failed(
    exercise: Exercise, trial: Trial, state: State, found: Difference, details: Sequence[Block] = ()
) -> Verdict:
    """Input, expected, got, and the likely cause."""
    message = f"{found.facts}."
    if trial.case is not None:
        note = f" ({trial.case.note})" if trial.case.note else ""
        message = f"For `{call_text(exercise, trial.case)}`{note}: {message}"
    if found.cause:
        message = f"{message} {found.cause}"
    return Verdict(
        exercise.name, state, message, found.mistake, [*details, *printed_block(trial.printed[-1:])]
    )


def printed_block(printed: Sequence[Printed]) -> list[Block]:
    """What it printed in the first of these cases in which it printed anything."""
    words = next(filter(None, map(str, printed)), "")
    return [Code("What it printed:", words, folded=True)] if words else []


def not_attempted(exercise: Exercise, where: str = "") -> Verdict:
    """The kind word for a stub, and for one whose `raise NotImplementedError` was left at the end."""
    if where:
        words = f"It still comes to `raise NotImplementedError`, in {where}. Remove that when it is done."
    else:
        words = "Write the body in place of `raise NotImplementedError`, then run the cell again."
    return Verdict(exercise.name, "not attempted", words)


# -- looking at a function without running it ----------------------------------------------------------------


def plain_function(solution: Any) -> Any | None:
    """The function behind a partial, a method, a `functools.wraps` decorator, a class, an object."""
    if isinstance(solution, functools.partial):
        return plain_function(solution.func)
    if hasattr(solution, "__wrapped__"):
        return plain_function(solution.__wrapped__)
    if inspect.ismethod(solution):
        return plain_function(solution.__func__)
    if inspect.isfunction(solution):
        return solution
    inner = vars(solution).get("__init__") if inspect.isclass(solution) else type(solution).__call__
    return inner if inspect.isfunction(inner) else None


def signature_problem(solution: Solution, case: Case) -> Difference | None:
    """Whether it can be called as the case calls it."""
    if case.play is not None:
        return None
    try:
        signature = inspect.signature(solution)
    except (TypeError, ValueError):  # builtins and such have none
        return None
    try:
        signature.bind(*case.args, **case.kwargs)
    except TypeError as error:
        name = getattr(solution, "__name__", "yours")
        return Difference(
            "signature",
            f"it cannot be called like this: {error}",
            f"Yours is `{name}{signature}`. Keep the parameters of the stub, their names and their order.",
            "wrong_signature",
        )
    return None


def innermost_line(frame: FrameType | None, home: str) -> str:
    """The answer's line that a running thread is in."""
    while frame is not None:
        if line := line_of_code(frame, frame.f_lineno, home):
            return line
        frame = frame.f_back
    return ""
