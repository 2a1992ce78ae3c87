"""The simulator on a socket: an ASGI app of one function, served by uvicorn (``streamlib serve``, lesson 6).

Raw ASGI, without a framework, since one process shall carry a thousand streams: per frame it costs one
timer and one write (``bench/serve.py``; on uvloop a timer wheel for all streams saves a thirtieth of it).
A frame leaves at its due time on one absolute schedule; a client that leaves ends its answer at once. Who
sends a request too slowly, too large, or as no HTTP at all is told so and let go.
"""

from __future__ import annotations

import asyncio
import gc
import ipaddress
import os
import socket
import sys
import threading
import time
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from dataclasses import replace
from itertools import chain
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from .core import MAX_BODY_BYTES, Response, Simulator
from .model import ApiError, Frame, Request

HEAD_SECONDS = 20.0  # for the head of a request to arrive
BODY_SECONDS = 60.0
MAX_HEAD_BYTES = 64 * 1024
MAX_DROPPED_BYTES = 16 * 1024 * 1024  # read beyond the largest body, so that the client gets to see the 413
MAX_CONNECTIONS = 10_000

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


def make_app(simulator: Simulator) -> App:
    """The ASGI application around a simulator."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        t0 = asyncio.get_running_loop().time()
        came = await read_body(receive)
        if came is None:
            return
        body, complete = came
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        query = scope["query_string"].decode("latin-1")
        request = Request(scope["method"], scope["path"], headers, body, query)
        if complete or len(body) > MAX_BODY_BYTES:
            response = simulator.respond(request, time.time())
        else:
            response = simulator.refuse(
                request, ApiError(408, f"The body did not arrive within {BODY_SECONDS:g} s.")
            )
        if not complete:
            response = replace(response, headers=(*response.headers, ("connection", "close")))
        await send_response(response, t0, send, scope["extensions"]["streamlib.connection"])

    return app


async def read_body(receive: Receive) -> tuple[bytes, bool] | None:
    """The request's body and whether it came to an end; None when the client leaves first.

    What goes past the limit is read and dropped, but not for ever.
    """
    body, dropped = bytearray(), 0
    with suppress(TimeoutError):
        async with asyncio.timeout(BODY_SECONDS):
            while dropped <= MAX_DROPPED_BYTES:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return None
                if len(body) <= MAX_BODY_BYTES:
                    body += message.get("body", b"")
                else:
                    dropped += len(message.get("body", b""))
                if not message.get("more_body", False):
                    return bytes(body), True
    return bytes(body), False


async def send_response(response: Response, t0: float, send: Send, connection: SimProtocol) -> None:
    """Send headers and frames, each at its time; a hard cut closes the connection in mid-answer.

    Cancelled when the client leaves.
    """
    with response.delivery.timed(asyncio.get_running_loop().time, t0) as delivery:
        if response.status is None:
            delivery.finished = True
            await connection.hang_up()
        pump = Pump(response, t0, send, connection)
        try:
            while (end := await pump.run()) == "full":
                await connection.flow.drain()
        finally:
            pump.stop()
        if end == "cut":
            delivery.finished = True
            await connection.hang_up()
        if end == "stall":
            await asyncio.Event().wait()  # until the client leaves


END = Frame(0.0)  # after the last frame of an answer


class Pump:
    """Sends an answer's headers and frames, each at its time, from the timers of the event loop.

    A task that sleeps and sends, again and again, would be shorter. But for each frame it costs a future, a
    wake-up and the way down through five coroutines. Without them, and with what `send` does for a chunk done
    here, a frame costs little more than in the smallest ASGI app there is (``bench/serve.py``).
    """

    def __init__(self, response: Response, t0: float, send: Send, connection: SimProtocol) -> None:
        self.response = response
        self.frames = iter(response.frames)
        if response.headers_at is not None:  # else they leave with the first bytes
            self.frames = chain([Frame(response.headers_at)], self.frames)
        self.t0 = t0
        self.send = send
        self.connection = connection
        self.loop = asyncio.get_running_loop()
        self.started = False  # the headers are sent
        self.frame: Frame | None = None  # it waits for its time, or for room
        self.timer: asyncio.TimerHandle | None = None
        self.end: asyncio.Future[str]

    def run(self) -> asyncio.Future[str]:
        """Begin, or go on. The result is "end", "cut", "stall", or "full": the client does not read."""
        self.end = self.loop.create_future()
        if self.frame is None:
            self.ask()
        else:
            self.put(self.frame)
        return self.end

    def stop(self) -> None:
        if self.timer is not None:
            self.timer.cancel()

    def ask(self) -> None:
        """Take the next frame and wait for its time; one whose time is past lets the others run first.

        After the last one the answer ends at once: a client that has read it may ask again.
        """
        self.frame = next(self.frames, END)
        if self.frame is END:
            self.put(END)
        else:
            self.timer = self.loop.call_at(self.t0 + self.frame.at, self.due)

    def due(self) -> None:
        """The frame's time has come."""
        if self.frame is None or self.end.done():  # the client has left this very moment
            return
        try:
            self.response.delivery.made(self.frame)
            self.put(self.frame)
        except Exception as error:
            self.end.set_exception(error)

    def put(self, frame: Frame) -> None:
        """Send the frame, when there is room for it."""
        if self.connection.flow.write_paused:
            self.end.set_result("full")
            return
        if not self.started and (frame.data or frame is END or self.response.headers_at is not None):
            self.started = True
            headers = [(name.encode(), value.encode()) for name, value in self.response.headers]
            self.say({"type": "http.response.start", "status": self.response.status, "headers": headers})
        if frame.data:
            if self.connection.cycle.chunked_encoding:  # as uvicorn's `send` writes it
                self.connection.transport.write(b"%x\r\n%b\r\n" % (len(frame.data), frame.data))
            else:
                self.say({"type": "http.response.body", "body": frame.data, "more_body": True})
            self.response.delivery.sent(frame)
        if frame is END:
            self.response.delivery.finished = True
            self.response.delivery.end()
            self.say({"type": "http.response.body", "body": b"", "more_body": False})
            self.end.set_result("end")
        elif frame.then == "go on":
            self.ask()
        else:
            self.end.set_result(frame.then)

    def say(self, message: MutableMapping[str, Any]) -> None:
        """Send. uvicorn's `send` waits for nothing but room, and there is room."""
        with suppress(StopIteration):
            self.send(message).send(None)  # type: ignore[attr-defined]


class SimProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol, with three things that it has not.

    The app is cancelled at once when its client leaves. It may close the connection in the middle of an
    answer, which is what lesson 5 is about: ``hang_up`` sends what is written and then ends the connection
    without the last chunk that HTTP demands; clients call that an incomplete read. And the head of a request
    has a limit, in bytes and in seconds.
    """

    app: App  # set by uvicorn, and called once per request

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        app = self.app
        self.answering: asyncio.Task[Any] | None = None

        async def until_the_client_leaves(scope: Scope, receive: Receive, send: Send) -> None:
            scope["extensions"] = {"streamlib.connection": self}
            self.answering = asyncio.current_task()
            try:
                await app(scope, receive, send)
            except asyncio.CancelledError:
                if not self.client_left:
                    raise
            finally:
                if self.answering is asyncio.current_task():  # the next request may be here already
                    self.answering = None

        self.app = until_the_client_leaves
        self.client_left = False
        self.head_bytes = 0
        self.head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.await_head()

    def data_received(self, data: bytes) -> None:
        cycle = self.cycle  # the latest request, None before the first
        between = cycle is None or not cycle.more_body
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self.cycle is not cycle:  # a head is complete
            self.head_bytes = 0
            self.stop_timer()
        elif between:
            self.head_bytes += len(data)
            if self.head_bytes > MAX_HEAD_BYTES:
                self.refuse(431, "Request Header Fields Too Large")
            elif self.head_timer is None:
                self.await_head()

    def on_headers_complete(self) -> None:
        answered = self.cycle
        super().on_headers_complete()
        if answered is not None and not answered.response_complete:
            # A request behind one that is not answered yet: uvicorn would stop reading, and so not notice
            # that the client leaves. No client of ours sends one, so the connection ends here.
            self.cycle = answered
            self.pipeline.clear()
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.stop_timer()
        super().connection_lost(exc)
        self.client_left = True
        if self.answering is not None:
            self.answering.cancel()

    async def hang_up(self) -> None:
        """Close the connection, and wait for the end that this means for the one who calls it."""
        self.transport.close()
        await asyncio.Event().wait()

    def await_head(self) -> None:
        self.head_timer = self.loop.call_later(HEAD_SECONDS, self.head_is_late)

    def stop_timer(self) -> None:
        if self.head_timer is not None:
            self.head_timer.cancel()
            self.head_timer = None

    def head_is_late(self) -> None:
        self.head_timer = None
        self.refuse(408, "Request Timeout")

    def refuse(self, status: int, reason: str) -> None:
        """Close the connection; say why, unless nothing was asked or an answer is on its way there."""
        if self.head_bytes and (self.cycle is None or self.cycle.response_complete):
            head = f"HTTP/1.1 {status} {reason}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
            self.transport.write(head.encode())
        self.transport.close()


class SimServer(uvicorn.Server):
    """A uvicorn server that prints its base URL when it is ready, and that does not wait for open streams."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        print(f"http://{f'[{host}]' if ':' in host else host}:{port}/v1", flush=True)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for connection in list(self.server_state.connections):
            connection.transport.close()  # its stream ends as if the client had left
        await super().shutdown(sockets)


def serve(
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    key: str | None = None,
    profile: str = "typical",
    exit_with_stdin: bool = False,
) -> None:
    """Serve the simulated model until Ctrl-C, and print its base URL when it is ready.

    Port 0 takes a free one. A host that others can reach demands a ``key``, which clients then send as
    Bearer token. With ``exit_with_stdin`` the process ends when its standard input does: the other end of
    that pipe is in the hands of whoever started it, and the kernel closes it however they die. Raises
    ``SystemExit`` with a sentence when it cannot start.
    """
    if key is None and not is_loopback(host):
        raise SystemExit(
            f"Others can reach {host}: give a key with --key, or leave --host out to stay on this machine."
        )
    try:
        simulator = Simulator(profile=profile, key=key)
    except ApiError as error:
        raise SystemExit(error.message) from None
    config = uvicorn.Config(
        make_app(simulator),
        http=SimProtocol,
        limit_concurrency=MAX_CONNECTIONS,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=1,
    )
    if exit_with_stdin:
        threading.Thread(target=exit_when_stdin_ends, daemon=True).start()
    allow_many_connections()
    # Looking for garbage delays every stream. What is here now stays, so it is never looked through; and what
    # comes later is looked through seldom: nearly all of it is gone as soon as it has been sent.
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    with bound_socket(host, port) as listener:
        SimServer(config).run(sockets=[listener])


def allow_many_connections() -> None:
    """Raise this process's limit of open files to what MAX_CONNECTIONS needs, as far as the system lets it.

    Many systems begin with 1024 or, on macOS, 256: too few for a thousand streams.
    """
    with suppress(ImportError, ValueError, OSError):
        import resource  # not on Windows, which has no such limit

        now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = MAX_CONNECTIONS + 100
        if most != resource.RLIM_INFINITY:
            wanted = min(wanted, most)
        if now != resource.RLIM_INFINITY and now < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


def bound_socket(host: str, port: int) -> socket.socket:
    """A socket bound to ``host`` and ``port``; ``SystemExit`` with the mend when that cannot be."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    if os.name == "posix":
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise SystemExit(
            f"Cannot listen on {host}, port {port}: {error.strerror or error}. "
            "Is another server running there? Choose another --port, or leave it out for a free one."
        ) from None
    return listener


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach ``host``."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def exit_when_stdin_ends() -> None:
    """End this process at once when standard input ends. ``os.read``: a buffered reader would hold a lock
    at exit."""
    while os.read(sys.stdin.fileno(), 1024):
        pass
    os._exit(0)
