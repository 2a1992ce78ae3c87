"""The picture of a race: two cards with clocks, and both requests on one time axis. Lessons 0 and 2."""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape

from .. import drawing
from ..palette import ERROR, FIRST_TOKEN, TOKEN, WAITING

LEGEND = " &nbsp; ".join(
    f'<span style="color:{colour}">{mark}</span> {words}'
    for mark, colour, words in (
        ("◆", FIRST_TOKEN, "first words"),
        ("▮", TOKEN, "more words"),
        ("━", WAITING, "waiting"),
        ("✗", ERROR, "stopped, broken"),
    )
)
HELP = (
    "From left to right: seconds since both requests were sent. The sooner the diamond, the sooner you read."
)


@dataclass(slots=True)
class Lane:
    """One of the two requests. Instants are seconds on `perf_counter`."""

    name: str
    started: float | None = None
    pieces: list[tuple[float, str]] = field(default_factory=list)
    ended: float | None = None
    error: str = ""

    @property
    def answer(self) -> str:
        return "".join(text for _, text in self.pieces)

    @property
    def first(self) -> float | None:
        """Seconds from the request to the first text that a reader could see."""
        return self.pieces[0][0] - self.started if self.pieces and self.started is not None else None

    @property
    def total(self) -> float | None:
        """Seconds from the request to the end of the answer; None when it did not come to its end."""
        whole = self.started is not None and self.ended is not None and not self.error
        return self.ended - self.started if whole else None  # type: ignore[operator]

    def clock(self, now: float | None) -> float:
        """Seconds on this lane's clock; it stands still before the request and after the end."""
        if self.started is None:
            return 0.0
        return (self.ended or now or self.started) - self.started


@dataclass(frozen=True, slots=True)
class Scene:
    """What a picture of a race shows: the two requests at the instant `now`, or in the end (None)."""

    blocking: Lane
    streaming: Lane
    now: float | None
    stopped: bool


def draw_race(scene: Scene) -> str:
    """The cards and the time axis; in the end also the two times, and what they mean."""
    cards = "".join(_card(lane, scene.now) for lane in (scene.blocking, scene.streaming))
    columns = "display:grid;grid-template-columns:repeat(auto-fit,minmax(240px,1fr));gap:10px;margin-top:4px"
    result = () if scene.now else (drawing.table(table(scene)), drawing.lines(meaning(scene)))
    title = "<div><b>Race</b>: the same prompt, asked twice</div>"
    return drawing.frame(title, f'<div style="{columns}">{cards}</div>', _lanes(scene), *result)


def _card(lane: Lane, now: float | None) -> str:
    if lane.first is None:
        state = "no words" if lane.ended else "waiting for the first words …"
    else:
        state = f"first words after <b>{drawing.seconds(lane.first)}</b>"
    if lane.total is not None:
        state += f", all after <b>{drawing.seconds(lane.total)}</b>"
    if lane.error:
        state += f'<div style="color:{ERROR};font-weight:bold">✗ {escape(lane.error)}</div>'
    # column-reverse keeps the newest words in sight while they arrive
    scroll, top = ("display:flex;flex-direction:column-reverse;", "margin-bottom:auto;") if now else ("", "")
    return (
        '<div style="border:1px solid var(--jp-border-color1,#bbb);border-radius:4px;padding:6px 10px">'
        f'<div style="display:flex;justify-content:space-between;align-items:baseline"><b>{lane.name}</b>'
        f'<span style="font-size:22px">{lane.clock(now):.1f} s</span></div><div>{state}</div>'
        f'<div style="{scroll}height:8.7em;overflow:auto;margin-top:4px;opacity:0.85">'
        f'<div style="{top}white-space:pre-wrap">{escape(lane.answer)}</div></div></div>'
    )


def _lanes(scene: Scene) -> str:
    lanes = (scene.blocking, scene.streaming)
    now = scene.now
    span = drawing.time_span(max(lane.clock(now) for lane in lanes), live=now is not None)
    parts = []
    for lane, top in zip(lanes, (0, 44), strict=True):
        clock, y = lane.clock(now), top + 28
        first = clock if lane.first is None else lane.first
        parts += [drawing.note("0", top + 14, lane.name), drawing.line(0, first, span, y)]
        for at, _ in lane.pieces[1:]:
            x = drawing.percent(at - (lane.started or at), span)
            parts.append(f'<rect x="{x}" y="{y - 5}" width="2.5" height="10" fill="{TOKEN}"/>')
        if lane.first is not None:
            parts.append(drawing.shape(drawing.DIAMOND, first, span, y, FIRST_TOKEN, title="first words"))
        if lane.error:
            parts.append(drawing.shape(drawing.CROSS, clock, span, y, ERROR, title=lane.error))
    parts.append(drawing.axis(span, 90))
    picture = drawing.svg(112, "Both requests on one time axis. " + " ".join(meaning(scene)), parts)
    legend = f'<div style="font-size:12px">{LEGEND}</div>'
    return f'<div style="margin-top:6px">{picture}{legend}{drawing.reading_help(HELP)}</div>'


def table(scene: Scene) -> list[tuple[str, str, str, str]]:
    """The two times of each request, and how they compare."""

    def row(name: str, blocking: float | None, streaming: float | None) -> tuple[str, str, str, str]:
        words = ["-" if t is None else drawing.seconds(t) for t in (blocking, streaming)]
        both = "" if blocking is None or streaming is None else compare(blocking, streaming)
        return name, words[0], words[1], both

    return [
        ("", "blocking", "streaming", ""),
        row("first words after", scene.blocking.first, scene.streaming.first),
        row("whole answer after", scene.blocking.total, scene.streaming.total),
    ]


def meaning(scene: Scene) -> list[str]:
    """What the numbers say, in at most three sentences; true whatever the numbers are."""
    b, s = scene.blocking, scene.streaming
    if scene.stopped:
        return ["Stopped before the end."]
    problems = [f"{lane.name}: {lane.error}" for lane in (b, s) if lane.error]
    if problems or b.first is None or s.first is None or b.total is None or s.total is None:
        return problems or ["No text has arrived."]
    sooner, later = drawing.seconds(s.first), drawing.seconds(b.first)
    lines = [f"With streaming you begin to read after {sooner} instead of {later}."]
    if abs(b.total - s.total) <= 0.15 * b.total:
        lines.append("The whole answer takes about as long either way: the model is not faster.")
    else:
        lines.append("The whole answers took different times; streaming alone is no reason for that.")
    words = [len(lane.answer.split()) for lane in (b, s)]
    if abs(words[0] - words[1]) > 0.05 * max(words):
        lines.append(f"The answers differ in length: {words[0]} and {words[1]} words.")
    return lines


def compare(blocking: float, streaming: float) -> str:
    """How much sooner the streaming one is, in words."""
    if abs(blocking - streaming) <= 0.1 * max(blocking, streaming):
        return "about the same"
    word = "sooner" if streaming < blocking else "later"
    factor = max(blocking, streaming) / min(blocking, streaming)
    return f"{factor:.1f} times {word}" if factor >= 1.95 else f"{100 * (factor - 1):.0f} % {word}"
