'''The judge: it plays a learner's function on a virtual clock and says in a sentence what is not right.

It belongs to every lesson and knows no exercise. Learner code runs with the learner's rights, in the same
process: this is teaching, not a sandbox. What holds the interpreter itself (one endless call into C) cannot
be stopped.

How to write an exercise
------------------------
An exercise is a reference function and data about it, in `streamlib/exercises/lesson_N.py`. The reference's
name, signature and docstring are the exercise's: the notebook's stub has the same three, and the body
`raise NotImplementedError`. The docstring holds an example that runs (a doctest; `await` is allowed in it).
Cases say what to call it with, never what comes out: the reference says that.

A plain function::

    def parse_numbers(text: str) -> list[int]:
        """The numbers in a text, separated by commas.

        >>> parse_numbers("1,2")
        [1, 2]
        """
        return [int(part) for part in text.split(",") if part]

    exercise = Exercise(
        parse_numbers,
        cases=[
            Case("1,2"),
            Case("1,,2", note="an empty part"),
        ],
        hints=("A nudge.", "The idea.", "Nearly there."),
    )

    @exercise.mistake("An empty part is not a number: leave it out before you call `int`.")
    def no_empty_parts(text: str) -> list[int]:
        return [int(part) for part in text.split(",")]

    @exercise.right
    def with_filter(text: str) -> list[int]:
        return list(map(int, filter(None, text.split(","))))

At least three mistakes that learners really write, and at least three right answers counting the reference. A
mistake is recognised when it plays the learner's first failing case just as the learner does: the same values
at the same instants, the same exception, the same source left open. Its message says what to think about, not
the answer; input, expected and got are put before it. A mistake's id (`Verdict.mistake`) is its function's
name. The first case that fails is the one that is shown: put the plain cases first.

The tests break each reference bit by bit and want every broken one refused. Where one is accepted, a case is
missing; or the change changes nothing, and belongs in `tests/exercises/equivalent.txt` with the reason.

A generator over an iterable. A `Source` delivers values over time and is watched; a list hides laziness::

    exercise = Exercise(
        split_lines,  # def split_lines(chunks: Iterable[bytes]) -> Iterator[str]
        cases=[
            Case([b"a\\nb"], note="a plain list of chunks"),
            Case(Source([b"a\\nb", b"c\\n"], kind="iterator"), note="a line split over two chunks"),
            Case(Source([b"a\\n", b"b\\n"], kind="iterator"), take=1, note="the reader stops after one line"),
        ],
        ...
    )

A coroutine over a stream. `kind="response"` is like the stream of `AsyncOpenAI`: `async with`, `close()`::

    exercise = Exercise(
        stop_at,  # async def stop_at(stream: AsyncIterable[str], marker: str) -> str
        cases=[Case(Source(["ab", "c!", "de"], every=0.5, kind="response"), "!")],
        ...
    )

An async generator. Its values are compared one by one, with the instant of each::

    exercise = Exercise(
        take,  # async def take(stream: AsyncIterator[str], n: int) -> AsyncIterator[str]
        cases=[
            Case(Source(["a", "b", "c"]), 2),
            Case(Source(["a"], error=ConnectionError("cut")), 2, note="the source breaks"),
            Case(Source(["a", "b"], at=[0.0, 5.0]), 2, pause=1.0, note="a slow reader"),
            Case(Source(["a", "b"]), 2, cancel_at=0.15, note="cancelled in between"),
        ],
        ...
    )

For other arguments (a queue somebody fills) there is `Build`, and for other ways to use the function
`Case(play=…)`.

What is compared, in this order: does it end; the kind of result (value, coroutine, generator, async
generator); the exception (its type, a subclass will do); the values (`wording.same`); seconds in `time.sleep`
inside async code; the instant of each value and of the end, neither later nor earlier than the reference's;
how far it read ahead; whether each source is closed where the reference closes it; tasks left running;
arguments changed.

Inside judged code `asyncio.sleep`, timeouts, queues and task groups cost no real time; `time.sleep`,
`time.time`, `time.monotonic` and `time.perf_counter` follow the virtual clock; `asyncio.to_thread` is played
on it. `random` is seeded anew for each run. `datetime.now()` is not virtual, and sockets are not there.
'''

from ..card import Block, Card, Code, Mood, Text
from .exercise import Build, Case, Exercise, Mistake, Source
from .judge import judge
from .progress import Attempts, Tally
from .stage import Stage
from .verdict import CheckFailed, State, Verdict

__all__ = [
    "Attempts",
    "Block",
    "Build",
    "Card",
    "Case",
    "CheckFailed",
    "Code",
    "Exercise",
    "Mistake",
    "Mood",
    "Source",
    "Stage",
    "State",
    "Tally",
    "Text",
    "Verdict",
    "judge",
]
