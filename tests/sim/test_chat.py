"""The wire of chat completions: what is asked, what is answered, what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlib.sim.core import Simulator
from streamlib.sim.tokens import count_tokens

from .talk import NOW, ask, chunks_of, data_of, error_of, frames, json_of, request, text_of

# --- a stream --------------------------------------------------------------------------------------


def test_the_shape_of_a_stream() -> None:
    chunks = chunks_of(frames(ask()))
    first, *middle, last = [chunk["choices"][0] for chunk in chunks]
    assert first["delta"] == {"role": "assistant", "content": "", "refusal": None}
    assert all(list(choice["delta"]) == ["content"] for choice in middle)
    assert all(choice["finish_reason"] is None for choice in [first, *middle])
    assert (last["delta"], last["finish_reason"]) == ({}, "stop")
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert {chunk["id"] for chunk in chunks} == {"chatcmpl-sim00000001"}
    assert {(chunk["model"], chunk["created"]) for chunk in chunks} == {("sim-1", int(NOW))}
    assert data_of(frames(ask()))[-1] == "[DONE]"


def test_no_usage_unless_asked_for() -> None:
    assert all("usage" not in chunk for chunk in chunks_of(frames(ask())))


def test_the_usage_chunk_comes_last_and_has_no_choices() -> None:
    made = frames(ask(stream_options={"include_usage": True}))
    *before, last = chunks_of(made)
    assert all(chunk["usage"] is None for chunk in before)
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] == count_tokens(text_of(made))


def test_chunks_are_fewer_than_tokens() -> None:
    made = frames(ask(stream_options={"include_usage": True}))
    content = [
        chunk for chunk in chunks_of(made) if chunk["choices"] and chunk["choices"][0]["delta"].get("content")
    ]
    assert len(content) < chunks_of(made)[-1]["usage"]["completion_tokens"]


def test_text_travels_as_utf_8_unescaped() -> None:
    wire = b"".join(frame.data for frame in frames(ask("Repeat: é \u2028 東京")))
    assert "é".encode() in wire
    assert "\u2028".encode() in wire


@pytest.mark.parametrize(
    "fields", [{}, {"max_tokens": 7}, {"stop": "."}, {"response_format": {"type": "json_object"}}]
)
def test_a_blocking_answer_says_the_same_as_a_stream(fields: dict[str, Any]) -> None:
    streamed = frames(ask(stream_options={"include_usage": True}, **fields))
    whole = json_of(ask(stream=False, **fields))
    assert whole["choices"][0]["message"]["content"] == text_of(streamed)
    assert whole["usage"] == chunks_of(streamed)[-1]["usage"]
    assert whole["choices"][0]["finish_reason"] == chunks_of(streamed)[-2]["choices"][0]["finish_reason"]
    assert whole["object"] == "chat.completion"


# --- length and stop -------------------------------------------------------------------------------


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
def test_the_answer_ends_at_the_limit(field: str) -> None:
    made = frames(ask(**{field: 7}))
    assert count_tokens(text_of(made)) == 7
    assert chunks_of(made)[-1]["choices"][0]["finish_reason"] == "length"


def test_a_limit_that_is_not_reached_changes_nothing() -> None:
    assert text_of(frames(ask(max_tokens=5000))) == text_of(frames(ask()))


@pytest.mark.parametrize(
    ("stop", "said"),
    [
        ("four", "one two three "),
        (["three", "two", "xyz"], "one "),
        ("xyz", "one two three four"),
        ("one", ""),
    ],
)
def test_a_stop_sequence_ends_the_answer_before_itself(stop: Any, said: str) -> None:
    made = frames(ask("Repeat: one two three four", stop=stop))
    assert text_of(made) == said
    assert chunks_of(made)[-1]["choices"][0]["finish_reason"] == "stop"


def test_the_prompt_is_counted() -> None:
    usage = json_of(ask("one two", stream=False))["usage"]
    assert usage["prompt_tokens"] == 2 + 4 + 3
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


# --- reasoning -------------------------------------------------------------------------------------


def reasoning(**fields: Any) -> Any:
    return ask(simulator=Simulator(profile="reasoning"), **fields)


def test_thoughts_come_before_the_answer_in_a_field_of_their_own() -> None:
    made = frames(reasoning(stream_options={"include_usage": True}))
    deltas = [
        list(c["choices"][0]["delta"]) for c in chunks_of(made) if c["choices"] and c["choices"][0]["delta"]
    ][1:]
    switch = deltas.index(["content"])
    assert deltas == [["reasoning_content"]] * switch + [["content"]] * (len(deltas) - switch)
    assert switch > 10
    thoughts = count_tokens(text_of(made, "reasoning_content"))
    usage = chunks_of(made)[-1]["usage"]
    assert usage["completion_tokens_details"]["reasoning_tokens"] == thoughts
    assert usage["completion_tokens"] == thoughts + count_tokens(text_of(made))


def test_thoughts_count_towards_the_limit() -> None:
    made = frames(reasoning(max_tokens=10))
    assert count_tokens(text_of(made, "reasoning_content")) == 10
    assert text_of(made) == ""
    assert chunks_of(made)[-1]["choices"][0]["finish_reason"] == "length"


def test_a_blocking_answer_holds_the_thoughts_too() -> None:
    message = json_of(reasoning(stream=False))["choices"][0]["message"]
    assert message["reasoning_content"]
    assert message["content"]


# --- tools -----------------------------------------------------------------------------------------

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def test_tool_calls_arrive_in_fragments_with_an_index() -> None:
    made = frames(ask("What is the weather in Paris and in New York?", tools=[WEATHER]))
    chunks = chunks_of(made)
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": None, "refusal": None}
    calls: dict[int, dict[str, Any]] = {}
    for chunk in chunks:
        for part in chunk["choices"][0]["delta"].get("tool_calls", ()):
            if part["index"] not in calls:
                assert part["type"] == "function"
                calls[part["index"]] = {"id": part["id"], "name": part["function"]["name"], "fragments": []}
            calls[part["index"]]["fragments"].append(part["function"]["arguments"])
    arguments = [json.loads("".join(call["fragments"])) for call in calls.values()]
    assert arguments == [{"city": "Paris"}, {"city": "New York"}]
    assert all(call["name"] == "get_weather" and call["fragments"][0] == "" for call in calls.values())
    assert all(len(call["fragments"]) > 2 for call in calls.values())
    assert len({call["id"] for call in calls.values()}) == 2
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"


def test_a_blocking_answer_has_the_same_calls() -> None:
    choice = json_of(ask("Weather in Oslo?", tools=[WEATHER], stream=False))["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None
    assert json.loads(choice["message"]["tool_calls"][0]["function"]["arguments"]) == {"city": "Oslo"}


def test_one_call_when_parallel_calls_are_switched_off() -> None:
    fields = {"tools": [WEATHER], "stream": False, "parallel_tool_calls": False}
    choice = json_of(ask("Weather in Paris and Rome?", **fields))["choices"][0]
    assert len(choice["message"]["tool_calls"]) == 1


@pytest.mark.parametrize(("choice", "calls"), [("none", False), ("auto", False), ("required", True)])
def test_tool_choice(choice: str, calls: bool) -> None:
    message = json_of(ask("Hello!", tools=[WEATHER], tool_choice=choice, stream=False))["choices"][0][
        "message"
    ]
    assert bool(message.get("tool_calls")) is calls


def test_a_tool_that_is_named_is_called() -> None:
    other = {"type": "function", "function": {"name": "get_time"}}
    choice = {"type": "function", "function": {"name": "get_time"}}
    answer = json_of(ask("Weather in Oslo?", tools=[WEATHER, other], tool_choice=choice, stream=False))
    assert answer["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == "get_time"


def test_the_result_of_a_tool_gets_an_answer_in_words() -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": "{}"}}
    messages = [
        {"role": "user", "content": "Weather in Oslo?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "2 °C"},
    ]
    assert "2 °C" in text_of(frames(ask(messages=messages, tools=[WEATHER])))


# --- what is refused -------------------------------------------------------------------------------

USER = {"role": "user", "content": "Hi"}


@pytest.mark.parametrize(
    ("fields", "status", "param", "says"),
    [
        ({"model": None}, 400, "model", "Missing required parameter: 'model'"),
        ({"model": 5}, 400, "model", "expected a string, got an integer"),
        ({"model": "gpt-9"}, 404, "model", "has one model, 'sim-1'".replace("has", "with")),
        ({"messages": None}, 400, "messages", "Missing required parameter: 'messages'"),
        ({"messages": []}, 400, "messages", "messages is empty"),
        ({"messages": "Hi"}, 400, "messages", "expected an array, got a string"),
        ({"messages": ["Hi"]}, 400, "messages[0]", "expected an object, got a string"),
        (
            {"messages": [{"role": "me", "content": "Hi"}]},
            400,
            "messages[0].role",
            "Supported values are: system",
        ),
        ({"messages": [USER, {"role": "user"}]}, 400, "messages[1].content", "a message has content"),
        ({"messages": [{"role": "user", "content": 5}]}, 400, "messages[0].content", "expected a string"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
            400,
            "messages[0].content[0]",
            "reads {'type': 'text'",
        ),
        ({"stream": "yes"}, 400, "stream", "expected a boolean"),
        ({"n": 2}, 400, "n", "one answer per request"),
        ({"max_tokens": 0}, 400, "max_tokens", "from 1 to 8192"),
        ({"max_tokens": -5}, 400, "max_tokens", "max_tokens is -5"),
        ({"max_tokens": 10.5}, 400, "max_tokens", "expected an integer, got a number"),
        ({"max_tokens": True}, 400, "max_tokens", "got a boolean"),
        ({"max_completion_tokens": 10**9}, 400, "max_completion_tokens", "from 1 to 8192"),
        ({"seed": "x"}, 400, "seed", "expected an integer"),
        ({"stop": 5}, 400, "stop", "up to 4 strings"),
        ({"stop": ["a", "b", "c", "d", "e"]}, 400, "stop", "up to 4 strings"),
        ({"stop": [""]}, 400, "stop", "none of them empty"),
        ({"logprobs": True}, 400, "logprobs", "no logprobs"),
        ({"functions": [{}]}, 400, "functions", "use tools"),
        (
            {"stream": False, "stream_options": {"include_usage": True}},
            400,
            "stream_options",
            "when stream is true",
        ),
        ({"tools": [{"name": "f"}]}, 400, "tools[0]", "'function': {'name'"),
        ({"tools": [5]}, 400, "tools[0]", "'function': {'name'"),
        ({"tool_choice": "auto"}, 400, "tool_choice", "when tools are given"),
        ({"tools": [WEATHER], "tool_choice": "f"}, 400, "tool_choice", "get_weather"),
        ({"response_format": {"type": "xml"}}, 400, "response_format", "json_schema"),
        (
            {"messages": [{"role": "user", "content": "word " * 40_000}]},
            400,
            "messages",
            "at most 32768 tokens",
        ),
    ],
)
def test_a_bad_request_is_told_what_is_wrong(
    fields: dict[str, Any], status: int, param: str, says: str
) -> None:
    response = ask(**fields)
    error = error_of(response)
    assert response.status == status
    assert error["type"] == "invalid_request_error"
    assert error["param"] == param
    assert says in error["message"]


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"\xff\xfe", b"[1]", b'"text"', b"[" * 100_000, b'{"model": "\\ud800"}', b"9" * 5000],
    ids=["empty", "cut", "no UTF-8", "array", "string", "deep", "half a pair", "long number"],
)
def test_a_body_that_is_no_json_object_is_a_400(body: bytes) -> None:
    response = Simulator().respond(request(body), NOW)
    assert response.status == 400
    assert error_of(response)["code"] == "invalid_json"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FIELDS = [
    "messages",
    "model",
    "max_tokens",
    "stop",
    "seed",
    "tools",
    "tool_choice",
    "response_format",
    "stream_options",
]
SCHEMA_KEYS = [
    "type",
    "properties",
    "required",
    "items",
    "enum",
    "const",
    "anyOf",
    "$ref",
    "minItems",
    "maximum",
    "format",
]


@given(st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=4))
def test_no_body_brings_the_simulator_down(fields: dict[str, Any]) -> None:
    response = ask(**fields)
    assert response.status in (200, 400, 404)
    assert frames(response)


@given(
    st.dictionaries(
        st.sampled_from(SCHEMA_KEYS), JSON | st.sampled_from(["object", "array", "string", "integer", "#"])
    )
)
def test_no_schema_brings_the_simulator_down(schema: dict[str, Any]) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": schema}}
    wanted = {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}
    for fields in ({"tools": [tool]}, {"response_format": wanted}):
        response = ask("one 2 Three", **fields)
        assert response.status in (200, 400)
        assert frames(response)


def test_unknown_fields_are_ignored() -> None:
    assert ask(temperature=0.7, top_p=1, user="me", metadata={}).status == 200


def test_text_parts_are_read_as_text() -> None:
    parts = [{"type": "text", "text": "Repeat:"}, {"type": "text", "text": "yes"}]
    assert text_of(frames(ask(messages=[{"role": "user", "content": parts}]))) == "yes"
