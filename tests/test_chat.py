"""`streamlib.chat` on streams made by hand: in process, and over a socket where closing is to be seen."""

from __future__ import annotations

import asyncio
import json
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest

from streamlib.chat import (
    BadAnswer,
    ChatError,
    ChatStream,
    ChatTimeout,
    ConnectionFailed,
    StatusError,
    StreamError,
    StreamTruncated,
    stream_chat,
)
from streamlib.sse import encode

KEY = "sk-secret-0123456789"
URL = "http://model.test/v1"


# --- Streams by hand ---


def chunk(content: str | None = None, finish: str | None = None, **delta: Any) -> bytes:
    if content is not None:
        delta["content"] = content
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return encode(json.dumps({"object": "chat.completion.chunk", "choices": [choice]}))


def event(**fields: Any) -> bytes:
    return encode(json.dumps(fields))


ROLE = chunk("", role="assistant")
HELLO = [ROLE, chunk("Hello"), chunk(" you")]
STOP = chunk(finish="stop")
DONE = encode("[DONE]")
USAGE = event(choices=[], usage={"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5})


class Body(httpx2.AsyncByteStream):
    """A response body of given chunks; an exception among them is raised. Knows how far it was read."""

    def __init__(self, *chunks: bytes | Exception) -> None:
        self.chunks = chunks
        self.read = 0
        self.closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for item in self.chunks:
            self.read += 1
            if isinstance(item, Exception):
                raise item
            yield item
        self.read += 1

    async def aclose(self) -> None:
        self.closed = True


class Server(httpx2.AsyncBaseTransport):
    """Answers every request with one body, in process, and keeps the requests."""

    def __init__(self, *chunks: bytes | Exception, status: int = 200, **headers: str) -> None:
        self.body = Body(*chunks)
        self.status = status
        self.headers = {"content-type": "text/event-stream"} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        self.requests: list[httpx2.Request] = []

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        return httpx2.Response(self.status, headers=self.headers, stream=self.body)

    def chat(self, prompt: Any = "Hi", **arguments: Any) -> ChatStream:
        client = httpx2.AsyncClient(transport=self)
        return stream_chat(
            prompt, **{"model": "m", "base_url": URL, "api_key": KEY, "client": client} | arguments
        )

    @property
    def request(self) -> dict[str, Any]:
        body: dict[str, Any] = json.loads(self.requests[0].content)
        return body


async def read(stream: ChatStream) -> list[str]:
    async with stream:
        return [text async for text in stream]


async def failure(stream: ChatStream) -> tuple[ChatError, list[str]]:
    """The error that a stream ends with, and the texts that came before it."""
    texts = []
    with pytest.raises(ChatError) as raised:
        async with stream:
            async for text in stream:
                texts.append(text)
    return raised.value, texts


# --- What is sent ---


async def test_a_prompt_becomes_a_user_message() -> None:
    server = Server(*HELLO, STOP, DONE)
    await read(server.chat("Hi"))
    assert server.request["messages"] == [{"role": "user", "content": "Hi"}]


async def test_messages_are_sent_as_they_are() -> None:
    messages = ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"})
    server = Server(*HELLO, STOP, DONE)
    await read(server.chat(messages))
    assert server.request["messages"] == list(messages)


async def test_a_stream_with_its_usage_is_asked_for() -> None:
    server = Server(*HELLO, STOP, DONE)
    await read(server.chat(model="some-model"))
    assert server.request["model"] == "some-model"
    assert server.request["stream"] is True
    assert server.request["stream_options"] == {"include_usage": True}


async def test_options_are_further_fields_of_the_request() -> None:
    server = Server(*HELLO, STOP, DONE)
    await read(server.chat(max_tokens=5, stream_options=None))
    assert server.request["max_tokens"] == 5
    assert server.request["stream_options"] is None


@pytest.mark.parametrize("base_url", ["http://model.test/v1", "http://model.test/v1/"])
async def test_the_request_goes_to_chat_completions_with_the_key(base_url: str) -> None:
    server = Server(*HELLO, STOP, DONE)
    await read(server.chat(base_url=base_url))
    [request] = server.requests
    assert (request.method, str(request.url)) == ("POST", "http://model.test/v1/chat/completions")
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.headers["accept"] == "text/event-stream"


async def test_address_and_key_default_to_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://from.env/v1")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-from-env")
    server = Server(*HELLO, STOP, DONE)
    await read(server.chat(base_url=None, api_key=None))
    [request] = server.requests
    assert request.url.host == "from.env"
    assert request.headers["authorization"] == "Bearer sk-from-env"


async def test_without_any_setting_openai_is_asked_and_no_key_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    server = Server(*HELLO, STOP, DONE)
    await read(server.chat(base_url=None, api_key=None))
    [request] = server.requests
    assert str(request.url) == "https://api.openai.com/v1/chat/completions"
    assert "authorization" not in request.headers


@pytest.mark.parametrize(("given", "seconds"), [(7, 7), (httpx2.Timeout(3, read=9), 9), (None, None)])
async def test_the_timeout_is_that_of_each_read(given: Any, seconds: float | None) -> None:
    server = Server(*HELLO, STOP, DONE)
    await read(server.chat(timeout=given))
    assert server.requests[0].extensions["timeout"]["read"] == seconds


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"prompt": {"role": "user", "content": "Hi"}}, TypeError, "a text or a list of messages, got dict"),
        ({"prompt": 5}, TypeError, "a text or a list of messages, got int"),
        ({"prompt": b"Hi"}, TypeError, "a text or a list of messages, got bytes"),
        ({"base_url": "ftp://model.test/v1"}, ValueError, "base_url must look like http://"),
        ({"base_url": "localhost:8000/v1"}, ValueError, "base_url must look like http://"),
        ({"base_url": "/v1"}, ValueError, "base_url must look like http://"),
        ({"base_url": "http:///v1"}, ValueError, "base_url must look like http://"),
        ({"base_url": "http://[bad]/v1"}, ValueError, "base_url must look like http://"),
        ({"base_url": "http://127.0.0.1:80000/v1"}, ValueError, "base_url must look like http://"),
        ({"base_url": KEY}, ValueError, "base_url must look like http://"),
        ({"api_key": f"{KEY}\nsecond line"}, ValueError, "api_key has characters"),
        ({"api_key": f"{KEY}…"}, ValueError, "api_key has characters"),
    ],
)
def test_arguments_that_make_no_request_are_refused_at_once(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message) as raised:
        Server().chat(**arguments)
    assert KEY not in str(raised.value)


async def test_blanks_around_a_key_are_not_sent() -> None:
    server = Server(*HELLO, STOP, DONE)
    await read(server.chat(api_key=f" {KEY}\n"))
    assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"


# --- What is read ---


async def test_the_text_comes_piece_by_piece_and_the_rest_is_there_after_it() -> None:
    server = Server(*HELLO, STOP, USAGE, DONE)
    stream = server.chat()
    assert await read(stream) == ["Hello", " you"]
    assert stream.text == "Hello you"
    assert stream.finish_reason == "stop"
    assert stream.usage == {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    assert stream.reasoning == ""


async def test_each_text_is_there_before_the_next_chunk_is_read() -> None:
    server = Server(*HELLO, STOP, DONE)
    async with server.chat() as stream:
        async for text in stream:
            assert text == "Hello"
            assert (stream.text, stream.finish_reason, server.body.read) == ("Hello", None, 2)
            break


@pytest.mark.parametrize(
    "body",
    [
        [b"".join([*HELLO, STOP, DONE])],
        [bytes([byte]) for byte in b"".join([*HELLO, STOP, DONE])],
        [b"".join([*HELLO, STOP, DONE]).replace(b"\n", b"\r\n")],
        [b"\xef\xbb\xbf: hi\n\n", *HELLO, b": ping\n\n", b"event: ping\n\n", b"retry: 5\n\n", STOP, DONE],
        [*HELLO, STOP, DONE, chunk("after the end"), DONE],
    ],
    ids=["one-chunk", "bytes", "crlf", "comments-and-blocks-without-data", "data-after-done"],
)
async def test_the_framing_makes_no_difference(body: list[bytes]) -> None:
    stream = Server(*body).chat()
    assert await read(stream) == ["Hello", " you"]
    assert stream.finish_reason == "stop"


@pytest.mark.parametrize(
    ("odd", "texts"),
    [
        (event(choices=[]), []),
        (event(choices=None), []),
        (event(id="no choices at all"), []),
        (event(choices=[{"delta": {}}]), []),
        (event(choices=[{"delta": None}]), []),
        (event(choices=[{"delta": {"content": None}, "finish_reason": None}]), []),
        (event(choices=[{"index": 1, "delta": {"content": "the second of n=2 answers"}}]), []),
        (event(choices=[{"delta": {"content": "no index"}}]), ["no index"]),
        (event(choices=[{"delta": {"content": "null error"}}], error=None), ["null error"]),
        (chunk(tool_calls=[{"index": 0, "function": {"arguments": "{}"}}]), []),
    ],
)
async def test_odd_chunks_are_read_for_what_they_say(odd: bytes, texts: list[str]) -> None:
    stream = Server(odd, STOP, DONE).chat()
    assert await read(stream) == texts
    assert stream.finish_reason == "stop"


@pytest.mark.parametrize(
    "chunks",
    [
        [STOP, USAGE],
        [event(choices=[{"delta": {}, "finish_reason": "stop"}], usage=json.loads(USAGE[6:])["usage"])],
        [STOP, event(choices=[{"delta": {}}], usage=json.loads(USAGE[6:])["usage"])],  # LiteLLM
        [
            event(choices=[], usage={"completion_tokens": 1}),
            STOP,
            USAGE,
        ],  # counts on every chunk: the last one
        [USAGE, STOP, event(choices=[], usage=None)],
    ],
)
async def test_the_usage_is_found_wherever_it_stands(chunks: list[bytes]) -> None:
    stream = Server(*HELLO, *chunks, DONE).chat()
    await read(stream)
    assert stream.usage == {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


async def test_no_usage_is_none() -> None:
    stream = Server(*HELLO, STOP, DONE).chat()
    await read(stream)
    assert stream.usage is None


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
async def test_reasoning_is_kept_apart_from_the_answer(field: str) -> None:
    body = [ROLE, chunk(**{field: "Let me"}), chunk(**{field: " see."}), chunk("42"), STOP, DONE]
    stream = Server(*body).chat()
    assert await read(stream) == ["42"]
    assert (stream.text, stream.reasoning) == ("42", "Let me see.")


async def test_reasoning_sent_under_both_names_is_taken_once() -> None:
    stream = Server(chunk(reasoning="Hm.", reasoning_content="Hm."), chunk("42"), STOP, DONE).chat()
    await read(stream)
    assert stream.reasoning == "Hm."


# --- When an answer is whole, and when not ---


@pytest.mark.parametrize(
    "ending",
    [
        [STOP, USAGE, DONE],
        [STOP, DONE],
        [STOP],
        [STOP, USAGE],
        [chunk(finish="length")],
        [STOP, b"data: [DO"],
        [STOP, httpx2.ReadError("reset")],
        [STOP, httpx2.ReadTimeout("silent")],
    ],
)
async def test_with_a_finish_reason_the_answer_is_whole(ending: list[bytes | Exception]) -> None:
    stream = Server(*HELLO, *ending).chat()
    assert await read(stream) == ["Hello", " you"]
    assert stream.finish_reason in ("stop", "length")


@pytest.mark.parametrize(
    ("body", "texts"),
    [
        ([], []),
        ([ROLE], []),
        (HELLO, ["Hello", " you"]),
        ([*HELLO, b'data: {"choices":[{"del'], ["Hello", " you"]),
        ([*HELLO, STOP[:-1]], ["Hello", " you"]),  # its blank line is missing: the event never happened
        ([*HELLO, DONE], ["Hello", " you"]),  # a gateway's, behind which the stream broke off
        ([*HELLO, USAGE, DONE], ["Hello", " you"]),
        ([*HELLO, httpx2.RemoteProtocolError("peer closed connection")], ["Hello", " you"]),
        ([*HELLO, httpx2.ReadError("")], ["Hello", " you"]),
        ([httpx2.ReadError("")], []),
    ],
)
async def test_without_a_finish_reason_the_stream_is_truncated(
    body: list[bytes | Exception], texts: list[str]
) -> None:
    error, seen = await failure(Server(*body).chat())
    assert type(error) is StreamTruncated
    assert (seen, error.text) == (texts, "".join(texts))
    assert "before a finish reason came" in str(error)


async def test_a_broken_connection_is_named_and_is_the_cause() -> None:
    broken = httpx2.RemoteProtocolError("peer closed connection")
    error, _ = await failure(Server(*HELLO, broken).chat())
    assert "the connection broke (peer closed connection)" in str(error)
    assert error.__cause__ is broken


async def test_silence_inside_the_answer_is_a_timeout_with_the_text() -> None:
    error, texts = await failure(Server(*HELLO, httpx2.ReadTimeout("")).chat())
    assert type(error) is ChatTimeout
    assert (error.text, texts) == ("Hello you", ["Hello", " you"])
    assert "silent for too long (ReadTimeout)" in str(error)


@pytest.mark.parametrize(
    ("sent", "message", "code"),
    [
        ({"error": {"message": "Overloaded.", "code": "overloaded"}}, "Overloaded.", "overloaded"),
        ({"error": {"message": "Upstream died.", "code": 502}, "choices": []}, "Upstream died.", 502),
        ({"error": "Overloaded."}, "Overloaded.", None),
        ({"error": {"type": "server_error"}}, "{'type': 'server_error'}", None),
        ({"object": "error", "message": "CUDA error", "code": 50001}, "CUDA error", 50001),  # older vLLM
    ],
)
async def test_an_error_object_in_the_stream_is_raised(
    sent: dict[str, Any], message: str, code: str | int | None
) -> None:
    error, texts = await failure(Server(*HELLO, event(**sent), DONE).chat())
    assert isinstance(error, StreamError)
    assert str(error) == f"the server reported an error: {message}"
    assert (error.code, error.text, texts) == (code, "Hello you", ["Hello", " you"])


async def test_an_error_with_the_name_error_is_raised_too() -> None:
    named = encode(json.dumps({"error": {"message": "Overloaded."}}), event="error")
    error, _ = await failure(Server(*HELLO, named).chat())
    assert isinstance(error, StreamError)


@pytest.mark.parametrize(
    "data",
    [
        '{"choices":[{"delta":{"content":',
        "not json",
        "",
        "[]",
        '"text"',
        "17",
        '{"choices":"none"}',
        '{"choices":[17]}',
        '{"choices":[{"delta":"text"}]}',
        '{"choices":[{"delta":{"content":17}}]}',
        '{"choices":[{"delta":{"content":[{"type":"text","text":"a"}]}}]}',
        '{"choices":[{"delta":{"reasoning":{"text":"a"}}}]}',
        "[" * 100_000,
    ],
)
async def test_what_is_no_chunk_is_a_bad_answer_with_the_text_so_far(data: str) -> None:
    error, texts = await failure(Server(*HELLO, encode(data), STOP, DONE).chat())
    assert type(error) is BadAnswer
    assert (error.text, texts) == ("Hello you", ["Hello", " you"])
    assert "no chat chunk" in str(error)
    assert len(str(error)) < 600


# --- Answers that are no stream ---


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (
            400,
            b'{"error": {"message": "No such field: x", "type": "t"}}',
            "400 Bad Request: No such field: x",
        ),
        (401, b'{"error": {"message": "Wrong key"}}', "401 Unauthorized: Wrong key"),
        (404, b'{"detail": "Not Found"}', "404 Not Found: Not Found"),
        (422, b'{"detail": [{"msg": "missing"}]}', "422 Unprocessable Content: [{'msg': 'missing'}]"),
        (429, b'{"message": "Slow down"}', "429 Too Many Requests: Slow down"),
        (500, b'{"error": "boom"}', "500 Internal Server Error: boom"),
        (502, b"<html>\n  Bad\tgateway</html>", "502 Bad Gateway: <html> Bad gateway</html>"),
        (503, b"", "503 Service Unavailable"),
        (529, b"", "529"),
        (204, b"", "204 No Content"),
        (500, b"\xff", "500 Internal Server Error: \ufffd"),
        (500, b"x" * 200_000, "500 Internal Server Error: " + "x" * 300 + " …"),
        (500, b"[" * 60_000, "500 Internal Server Error: " + "[" * 300 + " …"),
    ],
)
async def test_an_error_status_says_what_the_server_said(status: int, body: bytes, message: str) -> None:
    error, texts = await failure(Server(body, status=status).chat())
    assert type(error) is StatusError
    assert str(error) == f"http://model.test/v1/chat/completions answered {message}"
    assert (error.status, error.text, texts) == (status, "", [])


@pytest.mark.parametrize("retry_after", ["3", "0.5", "Sat, 21 Nov 2026 10:00:00 GMT"])
async def test_an_error_status_keeps_retry_after_as_it_stands(retry_after: str) -> None:
    error, _ = await failure(Server(b"", status=429, retry_after=retry_after).chat())
    assert error.retry_after == retry_after


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b'{"error": {"message": "pay", "code": "insufficient_quota"}}', "insufficient_quota"),
        (b'{"error": {"code": 1302}}', 1302),
        (b'{"error": {"code": null}}', None),
        (b'{"error": {"code": ["odd"]}}', None),
        (b'{"error": "boom"}', None),
        (b"[]", None),
        (b"", None),
    ],
)
async def test_an_error_status_keeps_the_servers_own_code(body: bytes, code: str | int | None) -> None:
    error, _ = await failure(Server(body, status=429).chat())
    assert error.code == code


async def test_without_retry_after_it_is_none() -> None:
    error, _ = await failure(Server(b"", status=429).chat())
    assert error.retry_after is None


async def test_an_error_page_that_breaks_off_is_an_error_status_all_the_same() -> None:
    error, _ = await failure(Server(b"Out of", httpx2.ReadError("reset"), status=500).chat())
    assert str(error).endswith("answered 500 Internal Server Error: Out of")


async def test_an_error_page_without_end_is_not_read_to_its_end() -> None:
    server = Server(*[b"x" * 10_000] * 1000, status=500)
    await failure(server.chat())
    assert server.body.read < 10
    assert server.body.closed


@pytest.mark.parametrize("kind", ["application/json", "text/html; charset=utf-8"])
async def test_a_page_in_place_of_a_stream_is_a_bad_answer(kind: str) -> None:
    error, _ = await failure(Server(b'{"choices": [{"message": "whole"}]}', content_type=kind).chat())
    assert type(error) is BadAnswer
    assert f"sent {kind.split(';')[0]}, not an event stream" in str(error)
    assert "whole" in str(error)


async def test_a_stream_with_a_careless_content_type_is_read() -> None:
    assert await read(Server(*HELLO, STOP, DONE, content_type="text/plain").chat()) == ["Hello", " you"]


# --- Nothing shows the key ---


async def test_no_error_and_no_repr_shows_the_key() -> None:
    complaint = json.dumps({"error": {"message": f"Wrong key: {KEY}"}}).encode()
    for server in (
        Server(complaint, status=401),
        Server(complaint, content_type="application/json"),
        Server(*HELLO, encode(complaint.decode())),
        Server(encode(f"{KEY} is no JSON")),
    ):
        stream = server.chat(base_url=f"http://user:{KEY}@model.test/v1")
        error, _ = await failure(stream)
        shown = "".join(traceback.format_exception(error)) + repr(error) + repr(stream)
        assert KEY not in shown


def test_the_repr_says_what_there_is() -> None:
    assert repr(Server().chat()) == "<ChatStream of 'm': 0 characters, finish_reason=None>"


# --- Every error is a ChatError ---


def test_every_error_has_one_base_class() -> None:
    errors = (BadAnswer, ChatTimeout, ConnectionFailed, StatusError, StreamError, StreamTruncated)
    assert all(issubclass(error, ChatError) for error in errors)
    assert all(error("x", text="so far").text == "so far" for error in errors)


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (httpx2.ConnectError("refused"), ConnectionFailed),
        (httpx2.RemoteProtocolError("Server disconnected without sending a response."), ConnectionFailed),
        (httpx2.ReadError(""), ConnectionFailed),
        (httpx2.UnsupportedProtocol("no"), ConnectionFailed),
        (httpx2.TooManyRedirects("round and round"), ConnectionFailed),
        (httpx2.ConnectTimeout(""), ChatTimeout),
        (httpx2.ReadTimeout(""), ChatTimeout),
        (httpx2.PoolTimeout(""), ChatTimeout),
    ],
)
async def test_what_goes_wrong_before_the_answer(raised: Exception, expected: type[ChatError]) -> None:
    def refuse(request: httpx2.Request) -> httpx2.Response:
        raise raised

    client = httpx2.AsyncClient(transport=httpx2.MockTransport(refuse))
    error, _ = await failure(stream_chat("Hi", model="m", base_url=URL, client=client))
    assert type(error) is expected
    assert "http://model.test/v1/chat/completions" in str(error)
    assert error.__cause__ is raised
    assert (error.text, error.status) == ("", None)


# --- Opening, closing, misuse ---


async def test_a_client_of_ones_own_stays_open() -> None:
    client = httpx2.AsyncClient(transport=Server(*HELLO, STOP, DONE))
    await read(stream_chat("Hi", model="m", base_url=URL, client=client))
    assert not client.is_closed


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


async def leave_by_break(stream: ChatStream) -> None:
    async with stream:
        async for _ in stream:
            break


async def leave_by_exception(stream: ChatStream) -> None:
    with pytest.raises(KeyError):
        async with stream:
            async for _ in stream:
                raise KeyError


async def leave_unread(stream: ChatStream) -> None:
    async with stream:
        pass


async def leave_by_return(stream: ChatStream) -> str | None:
    async with stream:
        async for text in stream:
            return text
    return None


async def leave_at_the_end(stream: ChatStream) -> None:
    await read(stream)


async def leave_by_cancellation(stream: ChatStream) -> None:
    async def read_slowly() -> None:
        async with stream:
            async for _ in stream:
                await asyncio.sleep(3600)

    task = asyncio.create_task(read_slowly())
    await until(lambda: stream.text != "")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


WAYS_OUT = [
    leave_by_break,
    leave_by_exception,
    leave_unread,
    leave_by_return,
    leave_at_the_end,
    leave_by_cancellation,
]


@pytest.mark.parametrize("leave", WAYS_OUT)
async def test_the_response_is_closed_before_the_next_statement(
    leave: Callable[[ChatStream], Any],
) -> None:
    server = Server(*HELLO, STOP, DONE)
    await leave(server.chat())
    assert server.body.closed


@pytest.mark.parametrize("status", [200, 500])
async def test_the_response_is_closed_when_it_cannot_be_used(status: int) -> None:
    server = Server(b"no", status=status, content_type="application/json")
    await failure(server.chat())
    assert server.body.closed


async def test_reading_outside_of_async_with_is_refused() -> None:
    stream = Server(*HELLO, STOP, DONE).chat()
    with pytest.raises(RuntimeError, match="inside `async with"):
        async for _ in stream:
            pass


async def test_reading_after_async_with_is_refused_rather_than_empty() -> None:
    stream = Server(*HELLO, STOP, DONE).chat()
    async with stream:
        pass
    with pytest.raises(RuntimeError, match="inside `async with"):
        async for _ in stream:
            pass


async def test_a_stream_is_opened_once() -> None:
    stream = Server(*HELLO, STOP, DONE).chat()
    await read(stream)
    with pytest.raises(RuntimeError, match="call stream_chat"):
        await read(stream)


async def test_a_second_loop_goes_on_where_the_first_stopped() -> None:
    async with Server(*HELLO, STOP, DONE).chat() as stream:
        async for text in stream:
            assert text == "Hello"
            break
        assert [text async for text in stream] == [" you"]


# --- Over a socket ---


class Connection:
    """The server's end of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.sent = 0

    async def request(self) -> None:
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = next(line for line in head.lower().splitlines() if line.startswith(b"content-length:"))
        await self.reader.readexactly(int(length.split(b":")[1]))

    async def send(self, *chunks: bytes) -> None:
        for data in chunks:
            self.writer.write(b"%x\r\n%s\r\n" % (len(data), data))
            await self.writer.drain()
            self.sent += 1

    async def begin(self, *chunks: bytes) -> None:
        await self.request()
        self.writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        await self.send(*chunks)

    async def left(self) -> bool:
        """Wait until the client has closed its end."""
        async with asyncio.timeout(20):
            return await self.reader.read(1) == b""


@asynccontextmanager
async def serving(behave: Callable[[Connection], Any]) -> AsyncIterator[tuple[str, asyncio.Future[Any]]]:
    """A server for one connection on a free port: its base URL, and what `behave` returned."""
    result: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            value = await behave(Connection(reader, writer))
            if not result.done():
                result.set_result(value)
        except Exception as error:
            if not result.done():
                result.set_exception(error)
        finally:
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", result
    finally:
        server.close()


async def test_an_answer_over_a_socket() -> None:
    async def behave(connection: Connection) -> None:
        await connection.begin(*HELLO, STOP, USAGE, DONE, b"")

    async with serving(behave) as (url, _):
        stream = stream_chat("Hi", model="m", base_url=url)
        assert await read(stream) == ["Hello", " you"]
        assert stream.usage is not None


@pytest.mark.parametrize("leave", [way for way in WAYS_OUT if way is not leave_at_the_end])
async def test_the_server_sees_that_the_client_has_left(leave: Callable[[ChatStream], Any]) -> None:
    async def behave(connection: Connection) -> bool:
        await connection.begin(*HELLO)
        return await connection.left()

    async with serving(behave) as (url, result):
        await leave(stream_chat("Hi", model="m", base_url=url))
        assert await result is True


async def test_the_server_sees_a_client_leave_that_waits_for_the_next_token() -> None:
    async def behave(connection: Connection) -> bool:
        await connection.begin(*HELLO)
        return await connection.left()

    async with serving(behave) as (url, result):
        stream = stream_chat("Hi", model="m", base_url=url)
        task = asyncio.create_task(read(stream))
        await until(lambda: stream.text == "Hello you")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await result is True


async def test_a_silent_server_is_a_timeout_before_the_answer() -> None:
    async def behave(connection: Connection) -> bool:
        await connection.request()
        return await connection.left()

    async with serving(behave) as (url, result):
        timeout = httpx2.Timeout(20, read=0.1)
        error, _ = await failure(stream_chat("Hi", model="m", base_url=url, timeout=timeout))
        assert type(error) is ChatTimeout
        assert await result is True


async def test_a_stalled_stream_is_a_timeout_and_is_closed() -> None:
    async def behave(connection: Connection) -> bool:
        await connection.begin(*HELLO)
        return await connection.left()

    async with serving(behave) as (url, result):
        timeout = httpx2.Timeout(20, read=1)
        error, _ = await failure(stream_chat("Hi", model="m", base_url=url, timeout=timeout))
        assert type(error) is ChatTimeout
        assert error.text == "Hello you"
        assert await result is True


@pytest.mark.parametrize("reset", [False, True], ids=["fin", "rst"])
async def test_a_connection_cut_inside_the_answer_is_truncation(reset: bool) -> None:
    streams: list[ChatStream] = []

    async def behave(connection: Connection) -> None:
        await connection.begin(*HELLO)
        await until(lambda: streams[0].text == "Hello you")  # a reset throws away what has not been read
        if reset:
            connection.writer.transport.abort()

    async with serving(behave) as (url, _):
        streams.append(stream_chat("Hi", model="m", base_url=url))
        error, _ = await failure(streams[0])
        assert type(error) is StreamTruncated
        assert isinstance(error.__cause__, httpx2.TransportError)
        assert error.text == "Hello you"


async def test_a_server_that_hangs_up_is_a_failed_connection() -> None:
    async with serving(Connection.request) as (url, _):
        error, _ = await failure(stream_chat("Hi", model="m", base_url=url))
        assert type(error) is ConnectionFailed


async def test_nobody_there_is_a_failed_connection() -> None:
    async with serving(Connection.request) as (url, _):
        pass  # the port is free again
    error, _ = await failure(stream_chat("Hi", model="m", base_url=url))
    assert type(error) is ConnectionFailed
    assert str(error).startswith(f"no answer from {url}/chat/completions: ")


async def test_redirects_are_followed() -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        if request.url.host == "model.test":
            return httpx2.Response(308, headers={"location": "http://www.model.test/v1/chat/completions"})
        body = b"".join([*HELLO, STOP, DONE])
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=body)

    client = httpx2.AsyncClient(transport=httpx2.MockTransport(answer))
    assert await read(stream_chat("Hi", model="m", base_url=URL, client=client)) == ["Hello", " you"]
