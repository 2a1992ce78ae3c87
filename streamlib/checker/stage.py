"""One case, played: call a function on a virtual clock, consume what it gives, write down what happened.

Nothing here starts a thread or a process, so a case can also be played where there are none. What bounds the
real time of a case is in `guard`; what judged code meets instead of the real `time.sleep` and `print` is in
`intercept`.
"""

from __future__ import annotations

import asyncio
import inspect
import linecache
import random
import traceback
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any, Literal, Self

from . import intercept
from .clock import START, Clock, Stuck, VirtualLoop
from .exercise import Case, Solution, Source, copied, opened

# what calling the function gave; "nothing" when the call itself raised
Shape = Literal["nothing", "value", "coroutine", "generator", "async generator", "coroutine of a stream"]

PRINT_LIMIT = 2_000  # characters of a learner's prints that are kept
VALUES = 100_000  # values after which a stream is called endless


@dataclass(frozen=True, slots=True)
class Arrival:
    """A value that came out of a stream: when (seconds after the call), how much had been read by then."""

    at: float
    value: object
    read: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """All that can be seen of one call from outside. Times are virtual seconds after the call."""

    shape: Shape
    arrivals: tuple[Arrival, ...]
    returned: object
    ended: float
    error: BaseException | None
    stuck: str  # why it was stopped, or ""
    blocked: float  # seconds in `time.sleep`
    read: int  # values taken from the sources
    closed: tuple[bool, ...]  # per source: nothing is left open
    tasks_left: int
    inputs_changed: bool
    unawaited: tuple[str, ...]  # names of coroutines that nobody awaited
    printed: str
    where: str  # the learner's line that raised or waits, or ""
    raised_here: bool  # by a line of the learner's, not by something it called


class OpenSource:
    """A `Source` in use. It knows what was read and whether it was closed."""

    def __init__(self, source: Source, clock: Clock) -> None:
        self._source = source
        self._clock = clock
        self.read = 0
        self.started = False
        self.closed = False

    def _next_instant(self) -> float | None:
        """When the next value or the end arrives; None when there is nothing more."""
        if self.closed:
            return None
        self.started = True
        return START + self._source.instant(self.read)

    def _next_value(self) -> tuple[object] | None:
        """The value that has arrived, or None at the end. Raises the source's error."""
        if self.closed:
            return None
        if self.read < len(self._source.values):
            self.read += 1
            return (copied(self._source.values[self.read - 1]),)
        self.closed = True
        if self._source.error is not None:
            raise copied(self._source.error)
        return None

    @property
    def nothing_left_open(self) -> bool:
        return self.closed or (not self.started and self._source.kind != "response")


class OpenStream(OpenSource):
    """What an async source looks like to judged code: an async generator, as far as it goes."""

    _reading = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> object:
        if self._reading:
            raise RuntimeError("anext(): asynchronous generator is already running")
        self._reading = True
        try:
            instant = self._next_instant()
            if instant is not None and instant > self._clock.now:
                await asyncio.sleep(instant - self._clock.now)
            value = self._next_value()
        except asyncio.CancelledError:
            # a generator that is cancelled while it waits is finished; so is the response behind it
            self.closed = True
            raise
        finally:
            self._reading = False
        if value is None:
            raise StopAsyncIteration
        return value[0]

    async def aclose(self) -> None:
        self.closed = True


class OpenResponse(OpenStream):
    """An async source that looks like `openai.AsyncStream`."""

    async def close(self) -> None:
        self.closed = True

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.closed = True


class OpenIterator(OpenSource):
    """What a sync source looks like: a generator. Waiting for a value passes virtual time."""

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> object:
        instant = self._next_instant()
        if instant is not None:
            self._clock.jump(instant)
        value = self._next_value()
        if value is None:
            raise StopIteration
        return value[0]

    def close(self) -> None:
        self.closed = True


class Printed:
    """The beginning of what judged code printed."""

    def __init__(self) -> None:
        self._kept = ""
        self._lost = 0

    def write(self, text: str) -> None:
        room = PRINT_LIMIT - len(self._kept)
        self._kept += text[:room]
        self._lost += max(0, len(text) - room)

    def __str__(self) -> str:
        return self._kept + (f"\n… and {self._lost:,} more characters" if self._lost else "")


class Stage:
    """Where one case is played. It hands out the sources and records what comes out."""

    def __init__(self, clock: Clock, loop: VirtualLoop, max_values: int, printed: Printed) -> None:
        self.clock = clock
        self.loop = loop
        self.max_values = max_values
        self.printed = printed
        self.sources: list[OpenSource] = []
        self.arrivals: list[Arrival] = []
        self.unawaited: list[str] = []
        self.result: object = None  # what the call itself gave, for finding where it waits
        self.shape: Shape = "nothing"
        self.returned: object = None
        self.error: BaseException | None = None
        self.finished: dict[str, Any] = {}
        self._own_tasks: set[asyncio.Task[Any]] = set()

    def open_source(self, source: Source) -> OpenSource:
        kinds = {"async generator": OpenStream, "response": OpenResponse, "iterator": OpenIterator}
        self.sources.append(kinds[source.kind](source, self.clock))
        return self.sources[-1]

    def spawn(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Start a task that belongs to the case, not to the judged code."""
        task = self.loop.create_task(coroutine)
        self._own_tasks.add(task)
        return task

    def deliver(self, value: object) -> None:
        """Record that a value came out just now."""
        if len(self.arrivals) >= self.max_values:
            raise Stuck("it goes on and on")
        read = sum(source.read for source in self.sources)
        self.arrivals.append(Arrival(self.clock.elapsed, copied(value), read))

    async def collect(self, stream: Any, *, take: int | None = None, pause: float = 0.0) -> None:
        """Consume an async stream, recording each value; with `take`, close it after that many."""
        taken = 0
        try:
            if take != 0:
                async for value in stream:
                    self.deliver(value)
                    taken += 1
                    if taken == take:
                        break
                    if pause:
                        await asyncio.sleep(pause)
        finally:
            if take is not None and hasattr(stream, "aclose"):
                await stream.aclose()

    def collect_now(self, stream: Iterator[Any], *, take: int | None = None, pause: float = 0.0) -> None:
        """The same for a plain iterator; it runs to the end without a turn of the loop."""
        taken = 0
        try:
            if take != 0:
                for value in stream:
                    self.deliver(value)
                    taken += 1
                    if taken == take:
                        break
                    if pause:
                        self.clock.jump(self.clock.now + pause)
        finally:
            if take is not None and hasattr(stream, "close"):
                stream.close()

    async def perform(self, solution: Solution, case: Case) -> None:
        """Play the case and take down how things stand at the moment it is over."""
        args = opened(case.args, self)
        kwargs = opened(case.kwargs, self)
        before = [copied(value) for value in case.args]
        try:
            if case.play is not None:
                self.returned = copied(await case.play(solution, self))
            else:
                await self._consume(solution(*args, **kwargs), case)
        except Stuck:
            raise
        except BaseException as error:
            if isinstance(error, intercept.Halt):
                raise
            if isinstance(error, MemoryError):
                raise Stuck("it asks for more memory than there is") from error
            if not self.finished:
                self.error = error
        finally:
            self.take_stock(_changed(before, args))

    async def _consume(self, result: Any, case: Case) -> None:
        self.result = result
        if inspect.isawaitable(result):
            self.shape = "coroutine"
            result = await result
            if hasattr(result, "__aiter__"):
                self.shape = "coroutine of a stream"
        elif hasattr(result, "__aiter__"):
            self.shape = "async generator"
        elif hasattr(result, "__next__"):
            self.shape = "generator"
        else:
            self.shape = "value"
        if hasattr(result, "__aiter__"):
            await self.collect(result, take=case.take, pause=case.pause)
        elif hasattr(result, "__next__"):
            self.collect_now(result, take=case.take, pause=case.pause)
        else:
            self.returned = copied(result)

    def take_stock(self, inputs_changed: bool) -> None:
        """Write down how things stand now: what is closed, what still runs. The first time counts."""
        if self.finished:
            return
        mine = {*self._own_tasks, asyncio.current_task(self.loop)}
        left = [t for t in asyncio.all_tasks(self.loop) - mine if not t.cancelling()]
        self.finished = {
            "ended": self.clock.elapsed,
            "read": sum(source.read for source in self.sources),
            "closed": tuple(source.nothing_left_open for source in self.sources),
            "tasks_left": len(left),
            "inputs_changed": inputs_changed,
        }


def _changed(before: list[object], after: tuple[object, ...]) -> bool:
    """Whether a plain list, dict, set or bytearray among the arguments is not what it was."""
    plain = (list, dict, set, bytearray)
    try:
        return any(type(b) in plain and b != a for b, a in zip(before, after, strict=True))
    except Exception:  # holds a value that cannot be compared
        return False


def run_case(
    solution: Solution,
    case: Case,
    *,
    seconds: float = 1e6,
    values: int = VALUES,
    home: str = "",
    printed: Printed | None = None,
) -> Outcome:
    """Play `case` with `solution`, in this thread.

    `seconds` are virtual and, like `values`, a bound far beyond what the case needs. `home` is the module
    whose lines are the learner's, to say where it happened. `printed` can be read while the case plays.
    """
    clock = Clock(seconds)
    loop = VirtualLoop(clock)
    loop.set_exception_handler(lambda loop, context: None)  # what nobody awaits must not reach the screen
    stage = Stage(clock, loop, values, printed if printed is not None else Printed())
    stuck = where = ""
    raised_here = False
    with intercept.judged(stage), _no_running_loop(), _seeded_random():
        performance = loop.create_task(stage.perform(solution, case))
        if case.cancel_at is not None:
            loop.call_at(START + case.cancel_at, performance.cancel)
        try:
            loop.run_until_complete(performance)
        except Stuck as reason:
            stuck = str(reason)
            where = _line_of_traceback(reason, home) or _line_of_waiting(stage.result, home)
            _forget_frames(reason)
        except (SystemExit, KeyboardInterrupt) as error:  # from a task of the judged code
            if isinstance(error, intercept.Halt):
                raise
            stage.error = error
        except RuntimeError:
            if performance.done():
                raise
            stuck = "it stopped the event loop, which others need too"
        finally:
            stage.take_stock(inputs_changed=False)
            _clean_up(loop)
        if stage.error is not None:
            where = _line_of_traceback(stage.error, home)
            raised_here = _innermost_module(stage.error) == home
            _forget_frames(stage.error)
        stage.result = None
    return Outcome(
        shape=stage.shape,
        arrivals=tuple(stage.arrivals),
        returned=stage.returned,
        error=stage.error,
        stuck=stuck,
        blocked=clock.blocked,
        unawaited=tuple(stage.unawaited),
        printed=str(stage.printed),
        where=where,
        raised_here=raised_here,
        **stage.finished,
    )


def _clean_up(loop: VirtualLoop) -> None:
    """Cancel what still runs and close open generators, as `asyncio.run` does, but never wait for ever.

    What is left must not speak up later, when it is collected as garbage in somebody else's cell.
    """
    loop.allow(1.0)
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    endings = [asyncio.wait(tasks)] if tasks else []
    for ending in (*endings, loop.shutdown_asyncgens()):
        with _whatever_happens():
            loop.run_until_complete(ending)
        ending.close()
    for task in tasks:
        with _whatever_happens():
            task.get_coro().close()
    loop.close()


@contextmanager
def _whatever_happens() -> Iterator[None]:
    """For courtesies after the outcome is known: only the guard may interrupt them."""
    try:
        yield
    except intercept.Halt:
        raise
    except BaseException:
        pass


def _forget_frames(error: BaseException | None) -> None:
    """Let go of what the frames of a traceback hold: coroutines that nobody awaited, memory."""
    while error is not None and error.__traceback__ is not None:
        traceback.clear_frames(error.__traceback__)
        error.__traceback__ = None
        error = error.__cause__ or error.__context__


@contextmanager
def _no_running_loop() -> Iterator[None]:
    """Forget for a while that this thread runs a loop already, as a notebook's main thread does."""
    running = asyncio._get_running_loop()
    asyncio._set_running_loop(None)
    try:
        yield
    finally:
        asyncio._set_running_loop(running)


@contextmanager
def _seeded_random() -> Iterator[None]:
    """The same random numbers in every run, so that the same answer gets the same verdict."""
    state = random.getstate()
    random.seed(0)
    try:
        yield
    finally:
        random.setstate(state)


def _line_of_traceback(error: BaseException, home: str) -> str:
    """The last line of module `home` in the error's traceback, as "line 3: `code`", or ""."""
    found = ""
    for frame, number in traceback.walk_tb(error.__traceback__):
        found = line_of_code(frame, number, home) or found
    return found


def _innermost_module(error: BaseException) -> str:
    """The module whose line raised the error."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return str(frames[-1].f_globals.get("__name__")) if frames else ""


def _line_of_waiting(awaitable: Any, home: str) -> str:
    """The innermost line of module `home` at which a suspended coroutine or async generator waits, or ""."""
    found = ""
    while awaitable is not None:
        frame = getattr(awaitable, "cr_frame", None) or getattr(awaitable, "ag_frame", None)
        if frame is not None:
            found = line_of_code(frame, frame.f_lineno, home) or found
        awaitable = getattr(awaitable, "cr_await", None) or getattr(awaitable, "ag_await", None)
    return found


def line_of_code(frame: FrameType, number: int, home: str) -> str:
    """That line as "line 3: `code`" when the frame belongs to module `home`, else ""."""
    if not home or frame.f_globals.get("__name__") != home:
        return ""
    code = linecache.getline(frame.f_code.co_filename, number, frame.f_globals).strip()
    return f"line {number}: `{code}`" if code else f"line {number}"
