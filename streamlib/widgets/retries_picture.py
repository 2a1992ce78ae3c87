"""The picture of retries: a lane for each attempt, and one for what the reader gets. Lesson 5."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import pairwise

from .. import drawing
from ..palette import ERROR, FIRST_TOKEN, TOKEN, WAITING

LANE = 44  # pixels for an attempt: its words, and under them its line
LINE = 30  # where the line of a lane is

CHIP = '<span style="font-size:10px;border:1px solid;border-radius:3px;padding:0 3px;opacity:0.75">{}</span>'
LEGEND = (
    "┈ connecting",
    f'<span style="color:{WAITING}">━</span> waiting for the server',
    "○ it answers",
    f'<span style="color:{FIRST_TOKEN}">◆</span> first text',
    f'<span style="color:{TOKEN}">▮</span> more text',
    f'<span style="color:{ERROR}">✗</span> fault',
    "╌ backoff: waiting to ask again",
    f"{CHIP.format('n')} text from attempt n",
)
HELP = (
    "Each row is one attempt; it begins where the wait after the one above ends. The last is what came out."
)


@dataclass(slots=True)
class Attempt:
    """One stream that was opened. Instants are seconds since the start of it all."""

    started: float
    said: int = 0  # characters of the answer that were there already: it was asked for the rest
    connects: bool = False  # a new connection was opened for it
    sent: float | None = None  # the request was sent
    answered: tuple[float, int] | None = None  # the answer's head came, with its HTTP status
    pieces: array[float] = field(default_factory=lambda: array("d"))  # when each piece of text came
    characters: int = 0  # in all of them
    fault: str = ""  # in a word: "503", "StreamTruncated"
    detail: str = ""
    ended: float | None = None
    complete: bool = False
    delay: float | None = None  # the wait that was planned after it
    told: float | None = None  # the wait that the server asked for

    @property
    def outcome(self) -> str:
        """How it went, in a few words."""
        if self.ended is None:
            return "open"
        count = len(self.pieces)
        if self.fault:
            return f"{self.fault} after {count} piece{'s' * (count != 1)} of text" if count else self.fault
        return "complete" if self.complete else "closed before its end"


@dataclass(frozen=True, slots=True)
class Scene:
    """What a picture of retries shows, after `clock` seconds."""

    name: str  # of the function that asks again
    attempts: Sequence[Attempt]
    handed_on: Sequence[tuple[float, str]]  # while it is live, the end of it: it is all that has room
    handed_at: Sequence[float]  # when each piece was handed on
    clock: float
    live: bool
    error: str
    stopped: bool


def draw_retries(scene: Scene) -> str:
    """The lanes on one time axis, the text with its seams, and in the end what it means."""
    span = drawing.time_span(scene.clock, live=scene.live)
    parts = [_lane(scene, number, span) for number in range(len(scene.attempts))]
    bottom = LANE * len(scene.attempts)
    parts.append(_reader(scene, bottom, span))
    parts.append(drawing.axis(span, bottom + LANE + 2))
    label = "Attempts on a time axis. " + " ".join(meaning(scene))
    picture = drawing.svg(bottom + LANE + 24, label, parts)
    return drawing.frame(
        drawing.head("Retries", f"the attempts of {scene.name} at one answer", scene.clock),
        drawing.reading_help(HELP),
        picture,
        drawing.legend(LEGEND),
        _text(scene) if scene.handed_on or scene.live else "",
        "" if scene.live else drawing.lines(meaning(scene)) + _numbers(scene),
    )


def _numbers(scene: Scene) -> str:
    """The same in numbers, and the faults in full, to be opened by a click or a key."""
    faults = [f"{n}: {a.detail}" for n, a in enumerate(scene.attempts, 1) if a.detail]
    return (
        f"<details><summary>in numbers</summary>{drawing.table(rows(scene))}{drawing.lines(faults)}</details>"
    )


def _lane(scene: Scene, number: int, span: float) -> str:
    """One attempt, and the wait after it."""
    attempt = scene.attempts[number]
    following = scene.attempts[number + 1] if number + 1 < len(scene.attempts) else None
    top = LANE * number
    y = top + LINE
    end = scene.clock if attempt.ended is None else attempt.ended
    first = attempt.pieces[0] if attempt.pieces else end
    sent = attempt.started if attempt.sent is None else attempt.sent
    parts = [
        drawing.note("0", top + 15, words(number, attempt, following)),
        _dashes(attempt.started, sent, span, y, "1 3"),
        drawing.line(sent, first, span, y),
        *_bars(attempt.pieces[1:], span, y),
    ]
    if attempt.answered is not None and attempt.answered[1] < 400:  # else its number is the fault
        at, status = attempt.answered
        parts.append(_circle(at, span, y, f"status {status} at {at:.3f} s"))
    if attempt.pieces:
        parts.append(drawing.shape(drawing.DIAMOND, first, span, y, FIRST_TOKEN, title="first text"))
    if attempt.fault:
        parts.append(drawing.shape(drawing.CROSS, end, span, y, ERROR, title=attempt.detail))
    if attempt.ended is not None and (following is not None or (scene.live and attempt.fault)):
        until = scene.clock if following is None else following.started
        parts.append(_dashes(end, until, span, y))
        if following is not None:
            x = drawing.percent(until, span)
            parts.append(
                f'<line x1="{x}" x2="{x}" y1="{y}" y2="{y + LANE}" stroke="currentColor" '
                'stroke-opacity="0.4" stroke-dasharray="2 3"/>'
            )
    return "".join(parts)


def words(number: int, attempt: Attempt, following: Attempt | None) -> str:
    """What stands over a lane."""
    rest = f", the rest after {attempt.said} characters" if attempt.said else ""
    line = f"attempt {number + 1}{rest}: {attempt.outcome}"
    wait = waited(attempt, following)
    if wait is not None:
        line += f"; then {drawing.seconds(wait)} of backoff"
        if attempt.told is not None:
            line += f" (the server asked for {attempt.told:g} s)"
    return line


def waited(attempt: Attempt, following: Attempt | None) -> float | None:
    """The seconds between an attempt and the next, or those that are planned."""
    if following is not None and attempt.ended is not None:
        return following.started - attempt.ended
    return attempt.delay


def _reader(scene: Scene, top: int, span: float) -> str:
    y = top + LINE
    times = scene.handed_at
    silences = [later - earlier for earlier, later in pairwise([0.0, *times, scene.clock])]
    longest = f"what the reader gets; its longest wait: {drawing.seconds(max(silences))}"
    parts = [drawing.note("0", top + 15, longest), drawing.line(0, scene.clock, span, y)]
    parts += _bars(times[1:], span, y)
    if times:
        parts.append(drawing.shape(drawing.DIAMOND, times[0], span, y, FIRST_TOKEN, title="first text"))
    if scene.error:
        parts.append(drawing.shape(drawing.CROSS, scene.clock, span, y, ERROR, title=scene.error))
    return "".join(parts)


def _text(scene: Scene) -> str:
    """What was handed on, with a mark at each seam."""
    starts = [attempt.started for attempt in scene.attempts]
    html, seen = "", 0
    for at, piece in scene.handed_on:
        number = sum(start <= at for start in starts)
        if number != seen:
            html += CHIP.format(number)
            seen = number
        html += escape(piece)
    scroll = "display:flex;flex-direction:column-reverse;height:5.9em;" if scene.live else "max-height:9em;"
    return (
        '<div style="border:1px solid var(--jp-border-color1,#bbb);border-radius:4px;padding:4px 10px;'
        f'margin:6px 0;{scroll}overflow:auto"><div style="white-space:pre-wrap;'
        f'margin-bottom:auto">{html}</div></div>'
    )


def _bars(times: Sequence[float], span: float, y: int) -> list[str]:
    """A mark for each instant that can be told apart, in one path: few bytes, for a picture that moves."""
    path = "".join([f"M{x} {y - 5}v10" for x in sorted({round(1000 * at / span) for at in times})])
    return [
        f'<svg width="100%" height="{y + 5}" viewBox="0 0 1000 {y + 5}" preserveAspectRatio="none" '
        f'style="overflow:visible"><path d="{path}" stroke="{TOKEN}" stroke-width="2.5" '
        'vector-effect="non-scaling-stroke"/></svg>'
    ]


def _circle(at: float, span: float, y: int, title: str) -> str:
    return (
        f'<circle cx="{drawing.percent(at, span)}" cy="{y}" r="4" fill="var(--jp-layout-color0,#fff)" '
        f'stroke="currentColor" stroke-width="1.3"><title>{title}</title></circle>'
    )


def _dashes(start: float, end: float, span: float, y: int, pattern: str = "7 5") -> str:
    return (
        f'<line x1="{drawing.percent(start, span)}" x2="{drawing.percent(end, span)}" y1="{y}" y2="{y}" '
        f'stroke="currentColor" stroke-opacity="0.8" stroke-width="1.5" stroke-dasharray="{pattern}"/>'
    )


# -- in words --------------------------------------------------------------------------------------------


def rows(scene: Scene) -> list[tuple[str, ...]]:
    """A row for each attempt; the first row is the head."""
    head = ("attempt", "begins at", "first text at", "pieces", "how it ended", "then waited")
    body = [
        (
            str(number),
            drawing.seconds(attempt.started),
            drawing.seconds(attempt.pieces[0]) if attempt.pieces else "-",
            str(len(attempt.pieces)),
            attempt.fault or attempt.outcome,
            "-" if wait is None else drawing.seconds(wait),
        )
        for number, attempt, wait in zip(
            range(1, len(scene.attempts) + 1), scene.attempts, waits(scene), strict=True
        )
    ]
    return [head, *body]


def waits(scene: Scene) -> list[float | None]:
    """The seconds between each attempt and the next; None after the last."""
    between = [waited(attempt, following) for attempt, following in pairwise(scene.attempts)]
    return [*between, None] if scene.attempts else []


def meaning(scene: Scene) -> list[str]:
    """What the numbers say, one sentence each; true whatever they are."""
    failed = sum(bool(attempt.fault) for attempt in scene.attempts)
    total = sum(wait or 0.0 for wait in waits(scene))
    count = len(scene.attempts)
    lines = [
        f"{count} attempt{'s' * (count != 1)}, {failed} failed; "
        f"{drawing.seconds(total)} of {drawing.seconds(scene.clock)} went into waiting to ask again."
    ]
    length = sum(len(text) for _, text in scene.handed_on)
    characters = f"{length} character{'s' * (length != 1)}"
    if scene.stopped:
        lines.append("Stopped before the end.")
    elif scene.error:
        lines.append(f"It gave up after {characters}: {scene.error}")
    elif not scene.live:
        lines.append(f"It came to the end: {characters} in all.")
    return lines
