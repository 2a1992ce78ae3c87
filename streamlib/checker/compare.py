"""Two outcomes of one case, the reference's and the learner's: the first thing that differs, in words.

The order of the rules is the order in which a learner would want to know: the wrong kind of result first,
then an exception, then wrong values, then right values at the wrong time, then what is left open.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from .stage import Outcome, Shape
from .wording import Show, contrast, contrast_items, same, short

INSTANT = 1e-6  # seconds; instants are sums of floats


@dataclass(frozen=True, slots=True)
class Difference:
    """What differs. `facts` completes "For f(1): …"; `cause` is a sentence of its own, or ""."""

    aspect: str
    facts: str
    cause: str = ""
    mistake: str | None = None  # the id of a mistake that any function can have
    raised: bool = False  # by an exception that should not have been


def difference(expected: Outcome, got: Outcome, show: Show) -> Difference | None:
    """The first difference that makes the learner's outcome wrong, or None."""
    for rule in (_stuck, _shape, _error, _values, _blocked, _timing, _reading, _closing, _tasks, _inputs):
        if found := rule(expected, got, show):
            return found
    return None


def alike(one: Outcome, other: Outcome) -> bool:
    """Whether two outcomes look the same from outside, so that one mistake explains both."""
    return (
        one.shape == other.shape
        and bool(one.stuck) == bool(other.stuck)
        and type(one.error) is type(other.error)
        and same(one.returned, other.returned)
        and same([a.value for a in one.arrivals], [a.value for a in other.arrivals])
        and all(abs(a.at - b.at) < INSTANT for a, b in zip(one.arrivals, other.arrivals, strict=True))
        and [a.read for a in one.arrivals] == [a.read for a in other.arrivals]
        and (bool(one.stuck) or abs(one.ended - other.ended) < INSTANT)
        and one.closed == other.closed
        and one.read == other.read
        and one.blocked == other.blocked
        and one.tasks_left == other.tasks_left
        and one.inputs_changed == other.inputs_changed
    )


def _stuck(expected: Outcome, got: Outcome, show: Show) -> Difference | None:
    if not got.stuck:
        return None
    count = len(got.arrivals)
    so_far = f"after {count:,} value{'s' if count > 1 else ''} " if count else ""
    line = f", at {got.where}" if got.where else ""
    return Difference("stuck", f"it does not come to an end: {so_far}{got.stuck}{line}")


def _error(expected: Outcome, got: Outcome, show: Show) -> Difference | None:
    if got.error is None and expected.error is None:
        return None
    line = f" in {got.where}" if got.where else ""
    if got.error is None:
        assert expected.error is not None
        if isinstance(expected.error, asyncio.CancelledError):
            return Difference(
                "error",
                "it was cancelled, and went on or ended as if nothing had happened",
                "`asyncio.CancelledError` must go through: after cleaning up, `raise` it again.",
                "swallows_cancellation",
            )
        facts = f"expected {_error_text(expected.error)}, got {_result_text(got, show)} and no error"
        if isinstance(got.returned, BaseException):
            return Difference(
                "error", facts, "You return the error. `raise` it, so that nobody overlooks it."
            )
        return Difference("error", facts)
    wanted = _error_text(expected.error) if expected.error else _result_text(expected, show)
    if expected.error is None or not isinstance(got.error, type(expected.error)):
        return Difference(
            "error",
            f"expected {wanted}, but it raised {_error_text(got.error)}{line}",
            _raised_hint(got),
            raised=True,
        )
    return None


def _raised_hint(got: Outcome) -> str:
    if isinstance(got.error, SystemExit):
        return "`sys.exit()` ends the whole program, the notebook's kernel too. Use `return`."
    if "asyncio.run() cannot be called" in str(got.error):
        return "An event loop runs already, here as in a notebook: `await` the coroutine instead."
    return _unawaited(got)


def _error_text(error: BaseException) -> str:
    words = str(error)
    return f"`{type(error).__name__}: {words}`" if words else f"`{type(error).__name__}`"


def _result_text(outcome: Outcome, show: Show) -> str:
    played = outcome.shape == "nothing" and not outcome.arrivals  # a case's `play` said what came out
    if played or outcome.shape in ("value", "coroutine"):
        return f"`{short(outcome.returned, show)}`"
    return f"the values `{short([a.value for a in outcome.arrivals], show)}`"


def _shape(expected: Outcome, got: Outcome, show: Show) -> Difference | None:
    """The wrong kind of result: nearly always one keyword too many or too few."""
    if got.shape == expected.shape or "nothing" in (got.shape, expected.shape):
        return None
    returned = f"`{short(got.returned, show)}`"
    match expected.shape, got.shape:
        case "async generator", "coroutine":
            given = "a coroutine" + ("" if got.error else f" that gives {returned}")
            cause = (
                "There is no `yield` in it: `async def` with `yield` makes a stream, "
                "`async def` with `return` gives one value at the end."
            )
            mistake = "forgot_yield"
        case "async generator", "coroutine of a stream":
            given = "a coroutine that returns one"
            cause = (
                "The caller would have to `await` it before `async for`. `yield` the values in this function "
                "itself, or make it a plain `def` that returns the stream."
            )
            mistake = "superfluous_async"
        case "async generator", "generator":
            given = "a plain generator"
            cause = "`async for` needs what an `async def` with `yield` gives."
            mistake = "forgot_async"
        case "async generator", "value":
            given = returned
            cause = "Write `async def`, and `yield` each value as it arrives."
            mistake = "forgot_yield"
        case "generator", "value":
            given = returned
            cause = "`yield` each value as soon as it is known, instead of returning all of them at the end."
            if got.returned is None:
                cause = "It gives nothing back: did you forget `yield`?"
            mistake = "forgot_yield"
        case (("generator" | "value"), ("coroutine" | "async generator" | "coroutine of a stream")):
            given = _A[got.shape]
            cause = "Nothing here has to wait: write `def`, without `async`."
            mistake = "superfluous_async"
        case "coroutine", "value":
            given = returned
            cause = "The caller writes `await`, so this must be an `async def`."
            mistake = "forgot_async"
        case _, "generator":
            given = _A[got.shape]
            cause = "A generator has not computed anything yet. Collect the values and `return` them."
            mistake = "yield_instead_of_return"
        case _:
            given = _A[got.shape]
            cause = "`return` one value at the end instead of `yield`."
            mistake = "yield_instead_of_return"
    return Difference("shape", f"expected {_A[expected.shape]}, got {given}", cause, mistake)


_A: dict[Shape, str] = {
    "nothing": "nothing",
    "value": "a value",
    "coroutine": "a coroutine to await",
    "generator": "an iterator that gives its values one by one",
    "async generator": "a stream (an async generator)",
    "coroutine of a stream": "a coroutine that returns a stream",
}


def _values(expected: Outcome, got: Outcome, show: Show) -> Difference | None:
    wanted, given = [a.value for a in expected.arrivals], [a.value for a in got.arrivals]
    if not same(wanted, given):
        facts = (
            contrast(wanted, given, show)
            if max(len(wanted), len(given)) <= 4
            else contrast_items(wanted, given, show, "value")
        )
        return Difference("values", facts, _unawaited(got))
    if same(expected.returned, got.returned):
        return None
    facts = contrast(expected.returned, got.returned, show)
    if got.returned is None and got.printed.strip():
        return Difference(
            "values", facts, "It prints its answer. `return` it, so that the caller can use it.", "printed"
        )
    if got.returned is None:
        return Difference("values", facts, "Did you forget `return`?", "forgot_return")
    return Difference("values", facts, _unawaited(got) or _type_hint(expected.returned, got.returned))


def _unawaited(got: Outcome) -> str:
    return f"`{got.unawaited[0]}(…)` was called without `await`, so it never ran." if got.unawaited else ""


def _type_hint(expected: object, got: object) -> str:
    if type(expected) is not type(got):
        return f"It should be of type `{type(expected).__name__}`, and is of type `{type(got).__name__}`."
    return ""


def _blocked(expected: Outcome, got: Outcome, show: Show) -> Difference | None:
    if expected.shape in ("value", "generator") or got.blocked <= expected.blocked + INSTANT:
        return None
    return Difference(
        "blocked",
        f"the event loop stood still for {got.blocked:g} s in `time.sleep`",
        "While `time.sleep` sleeps, no other stream gets a turn. Write `await asyncio.sleep(…)`.",
        "blocks_the_loop",
    )


def _timing(expected: Outcome, got: Outcome, show: Show) -> Difference | None:
    """Each value comes out when the reference gives it: later is buffering, earlier skips a wait."""
    for number, (wanted, given) in enumerate(zip(expected.arrivals, got.arrivals, strict=True), 1):
        if abs(wanted.at - given.at) < INSTANT:
            continue
        early = given.at < wanted.at
        at_once = len(got.arrivals) > 1 and got.arrivals[0].at == got.arrivals[-1].at
        facts = (
            f"value {number} of {len(expected.arrivals)} (`{short(given.value, show, 40)}`) should come out "
            f"at {wanted.at:g} s, and comes out at {given.at:g} s"
        )
        if at_once and not early:
            return Difference(
                "timing",
                facts,
                "All come out together: they are collected first. `yield` each one as soon as it is known.",
                "collects_first",
            )
        cause = (
            _unawaited(got) or "It does not wait as long as it should."
            if early
            else "It was known before: hand it on at once."
        )
        return Difference("timing", facts, cause)
    if abs(expected.ended - got.ended) >= INSTANT:
        early = got.ended < expected.ended
        return Difference(
            "timing",
            f"it should be done at {expected.ended:g} s, and is done at {got.ended:g} s",
            _unawaited(got) or ("It ends too early." if early else "It waits longer than it has to."),
        )
    return None


def _reading(expected: Outcome, got: Outcome, show: Show) -> Difference | None:
    """Nothing is read from the source before it is needed."""
    for wanted, given in zip(expected.arrivals, got.arrivals, strict=True):
        if given.read > wanted.read:
            return Difference(
                "reading",
                f"when `{short(given.value, show, 40)}` came out, {given.read} values had been read from the "
                f"source; {wanted.read} are enough",
                "Read the next value only when somebody asks for it.",
                "reads_ahead",
            )
    if got.read > expected.read:
        return Difference(
            "reading",
            f"it read {got.read} values from its source; {expected.read} are enough",
            "Stop reading when you have what you need.",
            "reads_ahead",
        )
    return None


def _closing(expected: Outcome, got: Outcome, show: Show) -> Difference | None:
    for wanted, given in zip(expected.closed, got.closed, strict=False):
        if wanted and not given:
            return Difference(
                "closing",
                "it leaves its source open when it is done",
                "An open source goes on working, and a model goes on costing money. Close it, also when you "
                "stop early: `async with aclosing(…)`, or `try` and `finally`.",
                "leaves_source_open",
            )
    return None


def _tasks(expected: Outcome, got: Outcome, show: Show) -> Difference | None:
    if got.tasks_left <= expected.tasks_left:
        return None
    many = "a task" if got.tasks_left == 1 else f"{got.tasks_left} tasks"
    return Difference(
        "tasks",
        f"{many} it started still ran when it was done",
        "Whoever creates a task awaits it or cancels it; `asyncio.TaskGroup` does both.",
        "leaves_tasks_behind",
    )


def _inputs(expected: Outcome, got: Outcome, show: Show) -> Difference | None:
    if not got.inputs_changed or expected.inputs_changed:
        return None
    return Difference(
        "inputs",
        "it changed an object that belongs to the caller",
        "Work on a copy: the caller still needs what was passed in.",
        "changes_its_input",
    )
