"""Wire: the bytes of one streamed answer as they arrive, on a time axis with three rulers. Lesson 1.

A **read** is what the HTTP client hands over at once, an **event** is what the blank lines of the SSE format
delimit, a **piece of text** is what one event adds to the answer. Three different counts: a server, a proxy
or the network may join several events into one read, or cut one event into several.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from time import perf_counter
from typing import Any

import httpx2

from ..palette import ERROR, FIRST_TOKEN, TOKEN, WAITING
from ..sse import SSEParser
from . import view
from .ask import Ask, piece_in, refusal, trouble, warm_up

LANE = 40  # pixels for the marks of one ruler
TOGETHER = 0.004  # closer than this part of the width, marks stand on top of each other
COLUMNS = 60  # columns of time in the plain text
SHOWN = 300  # characters of one read, event or text in a hover
HOVERS = 600  # marks with a hover in the picture that stays: a notebook should not grow by megabytes


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that arrived, `at` seconds after the request was sent."""

    at: float
    what: str  # what a hover shows
    weight: float = 1.0  # its height: bytes of a read, 1 for an event or a piece of text
    has_text: bool = True


class Wire(view.View):
    """Bytes as they arrive, with three rulers: reads, events, pieces of text.

    ``await Wire("Why is the sky blue?", model=model.name)``. After it, `.reads`, `.events` and `.pieces` are
    lists of `Mark` (seconds after the request, and what came), `.data` is all the bytes, `.answer` the text.
    `headers` are sent along (``{"X-Sim-Fault": "clump"}``), further keywords go into the request
    (``max_tokens=40``). Rest the pointer on a mark of the finished picture to see its bytes.
    """

    def __init__(
        self,
        prompt: str | Sequence[Mapping[str, Any]],
        *,
        model: str,
        base_url: str | None = None,
        api_key: str | None = None,
        headers: Mapping[str, str] | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        self.ask = Ask(prompt, model, base_url, api_key, headers, options)
        self.started: float | None = None
        self.ended: float | None = None
        self.reads: list[Mark] = []
        self.events: list[Mark] = []
        self.pieces: list[Mark] = []
        self.data = bytearray()
        self.cut_events = 0  # events that came in more than one read
        self.unfinished = False  # the body ended inside an event
        self.complete = False  # [DONE], or a finish reason, has come
        self.error = ""

    @property
    def answer(self) -> str:
        return "".join(mark.what for mark in self.pieces)

    async def receive(self) -> None:
        async with self.ask.client() as client:
            await warm_up(client)
            self.started = perf_counter()
            try:
                request = client.stream("POST", "chat/completions", json=self.ask.body(stream=True))
                async with request as response:
                    self.error = await refusal(response)
                    if not self.error:
                        await self._read(response)
            except httpx2.HTTPError as error:
                self.error = trouble(error)
            except asyncio.CancelledError:
                self.error = "Stopped."
                raise
            finally:
                self.ended = perf_counter()

    async def _read(self, response: httpx2.Response) -> None:
        parser = SSEParser()
        open_event = False  # the last read ended inside an event
        async for chunk in response.aiter_bytes():
            at = perf_counter() - (self.started or 0.0)
            self.data += chunk
            self.reads.append(Mark(at, repr(chunk[:SHOWN])[2:-1], weight=len(chunk)))
            events = parser.feed(chunk)
            self.cut_events += open_event and bool(events)
            open_event = not self.data.endswith((b"\n\n", b"\r\n\r\n", b"\r\r"))
            for event in events:
                text, is_end, error = piece_in(event.data)
                self.events.append(Mark(at, event.data[:SHOWN], has_text=bool(text)))
                if text:
                    self.pieces.append(Mark(at, text))
                self.complete |= is_end
                self.error = self.error or error
        parser.close()
        self.unfinished = parser.truncated

    # -- what it looks like ------------------------------------------------------------------------------

    def html(self, now: float | None) -> str:
        clock = 0.0 if self.started is None else (self.ended or now or self.started) - self.started
        title = "<b>Wire</b>: one streamed answer as it arrives"
        head = f'<div>{title}<span style="float:right;font-size:22px">{clock:.1f} s</span></div>'
        if now is not None:
            return view.frame(head, self._drawing(clock, live=True), self._last_read())
        drawing = self._drawing(clock, live=False) + view.table(self._table()) if self.reads else ""
        return view.frame(head, drawing, view.lines(self._meaning()))

    def _drawing(self, clock: float, *, live: bool) -> str:
        span = view.time_span(clock, live=live)
        few = len(self.reads) + len(self.events) + len(self.pieces) <= HOVERS
        draw = hover_marks if few and not live else plain_marks
        parts = [self._waits(clock, span)]
        base = 0
        for caption, marks, colour in (
            ("reads: what the network handed over at once (height: bytes)", self.reads, "currentColor"),
            ("events: what blank lines delimit (thin: no text in it)", self.events, "currentColor"),
            ("pieces of text (orange: the first)", self.pieces, TOKEN),
        ):
            base += LANE + 26
            parts += [
                view.note("0", base - LANE - 8, caption),
                view.note("100%", base - LANE - 8, str(len(marks)), anchor="end"),
                view.line(0, span, span, base + 1, "currentColor", 0.3),
                draw(marks, span, base, colour),
            ]
        if self.pieces:
            first = self.pieces[0]
            title = f"the first text at {first.at:.3f} s\n{first.what}"
            parts.append(view.shape(view.DIAMOND, first.at, span, base - 5, FIRST_TOKEN, title=title))
        if self.error:
            parts.append(view.shape(view.CROSS, clock, span, LANE + 14, ERROR, title=self.error))
        parts.append(view.axis(span, base + 8))
        return view.svg(base + 32, "Arrivals on a time axis. " + " ".join(self._meaning()), parts)

    def _waits(self, clock: float, span: float) -> str:
        """Grey lines under the reads where nothing came for long, with their seconds where there is room."""
        times = [0.0, *(mark.at for mark in self.reads), clock]
        gaps = sorted(((b - a, a) for a, b in pairwise(times)), reverse=True)
        usual = clock / max(len(self.events), 1)  # if the events came one by one, evenly
        parts = []
        for gap, start in gaps[:8]:
            if gap > span / 30 and (gap > 3 * usual or start == 0.0):
                parts.append(view.line(start, start + gap, span, LANE + 26))
                if gap > span / 12:
                    middle = view.percent(start + gap / 2, span)
                    parts.append(view.note(middle, LANE + 20, view.seconds(gap), anchor="middle", dim=True))
        return "".join(parts)

    def _last_read(self) -> str:
        words = self.reads[-1].what if self.reads else "waiting for the first bytes …"
        return (
            '<div style="font:12px/1.4 var(--jp-code-font-family,monospace);height:4.2em;overflow:hidden;'
            f'overflow-wrap:anywhere;opacity:0.8">{escape(words)}</div>'
        )

    def _table(self) -> list[tuple[str, str, str, str]]:
        rows = [("", "how many", "first after", "longest pause")]
        for name, marks in (("reads", self.reads), ("events", self.events), ("pieces of text", self.pieces)):
            pauses = [b.at - a.at for a, b in pairwise(marks)]
            first = view.seconds(marks[0].at) if marks else "-"
            rows.append((name, str(len(marks)), first, view.seconds(max(pauses)) if pauses else "-"))
        return rows

    def _meaning(self) -> list[str]:
        """What the numbers say, one sentence each."""
        lines = []
        if self.data:
            lines.append(f"{len(self.data)} bytes brought {len(self.answer)} characters of text.")
        at_once = max(Counter(event.at for event in self.events).values(), default=0)
        if at_once > 1:
            lines.append(f"One read brought {at_once} events at once.")
        if self.cut_events:
            lines.append(f"Events that came in more than one read: {self.cut_events}.")
        if self.error:
            lines.append(self.error)
        elif self.ended is not None and not self.complete:
            where = "in the middle of an event" if self.unfinished else "with no [DONE] and no finish reason"
            lines.append(f"The answer ended {where}: it may be cut off.")
        return lines

    def text(self) -> str:
        end = self.ended - self.started if self.started and self.ended else 0.0
        title = f"Wire: one streamed answer in {view.seconds(end)}"
        if not self.reads:
            return "\n".join([title, *self._meaning()])
        rows = [f"{name:<16}{count:>9}{first:>13}{pause:>15}" for name, count, first, pause in self._table()]
        span = view.time_span(end, live=False)
        rulers = (("reads", self.reads), ("events", self.events), ("text", self.pieces))
        lanes = [f"{name:<8}|{digits(marks, span)}|" for name, marks in rulers]
        column = (
            f"(a column is {view.seconds(span / COLUMNS)}; a digit counts what came in it, + is 10 or more)"
        )
        return "\n".join([title, *rows, *lanes, column, *self._meaning()])


def place(marks: Sequence[Mark], span: float, base: int) -> Iterator[tuple[Mark, float, float, float]]:
    """Where each mark goes: the instant of its stack, its top and its height in pixels.

    Marks that come together stand on top of each other, so that a clump is a tower. The highest tower fits
    the lane, and marks that come one by one stay small.
    """
    towers: list[list[Mark]] = []
    for mark in marks:
        if towers and mark.at - towers[-1][0].at < TOGETHER * span:
            towers[-1].append(mark)
        else:
            towers.append([mark])
    highest = max((sum(mark.weight for mark in tower) for tower in towers), default=1.0)
    single = max((mark.weight for mark in marks), default=1.0)
    unit = min(LANE / highest, LANE / 4 / min(single, 250))
    for tower in towers:
        y = float(base)
        for mark in tower:
            y -= mark.weight * unit
            yield mark, tower[0].at, y, mark.weight * unit


def plain_marks(marks: Sequence[Mark], span: float, base: int, colour: str) -> str:
    """One ruler as two paths (marks with text, marks without): few bytes, for a picture that moves."""
    paths = {True: "", False: ""}
    for mark, at, y, height in place(marks, span, base):
        paths[mark.has_text] += f"M{1000 * at / span:.1f} {y:.1f}v{max(height - 1, 0.5):.1f}"
    line = '<path d="{}" stroke="{}" stroke-width="{}" vector-effect="non-scaling-stroke"/>'
    return (
        f'<svg width="100%" height="{base}" viewBox="0 0 1000 {base}" preserveAspectRatio="none" '
        'style="overflow:visible">'
        + line.format(paths[True], colour, 4)
        + line.format(paths[False], WAITING, 2)
        + "</svg>"
    )


def hover_marks(marks: Sequence[Mark], span: float, base: int, colour: str) -> str:
    """The same ruler with a hover for each mark, for the picture that stays."""
    parts = []
    for number, (mark, at, y, height) in enumerate(place(marks, span, base), 1):
        width, fill = (4, colour) if mark.has_text else (2, WAITING)
        size = f", {mark.weight:.0f} bytes" if mark.weight > 1 else ""
        tall = max(height - 1, 0.5)
        parts.append(
            f'<rect x="{view.percent(at, span)}" y="{y:.1f}" width="{width}" height="{tall:.1f}" '
            f'transform="translate(-{width // 2})" fill="{fill}"><title>{number} at {mark.at:.3f} s{size}\n'
            f"{escape(mark.what, quote=False)}</title></rect>"
        )
    return "".join(parts)


def digits(marks: Sequence[Mark], span: float) -> str:
    """One ruler in plain text: how many marks in each column of time."""
    counts = Counter(min(int(mark.at / span * COLUMNS), COLUMNS - 1) for mark in marks)
    numbers = (counts[column] for column in range(COLUMNS))
    return "".join("." if n == 0 else str(n) if n < 10 else "+" for n in numbers)
