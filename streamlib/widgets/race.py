"""Race: one prompt, asked twice at the same time, once blocking and once streaming. Lessons 0 and 2.

Two clocks tick until the first words are there, then until the whole answer is. What it shows: streaming does
not make the model faster; it lets a reader begin sooner.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from time import perf_counter
from typing import Any

import httpx2

from ..palette import ERROR, FIRST_TOKEN, TOKEN, WAITING
from ..sse import SSEParser
from . import view
from .ask import Ask, piece_in, refusal, trouble, warm_up, whole_text

LEGEND = (
    f'<span style="color:{FIRST_TOKEN}">◆</span> first words &nbsp; '
    f'<span style="color:{TOKEN}">▮</span> more words &nbsp; <span style="color:{WAITING}">━</span> waiting'
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


class Race(view.View):
    """The same prompt blocking and streaming, side by side, with clocks that tick.

    ``await Race("Why is the sky blue?", model=model.name)``. After it, `.blocking` and `.streaming` hold
    `.first` and `.total` in seconds and the `.answer`. Further keywords go into the request
    (``max_tokens=200``). With ``together=False`` the second request waits for the first to end: for a server
    that answers one at a time.
    """

    def __init__(
        self,
        prompt: str | Sequence[Mapping[str, Any]],
        *,
        model: str,
        together: bool = True,
        base_url: str | None = None,
        api_key: str | None = None,
        headers: Mapping[str, str] | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        self.ask = Ask(prompt, model, base_url, api_key, headers, options)
        self.together = together
        self.blocking = Lane("Blocking")
        self.streaming = Lane("Streaming")

    async def receive(self) -> None:
        async with self.ask.client() as client:
            await asyncio.gather(warm_up(client), warm_up(client))  # two connections, before the clocks start
            if self.together:
                async with asyncio.TaskGroup() as both:
                    both.create_task(self._request(self._block, client, self.blocking))
                    both.create_task(self._request(self._stream, client, self.streaming))
            else:
                await self._request(self._stream, client, self.streaming)
                await self._request(self._block, client, self.blocking)

    async def _request(self, how: Any, client: httpx2.AsyncClient, lane: Lane) -> None:
        lane.started = perf_counter()
        try:
            await how(client, lane)
        except httpx2.HTTPError as error:
            lane.error = trouble(error)
        except ValueError as error:
            lane.error = str(error)
        except asyncio.CancelledError:
            lane.error = "Stopped."
            raise
        finally:
            lane.ended = perf_counter()

    async def _block(self, client: httpx2.AsyncClient, lane: Lane) -> None:
        response = await client.post("chat/completions", json=self.ask.body(stream=False))
        lane.error = await refusal(response)
        if not lane.error and (text := whole_text(response.content)):
            lane.pieces.append((perf_counter(), text))

    async def _stream(self, client: httpx2.AsyncClient, lane: Lane) -> None:
        parser, complete = SSEParser(), False
        request = client.stream("POST", "chat/completions", json=self.ask.body(stream=True))
        async with request as response:
            lane.error = await refusal(response)
            if lane.error:
                return
            async for chunk in response.aiter_bytes():
                now = perf_counter()
                for event in parser.feed(chunk):
                    text, is_end, error = piece_in(event.data)
                    if text:
                        lane.pieces.append((now, text))
                    complete |= is_end
                    lane.error = lane.error or error
        if not complete:
            lane.error = lane.error or "The answer ended in the middle: no [DONE], no finish reason."

    # -- what it looks like ------------------------------------------------------------------------------

    def html(self, now: float | None) -> str:
        cards = "".join(self._card(lane, now) for lane in (self.blocking, self.streaming))
        columns = "display:grid;grid-template-columns:repeat(auto-fit,minmax(240px,1fr));gap:10px"
        result = () if now else (view.table(self._table()), view.lines(self._meaning()))
        return view.frame(f'<div style="{columns}">{cards}</div>', self._lanes(now), *result)

    def _card(self, lane: Lane, now: float | None) -> str:
        if lane.first is None:
            state = "no words" if lane.ended else "waiting for the first words …"
        else:
            state = f"first words after <b>{view.seconds(lane.first)}</b>"
        if lane.total is not None:
            state += f", all after <b>{view.seconds(lane.total)}</b>"
        if lane.error:
            state += f'<div style="color:{ERROR};font-weight:bold">✗ {escape(lane.error)}</div>'
        # column-reverse keeps the newest words in sight while they arrive
        scroll, top = (
            ("display:flex;flex-direction:column-reverse;", "margin-bottom:auto;") if now else ("", "")
        )
        return (
            '<div style="border:1px solid var(--jp-border-color1,#bbb);border-radius:4px;padding:6px 10px">'
            f'<div style="display:flex;justify-content:space-between;align-items:baseline"><b>{lane.name}</b>'
            f'<span style="font-size:22px">{lane.clock(now):.1f} s</span></div><div>{state}</div>'
            f'<div style="{scroll}height:8.7em;overflow:auto;margin-top:4px;opacity:0.85">'
            f'<div style="{top}white-space:pre-wrap">{escape(lane.answer)}</div></div></div>'
        )

    def _lanes(self, now: float | None) -> str:
        lanes = (self.blocking, self.streaming)
        span = view.time_span(max(lane.clock(now) for lane in lanes), live=now is not None)
        parts = []
        for lane, top in zip(lanes, (0, 44), strict=True):
            clock, y = lane.clock(now), top + 28
            first = clock if lane.first is None else lane.first
            parts += [view.note("0", top + 14, lane.name), view.line(0, first, span, y)]
            for at, _ in lane.pieces[1:]:
                x = view.percent(at - (lane.started or at), span)
                parts.append(f'<rect x="{x}" y="{y - 5}" width="2.5" height="10" fill="{TOKEN}"/>')
            if lane.first is not None:
                parts.append(view.shape(view.DIAMOND, first, span, y, FIRST_TOKEN, title="first words"))
            if lane.error:
                parts.append(view.shape(view.CROSS, clock, span, y, ERROR, title=lane.error))
        parts.append(view.axis(span, 90))
        drawing = view.svg(112, "Both requests on one time axis. " + " ".join(self._meaning()), parts)
        return f'<div style="margin-top:6px">{drawing}<div style="font-size:12px">{LEGEND}</div></div>'

    def _table(self) -> list[tuple[str, str, str, str]]:
        def row(name: str, blocking: float | None, streaming: float | None) -> tuple[str, str, str, str]:
            words = ["-" if t is None else view.seconds(t) for t in (blocking, streaming)]
            both = "" if blocking is None or streaming is None else compare(blocking, streaming)
            return name, words[0], words[1], both

        return [
            ("", "blocking", "streaming", ""),
            row("first words after", self.blocking.first, self.streaming.first),
            row("whole answer after", self.blocking.total, self.streaming.total),
        ]

    def _meaning(self) -> list[str]:
        """What the numbers say, in at most three sentences; true whatever the numbers are."""
        b, s = self.blocking, self.streaming
        if self.stopped:
            return ["Stopped before the end."]
        problems = [f"{lane.name}: {lane.error}" for lane in (b, s) if lane.error]
        if problems or b.first is None or s.first is None or b.total is None or s.total is None:
            return problems or ["No text has arrived."]
        sooner, later = view.seconds(s.first), view.seconds(b.first)
        lines = [f"With streaming you begin to read after {sooner} instead of {later}."]
        if abs(b.total - s.total) <= 0.15 * b.total:
            lines.append("The whole answer takes about as long either way: the model is not faster.")
        else:
            lines.append("The whole answers took different times; streaming alone is no reason for that.")
        words = [len(lane.answer.split()) for lane in (b, s)]
        if abs(words[0] - words[1]) > 0.05 * max(words):
            lines.append(f"The answers differ in length: {words[0]} and {words[1]} words.")
        return lines

    def text(self) -> str:
        rows = [f"{name:<20}{b:>10}{s:>11}  {more}".rstrip() for name, b, s, more in self._table()]
        return "\n".join(["Race: one prompt, two ways", *rows, *self._meaning()])


def compare(blocking: float, streaming: float) -> str:
    """How much sooner the streaming one is, in words."""
    if abs(blocking - streaming) <= 0.1 * max(blocking, streaming):
        return "about the same"
    word = "sooner" if streaming < blocking else "later"
    factor = max(blocking, streaming) / min(blocking, streaming)
    return f"{factor:.1f} times {word}" if factor >= 1.95 else f"{100 * (factor - 1):.0f} % {word}"
