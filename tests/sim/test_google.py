"""Google's ``generateContent``, as the official client reads it and as the bytes are."""

from __future__ import annotations

import json
from typing import Any

import pytest
from google import genai
from google.genai import types
from google.genai.errors import ClientError
from pydantic import BaseModel

from streamlib.sim.core import Response, Simulator
from streamlib.sim.model import Frame, Request
from streamlib.sse import SSEParser

from .sdks import QUESTION, client_of, simulated
from .talk import NOW, error_of, json_of

pytestmark = pytest.mark.usefixtures("instant")

ASK = {"contents": [{"role": "user", "parts": [{"text": QUESTION}]}]}
STREAM = "/v1beta/models/sim-1:streamGenerateContent"


def respond(
    body: dict[str, Any],
    *,
    simulator: Simulator | None = None,
    path: str = STREAM,
    query: str = "alt=sse",
    **headers: str,
) -> Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return (simulator or Simulator()).respond(
        Request("POST", path, named, json.dumps(body).encode(), query), NOW
    )


def frames(body: dict[str, Any], **headers: str) -> list[Frame]:
    return list(respond(body, **headers).frames)


def wire(body: dict[str, Any], **headers: str) -> list[dict[str, Any]]:
    """The chunks of a stream."""
    parser = SSEParser()
    return [event.json() for frame in frames(body, **headers) for event in parser.feed(frame.data)]


@pytest.fixture
def client() -> genai.Client:
    made: genai.Client = client_of("google", simulated())
    return made


def config(**fields: Any) -> types.GenerateContentConfig:
    return types.GenerateContentConfig(**fields)


CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {"name": "weather", "description": "The weather in a city", "parametersJsonSchema": CITY}


def weather(city: str) -> str:
    """The weather in a city."""
    return f"19 degrees in {city}"


# --- the stream ------------------------------------------------------------------------------------


def test_only_data_lines_with_a_blank_and_no_done() -> None:
    raw = b"".join(frame.data for frame in frames(ASK))
    lines = [line for line in raw.decode().split("\n") if line]
    assert all(line.startswith("data: {") for line in lines)
    assert b"[DONE]" not in raw


@pytest.mark.parametrize("fault", ["no-done", "crlf", "split-utf8", "clump", "error-event", "truncate-after"])
def test_no_fault_but_comments_adds_a_comment_or_done(fault: str) -> None:
    raw = b"".join(frame.data for frame in frames(ASK, x_sim_fault=fault))
    assert b"[DONE]" not in raw
    assert not any(line.startswith(b":") for line in raw.splitlines())
    commented = b"".join(frame.data for frame in frames(ASK, x_sim_fault=f"{fault};comments"))
    assert b": keep-alive" in commented


def test_only_the_last_chunk_has_a_finish_reason() -> None:
    *before, last = [chunk["candidates"][0] for chunk in wire(ASK)]
    assert last["finishReason"] == "STOP"
    assert not any("finishReason" in candidate for candidate in before)


def test_counts_grow_with_every_chunk() -> None:
    usage = [chunk["usageMetadata"] for chunk in wire(ASK)]
    said = [one["candidatesTokenCount"] for one in usage]
    assert said == sorted(said)
    assert all(
        one["totalTokenCount"] == one["promptTokenCount"] + one["candidatesTokenCount"] for one in usage
    )


def test_one_response_has_one_id() -> None:
    chunks = wire(ASK)
    assert len({chunk["responseId"] for chunk in chunks}) == 1
    assert {chunk["modelVersion"] for chunk in chunks} == {"sim-1"}


def test_a_function_call_comes_whole_and_after_its_last_token() -> None:
    body = {
        "contents": [{"parts": [{"text": "How is the weather in Lisbon and in Rome?"}]}],
        "tools": [{"functionDeclarations": [WEATHER]}],
    }
    made = frames(body)
    calls = [chunk["candidates"][0]["content"]["parts"][0].get("functionCall") for chunk in wire(body)]
    assert [call["args"] for call in calls if call] == [{"city": "Lisbon"}, {"city": "Rome"}]
    tokens = [(frame.made, frame.sent) for frame in made]
    assert sum(one for one, _ in tokens) == sum(one for _, one in tokens) > 8
    assert [bool(frame.data) for frame in made if frame.sent] == [True, True]


@pytest.mark.parametrize("fault", ["truncate-after=1", "cut-after=1", "stall-after=1"])
def test_no_half_function_call_is_sent(fault: str) -> None:
    body = {
        "contents": [{"parts": [{"text": "How is the weather in Lisbon?"}]}],
        "tools": [{"functionDeclarations": [WEATHER]}],
    }
    assert b"".join(frame.data for frame in frames(body, x_sim_fault=fault)) == b""


# --- the client ------------------------------------------------------------------------------------


def test_blocking_and_streamed_are_the_same_answer(client: genai.Client) -> None:
    blocking = client.models.generate_content(model="sim-1", contents=QUESTION)
    chunks = list(client.models.generate_content_stream(model="sim-1", contents=QUESTION))
    assert blocking.text == "".join(chunk.text or "" for chunk in chunks)
    assert blocking.usage_metadata == chunks[-1].usage_metadata
    assert blocking.candidates and blocking.candidates[0].finish_reason == types.FinishReason.STOP


def test_thoughts_are_parts_of_their_own(client: genai.Client) -> None:
    thinking = config(thinking_config=types.ThinkingConfig(include_thoughts=True))
    answer = client.models.generate_content(model="sim-1", contents=QUESTION, config=thinking)
    parts = answer.candidates[0].content.parts  # type: ignore[index, union-attr]
    assert [part.thought for part in parts] == [True, None]  # type: ignore[union-attr]
    assert answer.text == client.models.generate_content(model="sim-1", contents=QUESTION).text
    assert answer.usage_metadata and (answer.usage_metadata.thoughts_token_count or 0) > 10


def test_the_client_calls_a_python_function_and_gives_its_result_back(client: genai.Client) -> None:
    chat = client.chats.create(model="sim-1", config=config(tools=[weather]))
    answer = chat.send_message("How is the weather in Lisbon?")
    assert "19 degrees in Lisbon" in (answer.text or "")


@pytest.mark.parametrize(
    ("calling", "calls"),
    [
        ({}, 2),
        ({"mode": "AUTO"}, 2),
        ({"mode": "ANY"}, 2),
        ({"mode": "ANY", "allowed_function_names": ["weather"]}, 2),
        ({"mode": "NONE"}, 0),
    ],
)
def test_function_calling_modes(client: genai.Client, calling: Any, calls: int) -> None:
    answer = client.models.generate_content(
        model="sim-1",
        contents="How is the weather in Lisbon and in Rome?",
        config=config(
            tools=[weather],
            tool_config={"function_calling_config": calling},
            automatic_function_calling={"disable": True},
        ),
    )
    assert len(answer.function_calls or ()) == calls


class Step(BaseModel):
    text: str
    minutes: int | None = None


class Recipe(BaseModel):
    title: str
    steps: list[Step]


@pytest.mark.parametrize(
    "schema",
    [
        {"response_schema": Recipe},  # in OpenAPI's words, in capitals
        {"response_json_schema": Recipe.model_json_schema()},
    ],
    ids=["schema", "json_schema"],
)
def test_json_by_a_schema(client: genai.Client, schema: dict[str, Any]) -> None:
    wanted = config(response_mime_type="application/json", **schema)
    answer = client.models.generate_content(model="sim-1", contents="A recipe for bread", config=wanted)
    assert Recipe.model_validate_json(answer.text or "").steps


def test_json_without_a_schema(client: genai.Client) -> None:
    wanted = config(response_mime_type="application/json")
    answer = client.models.generate_content(model="sim-1", contents=QUESTION, config=wanted)
    assert "summary" in json.loads(answer.text or "")


@pytest.mark.parametrize(
    ("fields", "reason"),
    [({}, "STOP"), ({"max_output_tokens": 3}, "MAX_TOKENS"), ({"stop_sequences": ["text"]}, "STOP")],
)
def test_why_it_stopped(client: genai.Client, fields: dict[str, Any], reason: str) -> None:
    answer = client.models.generate_content(model="sim-1", contents=QUESTION, config=config(**fields))
    assert answer.candidates and answer.candidates[0].finish_reason == reason
    assert "text" not in (answer.text or "") or not fields


def test_a_call_that_the_limit_cuts_off_is_not_sent(client: genai.Client) -> None:
    fields = config(tools=[weather], max_output_tokens=2, automatic_function_calling={"disable": True})
    for answer in (
        client.models.generate_content(model="sim-1", contents="Weather in Rome?", config=fields),
        *client.models.generate_content_stream(model="sim-1", contents="Weather in Rome?", config=fields),
    ):
        assert not answer.function_calls
    assert answer.candidates and answer.candidates[0].finish_reason == "MAX_TOKENS"


def test_a_conversation_and_its_instruction_are_read(client: genai.Client) -> None:
    chat = client.chats.create(model="sim-1", config=config(system_instruction="Be brief."))
    first = "".join(chunk.text or "" for chunk in chat.send_message_stream(QUESTION))
    again = chat.send_message("Repeat: yes")
    assert again.text == "yes"
    alone = client.models.generate_content(model="sim-1", contents="Repeat: yes")
    assert again.usage_metadata and alone.usage_metadata
    assert (again.usage_metadata.prompt_token_count or 0) > (
        alone.usage_metadata.prompt_token_count or 0
    ) + 40
    assert len(first) > 100


def test_models_and_counting(client: genai.Client) -> None:
    assert [model.name for model in client.models.list()] == ["models/sim-1"]
    assert client.models.get(model="sim-1").output_token_limit
    counted = client.models.count_tokens(model="sim-1", contents=QUESTION).total_tokens
    usage = client.models.generate_content(model="sim-1", contents=QUESTION).usage_metadata
    assert usage and usage.prompt_token_count == counted


@pytest.mark.parametrize("version", ["v1", "v1beta"])
def test_both_versions_of_the_api(version: str) -> None:
    response = respond(ASK, path=f"/{version}/models/sim-1:generateContent", query="")
    assert json_of(response)["candidates"]


def test_both_spellings_of_a_field() -> None:
    camel = {
        **ASK,
        "systemInstruction": {"parts": [{"text": "x"}]},
        "generationConfig": {"maxOutputTokens": 4},
    }
    snake = {
        **ASK,
        "system_instruction": {"parts": [{"text": "x"}]},
        "generation_config": {"max_output_tokens": 4},
    }
    path = "/v1beta/models/sim-1:generateContent"
    camel_answer, snake_answer = (json_of(respond(body, path=path)) for body in (camel, snake))
    assert camel_answer["candidates"] == snake_answer["candidates"]
    assert camel_answer["usageMetadata"] == snake_answer["usageMetadata"]


# --- errors ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"contents": None}, "contents is not specified"),
        ({"contents": []}, "contents is not specified"),
        ({"contents": {"parts": []}}, "Invalid value at 'contents'"),
        ({"contents": ["x"]}, "valid role in contents[0]"),
        ({"contents": [{"role": "assistant", "parts": [{"text": "x"}]}]}, "valid role in contents[0]"),
        ({"contents": [{"parts": []}]}, "contents[0] has no parts"),
        ({"contents": [{"parts": [{"inlineData": {}}]}]}, "contents[0].parts[0]"),
        ({"contents": [{"parts": ["x"]}]}, "contents[0].parts[0]"),
        ({"systemInstruction": {"parts": []}}, "systemInstruction has no parts"),
        ({"generationConfig": {"maxOutputTokens": "many"}}, "Invalid value at 'maxOutputTokens'"),
        ({"generationConfig": {"maxOutputTokens": True}}, "Invalid value at 'maxOutputTokens'"),
        ({"generationConfig": {"candidateCount": 2}}, "n is 2"),
        ({"generationConfig": {"responseMimeType": "text/html"}}, "responseMimeType is"),
        ({"generationConfig": {"responseSchema": {"type": "STRING"}}}, "responseMimeType is"),
        ({"tools": [{"googleSearch": {}}]}, "no tools of its own"),
        ({"tools": ["x"]}, "tools[0]"),
        ({"tools": [{"functionDeclarations": ["x"]}]}, "tools[0]"),
        ({"tools": [{"functionDeclarations": [{"description": "x"}]}]}, "tools[0]"),
    ],
)
def test_a_wrong_request_is_told_what_is_wrong(body: dict[str, Any], says: str) -> None:
    response = respond({**ASK, **body})
    error = error_of(response)
    assert (response.status, error["code"], error["status"]) == (400, 400, "INVALID_ARGUMENT")
    assert says in error["message"]


def test_a_stream_without_alt_sse_is_told() -> None:
    assert "Add ?alt=sse" in error_of(respond(ASK, query=""))["message"]


@pytest.mark.parametrize(
    ("status", "name"),
    [
        (400, "INVALID_ARGUMENT"),
        (404, "NOT_FOUND"),
        (418, "UNKNOWN"),
        (429, "RESOURCE_EXHAUSTED"),
        (500, "INTERNAL"),
        (503, "UNAVAILABLE"),
        (504, "DEADLINE_EXCEEDED"),
    ],
)
def test_the_name_of_a_status(status: int, name: str) -> None:
    error = error_of(respond(ASK, x_sim_fault=f"status={status}"))
    assert (error["code"], error["status"]) == (status, name)


@pytest.mark.parametrize(
    ("fault", "delay"),
    [
        ("retry-after=2", "2s"),
        ("retry-after=0.5", "0.5s"),
        ("status=503;retry-after=3", "3s"),
        ("retry-after-date=5", "1s"),  # a date is no duration: the header has it
    ],
)
def test_how_long_to_wait_stands_in_the_body_too(fault: str, delay: str) -> None:
    response = respond(ASK, x_sim_fault=fault)
    assert "retry-after" in dict(response.headers)
    assert error_of(response)["details"] == [
        {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}
    ]


def test_the_error_in_a_stream_has_a_number_for_code() -> None:
    assert wire(ASK, x_sim_fault="error-event=5")[-1]["error"]["code"] == 503  # else the client breaks


def test_no_done_leaves_out_the_chunk_with_the_finish_reason() -> None:
    whole, short = wire(ASK), wire(ASK, x_sim_fault="no-done")
    assert [chunk["candidates"] for chunk in short] == [chunk["candidates"] for chunk in whole[:-1]]


def test_an_unknown_model_and_an_unknown_path_have_googles_shape(client: genai.Client) -> None:
    with pytest.raises(ClientError, match="one model, 'sim-1'") as caught:
        client.models.generate_content(model="gemini-9", contents=QUESTION)
    assert (caught.value.code, caught.value.status) == (404, "NOT_FOUND")
    assert error_of(respond(ASK, path="/v1beta/nowhere"))["status"] == "NOT_FOUND"


# --- the key ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "query", "status"),
    [
        ({"x_goog_api_key": "secret"}, "alt=sse", 200),
        ({}, "alt=sse&key=secret", 200),
        ({"x_goog_api_key": "wrong"}, "alt=sse", 400),
        ({}, "alt=sse&key=wrong", 400),
        ({}, "alt=sse", 403),
        ({"authorization": "Bearer secret"}, "alt=sse", 403),
        ({"x_api_key": "secret"}, "alt=sse", 403),
    ],
)
def test_the_key(headers: dict[str, str], query: str, status: int) -> None:
    response = respond(ASK, simulator=Simulator(key="secret"), query=query, **headers)
    assert response.status == status
    if status != 200:
        assert "secret" not in json.dumps(error_of(response))


def test_the_official_client_brings_its_key() -> None:
    transport = simulated(key="secret")
    assert (
        client_of("google", transport, key="secret")
        .models.generate_content(model="sim-1", contents="Hi")
        .text
    )
    assert list(client_of("google", transport, key="secret").models.list())
    with pytest.raises(ClientError, match="API key not valid"):
        client_of("google", transport, key="wrong").models.generate_content(model="sim-1", contents="Hi")


def test_openai_does_not_look_for_a_key_in_the_query() -> None:
    asked = Request("POST", "/v1/chat/completions", {}, b"{}", "key=secret")
    assert Simulator(key="secret").respond(asked, NOW).status == 401
