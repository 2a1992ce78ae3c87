"""Opens many streams at once and notes when each event arrives: the client of `bench/serve.py`.

    python bench/load_generator.py '{"port": 8000, "path": "/", "streams": 100, "rate": 20, "seconds": 5}'

One loop over sockets in a process of its own: an official client would be slower than every server it is to
measure. It opens the streams at a steady pace, waits until all of them stream evenly, measures for so many
seconds, and prints one JSON object. An event is late against its own stream's schedule: events are due every
1 / rate seconds, counted from the one that came earliest on that grid.
"""

from __future__ import annotations

import json
import resource
import selectors
import socket
import sys
import time
from array import array
from dataclasses import dataclass, field
from typing import Any

OPENED_PER_SECOND = 400
SETTLE = 2.0  # seconds from the last opening to the measurement, beside the time to the first token


@dataclass(slots=True)
class Stream:
    """One connection: the events of the measurement, their arrival times, what is wrong with it."""

    connection: socket.socket
    arrivals: array[float] = field(default_factory=lambda: array("d"))
    received: int = 0  # bytes
    broken_off: bytes = b""  # the last byte of what came, for an event's end that is cut in two


def request_of(plan: dict[str, Any]) -> bytes:
    body = json.dumps(plan["body"]).encode() if plan.get("body") else b""
    lines = [
        f"{'POST' if body else 'GET'} {plan['path']} HTTP/1.1",
        "Host: 127.0.0.1",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        *(f"{name}: {value}" for name, value in plan.get("headers", {}).items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


def opened(plan: dict[str, Any]) -> Stream:
    connection = socket.create_connection(("127.0.0.1", plan["port"]), timeout=30)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.sendall(request_of(plan))
    connection.setblocking(False)
    return Stream(connection)


class Load:
    """The streams of one run."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self.plan = plan
        self.selector = selectors.DefaultSelector()
        self.streams: list[Stream] = []
        self.lost = 0
        self.measuring = False

    def open(self) -> None:
        stream = opened(self.plan)
        self.streams.append(stream)
        self.selector.register(stream.connection, selectors.EVENT_READ, stream)

    def read_until(self, end: float) -> None:
        """Take what arrives until ``end``."""
        while (left := end - time.perf_counter()) > 0:
            for key, _ in self.selector.select(left):
                stream = key.data
                try:
                    data = stream.connection.recv(65536)
                except ConnectionError:
                    data = b""
                now = time.perf_counter()
                if not data:  # nobody has asked it to end
                    self.lost += 1
                    self.selector.unregister(stream.connection)
                    stream.connection.close()
                    continue
                if self.measuring:
                    for _ in range((stream.broken_off + data).count(b"\n\n")):
                        stream.arrivals.append(now)
                stream.received += len(data)
                stream.broken_off = data[-1:]

    def run(self) -> dict[str, Any]:
        plan, n = self.plan, self.plan["streams"]
        start = time.perf_counter()
        for i in range(n):
            self.read_until(start + i / OPENED_PER_SECOND)
            self.open()
        self.read_until(time.perf_counter() + plan["first"] + SETTLE)
        silent = sum(stream.received < 100 for stream in self.streams)
        print("measure", flush=True)  # the driver looks at the server's clock now
        self.measuring = True
        cpu, begin = time.process_time(), time.perf_counter()
        self.read_until(begin + plan["seconds"])
        cpu = time.process_time() - cpu
        late = self.late()
        events = sum(len(stream.arrivals) for stream in self.streams)
        return {
            "streams": n,
            "lost": self.lost,
            "silent": silent,
            "events": events,
            "share": events / (n * plan["rate"] * plan["seconds"]),
            "p50": late[len(late) // 2] if late else 0.0,
            "p99": late[len(late) * 99 // 100] if late else 0.0,
            "max": late[-1] if late else 0.0,
            "client_cpu": cpu / plan["seconds"],
        }

    def late(self) -> list[float]:
        """How late every event came, in seconds, sorted."""
        late: list[float] = []
        gap = 1 / self.plan["rate"]
        for stream in self.streams:
            offsets = [at - k * gap for k, at in enumerate(stream.arrivals)]
            if offsets:
                least = min(offsets)
                late += [offset - least for offset in offsets]
        return sorted(late)


if __name__ == "__main__":
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    print(json.dumps(Load(json.loads(sys.argv[1])).run()), flush=True)
