"""What every live view shares: it starts, draws at most 12 times a second, stops, and leaves a picture.

A view is awaited, in one line: ``await Race("…", model=model.name)``. It returns itself when all is over, and
its numbers are its attributes. Awaiting is the shape the lessons use: the next cell begins when this one is
done, also under Run All and nbclient, so that no cell disturbs another's times. Without ``await``, as the
last line of a cell, a view starts in the background and the cell ends at once.

- The stream is read in one task. The picture is drawn from a timer (`loop.call_later`), never by the code
  that receives, and a frame that is late is dropped, not queued. The timer also wakes the loop often enough
  for JupyterLab's own stop button to work while a cell awaits.
- A frame is text (HTML with SVG inside) set as the value of one `ipywidgets.HTML`: about a millisecond.
- At the end the widgets are closed and a static display takes their place, which a saved or exported notebook
  keeps. Where there is no notebook at all, the result is printed as text.
"""

from __future__ import annotations

import asyncio
import sys
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Sequence
from html import escape
from time import perf_counter
from typing import Any, Self

from ..palette import WAITING

FRAMES_PER_SECOND = 12

_running: list[View] = []


class View(ABC):
    """A live view. A subclass says what to receive and how to draw it; `Race` is the shortest example."""

    def __init__(self) -> None:
        self.stopped = False
        self._stop_asked = False
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._screen: _Screen | None = None
        self._cell: int | None = None  # the number of the cell that shows it

    # -- what a view is made of -------------------------------------------------------------------------

    @abstractmethod
    async def receive(self) -> None:
        """Do the work, and keep what arrived and when. Nothing here draws, prints or touches a widget."""

    @abstractmethod
    def html(self, now: float | None) -> str:
        """The picture at the instant `now` (seconds on `perf_counter`), or the final one when `now` is None.

        Whatever a model or a server wrote must pass through `html.escape`.
        """

    @abstractmethod
    def text(self) -> str:
        """What the final picture says, as plain text."""

    # -- running it --------------------------------------------------------------------------------------

    def __await__(self) -> Generator[Any, None, Self]:
        return self._wait().__await__()

    async def _wait(self) -> Self:
        task = self.start()
        try:
            await task
        except asyncio.CancelledError:
            if not self._stop_asked:
                # an interrupt of the cell, not our own Stop: the cell ends, with a short traceback
                raise asyncio.CancelledError(f"{type(self).__name__} was interrupted") from None
        finally:
            if task.done():
                self._end(task)
        if self._screen is None:
            print(self.text())
        return self

    def start(self) -> asyncio.Task[None]:
        """Show the view and begin. Returns the task that runs it; the same one when called again."""
        if self._task is None:
            loop = asyncio.get_running_loop()
            self._cell = _cell_number()
            for view in _running.copy():
                if view._cell != self._cell:  # of a cell run earlier: it would disturb the times of this one
                    view.stop()
            if self._cell is not None:
                self._screen = _Screen(self.html(perf_counter()), type(self).__name__)
                # some versions of ipykernel call a widget's handler in another thread
                self._screen.button.on_click(lambda _: loop.call_soon_threadsafe(self.stop))
            _running.append(self)
            self._draw(loop)
            self._task = loop.create_task(self.receive())
            self._task.add_done_callback(self._end)
        return self._task

    def stop(self) -> None:
        """End the view now; the connection is closed and the picture shows what had arrived."""
        if self._task is not None and not self._task.done():
            self._stop_asked = True
            self._task.cancel()

    def _draw(self, loop: asyncio.AbstractEventLoop) -> None:
        """One frame, and the timer for the next: on a slow machine fewer frames, not a backlog."""
        began = perf_counter()
        if self._screen is not None:
            self._screen.draw(self.html(began))
        pause = max(1 / FRAMES_PER_SECOND, 2 * (perf_counter() - began))
        self._timer = loop.call_later(pause, self._draw, loop)

    def _end(self, task: asyncio.Task[None]) -> None:
        """Once, when the task is over, however it ended."""
        if self not in _running:
            return
        self.stopped = task.cancelled()
        if self._timer is not None:
            self._timer.cancel()
        _running.remove(self)
        if self._screen is not None:
            self._screen.freeze(self.html(None), self.text())

    # -- how it looks as a value -------------------------------------------------------------------------

    def __repr__(self) -> str:
        name = type(self).__name__
        if self._task is None:
            return f"<{name}: not started, `await` it>"
        return self.text() if self._task.done() else f"<{name}: running>"

    def _ipython_display_(self) -> None:
        """As the value of a cell: start it if it has not been started, else show its picture once more."""
        from IPython.display import display

        here = _cell_number()
        if self._task is None and _loop_is_running():
            self.start()
        elif here is None or here != self._cell:  # in its own cell it is on the screen already
            done = self._task is not None and self._task.done()
            data = {"text/plain": repr(self)} | ({"text/html": self.html(None)} if done else {})
            display({kind: _sendable(value) for kind, value in data.items()}, raw=True)  # type: ignore[no-untyped-call]


class _Screen:
    """The widgets of one view in a notebook's output, and the static display that replaces them."""

    def __init__(self, first_frame: str, name: str) -> None:
        import ipywidgets  # type: ignore[import-untyped]
        from IPython.display import display

        self._picture = ipywidgets.HTML(first_frame)
        self.button = ipywidgets.Button(description="Stop", icon="stop", tooltip=f"stop this {name}")
        self._box = ipywidgets.VBox([self._picture, self.button])
        self._widgets = [self._picture, self.button, self._box]
        view = {"version_major": 2, "version_minor": 0, "model_id": self._box.model_id}
        hint = (
            f"{name} is running. Its moving picture needs JupyterLab's widgets; its result comes as text too."
        )
        data = {"application/vnd.jupyter.widget-view+json": view, "text/plain": hint}
        self._handle: Any = display(data, raw=True, display_id=True)  # type: ignore[no-untyped-call]

    def draw(self, frame: str) -> None:
        self._picture.value = _sendable(frame)

    def freeze(self, html: str, text: str) -> None:
        self._handle.update({"text/html": _sendable(html), "text/plain": _sendable(text)}, raw=True)
        for widget in self._widgets:
            for part in (widget, widget.layout, getattr(widget, "style", None)):
                if part is not None:
                    part.close()


def _sendable(words: str) -> str:
    """A chunk may carry half of a surrogate pair; a message to the browser is UTF-8 and cannot."""
    return words.encode(errors="replace").decode()


def _cell_number() -> int | None:
    """The number of the cell that runs now; None outside IPython."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return None if shell is None else int(shell.execution_count)


def _loop_is_running() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


# -- drawing with text -------------------------------------------------------------------------------
# Time goes from left (0 %) to right (100 % = `span` seconds), so that a picture is as wide as its notebook;
# heights and letters are in pixels, so that words stay readable at every width.


def frame(*parts: str) -> str:
    """A whole picture: words in the colours and letters of the page, light or dark."""
    style = (
        "color:var(--jp-ui-font-color1,inherit);font:13px/1.45 var(--jp-ui-font-family,sans-serif);"
        "font-variant-numeric:tabular-nums;padding:4px 12px 4px 2px"
    )
    return f'<div style="{style}">{"".join(parts)}</div>'


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of words; the first row is the head."""
    head, *body = [[escape(cell) for cell in row] for row in rows]
    cells = '<td style="text-align:left">'
    return (
        '<table style="margin:8px 0"><tr>'
        + "".join(f'<th style="text-align:left">{cell}</th>' for cell in head)
        + "".join(f"</tr><tr>{''.join(f'{cells}{cell}</td>' for cell in row)}" for row in body)
        + "</tr></table>"
    )


def lines(sentences: Iterable[str]) -> str:
    return "".join(f"<div>{escape(sentence)}</div>" for sentence in sentences)


def svg(height: int, label: str, parts: Iterable[str]) -> str:
    """A drawing over the whole width; `label` is what a screen reader says for it."""
    return (
        f'<svg role="img" aria-label="{escape(label)}" width="100%" height="{height}" '
        f'style="overflow:visible;display:block;font-size:12px" fill="currentColor">{"".join(parts)}</svg>'
    )


def nice_span(seconds: float) -> float:
    """The end of a time axis that holds `seconds`: it jumps now and then, it does not creep."""
    span = 1.0
    while True:
        for step in (1, 1.5, 2, 3, 4, 5, 6, 8):
            if step * span >= seconds:
                return step * span
        span *= 10


def time_span(clock: float, *, live: bool) -> float:
    """The end of the time axis: some room while the clock runs, none when it stands still."""
    return nice_span(clock) if live else max(1.02 * clock, 0.1)


def seconds(value: float) -> str:
    """A duration as people read it."""
    if value < 0.1:
        return f"{1000 * value:.0f} ms"
    return f"{value:.2f} s" if value < 10 else f"{value:.1f} s"


def percent(at: float, span: float) -> str:
    return f"{100 * at / span:.2f}%"


def note(x: str, y: float, words: str, *, anchor: str = "start", dim: bool = False) -> str:
    """Words in a drawing."""
    opacity = ' opacity="0.7"' if dim else ""
    return f'<text x="{x}" y="{y:.0f}" text-anchor="{anchor}"{opacity}>{escape(words)}</text>'


def line(start: float, end: float, span: float, y: float, colour: str = WAITING, width: float = 2) -> str:
    """From one instant to another; grey when somebody waits."""
    return (
        f'<line x1="{percent(start, span)}" x2="{percent(end, span)}" y1="{y:.0f}" y2="{y:.0f}" '
        f'stroke="{colour}" stroke-width="{width}"/>'
    )


def axis(span: float, y: int) -> str:
    """A time axis: a line, and a tick every so many seconds."""
    step = next(
        step
        for step in (0.02, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1e9)
        if span / step <= 8
    )
    count = int(span / step + 1e-9)
    parts = [line(0, span, span, y, "currentColor", 0.5)]
    for i in range(count + 1):
        x = percent(i * step, span)
        anchor = "start" if i == 0 else "end" if i * step > 0.97 * span else "middle"
        parts.append(
            f'<line x1="{x}" x2="{x}" y1="{y}" y2="{y + 4}" stroke="currentColor" stroke-width="0.5"/>'
        )
        parts.append(note(x, y + 17, f"{i * step:g} s", anchor=anchor, dim=True))
    return "".join(parts)


DIAMOND = "M0-6 6 0 0 6-6 0Z"  # the first token
CROSS = "M-5-5 5 5M-5 5 5-5"  # an error


def shape(path: str, at: float, span: float, y: float, colour: str, *, title: str = "") -> str:
    """A small shape, drawn around (0, 0), at an instant."""
    return (
        f'<svg x="{percent(at, span)}" y="{y:.0f}" overflow="visible"><path d="{path}" fill="{colour}" '
        f'stroke="{colour}" stroke-width="1.5"><title>{escape(title)}</title></path></svg>'
    )
