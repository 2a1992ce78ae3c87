"""Helpers of these tests: make a request, read what comes back."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from streamlib.sim.core import Request, Response, Simulator
from streamlib.sim.model import Frame
from streamlib.sse import SSEParser

NOW = 1_795_000_000.0


def body_of(prompt: str = "What is SSE?", **fields: Any) -> dict[str, Any]:
    return {"model": "sim-1", "messages": [{"role": "user", "content": prompt}], **fields}


def request(
    body: object = None, *, method: str = "POST", path: str = "/v1/chat/completions", **headers: str
) -> Request:
    """A request; header names are written with underscores."""
    data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    return Request(method, path, {name.replace("_", "-"): value for name, value in headers.items()}, data)


def ask(
    prompt: str = "What is SSE?", *, fault: str = "", simulator: Simulator | None = None, **fields: Any
) -> Response:
    """The response to a streamed (unless said otherwise) chat completion."""
    headers = {"x_sim_fault": fault} if fault else {}
    fields = {"stream": True, **fields}
    return (simulator or Simulator()).respond(request(body_of(prompt, **fields), **headers), NOW)


def frames(response: Response) -> list[Frame]:
    return list(response.frames)


def data_of(sent: Iterable[Frame]) -> list[str]:
    """The data of every event in the frames' bytes."""
    parser = SSEParser()
    return [event.data for frame in sent for event in parser.feed(frame.data)]


def chunks_of(sent: Iterable[Frame]) -> list[dict[str, Any]]:
    """The JSON of every event but ``[DONE]``."""
    return [json.loads(data) for data in data_of(sent) if data != "[DONE]"]


def text_of(sent: Iterable[Frame], field: str = "content") -> str:
    deltas = [choice["delta"] for chunk in chunks_of(sent) for choice in chunk.get("choices", [])]
    return "".join(delta.get(field) or "" for delta in deltas)


def json_of(response: Response) -> dict[str, Any]:
    """The one JSON body of a response that is no stream."""
    body: dict[str, Any] = json.loads(b"".join(frame.data for frame in response.frames))
    return body


def error_of(response: Response) -> dict[str, Any]:
    error: dict[str, Any] = json_of(response)["error"]
    return error
