"""Race: one prompt, asked twice at the same time, once blocking and once streaming. Lessons 0 and 2.

Two clocks tick until the first words are there, then until the whole answer is. What it shows: streaming does
not make the model faster; it lets a reader begin sooner.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import Any

import httpx2

from ..sse import SSEParser
from .ask import AskView, piece_in, refusal, trouble, warm_up, whole_text
from .race_picture import Lane, Scene, draw_race, meaning, table


class Race(AskView):
    """The same prompt blocking and streaming, side by side, with clocks that tick.

    ``await Race("Why is the sky blue?", model=model.name)``. After it, `.blocking` and `.streaming` hold
    `.first` and `.total` in seconds and the `.answer`. Further keywords go into the request
    (``max_completion_tokens=200``). With ``together=False`` the second request waits for the first to end:
    for a server that answers one at a time.
    """

    draw = staticmethod(draw_race)

    def __init__(
        self, prompt: str | Sequence[Mapping[str, Any]], *, model: str, together: bool = True, **ask: Any
    ) -> None:
        super().__init__(prompt, model=model, **ask)
        self.together = together
        self.blocking = Lane("Blocking")
        self.streaming = Lane("Streaming")

    def scene(self, now: float | None) -> Scene:
        return Scene(self.blocking, self.streaming, now, self.stopped)

    def text(self) -> str:
        scene = self.scene(None)
        rows = [f"{name:<20}{b:>10}{s:>11}  {more}".rstrip() for name, b, s, more in table(scene)]
        return "\n".join(["Race: one prompt, two ways", *rows, *meaning(scene)])

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
                    text, is_end, error, _ = piece_in(event.data)
                    if text:
                        lane.pieces.append((now, text))
                    complete |= is_end
                    lane.error = lane.error or error
        if not complete:
            lane.error = lane.error or "The answer ended in the middle: no [DONE], no finish reason."
