"""OpenAI's Responses format, as the official client reads it: events, helper, tools, limits, faults."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

import httpx2
import pytest
from openai import APIConnectionError, AsyncOpenAI, BadRequestError, NotFoundError

from streamlib.sim import SimTransport
from streamlib.sim.core import Simulator
from streamlib.sim.model import Request

from .talk import NOW, error_of, json_of, request

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
        ({"conversation": "conv_1"}, "stores"),
        ({"background": True, "store": False}, "store=True"),
        ({"previous_response_id": "resp_1"}, "stores"),
        ({"max_output_tokens": 0}, "max_tokens"),
    ],
)
async def test_a_wrong_request_is_told_what_is_wrong(
    client: AsyncOpenAI, fields: dict[str, Any], word: str
) -> None:
    with pytest.raises(BadRequestError, match=word):
        await client.responses.create(**{"model": "sim-1", "input": QUESTION, **fields})


# --- in the background -----------------------------------------------------------------------------


def text_of(events: list[Any]) -> str:
    return "".join(event.delta for event in events if event.type == "response.output_text.delta")


async def read(stream: Any) -> list[Any]:
    """The events of a stream, as far as they come."""
    events = []
    with contextlib.suppress(APIConnectionError):
        async with stream:
            async for event in stream:
                events.append(event)
    return events


async def background(client: AsyncOpenAI, fault: str = "", **fields: Any) -> Any:
    fields = {"model": "sim-1", "input": QUESTION, "background": True, "stream": True, **fields}
    return await client.responses.create(**fields, extra_headers={"X-Sim-Fault": fault} if fault else {})


@pytest.mark.parametrize("after", [1, 7, 30])
async def test_a_broken_stream_is_resumed_after_its_last_event(client: AsyncOpenAI, after: int) -> None:
    events = await read(await background(client, f"cut-after={after}"))
    name, last = events[0].response.id, events[-1].sequence_number
    rest = await read(await client.responses.retrieve(name, stream=True, starting_after=last))
    assert rest[0].sequence_number == last + 1
    assert rest[-1].response.output_text == text_of(events) + text_of(rest)
    assert text_of(await events_of(client)) == text_of(events) + text_of(rest)


async def test_the_resumed_stream_can_break_too(client: AsyncOpenAI) -> None:
    events = await read(await background(client, "cut-after=3"))
    name = events[0].response.id
    for _ in range(3):
        events += await read(
            await client.responses.retrieve(
                name,
                stream=True,
                starting_after=events[-1].sequence_number,
                extra_headers={"X-Sim-Fault": "cut-after=5"},
            )
        )
    rest = await client.responses.retrieve(name, stream=True, starting_after=events[-1].sequence_number)
    events += await read(rest)
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[-1].response.output_text == text_of(events)


async def test_what_is_read_twice_is_made_and_delivered_once(client: AsyncOpenAI) -> None:
    stats = client._client._transport.simulator.stats  # type: ignore[attr-defined]
    events = await read(await background(client, "cut-after=5"))
    assert stats.tokens_produced > 5 == stats.tokens_delivered
    for _ in range(2):
        whole = await read(await client.responses.retrieve(events[0].response.id, stream=True))
    assert stats.tokens_delivered == stats.tokens_produced == whole[-1].response.usage.output_tokens


async def test_a_response_in_the_background_can_be_asked_for(client: AsyncOpenAI) -> None:
    begun = await background(client, stream=False)
    assert (begun.status, begun.output, begun.usage, begun.background) == ("queued", [], None, True)
    seen = [begun.status]
    async with asyncio.timeout(30):
        while seen[-1] in ("queued", "in_progress"):
            await asyncio.sleep(0.05)
            seen.append((now := await client.responses.retrieve(begun.id)).status)
    assert list(dict.fromkeys(seen)) == ["queued", "in_progress", "completed"]
    assert now.output_text == (await events_of(client))[-1].response.output_text


async def test_the_stream_helper_goes_on_where_it_is_told(client: AsyncOpenAI) -> None:
    events = await read(await background(client, "cut-after=5"))
    async with client.responses.stream(response_id=events[0].response.id, starting_after=8) as stream:
        rest = [event async for event in stream]
        final = await stream.get_final_response()
    assert rest[0].sequence_number == 9
    assert final.output_text.startswith(text_of(events))


async def test_cancelling_ends_the_answer_and_saves_the_rest(client: AsyncOpenAI) -> None:
    stats = client._client._transport.simulator.stats  # type: ignore[attr-defined]
    events = []
    async with await background(client) as stream:
        async for event in stream:
            events.append(event)
            if len(text_of(events)) > 20:
                name = events[0].response.id
                assert (await client.responses.cancel(name)).status == "cancelled"
    assert events[-1].type == "response.output_text.delta"
    assert (await client.responses.retrieve(name)).status == "cancelled"
    assert stats.tokens_saved > 10


async def test_a_response_that_is_complete_is_not_cancelled_any_more(client: AsyncOpenAI) -> None:
    events = await read(await background(client))
    assert (await client.responses.cancel(events[0].response.id)).status == "completed"


async def test_a_response_can_be_deleted(client: AsyncOpenAI) -> None:
    begun = await background(client, stream=False)
    await client.responses.delete(begun.id)
    with pytest.raises(NotFoundError, match="keeps the latest"):
        await client.responses.retrieve(begun.id)


async def test_only_the_latest_are_kept() -> None:
    simulator = Simulator()
    ask = {"model": "sim-1", "input": "Repeat: x", "background": True}
    names = [json_of(simulator.respond(request(ask, path="/v1/responses"), NOW))["id"] for _ in range(201)]

    def status(name: str) -> int | None:
        return simulator.respond(request(method="GET", path=f"/v1/responses/{name}"), NOW).status

    assert [status(name) for name in (names[0], names[1], names[200])] == [404, 200, 200]


async def test_the_events_begin_with_queued(client: AsyncOpenAI) -> None:
    kinds = [event.type for event in await read(await background(client))]
    assert kinds[:3] == ["response.created", "response.queued", "response.in_progress"]


@pytest.mark.parametrize(
    ("stream", "query", "says"),
    [
        (True, "stream=true&starting_after=x", "an event's number"),
        (True, "stream=true&starting_after=-2", "an event's number"),
        (False, "stream=true", "stream=True"),
    ],
)
def test_a_resume_that_cannot_be_is_told(stream: bool, query: str, says: str) -> None:
    simulator = Simulator()
    ask = {"model": "sim-1", "input": "Repeat: x", "background": True, "stream": stream}
    simulator.respond(request(ask, path="/v1/responses"), NOW)
    again = Request("GET", "/v1/responses/resp_sim00000001", {}, query=query)
    response = simulator.respond(again, NOW)
    assert response.status == 400
    assert says in error_of(response)["message"]
