"""What the official clients make of the embedded model: seven ways to stream, two kinds, and every fault.

The table of faults is lesson 5's and lesson 9's ground: where a client raises, what, and where it says
nothing at all. It was found with openai 3.52, anthropic 2.11 and google-genai 3.4; a new release may differ.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from typing import Any

import httpx2
import pytest

from streamlib.sim.faults import FAULTS
from streamlib.sim.tokens import split_tokens

from .sdks import PATHS, QUESTION, Seen, aread, client_of, read, simulated

pytestmark = pytest.mark.usefixtures("instant")

Read = Callable[..., Awaitable[Seen]]


async def sync_read(*args: Any, **options: Any) -> Seen:
    return await asyncio.to_thread(read, *args, **options)


def leaks(way: str, read_with: Read) -> bool:
    """Google's asynchronous stream, left early or by an error, stays open until the garbage collector comes:
    its generators do not close one another. ``providers.py`` shows what does."""
    return way == "google" and read_with is aread


both_kinds = pytest.mark.parametrize("read_with", [sync_read, aread], ids=["sync", "async"])
every_way = pytest.mark.parametrize("way", PATHS)


# --- what goes well --------------------------------------------------------------------------------


@both_kinds
async def test_the_same_answer_on_every_way(read_with: Read) -> None:
    seen = [await read_with(way, simulated()) for way in PATHS]
    assert {one.error for one in seen} == {None}
    assert len({one.text for one in seen}) == 1
    assert len({one.tokens for one in seen}) == 1
    assert [one.finish for one in seen] == [
        *("stop", "stop", "completed", "completed"),
        *("end_turn", "end_turn", "STOP"),
    ]


@both_kinds
@every_way
async def test_it_comes_in_many_pieces(way: str, read_with: Read) -> None:
    assert len([text for text in (await read_with(way, simulated())).texts if text]) > 10


@both_kinds
async def test_the_same_thoughts_on_every_way(read_with: Read) -> None:
    seen = [await read_with(way, simulated(), profile="instant-reasoning") for way in PATHS]
    assert len({"".join(one.thoughts) for one in seen}) == 1
    assert len({one.text for one in seen}) == len({one.tokens for one in seen}) == 1
    assert len("".join(seen[0].thoughts)) > 100


CITY = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
WEATHER = {"name": "get_weather", "description": "The weather in a city"}


def tools_for(way: str) -> list[Any]:
    match way.split()[0]:
        case "chat":
            return [{"type": "function", "function": {**WEATHER, "parameters": CITY, "strict": True}}]
        case "responses":
            return [{"type": "function", **WEATHER, "parameters": CITY, "strict": True}]
        case "messages":
            return [{**WEATHER, "input_schema": CITY}]
    return [{"function_declarations": [{**WEATHER, "parameters_json_schema": CITY}]}]


@both_kinds
@every_way
async def test_two_tool_calls(way: str, read_with: Read) -> None:
    prompt = "What is the weather in Lisbon and in Rome?"
    seen = await read_with(way, simulated(), prompt=prompt, tools=tools_for(way))
    assert seen.error is None
    assert [name for name, _ in seen.calls] == ["get_weather", "get_weather"]
    given = [
        json.loads(arguments) if isinstance(arguments, str) else arguments for _, arguments in seen.calls
    ]
    assert given == [{"city": "Lisbon"}, {"city": "Rome"}]
    assert seen.text == ""


RECIPE = {
    "type": "object",
    "properties": {"title": {"type": "string"}, "steps": {"type": "array", "items": {"type": "string"}}},
    "required": ["title", "steps"],
    "additionalProperties": False,
}


def json_for(way: str) -> dict[str, Any]:
    match way.split()[0]:
        case "chat":
            schema = {"name": "recipe", "schema": RECIPE}
            return {"response_format": {"type": "json_schema", "json_schema": schema}}
        case "responses":
            return {"text": {"format": {"type": "json_schema", "name": "recipe", "schema": RECIPE}}}
        case "messages":
            return {"output_config": {"format": {"type": "json_schema", "schema": RECIPE}}}
    return {"response_mime_type": "application/json", "response_json_schema": RECIPE}


@both_kinds
@every_way
async def test_json_by_a_schema(way: str, read_with: Read) -> None:
    seen = await read_with(way, simulated(), **json_for(way))
    assert seen.error is None
    assert list(json.loads(seen.text)) == ["title", "steps"]


@both_kinds
@every_way
async def test_a_limit_is_kept_and_told(way: str, read_with: Read) -> None:
    name = {"chat": "max_tokens", "responses": "max_output_tokens", "messages": "max_tokens"}
    limit = {name.get(way.split()[0], "max_output_tokens"): 7}
    seen = await read_with(way, simulated(), **limit)
    if way == "chat helper":  # the helper raises when the answer hits the limit
        assert type(seen.error).__name__ in ("NoneType", "LengthFinishReasonError")
    else:
        assert (seen.finish, seen.tokens) == (
            {"chat": "length", "responses": "incomplete", "messages": "max_tokens"}.get(
                way.split()[0], "MAX_TOKENS"
            ),
            7,
        )


# --- every fault -----------------------------------------------------------------------------------

FINE, SILENT = "fine", "silent"  # silent: no exception, and nothing that says the answer is complete
CONNECTION, TIMEOUT = "openai.APIConnectionError", "openai.APITimeoutError"
CUT, JSON = "httpx2.RemoteProtocolError", "json.JSONDecodeError"
ODD = "google.UnknownApiResponseError"
NOTHING, SIX, WHOLE = "", "six tokens", "whole"


def status(openai: str, anthropic: str = "") -> tuple[str, str, str]:
    """What both OpenAI wires and Anthropic's client raise for a status."""
    return f"openai.{openai}", f"openai.{openai}", f"anthropic.{anthropic or openai}"


TABLE = [
    # fault, then what comes of it: chat, responses, messages, google, and the text until then
    ("refuse", CONNECTION, CONNECTION, "anthropic.APIConnectionError", CUT, NOTHING),
    ("status=400", *status("BadRequestError"), "google.ClientError", NOTHING),
    ("status=401", *status("AuthenticationError"), "google.ClientError", NOTHING),
    ("status=429", *status("RateLimitError"), "google.ClientError", NOTHING),
    ("retry-after=2", *status("RateLimitError"), "google.ClientError", NOTHING),
    ("retry-after-date=2", *status("RateLimitError"), "google.ClientError", NOTHING),
    ("status=500", *status("InternalServerError"), "google.ServerError", NOTHING),
    ("status=529", *status("InternalServerError", "OverloadedError"), "google.ServerError", NOTHING),
    ("slow-first-byte=0.05", FINE, FINE, FINE, FINE, WHOLE),
    ("cut-after=6", CONNECTION, CONNECTION, CUT, CUT, SIX),
    ("cut-mid-event=6", CONNECTION, CONNECTION, CUT, CUT, SIX),
    ("truncate-after=6", SILENT, SILENT, SILENT, SILENT, SIX),
    ("stall-after=6", TIMEOUT, TIMEOUT, "httpx2.ReadTimeout", "httpx2.ReadTimeout", SIX),
    ("error-event=6", "openai.APIError", SILENT, "anthropic.APIStatusError", "google.ServerError", SIX),
    ("bad-json=6", JSON, JSON, JSON, ODD, SIX),
    ("no-done", FINE, SILENT, FINE, SILENT, WHOLE),
    ("clump=0.05", FINE, FINE, FINE, FINE, WHOLE),
    ("split-utf8", FINE, FINE, FINE, FINE, WHOLE),
    ("crlf", FINE, FINE, FINE, FINE, WHOLE),
    ("comments", FINE, FINE, FINE, ODD, NOTHING),
]


def rows() -> list[Any]:
    """The table, one row for each fault and way: the helpers meet what the plain calls meet."""
    found = []
    for fault, chat, responses, messages, google, text in TABLE:
        for way in PATHS:
            outcome = {"chat": chat, "responses": responses, "messages": messages}.get(way.split()[0], google)
            left = WHOLE if outcome == FINE else text
            found.append(pytest.param(way, fault, outcome, left, id=f"{fault}-{way}"))
    return found


def outcome_of(seen: Seen) -> str:
    if seen.error is None:
        return FINE if seen.finish else SILENT
    kind = type(seen.error)
    return f"{kind.__module__.split('.')[0]}.{kind.__name__}"


def text_left(seen: Seen, whole: str) -> str:
    if seen.text == "".join(split_tokens(whole)[:6]):
        return SIX
    return WHOLE if seen.text == whole else seen.text


@both_kinds
@pytest.mark.parametrize(("way", "fault", "outcome", "left"), rows())
async def test_what_a_client_makes_of_a_fault(
    way: str, fault: str, outcome: str, left: str, read_with: Read
) -> None:
    patience = 0.2 if fault.startswith("stall") else 20.0
    transport = simulated()
    seen = await read_with(way, transport, fault, timeout=patience)
    assert (outcome_of(seen), text_left(seen, WHOLE_TEXT)) == (outcome, left), repr(seen.error)
    assert transport.simulator.stats.streams_open == 0 or leaks(way, read_with)


WHOLE_TEXT = (
    "Server-Sent Events are a text format for a stream of messages over one ordinary HTTP response. "
    "The server answers with the content type text/event-stream and keeps writing."
)


def test_every_fault_is_in_the_table() -> None:
    assert {fault.partition("=")[0] for fault, *_ in TABLE} == set(FAULTS)


@pytest.mark.parametrize(
    ("way", "final", "outcome"),
    [
        ("chat helper", "get_final_completion", None),
        ("responses helper", "get_final_response", "RuntimeError"),
        ("messages helper", "get_final_message", None),
    ],
)
async def test_the_final_object_of_a_truncated_stream(way: str, final: str, outcome: str | None) -> None:
    path = PATHS[way]
    client = client_of(path.provider, simulated(), asynchronous=True)
    error = None
    async with path.open(client, QUESTION, {"X-Sim-Fault": "truncate-after=6"}) as stream:
        try:
            await getattr(stream, final)()
        except Exception as problem:
            error = type(problem).__name__
    assert error == outcome


# --- leaving ---------------------------------------------------------------------------------------


@both_kinds
@every_way
async def test_leaving_early_saves_the_rest(way: str, read_with: Read) -> None:
    transport = simulated("fast")
    seen = await read_with(way, transport, stop_after=4)
    assert seen.error is None
    stats = transport.simulator.stats
    assert (stats.streams_open, stats.tokens_saved > 10) == (0, True) or leaks(way, read_with)


@pytest.mark.parametrize("kind", ["sync", "async"])
@every_way
async def test_the_server_sees_a_reader_leave(way: str, kind: str, sim_server: str) -> None:
    root = sim_server.removesuffix("/v1")
    path, prompt = PATHS[way], "Explain streaming in 400 words."

    async def left() -> tuple[int, int]:
        async with httpx2.AsyncClient() as http:
            stats = (await http.get(f"{root}/sim/stats")).json()
        return stats["streams_open"], stats["clients_left"]

    def read_some() -> None:
        client = client_of(path.provider, base=root)
        with client if path.provider != "google" else closing(client):
            stream = path.open(client, prompt, {})
            with closing(stream) if path.provider == "google" else stream as events:
                next(iter(events))

    async def aread_some() -> None:
        client = client_of(path.provider, base=root, asynchronous=True)
        stream = path.open(client, prompt, {})
        stream = await stream if isinstance(stream, Awaitable) else stream
        if path.provider == "google":
            await anext(aiter(stream))
            await client.aclose()  # its generator's aclose() leaves the connection open
            return
        async with stream as events:
            await anext(aiter(events))

    open_before, left_before = await left()
    await (asyncio.to_thread(read_some) if kind == "sync" else aread_some())
    end = time.monotonic() + 20
    while await left() != (open_before, left_before + 1):
        assert time.monotonic() < end, "the server still sends"
        await asyncio.sleep(0.01)
