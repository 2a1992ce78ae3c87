"""Instants as marks on a time axis: pictures, not live views. Lessons 2 and 3."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from .. import drawing
from ..palette import FIRST_TOKEN, TOKEN, WAITING

TEXT_LANE, OTHER_LANE, AXIS = 46, 92, 108  # pixels from the top
LANE = 50  # pixels of height


@dataclass(frozen=True, slots=True)
class Arrival:
    """One chunk: seconds after the request, what it is, and the text it brings ("" when it brings none)."""

    at: float
    kind: str
    text: str


def chunk_timeline(chunks: Sequence[tuple[float, Any]]) -> ChunkTimeline:
    """The picture of `chunks`: pairs of (seconds after the request, `ChatCompletionChunk`), in order."""
    return ChunkTimeline([Arrival(at, *kind_of(chunk)) for at, chunk in chunks])


def kind_of(chunk: Any) -> tuple[str, str]:
    """What a chunk is, and its text."""
    if not chunk.choices:
        return "usage" if chunk.usage else "no choices", ""
    choice = chunk.choices[0]
    if choice.delta.content:
        return "text", choice.delta.content
    if choice.finish_reason:
        return f'finish reason "{choice.finish_reason}"', ""
    return "role" if choice.delta.role else "no text", ""


@dataclass(frozen=True, slots=True)
class ChunkTimeline:
    """Shown as a picture in a notebook and as one line per kind elsewhere."""

    arrivals: Sequence[Arrival]

    def _repr_html_(self) -> str:
        span = drawing.nice_span(max((arrival.at for arrival in self.arrivals), default=0.0))
        first = next((arrival for arrival in self.arrivals if arrival.text), None)
        parts = [
            drawing.note("0", TEXT_LANE - 32, "chunks with text (orange: the first)"),
            drawing.note("0", OTHER_LANE - 20, "chunks without text"),
        ]
        if first:
            parts.append(drawing.line(0, first.at, span, TEXT_LANE - 10))
        for arrival in self.arrivals:
            if arrival is first:
                parts.append(
                    drawing.shape(
                        drawing.DIAMOND, first.at, span, TEXT_LANE - 10, FIRST_TOKEN, title=first.text
                    )
                )
            elif arrival.text:
                parts.append(tick(arrival, span, TEXT_LANE, TOKEN))
            else:
                parts.append(tick(arrival, span, OTHER_LANE, WAITING))
        parts += labels([arrival for arrival in self.arrivals if not arrival.text], span)
        return drawing.frame(drawing.svg(AXIS + 24, repr(self), [*parts, drawing.axis(span, AXIS)]))

    def __repr__(self) -> str:
        kinds = dict.fromkeys(arrival.kind for arrival in self.arrivals)
        times = {kind: [a.at for a in self.arrivals if a.kind == kind] for kind in kinds}
        return "\n".join(f"{len(at):4} {kind}, first after {at[0]:.2f} s" for kind, at in times.items())


def tick(arrival: Arrival, span: float, base: int, colour: str) -> str:
    """One chunk; its text, or what it is, in a hover."""
    title = escape(f"{arrival.at:.3f} s  {arrival.text or arrival.kind}", quote=False)
    x = drawing.percent(arrival.at, span)
    return (
        f'<rect x="{x}" y="{base - 20}" width="3" height="20" fill="{colour}"><title>{title}</title></rect>'
    )


def labels(arrivals: Sequence[Arrival], span: float) -> list[str]:
    """What the chunks without text are, beside them; what comes close together shares one label."""
    groups: list[list[Arrival]] = []
    for arrival in arrivals:
        if groups and arrival.at - groups[-1][0].at < span / 8:
            groups[-1].append(arrival)
        else:
            groups.append([arrival])
    parts = []
    for group in groups:
        words = ", then ".join(dict.fromkeys(arrival.kind for arrival in group))
        right = group[0].at > span * 0.6
        at = group[0].at - span * 0.01 if right else group[-1].at + span * 0.01
        parts.append(
            drawing.note(drawing.percent(at, span), OTHER_LANE - 5, words, anchor="end" if right else "start")
        )
    return parts


def lanes(times: Mapping[str, Sequence[float]]) -> Lanes:
    """The picture of several rows of instants, in seconds, on one time axis: what was made, what was used."""
    return Lanes({name: list(instants) for name, instants in times.items()})


@dataclass(frozen=True, slots=True)
class Lanes:
    """Shown as a picture in a notebook and as one line per row elsewhere."""

    times: Mapping[str, Sequence[float]]

    def _repr_html_(self) -> str:
        span = drawing.nice_span(
            max((at for instants in self.times.values() for at in instants), default=0.0)
        )
        parts, base = [], 0
        for name, instants in self.times.items():
            base += LANE
            parts.append(drawing.note("0", base - 24, f"{name}: {len(instants)}"))
            parts += [
                tick(Arrival(at, f"{name} {n}", ""), span, base, TOKEN) for n, at in enumerate(instants, 1)
            ]
        picture = drawing.svg(base + 40, repr(self), [*parts, drawing.axis(span, base + 16)])
        return drawing.frame(picture)

    def __repr__(self) -> str:
        width = max(map(len, self.times), default=0)
        rows = (
            f"{name:{width}}  {' '.join(f'{at:.2f}' for at in at_)} s" for name, at_ in self.times.items()
        )
        return "\n".join(rows)
