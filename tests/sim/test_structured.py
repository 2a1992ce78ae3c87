"""JSON answers and tool arguments."""

from __future__ import annotations

import json
from typing import Any

import pytest

from streamlib.sim.structured import named_things

from .talk import ask, error_of, frames, json_of, text_of


def filled(schema: dict[str, Any], prompt: str = "About retries, 7 of them") -> Any:
    wanted = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    return json.loads(text_of(frames(ask(prompt, response_format=wanted))))


def test_a_json_object_is_about_the_topic() -> None:
    answer = json.loads(
        text_of(frames(ask("Explain jitter as JSON", response_format={"type": "json_object"})))
    )
    assert answer["topic"] == "Jitter"
    assert len(answer["points"]) == 3


def test_a_json_object_has_the_keys_that_the_prompt_quotes() -> None:
    prompt = 'JSON with the keys "title", "points" and "count", about backpressure'
    answer = json.loads(text_of(frames(ask(prompt, response_format={"type": "json_object"}))))
    assert {key: type(value) for key, value in answer.items()} == {"title": str, "points": list, "count": int}


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "string"}, "Retries"),
        ({"type": "string", "maxLength": 3}, "Ret"),
        ({"type": "string", "format": "date"}, "2026-11-21"),
        ({"type": "integer"}, 7),
        ({"type": "number", "maximum": 5}, 5.0),
        ({"type": "integer", "minimum": 10}, 10),
        ({"type": "integer", "exclusiveMinimum": 10}, 11),
        ({"type": "boolean"}, True),
        ({"type": "null"}, None),
        ({"type": ["null", "integer"]}, 7),
        ({"const": "x"}, "x"),
        ({"enum": ["tokens", "retries"]}, "retries"),
        ({"enum": [1, 2]}, 1),
        ({"anyOf": [{"type": "null"}, {"type": "integer"}]}, 7),
        ({"type": "array", "items": {"type": "boolean"}}, [True, True, True]),
        ({"type": "array", "items": {"type": "boolean"}, "maxItems": 1}, [True]),
        ({"type": "array", "items": {"type": "boolean"}, "minItems": 5}, [True] * 5),
        (
            {"type": "object", "properties": {"a": {"type": "boolean"}, "b": {}}, "required": ["a"]},
            {"a": True},
        ),
        (
            {"properties": {"a": {"$ref": "#/$defs/flag"}}, "$defs": {"flag": {"type": "boolean"}}},
            {"a": True},
        ),
    ],
)
def test_a_schema_is_filled(schema: dict[str, Any], value: Any) -> None:
    assert filled(schema) == value


def test_a_schema_that_refers_to_itself_comes_to_an_end() -> None:
    node = {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]},
            "all": {"type": "array", "items": {"$ref": "#"}},
        },
    }
    found, levels = filled(node), 0
    while found:
        found, levels = found["next"], levels + 1
    assert 2 < levels < 10


def test_a_schema_that_wants_too_much_gets_less() -> None:
    deep: dict[str, Any] = {"type": "boolean"}
    for _ in range(3):
        deep = {"type": "array", "minItems": 1000, "items": deep}
    assert len(json.dumps(filled(deep))) < 10_000


@pytest.mark.parametrize("schema", [{"enum": 5}, {"type": "array", "minItems": "x"}, {"anyOf": [5]}])
def test_a_schema_that_is_none_is_a_400(schema: dict[str, Any]) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    response = ask(response_format=wanted)
    assert response.status == 400
    assert "schema" in error_of(response)["message"]


@pytest.mark.parametrize(
    ("prompt", "things"),
    [
        ("What is the weather in Paris and in New York?", ["Paris", "New York"]),
        ("What's the time in Tokyo?", ["Tokyo"]),
        ("Search for 'async generators', please", ["async generators"]),
        ('Look up "jitter" and "backoff"', ["jitter", "backoff"]),
        ("What should I wear?", []),
    ],
)
def test_what_a_prompt_names(prompt: str, things: list[str]) -> None:
    assert named_things(prompt) == things


def test_arguments_come_from_the_prompt() -> None:
    parameters = {
        "properties": {
            "city": {"type": "string"},
            "days": {"type": "integer"},
            "unit": {"enum": ["celsius", "fahrenheit"]},
        }
    }
    tool = {"type": "function", "function": {"name": "forecast", "parameters": parameters}}
    answer = json_of(ask("Forecast for Oslo, 3 days, in Fahrenheit", tools=[tool], stream=False))
    arguments = answer["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"]
    assert json.loads(arguments) == {"city": "Oslo", "days": 3, "unit": "fahrenheit"}


def test_the_tool_that_fits_the_words_is_called() -> None:
    tools = [
        {"type": "function", "function": {"name": name, "description": what}}
        for name, what in [("get_time", "The time in a city"), ("get_weather", "The weather in a city")]
    ]
    answer = json_of(ask("How is the weather in Rome?", tools=tools, stream=False))
    assert answer["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == "get_weather"
