"""What lesson 6 needs behind the scene: servers, a proxy, a page. None of it is about streaming.

async with serving(app) as url:           # an app, served in this event loop
async with serving_threads(app) as url:   # a WSGI app, such as Flask's, on a fixed number of threads
async with serving_process(name) as url:  # "module:app", served by a process of its own
async with behind_nginx(url) as proxy:    # a real nginx in front
page(script)                              # an HTML page with a question and an answer
"""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from random import random
from socketserver import BaseServer
from string import Template
from threading import Thread
from time import perf_counter
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from .serve import sse_response

__all__ = [
    "Site",
    "behind_nginx",
    "find_nginx",
    "page",
    "serving",
    "serving_process",
    "serving_threads",
    "start",
]

HOST = "127.0.0.1"
START_SECONDS = 20.0


# -- servers --------------------------------------------------------------------------------------------


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: here the Stop button belongs to the notebook."""

    def capture_signals(self) -> AbstractContextManager[None]:  # type: ignore[override]
        return nullcontext()


@dataclass(frozen=True, slots=True)
class Site:
    """A server that runs in this event loop, beside the cells, until `stop` or the end of the kernel."""

    url: str
    _server: uvicorn.Server
    _task: asyncio.Task[None]

    async def stop(self) -> None:
        self._server.should_exit = True
        await self._task


async def start(app: Any, *, log_level: str = "critical") -> Site:
    """Serve an ASGI app, such as FastAPI's, on a free port of this machine."""
    listener = socket.create_server((HOST, 0))
    config = uvicorn.Config(
        app,
        lifespan="off",
        ws="none",
        log_level=log_level,
        use_colors=False,
        timeout_graceful_shutdown=1,
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:  # noqa: ASYNC110 (there is no event to wait for)
        await asyncio.sleep(0.005)
    return Site(_url(listener.getsockname()[1]), server, task)


@asynccontextmanager
async def serving(app: Any, *, log_level: str = "critical") -> AsyncIterator[str]:
    """The URL of an ASGI app, which is served for the length of the block."""
    site = await start(app, log_level=log_level)
    try:
        yield site.url
    finally:
        await site.stop()


@asynccontextmanager
async def serving_threads(app: Any, threads: int) -> AsyncIterator[str]:
    """The URL of a WSGI app. Each request holds one of `threads` threads until its answer is sent."""
    with ThreadPoolExecutor(threads) as pool:

        class Server(WSGIServer):
            request_queue_size = 128

            def process_request(self, request: Any, client_address: Any) -> None:
                pool.submit(self._work, request, client_address)

            def _work(self, request: Any, client_address: Any) -> None:
                try:
                    self.finish_request(request, client_address)
                except OSError:
                    pass  # the reader has left
                finally:
                    self.shutdown_request(request)

        class Handler(WSGIRequestHandler):
            def log_message(self, *args: object) -> None:
                pass

        with make_server(HOST, 0, app, Server, Handler) as server:
            thread = Thread(target=BaseServer.serve_forever, args=(server, 0.05), daemon=True)
            thread.start()
            try:
                yield _url(server.server_port)
            finally:
                await asyncio.to_thread(server.shutdown)


@asynccontextmanager
async def serving_process(name: str) -> AsyncIterator[str]:
    """The URL of an ASGI app named as for uvicorn, "module:app", served by a process of its own."""
    _allow_files(4096)
    port = _free_port()
    command = [sys.executable, "-m", "uvicorn", name, "--port", str(port), "--log-level", "error"]
    async with _running(command, port) as url:
        yield url


# -- a proxy --------------------------------------------------------------------------------------------

NGINX = Template("""\
daemon off;
master_process off;
pid $folder/pid;
error_log $folder/error.log;
events { worker_connections 512; }
http {
    access_log off;
    gzip $gzip;
    gzip_types text/event-stream;
    client_body_temp_path $folder/1; proxy_temp_path $folder/2; fastcgi_temp_path $folder/3;
    uwsgi_temp_path $folder/4; scgi_temp_path $folder/5;
    server {
        listen $host:$port;
        location / {
            proxy_pass $url;
            proxy_http_version 1.1;
            proxy_buffering $buffering;
            proxy_read_timeout ${patience}ms;
        }
    }
}
""")


def find_nginx() -> str | None:
    """Where nginx is, or None. (Debian and Ubuntu put it where only root's PATH leads.)"""
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")


@asynccontextmanager
async def behind_nginx(
    url: str, *, buffering: bool = True, gzip: bool = False, patience: float = 60.0
) -> AsyncIterator[str]:
    """The URL of an nginx that passes everything on to `url`.

    buffering: nginx's `proxy_buffering`. gzip: it compresses event streams too. patience: its
    `proxy_read_timeout`, in seconds. All three as nginx has them when nobody says anything. And it
    speaks HTTP/1.1 to `url`, as nginx does by itself since 1.29.7.
    """
    nginx = find_nginx()
    if nginx is None:
        raise FileNotFoundError(
            "nginx is not installed (Debian, Ubuntu: apt install nginx; macOS: brew install nginx)"
        )
    port = _free_port()
    with tempfile.TemporaryDirectory(prefix="nginx-") as folder:
        settings = {
            "folder": folder,
            "host": HOST,
            "port": port,
            "url": url,
            "buffering": "on" if buffering else "off",
            "gzip": "on" if gzip else "off",
            "patience": round(1000 * patience),
        }
        conf = Path(folder) / "nginx.conf"
        conf.write_text(NGINX.substitute(settings))
        command = [nginx, "-p", folder, "-c", str(conf), "-e", f"{folder}/error.log"]
        async with _running(command, port) as proxy:
            yield proxy


# A process between a server and the kernel: it ends the server when its own input ends, and that happens also
# when the kernel is killed.
WATCHMAN = """\
import subprocess, sys, threading
server = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
def watch():
    sys.stdin.buffer.read()
    server.terminate()
    try:
        server.wait(3)
    except subprocess.TimeoutExpired:
        server.kill()
threading.Thread(target=watch, daemon=True).start()
sys.exit(server.wait())
"""


@asynccontextmanager
async def _running(command: list[str], port: int) -> AsyncIterator[str]:
    """A process that listens on `port`; ended with the block, or with the kernel."""
    with tempfile.TemporaryFile() as complaints:
        process = subprocess.Popen(  # noqa: ASYNC220 (it takes a few milliseconds)
            [sys.executable, "-I", "-S", "-c", WATCHMAN, *command],
            stdin=subprocess.PIPE,
            stdout=complaints,
            stderr=complaints,
        )
        try:
            async with asyncio.timeout(START_SECONDS):
                while not await _listens(port):
                    if process.poll() is not None:
                        complaints.seek(0)
                        said = complaints.read().decode(errors="replace").strip() or "it said nothing"
                        raise RuntimeError(f"{Path(command[0]).name} did not start: {said}")
                    await asyncio.sleep(0.02)
            yield _url(port)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            try:
                await asyncio.to_thread(process.wait, 5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(HOST, port)
    except OSError:
        return False
    writer.close()
    return True


def _free_port() -> int:
    with socket.create_server((HOST, 0)) as listener:
        return int(listener.getsockname()[1])


def _url(port: int) -> str:
    return f"http://{HOST}:{port}"


# -- many readers ---------------------------------------------------------------------------------------


async def _ticks(request: Request) -> Response:
    """A stream of events, `rate` of them a second, each with the instant at which it was due."""
    rate = float(request.query_params["rate"])

    async def ticks() -> AsyncIterator[float]:
        begin = perf_counter() + random() / rate
        for number in count():
            due = begin + number / rate
            await asyncio.sleep(due - perf_counter())
            yield due

    return sse_response(ticks())


ticker = Starlette(routes=[Route("/", _ticks)])


@dataclass(frozen=True, slots=True)
class Held:
    """How a server held so many streams: how many began, events a second from all, how late they came."""

    streams: int
    rate: float
    opened: int
    events_per_second: float
    late_p50: float
    late_p99: float

    def __str__(self) -> str:
        due, late = self.streams * self.rate, 1000 * self.late_p99
        return (
            f"{self.streams:5} streams at {self.rate:2g} events/s: {self.opened:4} have begun, "
            f"{self.events_per_second:5.0f} of {due:5.0f} events/s come, late by {late:3.0f} ms (p99)"
        )


class _Reader(asyncio.Protocol):
    """Counts events with as little work as can be: what is measured is the server."""

    def __init__(self, head: bytes, late: list[float]) -> None:
        self._head = head
        self._late = late
        self.events = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        transport.write(self._head)

    def data_received(self, data: bytes) -> None:
        _, found, last = data.rpartition(b"data: ")
        if found:
            self.events += data.count(b"data: ")
            self._late.append(perf_counter() - float(last.partition(b"\n")[0]))


async def hold(url: str, *, streams: int, rate: float, seconds: float = 3.0) -> Held:
    """Open that many streams of `ticker`, then count for so many seconds what comes."""
    _allow_files(2 * streams + 200)
    loop = asyncio.get_running_loop()
    port = int(url.rpartition(":")[2])
    head = f"GET /?rate={rate:g} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()
    late: list[float] = []
    connections: list[tuple[asyncio.Transport, _Reader]] = []
    try:
        for _ in range(streams):
            connections.append(await loop.create_connection(lambda: _Reader(head, late), HOST, port))
        await asyncio.sleep(0.5 + 1 / rate)  # until all of them have begun
        late.clear()
        before = sum(reader.events for _, reader in connections)
        begin = perf_counter()
        await asyncio.sleep(seconds)
        events = (sum(reader.events for _, reader in connections) - before) / (perf_counter() - begin)
        opened = sum(reader.events > 0 for _, reader in connections)
    finally:
        for transport, _ in connections:
            transport.abort()
    late.sort()
    at = [late[min(len(late) * part // 100, len(late) - 1)] if late else float("nan") for part in (50, 99)]
    return Held(streams, rate, opened, events, *at)


def _allow_files(number: int) -> None:
    """To the system a connection is an open file, and it often allows 1024. Child processes inherit that."""
    if sys.platform != "win32":
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft != resource.RLIM_INFINITY and soft < number:
            most = number if hard == resource.RLIM_INFINITY else min(number, hard)
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


# -- a page ---------------------------------------------------------------------------------------------

PAGE = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Ask</title>
<style>
  :root { color-scheme: light; }
  body { font: 15px/1.5 system-ui, sans-serif; color: #222; background: #fff; margin: 12px; }
  form { display: flex; gap: 8px; }
  input { flex: 1; font: inherit; padding: 4px 8px; }
  button { font: inherit; padding: 4px 14px; }
  #answer { white-space: pre-wrap; min-height: 6em; margin: 12px 0; }
  #note { color: #666; font-size: 13px; }
</style>
<form id="form">
  <input id="question" aria-label="Question" value="What is a token? About 40 words.">
  <button id="ask">Ask</button>
  <button id="stop" type="button" disabled>Stop</button>
</form>
<div id="answer" aria-live="polite"></div>
<div id="note">Nothing asked yet.</div>
<script>
const get = id => document.getElementById(id);
let stop, start, pieces, first;

function show(token) {
  first ??= performance.now() - start;
  pieces += 1;
  get("answer").append(token);
  note(`${pieces} pieces, the first after ${Math.round(first)} ms`);
}

function note(text) { get("note").textContent = text; }

function over(text) {
  if (!get("ask").disabled) return;  // it was over already
  get("stop").disabled = true;
  get("ask").disabled = false;
  if (text) note(`${text} (${pieces} pieces came)`);
}

get("form").onsubmit = event => {
  event.preventDefault();
  get("answer").replaceChildren();
  [start, pieces, first] = [performance.now(), 0, undefined];
  get("stop").disabled = false;
  get("ask").disabled = true;
  note("waiting for the first token");
  stop = ask(get("question").value);
};
get("stop").onclick = () => { stop(); over("stopped"); };

SCRIPT
</script>
</html>
"""


def page(script: str) -> str:
    """An HTML page with a field for a question, Ask, Stop, and the answer.

    The script defines `ask(question)`, which gives a function that stops. It can call `show(token)`, and
    `over(text)` at the end, with a reason if it is a bad one.
    """
    return PAGE.replace("SCRIPT", script)
