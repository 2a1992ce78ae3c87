"""Lines: many answers at once, a live line for each, and when each was under way. Lesson 8.

What runs them is not the view's business. It is a function of yours, which tells the view what happens::

    async def work(view):
        ...
        view.begin("a.txt")                 # its request leaves
        view.write("a.txt", " a piece")     # as often as text arrives
        view.end("a.txt")                   # or view.end("a.txt", error)

    await Lines(["a.txt", "b.txt"], work)
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from html import escape
from time import perf_counter
from typing import Any

from .. import drawing
from ..palette import ERROR, FIRST_TOKEN, TOKEN, WAITING
from .view import View

SHOWN = 160  # characters of an answer that fit into its line

LEGEND = (
    f'<span style="color:{WAITING}">━</span> waiting &nbsp; <span style="color:{FIRST_TOKEN}">◆</span> '
    f'first words &nbsp; <span style="color:{TOKEN}">▬</span> writing &nbsp; '
    f'<span style="color:{ERROR}">✗</span> failed'
)


@dataclass(slots=True)
class Line:
    """One answer. Instants are seconds on `perf_counter`, None before they come."""

    name: str
    started: float | None = None
    first: float | None = None
    ended: float | None = None
    whole: bool = False
    head: str = ""
    tail: str = ""
    error: str = ""
    note: str = ""
    cost: float = 0.0


@dataclass(frozen=True, slots=True)
class Scene:
    """What a picture shows: all lines, at the instant `now`, or in the end (None). `begun` is 0 s."""

    lines: list[Line]
    begun: float
    now: float | None
    over: float


def state(line: Line) -> str:
    """A line in words, for where there is no picture."""
    if line.error:
        return f"✗ {line.error}"
    if line.started is None or line.ended is None:
        return "not asked" if not line.head else f"from before: {line.head}"
    return f"{drawing.seconds(line.ended - line.started)}  {line.note}  {line.head}"


def draw_lines(scene: Scene) -> str:
    """For each answer its words, and below them when it waited and wrote, all on one time axis."""
    clock = (scene.now or scene.over) - scene.begun
    span = drawing.time_span(max(clock, 0.1), live=scene.now is not None)
    names = min(max((len(line.name) for line in scene.lines), default=0), 30)
    rows = [_row(line, names, scene, span) for line in scene.lines]
    done = sum(line.whole for line in scene.lines)
    failed = sum(bool(line.error) for line in scene.lines)
    counts = f"<b>{done} of {len(scene.lines)}</b> done" + (f", {failed} failed" if failed else "")
    if spent := sum(line.cost for line in scene.lines):
        counts += f", {spent:g} spent"
    axis = drawing.svg(22, "time axis", [drawing.axis(span, 1)])
    legend = f'<div style="font-size:12px">{LEGEND} &nbsp; {counts} after {drawing.seconds(clock)}</div>'
    return drawing.frame(*rows, axis, legend)


def _row(line: Line, names: int, scene: Scene, span: float) -> str:
    grid = f"display:grid;grid-template-columns:{0.6 * names + 0.5:.1f}em minmax(0,1fr) auto;column-gap:10px"
    name = f'<b style="overflow:hidden;text-overflow:ellipsis;white-space:nowrap">{escape(line.name)}</b>'
    note = f'<span style="opacity:0.7">{escape(line.note)}</span>'
    return f'<div style="{grid};margin-top:3px">{name}{_words(line)}{note}</div>{_lane(line, scene, span)}'


def _words(line: Line) -> str:
    """While it arrives the end of the text is in sight, after that its beginning."""
    one_line = "overflow:hidden;white-space:nowrap"
    if line.error:
        return f'<span style="{one_line};text-overflow:ellipsis;color:{ERROR}">✗ {escape(line.error)}</span>'
    if line.ended is not None:
        return (
            f'<span style="{one_line};text-overflow:ellipsis;opacity:0.85">{escape(_flat(line.head))}</span>'
        )
    inner = f'<span style="margin-right:auto">{escape(_flat(line.tail))}</span>'
    return f'<span style="{one_line};display:flex;justify-content:flex-end">{inner}</span>'


def _flat(text: str) -> str:
    return " ".join(text.split())


def _lane(line: Line, scene: Scene, span: float) -> str:
    y, parts = 6, [drawing.line(0, 0, span, 6)]
    if line.started is not None:
        start, end = line.started - scene.begun, (line.ended or scene.now or scene.over) - scene.begun
        first = end if line.first is None else line.first - scene.begun
        parts = [drawing.line(start, first, span, y)]
        if line.first is not None:
            parts.append(drawing.line(first, end, span, y, TOKEN, 6))
            parts.append(drawing.shape(drawing.DIAMOND, first, span, y, FIRST_TOKEN, title="first words"))
        if line.error:
            parts.append(drawing.shape(drawing.CROSS, end, span, y, ERROR, title=line.error))
    label = f"{line.name}: {line.error or ('done' if line.ended else 'writing' if line.first else 'waiting')}"
    return drawing.svg(13, label, parts)


class Lines(View):
    """``await Lines(names, work)``: `work(view)` is awaited, a line for each name shows what it tells.

    After it `.result` is what `work` returned; an error of `work` is raised. With `run_batch`::

        def work(view):
            return run_batch(jobs, …, on_start=view.begin, on_text=view.write, on_result=view.keep)
    """

    draw = staticmethod(draw_lines)

    def __init__(self, names: Iterable[str], work: Callable[[Lines], Awaitable[Any]]) -> None:
        super().__init__()
        self.result: Any = None
        self._lines = {name: Line(name) for name in names}
        self._work = work
        self._begun = self._over = perf_counter()

    # -- what the work tells ------------------------------------------------------------------------------

    def begin(self, name: str) -> None:
        """The request for `name` leaves."""
        self._lines[name].started = perf_counter()

    def write(self, name: str, text: str) -> None:
        """A piece of its answer has arrived."""
        line = self._lines[name]
        if text and line.first is None:
            line.first = perf_counter()
        if len(line.head) < SHOWN:
            line.head = (line.head + text)[:SHOWN]
        line.tail = (line.tail + text)[-SHOWN:]

    def end(self, name: str, error: BaseException | None = None, note: str = "") -> None:
        """Its answer is whole, or has failed. `note` stands at the end of the line."""
        line = self._lines[name]
        line.ended = perf_counter()
        line.note = note
        line.whole = error is None
        if error is not None:
            line.error = f"{type(error).__name__}: {error}"

    def keep(self, result: Any) -> None:
        """The same from a `streamlib.batch.Result`."""
        line = self._lines[result.key]
        line.cost = result.cost
        if line.started is None:  # it was there before
            line.head = line.tail = result.text[:SHOWN]
        self.end(result.key, result.error, f"{result.usage.output} tokens" if result.usage else "")

    # -- the view -----------------------------------------------------------------------------------------

    async def receive(self) -> None:
        self._begun = perf_counter()
        try:
            self.result = await self._work(self)
        finally:
            self._over = perf_counter()
            for line in self._lines.values():
                if line.started is not None and line.ended is None:
                    line.ended, line.note = self._over, "unfinished"

    def scene(self, now: float | None) -> Scene:
        return Scene(list(self._lines.values()), self._begun, now, self._over)

    def text(self) -> str:
        width = max(map(len, self._lines), default=0)
        return "\n".join(f"{line.name:{width}}  {state(line)}" for line in self._lines.values())
