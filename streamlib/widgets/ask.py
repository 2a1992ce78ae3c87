"""One question to an OpenAI-compatible server, as the views ask it: plain httpx2, so that nothing is hidden.

An official client parses, validates and hides the reads; a view wants the bytes and the instant they came.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import httpx2

from .view import View

# An answer may take minutes to begin on a busy server. The Stop button ends the wait sooner.
TIMEOUT = httpx2.Timeout(300, connect=10)


@dataclass(frozen=True, slots=True)
class Ask:
    """What to ask (a prompt, or a list of messages), which model, where; `options` join the request's JSON.

    Raises ValueError when neither `base_url` nor the environment says where the server is.
    """

    prompt: str | Sequence[Mapping[str, Any]]
    model: str
    base_url: str | None = None
    api_key: str | None = field(default=None, repr=False)
    headers: Mapping[str, str] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not (self.base_url or os.environ.get("OPENAI_BASE_URL") or os.environ.get("OPENAI_API_KEY")):
            raise ValueError(
                "no server to ask: run `connect()` first, or set OPENAI_BASE_URL, or pass base_url=…"
            )

    def client(self) -> httpx2.AsyncClient:
        """A client of its own for one view: closed when the view ends, and no connection stays behind."""
        base_url = self.base_url or os.environ.get("OPENAI_BASE_URL") or "https://api.openai.com/v1"
        key = self.api_key or os.environ.get("OPENAI_API_KEY") or "none"
        return httpx2.AsyncClient(
            base_url=base_url,
            # identity: compressed bytes would show nothing on a ruler of bytes
            headers={"Authorization": f"Bearer {key}", "Accept-Encoding": "identity", **(self.headers or {})},
            timeout=TIMEOUT,
            limits=httpx2.Limits(),  # none: a board may open hundreds of streams at once
        )

    def body(self, *, stream: bool) -> dict[str, Any]:
        """The request's JSON."""
        messages = (
            [{"role": "user", "content": self.prompt}] if isinstance(self.prompt, str) else list(self.prompt)
        )
        return {"model": self.model, "messages": messages, "stream": stream, **self.options}


class AskView(View):
    """A view of one question: the arguments that `Race` and `Wire` share.

    `headers` are sent along (``{"X-Sim-Fault": "clump"}``); further keywords go into the request
    (``max_completion_tokens=200``).
    """

    def __init__(
        self,
        prompt: str | Sequence[Mapping[str, Any]],
        *,
        model: str,
        base_url: str | None = None,
        api_key: str | None = None,
        headers: Mapping[str, str] | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        self.ask = Ask(prompt, model, base_url, api_key, headers, options)


async def warm_up(client: httpx2.AsyncClient) -> None:
    """Open a connection before a clock runs: only the first request of a process should pay for it."""
    with suppress(httpx2.HTTPError):  # what is wrong shows in the real request, which comes next
        async with client.stream("GET", "models") as response:
            if response.status_code < 500:
                await response.aread()
            # else: some servers close the connection after such an answer; unread, it is not used again


class Piece(NamedTuple):
    """What one streamed event says: text for the reader, whether the answer is complete, what went wrong, and
    how many tokens the answer has, by the server's count."""

    text: str = ""
    is_end: bool = False
    error: str = ""
    tokens: int | None = None


def piece_in(data: str) -> Piece:
    """Read the data of one event. What is not a chunk of an answer (yet) is an empty piece."""
    if data == "[DONE]":
        return Piece(is_end=True)
    with suppress(ValueError, KeyError, IndexError, TypeError, AttributeError):
        chunk = json.loads(data)
        if chunk.get("error"):
            return Piece(error=f"The server sent an error: {_message(chunk)[:300]}")
        tokens = (chunk.get("usage") or {}).get("completion_tokens")
        if not chunk["choices"]:  # the last chunk, with the usage, has none
            return Piece(tokens=tokens)
        choice = chunk["choices"][0]
        text, finish = choice["delta"].get("content") or "", choice.get("finish_reason")
        return Piece(text, bool(finish), tokens=tokens)
    return Piece()


def whole_text(data: bytes) -> str:
    """The answer text of a response that came in one piece. Raises ValueError when there is none."""
    try:
        return str(json.loads(data)["choices"][0]["message"]["content"] or "")
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise ValueError(f"this is not a chat completion: {data[:200]!r}") from error


async def refusal(response: httpx2.Response) -> str:
    """What a server that did not answer 200 said, in one sentence; "" for a 200."""
    if response.status_code == 200:
        return ""
    body = (await response.aread()).decode(errors="replace")
    with suppress(ValueError, KeyError, TypeError):
        body = _message(json.loads(body))
    return f"The server answered {response.status_code}: {body[:300]}"


def _message(answer: Any) -> str:
    """The sentence in {"error": {"message": …}}, or in {"error": …} as some servers send it."""
    error = answer["error"]
    return str(error["message"] if isinstance(error, dict) and "message" in error else error)


def trouble(error: httpx2.HTTPError) -> str:
    """What broke a request, in one sentence."""
    detail = str(error) or type(error).__name__
    if isinstance(error, httpx2.ConnectError):
        return f"No connection to the server: {detail}. Is it running?"
    return f"The connection broke: {detail}"
