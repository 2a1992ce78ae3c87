"""Requests as marks on a time axis, and the window in which most of them left. Lesson 8."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .. import drawing
from ..palette import ERROR, EXPECTED, TOKEN

STEP = 5  # pixels: what leaves at the same time is stacked


def worst_window(instants: Sequence[float], seconds: float) -> tuple[float, int]:
    """Where the fullest window of `seconds` begins, and how many instants are in it.

    It is enough to look at the windows that begin with an instant: any other can be moved to the right until
    it does, and loses nothing.
    """
    counts = [(sum(at <= other < at + seconds for other in instants), -at) for at in instants]
    most, at = max(counts, default=(0, 0.0))
    return -at, most


def stacked(instants: Sequence[float], span: float) -> list[tuple[float, int]]:
    """Each instant with its level: marks that would lie on each other stand on each other."""
    piles: list[tuple[float, int]] = []
    for at in instants:
        foot, level = next(((foot, level) for foot, level in piles[-1:] if at - foot < span / 120), (at, -1))
        piles.append((foot, level + 1))
    return piles


def windows(times: Mapping[str, Sequence[float]], *, seconds: float, limit: int) -> Windows:
    """The picture of rows of instants, each with its fullest window of `seconds`: is it over `limit`?"""
    return Windows({name: sorted(instants) for name, instants in times.items()}, seconds, limit)


@dataclass(frozen=True, slots=True)
class Windows:
    """Shown as a picture in a notebook and as one line per row elsewhere."""

    times: Mapping[str, Sequence[float]]
    seconds: float
    limit: int

    def _repr_html_(self) -> str:
        last = max((at for instants in self.times.values() for at in instants), default=0.0)
        span = drawing.nice_span(max(last, self.seconds))
        piles = {name: stacked(instants, span) for name, instants in self.times.items()}
        height = STEP * max((level + 1 for pile in piles.values() for _, level in pile), default=1) + 6
        parts: list[str] = []
        base = 0
        for name, instants in self.times.items():
            base += height + 30
            start, count = worst_window(instants, self.seconds)
            colour = ERROR if count > self.limit else EXPECTED
            parts.append(drawing.note("0", base - height - 6, f"{name}: {self._words(count)}"))
            parts.append(
                f'<rect x="{drawing.percent(start, span)}" y="{base - height}" height="{height}" rx="3" '
                f'width="{drawing.percent(self.seconds, span)}" fill="{colour}" fill-opacity="0.25" '
                f'stroke="{colour}"/>'
            )
            for at, level in piles[name]:
                x, y = drawing.percent(at, span), base - 3 - STEP * (level + 1)
                parts.append(f'<rect x="{x}" y="{y}" width="6" height="{STEP - 1}" fill="{TOKEN}"/>')
        return drawing.frame(drawing.svg(base + 32, repr(self), [*parts, drawing.axis(span, base + 8)]))

    def _words(self, count: int) -> str:
        over = f", {count - self.limit} too many" if count > self.limit else ""
        return f"at most {count} in {self.seconds:g} s where {self.limit} are allowed{over}"

    def __repr__(self) -> str:
        return "\n".join(
            f"{name}: {self._words(worst_window(instants, self.seconds)[1])}"
            for name, instants in self.times.items()
        )
