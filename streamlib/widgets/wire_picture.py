"""The picture of a wire: three rulers on one time axis. Lesson 1."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from typing import NamedTuple

from .. import drawing
from ..palette import ERROR, FIRST_TOKEN, TOKEN, WAITING

LANE = 40  # pixels for the marks of one ruler
TOGETHER = 0.004  # closer than this part of the width, marks stand on top of each other
COLUMNS = 60  # columns of time in the plain text
HOVERS = 600  # marks with a hover in the picture that stays: a notebook should not grow by megabytes
NAMES = ("reads", "events", "pieces of text")


class Mark(NamedTuple):
    """Something that arrived, `at` seconds after the request was sent."""

    at: float
    what: str  # what a hover shows
    weight: float = 1.0  # its height: bytes of a read, 1 for an event or a piece of text
    has_text: bool = True

    def bare(self) -> tuple[float, str, float, bool]:
        """For a picture that moves: no words, and cheap to pickle (a plain tuple)."""
        return (self.at, "", self.weight, self.has_text)


@dataclass(frozen=True, slots=True)
class Scene:
    """What a picture of a wire shows."""

    clock: float
    live: bool
    rulers: Sequence[Sequence[Mark | tuple[float, str, float, bool]]]  # reads, events, pieces of text
    last_read: str
    size: int  # bytes
    cut_events: int
    ending: str  # what went wrong

    def marks(self) -> list[list[Mark]]:
        return [[Mark(*mark) for mark in ruler] for ruler in self.rulers]


def draw_wire(scene: Scene) -> str:
    """Three rulers and a clock; in the end also their counts, and what they mean."""
    title = "<b>Wire</b>: one streamed answer as it arrives"
    head = f'<div>{title}<span style="float:right;font-size:22px">{scene.clock:.1f} s</span></div>'
    marks = scene.marks()
    if scene.live:
        return drawing.frame(head, _rulers(scene, marks), _last_read(scene))
    picture = _rulers(scene, marks) + drawing.table(table(marks)) if marks[0] else ""
    return drawing.frame(head, picture, drawing.lines(meaning(scene, marks)))


def _rulers(scene: Scene, marks: list[list[Mark]]) -> str:
    clock, live = scene.clock, scene.live
    reads, events, pieces = marks
    span = drawing.time_span(clock, live=live)
    draw = plain_marks if live or sum(map(len, marks)) > HOVERS else hover_marks
    parts = [_waits(reads, len(events), clock, span)]
    base = 0
    for caption, ruler, colour in (
        ("reads: what the network handed over at once (height: bytes)", reads, "currentColor"),
        ("events: what blank lines delimit (thin: no text in it)", events, "currentColor"),
        ("pieces of text (orange: the first)", pieces, TOKEN),
    ):
        base += LANE + 26
        parts += [
            drawing.note("0", base - LANE - 8, caption),
            drawing.note("100%", base - LANE - 8, str(len(ruler)), anchor="end"),
            drawing.line(0, span, span, base + 1, "currentColor", 0.3),
            draw(ruler, span, base, colour),
        ]
    if pieces:
        first = pieces[0]
        title = f"the first text at {first.at:.3f} s\n{first.what}"
        parts.append(drawing.shape(drawing.DIAMOND, first.at, span, base - 5, FIRST_TOKEN, title=title))
    if scene.ending and not live:
        parts.append(drawing.shape(drawing.CROSS, clock, span, LANE + 14, ERROR, title=scene.ending))
    parts.append(drawing.axis(span, base + 8))
    label = "Arrivals on a time axis. " + " ".join(meaning(scene, marks))
    return drawing.svg(base + 32, label, parts)


def _waits(reads: list[Mark], events: int, clock: float, span: float) -> str:
    """Grey lines under the reads where nothing came for long, with their seconds where there is room."""
    times = [0.0, *(mark.at for mark in reads), clock]
    gaps = sorted(((b - a, a) for a, b in pairwise(times)), reverse=True)
    usual = clock / max(events, 1)  # if the events came one by one, evenly
    parts = []
    for gap, start in gaps[:8]:
        if gap > span / 30 and (gap > 3 * usual or start == 0.0):
            parts.append(drawing.line(start, start + gap, span, LANE + 26))
            if gap > span / 12:
                middle = drawing.percent(start + gap / 2, span)
                parts.append(drawing.note(middle, LANE + 20, drawing.seconds(gap), anchor="middle", dim=True))
    return "".join(parts)


def _last_read(scene: Scene) -> str:
    words = scene.last_read or "waiting for the first bytes …"
    return (
        '<div style="font:12px/1.4 var(--jp-code-font-family,monospace);height:4.2em;overflow:hidden;'
        f'overflow-wrap:anywhere;opacity:0.8">{escape(words)}</div>'
    )


def table(marks: list[list[Mark]]) -> list[tuple[str, str, str, str]]:
    """How many, from when on, and the longest pause, of each ruler."""
    rows = [("", "how many", "first after", "longest pause")]
    for name, ruler in zip(NAMES, marks, strict=True):
        pauses = [b.at - a.at for a, b in pairwise(ruler)]
        first = drawing.seconds(ruler[0].at) if ruler else "-"
        rows.append((name, str(len(ruler)), first, drawing.seconds(max(pauses)) if pauses else "-"))
    return rows


def meaning(scene: Scene, marks: list[list[Mark]]) -> list[str]:
    """What the numbers say, one sentence each."""
    _, events, pieces = marks
    lines = []
    if scene.size and not scene.live:
        characters = sum(len(mark.what) for mark in pieces)
        lines.append(f"{scene.size} bytes brought {characters} characters of text.")
    at_once = max(Counter(event.at for event in events).values(), default=0)
    if at_once > 1:
        lines.append(f"One read brought {at_once} events at once.")
    if scene.cut_events:
        lines.append(f"Events that came in more than one read: {scene.cut_events}.")
    return [*lines, scene.ending] if scene.ending else lines


def plain_text(scene: Scene) -> str:
    """What the picture says, where there are no pictures."""
    marks = scene.marks()
    title = f"Wire: one streamed answer in {drawing.seconds(scene.clock)}"
    if not marks[0]:
        return "\n".join([title, *meaning(scene, marks)])
    rows = [f"{name:<16}{count:>9}{first:>13}{pause:>15}" for name, count, first, pause in table(marks)]
    span = drawing.time_span(scene.clock, live=False)
    lanes = [
        f"{name:<8}|{digits(ruler, span)}|"
        for name, ruler in zip(("reads", "events", "text"), marks, strict=True)
    ]
    column = (
        f"(a column is {drawing.seconds(span / COLUMNS)}; a digit counts what came in it, + is 10 or more)"
    )
    return "\n".join([title, *rows, *lanes, column, *meaning(scene, marks)])


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
            f'<rect x="{drawing.percent(at, span)}" y="{y:.1f}" width="{width}" height="{tall:.1f}" '
            f'transform="translate(-{width // 2})" fill="{fill}"><title>{number} at {mark.at:.3f} s{size}\n'
            f"{escape(mark.what, quote=False)}</title></rect>"
        )
    return "".join(parts)


def digits(marks: Sequence[Mark], span: float) -> str:
    """One ruler in plain text: how many marks in each column of time."""
    counts = Counter(min(int(mark.at / span * COLUMNS), COLUMNS - 1) for mark in marks)
    numbers = (counts[column] for column in range(COLUMNS))
    return "".join("." if n == 0 else str(n) if n < 10 else "+" for n in numbers)
