"""Lesson 1, raw SSE: from the text on the wire to messages."""

from __future__ import annotations

import json
import re
from typing import Any

from ..checker import Case, Exercise


def parse_sse_messages(raw: str) -> list[dict[str, Any]]:
    r"""The JSON objects in a complete event stream.

    Messages are separated by a blank line. Each `data:` line holds one JSON object; one space after the colon does not
    belong to it. `[DONE]` is not JSON and is left out. Lines that do not begin with `data:` are left out too.

    >>> parse_sse_messages('data: {"n": 1}\n\ndata: {"n": 2}\n\ndata: [DONE]\n\n')
    [{'n': 1}, {'n': 2}]
    """
    messages = []
    for line in raw.split("\n"):
        if not line.startswith("data:"):
            continue
        data = line.removeprefix("data:").strip()
        if data != "[DONE]":
            messages.append(json.loads(data))
    return messages


sse_messages = Exercise(
    parse_sse_messages,
    cases=[
        Case('data: {"n": 1}\n\n'),
        Case('data: {"n": 1}\n\ndata: {"n": 2}\n\n', note="two messages"),
        Case('data: {"n": 1}\n\ndata: [DONE]\n\n', note="the stream ends with [DONE]"),
        Case(': keep-alive\n\ndata: {"n": 1}\n\n', note="a comment first"),
        Case('event: delta\ndata: {"n": 1}\nid: 7\n\n', note="a message with other fields"),
        Case('data:{"n": 1}\n\n', note="no space after the colon"),
        Case('data: {"text": "data: [DONE]"}\n\n', note="the text itself says data: and [DONE]"),
        Case('data: {"text": "a\u2028b"}\n\n', note="a line separator, U+2028, inside the JSON"),
        Case(""),
    ],
    hints=(
        "Print `raw.split('\\n')` for the example and look: which lines do you want, which not?",
        "For each line: does it start with `data:`? Then what follows is either `[DONE]` or JSON.",
        "`line.removeprefix('data:').strip()` is what you give to `json.loads`, unless it equals `[DONE]`.",
    ),
)


@sse_messages.mistake("`[DONE]` is OpenAI's mark for the end, not JSON: look for it before you parse.")
def parses_done(raw: str) -> list[dict[str, Any]]:
    return [
        json.loads(line.removeprefix("data:").strip()) for line in raw.split("\n") if line.startswith("data:")
    ]


@sse_messages.mistake("Not every line is data: comments start with a colon, other fields have other names.")
def takes_every_line(raw: str) -> list[dict[str, Any]]:
    messages = []
    for message in raw.split("\n\n"):
        data = message.removeprefix("data:").strip()
        if data and data != "[DONE]":
            messages.append(json.loads(data))
    return messages


@sse_messages.mistake("The space after the colon is optional in the standard: `data:{…}` is data as well.")
def wants_a_space(raw: str) -> list[dict[str, Any]]:
    lines = [line[6:] for line in raw.split("\n") if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


@sse_messages.mistake(
    "`str.splitlines()` also cuts at characters that are no line ends here, such as U+2028 inside a text."
)
def splitlines(raw: str) -> list[dict[str, Any]]:
    lines = [line.removeprefix("data:").strip() for line in raw.splitlines() if line.startswith("data:")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


@sse_messages.mistake("It stops at the first message: `return` belongs after the loop, not in it.")
def only_the_first(raw: str) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    for line in raw.split("\n"):
        if line.startswith("data:") and "[DONE]" not in line:
            messages.append(json.loads(line[5:]))
            return messages
    return messages


@sse_messages.mistake("Every message comes as text still: `json.loads` turns it into a dict.")
def no_json(raw: str) -> list[Any]:
    lines = [line.removeprefix("data:").strip() for line in raw.split("\n") if line.startswith("data:")]
    return [line for line in lines if line != "[DONE]"]


@sse_messages.mistake(
    "`[DONE]` ends the stream only when it is the whole data; here it stands inside a model's text."
)
def done_anywhere(raw: str) -> list[dict[str, Any]]:
    lines = [line for line in raw.split("\n") if line.startswith("data:")]
    return [json.loads(line[5:]) for line in lines if "[DONE]" not in line]


@sse_messages.right
def by_message(raw: str) -> list[dict[str, Any]]:
    messages = []
    for block in raw.split("\n\n"):
        for line in block.split("\n"):
            name, _, data = line.partition(":")
            if name == "data" and data.strip() != "[DONE]":
                messages.append(json.loads(data))
    return messages


@sse_messages.right
def by_pattern(raw: str) -> list[dict[str, Any]]:
    found = re.findall(r"^data:[ ]?(.*)$", raw, flags=re.MULTILINE)
    return [json.loads(data) for data in found if data != "[DONE]"]


@sse_messages.right
def by_prefix(raw: str) -> list[dict[str, Any]]:
    data = (line[5:].strip() for line in raw.split("\n") if line[:5] == "data:")
    return list(map(json.loads, filter(lambda text: text != "[DONE]", data)))
