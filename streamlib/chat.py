"""One streamed chat completion from any OpenAI-compatible server: events -> chunks -> text. Lesson 2.

    async with stream_chat("What is a token?", model=model.name) as stream:
        async for text in stream:
            print(text, end="", flush=True)
    print(stream.finish_reason, stream.usage)

The wire is OpenAI's (https://platform.openai.com/docs/api-reference/chat-streaming): Server-Sent Events, one
JSON chunk in each, `[DONE]` in the last. Two promises that raw chunks do not make:

- Leaving the `async with`, however it is left, closes the connection, and with that the server stops.
- Half an answer is never taken for a whole one. An answer is whole when its finish reason has come. That no
  `[DONE]` follows does no harm; a `[DONE]` alone proves nothing, since some gateways end every stream with
  one, also a stream that broke off behind them.

Every error is a `ChatError` and carries the text so far. Nothing is retried here: that is lesson 5.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, suppress
from functools import cache
from ssl import SSLContext
from typing import Any

import httpx2

from .sse import aiter_events

__all__ = [
    "BadAnswer",
    "ChatError",
    "ChatStream",
    "ChatTimeout",
    "ConnectionFailed",
    "StatusError",
    "StreamError",
    "StreamTruncated",
    "stream_chat",
]

OPENAI_URL = "https://api.openai.com/v1"


class ChatError(Exception):
    """What every error here is. `text` is the answer so far, "" when none came.

    The rest is None unless the server said it: `status`, the HTTP status; `retry_after`, its header
    Retry-After as it stands there, seconds or a date; `code`, its own code, such as "rate_limit_exceeded".
    """

    def __init__(
        self,
        message: str,
        *,
        text: str = "",
        status: int | None = None,
        retry_after: str | None = None,
        code: str | int | None = None,
    ) -> None:
        super().__init__(message)
        self.text = text
        self.status = status
        self.retry_after = retry_after
        self.code = code


class ConnectionFailed(ChatError):
    """No answer began: nobody listens there, or the connection broke before the answer."""


class StatusError(ChatError):
    """The server refused the request: `status` is 401, 429, 500 …, and the message has what it said."""


class ChatTimeout(ChatError):
    """The server was silent for longer than the timeout, before the answer or inside it."""


class StreamTruncated(ChatError):
    """The stream ended, or the connection broke, before the answer was whole."""


class StreamError(ChatError):
    """The server reported an error inside the stream."""


class BadAnswer(ChatError):
    """What came is no stream of chat chunks: another content type, malformed JSON, fields of another type."""


def stream_chat(
    prompt_or_messages: str | Sequence[Mapping[str, Any]],
    *,
    model: str,
    base_url: str | None = None,
    api_key: str | None = None,
    timeout: float | httpx2.Timeout | None = 120.0,
    client: httpx2.AsyncClient | None = None,
    **options: Any,
) -> ChatStream:
    """A streamed answer, opened by `async with` and read by `async for`.

    prompt_or_messages: a question, or messages such as `{"role": "user", "content": "…"}`.
    base_url, api_key: from OPENAI_BASE_URL and OPENAI_API_KEY unless given; without a key none is sent.
    timeout: seconds of silence to bear, before the answer and between any two pieces of it; or an
        `httpx2.Timeout`; or None for no limit. It does not limit the whole answer.
    client: sends the request and stays open; for many streams over the same connections, and for tests.
    options: further fields of the request, such as `max_completion_tokens=200` or `temperature=0`.

    Raises ValueError or TypeError for arguments that no request can be made of. All else is a `ChatError`.
    """
    messages: Any = prompt_or_messages
    if isinstance(messages, str):
        messages = [{"role": "user", "content": messages}]
    if isinstance(messages, bytes) or not isinstance(messages, Sequence):
        raise TypeError(f"stream_chat takes a text or a list of messages, got {type(messages).__name__}")
    body = {
        "model": model,
        "messages": list(messages),
        "stream": True,
        "stream_options": {"include_usage": True},  # the usage comes in a chunk of its own, after the answer
        **options,
    }
    base_url = base_url or os.environ.get("OPENAI_BASE_URL") or OPENAI_URL
    api_key = (api_key or os.environ.get("OPENAI_API_KEY") or "").strip()
    # Neither message repeats what was given: it may be a key, also in the place of the URL.
    if not _is_url(base_url):
        raise ValueError("base_url must look like http://127.0.0.1:8000/v1 or https://api.openai.com/v1")
    if not (api_key.isascii() and api_key.isprintable()):
        raise ValueError("api_key has characters that no header can carry; what was copied along with it?")
    return ChatStream(f"{base_url.rstrip('/')}/chat/completions", body, api_key, timeout, client)


class ChatStream:
    """What `stream_chat` returns. Read its attributes after the loop, or inside it for the state so far.

    text: the answer. reasoning: what the model thought aloud before it, where a server sends that
    (`reasoning_content` or `reasoning`); it is not part of the answer. finish_reason: why the answer ended,
    "stop", "length" …, or None while it has not. usage: the server's own count of tokens as a dict, or None
    when it sent none.
    """

    def __init__(
        self,
        url: str,
        body: dict[str, Any],
        api_key: str,
        timeout: float | httpx2.Timeout | None,
        client: httpx2.AsyncClient | None,
    ) -> None:
        self.finish_reason: str | None = None
        self.usage: dict[str, Any] | None = None
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._url = url
        self._body = body
        self._key = api_key
        self._timeout = timeout
        self._client = client
        self._stack: AsyncExitStack | None = None
        self._texts: AsyncGenerator[str, None] | None = None

    @property
    def text(self) -> str:
        return "".join(self._text)

    @property
    def reasoning(self) -> str:
        return "".join(self._reasoning)

    def __repr__(self) -> str:
        state = f"{len(self.text)} characters, finish_reason={self.finish_reason!r}"
        return f"<ChatStream of {self._body['model']!r}: {state}>"

    async def __aenter__(self) -> ChatStream:
        if self._stack is not None:
            raise RuntimeError("this stream was opened before: call stream_chat(...) again for a new answer")
        async with AsyncExitStack() as stack:
            client = self._client
            if client is None:
                client = await stack.enter_async_context(httpx2.AsyncClient(verify=_ssl_context()))
            response = await self._open(client)
            stack.push_async_callback(response.aclose)
            await self._check(response)
            self._texts = await stack.enter_async_context(aclosing(self._read(response)))
            self._stack = stack.pop_all()  # all went well: closing is the business of __aexit__ now
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        if self._stack is not None:
            self._texts = None
            await self._stack.aclose()

    def __aiter__(self) -> AsyncGenerator[str, None]:
        if self._texts is None:
            raise RuntimeError("read the stream inside `async with stream_chat(...) as stream:`")
        return self._texts

    async def _open(self, client: httpx2.AsyncClient) -> httpx2.Response:
        headers = {"Accept": "text/event-stream"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        request = client.build_request(
            "POST", self._url, json=self._body, headers=headers, timeout=self._timeout
        )
        try:
            return await client.send(request, stream=True, follow_redirects=True)
        except httpx2.TimeoutException as error:
            raise self._silent(error) from error
        except httpx2.RequestError as error:
            raise ConnectionFailed(f"no answer from {self._where}: {_says(error)}") from error

    async def _check(self, response: httpx2.Response) -> None:
        """Raise unless an event stream begins here."""
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if response.status_code == 200 and kind not in ("application/json", "text/html"):
            return
        said = await _page(response)
        page = self._without_key(_message(said))
        if response.status_code == 200:
            raise BadAnswer(f"{self._where} sent {kind}, not an event stream: {page or 'nothing'}")
        status = f"{response.status_code} {response.reason_phrase}".strip()
        raise StatusError(
            f"{self._where} answered {status}" + (f": {page}" if page else ""),
            status=response.status_code,
            retry_after=response.headers.get("retry-after"),
            code=_code(said),
        )

    async def _read(self, response: httpx2.Response) -> AsyncGenerator[str, None]:
        """The text of the answer, piece by piece, until it is whole."""
        broken: httpx2.RequestError | None = None
        try:
            async with aclosing(aiter_events(response.aiter_bytes())) as events:
                async for event in events:
                    if event.data.strip() == "[DONE]":
                        break
                    if text := self._take(event.data):
                        self._text.append(text)
                        yield text
        except httpx2.RequestError as error:
            broken = error
        if self.finish_reason is not None:
            return  # the answer is whole, whatever became of the connection after it
        if isinstance(broken, httpx2.TimeoutException):
            raise self._silent(broken) from broken
        how = f"the connection broke ({_says(broken)})" if broken else "the stream ended"
        raise StreamTruncated(
            f"{how} before a finish reason came; .text has the {len(self.text)} characters until then",
            text=self.text,
        ) from broken

    def _take(self, data: str) -> str:
        """Note what a chunk says, return its text. The one with the usage has no choices, or empty ones."""
        text = reasoning = ""
        try:
            chunk = json.loads(data)
            error = chunk.get("error") or (chunk if chunk.get("object") == "error" else None)
            for choice in chunk.get("choices") or []:
                if choice.get("index"):
                    continue  # of several answers (n=2) the first one is read
                delta = choice.get("delta") or {}
                text += delta.get("content") or ""
                reasoning += delta.get("reasoning_content") or delta.get("reasoning") or ""
                self.finish_reason = choice.get("finish_reason") or self.finish_reason
            self.usage = chunk.get("usage") or self.usage
        except (ValueError, TypeError, AttributeError, RecursionError) as problem:
            shown = self._without_key(data[:200])
            raise BadAnswer(f"this is no chat chunk ({problem}): {shown!r}", text=self.text) from problem
        self._reasoning.append(reasoning)
        if error:
            said = self._without_key(_message(error))
            raise StreamError(
                f"the server reported an error: {said}", text=self.text + text, code=_code({"error": error})
            )
        return text

    @property
    def _where(self) -> str:
        """The address for error messages: without the name and password that a URL may hold."""
        return str(httpx2.URL(self._url).copy_with(username=None, password=None))

    def _silent(self, error: httpx2.TimeoutException) -> ChatTimeout:
        return ChatTimeout(f"{self._where} was silent for too long ({_says(error)})", text=self.text)

    def _without_key(self, text: str) -> str:
        """Servers quote the key in their complaints; ours must not end up in a log or a notebook."""
        return text.replace(self._key, "…") if self._key else text


async def _page(response: httpx2.Response) -> Any:
    """The body of an error answer, as much of it as comes and up to 64 KiB: JSON if it is that, else text."""
    page = b""
    with suppress(httpx2.RequestError):  # the status says enough
        async with aclosing(response.aiter_bytes()) as chunks:
            async for chunk in chunks:
                page += chunk
                if len(page) > 64 * 1024:
                    break
    try:
        return json.loads(page)
    except (ValueError, RecursionError):
        return page.decode("utf-8", "replace")


def _message(said: Any) -> str:
    """What an error body says, in one line: the sentence in `{"error": {"message": …}}` and its relatives."""
    while isinstance(said, dict):
        said = said.get("error") or said.get("message") or said.get("detail") or str(said)
    text = " ".join(str(said).split())
    return text if len(text) <= 300 else text[:300] + " …"


def _code(said: Any) -> str | int | None:
    """The server's own code, in `{"error": {"code": …}}`."""
    error = said.get("error") if isinstance(said, dict) else None
    code = error.get("code") if isinstance(error, dict) else None
    return code if isinstance(code, str | int) else None


def _says(error: Exception) -> str:
    return str(error) or type(error).__name__  # some of httpx2's errors have no text


def _is_url(text: str) -> bool:
    try:
        url = httpx2.URL(text)
    except httpx2.InvalidURL:
        return False
    return url.scheme in ("http", "https") and url.host != "" and (url.port or 0) < 65536


@cache
def _ssl_context() -> SSLContext:
    """Made once: to read the certificates takes longer than a server near by takes for a first token."""
    return httpx2.create_ssl_context()
