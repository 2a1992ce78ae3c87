"""What every live view shares: it starts, draws at most 12 times a second, stops, and leaves a picture.

A view is awaited, in one line: ``await Race("…", model=model.name)``. It returns itself when all is over, and
its numbers are its attributes. Awaiting is the shape the lessons use: the next cell begins when this one is
done, also under Run All and nbclient, so that no cell disturbs another's times. Without ``await``, as the
last line of a cell, a view starts in the background and the cell ends at once.

- One task receives. Another takes a snapshot now and then, the scene, and the painter process makes a picture
  of it, so that drawing takes no time from receiving. The next scene is taken when the last picture is there:
  a frame that is late is dropped, not queued. That task also wakes the loop often enough for JupyterLab's own
  stop button to work while a cell awaits.
- A picture is text (HTML with SVG inside) set as the value of one `ipywidgets.HTML`: about a millisecond.
- At the end the widgets are closed and a static display takes their place, which a saved or exported notebook
  keeps. Where there is no notebook at all, the result is printed as text.
"""

from __future__ import annotations

import asyncio
import sys
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Generator
from html import escape
from time import perf_counter
from typing import Any, Protocol, Self

from ..drawing import frame, lines
from ..palette import ERROR
from ..streams import loop_is_running
from .painter import painter

FRAMES_PER_SECOND = 12


class Runs(Protocol):
    """What runs in a cell and can be stopped."""

    def stop(self) -> None: ...


_running: list[tuple[int | None, Runs]] = []  # each with the number of its cell


class View(ABC):
    """A live view. A subclass says what to receive, what a picture shows, and how to draw it.

    `Race` is an example. `draw` is ``staticmethod(draw_race)``, a function at the top level of its module:
    it runs in the painter process, which imports that module, and makes a picture (HTML) of a scene. Whatever
    a model or a server wrote must pass through `html.escape` there.
    """

    draw: Callable[[Any], str]

    def __init__(self) -> None:
        self.stopped = False
        self._stop_asked = False
        self._task: asyncio.Task[None] | None = None
        self._screen: _Screen | None = None
        self._cell: int | None = None  # the number of the cell that shows it
        self._final = ""  # the picture that stays

    # -- what a view is made of -------------------------------------------------------------------------

    @abstractmethod
    async def receive(self) -> None:
        """Do the work, and keep what arrived and when. Nothing here draws, prints or touches a widget."""

    @abstractmethod
    def scene(self, now: float | None) -> Any:
        """What a picture needs at the instant `now` (seconds on `perf_counter`), or in the end (None).

        Called in the loop that receives, so keep it cheap: plain values, as few as the picture shows. It is
        pickled before anything else runs, and may hold lists that go on growing.
        """

    @abstractmethod
    def text(self) -> str:
        """What the final picture says, as plain text."""

    def html(self, now: float | None) -> str:
        """The picture, drawn here and not by the painter. An error in the drawing becomes its words."""
        try:
            return self.draw(self.scene(now))
        except Exception as error:
            return self._undrawn(error, now)

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
            self._cell = cell_number()
            enter(self)
            if self._cell is not None:
                # the first picture is drawn here: the painter may have to start, and nothing stays empty
                self._screen = _Screen(self.html(perf_counter()), type(self).__name__)
                # some versions of ipykernel call a widget's handler in another thread
                self._screen.button.on_click(lambda _: loop.call_soon_threadsafe(self.stop))
            self._task = loop.create_task(self._run(self._screen))
            self._task.add_done_callback(self._end)
        return self._task

    def stop(self) -> None:
        """End the view now; the connection is closed and the picture shows what had arrived."""
        if self._task is not None and not self._task.done():
            self._stop_asked = True
            self._task.cancel()

    async def _run(self, screen: _Screen | None) -> None:
        """Receive, with moving pictures beside it, and draw the last one."""
        if screen is None:
            await self.receive()
            return

        async def show() -> None:
            screen.draw(await self._picture(perf_counter()))

        moving = asyncio.create_task(keep_moving(show))
        try:
            await self.receive()
        except asyncio.CancelledError:
            self.stopped = True
            raise
        finally:
            moving.cancel()
            await asyncio.wait([moving])
            self._final = await self._picture(None)

    async def _picture(self, now: float | None) -> str:
        try:
            return await painter().paint(self.draw, self.scene(now))
        except Exception as error:
            return self._undrawn(error, now)

    def _undrawn(self, error: Exception, now: float | None) -> str:
        """In the picture's place: why there is none. Receiving goes on, and in the end the text is there."""
        notes = getattr(error, "__notes__", [])
        words = ["The picture could not be drawn: " + ", ".join([f"{type(error).__name__}: {error}", *notes])]
        result = "" if now else f"<pre>{escape(self.text())}</pre>"
        return frame(f'<div style="color:{ERROR}">✗ {lines(words)}</div>', result)

    def _end(self, task: asyncio.Task[None]) -> None:
        """Once, when the task is over, however it ended."""
        if not leave(self):
            return
        self.stopped = task.cancelled()
        if self._screen is not None:
            self._final = self._final or self.html(None)  # stopped before it began, or twice
            self._screen.freeze(self._final, self.text())

    # -- how it looks as a value -------------------------------------------------------------------------

    def __repr__(self) -> str:
        name = type(self).__name__
        if self._task is None:
            return f"<{name}: not started, `await` it>"
        return self.text() if self._task.done() else f"<{name}: running>"

    def _ipython_display_(self) -> None:
        """As the value of a cell: start it if it has not been started, else show its picture once more."""
        from IPython.display import display

        here = cell_number()
        if self._task is None and loop_is_running():
            self.start()
        elif here is None or here != self._cell:  # in its own cell it is on the screen already
            done = self._task is not None and self._task.done()
            data = {"text/plain": repr(self)} | (
                {"text/html": self._final or self.html(None)} if done else {}
            )
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


async def keep_moving(
    show: Callable[[], Awaitable[None]], frames_per_second: Callable[[], float] = lambda: FRAMES_PER_SECOND
) -> None:
    """`show` one picture after the other, until cancelled: on a slow machine fewer, not a backlog."""
    before = 0.0
    while True:
        began = perf_counter()
        await show()
        took = perf_counter() - began
        # twice as long as a picture takes; a single slow one (the first: the painter starts) is forgiven
        await asyncio.sleep(max(1 / frames_per_second(), 2 * min(took, before)) - took)
        before = took


def _sendable(words: str) -> str:
    """A chunk may carry half of a surrogate pair; a message to the browser is UTF-8 and cannot."""
    return words.encode(errors="replace").decode()


def enter(run: Runs) -> None:
    """Begin to run; what a cell run earlier has begun is stopped: it would disturb the times of this one."""
    cell = cell_number()
    for other_cell, other in _running.copy():
        if other_cell != cell:
            other.stop()
    leave(run)
    _running.append((cell, run))


def leave(run: Runs) -> bool:
    """It runs no more. Whether it did."""
    before = len(_running)
    _running[:] = [(cell, other) for cell, other in _running if other is not run]
    return len(_running) < before


def cell_number() -> int | None:
    """The number of the cell that runs now; None outside IPython."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return None if shell is None else int(shell.execution_count)
