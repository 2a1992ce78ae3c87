"""OpenAI's Responses format, as the official client reads it: events, helper, tools, limits, faults."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest
from openai import AsyncOpenAI, BadRequestError

from streamlib.sim import SimTransport
from streamlib.sim.core import Simulator

QUESTION = "Explain Server-Sent Events in about 40 words."


@pytest.fixture
def client() -> AsyncOpenAI:
    http = httpx2.AsyncClient(transport=SimTransport(Simulator(profile="fast")))
    return AsyncOpenAI(base_url="http://sim/v1", api_key="none", http_client=http, max_retries=0)


async def events_of(client: AsyncOpenAI, **fields: Any) -> list[Any]:
    async with await client.responses.create(
        **{"model": "sim-1", "input": QUESTION, "stream": True, **fields}
    ) as events:
        return [event async for event in events]


async def test_text_comes_in_deltas_and_whole_at_the_end(client: AsyncOpenAI) -> None:
    events = await events_of(client)
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert len(text.split()) > 10
    assert events[-1].type == "response.completed"
    assert events[-1].response.output_text == text


async def test_every_event_has_the_next_sequence_number(client: AsyncOpenAI) -> None:
    events = await events_of(client)
    assert [event.sequence_number for event in events] == list(range(len(events)))


async def test_the_order_of_the_kinds_of_events(client: AsyncOpenAI) -> None:
    kinds = list(dict.fromkeys(event.type for event in await events_of(client)))
    assert kinds == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]


async def test_the_same_answer_as_chat_completions_blocking_and_streamed(client: AsyncOpenAI) -> None:
    blocking = await client.responses.create(model="sim-1", input=QUESTION)
    streamed = (await events_of(client))[-1].response
    chat = await client.chat.completions.create(
        model="sim-1", messages=[{"role": "user", "content": QUESTION}]
    )
    assert blocking.output_text == streamed.output_text == chat.choices[0].message.content
    assert blocking.usage == streamed.usage
    assert chat.usage is not None
    assert streamed.usage.output_tokens == chat.usage.completion_tokens


async def test_the_clients_stream_helper_builds_the_final_response(client: AsyncOpenAI) -> None:
    async with client.responses.stream(model="sim-1", input=QUESTION) as stream:
        deltas = [event.delta async for event in stream if event.type == "response.output_text.delta"]
        final = await stream.get_final_response()
    assert final.output_text == "".join(deltas)


async def test_an_answer_that_hits_the_limit_is_incomplete(client: AsyncOpenAI) -> None:
    last = (await events_of(client, max_output_tokens=5))[-1]
    assert last.type == "response.incomplete"
    assert last.response.incomplete_details.reason == "max_output_tokens"
    assert last.response.usage.output_tokens == 5


async def test_a_tool_call_comes_in_fragments_of_json(client: AsyncOpenAI) -> None:
    tool = {
        "type": "function",
        "name": "get_weather",
        "description": "The weather in a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    }
    events = await events_of(client, input="What is the weather in Lisbon?", tools=[tool])
    fragments = [event.delta for event in events if event.type == "response.function_call_arguments.delta"]
    call = events[-1].response.output[-1]
    assert len(fragments) > 1
    assert call.name == "get_weather"
    assert json.loads("".join(fragments)) == json.loads(call.arguments)


async def test_thoughts_are_a_summary_before_the_text(client: AsyncOpenAI) -> None:
    events = await events_of(client, extra_headers={"X-Sim-Profile": "reasoning"}, max_output_tokens=60)
    kinds = [event.type for event in events]
    assert "response.reasoning_summary_text.delta" in kinds
    assert events[-1].response.usage.output_tokens_details.reasoning_tokens > 0


async def test_instructions_and_a_list_of_messages_are_read(client: AsyncOpenAI) -> None:
    part = {"type": "input_text", "text": QUESTION}
    response = await client.responses.create(
        model="sim-1", instructions="Be brief.", input=[{"role": "user", "content": [part]}]
    )
    alone = await client.responses.create(model="sim-1", input=QUESTION)
    assert response.output_text
    assert response.usage is not None and alone.usage is not None
    assert response.usage.input_tokens > alone.usage.input_tokens


async def test_a_stream_cut_cleanly_has_no_last_event(client: AsyncOpenAI) -> None:
    events = await events_of(client, extra_headers={"X-Sim-Fault": "truncate-after=5"})
    assert events[-1].type == "response.output_text.delta"


async def test_an_error_inside_the_stream_is_an_event(client: AsyncOpenAI) -> None:
    events = await events_of(client, extra_headers={"X-Sim-Fault": "error-event=5"})
    assert events[-1].type == "error"
    assert events[-1].code == "server_error"


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"input": []}, "input"),
        ({"input": 7}, "input"),
        ({"background": True}, "stores"),
        ({"previous_response_id": "resp_1"}, "stores"),
        ({"max_output_tokens": 0}, "max_tokens"),
    ],
)
async def test_a_wrong_request_is_told_what_is_wrong(
    client: AsyncOpenAI, fields: dict[str, Any], word: str
) -> None:
    with pytest.raises(BadRequestError, match=word):
        await client.responses.create(**{"model": "sim-1", "input": QUESTION, **fields})
