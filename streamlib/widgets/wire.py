"""Wire: the bytes of one streamed answer as they arrive, on a time axis with three rulers. Lesson 1.

A **read** is what the HTTP client hands over at once, an **event** is what the blank lines of the SSE format
delimit, a **piece of text** is what one event adds to the answer. Three different counts: a server, a proxy
or the network may join several events into one read, or cut one event into several.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import Any

import httpx2

from ..sse import SSEParser
from .ask import AskView, piece_in, refusal, trouble, warm_up
from .wire_picture import Bare, Mark, Scene, draw_wire, plain_text

SHOWN = 300  # characters of one read, event or text that a picture shows


class Wire(AskView):
    """Bytes as they arrive, with three rulers: reads, events, pieces of text.

    ``await Wire("Why is the sky blue?", model=model.name)``. After it, `.reads`, `.events` and `.pieces` are
    lists of `Mark` (seconds after the request, and what came), `.data` is all the bytes, `.answer` the text.
    `headers` are sent along (``{"X-Sim-Fault": "clump"}``), further keywords go into the request
    (``max_completion_tokens=40``). Rest the pointer on a mark of the finished picture, or click it, to see
    its bytes.
    """

    draw = staticmethod(draw_wire)

    def __init__(self, prompt: str | Sequence[Mapping[str, Any]], *, model: str, **ask: Any) -> None:
        super().__init__(prompt, model=model, **ask)
        self.started: float | None = None
        self.ended: float | None = None
        self.reads: list[Mark] = []
        self.events: list[Mark] = []
        self.pieces: list[Mark] = []
        self._bare = (Bare(), Bare(), Bare())  # the same, for the picture that moves
        self.data = bytearray()
        self.tokens: int | None = None  # by the server's count, when it sends one
        self.cut_events = 0  # events that came in more than one read
        self.unfinished = False  # the body ended inside an event
        self.complete = False  # [DONE], or a finish reason, has come
        self.error = ""

    @property
    def answer(self) -> str:
        return "".join(mark.what for mark in self.pieces)

    def scene(self, now: float | None) -> Scene:
        live = now is not None
        return Scene(
            clock=0.0 if self.started is None else (self.ended or now or self.started) - self.started,
            live=live,
            rulers=self._bare if live else (self.reads, self.events, self.pieces),
            last_read=self.reads[-1].what if self.reads else "",
            size=len(self.data),
            tokens=self.tokens,
            cut_events=self.cut_events,
            ending=self._ending(),
        )

    def _keep(self, ruler: list[Mark], number: int, mark: Mark) -> None:
        ruler.append(mark)
        self._bare[number].append(mark)

    def text(self) -> str:
        return plain_text(self.scene(None))

    def _ending(self) -> str:
        """What went wrong, in a sentence; "" when nothing did, or not yet."""
        if self.error or self.ended is None or self.complete:
            return self.error
        where = "in the middle of an event" if self.unfinished else "with no [DONE] and no finish reason"
        return f"The answer ended {where}: it may be cut off."

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
            self._keep(self.reads, 0, Mark(at, repr(chunk[:SHOWN])[2:-1], weight=len(chunk)))
            events = parser.feed(chunk)
            self.cut_events += open_event and bool(events)
            open_event = not self.data.endswith((b"\n\n", b"\r\n\r\n", b"\r\r"))
            for event in events:
                text, is_end, error, tokens = piece_in(event.data)
                self._keep(self.events, 1, Mark(at, event.data[:SHOWN], has_text=bool(text)))
                if text:
                    self._keep(self.pieces, 2, Mark(at, text))
                self.complete |= is_end
                self.tokens = tokens or self.tokens
                self.error = self.error or error
        parser.close()
        self.unfinished = parser.truncated
