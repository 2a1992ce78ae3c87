"""What an exercise is made of: a reference, cases, named mistakes, other right answers, hints.

A `Case` describes one call. It says nothing of the right outcome: the judge runs the reference on the same
case, under the same virtual clock, so the reference and the check cannot drift apart.
"""

from __future__ import annotations

import copy
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeVar

if TYPE_CHECKING:
    from .stage import Stage

Solution = Callable[..., Any]
S = TypeVar("S", bound=Solution)

SourceKind = Literal["async generator", "response", "iterator"]


@dataclass(frozen=True)
class Source:
    """An argument that delivers `values` over time and keeps a record: who pulled when, was it closed.

    The i-th value is there `every * (i + 1)` seconds after the call, however late it is asked for, as with a
    network; the end (or `error`) comes one `every` after the last value. `at` gives the instants one by one
    instead; one more instant than values is the instant of the end.

    kind:
        "async generator"  `async for`, `anext`, `aclose()`
        "response"         like `openai.AsyncStream`: also `async with` and `close()`
        "iterator"         a plain generator: `for`, `next`, `close()`; waiting passes virtual time
    """

    values: Sequence[object]
    every: float = 0.1
    at: Sequence[float] | None = None
    error: BaseException | None = None
    kind: SourceKind = "async generator"

    def __post_init__(self) -> None:
        if self.at is not None and len(self.at) not in (len(self.values), len(self.values) + 1):
            raise ValueError(
                f"`at` has {len(self.at)} instants for {len(self.values)} values: "
                "give one for each value, and one more for the end if it comes later"
            )
        if type(self.error) in (Exception, BaseException, RuntimeError):
            raise ValueError(
                f"an error of type {type(self.error).__name__} could be a bug of the answer's own: "
                "use one that only the source raises, such as ConnectionError"
            )

    def instant(self, index: int) -> float:
        """When value number `index` arrives, in seconds after the call; `len(values)` asks for the end."""
        if self.at is None:
            return self.every * (index + 1)
        return self.at[min(index, len(self.at) - 1)] if self.at else 0.0

    def build(self, stage: Stage) -> object:
        return stage.open_source(self)


@dataclass(frozen=True)
class Build:
    """An argument that must be made anew for each run, on its event loop: a queue somebody fills, a callback.

    `make(stage)` is called inside the loop just before the call; `stage.spawn(coroutine)` starts a task that
    belongs to the case. `shown` stands for the argument in messages.
    """

    shown: str
    make: Callable[[Stage], object]

    def build(self, stage: Stage) -> object:
        return self.make(stage)


class Case:
    """One call of the function, and how its result is consumed.

    args, kwargs: what it is called with. Plain data is copied for each run; `Source` and `Build` are opened.
    note: what is special about this case, as a phrase: "two messages in one chunk".
    take: take that many values of the resulting stream, then close it, as `break` inside `aclosing` does.
    pause: seconds the consumer spends between two values.
    cancel_at: cancel the consumer at that instant.
    play: for everything else, `async def play(solution, stage) -> value`; it calls `solution` itself, and
        `await stage.collect(stream)` records what a stream delivers. Say in `note` what happens.
    """

    def __init__(
        self,
        *args: object,
        kwargs: dict[str, object] | None = None,
        note: str = "",
        take: int | None = None,
        pause: float = 0.0,
        cancel_at: float | None = None,
        play: Callable[[Solution, Stage], Awaitable[object]] | None = None,
    ) -> None:
        self.args = args
        self.kwargs = kwargs or {}
        self.note = note
        self.take = take
        self.pause = pause
        self.cancel_at = cancel_at
        self.play = play


@dataclass(frozen=True)
class Mistake:
    """A wrong solution that learners really write, and what to tell them. Its id is the function's name."""

    solution: Solution
    message: str

    @property
    def id(self) -> str:
        return str(self.solution.__name__)


@dataclass
class Exercise:
    """One exercise. The reference's name, signature and docstring are the exercise's.

    hints: three, graded: a nudge, the idea, nearly there.
    show: how a value looks in a message, where its repr says too much; None means repr.
    """

    reference: Solution
    cases: Sequence[Case]
    hints: tuple[str, str, str]
    show: Callable[[object], str | None] = lambda value: None
    mistakes: list[Mistake] = field(default_factory=list)
    right_answers: list[Solution] = field(default_factory=list)

    @property
    def name(self) -> str:
        return str(self.reference.__name__)

    @property
    def task(self) -> str:
        return self.reference.__doc__ or ""

    def mistake(self, message: str) -> Callable[[S], S]:
        """Decorator: this wrong solution is a mistake learners make; `message` is what they are told."""

        def register(solution: S) -> S:
            self.mistakes.append(Mistake(solution, message))
            return solution

        return register

    def right(self, solution: S) -> S:
        """Decorator: another right answer, in another style than the reference."""
        self.right_answers.append(solution)
        return solution


def opened(value: Any, stage: Stage) -> Any:
    """A fresh copy of an argument for one run, with the sources in it opened."""
    if isinstance(value, (Source, Build)):
        return value.build(stage)
    if type(value) in (list, tuple):
        return type(value)(opened(item, stage) for item in value)
    if type(value) is dict:
        return {key: opened(item, stage) for key, item in value.items()}
    return copied(value)


def copied(value: Any) -> Any:
    """A deep copy, or the value itself where it cannot be copied (a generator, a lock)."""
    try:
        return copy.deepcopy(value)
    except Exception:
        return value
