"""The wire of OpenAI's Responses: request JSON -> ``Ask``, ``Answer`` -> typed events or one body (lesson 2).

https://developers.openai.com/api/reference/resources/responses: every event names its ``type``, carries a
``sequence_number``, and the last one holds the whole response. Input is text; of what was answered nothing
is kept but what is made in the ``background``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import count, groupby
from typing import Any

from ..sse import encode
from . import chat
from .chat import bad_key as bad_key
from .chat import error_body as error_body
from .chat import headers as headers
from .chat import key_of as key_of
from .chat import model_list as model_list
from .chat import models as models
from .model import Answer, ApiError, Ask, Frame, Labels, Part, Piece, Request

ID_PREFIX = "resp_"
ERROR_EVENT = encode(
    json.dumps(
        {
            "type": "error",
            "code": "server_error",
            "message": "The server had an error while it was answering (simulated).",
            "param": None,
            "sequence_number": 0,
        }
    ),
    event="error",
)


# --- request --------------------------------------------------------------------------------------


def parse(request: Request) -> Ask:
    """The request body as an ``Ask``: it is what chat completions ask under other names, and read so."""
    data = chat.load(request.body)
    for name in ("previous_response_id", "conversation"):
        if data.get(name):
            raise ApiError(
                400, "This server stores no conversations: send the whole one as input.", param=name
            )
    background = bool(data.get("background"))
    if background and data.get("store") is False:
        raise ApiError(400, "background=True needs store=True: what is not kept is lost.", param="store")
    messages = [{"role": "developer", "content": data["instructions"]}] if data.get("instructions") else []
    tools = data.get("tools") or []
    if not isinstance(tools, list):
        raise ApiError(400, "tools is a list.", param="tools")
    given = data.get("input")
    if not isinstance(given, (str, list)) or not given:
        raise ApiError(400, "input is missing: a string, or a list of messages.", param="input")
    messages += [{"role": "user", "content": given}] if isinstance(given, str) else map(_message, given)
    translated = {
        "model": data.get("model"),
        "messages": messages,
        "stream": data.get("stream"),
        "max_tokens": data.get("max_output_tokens"),
        "tools": [{"type": "function", "function": tool} for tool in tools] or None,
        "parallel_tool_calls": data.get("parallel_tool_calls"),
        "tool_choice": _tool_choice(data.get("tool_choice")),
        "response_format": _format(data.get("text")),
    }
    ask = chat.read({name: value for name, value in translated.items() if value is not None})
    return replace(ask, background=background)


def _message(item: Any) -> Any:
    """An item of the input as a chat message; calls and their results are read as text."""
    if isinstance(item, dict) and item.get("type") == "function_call_output":
        return {"role": "tool", "content": str(item.get("output"))}
    if isinstance(item, dict) and item.get("type") in ("function_call", "reasoning"):
        return {"role": "assistant", "content": json.dumps(item, ensure_ascii=False)}
    return item


def _tool_choice(given: Any) -> Any:
    return {"function": {"name": given.get("name")}} if isinstance(given, dict) else given


def _format(text: Any) -> dict[str, Any] | None:
    given = text.get("format") if isinstance(text, dict) else None
    if isinstance(given, dict) and given.get("type") == "json_schema":
        return {"type": "json_schema", "json_schema": given}
    return given


# --- answer ---------------------------------------------------------------------------------------


def stream(
    ask: Ask, answer: Answer, pieces: Iterable[Piece], labels: Labels, role_at: float
) -> Iterator[Frame]:
    """The answer as typed events: the response begins, each item of its output grows, it is complete."""
    numbers = count()

    def event(at: float, kind: str, tokens: int = 0, **fields: Any) -> Frame:
        data = {"type": kind, "sequence_number": next(numbers), **fields}
        return Frame(at, encode(json.dumps(data, ensure_ascii=False), event=kind), made=tokens, sent=tokens)

    for status in ("queued", "in_progress") if ask.background else ("in_progress",):
        begun = response(answer, labels, status, background=ask.background)
        if status == "queued" or not ask.background:
            yield event(role_at, "response.created", response=begun)
        yield event(role_at, f"response.{status}", response=begun)
    at = role_at
    for index, group in groupby(pieces, key=lambda piece: piece.part):
        part = answer.parts[index]
        place = {"item_id": _item_id(labels, index), "output_index": index}
        kind, inner = _KINDS[part.kind], _INNER[part.kind]
        opened = False
        for piece in group:
            at = piece.at
            if not opened:
                opened = True
                yield event(
                    at, "response.output_item.added", output_index=index, item=_item(labels, index, part, "")
                )
                if inner:
                    yield event(at, f"{inner}.added", **place, **_AT[part.kind], part=_inner(part, ""))
            text = "".join(piece.tokens)
            extra: dict[str, Any] = {"logprobs": []} if part.kind == "text" else {}
            yield event(
                at, f"{kind}.delta", len(piece.tokens), **place, **_AT[part.kind], delta=text, **extra
            )
        if part.kind == "text":
            yield event(at, f"{kind}.done", **place, **_AT["text"], text=part.text, logprobs=[])
        elif part.tool:
            yield event(at, f"{kind}.done", **place, name=part.tool.name, arguments=part.text)
        else:
            yield event(at, f"{kind}.done", **place, **_AT["reasoning"], text=part.text)
        if inner:
            yield event(at, f"{inner}.done", **place, **_AT[part.kind], part=_inner(part, part.text))
        whole = _item(labels, index, part, part.text)
        yield event(at, "response.output_item.done", output_index=index, item=whole)
    status = _ended(answer)
    ended = response(answer, labels, status, background=ask.background)
    yield event(at, f"response.{status}", response=ended)


def body(answer: Answer, labels: Labels) -> bytes:
    """The answer of a blocking call."""
    return json.dumps(response(answer, labels, _ended(answer)), ensure_ascii=False).encode()


_KINDS = {
    "text": "response.output_text",
    "reasoning": "response.reasoning_summary_text",
    "tool": "response.function_call_arguments",
}
_INNER = {"text": "response.content_part", "reasoning": "response.reasoning_summary_part", "tool": ""}
_AT: dict[str, dict[str, int]] = {"text": {"content_index": 0}, "reasoning": {"summary_index": 0}, "tool": {}}


def _item_id(labels: Labels, index: int) -> str:
    return f"item_{labels.id.removeprefix('resp_')}_{index}"


def _inner(part: Part, text: str) -> dict[str, Any]:
    if part.kind == "reasoning":
        return {"type": "summary_text", "text": text}
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _item(labels: Labels, index: int, part: Part, text: str) -> dict[str, Any]:
    """One item of the output, with the text it has so far ("" when it has only begun)."""
    item = {"id": _item_id(labels, index), "status": "completed" if text else "in_progress"}
    if part.tool:
        call = {"call_id": part.tool.id, "name": part.tool.name, "arguments": text}
        return {"type": "function_call", **item, **call}
    inner = [_inner(part, text)] if text else []
    if part.kind == "reasoning":
        return {"type": "reasoning", **item, "summary": inner}
    return {"type": "message", "role": "assistant", **item, "content": inner}


def _ended(answer: Answer) -> str:
    return "incomplete" if answer.finish == "length" else "completed"


def response(answer: Answer, labels: Labels, status: str, *, background: bool = False) -> dict[str, Any]:
    """The response object; its output and usage are there once it has ended."""
    ended = status in ("completed", "incomplete")
    output = [_item(labels, index, part, part.text) for index, part in enumerate(answer.parts)]
    usage = {
        "input_tokens": answer.prompt_tokens,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": answer.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": answer.reasoning_tokens},
        "total_tokens": answer.prompt_tokens + answer.completion_tokens,
    }
    return {
        "id": labels.id,
        "object": "response",
        "created_at": labels.created,
        "status": status,
        "background": background,
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
        "instructions": None,
        "max_output_tokens": None,
        "metadata": {},
        "model": labels.model,
        "output": output if ended else [],
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "usage": usage if ended else None,
    }
