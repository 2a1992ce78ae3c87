"""When values came out of a stream, drawn: expected above, the learner's below, on one time axis.

Time goes from left to right. The first value is a diamond, the others ticks, an error a cross; where several
fall on one place in the text version, their number stands there.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from .. import drawing
from ..palette import ERROR, EXPECTED, FIRST_TOKEN, TOKEN
from .stage import Outcome
from .wording import Show, short

COLUMNS = 60  # of the text version
LISTED = 8  # values named below the picture
LEFT, RIGHT = 12, 98  # percent of the width: time lies between them, the names of the rows to the left
TICK = "M-1-6H1V6H-1Z"


@dataclass(frozen=True, slots=True)
class Row:
    """One row: what came when, where it ended, and whether in an error."""

    name: str
    marks: Sequence[tuple[float, str]]
    ended: float
    error: str

    def listing(self) -> str:
        """The row in words."""
        words = [f"{text} at {at:g} s" for at, text in self.marks[:LISTED]]
        if len(self.marks) > LISTED:
            words.append(f"… {len(self.marks)} values in all")
        if self.error:
            words.append(f"{self.error} at {self.ended:g} s")
        return f"{self.name}: {', '.join(words) or 'nothing'}"


@dataclass(frozen=True, slots=True)
class Picture:
    """Two rows on one time axis from 0 to `span` seconds."""

    rows: tuple[Row, Row]
    span: float

    def plain(self) -> str:
        width = max(len(row.name) for row in self.rows)
        lines = [f"{row.name:<{width}}  {self._line(row)}" for row in self.rows]
        end = f"{self.span:g} s"
        lines.append(f"{'time':<{width}}  0 s{end:>{COLUMNS - 3}}")
        return "\n".join([*lines, *(row.listing() for row in self.rows)])

    def _line(self, row: Row) -> str:
        cells = ["·"] * COLUMNS
        counts = [0] * COLUMNS
        for at, _ in row.marks:
            counts[self._column(at)] += 1
        for column, count in enumerate(counts):
            if count:
                cells[column] = "|" if count == 1 else str(count) if count < 10 else "#"
        if row.marks and counts[first := self._column(row.marks[0][0])] == 1:
            cells[first] = "◆"
        if row.error:
            cells[self._column(row.ended)] = "✗"
        return "".join(cells)

    def _column(self, at: float) -> int:
        return min(COLUMNS - 1, int(at / self.span * COLUMNS))

    def html(self) -> str:
        parts = []
        for y, row, colour in ((20, self.rows[0], EXPECTED), (52, self.rows[1], TOKEN)):
            parts += [drawing.note("0", y + 4, row.name), drawing.line(LEFT, RIGHT, 100, y, width=1)]
            at_once = Counter(at for at, _ in row.marks)
            for number, (at, text) in enumerate(row.marks):
                path, fill = (TICK, colour) if number else (drawing.DIAMOND, FIRST_TOKEN)
                parts.append(drawing.shape(path, self._x(at), 100, y, fill, title=f"{text} at {at:g} s"))
            for at, count in at_once.items():
                if count > 1:
                    parts.append(self._words(at, y - 9, str(count), "middle"))
            if row.error:
                title = f"{row.error} at {row.ended:g} s"
                parts.append(drawing.shape(drawing.CROSS, self._x(row.ended), 100, y, ERROR, title=title))
        parts.append(drawing.line(LEFT, RIGHT, 100, 68, "currentColor", 1))
        for at in ticks(self.span):
            anchor = "start" if at == 0 else "end" if at > 0.95 * self.span else "middle"
            parts.append(self._words(at, 82, f"{at:g} s", anchor))
        listing = "".join(f"<div>{escape(row.listing())}</div>" for row in self.rows)
        return drawing.svg(88, "values over time", parts) + f'<div style="font-size:0.9em">{listing}</div>'

    def _x(self, at: float) -> float:
        """Where an instant stands, in percent of the width."""
        return LEFT + (RIGHT - LEFT) * at / self.span

    def _words(self, at: float, y: int, words: str, anchor: str) -> str:
        return drawing.note(drawing.percent(self._x(at), 100), y, words, anchor=anchor)


def ticks(span: float) -> list[float]:
    """Round instants from 0 to `span`, six at most."""
    step = 10.0 ** math.floor(math.log10(span))
    step = next(step * part for part in (0.2, 0.5, 1, 2, 5) if span / (step * part) <= 5.001)
    return [round(step * number, 9) for number in range(int(span / step + 1e-6) + 1)]


def picture_of(expected: Outcome, got: Outcome, show: Show) -> Picture | None:
    """The picture of two outcomes, or None where it would show nothing: no times, or the same for both."""
    rows = (_row("expected", expected, show), _row("yours", got, show))
    if not got.arrivals and (got.stuck or (not expected.arrivals and (got.error or expected.error))):
        return None
    instants = [[at for at, _ in row.marks] + [row.ended] * bool(row.error) for row in rows]
    span = max([0.0, *instants[0], *instants[1]])
    if span == 0 or instants[0] == instants[1] or not instants[1]:
        return None
    return Picture(rows, span)


def _row(name: str, outcome: Outcome, show: Show) -> Row:
    """A stream's values, or the one value that a coroutine gives at its end."""
    marks = [(arrival.at, short(arrival.value, show, 24)) for arrival in outcome.arrivals[:500]]
    if outcome.shape == "coroutine" and not outcome.error:
        marks = [(outcome.ended, short(outcome.returned, show, 24))]
    return Row(name, marks, outcome.ended, type(outcome.error).__name__ if outcome.error else "")
