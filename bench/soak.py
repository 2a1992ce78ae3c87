"""Clients that vanish, for minutes: afterwards no task, no stream and no connection is left, and no memory.

    python bench/soak.py                     # five minutes
    python bench/soak.py --seconds 20 --clients 50

The server is `streamlib serve` in a process of its own. Every client opens a connection, does one of the
things that clients do (reads an answer to its end, leaves at a random moment, breaks the connection, stops in
the middle of its request, sends a second one behind it, meets a fault, waits in the queue and gives up), and
begins again. Checked at the end (exit code 1 if one does not hold): as many tasks and open files as before
the first client, no stream counted as open, nobody in the batch or its queue, and memory that has not grown
by more than a tenth since the first third.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from typing import Any

import psutil

CHAT, FAULTS = (
    "/v1/chat/completions",
    ("cut-after=3", "truncate-after=3", "stall-after=3", "status=503", "refuse"),
)
PATIENCE = 3.0  # seconds, of those who want the whole answer
RESET = struct.pack("ii", 1, 0)  # closing the connection breaks it: RST instead of FIN


def be_the_server() -> None:
    """`streamlib serve`, that also tells how many tasks it has, once for every line on its standard input."""
    from streamlib.sim import server

    started = server.SimServer.startup

    async def startup(self: server.SimServer, sockets: list[socket.socket] | None = None) -> None:
        await started(self, sockets)
        loop = asyncio.get_running_loop()

        def tell() -> None:
            print(len(asyncio.all_tasks(loop)), flush=True)

        def listen() -> None:
            while sys.stdin.readline():
                loop.call_soon_threadsafe(tell)
            os._exit(0)

        threading.Thread(target=listen, daemon=True).start()

    server.SimServer.startup = startup  # type: ignore[method-assign]
    server.serve(profile="fast")


class Server:
    """The server process and what it holds."""

    def __init__(self) -> None:
        command = [sys.executable, __file__, "--be-the-server"]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        assert self.process.stdout
        self.port = int(self.process.stdout.readline().removesuffix("/v1\n").rpartition(":")[2])
        self.watched = psutil.Process(self.process.pid)

    def tasks(self) -> int:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write("\n")
        return int(self.process.stdout.readline())

    def megabytes(self) -> float:
        return float(self.watched.memory_info().rss / 1e6)

    def open_files(self) -> int:
        return int(self.watched.num_fds())

    def stats(self) -> dict[str, Any]:
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as connection:
            connection.sendall(b"GET /sim/stats HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        found: dict[str, Any] = json.loads(answer.partition(b"\r\n\r\n")[2])
        return found


def request(chance: random.Random) -> bytes:
    """A question, in one of the formats, with a fault now and then."""
    fields: dict[str, Any] = {"model": "sim-1", "stream": chance.random() < 0.8}
    prompt = chance.choice(["What is SSE?", "Write 300 tokens about streaming", "Repeat: a b c"])
    path = chance.choice([CHAT, "/v1/responses", "/v1/messages"])
    messages = [{"role": "user", "content": prompt}]
    fields |= {"input": messages} if path == "/v1/responses" else {"messages": messages, "max_tokens": 400}
    headers = ["Host: x", "Connection: close"]
    if chance.random() < 0.3:
        headers.append(f"X-Sim-Fault: {chance.choice(FAULTS)}")
    if chance.random() < 0.3:
        headers.append("X-Sim-Profile: loaded")
    body = json.dumps(fields).encode()
    headers.append(f"Content-Length: {len(body)}")
    return "\r\n".join([f"POST {path} HTTP/1.1", *headers, "", ""]).encode() + body


async def one_visit(port: int, chance: random.Random) -> str:
    """One connection, from its opening to its end; returns how it was meant to end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    ending = chance.choice(["whole", "leaves", "leaves", "breaks", "breaks", "half a request", "two at once"])
    asked = request(chance)
    if ending == "half a request":
        asked = asked[: chance.randrange(1, len(asked))]
    elif ending == "two at once":
        asked += request(chance)
    try:
        writer.write(asked)
        patience = PATIENCE if ending == "whole" else chance.expovariate(3.0)
        with suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(patience):
                while await reader.read(65536):
                    pass
        if ending == "breaks":
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    finally:
        writer.close()
    return ending


async def visits(port: int, until: float, seed: int, done: Counter[str]) -> None:
    chance = random.Random(seed)
    while time.monotonic() < until:
        with suppress(ConnectionError):
            done[await one_visit(port, chance)] += 1


async def soak(server: Server, seconds: float, clients: int) -> list[str]:
    """Run it; what does not hold comes back as sentences."""
    await asyncio.gather(*(one_visit(server.port, random.Random(i)) for i in range(20)))  # it warms up
    await asyncio.sleep(1.0)
    tasks, files = server.tasks(), server.open_files()
    print(f"before: {tasks} tasks, {files} open files, {server.megabytes():.1f} MB")
    done: Counter[str] = Counter()
    start = time.monotonic()
    crowd = [asyncio.create_task(visits(server.port, start + seconds, i, done)) for i in range(clients)]
    early = 0.0
    for i in range(1, 10):
        await asyncio.sleep(start + seconds * i / 10 - time.monotonic())
        if i == 3:
            early = server.megabytes()
        told = f"{done.total():6} visits, {server.tasks():4} tasks, {server.open_files():4} open files"
        print(f"{time.monotonic() - start:6.0f} s: {told}, {server.megabytes():6.1f} MB")
    await asyncio.gather(*crowd)
    for _ in range(100):  # the server may be about to notice the last ones
        if server.tasks() <= tasks and server.open_files() <= files:
            break
        await asyncio.sleep(0.2)
    stats = await asyncio.to_thread(server.stats)
    late = server.megabytes()
    print(f"after {done.total()} visits ({', '.join(f'{n} {name}' for name, n in done.items())}):")
    print(f"        {server.tasks()} tasks, {server.open_files()} open files, {late:.1f} MB")
    failures = []
    if server.tasks() > tasks:
        failures.append(f"{server.tasks()} tasks are left, there were {tasks}")
    if server.open_files() > files:
        failures.append(f"{server.open_files()} files are open, there were {files}")
    for name in ("streams_open", "answers_running", "answers_waiting"):
        if stats[name]:
            failures.append(f"{name} is {stats[name]}")
    if late > early * 1.1 + 3:
        failures.append(f"memory grew from {early:.1f} to {late:.1f} MB")
    return failures


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--be-the-server", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.be_the_server:
        be_the_server()
        return 0
    server = Server()
    try:
        failures = asyncio.run(soak(server, args.seconds, args.clients))
    finally:
        server.process.kill()
        server.process.wait()
    for failure in failures:
        print("FAIL", failure)
    if not failures:
        print("Nothing is left behind.")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
