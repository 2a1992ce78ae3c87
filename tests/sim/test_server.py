"""``streamlib serve`` as the official client, unmodified, sync and async, meets it; and its bytes."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx2
import openai
import pytest
from openai import AsyncOpenAI, OpenAI

from .talk import body_of

# --- the official client, both kinds through one face ----------------------------------------------


class Sync:
    """The synchronous client; each call is made in a thread."""

    def __init__(self, base_url: str, **options: Any) -> None:
        self.client = OpenAI(base_url=base_url, api_key="none", **options)

    async def create(self, **fields: Any) -> Any:
        return await asyncio.to_thread(self.client.chat.completions.create, **fields)

    async def stream(self, **fields: Any) -> AsyncIterator[Any]:
        stream = await asyncio.to_thread(self.client.chat.completions.create, stream=True, **fields)
        chunks = iter(stream)
        with stream:
            while (chunk := await asyncio.to_thread(next, chunks, None)) is not None:
                yield chunk

    async def close(self) -> None:
        self.client.close()


class Async:
    def __init__(self, base_url: str, **options: Any) -> None:
        self.client = AsyncOpenAI(base_url=base_url, api_key="none", **options)

    async def create(self, **fields: Any) -> Any:
        return await self.client.chat.completions.create(**fields)

    async def stream(self, **fields: Any) -> AsyncIterator[Any]:
        async with await self.client.chat.completions.create(stream=True, **fields) as stream:
            async for chunk in stream:
                yield chunk

    async def close(self) -> None:
        await self.client.close()


Connect = Callable[..., Any]


@pytest.fixture(params=[Sync, Async], ids=["sync", "async"])
async def connect(request: pytest.FixtureRequest, sim_server: str) -> AsyncIterator[Connect]:
    """Makes a client of the session's server; without retries unless they are asked for."""
    made: list[Any] = []

    def make(**options: Any) -> Any:
        made.append(request.param(sim_server, **{"max_retries": 0, "timeout": 20.0, **options}))
        return made[-1]

    yield make
    for client in made:
        await client.close()


def sim(base_url: str, path: str) -> str:
    return base_url.removesuffix("/v1") + path


def stats(base_url: str) -> dict[str, Any]:
    found: dict[str, Any] = httpx2.get(sim(base_url, "/sim/stats")).json()
    return found


async def read(
    client: Any, fault: str = "", prompt: str = "Explain jitter in one sentence", **fields: Any
) -> dict[str, Any]:
    """Stream an answer; what came, also when it ends with an error."""
    got: dict[str, Any] = {"text": "", "chunks": 0, "finish": None, "usage": None, "error": None, "at": []}
    headers = {"X-Sim-Fault": fault} if fault else {}
    t0 = time.perf_counter()
    try:
        async for chunk in client.stream(**body_of(prompt, **fields), extra_headers=headers):
            got["chunks"] += 1
            got["usage"] = chunk.usage or got["usage"]
            for choice in chunk.choices:
                got["text"] += choice.delta.content or ""
                got["finish"] = choice.finish_reason or got["finish"]
                if choice.delta.content:
                    got["at"].append(time.perf_counter() - t0)
    except (openai.OpenAIError, ValueError) as error:
        got["error"] = error
    return got


# --- behaviours ------------------------------------------------------------------------------------


async def test_streamed_and_blocking_say_the_same(connect: Connect) -> None:
    client = connect()
    streamed = await read(client, stream_options={"include_usage": True})
    whole = await client.create(**body_of("Explain jitter in one sentence"))
    assert streamed["text"] == whole.choices[0].message.content
    assert streamed["usage"] == whole.usage
    assert streamed["finish"] == whole.choices[0].finish_reason == "stop"
    assert streamed["chunks"] < whole.usage.completion_tokens + 4


async def test_tokens_arrive_over_time(connect: Connect) -> None:
    got = await read(connect(), prompt="Explain jitter")
    assert got["at"][-1] - got["at"][0] > 0.05
    assert len(got["at"]) > 20


async def test_limit_and_stop(connect: Connect) -> None:
    client = connect()
    assert (await read(client, max_tokens=3))["finish"] == "length"
    assert (await read(client, prompt="Repeat: a b c", stop=[" c"]))["text"] == "a b"


async def test_the_same_seed_gives_the_same_text(connect: Connect) -> None:
    client = connect()
    one, other = await read(client, seed=7), await read(client, seed=7)
    assert (one["text"], one["chunks"]) == (other["text"], other["chunks"])


async def test_tool_calls_are_put_together(connect: Connect) -> None:
    parameters = {"type": "object", "properties": {"city": {"type": "string"}}}
    tool = {"type": "function", "function": {"name": "get_weather", "parameters": parameters}}
    arguments: dict[int, str] = {}
    async for chunk in connect().stream(**body_of("Weather in Paris and Rome?", tools=[tool])):
        for call in chunk.choices[0].delta.tool_calls or ():
            arguments[call.index] = arguments.get(call.index, "") + call.function.arguments
    assert [json.loads(text) for text in arguments.values()] == [{"city": "Paris"}, {"city": "Rome"}]


async def test_json_and_reasoning(connect: Connect) -> None:
    client = connect()
    whole = await client.create(**body_of("Jitter as JSON", response_format={"type": "json_object"}))
    assert json.loads(whole.choices[0].message.content)["topic"] == "Jitter"
    thoughts = ""
    headers = {"X-Sim-Profile": "reasoning"}
    async for chunk in client.stream(**body_of("What is jitter?", max_tokens=20), extra_headers=headers):
        thoughts += getattr(chunk.choices[0].delta, "reasoning_content", None) or ""
    assert thoughts.startswith("The reader asks about Jitter")


async def test_the_clients_own_stream_helper_works(sim_server: str) -> None:
    async with (
        AsyncOpenAI(base_url=sim_server, api_key="none") as client,
        client.chat.completions.stream(**body_of("Explain jitter in one sentence")) as stream,
    ):
        deltas = [event.delta async for event in stream if event.type == "content.delta"]
        final = await stream.get_final_completion()
    assert "".join(deltas) == final.choices[0].message.content


async def test_the_models(sim_server: str) -> None:
    async with AsyncOpenAI(base_url=sim_server, api_key="none") as client:
        assert [model.id async for model in client.models.list()] == ["sim-1"]
        assert (await client.models.retrieve("sim-1")).owned_by == "streamlib-simulator"


async def test_errors_have_the_official_classes(connect: Connect) -> None:
    client = connect()
    with pytest.raises(openai.NotFoundError, match=r"model=model\.name"):
        await client.create(**{**body_of(), "model": "gpt-9"})
    with pytest.raises(openai.BadRequestError, match="one answer per request"):
        await client.create(**body_of(n=2))


# --- faults ----------------------------------------------------------------------------------------

WHOLE = "a é b c d e f g h i"  # ten tokens
FIVE = "a é b c d"


@pytest.mark.parametrize(
    ("fault", "error", "text", "finish"),
    [
        ("refuse", openai.APIConnectionError, "", None),
        ("status=429;retry-after=2", openai.RateLimitError, "", None),
        ("status=429;retry-after-date=2", openai.RateLimitError, "", None),
        ("status=500", openai.InternalServerError, "", None),
        ("status=503", openai.InternalServerError, "", None),
        ("cut-after=5", openai.APIConnectionError, FIVE, None),
        ("truncate-after=5", None, FIVE, None),
        ("cut-mid-event=5", openai.APIConnectionError, FIVE, None),
        ("stall-after=5", openai.APITimeoutError, FIVE, None),
        ("error-event=5", openai.APIError, FIVE, None),
        ("bad-json=5", json.JSONDecodeError, FIVE, None),
        ("no-done", None, WHOLE, "stop"),
        ("slow-first-byte=0.6", None, WHOLE, "stop"),
        ("slow-first-byte=60", openai.APITimeoutError, "", None),
        ("clump=0.1", None, WHOLE, "stop"),
        ("split-utf8", None, WHOLE, "stop"),
        ("crlf", None, WHOLE, "stop"),
        ("comments", None, WHOLE, "stop"),
        ("crlf;comments;split-utf8;no-done", None, WHOLE, "stop"),
    ],
)
async def test_what_a_fault_looks_like(
    connect: Connect, fault: str, error: type[Exception] | None, text: str, finish: str | None
) -> None:
    client = connect(timeout=1.5 if error is openai.APITimeoutError else 20.0)
    got = await read(client, fault, f"Repeat: {WHOLE}")
    assert type(got["error"]) is (error or type(None))
    assert (got["text"], got["finish"]) == (text, finish)


async def test_retry_after_reaches_the_client(connect: Connect) -> None:
    got = await read(connect(), "status=429;retry-after=2")
    assert got["error"].response.headers["retry-after"] == "2"
    assert "try again in 2 s" in str(got["error"])


async def test_the_client_retries_what_is_over_by_then(connect: Connect, sim_server: str) -> None:
    httpx2.post(sim(sim_server, "/sim/faults"), json={"fault": "status=503;retry-after=0.05", "count": 2})
    assert (await read(connect(max_retries=2)))["finish"] == "stop"


async def test_nothing_is_retried_once_text_has_come(connect: Connect, sim_server: str) -> None:
    before = stats(sim_server)["streams_total"]
    got = await read(connect(max_retries=2), "cut-after=2")
    assert isinstance(got["error"], openai.APIConnectionError)
    assert stats(sim_server)["streams_total"] == before + 1


# --- leaving ---------------------------------------------------------------------------------------


def open_stream(base_url: str, **fields: Any) -> http.client.HTTPResponse:
    """A stream of its own connection, with its headers read. Closing it closes the connection."""
    url = urlsplit(base_url)
    connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=20)
    body = json.dumps(body_of("Write 2000 tokens about streaming", stream=True, **fields))
    connection.request("POST", f"{url.path}/chat/completions", body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    assert connection.sock is None or response.status == 200
    return response


def wait_until(true: Callable[[], bool], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not become true in time"
        time.sleep(0.02)


def test_a_client_that_leaves_stops_the_model(sim_server: str) -> None:
    before = stats(sim_server)
    response = open_stream(sim_server)
    response.read(300)
    assert stats(sim_server)["streams_open"] == before["streams_open"] + 1
    response.close()
    wait_until(lambda: stats(sim_server)["streams_open"] == before["streams_open"])
    after = stats(sim_server)
    assert after["clients_left"] == before["clients_left"] + 1
    assert after["tokens_saved"] - before["tokens_saved"] > 1000
    time.sleep(0.2)
    assert stats(sim_server)["tokens_produced"] == after["tokens_produced"]


def test_a_client_that_leaves_a_blocking_call_wastes_what_was_made(sim_server: str) -> None:
    before = stats(sim_server)
    with pytest.raises(httpx2.ReadTimeout):
        httpx2.post(
            f"{sim_server}/chat/completions", json=body_of("Write 2000 tokens about streaming"), timeout=0.7
        )
    wait_until(lambda: stats(sim_server)["clients_left"] == before["clients_left"] + 1)
    after = stats(sim_server)
    assert 0 < after["tokens_wasted"] - before["tokens_wasted"] < 1000


def test_a_client_that_leaves_a_stalled_stream_is_noticed(sim_server: str) -> None:
    before = stats(sim_server)
    with (
        pytest.raises(httpx2.ReadTimeout),
        httpx2.stream(
            "POST",
            f"{sim_server}/chat/completions",
            json=body_of(stream=True),
            headers={"X-Sim-Fault": "stall-after=1"},
            timeout=0.7,
        ) as response,
    ):
        response.read()
    wait_until(lambda: stats(sim_server)["streams_open"] == before["streams_open"])


# --- on the wire -----------------------------------------------------------------------------------


def bytes_of_stream(base_url: str, *headers: str) -> bytes:
    """Everything that one connection receives until the server closes it."""
    url = urlsplit(base_url)
    body = json.dumps(body_of("Repeat: one two three", stream=True)).encode()
    lines = [
        f"POST {url.path}/chat/completions HTTP/1.1",
        "Host: x",
        f"Content-Length: {len(body)}",
        *headers,
    ]
    with socket.create_connection((url.hostname or "", url.port or 0), timeout=20) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode() + body)
        return b"".join(iter(lambda: connection.recv(4096), b""))


def test_the_bytes_of_a_stream(sim_server: str) -> None:
    headers, _, rest = bytes_of_stream(sim_server, "Connection: close").partition(b"\r\n\r\n")
    assert headers.startswith(b"HTTP/1.1 200 OK\r\n")
    for line in (b"content-type: text/event-stream; charset=utf-8", b"transfer-encoding: chunked"):
        assert b"\r\n" + line + b"\r\n" in headers + b"\r\n"
    assert b"\r\ndata: {" in rest
    assert rest.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")


def test_a_cut_stream_ends_without_the_last_chunk(sim_server: str) -> None:
    wire = bytes_of_stream(sim_server, "X-Sim-Fault: cut-after=2")
    assert b" two" in wire
    assert b" three" not in wire
    assert not wire.endswith(b"0\r\n\r\n")


def test_a_large_body_is_refused_and_the_server_lives(sim_server: str) -> None:
    response = httpx2.post(f"{sim_server}/chat/completions", content=b" " * 3_000_000, timeout=20)
    assert response.status_code == 413
    assert httpx2.get(f"{sim_server}/models").status_code == 200


def test_a_schedule_is_kept_as_a_whole(sim_server: str) -> None:
    lag = stats(sim_server)["schedule_lag"]
    assert lag["frames"] > 0
    assert 0 <= lag["p50"] <= lag["p99"] < 1.0


# --- the process -----------------------------------------------------------------------------------


@contextlib.contextmanager
def served(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server of its own and what it printed first."""
    command = [sys.executable, "-m", "streamlib", "serve", *arguments]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as process:
        assert process.stdout is not None
        try:
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


def complaint(*arguments: str) -> str:
    command = [sys.executable, "-m", "streamlib", "serve", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    return done.stderr


def test_it_prints_its_base_url_and_ends_with_its_standard_input() -> None:
    with served("--exit-with-stdin") as (process, base_url):
        assert base_url.startswith("http://127.0.0.1:")
        assert base_url.endswith("/v1")
        assert httpx2.get(f"{base_url}/models").status_code == 200
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(30) == 0


@pytest.mark.skipif(os.name != "posix", reason="there is no SIGINT to send")
def test_ctrl_c_ends_it_without_a_traceback_even_while_it_streams() -> None:
    with served() as (process, base_url):
        response = open_stream(base_url)
        response.read(300)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
        assert errors == ""
        assert process.returncode == 130


def test_a_port_that_is_taken_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"port {port}" in complaint("--port", str(port))


def test_others_are_let_in_with_a_key_only() -> None:
    assert "give a key with --key" in complaint("--host", "0.0.0.0")
    with served("--host", "0.0.0.0", "--key", "secret") as (_, base_url):
        url = f"http://127.0.0.1:{urlsplit(base_url).port}/v1"
        assert httpx2.get(f"{url}/models").status_code == 401
        with OpenAI(base_url=url, api_key="secret") as client:
            assert client.models.list().data[0].id == "sim-1"
        with OpenAI(base_url=url, api_key="wrong") as client, pytest.raises(openai.AuthenticationError):
            client.models.list()


def test_an_unknown_profile_is_told() -> None:
    assert "fast, typical, slow, reasoning, congested" in complaint("--profile", "warp")
