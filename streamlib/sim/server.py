"""The simulator on a socket: an ASGI app of one function, served by uvicorn (``streamlib serve``, lesson 6).

Raw ASGI, without a framework, since one process shall carry a thousand streams: per frame it costs one
timer and one write. A frame leaves at its due time on one absolute schedule; a client that leaves ends its
answer at once.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
import sys
import threading
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import uvicorn
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from .core import MAX_BODY_BYTES, Response, Simulator
from .model import ApiError, Request

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


def make_app(simulator: Simulator) -> App:
    """The ASGI application around a simulator."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        t0 = asyncio.get_running_loop().time()
        body = await read_body(receive)
        if body is None:
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        query = scope["query_string"].decode("latin-1")
        request = Request(scope["method"], scope["path"], headers, body, query)
        response = simulator.respond(request, time.time())
        # The sender is a task of its own, so that this one can wait for the client to leave: uvicorn says
        # http.disconnect when it does, and also when the answer is complete.
        async with asyncio.TaskGroup() as group:
            sender = group.create_task(
                send_response(response, t0, send, scope["extensions"]["streamlib.close"])
            )
            while (await receive())["type"] != "http.disconnect":
                pass
            sender.cancel()

    return app


async def read_body(receive: Receive) -> bytes | None:
    """The request's body, None when the client leaves first. What goes past the limit is read and dropped."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        if len(body) <= MAX_BODY_BYTES:
            body += message.get("body", b"")
        if not message.get("more_body", False):
            return bytes(body)


async def send_response(response: Response, t0: float, send: Send, close: Callable[[], None]) -> None:
    """Send headers and frames, each at its time; a hard cut closes the connection in mid-answer."""
    loop = asyncio.get_running_loop()
    start = {
        "type": "http.response.start",
        "status": response.status,
        "headers": [(name.encode(), value.encode()) for name, value in response.headers],
    }
    with response.delivery.timed(loop.time, t0) as delivery:
        if response.status is None:
            delivery.finished = True
            close()
            return
        if response.headers_at is not None:
            await asyncio.sleep(t0 + response.headers_at - loop.time())
            await send(start)
        started = response.headers_at is not None
        for frame in response.frames:
            # sleep() takes a time that is past as zero and still lets the others run
            await asyncio.sleep(t0 + frame.at - loop.time())
            delivery.made(frame)
            if frame.data:
                if not started:
                    await send(start)
                    started = True
                await send({"type": "http.response.body", "body": frame.data, "more_body": True})
                delivery.sent(frame)
            if frame.then == "cut":
                delivery.finished = True
                close()
                return
            if frame.then == "stall":
                await asyncio.Event().wait()  # until the client leaves
        delivery.finished = True
        await send({"type": "http.response.body", "body": b"", "more_body": False})


class ClosableProtocol(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
    """uvicorn's HTTP protocol, which also lets the app close the connection in the middle of an answer.

    ASGI has no such thing, and a broken connection is what lesson 5 is about. ``close`` sends what is
    written and then ends the connection without the last chunk that HTTP demands; clients call that an
    incomplete read.
    """

    app: App  # set by uvicorn, and called once per request

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        app = self.app

        async def with_close(scope: Scope, receive: Receive, send: Send) -> None:
            scope["extensions"] = {"streamlib.close": self.transport.close}
            await app(scope, receive, send)

        self.app = with_close


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
        http=ClosableProtocol,
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
    with bound_socket(host, port) as listener:
        SimServer(config).run(sockets=[listener])


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
