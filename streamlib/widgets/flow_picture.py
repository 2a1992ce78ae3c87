"""The picture of a flow: the parts, what passes between them, and how their time goes. Lessons 3 and 4."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any, Literal

from .. import drawing
from ..palette import ERROR, FIRST_TOKEN, TOKEN, WAITING

State = Literal["works", "not asked", "no input", "over"]
STATES: tuple[State, ...] = ("works", "not asked", "no input")

COLUMNS = 160  # of a part's time: a long run has wider ones, not more
FIRST_WIDTH = 0.02  # seconds
TICKS, AREA = 13, 22  # pixels: the marks of items stand above the area of states
SHOWN = 60  # characters of an item
MEMORY = 10_000  # characters that a part took, to find there what it gave

SIGNS = (f'<span style="color:{TOKEN}">■</span>', "□", f'<span style="color:{WAITING}">━</span>')
LEGEND = (
    f"{SIGNS[0]} the part works",
    f"{SIGNS[1]} it could go on, but nobody asks it: it waits for the part below it",
    f"{SIGNS[2]} it has asked, and waits for the part above it",
    f'<span style="color:{FIRST_TOKEN}">◆</span> first item handed on',
    f'<b style="color:{TOKEN}">❘</b> more items',
)
HELP = (
    "Items go down, requests go up; time goes from left to right. The part with the most blue sets the pace."
)


@dataclass(slots=True)
class Link:
    """What has passed from one part to the next."""

    asked: bool = False  # the next part has asked for an item, and has none yet
    items: int = 0
    amount: int = 0  # characters where all is text, else items
    is_text: bool = True
    first: float | None = None
    last: str = ""  # the newest item, as a picture shows it

    def count(self, item: Any, now: float) -> None:
        text = text_of(item)
        self.is_text = self.is_text and text is not None
        self.items += 1
        self.amount += len(item) if isinstance(item, list) and text is None else len(text or "-")
        self.last = (item if isinstance(item, str) else repr(item))[: SHOWN + 1]
        if self.first is None:
            self.first = now


def text_of(item: Any) -> str | None:
    """The text in an item: a str, all of a list, the first of a tuple as in (text, number); else None."""
    if isinstance(item, str):
        return item
    if isinstance(item, tuple) and item:
        return text_of(item[0])
    if isinstance(item, list) and item:
        texts = [text_of(part) for part in item]
        return None if None in texts else "".join(texts)  # type: ignore[arg-type]
    return None


class Strip:
    """A part's time in columns: the seconds of each in which it worked or was not asked, and its items."""

    __slots__ = ("items", "unasked", "width", "works")

    def __init__(self) -> None:
        self.width = FIRST_WIDTH
        self.works = array("f", [0.0] * COLUMNS)
        self.unasked = array("f", [0.0] * COLUMNS)
        self.items = array("L", [0] * COLUMNS)

    def add(self, state: State, start: float, end: float) -> None:
        self._make_room(end)
        if state in ("works", "not asked"):
            columns = self.works if state == "works" else self.unasked
            for column in range(int(start / self.width), int(end / self.width) + 1):
                inside = min(end, (column + 1) * self.width) - max(start, column * self.width)
                columns[column] += max(inside, 0.0)

    def mark(self, at: float) -> None:
        self._make_room(at)
        self.items[int(at / self.width)] += 1

    def _make_room(self, at: float) -> None:
        while at >= self.width * COLUMNS:
            self.width *= 2
            for name in ("works", "unasked", "items"):
                old = getattr(self, name)
                pairs = [a + b for a, b in zip(old[::2], old[1::2], strict=True)]
                setattr(self, name, array(old.typecode, pairs + [0] * (COLUMNS // 2)))


@dataclass(slots=True)
class Part:
    """The source, a stage, or the reader: what it took and gave, and how its time went, in seconds."""

    name: str
    above: Link | None
    below: Link | None
    over: bool = False
    kept_text: str = ""  # what it took after the last text that it gave, as far as the two can be compared
    most_kept: int = 0
    is_sure: bool = True  # kept_text is what it seems
    error: str = ""
    seconds: dict[str, float] = field(
        default_factory=lambda: {"works": 0.0, "not asked": 0.0, "no input": 0.0}
    )
    strip: Strip = field(default_factory=Strip)
    settled: float = 0.0  # the instant up to which its time is booked

    @property
    def state(self) -> State:
        if self.over:
            return "over"
        if self.above is not None and self.above.asked:
            return "no input"
        return "works" if self.below is None or self.below.asked else "not asked"

    def settle(self, now: float) -> None:
        """Book the time up to now to the state it was in."""
        state = self.state
        if state != "over":
            self.seconds[state] += now - self.settled
            self.strip.add(state, self.settled, now)
            self.settled = now

    @property
    def taken(self) -> int | None:
        """Items it took; None for the source."""
        return None if self.above is None else self.above.items

    @property
    def given(self) -> int | None:
        """Items it handed on; None for the reader."""
        return None if self.below is None else self.below.items

    @property
    def kept(self) -> int | None:
        """How much it took and has not passed on: held back, or left out. None where the two do not
        compare."""
        if self.above is None or self.below is None or self.above.is_text != self.below.is_text:
            return None
        return len(self.kept_text) if self.above.is_text else max(self.above.amount - self.below.amount, 0)

    def amount(self, number: int) -> str:
        """So many characters, or items."""
        unit = "item" if self.above is None or not self.above.is_text else "character"
        return f"{number} {unit}{'s' * (number != 1)}"

    def took(self, item: Any) -> None:
        self.kept_text = (self.kept_text + (text_of(item) or ""))[-MEMORY:]

    def gave(self, item: Any) -> None:
        """Find what it gave in what it took. Text that was changed on the way counts by its length until text
        that was not changed follows it."""
        text = text_of(item) or ""
        at = self.kept_text.find(text)
        self.is_sure = at >= 0
        self.kept_text = self.kept_text[max(at, 0) + len(text) :]

    def asks(self) -> None:
        """It asks for input: what it still has, it holds back."""
        if self.is_sure and self.kept:
            self.most_kept = max(self.most_kept, self.kept)


@dataclass(frozen=True, slots=True)
class Scene:
    """What a picture of a flow shows: the parts from the source to the reader, after `clock` seconds."""

    parts: Sequence[Part]
    clock: float
    live: bool
    stopped: bool


def draw_flow(scene: Scene) -> str:
    """A row for each part: its box, its time, its shares; between two rows what passes there."""
    span = drawing.time_span(scene.clock, live=scene.live)
    heads = (f"<div>{sign}<br>{state}</div>" for sign, state in zip(SIGNS, STATES, strict=True))
    small = "font-size:11px;line-height:13px;text-align:right"
    cells = [f'<div></div><div></div><div style="display:contents;{small}">{"".join(heads)}</div>']
    for part in scene.parts:
        cells.append(_box(part, scene) + _time(part, scene, span) + _shares(part, scene))
        if part.below is not None:
            cells.append(_between(part.below))
    cells.append(f"<div></div>{drawing.svg(22, 'seconds since the start', [drawing.axis(span, 2)])}")
    columns = "grid-template-columns:minmax(110px,25%) 1fr 42px 54px 50px;column-gap:10px;align-items:center"
    return drawing.frame(
        drawing.head("Flow", "who waits for whom in a pipeline", scene.clock),
        drawing.reading_help(HELP),
        f'<div style="display:grid;{columns};margin:4px 0">{"".join(cells)}</div>',
        drawing.legend(LEGEND),
        "" if scene.live else drawing.lines(meaning(scene)),
    )


def _box(part: Part, scene: Scene) -> str:
    """The name of a part, what it counts, and what it does or keeps now."""
    begun = scene.live and scene.clock > 0
    words, edge, style = "", "", "opacity:0.8"
    if part.error:
        words, edge, style = (
            f"✗ {part.error}",
            f"border:1px solid {ERROR};",
            f"color:{ERROR};font-weight:bold",
        )
    elif begun and part.kept:
        words = f"not passed on: {part.amount(part.kept)} {part.kept_text[:SHOWN]!r}".removesuffix(" ''")
    elif begun:
        words = part.state
    elif part.below is not None and part.below.first is not None:
        words = f"first out at {drawing.seconds(part.below.first)}"
    if begun and part.state == "works":
        edge = f"border-left:5px solid {TOKEN};"
    one_line = "white-space:nowrap;overflow:hidden;text-overflow:ellipsis"
    return (
        '<div style="border:1px solid var(--jp-border-color1,#999);border-radius:4px;'
        f'{edge}padding:1px 8px;min-width:0" title="{escape(words)}">'
        '<div style="display:flex;flex-wrap:wrap;column-gap:10px">'
        f'<b style="{one_line}">{escape(part.name)}</b><span>{counts(part)}</span></div>'
        f'<div style="{one_line};font-size:12px;{style}">{escape(words) or "&nbsp;"}</div></div>'
    )


def _between(link: Link) -> str:
    """What passes from one part to the next: the newest item downwards, a request upwards."""
    request = f'<b style="color:{TOKEN}">▲</b>' if link.asked else '<span style="opacity:0.3">▲</span>'
    words = link.last[:SHOWN] + ("…" if len(link.last) > SHOWN else "")
    return (
        '<div style="grid-column:1/-1;font-size:11px;line-height:16px;padding-left:14px;white-space:nowrap;'
        f'overflow:hidden;text-overflow:ellipsis">{request} ▼ '
        f'<code style="background:none;font-size:11px;white-space:pre">{escape(words)}</code></div>'
    )


def _time(part: Part, scene: Scene, span: float) -> str:
    """A part's time from left to right: the share of each state, and a mark for each item it handed on."""
    strip, height, end = part.strip, TICKS + AREA, part.settled
    first = None if part.below is None else part.below.first
    solid = _area([(works, 0.0) for works in strip.works], strip.width, end, span)
    both = _area(list(zip(strip.works, strip.unasked, strict=True)), strip.width, end, span)
    no_input, ticks = "", ""
    for column, items in enumerate(strip.items):
        start, stop = column * strip.width, min((column + 1) * strip.width, end)
        if strip.works[column] + strip.unasked[column] < 0.95 * (stop - start):
            no_input += f"M{1000 * start / span:.1f} {height - 1}H{1000 * stop / span:.1f}"
        if items > (first is not None and start <= first < start + strip.width):  # the first is a diamond
            ticks += f"M{1000 * (start + strip.width / 2) / span:.1f} 3v{TICKS - 6}"
    thin = 'vector-effect="non-scaling-stroke"'
    parts = [
        f'<svg width="100%" height="{height}" viewBox="0 0 1000 {height}" preserveAspectRatio="none">'
        f'<path d="{both}" fill="currentColor" fill-opacity="0.08" stroke="currentColor" '
        f'stroke-opacity="0.55" {thin}/><path d="{solid}" fill="{TOKEN}"/>'
        f'<path d="{no_input}" stroke="{WAITING}" stroke-width="3" {thin}/>'
        f'<path d="{ticks}" stroke="{TOKEN}" stroke-width="2.5" {thin}/></svg>'
    ]
    if first is not None:
        parts.append(drawing.shape(drawing.DIAMOND, first, span, 7, FIRST_TOKEN, title="first item"))
    if part.error:
        parts.append(drawing.shape(drawing.CROSS, end, span, TICKS + AREA / 2, ERROR, title=part.error))
    return f"<div>{drawing.svg(height, f'{part.name}: {shares(part, scene.clock)}', parts)}</div>"


def _area(columns: Sequence[tuple[float, float]], width: float, end: float, span: float) -> str:
    """The outline of shares that stand on the ground line, one step for each column of time."""
    path, before = "", 0.0
    for column, seconds in enumerate(columns):
        start = column * width
        if start >= end:
            break
        share = min(sum(seconds) / min(width, end - start), 1.0)
        height = round(share * AREA * 2) / 2
        if height != before:
            x, top = 1000 * start / span, TICKS + AREA
            path += f"{'H' if path else 'M'}{x:.1f}{'' if path else f' {top}'}V{top - height:g}"
            before = height
    return path + f"H{1000 * end / span:.1f}V{TICKS + AREA}Z" if path else ""


def _shares(part: Part, scene: Scene) -> str:
    most = max(part.seconds.values())
    cells = ""
    for state in STATES:
        seconds = part.seconds[state]
        bold = "font-weight:bold" if seconds == most and most else "opacity:0.75"
        cells += (
            f'<div style="text-align:right;white-space:nowrap;{bold}">{percent(seconds, scene.clock)}</div>'
        )
    return cells


# -- in words --------------------------------------------------------------------------------------------


def percent(seconds: float, clock: float) -> str:
    return f"{100 * seconds / clock:.0f} %" if clock else "-"


def shares(part: Part, clock: float) -> str:
    return ", ".join(f"{state} {percent(seconds, clock)}" for state, seconds in part.seconds.items())


def counts(part: Part) -> str:
    """What a box counts: items in and out."""
    if part.above is None:
        return f"out {part.given}"
    return f"in {part.taken}, out {part.given}" if part.below is not None else f"read {part.taken}"


def rows(scene: Scene) -> list[tuple[str, ...]]:
    """The numbers of all parts; the first row is the head."""
    head = ("", "in", "out", *STATES, "not passed on, at most")
    body = [
        (
            part.name,
            "-" if part.taken is None else str(part.taken),
            "-" if part.given is None else str(part.given),
            *(percent(part.seconds[state], scene.clock) for state in STATES),
            "-" if part.kept is None else part.amount(part.most_kept),
        )
        for part in scene.parts
    ]
    return [head, *body]


def meaning(scene: Scene) -> list[str]:
    """What the numbers say, one sentence each; true whatever they are."""
    lines = []
    busiest = max(scene.parts, key=lambda part: part.seconds["works"])
    if scene.clock:
        share = percent(busiest.seconds["works"], scene.clock)
        lines.append(
            f"{busiest.name} worked most: {share} of {drawing.seconds(scene.clock)}. "
            "Who wants it faster begins there."
        )
    for part in scene.parts:
        if part.most_kept:
            lines.append(f"{part.name} held back or left out up to {part.amount(part.most_kept)} at a time.")
    lines += [f"{part.name}: {part.error}" for part in scene.parts if part.error]
    if scene.stopped:
        lines.append("Stopped before the end.")
    return lines
