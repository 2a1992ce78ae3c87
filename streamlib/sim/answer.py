"""From what is asked to the whole answer, cut into tokens: text, thoughts, tool calls or JSON (lessons 2
and 4)."""

from __future__ import annotations

import json
from zlib import crc32

from . import structured, text
from .model import MAX_PROMPT_TOKENS, Answer, ApiError, Ask, Finish, Part
from .tokens import count_tokens, split_tokens

# What a chat template adds: a few marker tokens around each message, and the opening of the answer.
TOKENS_PER_MESSAGE = 4
TOKENS_PER_PROMPT = 3


def seed_of(ask: Ask) -> int:
    """The seed of a request that brings none: the same question gives the same one, streamed or not."""
    return crc32(repr((ask.messages, ask.tools, ask.json, ask.schema)).encode("utf-8", "surrogatepass"))


def make_answer(ask: Ask, *, thinks: bool = False) -> Answer:
    """The answer to ``ask``; ``thinks`` puts reasoning before it. ``max_tokens`` bounds both together.

    A prompt that is too long, or a schema that is none, is an ``ApiError``.
    """
    prompt_tokens = count_prompt(ask)
    if prompt_tokens > MAX_PROMPT_TOKENS:
        raise ApiError(
            400,
            f"This model reads at most {MAX_PROMPT_TOKENS} tokens, and the messages are {prompt_tokens}: "
            "shorten them, or send them in parts.",
            param="messages",
            code="context_length_exceeded",
        )
    parts: list[Part] = []
    stopped_by = None
    if thinks or ask.thinks:
        asked = [message.text for message in ask.messages if message.role == "user"]
        parts.append(Part("reasoning", tuple(split_tokens(text.think(asked[-1] if asked else "")))))
    calls = structured.choose_calls(ask)
    if calls:
        parts += [Part("tool", tuple(split_tokens(call.arguments)), call) for call in calls]
    else:
        said = structured.reply(ask) if ask.json else text.reply(ask.messages, ask.seed)
        said, stopped_by = cut_at_stop(said, ask.stop)
        parts.append(Part("text", tuple(split_tokens(said))))
    kept = limit(parts, ask.max_tokens)
    finish: Finish = "length" if kept != parts else "tool_calls" if calls else "stop"
    return Answer(tuple(kept), finish, prompt_tokens, stopped_by if finish == "stop" else None)


def cut_at_stop(said: str, stop: tuple[str, ...]) -> tuple[str, str | None]:
    """``said`` up to the first of the stop sequences, which is not part of the answer, and which it was."""
    ends = [(at, mark) for mark in stop if (at := said.find(mark)) >= 0]
    if not ends:
        return said, None
    at, mark = min(ends)
    return said[:at], mark


def limit(parts: list[Part], room: int) -> list[Part]:
    """The first ``room`` tokens of the parts."""
    kept = []
    for part in parts:
        if room <= 0:
            break
        kept.append(Part(part.kind, part.tokens[:room], part.tool))
        room -= len(part.tokens)
    return kept


def count_prompt(ask: Ask) -> int:
    """Tokens of the prompt: the messages, their markers, and the tools' descriptions."""
    messages = sum(TOKENS_PER_MESSAGE + count_tokens(message.text) for message in ask.messages)
    tools = sum(
        count_tokens(tool.name + tool.description + json.dumps(tool.parameters)) for tool in ask.tools
    )
    return TOKENS_PER_PROMPT + messages + tools
