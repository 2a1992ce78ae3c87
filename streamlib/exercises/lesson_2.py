"""Lesson 2: the chunks of the official client, and what a learner gets out of them."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterable, Iterable
from contextlib import aclosing
from dataclasses import dataclass

from openai.types import CompletionUsage
from openai.types.chat import ChatCompletionChunk

from ..checker import Case, Exercise, Source

# Values the exercises give back


@dataclass(frozen=True, slots=True)
class Completion:
    """A whole answer: its text, why it ended, what it cost. None where the server did not say."""

    text: str
    finish_reason: str | None
    usage: CompletionUsage | None


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call the model wants made; `arguments` is JSON text."""

    id: str
    name: str
    arguments: str


# Chunks as a server sends them


def chunk(delta: dict[str, object] | None, finish_reason: str | None = None) -> ChatCompletionChunk:
    """A chunk with one choice."""
    choices = [{"index": 0, "delta": delta or {}, "finish_reason": finish_reason}]
    return ChatCompletionChunk.model_validate(ENVELOPE | {"choices": choices})


def text_chunk(text: str | None, finish_reason: str | None = None) -> ChatCompletionChunk:
    """A chunk that brings text."""
    return chunk({"content": text}, finish_reason)


def usage_chunk(tokens: int) -> ChatCompletionChunk:
    """The usage chunk: no choices at all."""
    return with_usage(EMPTY, tokens)


def with_usage(chunk: ChatCompletionChunk, tokens: int) -> ChatCompletionChunk:
    """The chunk with a usage."""
    usage = CompletionUsage(prompt_tokens=9, completion_tokens=tokens, total_tokens=9 + tokens)
    return chunk.model_copy(update={"usage": usage})


def tool_chunk(*fragments: tuple[int, str | None, str | None, str | None]) -> ChatCompletionChunk:
    """A chunk that brings fragments of tool calls: index, id, name, arguments."""
    calls = [
        {"index": index, "id": id, "type": "function", "function": {"name": name, "arguments": arguments}}
        for index, id, name, arguments in fragments
    ]
    return chunk({"tool_calls": calls})


ENVELOPE = {"id": "chatcmpl-1", "created": 1, "model": "a-model", "object": "chat.completion.chunk"}
ROLE = chunk({"role": "assistant", "content": ""})
ROLE_WITHOUT_CONTENT = chunk({"role": "assistant"})
ROLE_AND_TEXT = chunk({"role": "assistant", "content": " again"})
STOP = chunk({}, "stop")
EMPTY = ChatCompletionChunk.model_validate(ENVELOPE | {"choices": []})


def show(value: object) -> str | None:
    """A chunk, a usage or a completion in a few words; their own reprs fill a screen."""
    if isinstance(value, Completion):
        usage = show(value.usage) if value.usage else None
        return f"Completion(text={value.text!r}, finish_reason={value.finish_reason!r}, usage={usage})"
    if isinstance(value, CompletionUsage):
        return f"CompletionUsage(completion_tokens={value.completion_tokens}, …)"
    if not isinstance(value, ChatCompletionChunk):
        return None
    if not value.choices:
        return "<usage chunk: choices=[]>" if value.usage else "<chunk: choices=[]>"
    choice = value.choices[0]
    words = [repr(choice.delta.content)] if "content" in choice.delta.model_fields_set else []
    words += [f"role={choice.delta.role!r}"] if choice.delta.role else []
    for call in choice.delta.tool_calls or []:
        names = [word for word in (call.id, call.function.name if call.function else None) if word]
        arguments = call.function.arguments if call.function else None
        words.append(" ".join([f"tool {call.index}", *names, repr(arguments)]))
    words += [f"finish_reason={choice.finish_reason!r}"] if choice.finish_reason else []
    words += [f"usage={show(value.usage)}"] if value.usage else []
    return f"<chunk: {', '.join(words)}>"


async def pieces(*texts: str) -> AsyncGenerator[str, None]:
    """A stream of these texts."""
    for text in texts:
        yield text


async def chunks(*given: ChatCompletionChunk) -> AsyncGenerator[ChatCompletionChunk, None]:
    """A stream of these chunks."""
    for one in given:
        yield one


# delta_text


def delta_text(chunk: ChatCompletionChunk) -> str:
    """The text that is new in this chunk, "" when there is none.

    >>> delta_text(text_chunk(" hello"))
    ' hello'
    >>> delta_text(usage_chunk(tokens=12))
    ''
    """
    if not chunk.choices:
        return ""
    return chunk.choices[0].delta.content or ""


text_of_chunk = Exercise(
    delta_text,
    cases=[
        Case(text_chunk(" hello"), note="a chunk with text"),
        Case(ROLE, note="the role chunk, with empty content"),
        Case(ROLE_WITHOUT_CONTENT, note="the role chunk of a server that leaves content out"),
        Case(STOP, note="the finish chunk, whose content is None"),
        Case(usage_chunk(12), note="the usage chunk, which has no choices"),
        Case(EMPTY, note="a keep-alive without choices"),
        Case(text_chunk("\n\n"), note="text that is only newlines"),
        Case(text_chunk(" ."), note="text that starts with a space"),
        Case(text_chunk("end", "length"), note="text and a finish reason in one chunk"),
        Case(tool_chunk((0, "call_1", "get_weather", "")), note="a fragment of a tool call, no text"),
        Case(ROLE_AND_TEXT, note="a server that puts the role into every chunk"),
    ],
    hints=(
        "Look at the table of chunks above: which of them have no text, and in how many ways can text be missing?",
        "Two questions, in this order: are there any choices? Is there any content?",
        '`chunk.choices` can be an empty list, and `content` can be `None`; `x or ""` turns `None` into `""`.',
    ),
    show=show,
)


@text_of_chunk.right
def with_a_condition(chunk: ChatCompletionChunk) -> str:
    text = chunk.choices[0].delta.content if len(chunk.choices) > 0 else None
    return "" if text is None else text


@text_of_chunk.right
def joined_over_choices(chunk: ChatCompletionChunk) -> str:
    return "".join(choice.delta.content or "" for choice in chunk.choices)


@text_of_chunk.right
def asking_forgiveness(chunk: ChatCompletionChunk) -> str:
    try:
        return chunk.choices[0].delta.content or ""
    except IndexError:
        return ""


@text_of_chunk.mistake(
    "`choices[0]` of a chunk without choices: the usage chunk (and some keep-alives) has an empty list there. "
    "Ask whether there are any choices before you take the first."
)
def no_guard_for_choices(chunk: ChatCompletionChunk) -> str:
    return chunk.choices[0].delta.content or ""


@text_of_chunk.mistake(
    "You return `None` for a chunk whose content is `None`: the first and the last chunk of nearly every stream. "
    'Whoever joins the pieces needs a string, `""`.'
)
def none_instead_of_empty(chunk: ChatCompletionChunk) -> str | None:
    if not chunk.choices:
        return ""
    return chunk.choices[0].delta.content


@text_of_chunk.mistake(
    "`.message` belongs to a complete answer. A chunk brings only what is new: its choice has a `.delta`."
)
def message_instead_of_delta(chunk: ChatCompletionChunk) -> str:
    if not chunk.choices:
        return ""
    return chunk.choices[0].message.content or ""  # type: ignore[attr-defined]


@text_of_chunk.mistake(
    'The word "None" got into the text: `str(None)` is `"None"`. Turn a missing content into `""`, not into its name.'
)
def none_as_a_word(chunk: ChatCompletionChunk) -> str:
    if not chunk.choices:
        return ""
    return str(chunk.choices[0].delta.content)


@text_of_chunk.mistake(
    "You strip the text. Spaces and newlines at the ends of a chunk are part of the answer: "
    "without them the words run together."
)
def stripped(chunk: ChatCompletionChunk) -> str:
    if not chunk.choices:
        return ""
    return (chunk.choices[0].delta.content or "").strip()


@text_of_chunk.mistake(
    "A chunk can bring its last text and the finish reason together. You drop the text of every chunk that "
    "has a finish reason."
)
def finish_chunk_is_empty(chunk: ChatCompletionChunk) -> str:
    if not chunk.choices or chunk.choices[0].finish_reason:
        return ""
    return chunk.choices[0].delta.content or ""


@text_of_chunk.mistake(
    "You drop the text of every chunk that has a role. Some servers put the role into all of them: look at the text itself."
)
def role_chunk_is_empty(chunk: ChatCompletionChunk) -> str:
    if not chunk.choices or chunk.choices[0].delta.role:
        return ""
    return chunk.choices[0].delta.content or ""


@text_of_chunk.mistake(
    "On the way without choices your function comes to its end without `return`, and gives back `None`. "
    "What should it say there?"
)
def one_way_without_return(chunk: ChatCompletionChunk) -> str | None:
    if chunk.choices:
        return chunk.choices[0].delta.content or ""
    return None


@text_of_chunk.mistake(
    'The client has turned the JSON into objects: write `chunk.choices`, with a dot, not `chunk["choices"]`.'
)
def as_a_dictionary(chunk: ChatCompletionChunk) -> str:
    return chunk["choices"][0]["delta"]["content"] or ""  # type: ignore[index]


# collect


async def collect(stream: AsyncIterable[ChatCompletionChunk]) -> Completion:
    """The whole answer of a stream: its text, why it ended, what it cost.

    >>> await collect(chunks(text_chunk("Hel"), text_chunk("lo", "stop")))
    Completion(text='Hello', finish_reason='stop', usage=None)
    """
    parts: list[str] = []
    finish_reason = usage = None
    async for chunk in stream:
        parts.append(delta_text(chunk))
        if chunk.choices:
            finish_reason = chunk.choices[0].finish_reason or finish_reason
        usage = chunk.usage or usage
    return Completion("".join(parts), finish_reason, usage)


def answer(*chunks: ChatCompletionChunk, error: Exception | None = None) -> Source:
    return Source(chunks, kind="response", error=error)


collecting = Exercise(
    collect,
    cases=[
        Case(
            answer(ROLE, text_chunk("Tokens"), text_chunk(" arrive"), STOP, usage_chunk(2)),
            note="a whole answer, with usage",
        ),
        Case(answer(ROLE, text_chunk("Hi"), text_chunk("!"), STOP), note="nobody asked for the usage"),
        Case(
            answer(ROLE_WITHOUT_CONTENT, text_chunk("Too"), text_chunk(" long", "length"), usage_chunk(2)),
            note="the last text comes with the finish reason",
        ),
        Case(answer(ROLE, text_chunk("Half an")), note="the stream ends without a finish reason"),
        Case(
            answer(
                ROLE, text_chunk("a"), EMPTY, text_chunk(None), text_chunk("b"), STOP, usage_chunk(2), EMPTY
            ),
            note="keep-alives in the middle and at the end",
        ),
        Case(
            answer(ROLE, text_chunk("Hi"), STOP, text_chunk(None)),
            note="a gateway sends one more chunk after the last",
        ),
        Case(
            answer(with_usage(text_chunk("a"), 1), with_usage(text_chunk("b"), 2), STOP, usage_chunk(3)),
            note="a server that sends the count so far with every chunk",
        ),
        Case(answer(), note="nothing at all"),
        Case(
            answer(ROLE, text_chunk("Half"), error=ConnectionError("the connection broke")),
            note="the connection breaks",
        ),
    ],
    hints=(
        "Three things to remember while you read: the pieces, the finish reason, the usage. Which chunk brings which?",
        "They come in three different chunks, so a value you have seen must not be lost when a later chunk lacks it. "
        "Read to the very end: the usage comes after the finish reason.",
        "Start with `parts, finish_reason, usage = [], None, None`. In the loop: append `delta_text(chunk)`; take the "
        "finish reason if there are choices and it is set; take `chunk.usage` if it is set.",
    ),
    show=show,
)


@collecting.right
async def as_a_response(stream: AsyncIterable[ChatCompletionChunk]) -> Completion:
    text, finish_reason, usage = "", None, None
    async with stream as chunks:  # type: ignore[attr-defined]
        async for chunk in chunks:
            if chunk.choices:
                choice = chunk.choices[0]
                text += choice.delta.content or ""
                if choice.finish_reason is not None:
                    finish_reason = choice.finish_reason
            if chunk.usage is not None:
                usage = chunk.usage
    return Completion(text, finish_reason, usage)


@collecting.right
async def all_chunks_first(stream: AsyncIterable[ChatCompletionChunk]) -> Completion:
    chunks = [chunk async for chunk in stream]
    choices = [chunk.choices[0] for chunk in chunks if chunk.choices]
    reasons = [choice.finish_reason for choice in choices if choice.finish_reason]
    usages = [chunk.usage for chunk in chunks if chunk.usage]
    return Completion(
        text="".join(choice.delta.content or "" for choice in choices),
        finish_reason=reasons[-1] if reasons else None,
        usage=usages[-1] if usages else None,
    )


@collecting.right
async def by_hand(stream: AsyncIterable[ChatCompletionChunk]) -> Completion:
    parts = []
    last = {"finish_reason": None, "usage": None}
    iterator = aiter(stream)
    while (chunk := await anext(iterator, None)) is not None:
        for choice in chunk.choices:
            parts.append(choice.delta.content or "")
            last["finish_reason"] = choice.finish_reason or last["finish_reason"]  # type: ignore[assignment]
        last["usage"] = chunk.usage or last["usage"]  # type: ignore[assignment]
    return Completion("".join(parts), **last)


@collecting.mistake(
    "You stop reading at the finish reason, and the usage comes after it. Read until the stream ends by itself."
)
async def stops_at_the_finish_reason(stream: AsyncIterable[ChatCompletionChunk]) -> Completion:
    parts, finish_reason, usage = [], None, None
    async for chunk in stream:
        parts.append(delta_text(chunk))
        usage = chunk.usage or usage
        if chunk.choices and chunk.choices[0].finish_reason:
            finish_reason = chunk.choices[0].finish_reason
            break
    return Completion("".join(parts), finish_reason, usage)


@collecting.mistake(
    "`choices[0]` of the usage chunk raises: its `choices` is an empty list. Ask first whether there are any."
)
async def no_guard_for_the_usage_chunk(stream: AsyncIterable[ChatCompletionChunk]) -> Completion:
    parts, finish_reason, usage = [], None, None
    async for chunk in stream:
        choice = chunk.choices[0]
        parts.append(choice.delta.content or "")
        finish_reason = choice.finish_reason or finish_reason
        usage = chunk.usage or usage
    return Completion("".join(parts), finish_reason, usage)


@collecting.mistake(
    "You keep only the last piece: `text = …` in the loop forgets what came before. Each delta adds to the text."
)
async def keeps_the_last_piece(stream: AsyncIterable[ChatCompletionChunk]) -> Completion:
    text, finish_reason, usage = "", None, None
    async for chunk in stream:
        text = delta_text(chunk) or text
        if chunk.choices:
            finish_reason = chunk.choices[0].finish_reason or finish_reason
        usage = chunk.usage or usage
    return Completion(text, finish_reason, usage)


@collecting.mistake(
    "There is a space between the pieces that the model did not write. Pieces bring their own spaces: join them "
    'with `""`.'
)
async def joins_with_spaces(stream: AsyncIterable[ChatCompletionChunk]) -> Completion:
    texts, finish_reason, usage = [], None, None
    async for chunk in stream:
        if text := delta_text(chunk):
            texts.append(text)
        if chunk.choices:
            finish_reason = chunk.choices[0].finish_reason or finish_reason
        usage = chunk.usage or usage
    return Completion(" ".join(texts), finish_reason, usage)


@collecting.mistake(
    "A later chunk without a usage wipes out the one you had. Replace what you remember only when the chunk brings it."
)
async def later_chunks_wipe_the_usage(stream: AsyncIterable[ChatCompletionChunk]) -> Completion:
    parts, finish_reason, usage = [], None, None
    async for chunk in stream:
        parts.append(delta_text(chunk))
        if chunk.choices:
            finish_reason = chunk.choices[0].finish_reason or finish_reason
        usage = chunk.usage
    return Completion("".join(parts), finish_reason, usage)


@collecting.mistake(
    "The connection broke and you return as if the answer were complete. Let the error through: the caller must know."
)
async def hides_a_broken_connection(stream: AsyncIterable[ChatCompletionChunk]) -> Completion:
    parts, finish_reason, usage = [], None, None
    try:
        async for chunk in stream:
            parts.append(delta_text(chunk))
            if chunk.choices:
                finish_reason = chunk.choices[0].finish_reason or finish_reason
            usage = chunk.usage or usage
    except Exception:
        pass
    return Completion("".join(parts), finish_reason, usage)


@collecting.mistake(
    "`for` cannot wait for the next chunk. A stream of the async client is read with `async for`."
)
async def for_without_async(stream: AsyncIterable[ChatCompletionChunk]) -> Completion:
    text = "".join(delta_text(chunk) for chunk in stream)  # type: ignore[attr-defined]
    return Completion(text, None, None)


@collecting.mistake(
    'The `content` of a chunk can be `None`, and `None` cannot be added to a text. `delta_text` gives `""` then.'
)
async def no_guard_for_content(stream: AsyncIterable[ChatCompletionChunk]) -> Completion:
    text, finish_reason, usage = "", None, None
    async for chunk in stream:
        if chunk.choices:
            text += chunk.choices[0].delta.content  # type: ignore[operator]
            finish_reason = chunk.choices[0].finish_reason or finish_reason
        usage = chunk.usage or usage
    return Completion(text, finish_reason, usage)


@collecting.mistake(
    "The usage chunk comes after the finish chunk and has no finish reason. It wipes out yours: replace what you "
    "remember only when the chunk brings it."
)
async def the_usage_chunk_wipes_the_finish_reason(stream: AsyncIterable[ChatCompletionChunk]) -> Completion:
    parts, finish_reason, usage = [], None, None
    async for chunk in stream:
        parts.append(delta_text(chunk))
        finish_reason = chunk.choices[0].finish_reason if chunk.choices else None
        usage = chunk.usage or usage
    return Completion("".join(parts), finish_reason, usage)


@collecting.mistake(
    "A later chunk without a finish reason wipes out the one you had. Replace what you remember only when the "
    "chunk brings it."
)
async def later_chunks_wipe_the_finish_reason(stream: AsyncIterable[ChatCompletionChunk]) -> Completion:
    parts, finish_reason, usage = [], None, None
    async for chunk in stream:
        parts.append(delta_text(chunk))
        if chunk.choices:
            finish_reason = chunk.choices[0].finish_reason
        usage = chunk.usage or usage
    return Completion("".join(parts), finish_reason, usage)


@collecting.mistake(
    "After the loop `chunk` is the last chunk, here the usage chunk, which has no choices. Take the finish reason in the "
    "loop, from the chunk that brings it."
)
async def looks_at_the_last_chunk(stream: AsyncIterable[ChatCompletionChunk]) -> Completion:
    parts = []
    async for chunk in stream:
        parts.append(delta_text(chunk))
    return Completion("".join(parts), chunk.choices[0].finish_reason, chunk.usage)


@collecting.mistake(
    "You stop as soon as the usage is there. Some servers send more after it, and the connection is free for the next "
    "request only when the stream is read to its end."
)
async def stops_at_the_usage(stream: AsyncIterable[ChatCompletionChunk]) -> Completion:
    parts, finish_reason, usage = [], None, None
    async for chunk in stream:
        parts.append(delta_text(chunk))
        if chunk.choices:
            finish_reason = chunk.choices[0].finish_reason or finish_reason
        if chunk.usage:
            usage = chunk.usage
            break
    return Completion("".join(parts), finish_reason, usage)


@collecting.mistake("`usage` is all that the server sent (`chunk.usage`), not one number out of it.")
async def keeps_one_number_of_the_usage(stream: AsyncIterable[ChatCompletionChunk]) -> Completion:
    parts, finish_reason, tokens = [], None, None
    async for chunk in stream:
        parts.append(delta_text(chunk))
        if chunk.choices:
            finish_reason = chunk.choices[0].finish_reason or finish_reason
        if chunk.usage:
            tokens = chunk.usage.completion_tokens
    return Completion("".join(parts), finish_reason, tokens)  # type: ignore[arg-type]


@collecting.mistake(
    "You keep the first usage. Some servers send the count so far with every chunk: only the last one is the whole."
)
async def keeps_the_first_usage(stream: AsyncIterable[ChatCompletionChunk]) -> Completion:
    parts, finish_reason, usage = [], None, None
    async for chunk in stream:
        parts.append(delta_text(chunk))
        if chunk.choices:
            finish_reason = chunk.choices[0].finish_reason or finish_reason
        usage = usage or chunk.usage
    return Completion("".join(parts), finish_reason, usage)


# stop_at


async def stop_at(stream: AsyncGenerator[str, None], marker: str) -> str:
    """The text before the first marker; stops reading there and closes the stream.

    >>> await stop_at(pieces("Hello", " world #", "## and mo", "re"), "###")
    'Hello world '
    """
    async with aclosing(stream):
        text = ""
        async for piece in stream:
            text += piece
            before, found, _ = text.partition(marker)
            if found:
                return before
        return text


stopping = Exercise(
    stop_at,
    cases=[
        Case(
            Source(["Hello", " world ", "###", " more", " text"]),
            "###",
            note="the marker is a piece of its own",
        ),
        Case(
            Source(["Hello", " world ### more", " text"]), "###", note="text before and after it in one piece"
        ),
        Case(
            Source(["Hello", " world #", "## and mo", "re"]),
            "###",
            note="the marker is split over two pieces",
        ),
        Case(Source(["a", "#", "#", "#", "b", "c"]), "###", note="the marker is split over three pieces"),
        Case(Source(["#", " Title\n", "#", "# Part", "\n", "##", "#", "x"]), "###", note="false starts"),
        Case(Source(["no", " marker", " here"]), "###", note="no marker"),
        Case(Source(["ends with a start #", "#"]), "###", note="the beginning of a marker at the very end"),
        Case(Source(["###", "x", "y"]), "###", note="the marker comes first"),
        Case(Source(["one STOP two STOP three", "four"]), "STOP", note="two markers in one piece"),
        Case(Source(["", "a", "", "EN", "", "D", "b"]), "END", note="empty pieces"),
        Case(Source([]), "###", note="nothing at all"),
        Case(
            Source(["Hello", " wor"], error=ConnectionError("the connection broke")),
            "###",
            note="the connection breaks",
        ),
    ],
    hints=(
        "Look for the marker in what you have read so far, not in the piece that has just come.",
        "Keep the text, add each piece to it, then look whether the marker is in it. `str.partition` or `str.find` "
        "tells you where. When you leave the loop early, who closes the stream?",
        "`async with aclosing(stream):` around the loop; inside, `text += piece`, and "
        "`if marker in text: return text[:text.index(marker)]`. After the loop, return the text.",
    ),
)


@stopping.right
async def with_finally(stream: AsyncGenerator[str, None], marker: str) -> str:
    parts: list[str] = []
    try:
        async for piece in stream:
            parts.append(piece)
            at = "".join(parts).find(marker)
            if at >= 0:
                return "".join(parts)[:at]
    finally:
        await stream.aclose()
    return "".join(parts)


@stopping.right
async def looking_back_only_as_far_as_needed(stream: AsyncGenerator[str, None], marker: str) -> str:
    text = ""
    async with aclosing(stream) as pieces:
        async for piece in pieces:
            start = max(0, len(text) - len(marker) + 1)
            text += piece
            at = text.find(marker, start)
            if at != -1:
                text = text[:at]
                break
    return text


@stopping.right
async def character_by_character(stream: AsyncGenerator[str, None], marker: str) -> str:
    text = ""
    async with aclosing(stream):
        async for piece in stream:
            for character in piece:
                text += character
                if text.endswith(marker):
                    return text.removesuffix(marker)
    return text


@stopping.mistake(
    "You look for the marker in each piece by itself. Split over two pieces it is in neither of them: look in the "
    "text so far."
)
async def looks_in_each_piece(stream: AsyncGenerator[str, None], marker: str) -> str:
    text = ""
    async with aclosing(stream):
        async for piece in stream:
            if marker in piece:
                return text + piece.partition(marker)[0]
            text += piece
    return text


@stopping.mistake(
    "The marker is still in your text. It is a sign for the program: return what stands before it."
)
async def keeps_the_marker(stream: AsyncGenerator[str, None], marker: str) -> str:
    text = ""
    async with aclosing(stream):
        async for piece in stream:
            text += piece
            if marker in text:
                return text[: text.index(marker) + len(marker)]
    return text


@stopping.mistake(
    "Your text goes on after the marker: you return all that was read. Cut it where the marker begins."
)
async def keeps_the_rest_of_the_piece(stream: AsyncGenerator[str, None], marker: str) -> str:
    text = ""
    async with aclosing(stream):
        async for piece in stream:
            text += piece
            if marker in text:
                break
    return text


@stopping.mistake(
    "You read to the end and cut afterwards. The text is right, but the model went on writing, and you paid for it: "
    "leave the loop as soon as the marker is complete."
)
async def reads_to_the_end(stream: AsyncGenerator[str, None], marker: str) -> str:
    async with aclosing(stream):
        text = "".join([piece async for piece in stream])
    return text.partition(marker)[0]


@stopping.mistake(
    "You stop reading, and the stream stays open: `break` and `return` leave a loop, they do not close what it reads. "
    "Put the loop in `async with aclosing(stream):`."
)
async def leaves_the_stream_open(stream: AsyncGenerator[str, None], marker: str) -> str:
    text = ""
    async for piece in stream:
        text += piece
        if marker in text:
            return text.partition(marker)[0]
    return text


@stopping.mistake(
    "The text that stands before the marker in the same piece is lost. Add the piece first, then cut."
)
async def drops_the_piece_with_the_marker(stream: AsyncGenerator[str, None], marker: str) -> str:
    text = ""
    async with aclosing(stream):
        async for piece in stream:
            if marker in text + piece:
                return text.partition(marker)[0]
            text += piece
    return text


@stopping.mistake(
    "You ask whether the text ends with the marker. A piece may bring more after it: look for the marker anywhere "
    "in the text so far."
)
async def looks_only_at_the_end(stream: AsyncGenerator[str, None], marker: str) -> str:
    text = ""
    async with aclosing(stream):
        async for piece in stream:
            text += piece
            if text.endswith(marker):
                break
    return text.partition(marker)[0]


@stopping.mistake(
    "`find` gives -1 when there is no marker, and `text[:-1]` drops the last character. Cut only where a marker was found."
)
async def cuts_at_minus_one(stream: AsyncGenerator[str, None], marker: str) -> str:
    text = ""
    async with aclosing(stream):
        async for piece in stream:
            text += piece
            if marker in text:
                break
    return text[: text.find(marker)]


@stopping.mistake("You cut at the last marker in the text. The first one ends the answer.")
async def cuts_at_the_last_marker(stream: AsyncGenerator[str, None], marker: str) -> str:
    text = ""
    async with aclosing(stream):
        async for piece in stream:
            text += piece
            if marker in text:
                return text.rpartition(marker)[0]
    return text


@stopping.mistake("You strip the text. The spaces before the marker belong to the answer.")
async def strips_the_text(stream: AsyncGenerator[str, None], marker: str) -> str:
    text = ""
    async with aclosing(stream):
        async for piece in stream:
            text += piece
            if marker in text:
                return text.partition(marker)[0].strip()
    return text.strip()


@stopping.mistake(
    "All of it is asynchronous: `async for piece in stream`, and around it `async with aclosing(stream):`. A stream of "
    "text is no context manager itself; `aclosing` makes one of it."
)
async def without_async_or_aclosing(stream: AsyncGenerator[str, None], marker: str) -> str:
    async with stream as pieces:  # type: ignore[attr-defined]
        return "".join([piece async for piece in pieces]).partition(marker)[0]


# merge_tool_calls


def merge_tool_calls(chunks: Iterable[ChatCompletionChunk]) -> list[ToolCall]:
    """The tool calls of a stream, put together from their fragments, in the order of their index.

    >>> merge_tool_calls([tool_chunk((0, "call_1", "now", "")), tool_chunk((0, None, None, "{}"))])
    [ToolCall(id='call_1', name='now', arguments='{}')]
    """
    calls: dict[int, dict[str, str]] = {}
    for chunk in chunks:
        for choice in chunk.choices:
            for fragment in choice.delta.tool_calls or []:
                call = calls.setdefault(fragment.index, {"id": "", "name": "", "arguments": ""})
                call["id"] = fragment.id or call["id"]
                if fragment.function:
                    call["name"] = fragment.function.name or call["name"]
                    call["arguments"] += fragment.function.arguments or ""
    return [ToolCall(**call) for _, call in sorted(calls.items())]


TOOLS_DONE = chunk({}, "tool_calls")

merging = Exercise(
    merge_tool_calls,
    cases=[
        Case(
            [
                ROLE_WITHOUT_CONTENT,
                tool_chunk((0, "call_1", "get_weather", "")),
                tool_chunk((0, None, None, '{"city": ')),
                tool_chunk((0, None, None, '"Lisbon"}')),
                TOOLS_DONE,
                usage_chunk(9),
            ],
            note="one call in three fragments",
        ),
        Case(
            [
                tool_chunk((0, "call_1", "get_weather", '{"city": ')),
                tool_chunk((1, "call_2", "get_time", '{"zone": ')),
                tool_chunk((0, None, None, '"Oslo"}')),
                tool_chunk((1, None, None, '"CET"}')),
                TOOLS_DONE,
            ],
            note="two calls whose fragments alternate",
        ),
        Case(
            [
                tool_chunk((1, "call_b", "get_time", '{"zone": "CET"}')),
                tool_chunk((0, "call_a", "get_weather", '{"city": "Oslo"}')),
                TOOLS_DONE,
            ],
            note="the call with index 1 comes first",
        ),
        Case(
            [
                tool_chunk((0, "call_1", "get_weather", None), (1, "call_2", "get_time", None)),
                tool_chunk((0, None, None, "{}"), (1, None, None, "{}")),
                TOOLS_DONE,
            ],
            note="two fragments in one chunk, and arguments that begin as None",
        ),
        Case(
            [
                tool_chunk((0, "call_1", "get_weather", '{"city": ')),
                tool_chunk((0, "call_1", "get_weather", '"Oslo"}')),
                TOOLS_DONE,
            ],
            note="a server that sends id and name again with every fragment",
        ),
        Case(
            [ROLE, text_chunk("No tool"), text_chunk(" needed."), STOP, usage_chunk(4)], note="text, no call"
        ),
        Case([], note="no chunks"),
    ],
    hints=(
        "Which field of a fragment says to which call it belongs? Only one of them is in every fragment.",
        "Keep a dictionary from `index` to the call so far. Its id and name come whole, its arguments piece by piece.",
        "`for fragment in chunk.choices[0].delta.tool_calls or []:` (after asking whether there are choices), then "
        '`call["arguments"] += fragment.function.arguments or ""`. Sort by index at the end.',
    ),
    show=show,
)


@merging.right
def with_default_dicts(chunks: Iterable[ChatCompletionChunk]) -> list[ToolCall]:
    ids: dict[int, str] = {}
    names: dict[int, str] = {}
    arguments: defaultdict[int, list[str]] = defaultdict(list)
    for chunk in chunks:
        if not chunk.choices:
            continue
        for fragment in chunk.choices[0].delta.tool_calls or ():
            assert fragment.function is not None
            if fragment.id:
                ids[fragment.index] = fragment.id
            if fragment.function.name:
                names[fragment.index] = fragment.function.name
            arguments[fragment.index].append(fragment.function.arguments or "")
    return [ToolCall(ids[i], names[i], "".join(arguments[i])) for i in sorted(arguments)]


@merging.right
def replacing_values(chunks: Iterable[ChatCompletionChunk]) -> list[ToolCall]:
    calls: dict[int, ToolCall] = {}
    fragments = [
        fragment for chunk in chunks for choice in chunk.choices for fragment in choice.delta.tool_calls or []
    ]
    for fragment in fragments:
        function = fragment.function
        assert function is not None
        old = calls.get(fragment.index, ToolCall("", "", ""))
        calls[fragment.index] = ToolCall(
            old.id or fragment.id or "",
            old.name or function.name or "",
            old.arguments + (function.arguments or ""),
        )
    return [calls[index] for index in sorted(calls)]


@merging.right
def grouped_at_the_end(chunks: Iterable[ChatCompletionChunk]) -> list[ToolCall]:
    fragments = []
    for chunk in chunks:
        if chunk.choices and chunk.choices[0].delta.tool_calls:
            fragments.extend(chunk.choices[0].delta.tool_calls)
    result = []
    for index in sorted({fragment.index for fragment in fragments}):
        mine = [fragment for fragment in fragments if fragment.index == index]
        functions = [fragment.function for fragment in mine if fragment.function]
        result.append(
            ToolCall(
                id=next(fragment.id for fragment in mine if fragment.id),
                name=next(function.name for function in functions if function.name),
                arguments="".join(function.arguments or "" for function in functions),
            )
        )
    return result


@merging.mistake(
    "You tell calls apart by their `id`, and only a call's first fragment has one: the others come with `id=None`. "
    "What do all fragments of a call share?"
)
def by_id(chunks: Iterable[ChatCompletionChunk]) -> list[ToolCall]:
    calls: dict[str | None, list[str]] = {}
    for chunk in chunks:
        for choice in chunk.choices:
            for fragment in choice.delta.tool_calls or []:
                assert fragment.function is not None
                call = calls.setdefault(fragment.id, [fragment.function.name or "", ""])
                call[1] += fragment.function.arguments or ""
    return [ToolCall(id or "", name, arguments) for id, (name, arguments) in calls.items()]


@merging.mistake(
    "Two calls became one: their fragments come mixed. Keep one set of arguments for each `index`."
)
def all_in_one(chunks: Iterable[ChatCompletionChunk]) -> list[ToolCall]:
    id = name = arguments = ""
    for chunk in chunks:
        for choice in chunk.choices:
            for fragment in choice.delta.tool_calls or []:
                assert fragment.function is not None
                id = id or fragment.id or ""
                name = name or fragment.function.name or ""
                arguments += fragment.function.arguments or ""
    return [ToolCall(id, name, arguments)] if id else []


@merging.mistake(
    "Each fragment replaces the arguments that came before it, so only the last one is left. Add them up."
)
def last_fragment_wins(chunks: Iterable[ChatCompletionChunk]) -> list[ToolCall]:
    calls: dict[int, dict[str, str]] = {}
    for chunk in chunks:
        for choice in chunk.choices:
            for fragment in choice.delta.tool_calls or []:
                assert fragment.function is not None
                call = calls.setdefault(fragment.index, {"id": "", "name": "", "arguments": ""})
                call["id"] = fragment.id or call["id"]
                call["name"] = fragment.function.name or call["name"]
                call["arguments"] = fragment.function.arguments or ""
    return [ToolCall(**calls[index]) for index in sorted(calls)]


@merging.mistake(
    "The name came twice, and you joined the two. A name is not sent in pieces: take it as it is. Only the arguments add up."
)
def adds_up_the_names(chunks: Iterable[ChatCompletionChunk]) -> list[ToolCall]:
    calls: dict[int, dict[str, str]] = {}
    for chunk in chunks:
        for choice in chunk.choices:
            for fragment in choice.delta.tool_calls or []:
                assert fragment.function is not None
                call = calls.setdefault(fragment.index, {"id": "", "name": "", "arguments": ""})
                call["id"] = fragment.id or call["id"]
                call["name"] += fragment.function.name or ""
                call["arguments"] += fragment.function.arguments or ""
    return [ToolCall(**calls[index]) for index in sorted(calls)]


@merging.mistake("The usage chunk has no choices: `chunk.choices[0]` raises there. Ask first.")
def no_guard_for_the_last_chunk(chunks: Iterable[ChatCompletionChunk]) -> list[ToolCall]:
    return merge_tool_calls([chunk for chunk in chunks if chunk.choices[0]])


@merging.mistake(
    "You parse each fragment as JSON, and a fragment of JSON is not JSON. Join them first; the exercise asks for the "
    "joined text."
)
def parses_fragments(chunks: Iterable[ChatCompletionChunk]) -> list[ToolCall]:
    calls: dict[int, dict[str, object]] = {}
    for chunk in chunks:
        for choice in chunk.choices:
            for fragment in choice.delta.tool_calls or []:
                assert fragment.function is not None
                call = calls.setdefault(fragment.index, {"id": "", "name": "", "arguments": {}})
                call["id"] = fragment.id or call["id"]
                call["name"] = fragment.function.name or call["name"]
                if fragment.function.arguments:
                    call["arguments"] = json.loads(fragment.function.arguments)
    return [ToolCall(**calls[index]) for index in sorted(calls)]  # type: ignore[arg-type]


@merging.mistake(
    "Your calls are in the order in which they came. The model numbers them: return them in the order of `index`."
)
def in_order_of_arrival(chunks: Iterable[ChatCompletionChunk]) -> list[ToolCall]:
    first_seen: list[int] = []
    kept = list(chunks)
    for chunk in kept:
        for choice in chunk.choices:
            first_seen += [fragment.index for fragment in choice.delta.tool_calls or []]
    calls = merge_tool_calls(kept)
    return [calls[index] for index in dict.fromkeys(first_seen)]


@merging.mistake(
    "`arguments` can be `None`, in a call's first fragment for example, and `None` cannot be added to a string."
)
def no_guard_for_none(chunks: Iterable[ChatCompletionChunk]) -> list[ToolCall]:
    calls: dict[int, dict[str, str]] = {}
    for chunk in chunks:
        for choice in chunk.choices:
            for fragment in choice.delta.tool_calls or []:
                assert fragment.function is not None
                call = calls.setdefault(fragment.index, {"id": "", "name": "", "arguments": ""})
                call["id"] = fragment.id or call["id"]
                call["name"] = fragment.function.name or call["name"]
                call["arguments"] += fragment.function.arguments  # type: ignore[operator]
    return [ToolCall(**calls[index]) for index in sorted(calls)]


@merging.mistake(
    "If it is a `None` that it cannot loop over: `delta.tool_calls` is `None` in a chunk without a call. Ask first, or "
    "write `or []` behind it."
)
def no_guard_for_chunks_without_calls(chunks: Iterable[ChatCompletionChunk]) -> list[ToolCall]:
    kept = [chunk for chunk in chunks if chunk.choices]
    return merge_tool_calls([chunk for chunk in kept for _ in chunk.choices[0].delta.tool_calls])  # type: ignore[union-attr]


@merging.mistake(
    "A `ToolCall` cannot be changed once it is made. Keep the parts of each call in a list or a dictionary, and make "
    "the `ToolCall` when all of them are there."
)
def changes_a_tool_call(chunks: Iterable[ChatCompletionChunk]) -> list[ToolCall]:
    calls: dict[int, ToolCall] = {}
    for chunk in chunks:
        for choice in chunk.choices:
            for fragment in choice.delta.tool_calls or []:
                assert fragment.function is not None
                first = ToolCall(fragment.id or "", fragment.function.name or "", "")
                call = calls.setdefault(fragment.index, first)
                call.arguments += fragment.function.arguments or ""  # type: ignore[misc]
    return [calls[index] for index in sorted(calls)]


@merging.mistake(
    "You add each fragment to the call that began last. The fragments of two calls can come mixed: `index` says to "
    "which call a fragment belongs."
)
def adds_to_the_newest_call(chunks: Iterable[ChatCompletionChunk]) -> list[ToolCall]:
    calls: list[list[str]] = []
    for chunk in chunks:
        for choice in chunk.choices:
            for fragment in choice.delta.tool_calls or []:
                assert fragment.function is not None
                if fragment.id:
                    calls.append([fragment.id, fragment.function.name or "", ""])
                calls[-1][2] += fragment.function.arguments or ""
    return [ToolCall(*call) for call in calls]


@merging.mistake(
    "One chunk can bring fragments of several calls, and you take only the first of them. `tool_calls` is a list: loop "
    "over it."
)
def first_fragment_of_a_chunk(chunks: Iterable[ChatCompletionChunk]) -> list[ToolCall]:
    calls: dict[int, list[str]] = {}
    for chunk in chunks:
        for choice in chunk.choices:
            for fragment in (choice.delta.tool_calls or [])[:1]:
                assert fragment.function is not None
                call = calls.setdefault(fragment.index, [fragment.id or "", fragment.function.name or "", ""])
                call[2] += fragment.function.arguments or ""
    return [ToolCall(*calls[index]) for index in sorted(calls)]


@merging.mistake(
    "`arguments` stays text here: the pieces of JSON, joined. Whoever runs the function parses it, and answers for JSON "
    "that is broken."
)
def parses_at_the_end(chunks: Iterable[ChatCompletionChunk]) -> list[ToolCall]:
    calls = merge_tool_calls(chunks)
    return [ToolCall(call.id, call.name, json.loads(call.arguments)) for call in calls]
