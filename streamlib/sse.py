"""Server-Sent Events: bytes of a response body <-> events. Lesson 1 builds this by hand.

The format and the algorithm are the HTML standard's, followed to the letter:
https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation

There is no I/O here: bytes in, events out, so every behaviour can be tested in microseconds. Goals, before the code:

1. The same events for every chunking. A network cuts anywhere: inside a line, between CR and LF, inside a character.
2. An event is delivered with the chunk that completes it, never later.
3. Time is linear in the bytes. An unfinished line waits as a list of pieces and is joined once, when its end comes.
   (`buffer += chunk` copies the whole buffer every time: a 4 MiB image in 1460-byte pieces would be 6 GB of copying.)
4. Little work per event: whole events of one shape are cut apart by one `str.split`, which runs in C.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Iterator
from typing import Any, NamedTuple

__all__ = ["SSEError", "SSEParser", "ServerSentEvent", "aiter_events", "encode", "iter_events"]

BOM = b"\xef\xbb\xbf"  # byte order mark: allowed once, before everything else
LF, CR = b"\n\r"  # as numbers: `LF in chunk` is several times faster than `b"\n" in chunk`


class ServerSentEvent(NamedTuple):
    """One event. A tuple with names: cannot be changed, compares by value, and costs a third of a frozen dataclass."""

    data: str
    event: str = "message"
    id: str = ""  # the last id the stream has sent, also when this event's own block has none
    retry: int | None = None  # the last valid `retry` of this event's own block, in milliseconds

    def json(self) -> Any:
        """The data read as JSON. Raises json.JSONDecodeError, for example on OpenAI's closing `[DONE]`."""
        return json.loads(self.data)


_new_event = tuple.__new__  # what ServerSentEvent(...) ends in, without its 0.1 us for defaults and keywords


class SSEError(Exception):
    """A stream that cannot be read on. `events` holds the whole events that the same chunk had completed before."""

    def __init__(self, message: str, events: Iterable[ServerSentEvent] = ()) -> None:
        super().__init__(message)
        self.events = tuple(events)


class SSEParser:
    """Feed it the bytes of one response as they come, in pieces of any size.

    Read-only attributes: `last_event_id`, what a reconnecting client sends as `Last-Event-ID`; `retry`, the wait before
    reconnecting that the server last asked for, in milliseconds, or None; `truncated`, see `close()`.
    """

    def __init__(self, max_event_bytes: int | None = None) -> None:
        """With `max_event_bytes`, an event whose lines add up to more bytes (or any longer line) raises SSEError."""
        if max_event_bytes is not None and max_event_bytes < 1:
            raise ValueError(
                f"max_event_bytes must be at least 1, or None for no limit; got {max_event_bytes!r}"
            )
        self.last_event_id = ""
        self.retry: int | None = None
        self.truncated = False
        self._limit = max_event_bytes

        self._running = False  # the start of the stream is behind us, its end and errors are not
        self._over: Exception | None = None  # why no more bytes are taken
        self._pieces: list[bytes] = []  # of the line that has not ended yet
        self._held = 0  # bytes in them
        self._after_cr = False  # the last byte was a CR: a LF that follows belongs to it

        self._open = False  # the event has begun: a field was read, its blank line was not
        self._size = 0  # bytes in its lines so far
        self._data: list[bytes] = []
        self._event = ""
        self._id = ""
        self._event_retry: int | None = None

    def feed(self, chunk: bytes) -> list[ServerSentEvent]:
        """Take the next bytes, give the events that they complete.

        Raises SSEError over the size limit (and from then on), ValueError after `close()`, TypeError for text.
        """
        if not self._running:
            chunk = self._start(chunk)
        if self._pieces:
            if LF not in chunk and CR not in chunk:
                self._hold(chunk, [])
                return []
            chunk = b"".join([*self._pieces, chunk])
            self._pieces.clear()
            self._held = 0
        return self._read_lines(chunk, [])

    def close(self) -> None:
        """The response has ended. An unfinished event is dropped, as the standard says; `truncated` is then True."""
        if self._over is None:
            unfinished_line = self._held > 0 and not self._pieces[0].startswith(b":")
            self.truncated = self._open or unfinished_line
            self._end(ValueError("feed() after close(): make a new SSEParser for a new response"))

    def _start(self, chunk: bytes) -> bytes:
        """The first bytes, without the byte order mark. Its three bytes may come one at a time."""
        if self._over is not None:
            raise self._over
        chunk = b"".join([*self._pieces, chunk])
        if len(chunk) < len(BOM) and BOM.startswith(chunk):
            self._pieces = [chunk]
            return b""
        self._pieces.clear()
        self._running = True
        return chunk.removeprefix(BOM)

    def _end(self, reason: Exception) -> None:
        self._running, self._over = False, reason
        self._pieces.clear()
        self._data.clear()

    def _hold(self, piece: bytes, events: list[ServerSentEvent]) -> None:
        """Keep a piece of an unfinished line until its end comes."""
        self._pieces.append(piece)
        self._held += len(piece)
        self._check_size(self._held, events)

    def _check_size(self, line_bytes: int, events: list[ServerSentEvent]) -> None:
        if self._limit is not None and self._size + line_bytes > self._limit:
            message = f"an event is larger than the limit of {self._limit} bytes; raise max_event_bytes, or distrust it"
            self._end(SSEError(message))
            raise SSEError(message, events)

    def _read_lines(self, chunk: bytes, events: list[ServerSentEvent]) -> list[ServerSentEvent]:
        """The standard, line by line. `bytes.splitlines()` ends a line at CR LF, LF and CR, and nowhere else.

        (`str.splitlines()` also cuts at form feed, U+0085, U+2028 …, which are plain text in SSE.) A line end is never
        inside a UTF-8 character, so each value can be decoded by itself, with U+FFFD for malformed bytes.
        """
        if self._after_cr and chunk:
            chunk = chunk.removeprefix(b"\n")
            self._after_cr = False
        if not chunk:
            return events
        lines = chunk.splitlines()
        unfinished = b"" if chunk[-1] in (LF, CR) else lines.pop()
        self._after_cr = chunk[-1] == CR
        for line in lines:
            if not line:
                if self._data:  # a block without data is no event
                    data = b"\n".join(self._data).decode("utf-8", "replace")
                    fields = (data, self._event or "message", self._id, self._event_retry)
                    events.append(_new_event(ServerSentEvent, fields))
                    self._data.clear()
                self.last_event_id = self._id  # the id outlives its event; the rest does not
                self._event = ""
                self._event_retry = None
                self._open = False
                self._size = 0
            else:
                self._check_size(len(line), events)
                self._read_field(line)
        if unfinished:
            self._hold(unfinished, events)
        return events

    def _read_field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        if not name:
            return  # a comment, used as a keep-alive
        self._open = True
        self._size += len(line)
        value = value.removeprefix(b" ")  # one space, not all of them
        if name == b"data":
            self._data.append(value)
        elif name == b"event":
            self._event = value.decode("utf-8", "replace")
        elif name == b"id" and b"\0" not in value:
            self._id = value.decode("utf-8", "replace")
        elif (
            name == b"retry" and value.isdigit() and len(value) <= 4300
        ):  # bytes.isdigit: 0 to 9 only; int()'s limit
            self.retry = self._event_retry = int(value)


def iter_events(chunks: Iterable[bytes]) -> Iterator[ServerSentEvent]:
    """The events in the chunks of one response, each as soon as it is complete. An unfinished last one is dropped."""
    parser = SSEParser()
    for chunk in chunks:
        yield from parser.feed(chunk)


async def aiter_events(chunks: AsyncIterable[bytes]) -> AsyncGenerator[ServerSentEvent, None]:
    """Like `iter_events`, for async chunks. Closes them when it ends or is closed (use `contextlib.aclosing`)."""
    parser = SSEParser()
    source = aiter(chunks)
    try:
        async for chunk in source:
            for event in parser.feed(chunk):
                yield event
    finally:
        if isinstance(source, AsyncGenerator):
            await source.aclose()


def encode(data: str, *, event: str | None = None, id: str | None = None, retry: int | None = None) -> bytes:
    r"""One event as bytes: what a server sends.

    A newline in the data becomes a further `data:` line. LF, CR and CR LF are all the same to the format: the reader
    gets LF. Send JSON when that matters: it escapes them. Raises ValueError for a newline in `event` or `id`, a NUL in
    `id` (readers ignore such an id) and a `retry` that is no whole number of milliseconds; TypeError for data that is
    not text.

    >>> encode("two\nlines", event="note", id="7")
    b'event: note\nid: 7\ndata: two\ndata: lines\n\n'
    """
    if not isinstance(data, str):
        raise TypeError(f"data must be text, got {type(data).__name__}: use json.dumps(...) for values")
    lines = []
    if event is not None:
        lines.append(f"event: {_one_line(event, 'event')}")
    if id is not None:
        if "\0" in id:
            raise ValueError(f"id must not contain a NUL: readers ignore such an id; got {id!r}")
        lines.append(f"id: {_one_line(id, 'id')}")
    if retry is not None:
        if type(retry) is not int or retry < 0:
            raise ValueError(f"retry must be a whole number of milliseconds, 0 or more; got {retry!r}")
        lines.append(f"retry: {retry}")
    # The space is written always, so that a reader takes away this one and not one of the data's own.
    lines += [f"data: {line}" for line in data.replace("\r\n", "\n").replace("\r", "\n").split("\n")]
    return ("\n".join(lines) + "\n\n").encode()


def _one_line(value: str, name: str) -> str:
    if "\n" in value or "\r" in value:
        raise ValueError(f"{name} must be one line: a newline would end the field; got {value!r}")
    return value
