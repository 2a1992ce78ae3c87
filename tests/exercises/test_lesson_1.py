"""The four exercises of lesson 1 make one reader: together they do what `streamlib.sse` does."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import pairwise

from hypothesis import example, given, settings
from hypothesis import strategies as st

from streamlib.exercises.lesson_1 import decode_events, parse_sse_messages, split_lines
from streamlib.sse import encode, iter_events

LINES = ["data: a", "data:é☕", "data", "data:  \u2028 \x85 \f", "event: poem", "event:", "id: 7", "id"]
LINES += ["retry: 30", "retry: x", ": comment", " data: b", "x: y", "", "", "", "", ""]
ENDS = ["\n", "\r", "\r\n"] * 3 + [""]
streams = st.lists(st.builds(str.__add__, st.sampled_from(LINES), st.sampled_from(ENDS)), max_size=40)
cuts = st.lists(st.integers(0, 150), max_size=8)


def cut(body: bytes, places: Iterable[int]) -> list[bytes]:
    """The body in pieces, cut at these places."""
    edges = [0, *sorted(min(place, len(body)) for place in places), len(body)]
    return [body[start:end] for start, end in pairwise(edges) if start < end]


@settings(deadline=None)
@given(streams, cuts)
@example(["data: é\r\n", "data: b\r\n", "\r\n"], [7, 9])
def test_the_chain_reads_every_stream_as_the_library_does(lines: list[str], places: list[int]) -> None:
    chunks = cut("".join(lines).encode(), places)
    assert list(decode_events(split_lines(chunks))) == list(iter_events(chunks))


@settings(deadline=None)
@given(st.lists(st.dictionaries(st.text(max_size=5), st.text(max_size=5)), max_size=5))
def test_messages_are_those_that_were_sent(messages: list[dict[str, str]]) -> None:
    sent = b"".join(encode(json.dumps(message, ensure_ascii=False)) for message in messages)
    assert parse_sse_messages((sent + encode("[DONE]")).decode()) == messages
