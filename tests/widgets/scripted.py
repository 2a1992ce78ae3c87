"""A server that does what a script says: which bytes, in which pieces, and when to wait or break."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

CUT = object()  # the connection breaks here
HANG = object()  # nothing more comes


def event(text: str | None = None, *, finish: str | None = None, **delta: Any) -> bytes:
    """One chunk of an answer, as an event."""
    if text is not None:
        delta["content"] = text
    chunk = {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


ROLE = event("", role="assistant")
STOP = event(finish="stop")
DONE = b"data: [DONE]\n\n"


def answer(*texts: str) -> list[bytes]:
    """A whole streamed answer, one event in each piece."""
    return [ROLE, *map(event, texts), STOP, DONE]


@dataclass
class Server:
    """What to answer, and what was asked."""

    stream: Sequence[object]  # each bytes object is sent as one chunk, and read as one
    blocking: str = "all at once"
    status: int = 200
    error: str = "no"
    hold_blocking: bool = False  # the blocking answer comes when a stream has ended
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    open_connections: int = 0
    no_models: bool = False  # GET fails with status 500, and its connection is no good afterwards
    warm_ups: int = 0  # connections that were opened before anything was asked
    stream_ended: asyncio.Event = field(default_factory=asyncio.Event)
    base_url: str = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open_connections += 1
        try:
            with suppress(asyncio.IncompleteReadError, ConnectionError):
                while True:
                    await self.one_request(reader, writer)
        finally:
            self.open_connections -= 1
            writer.close()

    async def one_request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        lines = head.split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        if lines[0].startswith("GET"):
            self.warm_ups += not self.requests
            if self.no_models:
                await self.send_json(writer, 500, {"error": "no"})
                await reader.read(1)
                raise ConnectionError
            await self.send_json(writer, 200, {"data": []})
            return
        request = json.loads(body)
        self.requests.append(request)
        self.headers.append(headers)
        self.log.append("stream asked" if request["stream"] else "blocking asked")
        if self.status != 200:
            await self.send_json(writer, self.status, {"error": {"message": self.error}})
        elif request["stream"]:
            await self.send_stream(reader, writer)
            self.log.append("stream ended")
            self.stream_ended.set()
        else:
            if self.hold_blocking:
                await self.stream_ended.wait()
            await self.send_json(writer, 200, {"choices": [{"message": {"content": self.blocking}}]})

    async def send_json(self, writer: asyncio.StreamWriter, status: int, value: object) -> None:
        data = json.dumps(value).encode()
        writer.write(f"HTTP/1.1 {status} x\r\ncontent-length: {len(data)}\r\n\r\n".encode() + data)
        await writer.drain()

    async def send_stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        for step in self.stream:
            if step is CUT:
                writer.transport.abort()
                raise ConnectionError
            if step is HANG:
                await reader.read()  # until the client goes away
                raise ConnectionError
            assert isinstance(step, bytes)
            writer.write(f"{len(step):x}\r\n".encode() + step + b"\r\n")
            await writer.drain()
            await asyncio.sleep(0.005)
        writer.write(b"0\r\n\r\n")
        await writer.drain()


@asynccontextmanager
async def serving(*stream: object, **settings: Any) -> AsyncIterator[Server]:
    """A scripted server on a free port of this machine."""
    server = Server(stream, **settings)
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.base_url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/v1"
    try:
        yield server
    finally:
        listening.close()


async def until(condition: Any) -> None:
    """Wait for something to become true; a watchdog ends what never does."""
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
