"""Anthropic's messages, as the official client reads them and as the bytes are."""

from __future__ import annotations

import json
from typing import Any

import pytest
from anthropic import (
    Anthropic,
    AuthenticationError,
    BadRequestError,
    NotFoundError,
    OverloadedError,
    RateLimitError,
    beta_tool,
)

from streamlib.sim.core import Response, Simulator
from streamlib.sim.model import Frame, Request
from streamlib.sse import SSEParser

from .sdks import QUESTION, client_of, simulated
from .talk import NOW, error_of, json_of

pytestmark = pytest.mark.usefixtures("instant")

HEADERS = {"anthropic-version": "2023-06-01"}
ASK = {"model": "sim-1", "max_tokens": 500, "messages": [{"role": "user", "content": QUESTION}]}


def respond(
    body: dict[str, Any],
    *,
    simulator: Simulator | None = None,
    path: str = "/v1/messages",
    query: str = "",
    **headers: str,
) -> Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    data = json.dumps(body).encode()
    request = Request("POST", path, {**HEADERS, **named}, data, query)
    return (simulator or Simulator()).respond(request, NOW)


def wire(body: dict[str, Any], **headers: str) -> list[tuple[str, dict[str, Any]]]:
    """The events of a stream: name and data."""
    parser, sent = SSEParser(), list(respond({**body, "stream": True}, **headers).frames)
    return [(event.event, event.json()) for frame in sent for event in parser.feed(frame.data)]


def frames(body: dict[str, Any], **headers: str) -> list[Frame]:
    return list(respond({**body, "stream": True}, **headers).frames)


@pytest.fixture
def client() -> Anthropic:
    made: Anthropic = client_of("anthropic", simulated())
    return made


# --- the stream ------------------------------------------------------------------------------------


def test_every_event_has_its_name_on_a_line_of_its_own() -> None:
    assert all(name == data["type"] for name, data in wire(ASK))
    raw = b"".join(frame.data for frame in frames(ASK))
    assert raw.startswith(b"event: message_start\ndata: {")
    assert b"[DONE]" not in raw


@pytest.mark.parametrize(
    ("fields", "kinds"),
    [
        ({}, ["text_delta"]),
        ({"thinking": {"type": "adaptive"}}, ["thinking_delta", "signature_delta", "text_delta"]),
        (
            {
                "messages": [{"role": "user", "content": "Weather in Lisbon?"}],
                "tools": [{"name": "weather", "input_schema": {"type": "object", "properties": {}}}],
            },
            ["input_json_delta"],
        ),
    ],
)
def test_blocks_begin_grow_and_stop_one_after_another(fields: dict[str, Any], kinds: list[str]) -> None:
    events = wire({**ASK, **fields})
    names = [name for name, _ in events]
    assert (names[0], names[-2:]) == ("message_start", ["message_delta", "message_stop"])
    deltas = [data["delta"]["type"] for name, data in events if name == "content_block_delta"]
    assert list(dict.fromkeys(deltas)) == kinds
    blocks = [data["index"] for name, data in events if name.startswith("content_block")]
    assert blocks == sorted(blocks)
    for index in set(blocks):
        inside = [name for name, data in events if data.get("index") == index]
        assert inside[0] == "content_block_start"
        assert inside[-1] == "content_block_stop"
        assert set(inside[1:-1]) == {"content_block_delta"}


def test_a_ping_comes_after_the_first_block_has_begun() -> None:
    assert [name for name, _ in wire(ASK)][:4] == [
        "message_start",
        "content_block_start",
        "ping",
        "content_block_delta",
    ]


def test_input_tokens_come_at_the_start_and_output_tokens_at_the_end() -> None:
    events = dict(wire(ASK))
    start, end = events["message_start"]["message"]["usage"], events["message_delta"]["usage"]
    assert (start["input_tokens"], start["output_tokens"]) == (end["input_tokens"], 1)
    assert end["output_tokens"] > 10


def test_times_never_go_back() -> None:
    for fault in ("", "slow-first-byte=1"):
        times = [frame.at for frame in frames(ASK, x_sim_fault=fault)]
        assert times == sorted(times)


# --- the client ------------------------------------------------------------------------------------


def test_blocking_and_streamed_are_the_same_message(client: Anthropic) -> None:
    blocking = client.messages.create(**ASK)
    with client.messages.stream(**ASK) as stream:
        text = "".join(stream.text_stream)
        streamed = stream.get_final_message()
    assert blocking.content[0].text == streamed.content[0].text == text  # type: ignore[union-attr]
    assert blocking.usage == streamed.usage
    assert blocking.stop_reason == streamed.stop_reason == "end_turn"
    assert blocking.id.startswith("msg_")


def test_thoughts_have_a_signature(client: Anthropic) -> None:
    with client.messages.stream(**ASK, thinking={"type": "enabled", "budget_tokens": 1024}) as stream:
        thought, text = stream.get_final_message().content
    assert (thought.type, text.type) == ("thinking", "text")
    assert thought.signature
    assert thought == client.messages.create(**ASK, thinking={"type": "adaptive"}).content[0]


def test_a_tool_and_its_result(client: Anthropic) -> None:
    city = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    tools = [{"name": "weather", "description": "The weather in a city", "input_schema": city}]
    messages: list[Any] = [{"role": "user", "content": "How is the weather in Lisbon?"}]
    fields: dict[str, Any] = {"model": "sim-1", "max_tokens": 500, "tools": tools}
    called = client.messages.create(**fields, messages=messages)
    assert called.stop_reason == "tool_use"
    call = called.content[0]
    assert (call.name, call.input) == ("weather", {"city": "Lisbon"})
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "19 degrees"}
    messages += [called.to_param(), {"role": "user", "content": [result]}]
    assert "19 degrees" in client.messages.create(**fields, messages=messages).content[0].text


def test_the_clients_tool_runner_comes_to_its_end(client: Anthropic) -> None:
    @beta_tool
    def weather(city: str) -> str:
        """The weather in a city."""
        return f"19 degrees in {city}"

    question: Any = {"role": "user", "content": "How is the weather in Lisbon?"}
    runner = client.beta.messages.tool_runner(
        model="sim-1", max_tokens=300, messages=[question], tools=[weather]
    )
    assert "19 degrees in Lisbon" in runner.until_done().content[0].text  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("choice", "calls"),
    [
        ({"type": "auto"}, 2),
        ({"type": "auto", "disable_parallel_tool_use": True}, 1),
        ({"type": "any"}, 2),
        ({"type": "tool", "name": "weather"}, 2),
        ({"type": "none"}, 0),
    ],
)
def test_tool_choice(client: Anthropic, choice: Any, calls: int) -> None:
    city = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    message = client.messages.create(
        model="sim-1",
        max_tokens=500,
        messages=[{"role": "user", "content": "How is the weather in Lisbon and in Rome?"}],
        tools=[{"name": "weather", "input_schema": city}],
        tool_choice=choice,
    )
    assert [block.type for block in message.content].count("tool_use") == calls


@pytest.mark.parametrize(
    ("fields", "reason", "sequence"),
    [
        ({}, "end_turn", None),
        ({"max_tokens": 3}, "max_tokens", None),
        ({"stop_sequences": ["zebra", "text"]}, "stop_sequence", "text"),
        ({"stop_sequences": ["zebra"]}, "end_turn", None),
        ({"stop_sequences": ["text"], "max_tokens": 2}, "max_tokens", None),
    ],
)
def test_why_it_stopped(client: Anthropic, fields: Any, reason: str, sequence: str | None) -> None:
    blocking = client.messages.create(**{**ASK, **fields})
    with client.messages.stream(**{**ASK, **fields}) as stream:
        streamed = stream.get_final_message()
    for message in (blocking, streamed):
        assert (message.stop_reason, message.stop_sequence) == (reason, sequence)


def test_a_tool_call_that_the_limit_cuts_off_has_no_input(client: Anthropic) -> None:
    city = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    fields: Any = {**ASK, "max_tokens": 2, "tools": [{"name": "weather", "input_schema": city}]}
    message = client.messages.create(**fields)
    assert (message.stop_reason, message.content[0].input) == ("max_tokens", {})


def test_system_and_blocks_are_read(client: Anthropic) -> None:
    alone = client.messages.create(**ASK)
    blocks: Any = [{"type": "text", "text": QUESTION, "cache_control": {"type": "ephemeral"}}]
    for system in ("Be brief.", [{"type": "text", "text": "Be brief."}]):
        message = client.messages.create(
            **{**ASK, "system": system, "messages": [{"role": "user", "content": blocks}]}
        )
        assert message.usage.input_tokens > alone.usage.input_tokens
        assert message.content == alone.content


def test_an_answer_is_continued_from_its_beginning(client: Anthropic) -> None:
    whole = client.messages.create(**ASK).content[0].text
    start = {"role": "assistant", "content": whole[:40].rstrip()}
    rest = client.messages.create(**{**ASK, "messages": [*ASK["messages"], start]}).content[0].text  # type: ignore[misc]
    assert start["content"] + rest == whole


def test_models_and_counting(client: Anthropic) -> None:
    assert [model.id for model in client.models.list()] == ["sim-1"]
    assert client.models.retrieve("sim-1").display_name
    counted = client.messages.count_tokens(model="sim-1", messages=ASK["messages"])  # type: ignore[arg-type]
    assert counted.input_tokens == client.messages.create(**ASK).usage.input_tokens


# --- errors ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"max_tokens": None}, "max_tokens: Field required"),
        ({"max_tokens": 0}, "max_tokens is 0"),
        ({"messages": None}, "messages: Field required"),
        ({"messages": []}, "messages is empty"),
        ({"messages": [{"role": "system", "content": "x"}]}, "messages.0.role"),
        ({"messages": ["x"]}, "messages.0.role"),
        ({"messages": [{"role": "user", "content": 7}]}, "messages.0.content: a string or a list"),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "messages.0.content.0"),
        ({"messages": [{"role": "user", "content": ["x"]}]}, "messages.0.content.0"),
        ({"tools": "x"}, "tools: a list"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "no tools of its own"),
        ({"tools": [{"input_schema": {}}]}, "tools[0]"),
        ({"tool_choice": "auto"}, "tool_choice: {'type'"),
        ({"thinking": {"type": "hard"}}, "thinking:"),
        ({"thinking": True}, "thinking:"),
        ({"output_config": {"format": {"type": "xml"}}}, "output_config.format"),
        ({"stop_sequences": [""]}, "stop"),
    ],
)
def test_a_wrong_request_is_told_what_is_wrong(body: dict[str, Any], says: str) -> None:
    response = respond({**ASK, **body})
    assert response.status == 400
    error = error_of(response)
    assert error["type"] == "invalid_request_error"
    assert says in error["message"]


def test_the_version_header_is_required() -> None:
    response = Simulator().respond(Request("POST", "/v1/messages", {}, json.dumps(ASK).encode()), NOW)
    assert response.status == 400
    assert "anthropic-version: header is required" in error_of(response)["message"]


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
        (413, "request_too_large"),
        (418, "invalid_request_error"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (503, "api_error"),
        (504, "timeout_error"),
        (529, "overloaded_error"),
    ],
)
def test_the_type_of_an_error_follows_from_its_status(status: int, kind: str) -> None:
    response = respond(ASK, x_sim_fault=f"status={status}")
    body = json_of(response)
    assert (response.status, body["type"], body["error"]["type"]) == (status, "error", kind)
    assert body["request_id"] == dict(response.headers)["request-id"]


@pytest.mark.parametrize(("fault", "kind"), [("status=429", RateLimitError), ("status=529", OverloadedError)])
def test_a_status_is_the_clients_own_exception(client: Anthropic, fault: str, kind: type) -> None:
    with pytest.raises(kind) as caught:
        client.messages.create(**ASK, extra_headers={"X-Sim-Fault": fault})
    assert caught.value.request_id.startswith("req_sim")  # type: ignore[attr-defined]


def test_the_error_event_is_named() -> None:
    name, data = wire(ASK, x_sim_fault="error-event=5")[-1]
    assert (name, data["type"], data["error"]["type"]) == ("error", "error", "overloaded_error")


def test_no_done_leaves_out_message_stop() -> None:
    assert [name for name, _ in wire(ASK, x_sim_fault="no-done")][-1] == "message_delta"


def test_an_unknown_model_and_an_unknown_path_have_anthropics_shape(client: Anthropic) -> None:
    with pytest.raises(NotFoundError, match="one model, 'sim-1'"):
        client.messages.create(**{**ASK, "model": "claude-9"})
    nowhere = respond(ASK, path="/v1/messages/nowhere")
    assert (nowhere.status, json_of(nowhere)["type"]) == (404, "error")


# --- the key ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "query", "status"),
    [
        ({"x_api_key": "secret"}, "", 200),
        ({"authorization": "Bearer secret"}, "", 200),
        ({"x_api_key": "wrong"}, "", 401),
        ({"authorization": "secret"}, "", 401),
        ({}, "", 401),
        ({}, "key=secret", 401),
        ({"x_goog_api_key": "secret"}, "", 401),
    ],
)
def test_the_key(headers: dict[str, str], query: str, status: int) -> None:
    response = respond(ASK, simulator=Simulator(key="secret"), query=query, **headers)
    assert response.status == status
    if status == 401:
        assert error_of(response)["type"] == "authentication_error"


def test_the_official_client_brings_its_key() -> None:
    transport = simulated(key="secret")
    assert client_of("anthropic", transport, key="secret").messages.create(**ASK).content
    assert client_of("anthropic", transport, key="secret").models.list().data
    with pytest.raises(AuthenticationError, match="ANTHROPIC_API_KEY"):
        client_of("anthropic", transport, key="wrong").messages.create(**ASK)


def test_a_wrong_request_is_a_bad_request_for_the_client(client: Anthropic) -> None:
    with pytest.raises(BadRequestError, match="max_tokens"):
        client.messages.create(**{**ASK, "max_tokens": 100_000})
