"""The picture of a wire: three rulers on one time axis. Lesson 1."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
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
PANEL = 72  # pixels for the bytes of one mark, below the axis
HELP = "From left to right: seconds since the request was sent. A gap is a pause, a tower came all at once."
PANEL_STYLE = (
    f"box-sizing:border-box;height:{PANEL}px;overflow:auto;white-space:pre-wrap;overflow-wrap:anywhere;"
    f"border-left:3px solid {WAITING};padding-left:8px;"
    "font:12px/1.45 var(--jp-code-font-family,monospace)"
)
# What a mark brought shows in the panel while the pointer is on it, and after a click until the next one.
# Without this style (a page that strips it) it stays hidden.
STYLE = (
    "<style>.sl-mark{outline:none;cursor:pointer}"
    ".sl-mark:hover .sl-what,.sl-mark:focus .sl-what{visibility:visible}"
    "svg:has(.sl-mark:hover) .sl-mark:focus:not(:hover) .sl-what{visibility:hidden}"
    ".sl-mark:hover .sl-bar,.sl-mark:focus .sl-bar{stroke:currentColor;stroke-width:3px}"
    ".sl-panel{background:var(--jp-layout-color0,Canvas);" + PANEL_STYLE + "}</style>"
)


class Mark(NamedTuple):
    """Something that arrived, `at` seconds after the request was sent."""

    at: float
    what: str  # what a hover shows
    weight: float = 1.0  # its height: bytes of a read, 1 for an event or a piece of text
    has_text: bool = True


class Bare:
    """A ruler for a picture that moves: marks without words, quick to pickle however many they are."""

    __slots__ = ("at", "has_text", "weight")

    def __init__(self) -> None:
        self.at, self.weight, self.has_text = array("d"), array("d"), bytearray()

    def append(self, mark: Mark) -> None:
        self.at.append(mark.at)
        self.weight.append(mark.weight)
        self.has_text.append(mark.has_text)

    def __iter__(self) -> Iterator[Mark]:
        for at, weight, has_text in zip(self.at, self.weight, self.has_text, strict=True):
            yield Mark(at, "", weight, bool(has_text))


@dataclass(frozen=True, slots=True)
class Scene:
    """What a picture of a wire shows."""

    clock: float
    live: bool
    rulers: Sequence[Iterable[Mark]]  # reads, events, pieces of text
    last_read: str
    size: int  # bytes
    tokens: int | None  # of the answer, by the server's count
    cut_events: int
    ending: str  # what went wrong

    def marks(self) -> list[list[Mark]]:
        return [list(ruler) for ruler in self.rulers]


def draw_wire(scene: Scene) -> str:
    """Three rulers and a clock; in the end also their counts, and what they mean."""
    head = drawing.head("Wire", "one streamed answer as it arrives", scene.clock) + drawing.reading_help(HELP)
    marks = scene.marks()
    if scene.live:
        return drawing.frame(head, _rulers(scene, marks))
    picture = _rulers(scene, marks) + drawing.table(table(marks)) if marks[0] else ""
    return drawing.frame(head, picture, drawing.lines(meaning(scene, marks)))


def _rulers(scene: Scene, marks: list[list[Mark]]) -> str:
    clock, live = scene.clock, scene.live
    reads, events, pieces = marks
    span = drawing.time_span(clock, live=live)
    still = not live and sum(map(len, marks)) <= HOVERS
    axis = 3 * (LANE + 26) + 8
    parts = [_waits(reads, len(events), clock, span)]
    if still:
        parts += [STYLE, _panel(axis + 28, "Point at a mark, or click it: what came stands here.")]
    elif live:
        parts.append(_panel(axis + 28, scene.last_read or "waiting for the first bytes …"))
    base = 0
    for name, caption, ruler, colour in (
        ("read", "reads: what the network handed over at once (height: bytes)", reads, "currentColor"),
        ("event", "events: what blank lines delimit (thin: no text in it)", events, "currentColor"),
        ("piece", "pieces of text (orange: the first)", pieces, TOKEN),
    ):
        base += LANE + 26
        parts += [
            drawing.note("0", base - LANE - 8, caption),
            drawing.note("100%", base - LANE - 8, str(len(ruler)), anchor="end"),
            drawing.line(0, span, span, base + 1, "currentColor", 0.3),
            hover_marks(ruler, span, base, colour, name, axis + 28)
            if still
            else plain_marks(ruler, span, base, colour),
            tower_heights(ruler, span, base),
        ]
    if pieces:
        first = drawing.shape(drawing.DIAMOND, pieces[0].at, span, base - 5, FIRST_TOKEN)
        parts.append(f'<g pointer-events="none">{first}</g>')
    if scene.ending and not live:
        parts.append(drawing.shape(drawing.CROSS, clock, span, LANE + 14, ERROR, title=scene.ending))
    parts.append(drawing.axis(span, axis))
    label = "Arrivals on a time axis. " + " ".join(meaning(scene, marks))
    return drawing.svg(axis + 28 + (PANEL if still or live else 0), label, parts)


def _panel(y: int, words: str) -> str:
    """Words below the axis."""
    return (
        f'<foreignObject x="0" y="{y}" width="100%" height="{PANEL}"><div style="{PANEL_STYLE};opacity:0.75">'
        f"{escape(words)}</div></foreignObject>"
    )


def tower_heights(marks: list[Mark], span: float, base: int) -> str:
    """How many came at once, beside the towers of more than three, where there is room for the words."""
    parts = []
    found = list(towers(marks, span))
    room = span / 8
    instants = [-room, *(tower[0].at for tower in found), span + room]
    for before, tower, after in zip(instants, found, instants[2:], strict=False):
        at = tower[0].at
        right = after - at >= room and at < 0.9 * span
        if len(tower) > 3 and (right or at - before >= room):
            side, anchor = (0.007, "start") if right else (-0.007, "end")
            x = drawing.percent(at + side * span, span)
            words = f"{len(tower)} at once"
            parts.append(drawing.note(x, base - LANE / 2 + 4, words, anchor=anchor, dim=True))
    return "".join(parts)


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
        tokens = f", {scene.tokens} tokens by the server's count" if scene.tokens else ""
        lines.append(f"{scene.size} bytes brought {characters} characters of text{tokens}.")
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


def towers(marks: Sequence[Mark], span: float) -> list[list[Mark]]:
    """Marks that come together, together."""
    stacks: list[list[Mark]] = []
    for mark in marks:
        if stacks and mark.at - stacks[-1][0].at < TOGETHER * span:
            stacks[-1].append(mark)
        else:
            stacks.append([mark])
    return stacks


def bar(height: float) -> float:
    """How tall a mark is drawn: with a gap to the next one where there is room for both."""
    return height - 1 if height >= 3 else height


def place(marks: Sequence[Mark], span: float, base: int) -> Iterator[tuple[Mark, float, float, float]]:
    """Where each mark goes: the instant of its stack, its top and its height in pixels.

    Marks that come together stand on top of each other, so that a clump is a tower. The highest tower fits
    the lane, and marks that come one by one stay small.
    """
    stacks = towers(marks, span)
    highest = max((sum(mark.weight for mark in tower) for tower in stacks), default=1.0)
    single = max((mark.weight for mark in marks), default=1.0)
    unit = min(LANE / highest, LANE / 2 / min(single, 250))
    for tower in stacks:
        y = float(base)
        for mark in tower:
            y -= mark.weight * unit
            yield mark, tower[0].at, y, mark.weight * unit


def plain_marks(marks: Sequence[Mark], span: float, base: int, colour: str) -> str:
    """One ruler as two paths (marks with text, marks without): few bytes, for a picture that moves."""
    paths = {True: "", False: ""}
    for mark, at, y, height in place(marks, span, base):
        paths[mark.has_text] += f"M{1000 * at / span:.1f} {y:.1f}v{bar(height):.1f}"
    line = '<path d="{}" stroke="{}" stroke-width="{}" vector-effect="non-scaling-stroke"/>'
    return (
        f'<svg width="100%" height="{base}" viewBox="0 0 1000 {base}" preserveAspectRatio="none" '
        'style="overflow:visible">'
        + line.format(paths[True], colour, 4)
        + line.format(paths[False], WAITING, 2)
        + "</svg>"
    )


def hover_marks(
    marks: Sequence[Mark], span: float, base: int, colour: str, name: str = "read", panel: int = 0
) -> str:
    """The same ruler, with what each mark brought, for the picture that stays."""
    parts = []
    for number, (mark, at, y, height) in enumerate(place(marks, span, base), 1):
        width, fill = (4, colour) if mark.has_text else (2, WAITING)
        x = drawing.percent(at, span)
        size = f", {mark.weight:.0f} bytes" if mark.weight > 1 else ""
        words = escape(f"{name} {number} at {mark.at:.3f} s{size}\n{mark.what}", quote=False)
        parts.append(
            '<g class="sl-mark" tabindex="-1">'
            f'<rect x="{x}" y="{y:.1f}" width="10" height="{height:.1f}" transform="translate(-5)" '
            'opacity="0"/>'  # easier to hit than the mark itself
            f'<rect class="sl-bar" x="{x}" y="{y:.1f}" width="{width}" height="{bar(height):.1f}" '
            f'transform="translate(-{width // 2})" fill="{fill}"/>'
            f'<foreignObject class="sl-what" visibility="hidden" y="{panel}" width="100%" height="{PANEL}">'
            f'<div class="sl-panel">{words}</div></foreignObject></g>'
        )
    return "".join(parts)


def digits(marks: Sequence[Mark], span: float) -> str:
    """One ruler in plain text: how many marks in each column of time."""
    counts = Counter(min(int(mark.at / span * COLUMNS), COLUMNS - 1) for mark in marks)
    numbers = (counts[column] for column in range(COLUMNS))
    return "".join("." if n == 0 else str(n) if n < 10 else "+" for n in numbers)
