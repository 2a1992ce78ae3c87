"""For the tests of what is served: an app on a real server, readers that leave, a model that is watched."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn


@asynccontextmanager
async def serving(app: Any) -> AsyncIterator[str]:
    """The address of `app`, on a free port, for the length of the block."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(
            uvicorn.Config(app, log_level="critical", lifespan="off", timeout_graceful_shutdown=1)
        )
        task = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started:  # noqa: ASYNC110 (there is no event to wait for)
            await asyncio.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await task


class Reader:
    """A reader on a bare socket, who sees every byte and can leave in any manner."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.seen = b""

    @classmethod
    async def of(cls, url: str, headers: str = "", method: str = "GET") -> Reader:
        host, _, path = url.removeprefix("http://").partition("/")
        name, _, port = host.partition(":")
        self = cls(*await asyncio.open_connection(name, int(port)))
        self._writer.write(f"{method} /{path} HTTP/1.1\r\nHost: {host}\r\n{headers}\r\n".encode())
        return self

    async def until(self, what: bytes, count: int = 1) -> None:
        """Read until `what` has been seen so many times; fails when the connection ends before that."""
        async with asyncio.timeout(20):
            while self.seen.count(what) < count:
                piece = await self._reader.read(65536)
                assert piece, f"the connection ended: {self.seen!r}"
                self.seen += piece

    async def to_the_end(self) -> bytes:
        """All there is, up to HTTP's last chunk; the connection breaking instead is an error."""
        await self.until(b"0\r\n\r\n")
        return self.seen

    async def leave(self) -> None:
        self._writer.close()
        await self._writer.wait_closed()

    def leave_rudely(self) -> None:
        """With a reset: what a crashed browser, or a phone in a tunnel, looks like in the end."""
        self._writer.transport.abort()


class TwoTokens:
    """A model that says `a`, and `b` once it is allowed to."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()

    async def __aiter__(self) -> AsyncIterator[str]:
        yield "a"
        await self.go_on.wait()
        yield "b"


class Upstream:
    """A model that says its tokens so many seconds apart, and notes how far it came and when it closed."""

    def __init__(self, tokens: list[Any], *, every: float = 0.0, then: BaseException | None = None) -> None:
        self._tokens = tokens
        self._every = every
        self._then = then
        self.made = 0
        self.begun = asyncio.Event()
        self.closed = asyncio.Event()
        self.cleaned_up = False
        self.closed_at = 0.0

    async def __aiter__(self) -> AsyncIterator[Any]:
        self.begun.set()
        try:
            for token in self._tokens:
                await asyncio.sleep(self._every)
                self.made += 1
                yield token
            await asyncio.sleep(self._every)
            if self._then is not None:
                raise self._then
        finally:
            self.closed_at = asyncio.get_running_loop().time()
            await asyncio.sleep(0.01)  # like the connection of a client, it takes some turns to close
            self.cleaned_up = True
            self.closed.set()
