"""Whatever JSON comes, every wire answers it: with an answer, or with an error in its own shape."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamlib.sim.core import Simulator
from streamlib.sim.model import Request

from .talk import NOW

anything: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)

TEXT = [{"role": "user", "content": "Hi"}]
SCHEMA = {"type": "object", "properties": {"x": {"type": "string"}}}
WIRES: dict[str, tuple[str, dict[str, Any]]] = {
    "responses": (
        "/v1/responses",
        {
            "model": "sim-1",
            "input": [{"role": "user", "content": [{"type": "input_text", "text": "Hi"}]}],
            "instructions": "x",
            "tools": [{"type": "function", "name": "f", "parameters": SCHEMA}],
            "tool_choice": {"type": "function", "name": "f"},
            "text": {"format": {"type": "json_schema", "name": "x", "schema": SCHEMA}},
            "background": True,
            "stream": True,
        },
    ),
    "anthropic": (
        "/v1/messages",
        {
            "model": "sim-1",
            "max_tokens": 50,
            "system": [{"type": "text", "text": "x"}],
            "messages": [
                *TEXT,
                {"role": "assistant", "content": [{"type": "tool_use", "id": "1", "name": "f", "input": {}}]},
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1", "content": "x"}]},
            ],
            "tools": [{"name": "f", "input_schema": SCHEMA}],
            "tool_choice": {"type": "tool", "name": "f"},
            "thinking": {"type": "adaptive"},
            "stop_sequences": ["x"],
            "output_config": {"format": {"type": "json_schema", "schema": SCHEMA}},
            "stream": True,
        },
    ),
    "google": (
        "/v1beta/models/sim-1:streamGenerateContent",
        {
            "systemInstruction": {"parts": [{"text": "x"}]},
            "contents": [
                {"role": "user", "parts": [{"text": "Hi"}]},
                {"role": "model", "parts": [{"functionCall": {"name": "f", "args": {}}}]},
                {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {"x": 1}}}]},
            ],
            "generationConfig": {
                "maxOutputTokens": 50,
                "seed": 1,
                "stopSequences": ["x"],
                "responseMimeType": "application/json",
                "responseSchema": {"type": "OBJECT", "properties": {"x": {"type": "STRING"}}},
                "thinkingConfig": {"includeThoughts": True},
            },
            "tools": [{"functionDeclarations": [{"name": "f", "parameters": SCHEMA}]}],
            "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["f"]}},
        },
    ),
}


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path to everything inside a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(deeper for key, one in inner for deeper in places(one, (*path, key)))]


def put(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """A copy of ``value`` with ``new`` at ``path``."""
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = put(value[path[0]], path[1:], new)
    return copy


@pytest.mark.parametrize("wire", WIRES)
@settings(max_examples=150)
@given(data=st.data())
def test_any_value_at_any_place_is_answered(wire: str, data: st.DataObject) -> None:
    path, body = WIRES[wire]
    broken = put(body, data.draw(st.sampled_from(places(body))), data.draw(anything))
    headers = {"anthropic-version": "2023-06-01"}
    request = Request("POST", path, headers, json.dumps(broken).encode(), "alt=sse")
    response = Simulator().respond(request, NOW)
    sent = b"".join(frame.data for frame in response.frames)
    if response.status == 200:
        assert sent.startswith((b"data: ", b"event: ", b"{"))
    else:
        assert response.status is not None and 400 <= response.status < 500
        assert json.loads(sent)["error"]["message"]


@pytest.mark.parametrize("wire", WIRES)
def test_the_body_that_is_broken_here_is_fine_as_it_is(wire: str) -> None:
    path, body = WIRES[wire]
    request = Request("POST", path, {"anthropic-version": "x"}, json.dumps(body).encode(), "alt=sse")
    assert Simulator().respond(request, NOW).status == 200
