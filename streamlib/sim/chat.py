"""The wire of OpenAI's chat completions: request JSON -> ``Ask``, ``Answer`` -> chunks or one body (lesson
2).

https://developers.openai.com/api/reference/resources/chat: the same fields in the same places, so that the
official client works unchanged. ``n`` is 1, and images, audio and logprobs are turned down with a sentence
that says so.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from json.encoder import encode_basestring as in_quotes  # what the encoder does with a string
from typing import Any

from ..sse import encode
from .model import (
    MAX_OUTPUT_TOKENS,
    MODEL_NAME,
    Answer,
    ApiError,
    Ask,
    Frame,
    Labels,
    Message,
    Piece,
    Request,
    Tool,
)

ID_PREFIX = "chatcmpl-"
ERROR_EVENT = encode(
    json.dumps(
        {
            "error": {
                "message": "The server had an error while it was answering (simulated).",
                "type": "server_error",
                "param": None,
                "code": "server_error",
            }
        }
    )
)


# --- request --------------------------------------------------------------------------------------


def parse(request: Request) -> Ask:
    """The request body as an ``Ask``; whatever is wrong with it is an ``ApiError`` that says what and
    where."""
    return read(load(request.body))


def load(body: bytes) -> dict[str, Any]:
    """The JSON object in a request's body."""
    try:
        data = json.loads(body)
        if b"\\ud" in body.lower():
            json.dumps(data, ensure_ascii=False).encode()  # half of a surrogate pair is no text
    except (ValueError, RecursionError) as error:  # ValueError: also what is not UTF-8
        raise ApiError(
            400, f"We could not parse the JSON body of your request: {error}.", code="invalid_json"
        ) from None
    if not isinstance(data, dict):
        raise ApiError(400, f"The body must be a JSON object, got {_kind(data)}.", code="invalid_json")
    return data


def read(data: dict[str, Any], *, thinks: bool = False) -> Ask:
    """The fields of a request as an ``Ask``; ``thinks`` is for the wires where thoughts are asked for."""
    model = _get(data, "model", str, required=True)
    if model != MODEL_NAME:
        raise ApiError(
            404,
            f"The model {model!r} does not exist here: this is the simulated server of the course, with one "
            f"model, {MODEL_NAME!r}. In a notebook write model=model.name.",
            param="model",
            code="model_not_found",
        )
    if (n := _get(data, "n", int)) not in (None, 1):
        raise ApiError(
            400, f"n is {n}, but this server makes one answer per request: leave n out.", param="n"
        )
    if data.get("logprobs"):
        raise ApiError(400, "This server has no logprobs: leave logprobs out.", param="logprobs")
    if data.get("functions"):
        raise ApiError(400, "functions is the old form: use tools.", param="functions")
    options = _get(data, "stream_options", dict)
    stream = bool(_get(data, "stream", bool))
    if options is not None and not stream:
        raise ApiError(400, "stream_options is only allowed when stream is true.", param="stream_options")
    json_wanted, schema = _response_format(_get(data, "response_format", dict))
    tools = tuple(_tool(tool, i) for i, tool in enumerate(_get(data, "tools", list) or ()))
    parallel = _get(data, "parallel_tool_calls", bool)
    return Ask(
        messages=_messages(_get(data, "messages", list, required=True)),
        seed=_get(data, "seed", int),
        max_tokens=_max_tokens(data),
        stop=_stop(data.get("stop")),
        tools=tools,
        tool_choice=_tool_choice(data.get("tool_choice"), tools),
        parallel_tools=parallel is None or parallel,
        json=json_wanted,
        schema=schema,
        stream=stream,
        include_usage=bool((options or {}).get("include_usage")),
        thinks=thinks,
    )


_KINDS: dict[type, str] = {
    dict: "an object",
    list: "an array",
    str: "a string",
    int: "an integer",
    bool: "a boolean",
    float: "a number",
    type(None): "null",
}


def _kind(value: object) -> str:
    return _KINDS.get(type(value), type(value).__name__)


def _get(data: dict[str, Any], name: str, kind: type, *, required: bool = False) -> Any:
    """``data[name]`` when it has the right type; None when it is null or not there and need not be."""
    value = data.get(name)
    if value is None:
        if required:
            raise ApiError(
                400, f"Missing required parameter: {name!r}.", param=name, code="missing_required_parameter"
            )
        return None
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise _wrong_type(name, kind, value)
    return value


def _wrong_type(name: str, kind: type, value: object) -> ApiError:
    return ApiError(
        400,
        f"Invalid type for {name!r}: expected {_KINDS[kind]}, got {_kind(value)} instead.",
        param=name,
        code="invalid_type",
    )


def _messages(given: list[Any]) -> tuple[Message, ...]:
    if not given:
        raise ApiError(
            400,
            "messages is empty: give at least one, such as {'role': 'user', 'content': 'Hello'}.",
            param="messages",
        )
    return tuple(_message(message, f"messages[{i}]") for i, message in enumerate(given))


_ROLES = ("system", "developer", "user", "assistant", "tool")


def _message(given: Any, where: str) -> Message:
    if not isinstance(given, dict):
        raise _wrong_type(where, dict, given)
    role = given.get("role")
    if role not in _ROLES:
        raise ApiError(
            400,
            f"Invalid value for '{where}.role': {role!r}. Supported values are: {', '.join(_ROLES)}.",
            param=f"{where}.role",
            code="invalid_value",
        )
    content = given.get("content")
    calls = given.get("tool_calls")
    if content is None and not calls:
        raise ApiError(
            400,
            f"'{where}.content' is missing: a message has content.",
            param=f"{where}.content",
            code="invalid_type",
        )
    text = _content(content, f"{where}.content")
    if calls and isinstance(calls, list):
        text += json.dumps(calls, ensure_ascii=False)  # read as text: they cost tokens like everything else
    return Message(role, text)


def _content(content: Any, where: str) -> str:
    """A string, or a list of text parts, as one string."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise _wrong_type(where, str, content)
    texts = []
    for i, part in enumerate(content):
        if not isinstance(part, dict) or not isinstance(part.get("text"), str):
            raise ApiError(
                400,
                f"'{where}[{i}]' is no text part: this model reads {{'type': 'text', 'text': '…'}} only.",
                param=f"{where}[{i}]",
                code="invalid_value",
            )
        texts.append(part["text"])
    return "\n".join(texts)


def _max_tokens(data: dict[str, Any]) -> int:
    """The limit on the answer; ``max_completion_tokens`` is the newer name of ``max_tokens``."""
    for name in ("max_completion_tokens", "max_tokens"):
        limit = _get(data, name, int)
        if limit is None:
            continue
        if not 1 <= limit <= MAX_OUTPUT_TOKENS:
            raise ApiError(
                400,
                f"{name} is {limit}, but this model writes from 1 to {MAX_OUTPUT_TOKENS} tokens.",
                param=name,
                code="integer_out_of_range",
            )
        return int(limit)
    return MAX_OUTPUT_TOKENS


def _stop(given: Any) -> tuple[str, ...]:
    stops = [] if given is None else [given] if isinstance(given, str) else given
    if not isinstance(stops, list) or len(stops) > 4 or not all(isinstance(s, str) and s for s in stops):
        raise ApiError(
            400, "stop is a string or a list of up to 4 strings, none of them empty.", param="stop"
        )
    return tuple(stops)


def _tool(given: Any, i: int) -> Tool:
    function = given.get("function") if isinstance(given, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(function, dict) or not isinstance(name, str) or not name:
        raise ApiError(
            400,
            f"'tools[{i}]' must be {{'type': 'function', 'function': {{'name': …, 'parameters': {{…}}}}}}.",
            param=f"tools[{i}]",
        )
    parameters = _get(function, "parameters", dict) or {"type": "object", "properties": {}}
    return Tool(name, _get(function, "description", str) or "", parameters)


def _tool_choice(given: Any, tools: tuple[Tool, ...]) -> str:
    if given is None:
        return "auto"
    if not tools:
        raise ApiError(400, "tool_choice is only allowed when tools are given.", param="tool_choice")
    if given in ("auto", "none", "required"):
        return str(given)
    function = given.get("function") if isinstance(given, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    if name not in [tool.name for tool in tools]:
        raise ApiError(
            400,
            f"tool_choice names no tool of this request: {', '.join(tool.name for tool in tools)}.",
            param="tool_choice",
        )
    return str(name)


def _response_format(given: dict[str, Any] | None) -> tuple[bool, dict[str, Any] | None]:
    match given:
        case None | {"type": "text"}:
            return False, None
        case {"type": "json_object"}:
            return True, None
        case {"type": "json_schema", "json_schema": {"schema": dict(schema)}}:
            return True, schema
    raise ApiError(
        400,
        "response_format is {'type': 'text'}, {'type': 'json_object'}, or "
        "{'type': 'json_schema', 'json_schema': {'name': …, 'schema': {…}}}.",
        param="response_format",
    )


# --- answer ---------------------------------------------------------------------------------------


def stream(
    ask: Ask, answer: Answer, pieces: Iterable[Piece], labels: Labels, role_at: float
) -> Iterator[Frame]:
    """The answer as it streams: role, pieces, finish reason, usage when asked for, ``[DONE]``."""
    # A thousand streams are tens of thousands of chunks a second, so a chunk costs little: what is the same
    # in all is written once, and as JSON has no line breaks, one data line is sure to do.
    to_json = json.JSONEncoder(ensure_ascii=False).encode
    head = json.dumps(
        {
            "id": labels.id,
            "object": "chat.completion.chunk",
            "created": labels.created,
            "model": labels.model,
            "service_tier": "default",
            "system_fingerprint": "fp_sim",
        }
    )[:-1]
    usage = ', "usage": null' if ask.include_usage else ""

    before = f'data: {head}, "choices": [{{"index": 0, "delta": '
    after = f"}}]{usage}}}\n\n"

    def chunk(delta: str, finish: str = "null") -> bytes:
        return f'{before}{delta}, "logprobs": null, "finish_reason": {finish}{after}'.encode()

    until = {
        "text": f'{before}{{"content": ',
        "reasoning": f'{before}{{"reasoning_content": ',
    }
    then = f'}}, "logprobs": null, "finish_reason": null{after}'

    says = any(part.kind != "tool" for part in answer.parts)
    yield Frame(
        role_at, chunk(to_json({"role": "assistant", "content": "" if says else None, "refusal": None}))
    )
    at = role_at
    calls: list[int] = []  # the parts that are tool calls, in the order in which they began
    for piece in pieces:
        at, tokens, part = piece.at, piece.tokens, answer.parts[piece.part]
        n = len(tokens)
        text = tokens[0] if n == 1 else "".join(tokens)
        if part.tool is None:
            yield Frame(at, f"{until[part.kind]}{in_quotes(text)}{then}".encode(), n, n)
            continue
        if piece.part not in calls:
            calls.append(piece.part)
            call = {
                "index": len(calls) - 1,
                "id": part.tool.id,
                "type": "function",
                "function": {"name": part.tool.name, "arguments": ""},
            }
            yield Frame(at, chunk(to_json({"tool_calls": [call]})))
        fragment = {"index": calls.index(piece.part), "function": {"arguments": text}}
        yield Frame(at, chunk(to_json({"tool_calls": [fragment]})), made=n, sent=n)
    yield Frame(at, chunk("{}", f'"{answer.finish}"'))
    if ask.include_usage:
        yield Frame(at, encode(f'{head}, "choices": [], "usage": {json.dumps(usage_of(answer))}}}'))
    yield Frame(at, encode("[DONE]"))


def body(answer: Answer, labels: Labels) -> bytes:
    """The answer of a blocking call."""
    text = {
        kind: "".join(part.text for part in answer.parts if part.kind == kind)
        for kind in ("text", "reasoning")
    }
    message: dict[str, Any] = {
        "role": "assistant",
        "content": text["text"],
        "refusal": None,
        "annotations": [],
    }
    if text["reasoning"]:
        message["reasoning_content"] = text["reasoning"]
    calls = [
        {
            "id": part.tool.id,
            "type": "function",
            "function": {"name": part.tool.name, "arguments": part.text},
        }
        for part in answer.parts
        if part.tool
    ]
    if calls:
        message["tool_calls"] = calls
        message["content"] = text["text"] or None
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": answer.finish}
    completion = {
        "id": labels.id,
        "object": "chat.completion",
        "created": labels.created,
        "model": labels.model,
        "choices": [choice],
        "usage": usage_of(answer),
        "service_tier": "default",
        "system_fingerprint": "fp_sim",
    }
    return json.dumps(completion, ensure_ascii=False).encode()


def usage_of(answer: Answer) -> dict[str, Any]:
    """The ``usage`` object: counts of the simulator's own tokens."""
    return {
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": answer.completion_tokens,
        "total_tokens": answer.prompt_tokens + answer.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": answer.reasoning_tokens,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


# --- around it ------------------------------------------------------------------------------------


def models(created: int) -> list[dict[str, Any]]:
    """The models this server has: one."""
    return [{"id": MODEL_NAME, "object": "model", "created": created, "owned_by": "streamlib-simulator"}]


def model_list(created: int) -> dict[str, Any]:
    """``GET /v1/models``."""
    return {"object": "list", "data": models(created)}


def headers(request_id: str, seconds: float) -> tuple[tuple[str, str], ...]:
    """Headers of every answer, beside its type. ``seconds`` is what it took until they left."""
    return (
        ("x-request-id", request_id),
        ("openai-processing-ms", str(round(seconds * 1000))),
        ("openai-version", "2020-10-01"),
    )


def key_of(request: Request) -> str | None:
    """The key that came with the request; one in the query string is not looked at, as with OpenAI."""
    return bearer(request)


def bearer(request: Request) -> str | None:
    """The key of ``Authorization: Bearer …``."""
    given = request.headers.get("authorization", "")
    return given.removeprefix("Bearer ") if given.startswith("Bearer ") else None


def bad_key(given: str | None) -> ApiError:
    """The answer to a request whose key is missing or wrong."""
    return ApiError(
        401,
        "Incorrect API key: send 'Authorization: Bearer …' with the key this server was started with "
        "(the official client takes it from OPENAI_API_KEY).",
        code="invalid_api_key",
    )


def error_body(error: ApiError, request_id: str) -> bytes:
    """An error in OpenAI's shape."""
    return json.dumps(
        {"error": {"message": error.message, "type": error.kind, "param": error.param, "code": error.code}},
        ensure_ascii=False,
    ).encode()
