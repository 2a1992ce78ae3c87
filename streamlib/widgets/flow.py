"""Flow: a pipeline while it runs: what each part took in and handed on, who waits for whom. Lessons 3 and 4.

The pipeline is the real one: the parts you give, put together by `streamlib.pipeline.pipe`. Between any two
of them stands a meter that passes on each request and each item, and notes the instant. A part that has
asked for an item and has none yet has *no input*. One that nobody asks for an item is *not asked*: what it
waits for is the part below it, and that is backpressure. Otherwise it *works*.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable
from contextlib import AsyncExitStack
from functools import partial
from inspect import isawaitable
from time import perf_counter
from typing import Any

from ..closing import Chain
from ..patience import Opened
from ..pipeline import pipe
from . import view
from .flow_picture import Link, Part, Scene, draw_flow, meaning, rows


class Flow(view.View):
    """A pipeline's parts with their counts, what each has not passed on, and who waits for whom.

    ``await Flow(source, redact(["secret"]), sentences, consume=speak)``. The source is a stream, or what
    opens one: ``stream_chat(…)``, the coroutine of a client's ``create(…)``. `consume` is called with each
    item that comes out, plain or async; without it items are dropped as fast as they come. The next item is
    asked for when `consume` is done.

    After it, `.parts` are the source, the stages and the reader, each with what it took, gave and did. An
    error is shown at the part that raised it, and raised. However it ends, all is closed, as by `pipe`.
    """

    draw = staticmethod(draw_flow)

    def __init__(
        self,
        source: Opened[Any],
        /,
        *stages: Callable[[AsyncIterable[Any]], AsyncIterator[Any]],
        consume: Callable[[Any], Any] | None = None,
    ) -> None:
        super().__init__()
        names = [name_of(source), *map(name_of, stages), name_of(consume) if consume else "reader"]
        links = [Link() for _ in names[1:]]
        self.parts = [
            Part(name, above, below)
            for name, above, below in zip(names, [None, *links], [*links, None], strict=True)
        ]
        self.error: Exception | None = None
        self._source = source
        self._stages = stages
        self._consume = consume
        self._started: float | None = None
        self._ended: float | None = None

    async def receive(self) -> None:
        source, reader = self.parts[0], self.parts[-1]
        culprit = source  # who raised an error that no meter has seen
        self._started = perf_counter()
        try:
            async with AsyncExitStack() as stack:
                self._ask_all(True)  # until the source is open, it works and the others have no input
                stream: Any = await self._source if isawaitable(self._source) else self._source
                if hasattr(stream, "__aenter__"):
                    stream = await stack.enter_async_context(stream)
                self._ask_all(False)
                culprit = reader
                stages = [self._metered(*pair) for pair in zip(self._stages, self.parts[1:], strict=False)]
                chain = pipe(self._meter(source, stream), *stages)
                async for item in await stack.enter_async_context(chain):
                    if self._consume is not None:
                        result = self._consume(item)
                        if isawaitable(result):
                            await result
                    reader.strip.mark(self.settle(reader))
        except Exception as error:
            self.failed(culprit, error)
            raise
        finally:
            self._ended = perf_counter()
            self.settle(*self.parts)
            for part in self.parts:
                part.over = True

    def _metered(self, stage: Callable[[Any], Any], part: Part) -> Callable[[Any], Any]:
        """The same stage, with a meter behind it."""

        def metered(stream: AsyncIterable[Any]) -> Any:
            try:
                return self._meter(part, stage(stream))
            except Exception as error:
                self.failed(part, error)
                raise

        metered.__qualname__ = getattr(stage, "__qualname__", repr(stage))  # for pipe's error messages
        return metered

    def _meter(self, part: Part, stream: Any) -> Any:
        """What `part` hands on, metered. What is no stream stays as it is: `pipe` finds the words for it."""
        return _Meter(self, part, stream) if hasattr(stream, "__aiter__") else stream

    # -- what the meters note ----------------------------------------------------------------------------

    def _ask_all(self, asked: bool) -> None:
        self.settle(*self.parts)
        for part in self.parts[1:]:
            assert part.above is not None
            part.above.asked = asked

    def settle(self, *parts: Part) -> float:
        """Book the time since the last change to the state in which each part was; the seconds till now."""
        now = self._clock()
        for part in parts:
            part.settle(now)
        return now

    def failed(self, part: Part, error: Exception) -> None:
        """Note the first error, at the part that raised it: the parts below it only pass it on."""
        self.settle(part)
        part.over = True
        if self.error is None:
            self.error = error
            part.error = f"{type(error).__name__}: {error}"

    def _clock(self) -> float:
        """Seconds since the start; it stands still after the end."""
        return 0.0 if self._started is None else (self._ended or perf_counter()) - self._started

    # -- what it looks like ------------------------------------------------------------------------------

    def scene(self, now: float | None) -> Scene:
        return Scene(self.parts, self.settle(*self.parts), now is not None, self.stopped)

    def text(self) -> str:
        scene = self.scene(None)
        table = rows(scene)
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = [
            "  ".join(
                cell.rjust(width) if i else cell.ljust(width)
                for i, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            for row in table
        ]
        return "\n".join(["Flow: a pipeline, and who waits for whom", *lines, *meaning(scene)])


class _Meter:
    """The items of one part on their way to the next. It owns what it reads."""

    def __init__(self, flow: Flow, part: Part, stream: AsyncIterable[Any]) -> None:
        assert part.below is not None
        self._flow = flow
        self._link = part.below
        self._above = part
        self._below = flow.parts[flow.parts.index(part) + 1]
        self._items = aiter(stream)
        self._owned: Chain[Any] = Chain(self._items, stream)

    def __aiter__(self) -> _Meter:
        return self

    async def __anext__(self) -> Any:
        flow, link, above, below = self._flow, self._link, self._above, self._below
        flow.settle(above, below)
        link.asked = True
        below.asks()
        try:
            item = await anext(self._items)
        except StopAsyncIteration:
            flow.settle(above, below)
            above.over = True
            raise
        except Exception as error:
            flow.failed(above, error)
            raise
        finally:
            now = flow.settle(above, below)
            link.asked = False
        link.count(item, now)
        above.strip.mark(now)
        above.gave(item)
        below.took(item)
        return item

    async def aclose(self) -> None:
        try:
            await self._owned.aclose()
        finally:
            self._flow.settle(self._above)
            self._above.over = True


def name_of(part: Any) -> str:
    """What a reader calls a stage or a source: ``upper``, ``redact``, ``take(n=5)``, ``ChatStream``."""
    if isinstance(part, partial):
        settings = [*map(_setting, part.args), *(f"{k}={_setting(v)}" for k, v in part.keywords.items())]
        return f"{name_of(part.func)}({', '.join(settings)})"
    words: list[str] = getattr(part, "__qualname__", type(part).__name__).split(".")
    # redact(…) gives a function whose name is redact.<locals>.stage
    return words[-3] if len(words) > 2 and words[-2:] == ["<locals>", "stage"] else words[-1]


def _setting(value: Any) -> str:
    words = name_of(value) if callable(value) else repr(value)
    return words if len(words) <= 20 else words[:20] + "…"
