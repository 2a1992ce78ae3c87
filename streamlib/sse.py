"""Server-Sent Events: the bytes of a response body <-> events. Lesson 1 builds this by hand.

The format and the algorithm are those of the HTML standard, followed to the letter:
https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation

There is no I/O here: bytes in, events out, so that every behaviour can be tested in microseconds.
The goals, before the code:

1. The same events for every chunking. A network cuts anywhere: inside a line, a character, a CR LF.
2. An event is delivered with the chunk that completes it, never later.
3. Time is linear in the bytes. An unfinished line waits as a list of pieces and is joined once, at its end.
   (`buffer += chunk` copies the buffer every time: 6 GB for an image of 4 MiB in 1460-byte pieces.)
4. Little work per event. The algorithm of the standard is in `_read_lines`; `_read_run` is a shortcut that
   gives the same events sooner, for the streams that language models send.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Iterator
from typing import Any, NamedTuple

__all__ = ["SSEError", "SSEParser", "ServerSentEvent", "aiter_events", "encode", "iter_events"]

BOM = b"\xef\xbb\xbf"  # byte order mark: may stand once, before everything else
LF, CR = b"\n\r"  # as numbers: `LF in chunk` takes a tenth of the time of `b"\n" in chunk`


class ServerSentEvent(NamedTuple):
    """One event: a tuple with names, which nobody can change and which costs little to make."""

    data: str
    event: str = "message"
    id: str = ""  # the last id in the stream so far, in this event's block or before it
    retry: int | None = None  # milliseconds: the last valid `retry` in this event's block

    def json(self) -> Any:
        """The data, read as JSON. Raises json.JSONDecodeError, for example at OpenAI's closing `[DONE]`."""
        return json.loads(self.data)


_new_event = tuple.__new__  # makes a ServerSentEvent without looking at defaults and keywords: half the time


class SSEError(Exception):
    """The stream cannot be read on. `events`: the whole events that the same chunk completed before that."""

    def __init__(self, message: str, events: Iterable[ServerSentEvent] = ()) -> None:
        super().__init__(message)
        self.events = tuple(events)


class SSEParser:
    """Feed it the bytes of one response as they come, in pieces of any size.

    To read: `last_event_id`, which a client sends as `Last-Event-ID` when it reconnects; `retry`, how many
    milliseconds the server last asked it to wait before that, or None; `truncated`, see `close`.
    """

    def __init__(self, max_event_bytes: int | None = None) -> None:
        """`max_event_bytes` limits the lines of one event (not counting comments), and every single line."""
        if max_event_bytes is not None and max_event_bytes < 1:
            raise ValueError(f"max_event_bytes is None (no limit) or at least 1; got {max_event_bytes!r}")
        self.last_event_id = ""
        self.retry: int | None = None
        self.truncated = False
        self._limit = max_event_bytes
        self._started = False  # the byte order mark is dealt with
        self._over: Exception | None = None  # why no more bytes are taken
        # The line that has not ended yet:
        self._pieces: list[bytes] = []
        self._held = 0  # bytes in them
        self._after_cr = False  # the last byte was a CR: with a LF after it, the two are one line end
        # The event that has not ended yet:
        self._open = False  # one of its fields was read
        self._size = 0  # bytes in its lines, counted only for a limit
        self._data: list[bytes] = []
        self._event = ""
        self._id = ""
        self._event_retry: int | None = None
        # The shape of the events in a run (see _read_run): _head, payload, _blank. _between = _blank + _head.
        self._head, self._blank, self._between, self._name = b"data: ", b"\n\n", "\n\ndata: ", "message"
        self._idle = False  # no line and no event is unfinished

    def feed(self, chunk: bytes) -> list[ServerSentEvent]:
        """Take the next bytes; return the events that they complete.

        Raises SSEError over the size limit (and ever after), ValueError after `close`, TypeError for text.
        """
        if not isinstance(chunk, bytes):
            raise TypeError(f"feed() takes bytes, as they came over the wire; got {type(chunk).__name__}")
        # The commonest chunk is one whole event, shaped like the last one.
        if self._idle and chunk.startswith(self._head) and chunk.endswith(self._blank):
            payload = chunk[len(self._head) : -len(self._blank)].decode("utf-8", "replace")
            if "\n" not in payload and "\r" not in payload:
                return [_new_event(ServerSentEvent, (payload, self._name, self._id, None))]
        if not self._started or self._over:
            chunk = self._start(chunk)
        if self._pieces:
            if LF not in chunk and CR not in chunk:
                self._hold(chunk, [])
                return []
            chunk = b"".join([*self._pieces, chunk])
            self._pieces, self._held = [], 0
        events: list[ServerSentEvent] = []
        if self._limit is None:
            if self._open:  # finish this event, so that a run can begin
                end = chunk.find(self._blank) + len(self._blank)
                if end >= len(self._blank):
                    self._read_lines(chunk[:end], events)
                    chunk = chunk[end:]
            if not self._open:
                chunk = self._read_run(chunk, events)
        self._read_lines(chunk, events)
        self._idle = not (self._open or self._pieces or self._after_cr or self._limit)
        return events

    def close(self) -> None:
        """The response has ended. An unfinished event is dropped, as the standard says; `truncated` tells."""
        if self._over is None:
            line = b"".join(self._pieces)
            self.truncated = self._open or (line != b"" and not line.startswith(b":"))
            self._over = ValueError("feed() after close(): a new response needs a new SSEParser")
            self._idle = False

    def _start(self, chunk: bytes) -> bytes:
        """The first bytes, without the byte order mark. Its three bytes may come one at a time."""
        if self._over:
            raise self._over
        chunk = b"".join([*self._pieces, chunk])
        if len(chunk) < len(BOM) and BOM.startswith(chunk):
            self._pieces = [chunk]
            return b""
        self._started, self._pieces = True, []
        return chunk.removeprefix(BOM)

    def _hold(self, piece: bytes, events: list[ServerSentEvent]) -> None:
        """Keep a piece of an unfinished line until its end comes."""
        self._pieces.append(piece)
        self._held += len(piece)
        self._check_size(self._held, events)

    def _check_size(self, line_bytes: int, events: list[ServerSentEvent]) -> None:
        if self._limit is not None and self._size + line_bytes > self._limit:
            message = f"an event is larger than the limit of {self._limit} bytes (max_event_bytes)"
            self._over = SSEError(message)
            raise SSEError(message, events)

    def _read_lines(self, chunk: bytes, events: list[ServerSentEvent]) -> None:
        """The algorithm of the standard, line by line. Adds to `events`.

        `bytes.splitlines()` ends a line at CR LF, LF and CR, nowhere else. (`str.splitlines()` also does at
        U+0085, U+2028, form feed and more, which are plain text here.) A line end is never inside a UTF-8
        character, so each value can be decoded by itself, with U+FFFD in place of malformed bytes.
        """
        if self._after_cr and chunk:
            chunk = chunk.removeprefix(b"\n")
            self._after_cr = False
        if not chunk:
            return
        lines = chunk.splitlines()
        unfinished = b"" if chunk[-1] in (LF, CR) else lines.pop()
        self._after_cr = chunk[-1] == CR
        for line in lines:
            if self._limit is not None:
                self._check_size(len(line), events)
                self._size += 0 if line.startswith(b":") else len(line)
            if line.startswith(b"data: "):  # by far the commonest field
                self._data.append(line[6:])
                self._open = True
            elif line:
                self._read_field(line)
            else:
                if self._data:  # a block without data is no event
                    data = b"\n".join(self._data).decode("utf-8", "replace")
                    fields = (data, self._event or "message", self._id, self._event_retry)
                    events.append(_new_event(ServerSentEvent, fields))
                    self._data = []
                self.last_event_id = self._id  # the id stays, the rest starts afresh
                self._event, self._event_retry, self._open, self._size = "", None, False, 0
        if unfinished:
            self._hold(unfinished, events)

    def _read_field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        if not name:
            return  # a comment, sent to keep the connection alive
        self._open = True
        if value.startswith(b" "):
            value = value[1:]  # one space, not all of them
        if name == b"data":
            self._data.append(value)
        elif name == b"event":
            self._event = value.decode("utf-8", "replace")
        elif name == b"id" and 0 not in value:
            self._id = value.decode("utf-8", "replace")
        elif name == b"retry" and value.isdigit() and len(value) <= 4300:  # 0-9 only; what int() can take
            self.retry = self._event_retry = int(value)

    def _read_run(self, chunk: bytes, events: list[ServerSentEvent]) -> bytes:
        """The shortcut: take whole events of one shape from the beginning. Returns what is left of the chunk.

        A model sends hundreds of events that differ in their payload only: `data: …` and a blank line, or
        `event: name`, `data: …` and a blank line. What stands between two payloads is then always the same,
        and one `split` by it, which runs in C, finds them all. If none of them holds a line end, there was
        nothing else in between.
        """
        end = chunk.rfind(self._blank) if chunk.startswith(self._head) else -1
        if end < 0:
            end = self._learn_shape(chunk)
        if end < 0:
            return chunk
        head, blank, name, id = self._head, self._blank, self._name, self._id
        body = chunk[len(head) : end].decode("utf-8", "replace")
        payloads = body.split(self._between) if "\n" in body else [body]
        text = "".join(payloads)
        if "\n" in text or "\r" in text:
            return chunk
        events += [_new_event(ServerSentEvent, (payload, name, id, None)) for payload in payloads]
        self._after_cr = False
        rest = chunk[end + len(blank) :]
        payload = rest.removeprefix(head)
        if len(payload) < len(rest) and LF not in payload and CR not in payload:
            self._pieces = [rest]  # the next event of the run: read it in one go with what follows
            return b""
        return rest

    def _learn_shape(self, chunk: bytes) -> int:
        """Take the shape from the event that begins the chunk. Returns where the run ends, or -1: no run."""
        if not chunk.startswith((b"data: ", b"event: ")):
            return -1
        line, newline, _ = chunk.partition(b"\n")
        if line.endswith(b"\r"):
            line, newline = line[:-1], b"\r\n"
        if not newline or CR in line:
            return -1
        if line.startswith(b"data: "):
            self._head, self._name = b"data: ", "message"
        else:
            self._head = line + newline + b"data: "
            self._name = line[7:].decode("utf-8", "replace") or "message"
        self._blank = newline * 2
        self._between = (self._blank + self._head).decode("utf-8", "replace")
        return chunk.rfind(self._blank) if chunk.startswith(self._head) else -1


def iter_events(chunks: Iterable[bytes]) -> Iterator[ServerSentEvent]:
    """The events in the chunks of a response, each as soon as it is complete. A last half one is dropped."""
    parser = SSEParser()
    for chunk in chunks:
        yield from parser.feed(chunk)


async def aiter_events(chunks: AsyncIterable[bytes]) -> AsyncGenerator[ServerSentEvent, None]:
    """`iter_events` for async chunks, which it closes when it ends or is closed (`contextlib.aclosing`)."""
    parser = SSEParser()
    source = aiter(chunks)
    try:
        async for chunk in source:
            for event in parser.feed(chunk):
                yield event
    finally:
        if hasattr(source, "aclose"):
            await source.aclose()


def encode(data: str, *, event: str | None = None, id: str | None = None, retry: int | None = None) -> bytes:
    r"""One event as the bytes that a server sends: what a parser reads back as the same event.

    A newline in the data becomes a further `data:` line. To the format LF, CR and CR LF are the same: the
    reader gets LF. (Where that matters send JSON, which escapes them.) Raises ValueError for a newline in
    `event` or `id`, a NUL in `id` (readers ignore such an id) and a `retry` that is no whole number of
    milliseconds; TypeError for data that is not text.

    >>> encode("two\nlines", event="note", id="7")
    b'event: note\nid: 7\ndata: two\ndata: lines\n\n'
    """
    if not isinstance(data, str):
        raise TypeError(f"data is text, got {type(data).__name__}: json.dumps(...) turns a value into text")
    lines = []
    for name, value in (("event", event), ("id", id)):
        if value is not None:
            if "\n" in value or "\r" in value:
                raise ValueError(f"{name} must be one line, since a newline ends the field; got {value!r}")
            lines.append(f"{name}: {value}")
    if id is not None and "\0" in id:
        raise ValueError(f"id must not contain NUL, since readers ignore such an id; got {id!r}")
    if retry is not None:
        if type(retry) is not int or retry < 0:
            raise ValueError(f"retry must be a whole number of milliseconds, 0 or more; got {retry!r}")
        lines.append(f"retry: {retry}")
    # The space is always written: the reader takes one away, and it must not be one of the data's own.
    lines += [f"data: {line}" for line in data.replace("\r\n", "\n").replace("\r", "\n").split("\n")]
    return ("\n".join(lines) + "\n\n").encode()
