"""Lesson 1: from the bytes on the wire to lines, fields and events, one small function for each step."""

from __future__ import annotations

import codecs
import io
import json
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

from ..checker import Case, Exercise, Source
from ..sse import ServerSentEvent

# parse_sse_messages: the text of a finished stream -> its JSON messages


def parse_sse_messages(raw: str) -> list[dict[str, Any]]:
    r"""The JSON messages in the text of a finished stream.

    A blank line ends a message; its JSON follows `data:`, with or without one space between. `[DONE]` and what has
    no data are left out. `\n` ends a line, and nothing else does.

    >>> parse_sse_messages('data: {"n": 1}\n\ndata: {"n": 2}\n\ndata: [DONE]\n\n')
    [{'n': 1}, {'n': 2}]
    """
    messages = []
    for line in raw.split("\n"):
        if line.startswith("data:"):
            data = line.removeprefix("data:").strip()
            if data != "[DONE]":
                messages.append(json.loads(data))
    return messages


sse_messages = Exercise(
    parse_sse_messages,
    cases=[
        Case('data: {"n": 1}\n\n', note="one message"),
        Case('data: {"n": 1}\n\ndata: {"n": 2}\n\n', note="two messages"),
        Case('data: {"n": 1}\n\ndata: [DONE]\n\n', note="the stream ends with [DONE]"),
        Case(': keep-alive\n\ndata: {"n": 1}\n\n', note="a comment, which has no data"),
        Case('event: delta\ndata: {"n": 1}\nid: 7\n\n', note="a message with other fields beside data"),
        Case(': {"ping": 1}\n\ndata: {"n": 1}\n\n', note="a comment that looks like JSON"),
        Case('data:{"n": 1}\n\n', note="no space after the colon"),
        Case(
            'data: {"text": "data: [DONE]"}\n\ndata: {"n": 2}\n\n',
            note="the text itself says data: and [DONE]",
        ),
        Case('data: {"text": "  a\\n\\nb  "}\n\n', note="spaces and escaped newlines inside the JSON"),
        Case('data: {"text": "a\u2028b"}\n\n', note="a line separator, U+2028, inside the JSON"),
        Case(
            'data: {"choices": [{"index": 0, "delta": {"content": " é ☕"}}]}\n\n\ndata: {"choices": []}\n\n',
            note="an extra blank line between two messages",
        ),
        Case('database: 1\ndata: {"n": 1}\n\n', note="another field whose name begins with data"),
        Case(' data: {"n": 1}\n\ndata: {"n": 2}\n\n', note="a line that starts with a space, not with data:"),
        Case("data: [DONE]\n\n", note="nothing but [DONE]"),
        Case("", note="no text at all"),
    ],
    hints=(
        "Print `raw.split('\\n')` for the example. Which of these lines do you want, and what do you do with the others?",
        "For each line ask: does it start with `data:`? Then what follows is either `[DONE]` or JSON.",
        "`line.removeprefix('data:').strip()` is what you give to `json.loads`, unless it equals `[DONE]`.",
    ),
)


@sse_messages.right
def by_message(raw: str) -> list[dict[str, Any]]:
    messages = []
    for message in raw.split("\n\n"):
        for line in message.split("\n"):
            name, _, data = line.partition(":")
            if name == "data" and data.strip() != "[DONE]":
                messages.append(json.loads(data))
    return messages


@sse_messages.right
def by_pattern(raw: str) -> list[dict[str, Any]]:
    found = re.findall(r"^data:[ ]?(.*)$", raw, flags=re.MULTILINE)
    return [json.loads(data) for data in found if data != "[DONE]"]


@sse_messages.right
def by_filter_and_map(raw: str) -> list[dict[str, Any]]:
    data = (line[5:].strip() for line in raw.split("\n") if line[:5] == "data:")
    return list(map(json.loads, filter(lambda text: text != "[DONE]", data)))


@sse_messages.right
def until_done(raw: str) -> list[dict[str, Any]]:
    messages = []
    for line in io.StringIO(raw, newline="\n"):
        if not line.startswith("data:"):
            continue
        if line[5:].strip() == "[DONE]":
            break
        messages.append(json.loads(line[5:]))
    return messages


@sse_messages.mistake(
    "`[DONE]` is OpenAI's mark for the end, not JSON: look whether the data is `[DONE]` before you parse it."
)
def parses_done(raw: str) -> list[dict[str, Any]]:
    return [
        json.loads(line.removeprefix("data:").strip()) for line in raw.split("\n") if line.startswith("data:")
    ]


@sse_messages.mistake(
    "Not everything between two blank lines is data. A line that starts with a colon is a comment, and a message may "
    "have fields of other names: look at each line for itself."
)
def takes_every_line(raw: str) -> list[dict[str, Any]]:
    messages = []
    for message in raw.split("\n\n"):
        data = message.removeprefix("data:").strip()
        if data and data != "[DONE]":
            messages.append(json.loads(data))
    return messages


@sse_messages.mistake(
    "`split` leaves an empty text behind the last blank line, and that is no JSON. Take only the lines that start with "
    "`data:`; then nothing empty is left to parse."
)
def parses_the_empty_end(raw: str) -> list[dict[str, Any]]:
    return [json.loads(message[6:]) for message in raw.split("\n\n")]


@sse_messages.mistake(
    "You take what stands behind `data: ` in every message, and not every message has that: a comment has no data, and "
    "the space may be missing. Ask first whether a line starts with `data:`."
)
def expects_data_in_every_message(raw: str) -> list[dict[str, Any]]:
    messages = []
    for message in raw.split("\n\n"):
        if message.strip():
            data = message.split("data: ")[1]
            if data != "[DONE]":
                messages.append(json.loads(data))
    return messages


@sse_messages.mistake(
    "You look for JSON anywhere, and a comment may look like JSON too. What counts is the line that starts with `data:`."
)
def looks_for_braces(raw: str) -> list[dict[str, Any]]:
    return [json.loads(found) for found in re.findall(r"\{.*\}", raw)]


@sse_messages.mistake(
    "You look only at the beginning of each message, and `data:` need not be its first line. Look at every line of it."
)
def looks_at_the_first_line_only(raw: str) -> list[dict[str, Any]]:
    messages = []
    for message in raw.split("\n\n"):
        message = message.strip()
        if message.startswith("data:"):
            data = message.removeprefix("data:").strip()
            if data != "[DONE]":
                messages.append(json.loads(data.split("\n")[0]))
    return messages


@sse_messages.mistake(
    "The space after the colon may be missing: `data:{…}` is data as well. Whoever looks for `data: ` with the space "
    "drops it without a word."
)
def wants_the_space(raw: str) -> list[dict[str, Any]]:
    data = [line[6:] for line in raw.split("\n") if line.startswith("data: ")]
    return [json.loads(text) for text in data if text != "[DONE]"]


@sse_messages.mistake(
    "You strip the line before you look at its beginning. ` data:`, with a space before it, is another field: white space "
    "may go from the data, not from the line."
)
def strips_the_line_first(raw: str) -> list[dict[str, Any]]:
    data = [line.strip()[5:].strip() for line in raw.split("\n") if line.strip().startswith("data:")]
    return [json.loads(text) for text in data if text != "[DONE]"]


@sse_messages.mistake(
    "`str.splitlines()` also cuts where this format does not, for example at U+2028 inside a text. Cut at `\\n` only."
)
def cuts_with_splitlines(raw: str) -> list[dict[str, Any]]:
    data = [line.removeprefix("data:").strip() for line in raw.splitlines() if line.startswith("data:")]
    return [json.loads(text) for text in data if text != "[DONE]"]


@sse_messages.mistake(
    "It gives only the first message: `return` stands in the loop and ends it. It belongs after the loop."
)
def returns_in_the_loop(raw: str) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    for line in raw.split("\n"):
        if line.startswith("data:") and line[5:].strip() != "[DONE]":
            messages.append(json.loads(line[5:]))
            return messages
    return messages


@sse_messages.mistake("The messages are still text. `json.loads` turns the text of one message into a dict.")
def leaves_the_json_as_text(raw: str) -> list[Any]:
    data = [line.removeprefix("data:").strip() for line in raw.split("\n") if line.startswith("data:")]
    return [text for text in data if text != "[DONE]"]


@sse_messages.mistake(
    "You drop every line in which `[DONE]` occurs, and a model may well write `[DONE]` in its text. It is the mark of "
    "the end only when it is the whole data."
)
def sees_done_anywhere(raw: str) -> list[dict[str, Any]]:
    lines = [line for line in raw.split("\n") if line.startswith("data:")]
    return [json.loads(line[5:]) for line in lines if "[DONE]" not in line]


@sse_messages.mistake(
    "You cut the text at every `data:`, and a model may write `data:` in its text. Cut into lines first, then look at "
    "how each line begins."
)
def cuts_at_every_data(raw: str) -> list[dict[str, Any]]:
    parts = [part.split("\n")[0].strip() for part in raw.split("data:")[1:]]
    return [json.loads(part) for part in parts if part != "[DONE]"]


# parse_field: one line -> the name and the value of its field


def parse_field(line: str) -> tuple[str, str] | None:
    """The name and the value of the field in one line, None for a comment or an empty line.

    Everything after the first colon is the value, less one space at its start. A line without a colon is a name
    with an empty value.

    >>> parse_field("data: hello")
    ('data', 'hello')
    >>> parse_field(": keep-alive") is None
    True
    """
    name, _, value = line.partition(":")
    if not name:
        return None
    return name, value.removeprefix(" ")


one_field = Exercise(
    parse_field,
    cases=[
        Case("data: hello"),
        Case("event: ping"),
        Case("data:hello", note="no space after the colon"),
        Case("data:  hello", note="two spaces after the colon: one is part of the value"),
        Case("data: hello ", note="a space at the end"),
        Case("data:\thello", note="a tab is not a space"),
        Case('data: {"time": "12:30"}', note="more colons"),
        Case(": keep-alive", note="a comment"),
        Case(":", note="an empty comment"),
        Case("", note="an empty line"),
        Case("data", note="no colon"),
        Case("data:", note="an empty value"),
        Case("data: ", note="nothing after the space"),
        Case(" data: hello", note="the name starts with a space, so it is not `data`"),
        Case("Data: hello", note="a capital letter makes another name"),
        Case("x-trace: 1", note="a name that the standard does not know"),
    ],
    hints=(
        "Only the first colon separates. Which string method cuts a text once and never fails?",
        "`line.partition(':')` gives what is before the first colon, the colon, and what is after it. What is before "
        "the colon in a comment?",
        "`name, _, value = line.partition(':')`. No name: return `None`. Else take one space off the value, at its "
        "start and only there: `removeprefix` does that, `strip` takes too much.",
    ),
)


@one_field.right
def with_split(line: str) -> tuple[str, str] | None:
    if line == "" or line.startswith(":"):
        return None
    if ":" not in line:
        return line, ""
    name, value = line.split(":", 1)
    return name, value[1:] if value.startswith(" ") else value


@one_field.right
def with_a_pattern(line: str) -> tuple[str, str] | None:
    found = re.fullmatch(r"([^:]+)(?:: ?(.*))?", line, flags=re.DOTALL)
    return (found[1], found[2] or "") if found else None


@one_field.right
def with_an_index(line: str) -> tuple[str, str] | None:
    colon = line.find(":")
    if colon == 0 or not line:
        return None
    if colon < 0:
        colon = len(line)
    value = line[colon + 1 :]
    if value and value[0] == " ":
        value = value[1:]
    return (line[:colon], value)


@one_field.mistake(
    "`strip()` takes all white space off both ends. Only one space, directly after the colon, is not part of the value: "
    "tokens often begin with a space of their own."
)
def strips_the_value(line: str) -> tuple[str, str] | None:
    name, _, value = line.partition(":")
    return (name, value.strip()) if name else None


@one_field.mistake(
    "`lstrip()` takes off every space at the start. One of them belongs to the format, all others to the value."
)
def strips_the_start(line: str) -> tuple[str, str] | None:
    name, _, value = line.partition(":")
    return (name, value.lstrip()) if name else None


@one_field.mistake(
    "The space after the colon is still in the value. It belongs to the format: take one off where there is one."
)
def keeps_the_space(line: str) -> tuple[str, str] | None:
    name, _, value = line.partition(":")
    return (name, value) if name else None


@one_field.mistake(
    "You cut off the first character of the value without looking, and not every server writes a space after the colon."
)
def cuts_off_one_character(line: str) -> tuple[str, str] | None:
    name, _, value = line.partition(":")
    return (name, value[1:]) if name else None


@one_field.mistake(
    "You cut at colon plus space, and the space may be missing. Cut at the first colon, then look for the space."
)
def cuts_at_colon_space(line: str) -> tuple[str, str] | None:
    name, _, value = line.partition(": ")
    return (name, value) if name else None


@one_field.mistake(
    "You cut at colon plus space, and the space may be missing: then there are not two parts to unpack. Cut at the first "
    "colon, then look for the space."
)
def splits_at_colon_space(line: str) -> tuple[str, str] | None:
    if not line or line.startswith(":"):
        return None
    name, value = line.split(": ", 1)
    return name, value


@one_field.mistake("You cut at every colon, and a value may hold colons. Only the first one separates.")
def cuts_at_every_colon(line: str) -> tuple[str, str] | None:
    if not line or line.startswith(":"):
        return None
    if ":" not in line:
        return line, ""
    name, value = line.split(":")
    return name, value.removeprefix(" ")


@one_field.mistake(
    "The value ends at its second colon, and all after it is lost. Only the first colon separates; JSON is full of others."
)
def stops_at_the_second_colon(line: str) -> tuple[str, str] | None:
    if not line or line.startswith(":"):
        return None
    parts = line.split(":")
    return parts[0], parts[1].removeprefix(" ") if len(parts) > 1 else ""


@one_field.mistake(
    "A line without a colon has nothing to unpack. By the standard the whole line is then the name, and the value is "
    "empty."
)
def needs_a_colon(line: str) -> tuple[str, str] | None:
    if not line or line.startswith(":"):
        return None
    name, value = line.split(":", 1)
    return name, value.removeprefix(" ")


@one_field.mistake(
    "You return None for a line without a colon. By the standard the whole line is then the name, and the value is empty."
)
def drops_lines_without_a_colon(line: str) -> tuple[str, str] | None:
    name, colon, value = line.partition(":")
    return (name, value.removeprefix(" ")) if name and colon else None


@one_field.mistake(
    "A line that starts with a colon is a comment, not a field whose name is empty: return None for it."
)
def takes_comments_for_fields(line: str) -> tuple[str, str] | None:
    if not line:
        return None
    name, _, value = line.partition(":")
    return name, value.removeprefix(" ")


@one_field.mistake("An empty line holds no field, not one with an empty name: return None for it.")
def takes_the_empty_line_for_a_field(line: str) -> tuple[str, str] | None:
    if line.startswith(":"):
        return None
    name, _, value = line.partition(":")
    return name, value.removeprefix(" ")


@one_field.mistake(
    "You return None for a name you do not expect. Here every field counts, known or not; whoever calls you chooses."
)
def knows_only_data(line: str) -> tuple[str, str] | None:
    name, _, value = line.partition(":")
    return (name, value.removeprefix(" ")) if name == "data" else None


@one_field.mistake(
    "You tidy up the name. The standard compares names letter by letter: ` data` and `Data` are names it does not know."
)
def tidies_the_name(line: str) -> tuple[str, str] | None:
    name, _, value = line.partition(":")
    return (name.strip().lower(), value.removeprefix(" ")) if name else None


# split_lines: pieces of bytes -> lines


def split_lines(chunks: Iterable[bytes]) -> Iterator[str]:
    r"""The lines of a byte stream, each as soon as it is complete.

    A line ends with `\r\n`, `\n` or `\r`, which is not part of it, and with nothing else. The bytes are UTF-8, cut
    anywhere. What follows the last line end is not a complete line and is dropped.

    >>> list(split_lines([b"data: caf\xc3", b"\xa9\r", b"\n\r\nda"]))
    ['data: café', '']
    """
    unfinished = b""
    after_cr = False  # the last chunk ended with \r: a \n that comes next belongs to it
    for chunk in chunks:
        if not chunk:
            continue  # it says nothing about what comes after a \r
        if after_cr:
            chunk = chunk.removeprefix(b"\n")
        after_cr = chunk.endswith(b"\r")
        # bytes.splitlines() cuts at \r\n, \n and \r only; str.splitlines() at eight more
        lines = (unfinished + chunk).splitlines(keepends=True)
        unfinished = lines.pop() if lines and not lines[-1].endswith((b"\n", b"\r")) else b""
        for line in lines:
            yield line.rstrip(b"\r\n").decode()  # a whole line holds whole characters


line_splitter = Exercise(
    split_lines,
    cases=[
        Case([b"data: a\n", b"\n"], note="one line in each chunk"),
        Case([b"data: a\n\ndata: b\n\n"], note="four lines in one chunk"),
        Case([b"da", b"ta", b": a\n\nda", b"ta: b\n"], note="lines cut by the ends of chunks"),
        Case(
            [b"caf\xc3", b"\xa9 ", b"\xe2", b"\x98", b"\x95\n"], note="characters cut by the ends of chunks"
        ),
        Case([b"  a  \t\n"], note="white space at both ends"),
        Case([b"data: a\n", b"data: b"], note="it ends in the middle of a line"),
        Case([b"data: a\r\n\r\n", b"data: b\r\n"], note="lines that end with CR LF"),
        Case([b"data: a\r", b"\n\r", b"\ndata: b\r\n"], note="CR LF cut by the end of a chunk"),
        Case([b"a\rb\r\rc", b"\rd\r"], note="lines that end with CR alone"),
        Case([b"a\r", b"b\r"], note="CR alone at the end of each chunk"),
        Case([b"a\r\n\rb\n\rc\n"], note="all three line ends mixed"),
        Case(
            ["a\u2028b\u2029c\n".encode(), "d\u0085e\n".encode(), b"f\x0cg\x0bh\x1ci\x1dj\x1ek\n"],
            note="characters that only look like line ends",
        ),
        Case([bytes([byte]) for byte in "ü\r\n☕\n\r\n".encode()], note="one byte in each chunk"),
        Case([b"\ndata: max\n"], note="an empty line comes first"),
        Case([b"a", b"", b"b\n", b""], note="empty chunks"),
        Case([b"data: a\r", b"", b"\n\r\n"], note="an empty chunk between CR and LF"),
        Case([], note="no chunks"),
        Case(
            Source([b"data: a\n\n", b"data: b\n\n", b"data: c\n\n"], kind="iterator"),
            note="an event arrives every 0.1 seconds",
        ),
        Case(
            Source([b"da", b"ta: a\r\nda", b"ta: b\r\n\r\n"], kind="iterator"),
            note="a piece arrives every 0.1 seconds",
        ),
    ],
    hints=(
        "Keep what you cannot use yet. Each chunk is then: what was left over, plus what has come. How do you know "
        "that a line is complete, and that a character is?",
        "Stay with bytes until a line is complete, and decode the whole line: the bytes of `\\r` and `\\n` never occur "
        "inside another character. `bytes.splitlines(keepends=True)` cuts in the right places, "
        "`str.splitlines()` in too many.",
        "`lines = (unfinished + chunk).splitlines(keepends=True)`: if the last one has no line end, it is the new "
        "`unfinished`. One trap is left: a chunk that ends with `\\r` while the next begins with `\\n` is one line end, "
        "not two. Remember that the last chunk ended with `\\r`, and drop that `\\n`.",
    ),
)


@line_splitter.right
def with_an_incremental_decoder(chunks: Iterable[bytes]) -> Iterator[str]:
    utf8 = codecs.getincrementaldecoder("utf-8")()
    decoder = io.IncrementalNewlineDecoder(utf8, translate=True)
    text = ""
    for chunk in chunks:
        *lines, text = (text + decoder.decode(chunk)).split("\n")
        yield from lines
    *lines, text = (text + decoder.decode(b"", final=True)).split("\n")
    yield from lines


@line_splitter.right
def with_a_pattern_on_bytes(chunks: Iterable[bytes]) -> Iterator[str]:
    rest = b""
    for chunk in chunks:
        rest += chunk
        held = b"\r" if rest.endswith(b"\r") else b""  # the \n that belongs to it may come next
        *lines, rest = re.split(rb"\r\n|\n|\r", rest.removesuffix(b"\r"))
        rest += held
        for line in lines:
            yield line.decode("utf-8")
    if rest.endswith(b"\r"):
        yield rest[:-1].decode("utf-8")


@line_splitter.right
def byte_by_byte(chunks: Iterable[bytes]) -> Iterator[str]:
    line = bytearray()
    last = 0
    for chunk in chunks:
        for byte in chunk:
            if byte == 10 and last == 13:
                pass
            elif byte in (10, 13):
                yield line.decode()
                line.clear()
            else:
                line.append(byte)
            last = byte


@line_splitter.right
def character_by_character(chunks: Iterable[bytes]) -> Iterator[str]:
    line, skip = "", False
    for text in codecs.iterdecode(iter(chunks), "utf-8"):
        for character in text:
            if character == "\n" and skip:
                skip = False
                continue
            skip = character == "\r"
            if character in "\r\n":
                yield line
                line = ""
            else:
                line += character


@line_splitter.mistake(
    "Each chunk is cut for itself, so a line that began in one chunk and ends in the next comes out as two. Keep the "
    "unfinished end of a chunk and put it in front of the next one."
)
def forgets_the_unfinished(chunks: Iterable[bytes]) -> Iterator[str]:
    for chunk in chunks:
        for line in chunk.splitlines():
            yield line.decode()


@line_splitter.mistake(
    "Each chunk is cut at `\\n` for itself: a line that began in one chunk and ends in the next comes out as two, and "
    "the empty text behind the last `\\n` as a line. Keep what follows the last `\\n` and put it in front of the next chunk."
)
def splits_each_chunk(chunks: Iterable[bytes]) -> Iterator[str]:
    for chunk in chunks:
        yield from chunk.decode().split("\n")


@line_splitter.mistake(
    "It delivers one line for each chunk, and a chunk may bring several: the others wait until it is too late. Go on "
    "until there is no line end left (`while`, not `if`)."
)
def takes_one_line_from_each_chunk(chunks: Iterable[bytes]) -> Iterator[str]:
    rest = b""
    for chunk in chunks:
        rest += chunk
        if b"\n" in rest:
            line, rest = rest.split(b"\n", 1)
            yield line.decode().removesuffix("\r")


@line_splitter.mistake(
    "A line that was delivered once comes again with the next chunk: it is still in what you keep. Keep only what "
    "follows the last line end."
)
def never_empties_the_rest(chunks: Iterable[bytes]) -> Iterator[str]:
    rest = b""
    for chunk in chunks:
        rest += chunk
        for line in rest.splitlines():
            yield line.decode()


@line_splitter.mistake(
    "A chunk may end in the middle of a character: `é` is two bytes, and one of them is still on its way. Decode "
    "whole lines, or use an incremental decoder (`codecs.getincrementaldecoder`)."
)
def decodes_each_chunk(chunks: Iterable[bytes]) -> Iterator[str]:
    text = ""
    for chunk in chunks:
        text += chunk.decode()
        *lines, text = text.replace("\r\n", "\n").split("\n")
        yield from lines


@line_splitter.mistake(
    "Half a character at the end of a chunk becomes `\\ufffd`, and so does its other half. Both halves were good bytes: "
    "decode them together, for example line by line."
)
def replaces_half_characters(chunks: Iterable[bytes]) -> Iterator[str]:
    text = ""
    for chunk in chunks:
        text += chunk.decode(errors="replace")
        *lines, text = text.replace("\r\n", "\n").split("\n")
        yield from lines


@line_splitter.mistake(
    'Half a character at the end of a chunk is thrown away: `errors="ignore"` hides the loss. Decode its bytes together, '
    "for example line by line."
)
def drops_half_characters(chunks: Iterable[bytes]) -> Iterator[str]:
    text = ""
    for chunk in chunks:
        text += chunk.decode(errors="ignore")
        *lines, text = text.replace("\r\n", "\n").split("\n")
        yield from lines


@line_splitter.mistake(
    "`str.splitlines()` cuts at U+2028, U+0085, form feed and others that are no line ends in this format. "
    "`bytes.splitlines()` cuts at `\\r\\n`, `\\n` and `\\r` only."
)
def uses_str_splitlines(chunks: Iterable[bytes]) -> Iterator[str]:
    decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder("utf-8")(), translate=True)
    text = ""
    for chunk in [*chunks, b""]:
        lines = (text + decoder.decode(chunk, final=chunk == b"")).splitlines(keepends=True)
        text = lines.pop() if lines and not lines[-1].endswith("\n") else ""
        for line in lines:
            yield line.rstrip("\n")


@line_splitter.mistake("The `\\r` of `\\r\\n` is still at the end of the line. `\\r\\n` is one line end.")
def leaves_the_cr(chunks: Iterable[bytes]) -> Iterator[str]:
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line.decode()


@line_splitter.mistake(
    "`\\r` alone ends a line too, and this waits for a `\\n` that never comes. Old, rare, and in the standard."
)
def waits_for_lf(chunks: Iterable[bytes]) -> Iterator[str]:
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line.removesuffix(b"\r").decode()


@line_splitter.mistake(
    "There is an empty line too many. One chunk ends with `\\r`, the next begins with `\\n`: together they are one line "
    "end, and you count two. Remember across chunks that the last byte was `\\r`."
)
def counts_cr_lf_twice(chunks: Iterable[bytes]) -> Iterator[str]:
    rest = b""
    for chunk in chunks:
        *lines, rest = re.split(rb"\r\n|\n|\r", rest + chunk)
        for line in lines:
            yield line.decode()


@line_splitter.mistake(
    "There is an empty line too many. An empty chunk between `\\r` and `\\n` makes you forget the `\\r`: what you remember "
    "is about the last byte, and an empty chunk brings none. Skip it."
)
def forgets_the_cr_at_an_empty_chunk(chunks: Iterable[bytes]) -> Iterator[str]:
    rest, after_cr = b"", False
    for chunk in chunks:
        if after_cr and chunk.startswith(b"\n"):
            chunk = chunk[1:]
        after_cr = chunk.endswith(b"\r")
        *lines, rest = re.split(rb"\r\n|\n|\r", rest + chunk)
        for line in lines:
            yield line.decode()


@line_splitter.mistake(
    "The stream has ended in the middle of a line, and you deliver the piece (or the empty text behind the last line "
    "end) as if it were a line. An event that lost its end is not an event: drop it."
)
def delivers_the_unfinished_line(chunks: Iterable[bytes]) -> Iterator[str]:
    rest = b""
    for chunk in chunks:
        lines = (rest + chunk).splitlines(keepends=True)
        rest = lines.pop() if lines and not lines[-1].endswith((b"\n", b"\r")) else b""
        for line in lines:
            yield line.rstrip(b"\r\n").decode()
    if rest:
        yield rest.decode()


@line_splitter.mistake(
    "The stream has ended in the middle of a line, or right behind a line end, and you deliver what `split` leaves over "
    "as if it were a line. What follows the last line end is dropped."
)
def delivers_what_split_leaves(chunks: Iterable[bytes]) -> Iterator[str]:
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line.decode()
    yield rest.decode()


@line_splitter.mistake(
    "Empty lines are missing. In this format the empty line is what ends an event: it must come out like any other."
)
def skips_empty_lines(chunks: Iterable[bytes]) -> Iterator[str]:
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line:
                yield line.decode().removesuffix("\r")


@line_splitter.mistake(
    "You strip the line. White space at its ends is part of it; only the line end is not: `rstrip(b'\\r\\n')`."
)
def strips_the_line(chunks: Iterable[bytes]) -> Iterator[str]:
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line.decode().strip()


@line_splitter.mistake(
    "A `\\r` at the very end of the stream has ended its line as well. You hold the line back to see whether a `\\n` "
    "follows, and when nothing follows at all, it is lost."
)
def waits_for_a_newline_that_never_comes(chunks: Iterable[bytes]) -> Iterator[str]:
    held = b""
    for chunk in chunks:
        parts = (held + chunk).splitlines(keepends=True)
        held = parts.pop() if parts and not parts[-1].endswith(b"\n") else b""
        for part in parts:
            yield part.rstrip(b"\r\n").decode()


@line_splitter.mistake("The line end is still part of the line: take it off.")
def keeps_the_line_end(chunks: Iterable[bytes]) -> Iterator[str]:
    rest = b""
    for chunk in chunks:
        lines = (rest + chunk).splitlines(keepends=True)
        rest = lines.pop() if lines and not lines[-1].endswith((b"\n", b"\r")) else b""
        for line in lines:
            yield line.decode()


@line_splitter.mistake(
    "It waits for the whole stream before it gives the first line, which is the opposite of streaming. Work chunk by "
    "chunk: deliver the lines that are complete, keep the rest for the next chunk."
)
def joins_the_whole_stream(chunks: Iterable[bytes]) -> Iterator[str]:
    for line in b"".join(chunks).splitlines(keepends=True):
        if line.endswith((b"\n", b"\r")):
            yield line.rstrip(b"\r\n").decode()


# decode_events: lines -> events


def decode_events(lines: Iterable[str]) -> Iterator[ServerSentEvent]:
    r"""The events in an iterable of lines, each as soon as its blank line is there.

    `data` lines are joined with `\n`; without any, a blank line delivers nothing. `event` is the name, "message"
    when there is none. The last `id` stays for later events too. `retry` is a number when all of it is digits, `0` to
    `9`; other values are ignored.
    An event without its blank line is dropped.

    >>> list(decode_events(["event: greeting", "data: hello", "data: world", ""]))
    [ServerSentEvent(data='hello\nworld', event='greeting', id='', retry=None)]
    """
    data: list[str] = []
    event = id = ""
    retry = None
    for line in lines:
        if line == "":
            if data:
                yield ServerSentEvent("\n".join(data), event or "message", id, retry)
            data, event, retry = [], "", None  # but not the id: it stays
            continue
        match parse_field(line):
            case "data", value:
                data.append(value)
            case "event", value:
                event = value
            case "id", value if "\0" not in value:
                id = value
            case "retry", value if value.isascii() and value.isdigit():
                retry = int(value)


def show_event(value: object) -> str | None:
    """An event with only what differs from an event without name, id and retry."""
    if not isinstance(value, ServerSentEvent):
        return None
    parts = [f"data={value.data!r}"]
    defaults = ServerSentEvent("")
    for name in ("event", "id", "retry"):
        if getattr(value, name) != getattr(defaults, name):
            parts.append(f"{name}={getattr(value, name)!r}")
    return f"ServerSentEvent({', '.join(parts)})"


event_decoder = Exercise(
    decode_events,
    cases=[
        Case(["data: hello", ""], note="one event"),
        Case(["data: a", "", "data: b", ""], note="two events"),
        Case(["data:a", "", "data:  b", ""], note="no space after the colon, and two"),
        Case(["data: a", "data", "data: b", ""], note="three data lines, one of them empty"),
        Case(["", "data: a", "", "", "data: b", ""], note="more blank lines than events"),
        Case([": keep-alive", "", "data: a", ": still there", "data: b", ""], note="comments"),
        Case(["data: a", "", "data: b"], note="the stream ends before the blank line"),
        Case(["event: greeting", "data: a", ""], note="an event with a name"),
        Case(["event: greeting", "data: a", "", "data: b", ""], note="only the first event has a name"),
        Case(["event: ping", "", "data: a", ""], note="a block with a name and no data"),
        Case(["event:", "data: a", ""], note="an empty name"),
        Case(["data:", ""], note="an empty data line is data"),
        Case(["id: 7", "data: a", "", "data: b", ""], note="an id stays for the events after it"),
        Case(["id: 7", "", "data: a", ""], note="a block with an id and no data"),
        Case(["id: 7", "data: a", "", "id", "data: b", ""], note="an empty id takes the old one away"),
        Case(["data: a", "id: 7", ""], note="an id after the data"),
        Case(["retry: 3000", "data: a", "", "data: b", ""], note="a retry belongs to its own block"),
        Case(["retry: 3000", "", "data: a", ""], note="a block with a retry and no data"),
        Case(
            ["retry: soon", "data: a", "", "retry: -5", "data: b", ""], note="retry values that are no number"
        ),
        Case(
            ["retry: +5", "data: a", "", "retry: 1_000", "data: b", "", "retry:", "data: c", ""],
            note="retry values that are not all digits",
        ),
        Case(
            ["retry: ²", "data: a", "", "retry: \uff13", "data: b", ""],
            note="retry values in digits other than 0 to 9",
        ),
        Case(["data: a", "x-trace: 1", "Data: b", "foo", ""], note="fields that the standard does not know"),
        Case([], note="no lines"),
        Case(
            Source(["data: a", "", "data: b", "", "data: c", ""], kind="iterator"),
            note="a line arrives every 0.1 seconds",
        ),
    ],
    hints=(
        "Every line is one of three: empty, a comment, a field. What do you have to remember between the lines until "
        "the empty one comes?",
        "Remember a list of data values, the event name, the id and the retry. A field changes one of them. An empty "
        "line delivers an event if there is any data, then resets everything but the id.",
        'Start with `data, event, id, retry = [], "", "", None`. At an empty line: if the list `data` is not empty, '
        '`yield ServerSentEvent("\\n".join(data), event or "message", id, retry)`; then reset `data`, `event`, `retry` '
        "in any case. Nothing happens after the loop.",
    ),
    show=show_event,
)


@event_decoder.right
def with_a_dict(lines: Iterable[str]) -> Iterator[ServerSentEvent]:
    block: dict[str, list[str]] = {}
    last_id = ""
    for line in lines:
        if line:
            name, _, value = line.partition(":")
            block.setdefault(name, []).append(value.removeprefix(" "))
            continue
        last_id = block.get("id", [last_id])[-1]
        retries = [int(value) for value in block.get("retry", []) if re.fullmatch("[0-9]+", value)]
        if "data" in block:
            yield ServerSentEvent(
                data="\n".join(block["data"]),
                event=block.get("event", [""])[-1] or "message",
                id=last_id,
                retry=retries[-1] if retries else None,
            )
        block = {}


@event_decoder.right
def with_blocks(lines: Iterable[str]) -> Iterator[ServerSentEvent]:
    last_id = ""
    block: list[str] = []
    for line in lines:
        if line != "":
            block.append(line)
            continue
        fields = [field for field in map(parse_field, block) if field is not None]
        data = [value for name, value in fields if name == "data"]
        event, retry = "message", None
        for name, value in fields:
            if name == "id":
                last_id = value
            elif name == "event":
                event = value or "message"
            elif name == "retry" and value.isascii() and value.isdigit():
                retry = int(value)
        if data:
            yield ServerSentEvent("\n".join(data), event, last_id, retry)
        block = []


@event_decoder.right
def as_the_standard_writes_it(lines: Iterable[str]) -> Iterator[ServerSentEvent]:
    data_buffer = event_type_buffer = last_event_id = ""
    reconnection_time: int | None = None
    for line in lines:
        if not line:
            if data_buffer != "":
                event = event_type_buffer if event_type_buffer else "message"
                yield ServerSentEvent(data_buffer.removesuffix("\n"), event, last_event_id, reconnection_time)
            data_buffer = event_type_buffer = ""
            reconnection_time = None
        elif not line.startswith(":"):
            name, _, value = line.partition(":")
            value = value[1:] if value[:1] == " " else value
            if name == "data":
                data_buffer += value + "\n"
            elif name == "event":
                event_type_buffer = value
            elif name == "id":
                last_event_id = value
            elif name == "retry" and all(character in "0123456789" for character in value) and value:
                reconnection_time = int(value)


@event_decoder.mistake(
    "The stream has ended before the blank line, so the event may not be whole: drop it. Half an answer taken for a "
    "whole one is worse than an answer that is missing."
)
def delivers_the_unfinished_event(lines: Iterable[str]) -> Iterator[ServerSentEvent]:
    data: list[str] = []
    for line in [*lines, ""]:
        field = parse_field(line)
        if line == "" and data:
            yield ServerSentEvent("\n".join(data))
            data = []
        elif field and field[0] == "data":
            data.append(field[1])


@event_decoder.mistake(
    "A blank line delivers an event only when there was data since the last one. Two blank lines in a row, a comment, an "
    "id alone: none of these is an event."
)
def delivers_events_without_data(lines: Iterable[str]) -> Iterator[ServerSentEvent]:
    data: list[str] = []
    for line in lines:
        field = parse_field(line)
        if line == "":
            yield ServerSentEvent("\n".join(data))
            data = []
        elif field and field[0] == "data":
            data.append(field[1])


@event_decoder.mistake(
    "`parse_field` gives None for a comment, and None has no name and no value to unpack. Ask first whether it is None."
)
def unpacks_comments(lines: Iterable[str]) -> Iterator[ServerSentEvent]:
    data: list[str] = []
    for line in lines:
        if line == "":
            if data:
                yield ServerSentEvent("\n".join(data))
            data = []
        else:
            name, value = parse_field(line)  # type: ignore[misc]
            if name == "data":
                data.append(value)


@event_decoder.mistake(
    "It delivers at each `data` line. An event is complete at its blank line: more data, a name or an id may follow."
)
def delivers_at_the_data_line(lines: Iterable[str]) -> Iterator[ServerSentEvent]:
    for line in lines:
        field = parse_field(line)
        if field and field[0] == "data":
            yield ServerSentEvent(field[1])


@event_decoder.mistake("Several `data` lines are one text of several lines: join them with a newline.")
def joins_without_newlines(lines: Iterable[str]) -> Iterator[ServerSentEvent]:
    data: list[str] = []
    for line in lines:
        field = parse_field(line)
        if line == "" and data:
            yield ServerSentEvent("".join(data))
            data = []
        elif field and field[0] == "data":
            data.append(field[1])


@event_decoder.mistake(
    "Only the last `data` line of an event is left: each one replaces the one before. They all belong to the event."
)
def keeps_the_last_data_line(lines: Iterable[str]) -> Iterator[ServerSentEvent]:
    data = None
    for line in lines:
        field = parse_field(line)
        if line == "" and data is not None:
            yield ServerSentEvent(data)
            data = None
        elif field and field[0] == "data":
            data = field[1]


@event_decoder.mistake(
    "The data of the first event is still there in the second one. After an event, start with an empty list again."
)
def never_empties_the_data(lines: Iterable[str]) -> Iterator[ServerSentEvent]:
    data: list[str] = []
    for line in lines:
        field = parse_field(line)
        if line == "" and data:
            yield ServerSentEvent("\n".join(data))
        elif field and field[0] == "data":
            data.append(field[1])


@event_decoder.mistake(
    "`data: ` with the space is only the usual way to write it: `data:x` and `data` alone are data lines too. "
    "`parse_field` knows all three."
)
def wants_data_colon_space(lines: Iterable[str]) -> Iterator[ServerSentEvent]:
    data: list[str] = []
    for line in lines:
        if line == "" and data:
            yield ServerSentEvent("\n".join(data))
            data = []
        elif line.startswith("data: "):
            data.append(line[6:])


@event_decoder.mistake('An event without a name has the name "message".')
def leaves_the_name_empty(lines: Iterable[str]) -> Iterator[ServerSentEvent]:
    data: list[str] = []
    event = ""
    for line in lines:
        field = parse_field(line)
        if line == "":
            if data:
                yield ServerSentEvent("\n".join(data), event)
            data, event = [], ""
        elif field and field[0] == "data":
            data.append(field[1])
        elif field and field[0] == "event":
            event = field[1]


@event_decoder.mistake(
    'The name of one event sticks to the next. It belongs to its own block: after a blank line it is "message" again.'
)
def keeps_the_name(lines: Iterable[str]) -> Iterator[ServerSentEvent]:
    data: list[str] = []
    event = "message"
    for line in lines:
        field = parse_field(line)
        if line == "" and data:
            yield ServerSentEvent("\n".join(data), event)
            data = []
        elif field and field[0] == "data":
            data.append(field[1])
        elif field and field[0] == "event":
            event = field[1] or "message"


@event_decoder.mistake(
    "A blank line also ends a block without data: nothing is delivered, but the name is forgotten. Yours lives on and "
    "names the next event."
)
def resets_only_after_an_event(lines: Iterable[str]) -> Iterator[ServerSentEvent]:
    data: list[str] = []
    event = "message"
    for line in lines:
        field = parse_field(line)
        if line == "" and data:
            yield ServerSentEvent("\n".join(data), event)
            data, event = [], "message"
        elif field and field[0] == "data":
            data.append(field[1])
        elif field and field[0] == "event":
            event = field[1] or "message"


@event_decoder.mistake(
    '`event:` without a value does not make the name empty: an event without a name is a "message".'
)
def takes_the_empty_name(lines: Iterable[str]) -> Iterator[ServerSentEvent]:
    data: list[str] = []
    event = "message"
    for line in lines:
        field = parse_field(line)
        if line == "":
            if data:
                yield ServerSentEvent("\n".join(data), event)
            data, event = [], "message"
        elif field and field[0] == "data":
            data.append(field[1])
        elif field and field[0] == "event":
            event = field[1]


@event_decoder.mistake(
    'A `data` line without a value is still data: it makes an event whose data is "". Ask whether there was a data '
    "line, not whether the text is empty."
)
def takes_empty_data_for_none(lines: Iterable[str]) -> Iterator[ServerSentEvent]:
    data: list[str] = []
    event = ""
    for line in lines:
        field = parse_field(line)
        if line == "":
            text = "\n".join(data)
            if text:
                yield ServerSentEvent(text, event or "message")
            data, event = [], ""
        elif field and field[0] == "data":
            data.append(field[1])
        elif field and field[0] == "event":
            event = field[1]


@event_decoder.mistake(
    "The id is forgotten after its event. It is the one thing that stays: it says how far the reader has come, for all "
    "events until the next id."
)
def forgets_the_id(lines: Iterable[str]) -> Iterator[ServerSentEvent]:
    data: list[str] = []
    event, id = "", ""
    for line in lines:
        field = parse_field(line)
        if line == "":
            if data:
                yield ServerSentEvent("\n".join(data), event or "message", id)
            data, event, id = [], "", ""
        elif field and field[0] == "data":
            data.append(field[1])
        elif field and field[0] == "event":
            event = field[1]
        elif field and field[0] == "id":
            id = field[1]


@event_decoder.mistake(
    "The retry of one event sticks to the next. It belongs to its own block: after a blank line it is None again."
)
def keeps_the_retry(lines: Iterable[str]) -> Iterator[ServerSentEvent]:
    data: list[str] = []
    event, id, retry = "", "", None
    for line in lines:
        field = parse_field(line)
        if line == "":
            if data:
                yield ServerSentEvent("\n".join(data), event or "message", id, retry)
            data, event = [], ""
        elif field and field[0] == "data":
            data.append(field[1])
        elif field and field[0] == "event":
            event = field[1]
        elif field and field[0] == "id":
            id = field[1]
        elif field and field[0] == "retry" and re.fullmatch("[0-9]+", field[1]):
            retry = int(field[1])


@event_decoder.mistake(
    "`retry` counts only when it is all digits. `int()` raises at `soon`, and takes `-5`: look before you convert, and "
    "ignore the line otherwise."
)
def trusts_the_retry(lines: Iterable[str]) -> Iterator[ServerSentEvent]:
    data: list[str] = []
    event, id, retry = "", "", None
    for line in lines:
        field = parse_field(line)
        if line == "":
            if data:
                yield ServerSentEvent("\n".join(data), event or "message", id, retry)
            data, event, retry = [], "", None
        elif field and field[0] == "data":
            data.append(field[1])
        elif field and field[0] == "event":
            event = field[1]
        elif field and field[0] == "id":
            id = field[1]
        elif field and field[0] == "retry":
            retry = int(field[1])


@event_decoder.mistake(
    "`int()` takes more than digits: a sign (`-5`, `+5`), spaces, even `1_000`. Look whether the value is all digits "
    "before you convert it."
)
def leaves_the_digits_to_int(lines: Iterable[str]) -> Iterator[ServerSentEvent]:
    data: list[str] = []
    event, id, retry = "", "", None
    for line in lines:
        field = parse_field(line)
        if line == "":
            if data:
                yield ServerSentEvent("\n".join(data), event or "message", id, retry)
            data, event, retry = [], "", None
        elif field and field[0] == "data":
            data.append(field[1])
        elif field and field[0] == "event":
            event = field[1]
        elif field and field[0] == "id":
            id = field[1]
        elif field and field[0] == "retry":
            with suppress(ValueError):
                retry = int(field[1])


@event_decoder.mistake(
    "`isdigit()` is true for `²` as well, and for the digits of every script. Here only `0` to `9` count: ask "
    "`isascii()` too."
)
def takes_every_digit_there_is(lines: Iterable[str]) -> Iterator[ServerSentEvent]:
    data: list[str] = []
    event, id, retry = "", "", None
    for line in lines:
        field = parse_field(line)
        if line == "":
            if data:
                yield ServerSentEvent("\n".join(data), event or "message", id, retry)
            data, event, retry = [], "", None
        elif field and field[0] == "data":
            data.append(field[1])
        elif field and field[0] == "event":
            event = field[1]
        elif field and field[0] == "id":
            id = field[1]
        elif field and field[0] == "retry" and field[1].isdigit():
            retry = int(field[1])


@event_decoder.mistake(
    "It reads all lines before it gives the first event. Walk through `lines` once and `yield` at each blank line."
)
def reads_everything_first(lines: Iterable[str]) -> Iterator[ServerSentEvent]:
    yield from list(decode_events(lines))
