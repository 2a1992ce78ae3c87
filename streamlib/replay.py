"""Answers that outlive a broken connection: `Replay` keeps events for readers who come back. Lesson 6.

    replay = Replay()

    @app.get("/answers")
    async def answers(question: str, last_event_id: Annotated[str | None, Header()] = None) -> Response:
        return sse_response(replay(answer(question), last_event_id))

The protocol is that of `EventSource` (https://html.spec.whatwg.org/multipage/server-sent-events.html): each
event has an `id`; whoever reconnects sends the last one as `Last-Event-ID`. On the reader's side
`streamlib.retry.resume_events` does that.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable
from secrets import token_urlsafe
from typing import Any

from starlette.exceptions import HTTPException

from .closing import Chain, closing
from .sse import ServerSentEvent

__all__ = ["Replay", "as_events"]

DONE = ServerSentEvent("{}", event="done")


async def as_events(stream: AsyncIterable[Any]) -> AsyncGenerator[ServerSentEvent, None]:
    """Each item as an event, and `done` after the last one unless the stream has said so itself."""
    event = None
    async with closing(stream) as items:
        async for item in items:
            event = item if isinstance(item, ServerSentEvent) else _event(item)
            yield event
    if event is None or event.event != DONE.event:
        yield DONE


def _event(item: object) -> ServerSentEvent:
    # json.dumps escapes all that is not ASCII: also half of a surrogate pair, which UTF-8 cannot say
    return ServerSentEvent(json.dumps(item, allow_nan=False))


class Replay:
    """Keeps answers for readers whose connection breaks: `sse_response(replay(answer(…), last_event_id))`.

    The first request brings no id: its stream is read by a task of its own, and each event is numbered and
    kept before it is sent. A browser's `EventSource` comes back by itself, with the header `Last-Event-ID`:
    then the stream it is called with is not touched, and what came after that event of the old one is sent.

    linger: seconds for which the model goes on without a reader, and for which a finished answer is kept.
    keep: events of one answer. Who needs an older one comes too late.

    An id holds a random key, and whoever knows it can read that answer. It is known in this process only:
    with several workers, a reader has to come back to the same one.
    """

    def __init__(self, *, linger: float = 30.0, keep: int = 10_000) -> None:
        if not (linger >= 0 and keep >= 1):
            raise ValueError(f"Replay needs linger from 0 and keep from 1 up, got {linger!r} and {keep!r}")
        self._linger = linger
        self._keep = keep
        self._tapes: dict[str, _Tape] = {}

    def __call__(
        self, stream: AsyncIterable[Any], last_event_id: str | None = None
    ) -> AsyncGenerator[ServerSentEvent, None]:
        """The events of `stream`, or the rest of the one that `last_event_id` belongs to.

        Raises HTTPException: 410 for an id that is not known (any more), rather than begin anew unasked;
        204 when that event was the last one, which tells `EventSource` to stop coming back.
        """
        if not last_event_id:
            return self._play(_Tape(stream, self._keep), 0)
        key, _, number = last_event_id.rpartition(":")
        tape = self._tapes.get(key)
        if tape is None or not (number.isascii() and number.isdigit() and int(number) <= tape.count):
            raise _too_late()
        if tape.complete and int(number) == tape.count:
            raise HTTPException(204)
        return self._play(tape, int(number))

    async def _play(self, tape: _Tape, seen: int) -> AsyncGenerator[ServerSentEvent, None]:
        """The events after the first `seen`, as they are recorded. Whoever leaves last starts the clock."""
        self._tapes[tape.key] = tape
        tape.readers += 1
        tape.visits += 1
        try:
            if tape.recording is None:
                tape.recording = asyncio.create_task(tape.record())
            while not (tape.over and seen == tape.count):
                if seen == tape.count:
                    await tape.news.wait()
                else:
                    yield tape.event(seen)
                    seen += 1
            if tape.error is not None:
                raise tape.error
        finally:
            tape.readers -= 1
            asyncio.get_running_loop().call_later(self._linger, self._forget, tape, tape.visits)

    def _forget(self, tape: _Tape, visits: int) -> None:
        """The clock has run down: unless somebody came back, drop the tape, and stop what still records."""
        if tape.readers == 0 and tape.visits == visits and tape.recording is not None:
            self._tapes.pop(tape.key, None)
            tape.recording.cancel()


class _Tape:
    """The events of one stream, as far as it has come."""

    def __init__(self, stream: AsyncIterable[Any], keep: int) -> None:
        self.key = token_urlsafe(12)
        self.count = 0  # events so far; the latest of them are kept
        self.over = self.complete = False  # nothing more comes; because the answer is whole
        self.error: Exception | None = None
        self.news = asyncio.Event()  # set at the next change
        self.readers = self.visits = 0  # now, and ever
        self.recording: asyncio.Task[None] | None = None
        self._stream = stream
        self._kept: deque[ServerSentEvent] = deque(maxlen=keep)

    async def record(self) -> None:
        try:
            async with Chain(as_events(self._stream), self._stream) as events:
                async for event in events:
                    self.count += 1
                    self._kept.append(event._replace(id=f"{self.key}:{self.count}"))
                    self._tell()
            self.complete = True
        except Exception as error:
            self.error = error
        finally:
            self.over = True
            self._tell()

    def event(self, number: int) -> ServerSentEvent:
        """Event `number`, counted from 0; HTTPException 410 when it is not kept any more."""
        oldest = self.count - len(self._kept)
        if number < oldest:
            raise _too_late()
        return self._kept[number - oldest]

    def _tell(self) -> None:
        self.news.set()
        self.news = asyncio.Event()


def _too_late() -> HTTPException:
    return HTTPException(410, "This answer is not kept any more: ask again.")
