"""A stream of tokens -> an HTTP response of Server-Sent Events, for FastAPI and Starlette. Lesson 6.

    @app.post("/ask")
    async def ask(question: Question) -> Response:
        return sse_response(answer(question.text))  # answer(…) is an async generator of text

On the wire is what a browser's `EventSource` reads: each item as JSON in an event of its own, then an event
named `done` (https://html.spec.whatwg.org/multipage/server-sent-events.html). What an answer needs besides:

- The reader leaves: the stream is closed at once, also while it waits for a token, and with it the model.
- Nothing comes for a while: a comment goes out as a heartbeat, so that no proxy takes silence for death.
- It fails before the first byte: an HTTP status says so. After it: an event named `error`.
- The reader reads slowly: the next token is not asked for until there is room. Who reads nothing at all for a
  minute counts as gone.
- The connection breaks: `Replay` keeps the answer for a reader who comes back with `Last-Event-ID`.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterable, Mapping
from contextlib import suppress
from math import ceil
from typing import Any

from anyio import CancelScope
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from .backoff import is_transient, retry_after
from .closing import Chain, close
from .replay import Replay, as_events
from .sse import encode

__all__ = ["Replay", "sse_response"]

HEADERS = {
    "Cache-Control": "no-cache",  # every reader gets an answer of their own
    "X-Accel-Buffering": "no",  # nginx, and proxies that follow it: pass each piece on as it comes
}
HEARTBEAT = b": still here\n\n"  # a comment: every reader of the format skips it

log = logging.getLogger(__name__)


def sse_response(
    stream: AsyncIterable[Any],
    *,
    heartbeat: float = 15.0,
    send_timeout: float = 60.0,
    headers: Mapping[str, str] | None = None,
) -> StreamingResponse:
    """The response that sends `stream`, whose items are text, or anything else that JSON can say.

    Each item is the data of an event, as JSON: a token may hold a newline, which would end a plain line of
    data. A `ServerSentEvent` goes out as it is, with its name and its id. The last event is named `done`,
    since a browser's `EventSource` takes the end of the response for a broken connection and asks again.

    heartbeat: seconds of silence after which a comment is sent.
    send_timeout: seconds for which a full connection may take nothing; after that the reader counts as gone.
    headers: further headers, and other values for those that are set here.

    The status waits for the first item, or for the first heartbeat if that is sooner. Until then an error of
    `stream` becomes a status: an `HTTPException` its own, an error of the model's server that may pass
    (`is_transient`) 503, with its Retry-After if there was one; any other is raised and so a 500. Later it
    becomes an event named `error`, the last one, with `{"message": …, "try_again": …}`. The reader is told
    the detail of an `HTTPException`, and of no other error: that is for the log.

    Raises TypeError when `stream` is no async iterable, ValueError for seconds that are not above 0.
    """
    if not hasattr(stream, "__aiter__"):
        hint = "an async function with a `yield`, called, gives one"
        if hasattr(stream, "__iter__"):
            hint = "streamlib.streams.from_thread makes one of a sync stream"
        raise TypeError(f"sse_response needs an async iterable, got {type(stream).__name__}: {hint}")
    for name, seconds in (("heartbeat", heartbeat), ("send_timeout", send_timeout)):
        if not seconds > 0:
            raise ValueError(f"{name} is a number of seconds above 0, got {seconds!r}")
    return _EventStream(stream, heartbeat, send_timeout, headers)


class _EventStream(StreamingResponse):
    """Three tasks: one writes events, one heartbeats, one waits until the reader leaves. One ends, all end.

    Plain asyncio tasks, because whoever calls the response may do so inside an anyio cancel scope
    (Starlette's middleware does). Cancelled there, every `await` in a `finally` is cancelled again: upstream
    could not close its connection. A task of its own is outside of that scope.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        stream: AsyncIterable[Any],
        heartbeat: float,
        send_timeout: float,
        headers: Mapping[str, str] | None,
    ) -> None:
        super().__init__(stream, headers=headers)
        for name, value in HEADERS.items():
            self.headers.setdefault(name, value)
        self._stream = stream
        self._heartbeat = heartbeat
        self._send_timeout = send_timeout
        self._started = False  # the status is sent
        self._quiet_since = 0.0
        self._turn = asyncio.Lock()  # two tasks write

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._quiet_since = asyncio.get_running_loop().time()
        if scope["method"] == "HEAD":  # asks for the headers, and shall not pay for an answer
            await close(self._stream)
            await self._send(send, b"", more=False)
            return
        work = (self._write_events(send), self._write_heartbeats(send), self.listen_for_disconnect(receive))
        tasks = [asyncio.create_task(part) for part in work]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            with CancelScope(shield=True):  # until upstream is closed
                await asyncio.wait(tasks)
        with suppress(ClientDisconnect):
            for task in tasks:
                if not task.cancelled():
                    task.result()  # raises what is to become a status
        if self.background is not None:
            await self.background()

    async def _write_events(self, send: Send) -> None:
        async with Chain(as_events(self._stream), self._stream) as events:
            try:
                async for event in events:
                    name = event.event if event.event != "message" else None
                    await self._send(
                        send, encode(event.data, event=name, id=event.id or None, retry=event.retry)
                    )
            except ClientDisconnect:
                raise
            except Exception as error:
                if not self._started:
                    raise _refusal(error) from error
                log.warning(
                    "a stream failed after its first event: %r", error, exc_info=not is_transient(error)
                )
                await self._send(send, encode(json.dumps(_complaint(error)), event="error"))
        await self._send(send, b"", more=False)

    async def _write_heartbeats(self, send: Send) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            await asyncio.sleep(self._quiet_since + self._heartbeat - clock())
            if clock() >= self._quiet_since + self._heartbeat:
                await self._send(send, HEARTBEAT)

    async def _send(self, send: Send, data: bytes, *, more: bool = True) -> None:
        """Hand bytes to the server, the status before the first; wait while the connection is full."""
        async with self._turn:
            try:
                async with asyncio.timeout(self._send_timeout):
                    if not self._started:
                        self._started = True
                        start = {"type": "http.response.start", "status": self.status_code}
                        await send({**start, "headers": self.raw_headers})
                    await send({"type": "http.response.body", "body": data, "more_body": more})
            except OSError as error:  # out of time; or how some servers say that the reader has left
                raise ClientDisconnect from error
            self._quiet_since = asyncio.get_running_loop().time()


def _refusal(error: Exception) -> Exception:
    """What to raise while a status can still be sent."""
    if isinstance(error, HTTPException) or not is_transient(error):
        return error
    log.warning("a stream failed before its first event: %r", error)
    seconds = retry_after(error)
    headers = None if seconds is None else {"Retry-After": str(ceil(seconds))}
    return HTTPException(503, _complaint(error)["message"], headers)


def _complaint(error: Exception) -> dict[str, Any]:
    """What the reader is told. Not the error's own words: those may name addresses, files and keys."""
    if isinstance(error, HTTPException):
        message = error.detail
    else:
        message = "The answer broke off: the server behind this one failed."
    return {"message": message, "try_again": is_transient(error)}
