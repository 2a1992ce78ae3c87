"""The servers that `bench/serve.py` compares: `python bench/servers.py NAME PORT RATE`, until it is killed.

All but two send one ready-made chunk again and again, as the shortest program for each library does it: that
is the library's own cost. `streamlib` is the embedded model itself, which makes its text, counts its tokens
and notes them down; its profile here has equal gaps and one token per chunk, so that all send the same
events. llmock, where it is installed, gets a text of thousands of words to say, since its own are short. All
keep an absolute schedule, `t0 + k / rate`, but llmock, which sleeps between two chunks. All run on uvicorn
with uvloop and httptools, without access log.
"""

from __future__ import annotations

import asyncio
import os
import resource
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any

import uvicorn

TEXT = (
    '{"id": "chatcmpl-sim00000001", "object": "chat.completion.chunk", "created": 1795000000, '
    '"model": "sim-1", "service_tier": "default", "system_fingerprint": "fp_sim", "choices": [{"index": 0, '
    '"delta": '
    '{"content": " streaming"}, "logprobs": null, "finish_reason": null}]}'
)
FIRST = 0.3  # seconds to the first token
App = Callable[[MutableMapping[str, Any], Any, Any], Awaitable[None]]


async def ticks(rate: float) -> AsyncIterator[None]:
    """One tick per token, for ever, on an absolute schedule."""
    loop = asyncio.get_running_loop()
    t0, k = loop.time() + FIRST, 0
    while True:
        await asyncio.sleep(t0 + k / rate - loop.time())
        yield
        k += 1


def raw_asgi(rate: float) -> App:
    """By hand: the least that a server on uvicorn can cost."""
    chunk = f"data: {TEXT}\n\n".encode()

    async def app(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        async for _ in ticks(rate):
            await send({"type": "http.response.body", "body": chunk, "more_body": True})

    return app


def starlette(rate: float) -> App:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import StreamingResponse
    from starlette.routing import Route

    chunk = f"data: {TEXT}\n\n".encode()

    async def chunks() -> AsyncIterator[bytes]:
        async for _ in ticks(rate):
            yield chunk

    async def stream(request: Request) -> StreamingResponse:
        return StreamingResponse(chunks(), media_type="text/event-stream")

    return Starlette(routes=[Route("/", stream)])


def sse_starlette(rate: float) -> App:
    from fastapi import FastAPI
    from sse_starlette import EventSourceResponse

    app = FastAPI()

    async def events() -> AsyncIterator[dict[str, str]]:
        async for _ in ticks(rate):
            yield {"data": TEXT}

    @app.get("/")
    async def stream() -> EventSourceResponse:
        return EventSourceResponse(events(), sep="\n", ping=3600)  # else every 15 s

    return app


def fastapi_sse(rate: float) -> App:
    from fastapi import FastAPI
    from fastapi.sse import EventSourceResponse, ServerSentEvent

    app = FastAPI()

    @app.get("/", response_class=EventSourceResponse)
    async def stream() -> AsyncIterator[ServerSentEvent]:
        async for _ in ticks(rate):
            yield ServerSentEvent(raw_data=TEXT)

    return app


def llmock(rate: float) -> App:
    os.environ["LLMOCK_STREAM_CHUNK_DELAY_MS"] = str(round(1000 / rate))
    from llmock import completion  # type: ignore[import-not-found, unused-ignore]
    from llmock.main import create_app  # type: ignore[import-not-found, unused-ignore]

    completion.build_mock_text = lambda **_: "word " * 4000
    made: App = create_app()
    return made


def streamlib(port: int, rate: float) -> None:
    from streamlib.sim import server, timing

    timing.PROFILES["even"] = timing.Profile(FIRST, 0.0, rate, 0.0, (1.0,))
    server.serve(port=port, profile="even")


APPS: dict[str, Callable[[float], App]] = {
    "raw ASGI": raw_asgi,
    "starlette": starlette,
    "sse-starlette": sse_starlette,
    "fastapi.sse": fastapi_sse,
    "llmock": llmock,
}


def main() -> None:
    name, port, rate = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if name == "streamlib":
        streamlib(port, rate)
    else:
        uvicorn.run(APPS[name](rate), port=port, log_level="error", access_log=False, backlog=4096)


if __name__ == "__main__":
    main()
