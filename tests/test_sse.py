"""`streamlib.sse` against the HTML standard: tables of streams by rule, and properties for every chunking.

The expected events of the tables are worked out by hand from the standard. `reference` further down is the
standard's own text turned into code, slow and literal; the properties compare with it.
"""

from __future__ import annotations

import codecs
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from streamlib.sse import ServerSentEvent, SSEError, SSEParser, aiter_events, encode, iter_events

ROOT = Path(__file__).parents[1]
BOM = b"\xef\xbb\xbf"
E = ServerSentEvent


class Outcome(NamedTuple):
    """Everything that can be seen of a parser at the end of a stream."""

    events: list[ServerSentEvent]
    last_event_id: str
    retry: int | None
    truncated: bool


def parse(chunks: Iterable[bytes]) -> Outcome:
    parser = SSEParser()
    events = [event for chunk in chunks for event in parser.feed(chunk)]
    parser.close()
    return Outcome(events, parser.last_event_id, parser.retry, parser.truncated)


def pieces(stream: bytes, size: int) -> list[bytes]:
    return [stream[i : i + size] for i in range(0, len(stream), size)]


def chunkings(stream: bytes) -> Iterator[tuple[str, list[bytes]]]:
    """Whole, in pieces of 1, 2, 3 and 7 bytes, cut in two at every place, and cut at both sides of a byte."""
    yield "whole", [stream]
    for size in (1, 2, 3, 7):
        yield f"{size}-byte pieces", pieces(stream, size)
    for i in range(len(stream) + 1):
        yield f"cut at {i}", [stream[:i], stream[i:]]
        yield f"byte {i} alone", [stream[:i], stream[i : i + 1], stream[i + 1 :]]


# --- Tables: (name, stream, events). One table per rule of the standard. ---

FIELDS = [
    ("data", b"data: hello\n\n", [E("hello")]),
    ("no-space-after-colon", b"data:hello\n\n", [E("hello")]),
    ("only-one-space-is-removed", b"data:  hello\n\n", [E(" hello")]),
    ("a-token-that-is-a-space", b"data:  \n\n", [E(" ")]),
    ("trailing-space-stays", b"data: hello \n\n", [E("hello ")]),
    ("a-tab-is-not-a-space", b"data:\thello\n\n", [E("\thello")]),
    ("two-data-lines", b"data: a\ndata: b\n\n", [E("a\nb")]),
    ("data-lines-need-not-touch", b"data: a\nevent: e\ndata: b\n\n", [E("a\nb", "e")]),
    ("empty-data-with-colon", b"data:\n\n", [E("")]),
    ("empty-data-with-space", b"data: \n\n", [E("")]),
    ("data-without-colon", b"data\n\n", [E("")]),
    ("two-empty-data-lines", b"data\ndata\n\n", [E("\n")]),
    ("empty-line-in-data", b"data: a\ndata:\ndata: b\n\n", [E("a\n\nb")]),
    ("data-ends-with-empty-line", b"data: a\ndata\n\n", [E("a\n")]),
    ("colon-in-value", b"data: a: b:c\n\n", [E("a: b:c")]),
    ("value-is-a-colon", b"data::\n\n", [E(":")]),
    ("two-events", b"data: a\n\ndata: b\n\n", [E("a"), E("b")]),
    ("block-without-data", b"event: e\n\ndata: a\n\n", [E("a")]),
    ("unknown-field", b"test: x\ndata: a\n\n", [E("a")]),
    ("unknown-field-without-colon", b"test\ndata: a\n\n", [E("a")]),
    ("unknown-field-alone", b"test: x\n\n", []),
    ("names-are-case-sensitive", b"Data: a\nDATA: b\ndata: c\n\n", [E("c")]),
    ("space-before-name", b" data: a\n\ndata: b\n\n", [E("b")]),
    ("space-after-name", b"data : a\n\ndata: b\n\n", [E("b")]),
    ("longer-name", b"data2: a\n\ndata: b\n\n", [E("b")]),
    ("shorter-name", b"dat: a\n\ndata: b\n\n", [E("b")]),
    ("data-in-data", b"data: data: a\n\n", [E("data: a")]),
    ("event-in-data", b"data: event: a\n\n", [E("event: a")]),
]

NEWLINES = [
    ("lf", b"data: a\n\ndata: b\n\n", [E("a"), E("b")]),
    ("crlf", b"data: a\r\n\r\ndata: b\r\n\r\n", [E("a"), E("b")]),
    ("cr", b"data: a\r\rdata: b\r\r", [E("a"), E("b")]),
    ("crlf-then-lf", b"data: a\r\n\ndata: b\n\n", [E("a"), E("b")]),
    ("lf-then-crlf", b"data: a\n\r\ndata: b\n\n", [E("a"), E("b")]),
    ("lf-then-cr", b"data: a\n\rdata: b\n\r", [E("a"), E("b")]),
    ("cr-then-crlf", b"data: a\r\r\ndata: b\r\r\n", [E("a"), E("b")]),
    ("crlf-is-one-line-end", b"data: a\r\ndata: b\r\n\r\n", [E("a\nb")]),
    ("cr-between-data-lines", b"data: a\rdata: b\n\n", [E("a\nb")]),
    ("mixed-in-one-block", b"data: a\rdata: b\ndata: c\r\n\n", [E("a\nb\nc")]),
    ("many-blank-lines", b"\n\n\ndata: a\n\n\n\n\ndata: b\n\n\n", [E("a"), E("b")]),
    ("many-blank-crlf-lines", b"\r\n\r\n\r\ndata: a\r\n\r\n\r\ndata: b\r\n\r\n\r\n", [E("a"), E("b")]),
    ("many-crs", b"\r\r\rdata: a\r\r\r\rdata: b\r\r\r", [E("a"), E("b")]),
    ("style-changes-after-an-event", b"data: a\n\ndata: b\r\n\r\ndata: c\r\rdata: d\n\n", [*map(E, "abcd")]),
    (
        "cr-inside-a-run-of-lf-events",
        b"data: a\n\ndata: b\rdata: c\n\ndata: d\n\n",
        [E("a"), E("b\nc"), E("d")],
    ),
    (
        "lf-inside-a-run-of-crlf-events",
        b"data: a\r\n\r\ndata: b\ndata: c\r\n\r\ndata: d\r\n\r\n",
        [E("a"), E("b\nc"), E("d")],
    ),
    ("cr-at-the-end-of-an-lf-line", b"data: a\r\n\n", [E("a")]),
    ("cr-blank-in-data-of-crlf", b"data: a\r\rdata: b\r\n\r\n", [E("a"), E("b")]),
    ("cr-event-after-lf-event", b"data: a\n\ndata: b\r\r", [E("a"), E("b")]),
    ("cr-in-an-event-line", b"event: e\rdata: x\ndata: a\n\n", [E("x\na", "e")]),
    ("named-crlf", b"event: e\r\ndata: a\r\n\r\nevent: e\r\ndata: b\r\n\r\n", [E("a", "e"), E("b", "e")]),
    ("named-cr", b"event: e\rdata: a\r\revent: e\rdata: b\r\r", [E("a", "e"), E("b", "e")]),
]

COMMENTS = [
    ("alone", b": ping\n\n", []),
    ("empty", b":\n\n", []),
    ("before-data", b": ping\ndata: a\n\n", [E("a")]),
    ("after-data", b"data: a\n: ping\n\n", [E("a")]),
    ("between-data-lines", b"data: a\n: ping\ndata: b\n\n", [E("a\nb")]),
    ("between-events", b"data: a\n\n: ping\n\ndata: b\n\n", [E("a"), E("b")]),
    ("looks-like-data", b":data: a\n\ndata: b\n\n", [E("b")]),
    ("no-blank-line-after-it", b":\n:\n:\ndata: a\n\n", [E("a")]),
    ("openrouter", b": OPENROUTER PROCESSING\n\n: OPENROUTER PROCESSING\n\ndata: a\n\n", [E("a")]),
    ("space-before-the-colon-is-no-comment", b" : data\ndata: a\n\n", [E("a")]),
]

IDS = [
    ("id", b"id: 1\ndata: a\n\n", [E("a", id="1")]),
    ("after-data", b"data: a\nid: 1\n\n", [E("a", id="1")]),
    ("stays-for-later-events", b"id: 1\ndata: a\n\ndata: b\n\n", [E("a", id="1"), E("b", id="1")]),
    ("changes", b"id: 1\ndata: a\n\nid: 2\ndata: b\n\n", [E("a", id="1"), E("b", id="2")]),
    ("last-one-wins", b"id: 1\nid: 2\ndata: a\n\n", [E("a", id="2")]),
    ("empty-id-resets", b"id: 1\ndata: a\n\nid\ndata: b\n\n", [E("a", id="1"), E("b")]),
    ("empty-id-with-colon-resets", b"id: 1\ndata: a\n\nid:\ndata: b\n\n", [E("a", id="1"), E("b")]),
    ("block-of-its-own", b"id: 1\n\ndata: a\n\n", [E("a", id="1")]),
    ("id-makes-blank-lines-no-event", b"id: 1\ndata: a\n\n\n: ping\n\n", [E("a", id="1")]),
    ("nul-is-ignored", b"id: 1\ndata: a\n\nid: 2\x003\ndata: b\n\n", [E("a", id="1"), E("b", id="1")]),
    ("nul-alone-is-ignored", b"id: \x00\ndata: a\n\n", [E("a")]),
    ("leading-space-stays", b"id:  1\ndata: a\n\n", [E("a", id=" 1")]),
    ("utf-8", "id: ü\ndata: a\n\n".encode(), [E("a", id="ü")]),
    ("malformed-utf-8", b"id: \xff\ndata: a\n\n", [E("a", id="\ufffd")]),
    (
        "before-and-after-a-run",
        b"id: 1\ndata: a\n\ndata: b\n\ndata: c\n\nid: 2\ndata: d\n\ndata: e\n\n",
        [E("a", id="1"), E("b", id="1"), E("c", id="1"), E("d", id="2"), E("e", id="2")],
    ),
    ("upper-case-is-unknown", b"ID: 1\ndata: a\n\n", [E("a")]),
]

EVENT_TYPES = [
    ("named", b"event: add\ndata: a\n\n", [E("a", "add")]),
    ("after-data", b"data: a\nevent: add\n\n", [E("a", "add")]),
    ("does-not-stay", b"event: add\ndata: a\n\ndata: b\n\n", [E("a", "add"), E("b")]),
    ("empty-name-is-message", b"event:\ndata: a\n\nevent: \ndata: b\n\n", [E("a"), E("b")]),
    ("empty-name-takes-back", b"event: add\nevent:\ndata: a\n\n", [E("a")]),
    ("last-one-wins", b"event: add\nevent: del\ndata: a\n\n", [E("a", "del")]),
    ("without-data-it-is-forgotten", b"event: add\n\ndata: a\n\n", [E("a")]),
    ("leading-space-stays", b"event:  add\ndata: a\n\n", [E("a", " add")]),
    ("run-of-one-name", b"event: e\ndata: a\n\nevent: e\ndata: b\n\n", [E("a", "e"), E("b", "e")]),
    (
        "names-change-in-a-run",
        b"event: e\ndata: a\n\nevent: f\ndata: b\n\nevent: e\ndata: c\n\ndata: d\n\n",
        [E("a", "e"), E("b", "f"), E("c", "e"), E("d")],
    ),
    ("name-is-a-data-field", b"event: data: x\ndata: a\n\n", [E("a", "data: x")]),
    ("name-without-data-line", b"event: e\ndata\n\n", [E("", "e")]),
    ("named-after-plain", b"data: a\n\nevent: e\ndata: b\n\n", [E("a"), E("b", "e")]),
    ("two-data-lines", b"event: e\ndata: a\ndata: b\n\nevent: e\ndata: c\n\n", [E("a\nb", "e"), E("c", "e")]),
    (
        "malformed-utf-8",
        b"event: \xff\ndata: a\n\nevent: \xff\ndata: b\n\n",
        [E("a", "\ufffd"), E("b", "\ufffd")],
    ),
]

RETRY = [
    ("valid", b"retry: 3000\ndata: a\n\n", [E("a", retry=3000)]),
    ("zero", b"retry: 0\ndata: a\n\n", [E("a", retry=0)]),
    ("leading-zeros", b"retry: 007\ndata: a\n\n", [E("a", retry=7)]),
    ("does-not-stay", b"retry: 1\ndata: a\n\ndata: b\n\n", [E("a", retry=1), E("b")]),
    ("last-valid-one", b"retry: 1\nretry: 2\nretry: x\ndata: a\n\n", [E("a", retry=2)]),
    ("block-of-its-own", b"retry: 1\n\ndata: a\n\n", [E("a")]),
    ("empty", b"retry:\ndata: a\n\n", [E("a")]),
    ("no-colon", b"retry\ndata: a\n\n", [E("a")]),
    ("negative", b"retry: -1\ndata: a\n\n", [E("a")]),
    ("plus", b"retry: +5\ndata: a\n\n", [E("a")]),
    ("fraction", b"retry: 1.5\ndata: a\n\n", [E("a")]),
    ("exponent", b"retry: 1e3\ndata: a\n\n", [E("a")]),
    ("underscore", b"retry: 1_000\ndata: a\n\n", [E("a")]),
    ("hexadecimal", b"retry: 0x10\ndata: a\n\n", [E("a")]),
    ("space-before", b"retry:  5\ndata: a\n\n", [E("a")]),
    ("space-after", b"retry: 5 \ndata: a\n\n", [E("a")]),
    ("arabic-digits", "retry: ١٢\ndata: a\n\n".encode(), [E("a")]),
    ("superscript-two", "retry: ²\ndata: a\n\n".encode(), [E("a")]),
    ("twenty-digits", b"retry: 12345678901234567890\ndata: a\n\n", [E("a", retry=12345678901234567890)]),
]

END_OF_INPUT = [
    ("nothing", b"", []),
    ("no-blank-line", b"data: a\n\ndata: b\n", [E("a")]),
    ("no-line-end", b"data: a\n\ndata: b", [E("a")]),
    ("cr-at-the-end", b"data: a\n\ndata: b\r", [E("a")]),
    ("crlf-at-the-end", b"data: a\r\n\r\ndata: b\r\n", [E("a")]),
    ("cr-as-blank-line", b"data: a\r\n\r", [E("a")]),
    ("name-only", b"data", []),
    ("event-line-only", b"event: e\ndata: a\n\nevent: e\n", [E("a", "e")]),
    ("half-an-event-line", b"event: e\ndata: a\n\neve", [E("a", "e")]),
    ("half-a-data-line", b"event: e\ndata: a\n\nevent: e\ndata: b", [E("a", "e")]),
    ("id-without-blank-line", b"data: a\n\nid: 1\n", [E("a")]),
    ("done-without-blank-line", b"data: a\n\ndata: [DONE]\n", [E("a")]),
]

BYTE_ORDER_MARK = [
    ("at-the-start", BOM + b"data: a\n\n", [E("a")]),
    ("before-a-named-event", BOM + b"event: e\ndata: a\n\n", [E("a", "e")]),
    ("before-a-comment", BOM + b": hi\ndata: a\n\n", [E("a")]),
    ("before-a-blank-line", BOM + b"\ndata: a\n\n", [E("a")]),
    ("alone", BOM, []),
    ("only-the-first-of-two", BOM + BOM + b"data: a\n\ndata: b\n\n", [E("b")]),
    ("in-the-second-line", b"data: a\n" + BOM + b"data: b\n\n", [E("a")]),
    ("in-the-second-event", b"data: a\n\n" + BOM + b"data: b\n\ndata: c\n\n", [E("a"), E("c")]),
    ("in-the-data", b"data: " + BOM + b"a\n\n", [E("\ufeffa")]),
    ("after-a-blank-line", b"\n" + BOM + b"data: a\n\ndata: b\n\n", [E("b")]),
    ("utf-16-is-not-read", b"\xff\xfed\x00a\x00t\x00a\x00:\x00a\x00\n\x00\n\x00", []),
    ("its-first-two-bytes", b"\xef\xbbdata: a\n\ndata: b\n\n", [E("b")]),
    ("its-first-byte", b"\xefdata: a\n\ndata: b\n\n", [E("b")]),
]

NOT_NEWLINES = [
    (name, f"data: a{char}b\n\ndata: c\n\n".encode(), [E(f"a{char}b"), E("c")])
    for name, char in [
        ("vertical-tab", "\x0b"),
        ("form-feed", "\x0c"),
        ("file-separator", "\x1c"),
        ("group-separator", "\x1d"),
        ("record-separator", "\x1e"),
        ("unit-separator", "\x1f"),
        ("next-line", "\x85"),
        ("line-separator", "\u2028"),
        ("paragraph-separator", "\u2029"),
        ("no-break-space", "\xa0"),
        ("null", "\x00"),
        ("escaped-newline", "\\n"),
    ]
]

UTF_8 = [
    ("two-bytes", "data: ü\n\n".encode(), [E("ü")]),
    ("three-bytes", "data: 水\n\n".encode(), [E("水")]),
    ("four-bytes", "data: 🌊\n\n".encode(), [E("🌊")]),
    ("joined-emoji", "data: 👩‍💻👋🏽\n\n".encode(), [E("👩‍💻👋🏽")]),
    (
        "whole-sentence",
        "data: 流れる水は腐らない\n\ndata: ok\n\n".encode(),
        [E("流れる水は腐らない"), E("ok")],
    ),
]

MALFORMED_UTF_8 = [
    ("latin-1", b"data: caf\xe9\n\n", [E("caf\ufffd")]),
    ("lone-continuation", b"data: \x80a\n\n", [E("\ufffda")]),
    ("never-used-bytes", b"data: \xfe\xff\n\n", [E("\ufffd\ufffd")]),
    ("cut-by-a-line-end", b"data: \xe6\xb0\n\n", [E("\ufffd")]),
    ("cut-by-a-line-end-twice", b"data: \xe6\ndata: \xb0\xb4\n\n", [E("\ufffd\n\ufffd\ufffd")]),
    ("cut-by-a-cr", b"data: \xf0\x9f\x8c\r\n\r\n", [E("\ufffd")]),
    ("cut-by-ascii", b"data: \xe6\xb0a\n\n", [E("\ufffda")]),
    ("overlong", b"data: \xc0\xaf\n\n", [E("\ufffd\ufffd")]),
    ("surrogate", b"data: \xed\xa0\x80\n\n", [E("\ufffd\ufffd\ufffd")]),
    ("in-a-comment", b": \xff\ndata: a\n\n", [E("a")]),
    ("in-a-name", b"da\xffta: a\n\ndata: b\n\n", [E("b")]),
    ("in-a-run", b"data: a\n\ndata: \xff\n\ndata: b\n\n", [E("a"), E("\ufffd"), E("b")]),
    ("line-end-bytes-are-not-taken", b"data: \xc2\ndata: \x85\n\n", [E("\ufffd\n\ufffd")]),
]

NUL = [
    ("in-data", b"data: a\x00b\n\n", [E("a\x00b")]),
    ("in-event", b"event: a\x00b\ndata: a\n\n", [E("a", "a\x00b")]),
    ("in-a-name", b"da\x00ta: a\n\ndata: b\n\n", [E("b")]),
    ("in-a-comment", b":\x00\ndata: b\n\n", [E("b")]),
    ("at-the-start", b"\x00data: a\n\ndata: b\n\n", [E("b")]),
]

CHUNK = '{"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"%s"}}]}'
LANGUAGE_MODELS = [
    (
        "chat-completions",
        (f"data: {CHUNK % 'a'}\n\ndata: {CHUNK % ' b'}\n\n" + "data: [DONE]\n\n").encode(),
        [E(CHUNK % "a"), E(CHUNK % " b"), E("[DONE]")],
    ),
    (
        "no-space-and-crlf",
        (f"data:{CHUNK % 'a'}\r\n\r\n" + "data:[DONE]\r\n\r\n").encode(),
        [E(CHUNK % "a"), E("[DONE]")],
    ),
    (
        "anthropic",
        b'event: message_start\ndata: {"type":"message_start"}\n\n'
        b'event: ping\ndata: {"type": "ping"}\n\n'
        b'event: content_block_delta\ndata: {"text":"a"}\n\n'
        b'event: content_block_delta\ndata: {"text":"b"}\n\n'
        b"event: message_stop\ndata: {}\n\n",
        [
            E('{"type":"message_start"}', "message_start"),
            E('{"type": "ping"}', "ping"),
            E('{"text":"a"}', "content_block_delta"),
            E('{"text":"b"}', "content_block_delta"),
            E("{}", "message_stop"),
        ],
    ),
    ("retry-first", b"retry: 3000\n\ndata: a\n\n", [E("a")]),
    ("named-ping-without-data", b"event: ping\n\ndata: a\n\n", [E("a")]),
    ("pretty-printed-json", b'data: {\ndata:   "a": 1\ndata: }\n\n', [E('{\n  "a": 1\n}')]),
    ("blank-line-first", b"\ndata: a\n\n", [E("a")]),
    ("raw-u-2028-in-json", 'data: {"t":"a\u2028b"}\n\n'.encode(), [E('{"t":"a\u2028b"}')]),
    (
        "keep-alives-in-between",
        b"data: a\n\n:\n\ndata: b\n\n: ping - 2026-11-21\n\ndata: c\n\n",
        [E("a"), E("b"), E("c")],
    ),
    ("json-error-body", b'{"error": {"message": "no"}}', []),
    ("html-error-page", b"<html>\n\n<body>Bad gateway</body>\n\n</html>\n", []),
]

TABLES = {
    "fields": FIELDS,
    "newlines": NEWLINES,
    "comments": COMMENTS,
    "ids": IDS,
    "event-types": EVENT_TYPES,
    "retry": RETRY,
    "end-of-input": END_OF_INPUT,
    "byte-order-mark": BYTE_ORDER_MARK,
    "not-newlines": NOT_NEWLINES,
    "utf-8": UTF_8,
    "malformed-utf-8": MALFORMED_UTF_8,
    "nul": NUL,
    "language-models": LANGUAGE_MODELS,
}
ROWS = [
    pytest.param(stream, events, id=f"{rule}-{name}")
    for rule, table in TABLES.items()
    for name, stream, events in table
]


@pytest.mark.parametrize(("stream", "events"), ROWS)
def test_the_standard_on_every_chunking(stream: bytes, events: list[ServerSentEvent]) -> None:
    for how, chunks in chunkings(stream):
        assert parse(chunks).events == events, how


@pytest.mark.parametrize(("stream", "events"), ROWS)
def test_the_reference_agrees_with_the_tables(stream: bytes, events: list[ServerSentEvent]) -> None:
    assert reference(stream).events == events


# --- State that outlives the events ---


@pytest.mark.parametrize(
    ("stream", "last_event_id"),
    [
        (b"", ""),
        (b"id: 1\ndata: a\n\n", "1"),
        (b"id: 1\n\n", "1"),  # also without data
        (b"id: 1\ndata: a\n", ""),  # only the blank line makes it count
        (b"id: 1\n\nid: 2\n", "1"),
        (b"id: 1\n\ndata: a\n\n", "1"),
        (b"id: 1\n\nid\n\n", ""),
        (b"id: 1\n\nid: a\x00\n\n", "1"),
    ],
)
def test_last_event_id(stream: bytes, last_event_id: str) -> None:
    for how, chunks in chunkings(stream):
        assert parse(chunks).last_event_id == last_event_id, how


@pytest.mark.parametrize(
    ("stream", "retry"),
    [
        (b"data: a\n\n", None),
        (b"retry: 5\n", 5),  # a retry line counts at once
        (b"retry: 5", None),
        (b"retry: 5\n\ndata: a\n\n", 5),  # and stays
        (b"retry: 5\n\nretry: 6\n\nretry: x\n\n", 6),
        (b"data: a\n\ndata: b\nretry: 5\n", 5),
        (b"data: a\n\ndata: b\rretry: 5\r", 5),
    ],
)
def test_retry(stream: bytes, retry: int | None) -> None:
    for how, chunks in chunkings(stream):
        assert parse(chunks).retry == retry, how


@pytest.mark.parametrize(
    ("stream", "truncated"),
    [
        (b"", False),
        (b"\n", False),
        (b"data: a\n\n", False),
        (b"data: a\r\n\r\n", False),
        (b"data: a\r\r", False),
        (b"data: a\r\n\r", False),
        (b"data: a\n", True),
        (b"data: a", True),
        (b"d", True),
        (b"event: e\n", True),
        (b"data: a\n\nid: 1\n", True),
        (b"event: e\ndata: a\n\nevent: e\ndata: b", True),
        (b"event: e\ndata: a\n\nevent: e\n", True),
        (b": ping\n", False),  # no event is lost with a comment
        (b": pi", False),
        (b"data: a\n\n: pi", False),
        (b"data: a\n: ping\n", True),
        (BOM, False),
        (BOM + b": pi", False),
        (BOM + b"d", True),
    ],
)
def test_truncated_tells_whether_the_end_cut_an_event(stream: bytes, truncated: bool) -> None:
    for how, chunks in chunkings(stream):
        assert parse(chunks).truncated == truncated, how


def test_close_twice_changes_nothing() -> None:
    parser = SSEParser()
    parser.feed(b"data: a\n")
    parser.close()
    parser.close()
    assert parser.truncated


def test_feed_after_close_is_refused() -> None:
    parser = SSEParser()
    parser.feed(b"data: a\n\n")
    parser.close()
    with pytest.raises(ValueError, match="new SSEParser"):
        parser.feed(b"data: b\n\n")


def test_feeding_text_is_refused_with_a_hint() -> None:
    with pytest.raises(TypeError, match=r"takes bytes.*got str"):
        SSEParser().feed("data: a\n\n")  # type: ignore[arg-type]


def test_an_empty_chunk_is_nothing() -> None:
    assert parse([b"", b"data: a\r", b"", b"\n\r\n", b"", b"data: b", b"", b"\n\n", b""]).events == [
        E("a"),
        E("b"),
    ]


def test_a_retry_of_more_digits_than_int_reads_is_ignored() -> None:
    assert parse([b"retry: " + b"9" * 5000 + b"\ndata: a\n\n"]) == Outcome([E("a")], "", None, False)


# --- Promptness: an event leaves with the chunk that completes it ---


@pytest.mark.parametrize(
    ("chunks", "events"),
    [
        ([b"data: a\n", b"\n"], [[], [E("a")]]),
        ([b"data: a\n\n", b"data: b\n\n"], [[E("a")], [E("b")]]),
        ([b"data: a\n\ndata: b", b"\n\n"], [[E("a")], [E("b")]]),
        ([b"data: a\r\n\r\n", b"data: b"], [[E("a")], []]),
        ([b"data: a\r\r", b"data: b"], [[E("a")], []]),  # a CR counts at once …
        (
            [b"data: a\r\n\r", b"\ndata: b\n\n"],
            [[E("a")], [E("b")]],
        ),  # … and the LF after it does not count again
        ([b"data: a\r", b"\n", b"\r", b"\n"], [[], [], [E("a")], []]),
        ([b"data: a\r", b"data: b\r\r"], [[], [E("a\nb")]]),
        ([b"data: a\r\r", b"\ndata: b\n\n"], [[E("a")], [E("b")]]),
        ([b"event: e", b"\n\n", b"event: edata: a"], [[], [], []]),
        ([b"event: e\ndata: a\n\nevent: e\ndata: b\n", b"\n"], [[E("a", "e")], [E("b", "e")]]),
        ([b"event: e\r\ndata: a\r\n\r", b"\nevent: e\r\ndata: b\r\n\r"], [[E("a", "e")], [E("b", "e")]]),
    ],
)
def test_an_event_leaves_with_the_chunk_that_completes_it(
    chunks: list[bytes], events: list[list[ServerSentEvent]]
) -> None:
    parser = SSEParser()
    assert [parser.feed(chunk) for chunk in chunks] == events


@pytest.mark.parametrize(("stream", "events"), ROWS)
def test_no_event_waits_for_the_next_byte(stream: bytes, events: list[ServerSentEvent]) -> None:
    """After each prefix of the stream everything is out that the standard gives for that prefix."""
    parser = SSEParser()
    out: list[ServerSentEvent] = []
    for i in range(len(stream)):
        out += parser.feed(stream[i : i + 1])
        assert out == reference(stream[: i + 1]).events


# --- The standard's text as code. Slow and literal on purpose. ---


def reference(stream: bytes) -> Outcome:
    """https://html.spec.whatwg.org/multipage/server-sent-events.html, sections 9.2.5 and 9.2.6."""
    # "Streams must be decoded using the UTF-8 decode algorithm", which removes one byte order mark.
    text = codecs.decode(stream.removeprefix(BOM), "utf-8", "replace")
    # stream = [ bom ] *event; lines end with CRLF, LF or CR. The end of the file does not end a line.
    lines, unfinished = [], text
    while (end := re.search("\r\n|\n|\r", unfinished)) is not None:
        lines.append(unfinished[: end.start()])
        unfinished = unfinished[end.end() :]

    events: list[ServerSentEvent] = []
    data_buffer = event_type_buffer = last_event_id_buffer = last_event_id_string = ""
    reconnection_time = event_retry = None
    fields_since_blank_line = 0
    for line in lines:
        # If the line is empty: dispatch the event.
        if line == "":
            last_event_id_string = last_event_id_buffer
            if data_buffer != "":
                if data_buffer[-1] == "\n":
                    data_buffer = data_buffer[:-1]
                event_type = event_type_buffer if event_type_buffer != "" else "message"
                events.append(E(data_buffer, event_type, last_event_id_string, event_retry))
            data_buffer = event_type_buffer = ""
            event_retry = None
            fields_since_blank_line = 0
            continue
        # If the line starts with a colon: ignore the line.
        if line[0] == ":":
            continue
        fields_since_blank_line += 1
        # If the line contains a colon: field before it, value after it without one leading space.
        if ":" in line:
            colon = line.index(":")
            field, value = line[:colon], line[colon + 1 :]
            if value != "" and value[0] == " ":
                value = value[1:]
        else:
            field, value = line, ""
        # Process the field.
        if field == "event":
            event_type_buffer = value
        elif field == "data":
            data_buffer += value + "\n"
        elif field == "id":
            if "\0" not in value:
                last_event_id_buffer = value
        elif field == "retry" and value != "" and all(char in "0123456789" for char in value):
            reconnection_time = event_retry = int(value)
    # "Once the end of the file is reached, any pending data must be discarded."
    cut = fields_since_blank_line > 0 or (unfinished != "" and unfinished[0] != ":")
    return Outcome(events, last_event_id_string, reconnection_time, cut)


# --- Properties ---

# Streams made of the words that matter, so that random ones often make events; and any bytes at all.
# fmt: off
TOKENS = st.sampled_from([
    b"\n", b"\n\n", b"\r", b"\r\n", b"\r\n\r\n", b"data: ", b"data:", b"data", b"event: ", b"event: e\n",
    b"event: e\r\n", b"event: e\ndata: ", b"event: e\r\ndata: ", b"event: e\ndata: c\n\n", b"data: a\n\n",
    b"data: b\r\n\r\n", b"id: ", b"id", b"id: 1\n", b"retry: ", b"retry: 7\n", b"3", b":", b" ",
    b": ping\n\n", b"a", b"\0", BOM, b"{", b"x" * 20, b"\xe6\xb0\xb4", b"\xe6", b"\xb0\xb4", b"\xff",
    b"\xe2\x80\xa8", b"\xc2\x85", b"\x0c",
])
# fmt: on
STREAMS = st.one_of(st.lists(TOKENS, max_size=40).map(b"".join), st.binary(max_size=60))


@st.composite
def cut_streams(draw: st.DrawFn) -> list[bytes]:
    stream = draw(STREAMS)
    cuts = sorted(draw(st.sets(st.integers(0, len(stream)), max_size=12)))
    return [stream[i:j] for i, j in zip([0, *cuts], [*cuts, len(stream)], strict=True)]


@given(cut_streams())
@example([b"event: e\ndata: a\n\nevent: e\ndata: ", b"b\n\n"])
@example([b"data: a\r\n\r\ndata: b\r", b"\n\r\n"])
def test_any_chunking_gives_what_the_standard_says(chunks: list[bytes]) -> None:
    assert parse(chunks) == reference(b"".join(chunks))


@given(cut_streams())
def test_a_size_limit_that_is_not_reached_changes_nothing(chunks: list[bytes]) -> None:
    free = SSEParser()
    limited = SSEParser(max_event_bytes=10_000)
    assert [limited.feed(chunk) for chunk in chunks] == [free.feed(chunk) for chunk in chunks]


# --- The size limit ---


def parse_within(limit: int, chunks: Iterable[bytes]) -> tuple[list[ServerSentEvent], bool]:
    """All events that came out, also those that rode on the error, and whether there was an error."""
    parser = SSEParser(max_event_bytes=limit)
    events: list[ServerSentEvent] = []
    try:
        for chunk in chunks:
            events += parser.feed(chunk)
    except SSEError as error:
        return events + list(error.events), True
    return events, False


@pytest.mark.parametrize(
    ("stream", "events", "too_large"),
    [
        (b"data: 4567\n\n", [E("4567")], False),  # ten bytes are allowed here
        (b"data: 45678\n\n", [], True),
        (b"data: 4567\r\n\r\n", [E("4567")], False),  # line ends are not counted
        (b"data\ndata: \n\n", [E("\n")], False),
        (b"data\ndata: 7\n\n", [], True),  # the lines of one event add up
        (b"data: a\n\ndata: b\n\n", [E("a"), E("b")], False),  # those of two events do not
        (b"data: a\n\ndata: b\n\ndata: 45678\n\ndata: c\n\n", [E("a"), E("b")], True),
        (b"event: e\ndata: a\n\n", [], True),  # all fields count
        (b"x: 345\nyyyyy\n\n", [], True),  # unknown ones too
        (b": 345678\n: 345678\n: 345678\ndata: a\n\n", [E("a")], False),  # comments are not kept
        (b": 3456789012\n", [], True),  # but no line is longer
        (b"data: " + b"x" * 100, [], True),  # unfinished
        (BOM + b"data: 4567\n\n", [E("4567")], False),  # the mark is not counted
    ],
)
def test_the_limit_holds_on_every_chunking(
    stream: bytes, events: list[ServerSentEvent], too_large: bool
) -> None:
    for how, chunks in chunkings(stream):
        assert parse_within(10, chunks) == (events, too_large), how


def test_over_the_limit_nothing_half_is_delivered_and_nothing_after_it() -> None:
    parser = SSEParser(max_event_bytes=10)
    with pytest.raises(SSEError, match="limit of 10 bytes") as raised:
        parser.feed(b"data: a\n\ndata: 45678\ndata: b\n\ndata: c\n\n")
    assert raised.value.events == (E("a"),)
    for chunk in (b"data: d\n\n", b"\n", b""):
        with pytest.raises(SSEError, match="limit of 10 bytes") as again:
            parser.feed(chunk)
        assert again.value.events == ()


def test_without_a_limit_an_event_may_have_megabytes() -> None:
    data = "x" * 3_000_000
    assert parse(pieces(f"event: image\ndata: {data}\n\n".encode(), 1460)).events == [E(data, "image")]


def test_the_limit_holds_when_each_event_comes_in_a_chunk_of_its_own() -> None:
    chunks = [b"data: a\n\n", b"data: b\n\n", b"data: 45678\n\n"]
    assert parse_within(10, chunks) == ([E("a"), E("b")], True)


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_below_one_is_refused(limit: int) -> None:
    with pytest.raises(ValueError, match=f"at least 1; got {limit}"):
        SSEParser(max_event_bytes=limit)


# --- Time is linear in the bytes ---

KIB = 1024
GROWING = {
    "one data line": lambda n: pieces(b"data: " + b"x" * n + b"\n\n", 1460),
    "one named data line": lambda n: pieces(
        b"event: e\ndata: a\n\nevent: e\ndata: " + b"x" * n + b"\n\n", 1460
    ),
    "one data line in tiny pieces": lambda n: pieces(b"data: " + b"x" * (n // 16) + b"\n\n", 1),
    "one comment": lambda n: pieces(b":" + b"x" * n + b"\n\n", 1460),
    "one event of many data lines": lambda n: pieces(b"data: x\n" * (n // 64) + b"\n", 100),
    "many events": lambda n: pieces(b"data: " + b"x" * 200 + b"\n\n", 206) * (n // 206),
    "many events in one chunk": lambda n: [b"data: 12345678\n\n" * (n // 64)],
    "the head of an event again and again": lambda n: [
        b"data: a\n\n",
        b"data: " * (n // 6) + b"\n\nid: 1\n\n",
    ],
    "the head of an event in many lines": lambda n: [b"data: a\n\n", b"data: data: \n" * (n // 64) + b"\n"],
    "blank lines": lambda n: pieces(b"data: a\n\n" + b"\n" * (n // 32), 1000),
    "carriage returns": lambda n: pieces(b"data: a\r\r" + b"\r" * (n // 32), 1000),
    "line end after line end in pieces": lambda n: [
        b"data: a\n\n",
        *[b"data: " + b"x" * 1000, b"\n"] * (n // 2000),
    ],
    "unfinished line after each line end": lambda n: pieces(b"data: " + b"x" * 90 + b"\n", 61) * (n // 900),
}


def growth(name: str) -> float:
    """How many times the work sixteen times the bytes are: 16 when it is linear, 256 when it is quadratic."""

    def seconds(n: int) -> float:
        """Best of some, and of this thread only: other work on the machine does not count."""
        stream, best = GROWING[name](n), float("inf")
        for _ in range(4):
            parser = SSEParser()
            start = time.thread_time()
            for chunk in stream:
                parser.feed(chunk)
            best = min(best, time.thread_time() - start)
        return best

    return min(seconds(2048 * KIB) / seconds(128 * KIB) for _ in range(2))  # a slow moment: once more


@pytest.mark.parametrize("name", GROWING)
def test_sixteen_times_the_bytes_take_about_sixteen_times_the_work(name: str) -> None:
    # In a process that keeps the memory it has been given (glibc can be told to). Else only the long stream
    # pays for memory that is new again and again, and on some machines that costs more than all the parsing.
    keep = {"MALLOC_TRIM_THRESHOLD_": str(2**30), "MALLOC_MMAP_THRESHOLD_": str(2**25)}
    code = f"from tests.test_sse import growth; print(growth({name!r}))"
    command = [sys.executable, "-c", code]
    told = subprocess.run(
        command, env=os.environ | keep, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
    )
    assert float(told.stdout) < 64


# --- Events are values ---


def test_an_event_has_the_defaults_of_the_standard() -> None:
    assert ServerSentEvent("a") == ServerSentEvent(data="a", event="message", id="", retry=None)


def test_events_compare_and_hash_by_value() -> None:
    assert ServerSentEvent("a", "e", "1", 2) == ServerSentEvent("a", "e", "1", 2)
    assert ServerSentEvent("a") != ServerSentEvent("b")
    assert len({ServerSentEvent("a"), ServerSentEvent("a"), *SSEParser().feed(b"data: a\n\n")}) == 1


@pytest.mark.parametrize("field", ["data", "event", "id", "retry", "note"])
def test_an_event_cannot_be_changed(field: str) -> None:
    for event in (ServerSentEvent("a"), *parse([b"data: a\n\n"]).events, *parse([b"data: a\n\n" * 2]).events):
        with pytest.raises(AttributeError):
            setattr(event, field, "b")


def test_an_event_shows_its_fields() -> None:
    shown = "ServerSentEvent(data='a', event='message', id='', retry=None)"
    assert repr(ServerSentEvent("a")) == shown
    assert [repr(event) for event in parse([b"data: a\n\ndata: a\n\n"]).events] == [shown, shown]


def test_json_reads_the_data() -> None:
    assert ServerSentEvent('{"a": [1, null]}').json() == {"a": [1, None]}


def test_done_is_not_json() -> None:
    with pytest.raises(json.JSONDecodeError):
        ServerSentEvent("[DONE]").json()


# --- encode ---


@pytest.mark.parametrize(
    ("event", "stream"),
    [
        (encode("a"), b"data: a\n\n"),
        (encode("a", event="e", id="1", retry=5), b"event: e\nid: 1\nretry: 5\ndata: a\n\n"),
        (encode(""), b"data: \n\n"),
        (encode(" a"), b"data:  a\n\n"),
        (encode("a\nb"), b"data: a\ndata: b\n\n"),
        (encode("a\r\nb\rc"), b"data: a\ndata: b\ndata: c\n\n"),
        (encode("\n"), b"data: \ndata: \n\n"),
        (encode("a\u2028b\x0cc"), "data: a\u2028b\x0cc\n\n".encode()),
        (encode("\ufeffa"), b"data: " + BOM + b"a\n\n"),
        (encode("a", id=""), b"id: \ndata: a\n\n"),
        (encode("a", retry=0), b"retry: 0\ndata: a\n\n"),
    ],
)
def test_encode_writes(event: bytes, stream: bytes) -> None:
    assert event == stream


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"event": "a\nb"}, ValueError, "event must be one line"),
        ({"event": "a\rb"}, ValueError, "event must be one line"),
        ({"id": "a\nb"}, ValueError, "id must be one line"),
        ({"id": "\r"}, ValueError, "id must be one line"),
        ({"id": "a\0b"}, ValueError, "id must not contain NUL"),
        ({"retry": -1}, ValueError, "retry must be a whole number"),
        ({"retry": 1.5}, ValueError, "retry must be a whole number"),
        ({"retry": True}, ValueError, "retry must be a whole number"),
        ({"retry": "5"}, ValueError, "retry must be a whole number"),
        ({"data": {"a": 1}}, TypeError, "data is text, got dict: json.dumps"),
        ({"data": b"a"}, TypeError, "data is text, got bytes"),
        ({"data": None}, TypeError, "data is text, got NoneType"),
    ],
)
def test_encode_refuses_what_no_reader_would_get_back(
    arguments: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        encode(**{"data": "a", **arguments})  # type: ignore[arg-type]


TEXT = st.text(st.characters(exclude_categories=["Cs"])) | st.text(
    st.sampled_from("a \n:\ufeff\u2028\x85\x0c\0")
)
LINE = TEXT.filter(lambda text: not set("\r\n") & set(text))
EVENTS = st.builds(
    ServerSentEvent,
    data=TEXT.filter(lambda text: "\r" not in text),
    event=LINE.filter(bool),
    id=LINE.filter(lambda text: "\0" not in text),
    retry=st.none() | st.integers(min_value=0),
)


@given(st.lists(EVENTS, max_size=5), st.integers(1, 50))
@example([E("\ufeff"), E(" "), E("", "e"), E("\n\n", id=" 1"), E(":", retry=0)], 1)
def test_parse_gives_back_what_encode_was_given(events: list[ServerSentEvent], size: int) -> None:
    stream = b"".join(encode(e.data, event=e.event, id=e.id, retry=e.retry) for e in events)
    assert parse(pieces(stream, size)).events == events


@given(TEXT, st.integers(1, 50))
def test_data_alone_comes_back_with_each_newline_as_lf(data: str, size: int) -> None:
    lf = re.sub("\r\n|\r", "\n", data)
    assert parse(pieces(encode(data), size)).events == [E(lf)]


# --- iter_events, aiter_events ---


def test_iter_events_gives_each_event_before_it_asks_for_the_next_chunk() -> None:
    log: list[object] = []

    def chunks() -> Iterator[bytes]:
        for chunk in (b"data: a\n\ndata: b", b"\n\n", b"data: c"):
            log.append(chunk)
            yield chunk

    for event in iter_events(chunks()):
        log.append(event.data)
    assert log == [b"data: a\n\ndata: b", "a", b"\n\n", "b", b"data: c"]


class Chunks:
    """An async source that tells whether it was closed."""

    def __init__(self, *chunks: bytes) -> None:
        self.chunks = iter(chunks)
        self.closed = False

    def __aiter__(self) -> Chunks:
        return self

    async def __anext__(self) -> bytes:
        for chunk in self.chunks:
            return chunk
        raise StopAsyncIteration

    async def aclose(self) -> None:
        self.closed = True


async def test_aiter_events_gives_the_events_and_closes_its_source() -> None:
    source = Chunks(b"data: a\n\ndata: b", b"\n\n", b"data: c")
    assert [event async for event in aiter_events(source)] == [E("a"), E("b")]
    assert source.closed


async def test_aiter_events_closes_its_source_when_it_is_closed_early() -> None:
    source = Chunks(b"data: a\n\ndata: b\n\n")
    async with aclosing(aiter_events(source)) as events:
        async for _ in events:
            break
    assert source.closed


async def test_aiter_events_closes_an_async_generator_that_raised() -> None:
    closed = []

    async def chunks() -> AsyncIterator[bytes]:
        try:
            yield b"data: a\n\n"
            raise OSError("cut")
        finally:
            closed.append(True)

    seen = []
    with pytest.raises(OSError, match="cut"):
        async for event in aiter_events(chunks()):
            seen.append(event)
    assert (seen, closed) == ([E("a")], [True])


async def test_aiter_events_takes_a_source_that_has_nothing_to_close() -> None:
    class Plain:
        def __init__(self) -> None:
            self.chunks = iter([b"data: a\n\n"])

        def __aiter__(self) -> Plain:
            return self

        async def __anext__(self) -> bytes:
            for chunk in self.chunks:
                return chunk
            raise StopAsyncIteration

    assert [event async for event in aiter_events(Plain())] == [E("a")]
