"""Board: time to first token against throughput, live, a mark for each stream. Lesson 7.

``board = Board(model=model.name)`` and ``board`` as the last line of a cell show it with its controls. A
run takes so many streams, so many at once; the board keeps all runs, and puts those with one label into one
group. A cell may also run it, and get the numbers::

    run = await board.run("8 at once", concurrency=8, requests=24)
    run.streams, run.failed, run.valid
    board.save("board.csv")

`board_load.py` makes the load and measures, `board_run.py` has what a run is and its table,
`board_picture.py` draws, `board_screen.py` has the widgets. Here they meet.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine, Generator, Iterable, Mapping, Sequence
from contextlib import suppress
from html import escape
from pathlib import Path
from typing import Any, Self

from ..drawing import frame, lines
from ..metrics import StreamStats
from ..streams import loop_is_running
from . import view
from .ask import Ask
from .board_load import Headers, Load, headers_of, make_prompt
from .board_picture import Picture, draw_board, draw_file
from .board_run import STOPPED, Result, Run, Settings, bins_of, rates, text_table, to_csv
from .board_scene import Ended, Scene, counted, make_scene
from .board_screen import EMPTY, Choice, Screen
from .board_server import look_at
from .painter import PainterError, painter

PROMPT_WORDS = 20
MANY = 16  # streams at once; with more of them the picture moves less often, and leaves them the processor
SLOWER = 5.5  # pictures a second, with many streams

_in_cells: dict[str, Board] = {}  # by the cell that shows it: who runs the cell again replaces it


class Board:
    """TTFT against throughput, a mark for each stream that moves while it streams; all runs are kept.

    ``await Board("Why is the sky blue?", model=model.name)`` is one run in one line. Without a prompt each
    stream asks another question of a length you choose. `headers` are sent along, further keywords go into
    the request (``max_completion_tokens=200``), here for all runs, in `run` for one.
    """

    def __init__(
        self,
        prompt: str | Sequence[Mapping[str, Any]] | None = None,
        *,
        model: str,
        base_url: str | None = None,
        api_key: str | None = None,
        headers: Headers | None = None,
        **options: Any,
    ) -> None:
        self.prompt = prompt
        self.ask = Ask(prompt or "", model, base_url, api_key, None, options)
        self.headers = headers
        self.runs: list[Run] = []
        self._loads: list[Load] = []  # that run now
        self._ended: dict[str, Ended] = {}  # by label: what need not be worked out anew for each picture
        self._moving: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[Any]] = set()  # begun by a click, or to show the first picture
        self._screen: Screen | None = None
        self._shown_in: tuple[str | None, int | None] = (None, None)

    # -- what it does ------------------------------------------------------------------------------------

    async def run(
        self,
        label: str | None = None,
        *,
        concurrency: int = 4,
        requests: int = 12,
        prompt_words: int = PROMPT_WORDS,
        model: str | None = None,
        headers: Headers | None = None,
        **options: Any,
    ) -> Run:
        """One run: `requests` streams, `concurrency` at once. It is shown where the board stands, else here.

        `headers` may be a function of the stream's number (1, 2, …). A stream that fails raises nothing: it
        is counted, and its `Result` says why. Stopped, it returns what had come to an end. Runs that are
        awaited together (`asyncio.gather`) share the board and the time.
        """
        model = model or self.ask.model
        label = label or f"{model}, {concurrency} at once"
        ask = Ask(
            self.ask.prompt, model, self.ask.base_url, self.ask.api_key, None, {**self.ask.options, **options}
        )
        prompt = make_prompt(prompt_words) if self.prompt is None else None
        load = Load(
            ask,
            label=label,
            concurrency=concurrency,
            requests=requests,
            prompt=prompt,
            headers=lambda number: headers_of(self.headers, number) | headers_of(headers, number),
        )
        view.enter(self)
        self._show_once()
        self._loads.append(load)
        if self._screen is not None and self._moving is None:
            self._screen.busy(True)
            self._moving = asyncio.create_task(self._move(self._screen))
        try:
            run = await load.run()
        finally:  # also when the cell is interrupted: what has come stays
            self._loads.remove(load)
            run = load.so_far()
            if run.results:
                self.runs.append(run)
            if not self._loads:
                await self._rest()
        return run

    def stop(self) -> None:
        """End what runs now; its connections are closed, and what has come to an end stays on the board."""
        for load in self._loads:
            load.stop()

    def add(self, label: str, streams: Iterable[StreamStats]) -> Run:
        """Put streams on the board that you have measured yourself, as a run in which they began together."""
        results = tuple(
            Result(number, 0.0, stats, "" if stats.completed else STOPPED)
            for number, stats in enumerate(streams, 1)
        )
        seconds = max((result.stats.end_to_end or 0.0 for result in results), default=0.0)
        together = rates(bins_of(result.stats for result in results), seconds)
        run = Run(label, Settings(self.ask.model, len(results), len(results), 0), results, seconds, together)
        self.runs.append(run)
        self._changed()
        return run

    def clear(self) -> None:
        """Forget all runs."""
        self.runs.clear()
        self._ended.clear()
        self._changed()

    def csv(self) -> str:
        """All runs, a line for each stream; the columns are those of `board_run.to_csv`."""
        return to_csv(self.runs)

    def save(self, path: str | Path) -> None:
        """Write a .csv of all runs, or the picture as .png or .svg; the name's ending says which."""
        path = Path(path)
        kind = path.suffix.lower().removeprefix(".")
        if kind not in ("csv", "png", "svg"):
            raise ValueError(f"a board is saved as .csv, .png or .svg, not as {path.name!r}")
        path.write_bytes(self.csv().encode() if kind == "csv" else draw_file((self.scene(), kind)))

    def close(self) -> None:
        """End what runs and take the controls away; the picture stays. `run` shows it anew."""
        self.stop()
        for task in self._tasks:
            task.cancel()
        if self._screen is not None:
            self._screen.close()
            self._screen = None

    def __await__(self) -> Generator[Any, None, Self]:
        return self._once().__await__()

    async def _once(self) -> Self:
        await self.run()
        if self._screen is None:
            print(self.text())
        return self

    # -- what it shows -----------------------------------------------------------------------------------

    def text(self) -> str:
        """The board as plain text."""
        return (
            f"Board: {counted(len(self.runs), 'run')}\n{text_table(self.runs)}"
            if self.runs
            else "Board: no run yet"
        )

    def scene(self) -> Scene:
        """What the picture shows now."""
        return make_scene(self.runs, self._loads, self._ended)

    def __repr__(self) -> str:
        return self.text()

    def _ipython_display_(self) -> None:
        """As the value of a cell: here, with its controls; where it is shown already, not twice."""
        if not loop_is_running():  # in a terminal there is nothing to click
            print(self.text())
        elif self._screen is None or self._shown_in != _cell():
            self._show()

    # -- the screen --------------------------------------------------------------------------------------

    def _show_once(self) -> None:
        """Show it in this cell, unless it stands in another; a cell that runs again has lost its output."""
        name, number = _cell()
        if number is not None and (
            self._screen is None or (name == self._shown_in[0] and number != self._shown_in[1])
        ):
            self._show()

    def _show(self) -> None:
        loop = asyncio.get_running_loop()
        name, _ = self._shown_in = _cell()
        before = _in_cells.get(name or "")
        if before is not None and before is not self:
            before.close()
        if name is not None:
            _in_cells[name] = self
        if self._screen is None:
            # some versions of ipykernel call a widget's handler in another thread
            self._screen = Screen(
                self.ask.model,
                start=lambda choice: _call(loop, self._start, choice),
                stop=lambda: _call(loop, self.stop),
                clear=lambda: _call(loop, self.clear),
            )
            self._later(self._prepare(self._screen))
        self._screen.show(frame(f"<pre>{escape(self.text())}</pre>") if self.runs else EMPTY, self.text())

    async def _prepare(self, screen: Screen) -> None:
        """The first picture, and what the server has to choose from."""
        await asyncio.gather(self._keep(), self._ask_server(screen))

    async def _ask_server(self, screen: Screen) -> None:
        async with self.ask.client() as client:
            screen.serve(await look_at(client))

    def _start(self, choice: Choice) -> None:
        """The Start button."""
        if not self._loads:
            self._later(
                self.run(
                    choice.label,
                    concurrency=choice.concurrency,
                    requests=choice.requests,
                    prompt_words=choice.prompt_words,
                    model=choice.model,
                    headers=choice.headers,
                )
            )

    def _changed(self) -> None:
        if self._screen is not None:
            self._later(self._keep())

    def _later(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _move(self, screen: Screen) -> None:
        async def show() -> None:
            screen.draw(await self._picture())

        def frames_per_second() -> float:
            at_once = sum(load.concurrency for load in self._loads)
            return SLOWER if at_once > MANY else view.FRAMES_PER_SECOND

        await view.keep_moving(show, frames_per_second)

    async def _rest(self) -> None:
        """All runs are over: the picture that stays."""
        view.leave(self)
        if self._moving is not None:
            self._moving.cancel()
            await asyncio.wait([self._moving])
            self._moving = None
        await self._keep()

    async def _keep(self) -> None:
        """The picture that stays, and the files that go with it."""
        screen = self._screen
        if screen is None or self._loads:  # what runs will come to an end, and have its picture then
            return
        screen.keep(await self._picture(), self.text())
        files = {}
        if self.runs:
            files["board.csv"] = self.csv().encode()
            with suppress(PainterError):
                files["board.png"] = await painter().paint(draw_file, (self.scene(), "png"))
        screen.offer(files)
        screen.busy(bool(self._loads))

    async def _picture(self) -> Picture:
        try:
            return await painter().paint(draw_board, self.scene())
        except PainterError as error:  # measuring goes on, and the next picture may come
            return Picture(frame(lines([f"No picture: {error}."]), f"<pre>{escape(self.text())}</pre>"))


def _call(loop: asyncio.AbstractEventLoop, function: Callable[..., None], *arguments: Any) -> None:
    loop.call_soon_threadsafe(function, *arguments)


def _cell() -> tuple[str | None, int | None]:
    """The cell that runs now: its name, which stays when it runs again, and its number; None without a cell.

    JupyterLab sends the name with every cell; other front ends need not.
    """
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    kernel = getattr(shell, "kernel", None)
    if kernel is None:
        return None, view.cell_number()
    return kernel.get_parent().get("metadata", {}).get("cellId"), view.cell_number()
