"""The wire of Anthropic's messages: request JSON -> ``Ask``, ``Answer`` -> named events or one body (lesson
9).

https://platform.claude.com/docs/en/build-with-claude/streaming: each block of the answer (thinking, text, a
tool's input) begins, grows in deltas and stops; ``message_delta`` brings why it ended and what it cost,
``message_stop`` the end. The official client goes by the ``event:`` line: an event without one does not
exist for it. Input is text; the tools are the caller's own.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

from ..sse import encode
from . import chat
from .model import (
    MAX_OUTPUT_TOKENS,
    MAX_PROMPT_TOKENS,
    MODEL_NAME,
    Answer,
    ApiError,
    Ask,
    Frame,
    Labels,
    Part,
    Piece,
    Request,
)

ID_PREFIX = "msg_"
NO_THREADS = "thread_unsupported_request"
ERROR_EVENT = encode(
    json.dumps(
        {
            "type": "error",
            "error": {
                "type": "overloaded_error",
                "message": "The server had an error while it was answering (simulated).",
            },
        }
    ),
    event="error",
)


def speaks(request: Request) -> bool:
    """Whether the request is meant for this wire. ``GET /v1/models`` is told by its headers."""
    own = "anthropic-version" in request.headers or "x-api-key" in request.headers
    path = request.path.rstrip("/")
    return path.startswith("/v1/messages") or (own and path.startswith("/v1/models"))


# --- request --------------------------------------------------------------------------------------


def parse(request: Request) -> Ask:
    """The request as an ``Ask``: what chat completions ask under other names, and read so.

    ``max_tokens`` and the header ``anthropic-version`` are required, as with Anthropic.
    """
    if "anthropic-version" not in request.headers:
        raise ApiError(400, "anthropic-version: header is required.", param="anthropic-version")
    data = chat.load(request.body)
    if data.get("thread"):  # told by its code, the client's tool runner sends the whole conversation instead
        raise ApiError(
            400, "This server keeps no threads: send the whole conversation without one.", code=NO_THREADS
        )
    counts = request.path.rstrip("/").endswith("count_tokens")
    if data.get("max_tokens") is None and not counts:
        raise ApiError(400, "max_tokens: Field required.", param="max_tokens")
    messages = data.get("messages")
    if not isinstance(messages, list):
        raise ApiError(400, "messages: Field required, a list of messages.", param="messages")
    translated = {
        "model": data.get("model"),
        "messages": [
            *_system(data.get("system")),
            *(turn for i, given in enumerate(messages) for turn in _turns(given, f"messages.{i}")),
        ],
        "stream": data.get("stream"),
        "max_tokens": data.get("max_tokens"),
        "stop": data.get("stop_sequences"),
        "tools": _tools(data.get("tools")),
        "response_format": _format(data.get("output_config")),
        **_tool_choice(data.get("tool_choice")),
    }
    thinks = _thinks(data.get("thinking"))
    return chat.read({name: value for name, value in translated.items() if value is not None}, thinks=thinks)


def _system(given: Any) -> list[dict[str, Any]]:
    return [{"role": "system", "content": given}] if given else []


def _turns(given: Any, where: str) -> Iterator[dict[str, Any]]:
    """A message as chat messages: results of tools are messages of their own, after its text."""
    if not isinstance(given, dict) or given.get("role") not in ("user", "assistant"):
        raise ApiError(
            400, f"{where}.role: 'user' or 'assistant'; the system prompt is 'system'.", param=where
        )
    content = given.get("content")
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
    if not isinstance(blocks, list):
        raise ApiError(400, f"{where}.content: a string or a list of blocks.", param=where)
    texts, results = [], []
    for i, block in enumerate(blocks):
        match block:
            case {"type": "text", "text": str(text)}:
                texts.append(text)
            case {"type": "tool_use"}:
                texts.append(json.dumps(block, ensure_ascii=False))
            case {"type": "tool_result"}:
                results.append({"role": "tool", "content": block.get("content") or ""})
            case {"type": "thinking" | "redacted_thinking"}:
                pass  # the model's own, given back: it has no further use for it
            case _:
                raise ApiError(
                    400,
                    f"{where}.content.{i}: this model reads text, tool_use, tool_result and thinking blocks.",
                    param=f"{where}.content.{i}",
                )
    if texts or not results:
        yield {"role": given["role"], "content": "\n".join(texts)}
    yield from results


def _tools(given: Any) -> list[dict[str, Any]] | None:
    if not given:
        return None
    if not isinstance(given, list):
        raise ApiError(400, "tools: a list.", param="tools")
    tools = []
    for i, tool in enumerate(given):
        if not isinstance(tool, dict) or tool.get("type", "custom") != "custom":
            raise ApiError(
                400,
                f"tools.{i}: {{'name': …, 'description': …, 'input_schema': {{…}}}}; this server has no "
                "tools of its own.",
                param=f"tools.{i}",
            )
        tools.append({"function": {**tool, "parameters": tool.get("input_schema")}})
    return tools


def _tool_choice(given: Any) -> dict[str, Any]:
    if given is None:
        return {}
    choices = {"auto": "auto", "any": "required", "none": "none"}
    match given:
        case {"type": "tool", "name": str(name)}:
            choice: Any = {"function": {"name": name}}
        case {"type": "auto" | "any" | "none" as kind}:
            choice = choices[kind]
        case _:
            raise ApiError(
                400,
                "tool_choice: {'type': 'auto'}, 'any', 'none', or {'type': 'tool', 'name': …}.",
                param="tool_choice",
            )
    return {"tool_choice": choice, "parallel_tool_calls": not given.get("disable_parallel_tool_use")}


def _format(config: Any) -> dict[str, Any] | None:
    match config:
        case {"format": {"type": "json_schema", "schema": dict(schema)}}:
            return {"type": "json_schema", "json_schema": {"schema": schema}}
        case {"format": dict()}:
            raise ApiError(
                400,
                "output_config.format: {'type': 'json_schema', 'schema': {…}}.",
                param="output_config.format",
            )
    return None


def _thinks(given: Any) -> bool:
    match given:
        case None | {"type": "disabled" | "between_tools"}:
            return False
        case {"type": "enabled" | "adaptive"}:
            return True
    raise ApiError(
        400, "thinking: {'type': 'adaptive'}, 'enabled' with budget_tokens, or 'disabled'.", param="thinking"
    )


# --- answer ---------------------------------------------------------------------------------------


def stream(
    ask: Ask, answer: Answer, pieces: Iterable[Piece], labels: Labels, role_at: float
) -> Iterator[Frame]:
    """The answer as named events: the message starts, its blocks come one after another, it stops."""

    def event(at: float, kind: str, tokens: int = 0, **fields: Any) -> Frame:
        data = json.dumps({"type": kind, **fields}, ensure_ascii=False)
        return Frame(at, encode(data, event=kind), made=tokens, sent=tokens)

    yield event(role_at, "message_start", message=_message(answer, labels))
    at = role_at
    for index, group in groupby(pieces, key=lambda piece: piece.part):
        part = answer.parts[index]
        yield event(at, "content_block_start", index=index, content_block=_block(part, ""))
        if index == 0:
            yield event(at, "ping")
        for piece in group:
            at = piece.at
            delta = _delta(part, "".join(piece.tokens))
            yield event(at, "content_block_delta", len(piece.tokens), index=index, delta=delta)
        if part.kind == "reasoning":
            delta = {"type": "signature_delta", "signature": _signature(part)}
            yield event(at, "content_block_delta", index=index, delta=delta)
        yield event(at, "content_block_stop", index=index)
    ended = {"stop_reason": _stop_reason(answer), "stop_sequence": answer.stopped_by}
    yield event(at, "message_delta", delta=ended, usage=_usage(answer, answer.completion_tokens))
    yield event(at, "message_stop")


def body(answer: Answer, labels: Labels) -> bytes:
    """The answer of a blocking call."""
    message = {
        **_message(answer, labels),
        "content": [_block(part, part.text) for part in answer.parts],
        "stop_reason": _stop_reason(answer),
        "stop_sequence": answer.stopped_by,
        "usage": _usage(answer, answer.completion_tokens),
    }
    return json.dumps(message, ensure_ascii=False).encode()


def _message(answer: Answer, labels: Labels) -> dict[str, Any]:
    """The message as it begins: empty, and with one token of output, as Anthropic counts."""
    return {
        "id": labels.id,
        "type": "message",
        "role": "assistant",
        "model": labels.model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": _usage(answer, 1),
    }


def _block(part: Part, text: str) -> dict[str, Any]:
    """A block of the content, with the text it has so far ("" when it has only begun)."""
    if part.tool:
        return {
            "type": "tool_use",
            "id": part.tool.id.replace("call_", "toolu_"),
            "name": part.tool.name,
            "input": _arguments(text),
        }
    if part.kind == "reasoning":
        return {"type": "thinking", "thinking": text, "signature": _signature(part) if text else ""}
    return {"type": "text", "text": text}


def _arguments(text: str) -> Any:
    """The input of a tool call; one that ``max_tokens`` cut off has none."""
    try:
        return json.loads(text)
    except ValueError:
        return {}


def _delta(part: Part, text: str) -> dict[str, Any]:
    if part.tool:
        return {"type": "input_json_delta", "partial_json": text}
    if part.kind == "reasoning":
        return {"type": "thinking_delta", "thinking": text}
    return {"type": "text_delta", "text": text}


def _signature(part: Part) -> str:
    return f"sim-{len(part.tokens)}"


def _stop_reason(answer: Answer) -> str:
    if answer.stopped_by:
        return "stop_sequence"
    return {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}[answer.finish]


def _usage(answer: Answer, output: int) -> dict[str, Any]:
    return {
        "input_tokens": answer.prompt_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": output,
        "service_tier": "standard",
    }


# --- around it ------------------------------------------------------------------------------------


def models(created: int) -> list[dict[str, Any]]:
    """The models this server has: one."""
    since = datetime.fromtimestamp(created, UTC).isoformat().replace("+00:00", "Z")
    return [
        {
            "type": "model",
            "id": MODEL_NAME,
            "display_name": "The simulated model",
            "created_at": since,
            "lifecycle": "active",
            "max_input_tokens": MAX_PROMPT_TOKENS,
            "max_tokens": MAX_OUTPUT_TOKENS,
        }
    ]


def model_list(created: int) -> dict[str, Any]:
    """``GET /v1/models`` with the header ``anthropic-version``."""
    return {"data": models(created), "has_more": False, "first_id": MODEL_NAME, "last_id": MODEL_NAME}


def headers(request_id: str, seconds: float) -> tuple[tuple[str, str], ...]:
    """Headers of every answer, beside its type."""
    return (("request-id", request_id),)


def key_of(request: Request) -> str | None:
    """The key that came with the request: ``x-api-key``, or as a bearer token (the official client's way)."""
    return request.headers.get("x-api-key") or chat.bearer(request)


def bad_key(given: str | None) -> ApiError:
    """The answer to a request whose key is missing or wrong."""
    what = "invalid x-api-key" if given else "x-api-key header is required"
    return ApiError(
        401,
        f"{what}: send the key this server was started with (the official client takes it from "
        "ANTHROPIC_API_KEY).",
    )


_ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def error_body(error: ApiError, request_id: str) -> bytes:
    """An error in Anthropic's shape; its type follows from the status."""
    kind = _ERROR_TYPES.get(error.status, "invalid_request_error" if error.status < 500 else "api_error")
    said: dict[str, Any] = {"type": kind, "message": error.message}
    if error.code == NO_THREADS:
        said["details"] = {"error_code": NO_THREADS}
    whole = {"type": "error", "error": said, "request_id": request_id}
    return json.dumps(whole, ensure_ascii=False).encode()
