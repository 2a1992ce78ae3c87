"""The wire of Google's ``generateContent``: request JSON -> ``Ask``, ``Answer`` -> bare chunks or one body
(lesson 9).

https://ai.google.dev/api/generate-content: ``:streamGenerateContent?alt=sse`` sends a whole
``GenerateContentResponse`` per event, without names, and no ``[DONE]``: the last one has a
``finishReason``. A comment line, or ``data:`` without its blank, is an error for the official client, so
none is sent unless a fault asks for it. Model and method stand in the path. Field names may be camelCase or
snake_case: the official client mixes them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import parse_qs

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

VERSIONS = ("v1beta", "v1")
ID_PREFIX = ""
ERROR_EVENT = encode(
    json.dumps(
        {
            "error": {
                "code": 503,
                "message": "The server had an error while it was answering (simulated).",
                "status": "UNAVAILABLE",
            }
        }
    )
)


def speaks(request: Request) -> bool:
    """Whether the request is meant for this wire. ``GET /v1/models`` is told by the key it brings."""
    if request.path.startswith("/v1beta/"):
        return True
    is_models = request.path.startswith("/v1/models")
    return is_models and (":" in request.path or key_of(request) is not None)


# --- request --------------------------------------------------------------------------------------


def parse(request: Request) -> Ask:
    """The request as an ``Ask``: what chat completions ask under other names, and read so."""
    model, _, method = request.path.rstrip("/").rpartition("/")[2].partition(":")
    stream = method == "streamGenerateContent"
    if stream and parse_qs(request.query).get("alt") != ["sse"]:
        raise ApiError(400, "Add ?alt=sse: this server streams Server-Sent Events, not a JSON array.")
    data = chat.load(request.body)
    if method == "countTokens":
        data = _get(data, "generateContentRequest", dict) or data
    config = _get(data, "generationConfig", dict) or {}
    system = _get(data, "systemInstruction", dict)
    contents = _get(data, "contents", list)
    if not contents:
        raise ApiError(400, "contents is not specified: a list of {'role': 'user', 'parts': [{'text': …}]}.")
    tools, choice = _tools(_get(data, "tools", list)), _tool_choice(_get(data, "toolConfig", dict))
    translated = {
        "model": model,
        "messages": [
            *([{"role": "system", "content": _text(system, "systemInstruction")}] if system else []),
            *(turn for i, given in enumerate(contents) for turn in _turns(given, f"contents[{i}]")),
        ],
        "stream": stream,
        "n": _get(config, "candidateCount", int),
        "seed": _get(config, "seed", int),
        "max_tokens": _get(config, "maxOutputTokens", int),
        "stop": _get(config, "stopSequences", list),
        "tools": tools,
        "tool_choice": choice if tools else None,
        "response_format": _format(config),
    }
    thinking = _get(config, "thinkingConfig", dict) or {}
    thinks = bool(_get(thinking, "includeThoughts", bool))
    return chat.read({name: value for name, value in translated.items() if value is not None}, thinks=thinks)


def _get(data: dict[str, Any], name: str, kind: type) -> Any:
    """``data[name]`` in either spelling; None when it is not there."""
    snake = re.sub(r"[A-Z]", lambda letter: f"_{letter[0].lower()}", name)
    value = data.get(name, data.get(snake))
    if value is None or (isinstance(value, kind) and not (kind is int and isinstance(value, bool))):
        return value
    raise ApiError(400, f"Invalid value at '{name}': {json.dumps(value)[:80]} is no {kind.__name__}.")


def _turns(given: Any, where: str) -> Iterator[dict[str, Any]]:
    """One content as chat messages: results of functions are messages of their own, after its text."""
    if not isinstance(given, dict) or given.get("role", "user") not in ("user", "model", "function"):
        raise ApiError(400, f"Please use a valid role in {where}: user, model.")
    results = [
        json.dumps(_get(answer, "response", dict) or {}, ensure_ascii=False)
        for part in _get(given, "parts", list) or []
        if isinstance(part, dict) and (answer := _get(part, "functionResponse", dict))
    ]
    text = _text(given, where)
    if text or not results:
        role = "assistant" if given.get("role") == "model" else "user"
        yield {"role": role, "content": text}
    for result in results:
        yield {"role": "tool", "content": result}


def _text(given: dict[str, Any], where: str) -> str:
    """The text of a content. Thoughts given back are left out, calls are read as text."""
    parts = _get(given, "parts", list) or []
    if not parts:
        raise ApiError(400, f"{where} has no parts: {{'parts': [{{'text': …}}]}}.")
    texts = []
    for i, part in enumerate(parts):
        match part:
            case {"thought": True}:
                continue
            case {"text": str(text)}:
                texts.append(text)
            case {"functionCall": dict(call)} | {"function_call": dict(call)}:
                texts.append(json.dumps(call, ensure_ascii=False))
            case {"functionResponse": dict()} | {"function_response": dict()}:
                continue
            case _:
                raise ApiError(400, f"{where}.parts[{i}]: this model reads text and function calls only.")
    return "\n".join(texts)


def _tools(given: list[Any] | None) -> list[dict[str, Any]] | None:
    found = []
    for i, tool in enumerate(given or []):
        declared = _get(tool, "functionDeclarations", list) if isinstance(tool, dict) else None
        if declared is None or not all(isinstance(one, dict) for one in declared):
            raise ApiError(
                400, f"tools[{i}]: {{'functionDeclarations': […]}}; this server has no tools of its own."
            )
        for one in declared:
            schema = _get(one, "parametersJsonSchema", dict) or _schema(_get(one, "parameters", dict) or {})
            found.append({"function": {**one, "parameters": schema or None}})
    return found or None


def _tool_choice(given: dict[str, Any] | None) -> Any:
    config = _get(given or {}, "functionCallingConfig", dict) or {}
    names = _get(config, "allowedFunctionNames", list) or []
    match str(_get(config, "mode", str) or "AUTO").upper():
        case "ANY" | "VALIDATED" if len(names) == 1:
            return {"function": {"name": names[0]}}
        case "ANY":
            return "required"
        case "NONE":
            return "none"
    return "auto"


def _format(config: dict[str, Any]) -> dict[str, Any] | None:
    kind = _get(config, "responseMimeType", str) or "text/plain"
    schema = _get(config, "responseJsonSchema", dict) or _schema(_get(config, "responseSchema", dict) or {})
    match kind:
        case "text/plain" if not schema:
            return None
        case "application/json" if schema:
            return {"type": "json_schema", "json_schema": {"schema": schema}}
        case "application/json":
            return {"type": "json_object"}
    raise ApiError(400, "responseMimeType is text/plain, or application/json (which a schema needs).")


def _schema(given: dict[str, Any]) -> dict[str, Any]:
    """An OpenAPI schema as Google writes it (types in capitals) as JSON Schema."""
    schema: dict[str, Any] = {}
    for key, value in given.items():
        name = re.sub(r"_([a-z])", lambda found: found[1].upper(), key)
        match name, value:
            case "type", str():
                value = value.lower()
            case "properties", dict():
                value = {one: _schema(of) for one, of in value.items() if isinstance(of, dict)}
            case "items", dict():
                value = _schema(value)
            case "anyOf", list():
                value = [_schema(of) for of in value if isinstance(of, dict)]
        schema[name] = value
    return schema


# --- answer ---------------------------------------------------------------------------------------


def stream(
    ask: Ask, answer: Answer, pieces: Iterable[Piece], labels: Labels, role_at: float
) -> Iterator[Frame]:
    """The answer as chunks, each a whole ``GenerateContentResponse`` with its piece and the counts so far.

    A function call is no stream here: it comes in one chunk, when its arguments are complete.
    """
    at, made, thoughts, whole = role_at, 0, 0, 0

    def chunk(parts: list[dict[str, Any]], tokens: tuple[int, int], finish: str | None = None) -> Frame:
        data = _response(answer, labels, parts, made - thoughts, thoughts, finish)
        return Frame(at, encode(json.dumps(data, ensure_ascii=False)), made=tokens[0], sent=tokens[1])

    for piece in pieces:
        at, part, n = piece.at, answer.parts[piece.part], len(piece.tokens)
        made += n
        thoughts += n if part.kind == "reasoning" else 0
        if part.tool is None:
            yield chunk([_part(part, "".join(piece.tokens))], (n, n))
            continue
        whole += n
        if whole == len(part.tokens) and (call := _call(part)):
            yield chunk([call], (n, whole))
        else:
            yield Frame(at, made=n)
        whole = 0 if whole == len(part.tokens) else whole
    yield chunk([{"text": ""}], (0, 0), _finish(answer))


def body(answer: Answer, labels: Labels) -> bytes:
    """The answer of a blocking call."""
    parts = [_call(part) if part.tool else _part(part, part.text) for part in answer.parts]
    thoughts = answer.reasoning_tokens
    said = answer.completion_tokens - thoughts
    whole = _response(answer, labels, [part for part in parts if part], said, thoughts, _finish(answer))
    return json.dumps(whole, ensure_ascii=False).encode()


def _response(
    answer: Answer,
    labels: Labels,
    parts: list[dict[str, Any]],
    said: int,
    thoughts: int,
    finish: str | None,
) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"parts": parts, "role": "model"}, "index": 0}
    if finish:
        candidate["finishReason"] = finish
    usage = {
        "promptTokenCount": answer.prompt_tokens,
        "candidatesTokenCount": said,
        "totalTokenCount": answer.prompt_tokens + said + thoughts,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": answer.prompt_tokens}],
    }
    if thoughts:
        usage["thoughtsTokenCount"] = thoughts
    return {
        "candidates": [candidate],
        "usageMetadata": usage,
        "modelVersion": labels.model,
        "responseId": labels.id,
    }


def _part(part: Part, text: str) -> dict[str, Any]:
    return {"text": text, "thought": True} if part.kind == "reasoning" else {"text": text}


def _call(part: Part) -> dict[str, Any] | None:
    """A function call as a part; None when ``maxOutputTokens`` cut its arguments off."""
    assert part.tool is not None
    try:
        arguments = json.loads(part.text)
    except ValueError:
        return None
    return {"functionCall": {"id": part.tool.id, "name": part.tool.name, "args": arguments}}


def _finish(answer: Answer) -> str:
    return "MAX_TOKENS" if answer.finish == "length" else "STOP"


# --- around it ------------------------------------------------------------------------------------


def models(created: int) -> list[dict[str, Any]]:
    """The models this server has: one."""
    return [
        {
            "name": f"models/{MODEL_NAME}",
            "version": "1",
            "displayName": "The simulated model",
            "inputTokenLimit": MAX_PROMPT_TOKENS,
            "outputTokenLimit": MAX_OUTPUT_TOKENS,
            "supportedGenerationMethods": ["generateContent", "countTokens"],
        }
    ]


def model_list(created: int) -> dict[str, Any]:
    """``GET /v1beta/models``."""
    return {"models": models(created)}


def headers(request_id: str, seconds: float) -> tuple[tuple[str, str], ...]:
    """Headers of every answer, beside its type."""
    return (("server-timing", f"gfet4t7; dur={round(seconds * 1000)}"),)


def key_of(request: Request) -> str | None:
    """The key that came with the request: ``x-goog-api-key``, or ``?key=``, which Google takes too.

    A key in a query string ends up in logs and browser histories: send the header.
    """
    return request.headers.get("x-goog-api-key") or next(iter(parse_qs(request.query).get("key", [])), None)


def bad_key(given: str | None) -> ApiError:
    """The answer to a request whose key is missing (403) or wrong (400), as Google has it."""
    if given is None:
        return ApiError(
            403,
            "Method doesn't allow unregistered callers: send the key this server was started with as "
            "x-goog-api-key (the official client takes it from GOOGLE_API_KEY).",
        )
    return ApiError(400, "API key not valid. Please pass a valid API key.", code="API_KEY_INVALID")


_STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


def error_body(error: ApiError, request_id: str) -> bytes:
    """An error in Google's shape: ``code`` is the HTTP status, ``status`` its name."""
    said: dict[str, Any] = {
        "code": error.status,
        "message": error.message,
        "status": _STATUSES.get(error.status, "UNKNOWN"),
    }
    if error.code == "API_KEY_INVALID":
        said["details"] = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": error.code}]
    if wait := dict(error.headers).get("retry-after"):
        delay = f"{wait}s" if wait.replace(".", "").isdigit() else "1s"
        said.setdefault("details", []).append(
            {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}
        )
    return json.dumps({"error": said}, ensure_ascii=False).encode()
