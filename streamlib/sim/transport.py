"""The simulator without a socket: a streaming httpx2 transport, async and sync, in this very process.

    http = httpx2.AsyncClient(transport=SimTransport())
    client = AsyncOpenAI(base_url="http://sim/v1", api_key="none", http_client=http)

Frames arrive one by one at their due times, by the running loop's clock: a loop with a virtual clock
streams an answer in no time, and a browser page, which has no sockets, streams it in real time.
``transport.simulator.stats`` is what ``GET /sim/stats`` tells.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Generator, Iterator

import httpx2

from .core import Response, Simulator
from .model import Request


class SimTransport(httpx2.AsyncBaseTransport, httpx2.BaseTransport):
    """Answers every request with the simulated model; broken connections and read timeouts raise what
    httpx2 raises."""

    def __init__(self, simulator: Simulator | None = None) -> None:
        self.simulator = simulator or Simulator()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        loop = asyncio.get_running_loop()
        t0 = loop.time()
        response = self._respond(request, await request.aread())
        answer = _Answer(response, request, loop.time, t0)
        try:
            await answer.anext()  # the headers
        except BaseException:
            await answer.aclose()
            raise
        return httpx2.Response(_status(response), headers=response.headers, stream=answer, request=request)

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        t0 = time.monotonic()
        response = self._respond(request, request.read())
        answer = _Answer(response, request, time.monotonic, t0)
        try:
            answer.next()  # the headers
        except BaseException:
            answer.close()
            raise
        return httpx2.Response(_status(response), headers=response.headers, stream=answer, request=request)

    def _respond(self, request: httpx2.Request, body: bytes) -> Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        asked = Request(request.method, request.url.path, headers, body, request.url.query.decode("latin-1"))
        return self.simulator.respond(asked, time.time())


def _status(response: Response) -> int:
    assert response.status is not None  # a refused request has raised by now
    return response.status


def play(
    response: Response, request: httpx2.Request, clock: Callable[[], float], t0: float, patience: float
) -> Generator[float | bytes, None, None]:
    """The response as steps: a number means wait until then, bytes mean hand them over, the first being the
    headers.

    Times are seconds after the request, which came at ``t0`` by the ``clock``. ``patience`` is the read
    timeout.
    """

    def now() -> float:
        return clock() - t0

    timeout = httpx2.ReadTimeout("The simulated model sent nothing in time.", request=request)
    with response.delivery.timed(clock, t0) as delivery:
        if response.status is None:
            delivery.finished = True
            raise httpx2.RemoteProtocolError(
                "Server disconnected without sending a response.", request=request
            )
        limit = patience
        opened = False
        if response.headers_at is not None:
            if response.headers_at > limit:
                yield limit
                raise timeout
            yield response.headers_at
            opened = True
            yield b""
            limit = now() + patience
        for frame in response.frames:
            if frame.at > limit:
                yield limit
                raise timeout
            yield frame.at
            delivery.made(frame)
            if frame.data:
                if not opened:
                    opened = True
                    yield b""
                delivery.sent(frame)
                yield frame.data
                limit = now() + patience
            if frame.then == "cut":
                delivery.finished = True
                raise httpx2.RemoteProtocolError(
                    "peer closed connection without sending complete message body (incomplete chunked read)",
                    request=request,
                )
            if frame.then == "stall":
                yield limit
                raise timeout
        delivery.finished = True


class _Answer(httpx2.AsyncByteStream, httpx2.SyncByteStream):
    """The body of a response: takes the steps of ``play`` and does the waiting."""

    def __init__(
        self, response: Response, request: httpx2.Request, clock: Callable[[], float], t0: float
    ) -> None:
        patience = request.extensions.get("timeout", {}).get("read")
        self._clock, self._t0 = clock, t0
        self._steps = play(response, request, clock, t0, math.inf if patience is None else patience)

    async def anext(self) -> bytes | None:
        for step in self._steps:
            if isinstance(step, bytes):
                return step
            if step == math.inf:
                await asyncio.Event().wait()  # until cancelled
            await asyncio.sleep(self._t0 + step - self._clock())
        return None

    def next(self) -> bytes | None:
        for step in self._steps:
            if isinstance(step, bytes):
                return step
            while (delay := self._t0 + step - self._clock()) > 0:
                time.sleep(min(delay, 3600))
        return None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (data := await self.anext()) is not None:
            yield data

    def __iter__(self) -> Iterator[bytes]:
        while (data := self.next()) is not None:
            yield data

    async def aclose(self) -> None:
        self._steps.close()

    def close(self) -> None:
        self._steps.close()
