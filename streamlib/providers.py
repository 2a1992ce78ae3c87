"""OpenAI, Anthropic, Google: three kinds of events in, the same stream of text out. Lesson 9.

    events = await AsyncAnthropic().messages.create(…, stream=True)
    async with text_deltas(events, "anthropic") as stream:
        async for text in stream:
            print(text, end="", flush=True)
    print(stream.finish_reason, stream.output_tokens)

The providers differ in what they call things, not in what they say: here is text, this is why it ended,
that is what it cost. So there is one small function for each provider, from an event to a `Piece`, and one
loop for all. No client is imported: an event is what has the right attributes.

The loop makes the two promises of lesson 2 for everybody. Whoever leaves the ``async with`` closes the
connection. And half an answer is never taken for a whole one: without a word about why it ended, a stream
that ends is `StreamTruncated`, which the official clients do not tell.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from .chat import BadAnswer, StreamError, StreamTruncated
from .closing import Chain, closing

__all__ = ["PROVIDERS", "Piece", "TextDeltas", "anthropic", "google", "openai", "responses", "text_deltas"]


@dataclass(frozen=True, slots=True)
class Piece:
    """What one event says, in nobody's format. Most events say one of these, some say nothing."""

    text: str = ""
    finish_reason: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    error: str | None = None


# --- one function for each provider -----------------------------------------------------------------


def openai(chunk: Any) -> Piece:
    """A chunk of ``chat.completions.create(stream=True)``, as every OpenAI-compatible server sends it.

    https://platform.openai.com/docs/api-reference/chat-streaming
    """
    usage = chunk.usage
    counts = (usage.prompt_tokens, usage.completion_tokens) if usage else (None, None)
    first = next((choice for choice in chunk.choices if choice.index == 0), None)
    if first is None:
        return Piece("", None, *counts)  # the usage chunk has no choices
    reason = first.finish_reason or None  # some servers send "" in every chunk
    return Piece(first.delta.content or "", reason, *counts)


def responses(event: Any) -> Piece:
    """An event of OpenAI's ``responses.create(stream=True)``. Its errors are events like the others.

    https://platform.openai.com/docs/api-reference/responses-streaming
    """
    match event.type:
        case "response.output_text.delta":
            return Piece(event.delta)
        case "response.completed" | "response.incomplete":
            response = event.response
            why = response.incomplete_details.reason if response.incomplete_details else response.status
            return Piece("", why, response.usage.input_tokens, response.usage.output_tokens)
        case "response.failed":
            return Piece(error=event.response.error.message)
        case "error":
            return Piece(error=event.message)
    return Piece()


def anthropic(event: Any) -> Piece:
    """An event of ``messages.create(stream=True)``, or of ``messages.stream()``.

    https://platform.claude.com/docs/en/build-with-claude/streaming
    """
    match event.type:
        case "message_start":
            return Piece(input_tokens=event.message.usage.input_tokens)
        case "content_block_delta" if event.delta.type == "text_delta":
            return Piece(event.delta.text)
        case "message_delta":
            return Piece("", event.delta.stop_reason, None, event.usage.output_tokens)
    return Piece()


def google(chunk: Any) -> Piece:
    """A chunk of ``generate_content_stream``. Thoughts are not part of the answer; their tokens count.

    https://ai.google.dev/api/generate-content
    """
    usage = chunk.usage_metadata
    spent = (usage.candidates_token_count or 0) + (usage.thoughts_token_count or 0) if usage else None
    counts = (usage.prompt_token_count if usage else None, spent)
    if not chunk.candidates:
        blocked = chunk.prompt_feedback and chunk.prompt_feedback.block_reason
        return Piece(
            "", None, *counts, error=f"the prompt was blocked ({_name(blocked)})" if blocked else None
        )
    first = chunk.candidates[0]
    parts = first.content.parts if first.content else None
    text = "".join(part.text for part in parts or () if part.text and not part.thought)
    return Piece(text, _name(first.finish_reason), *counts)


def _name(value: Any) -> str | None:
    """The word of an enum's member; of a plain string, itself; None of nothing."""
    return str(getattr(value, "value", value)) if value else None


PROVIDERS: dict[str, Callable[[Any], Piece]] = {
    "openai": openai,
    "responses": responses,
    "anthropic": anthropic,
    "google": google,
}


# --- one loop for all --------------------------------------------------------------------------------


def text_deltas(events: AsyncIterable[Any], provider: str) -> TextDeltas:
    """The text of an answer, piece by piece, whoever sends it.

    events: what the asynchronous client gives for ``await client.chat.completions.create(stream=True, …)``,
        ``responses.create``, ``messages.create`` or ``client.aio.models.generate_content_stream(…)``.
    provider: one of `PROVIDERS`.

    Raises `StreamTruncated` when the events end before the answer is whole, `StreamError` when an event
    reports an error, `BadAnswer` when they are events of another provider; each carries the text so far in
    ``text``. What the client itself raises comes through unchanged. A provider that is none is a ValueError,
    something that cannot be read with ``async for`` a TypeError.
    """
    if provider not in PROVIDERS:
        raise ValueError(f"there is no provider {provider!r}: it is one of {', '.join(PROVIDERS)}")
    if not isinstance(events, AsyncIterable):
        mend = (
            "await the call that gives them"
            if hasattr(events, "__await__")
            else "use the asynchronous client"
        )
        raise TypeError(f"events cannot be read with `async for`, they are {type(events).__name__}: {mend}")
    return TextDeltas(events, provider)


class TextDeltas(Chain[str]):
    """What `text_deltas` returns: read it inside ``async with``, then look at what it knows.

    text: the answer so far. finish_reason: why it ended, in the provider's own word (``"stop"``,
    ``"end_turn"``, ``"MAX_TOKENS"``), None while it has not. input_tokens, output_tokens: the provider's own
    counts, None where none came.
    """

    __slots__ = ("_last", "_said")

    def __init__(self, events: AsyncIterable[Any], provider: str) -> None:
        self._said: list[str] = []
        self._last: dict[str, Any] = {}
        events = _Google(events) if provider == "google" else events
        super().__init__(_read(events, provider, self._said, self._last), events)

    @property
    def text(self) -> str:
        return "".join(self._said)

    @property
    def finish_reason(self) -> str | None:
        return self._last.get("finish_reason")

    @property
    def input_tokens(self) -> int | None:
        return self._last.get("input_tokens")

    @property
    def output_tokens(self) -> int | None:
        return self._last.get("output_tokens")

    def __repr__(self) -> str:
        return f"<TextDeltas: {len(self.text)} characters, finish_reason={self.finish_reason!r}>"


async def _read(
    events: AsyncIterable[Any], provider: str, said: list[str], last: dict[str, Any]
) -> AsyncIterator[str]:
    """The texts of the events; notes them in ``said``, and the latest of everything else in ``last``."""
    async with closing(events) as items:
        async for event in items:
            try:
                piece = PROVIDERS[provider](event)
            except AttributeError as problem:
                raise BadAnswer(
                    f"{type(event).__name__} is no event of provider {provider!r} ({problem})",
                    text="".join(said),
                ) from problem
            for name in ("finish_reason", "input_tokens", "output_tokens"):
                if (value := getattr(piece, name)) is not None:
                    last[name] = value
            if piece.error is not None:
                raise StreamError(f"the server reported an error: {piece.error}", text="".join(said))
            if piece.text:
                said.append(piece.text)
                yield piece.text
    if "finish_reason" not in last:
        text = "".join(said)
        raise StreamTruncated(
            f"the events of {provider!r} ended, and none said why; .text has the {len(text)} characters",
            text=text,
        )


class _Google(AsyncIterator[Any]):
    """A stream of Google's client that can be closed: the next read is begun, and cancelled.

    Its generators do not close one another, so ``aclose()`` on the outermost leaves the connection open and
    the model at work until the garbage collector comes by. A cancelled read goes through all of them.
    """

    def __init__(self, chunks: AsyncIterable[Any]) -> None:
        self._chunks = aiter(chunks)

    def __anext__(self) -> Awaitable[Any]:
        return anext(self._chunks)

    async def aclose(self) -> None:
        while True:
            step = asyncio.ensure_future(anext(self._chunks, None))
            await asyncio.sleep(0)  # it takes what has arrived, or waits for the network
            step.cancel()
            await asyncio.wait([step])
            if step.cancelled() or step.exception() or step.result() is None:
                return
