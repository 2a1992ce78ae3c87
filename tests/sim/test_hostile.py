"""Requests that nobody should send: the server says what is wrong, or lets go, and goes on serving others."""

from __future__ import annotations

import json
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx2
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamlib.sim.core import Simulator
from streamlib.sim.model import Request

from .talk import NOW, body_of
from .test_hostile_wires import WIRES, anything, places, put
from .test_server import wait_until

SCHEMA = {"type": "object", "properties": {"x": {"type": "string"}}}
CHAT = body_of(
    tools=[{"type": "function", "function": {"name": "f", "parameters": SCHEMA}}],
    tool_choice={"type": "function", "function": {"name": "f"}},
    response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}},
    stream=True,
    stream_options={"include_usage": True},
    stop=["x"],
    max_tokens=50,
    seed=1,
    n=1,
    parallel_tool_calls=True,
)
ALL_WIRES: dict[str, tuple[str, dict[str, Any]]] = {"chat": ("/v1/chat/completions", CHAT), **WIRES}
HEADERS = {"anthropic-version": "2023-06-01"}

# --- any body, on every wire -----------------------------------------------------------------------


def answered(path: str, body: bytes, **headers: str) -> int:
    """The status of the answer, which must be a whole answer or a clear refusal."""
    response = Simulator().respond(Request("POST", path, HEADERS | headers, body, "alt=sse"), NOW)
    sent = b"".join(frame.data for frame in response.frames)
    status = response.status
    assert status is not None
    if status != 200:
        assert 400 <= status < 500
        assert json.loads(sent)["error"]["message"]
    return status


@settings(max_examples=150)
@given(data=st.data())
def test_any_value_at_any_place_of_a_chat_request_is_answered(data: st.DataObject) -> None:
    path, body = ALL_WIRES["chat"]
    answered(
        path, json.dumps(put(body, data.draw(st.sampled_from(places(body))), data.draw(anything))).encode()
    )


@pytest.mark.parametrize("wire", ALL_WIRES)
@settings(max_examples=30)
@given(body=st.binary(max_size=40) | st.text(max_size=20).map(lambda text: text.encode("utf-8", "replace")))
def test_any_bytes_are_a_clear_400(wire: str, body: bytes) -> None:
    assert answered(ALL_WIRES[wire][0], body) == 400


@pytest.mark.parametrize("wire", ALL_WIRES)
@settings(max_examples=30)
@given(data=st.data())
def test_a_body_that_is_cut_or_has_a_wrong_byte_is_answered(wire: str, data: st.DataObject) -> None:
    path, body = ALL_WIRES[wire]
    text = json.dumps(body).encode()
    at = data.draw(st.integers(0, len(text) - 1))
    assert answered(path, text[:at]) == 400
    answered(path, text[:at] + bytes([data.draw(st.integers(0, 255))]) + text[at + 1 :])


@pytest.mark.parametrize("wire", ALL_WIRES)
@pytest.mark.parametrize("depth", [50, 300, 900, 100_000])
def test_deep_nesting_is_answered_wherever_it_stands(wire: str, depth: int) -> None:
    path, body = ALL_WIRES[wire]
    deep = {"[": "[" * depth + "]" * depth, "{": '{"properties":{"x":' * depth + "1" + "}}" * depth}
    for place in places(body):
        for nested in deep.values():
            text = json.dumps(put(body, place, "DEEP")).replace('"DEEP"', nested)
            answered(path, text.encode())


@settings(max_examples=100)
@given(
    st.dictionaries(
        st.sampled_from(["x-sim-fault", "x-sim-profile", "x-sim-seed", "x-sim-client", "authorization"]),
        st.text(st.characters(max_codepoint=255), max_size=12),
    )
)
def test_any_header_is_answered(headers: dict[str, str]) -> None:
    response = Simulator().respond(
        Request("POST", "/v1/chat/completions", headers, json.dumps(body_of()).encode()), NOW
    )
    list(response.frames)
    assert response.status is None or 200 <= response.status < 600


@settings(max_examples=100)
@given(
    st.sampled_from(["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "BREW"]),
    st.text(st.characters(max_codepoint=0x2FF), max_size=15).map(lambda text: f"/{text}"),
    st.text(st.characters(max_codepoint=127), max_size=10),
)
def test_any_path_and_method_is_answered(method: str, path: str, query: str) -> None:
    response = Simulator().respond(Request(method, path, {}, b"", query), NOW)
    assert b"".join(frame.data for frame in response.frames)
    assert response.status in (200, 404, 405)


@pytest.mark.parametrize("path", ["/sim/faults", "/sim/verdict", "/sim/stats"])
@settings(max_examples=40)
@given(method=st.sampled_from(["POST", "DELETE", "GET"]), body=anything, query=st.text(max_size=8))
def test_any_control_request_is_answered(path: str, method: str, body: Any, query: str) -> None:
    response = Simulator().respond(Request(method, path, {}, json.dumps(body).encode(), query), NOW)
    assert response.status in (200, 400, 405)


# --- on the wire -----------------------------------------------------------------------------------

SHORT = """
import streamlib.sim.server as server
server.HEAD_SECONDS = server.BODY_SECONDS = 1.0
server.MAX_CONNECTIONS = 150
server.serve(profile="fast", exit_with_stdin=True)
"""


@pytest.fixture(scope="module")
def impatient() -> Iterator[tuple[str, int]]:
    """The base URL and process id of a server with little patience and few connections."""
    with subprocess.Popen(
        [sys.executable, "-c", SHORT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin and process.stdout
        yield process.stdout.readline().strip(), process.pid
        process.stdin.close()


def talk(base_url: str, *pieces: bytes) -> bytes:
    """Send bytes over a connection of one's own; everything that comes back until the server closes it."""
    url = urlsplit(base_url)
    received = b""
    with socket.create_connection((url.hostname or "", url.port or 0), timeout=30) as connection:
        try:
            for piece in pieces:
                connection.sendall(piece)
            while data := connection.recv(65536):
                received += data
        except ConnectionError:  # it was closed while we were sending
            pass
    return received


def alive(base_url: str) -> bool:
    return httpx2.get(f"{base_url}/models", timeout=20).status_code == 200


POST = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n"


@pytest.mark.parametrize(
    ("pieces", "status"),
    [
        ((b"hello there\r\n\r\n",), b"400"),
        ((b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",), b"400"),  # somebody tries TLS
        ((b"\x00\xff" * 50 + b"\r\n\r\n",), b"400"),
        ((b"GET /v1/models HTTP/9.9\r\n\r\n",), b"400"),
        ((b"GET /v1/models HTTP/1.1\r\nbad header\r\n\r\n",), b"400"),
        ((POST + b"Content-Length: minus one\r\n\r\n",), b"400"),
        ((POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n123456",), b"400"),
        ((POST + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\nZZ\r\n",), b"400"),
        ((POST + b"Connection: close\r\nContent-Length: 4\r\n\r\n\xff\xfe\xfd\xfc",), b"400"),
        ((b"GET /%ff%00%zz HTTP/1.1\r\nConnection: close\r\nHost: x\r\n\r\n",), b"404"),
        ((b"GET /../../etc/passwd HTTP/1.1\r\nConnection: close\r\nHost: x\r\n\r\n",), b"404"),
        ((b"TRACE / HTTP/1.1\r\nConnection: close\r\nHost: x\r\n\r\n",), b"405"),
        ((b"GET /v1/models HTTP/1.1\r\nX: " + b"y" * 300_000 + b"\r\n\r\n",), b"431"),
        ((b"GET /" + b"y" * 300_000 + b" HTTP/1.1\r\n\r\n",), b"431"),
        ((POST,), b"408"),  # and nothing more
        ((POST + b"Content-Length: 100\r\n\r\n{",), b"408"),
        ((POST + b"Connection: close\r\nContent-Length: 3000000\r\n\r\n", b" " * 3_000_000), b"413"),
        ((), b""),  # a connection that says nothing is closed
    ],
)
def test_what_is_no_request_gets_an_answer_and_an_end(
    impatient: tuple[str, int], pieces: tuple[bytes, ...], status: bytes
) -> None:
    base_url, _ = impatient
    received = talk(base_url, *pieces)
    assert received[9:12] == status
    assert alive(base_url)


@pytest.mark.parametrize(
    "pieces",
    [
        (b"GET / HTTP/1.1\r\n", *(b"X-%d: y\r\n" % i for i in range(100_000))),
        (POST + b"Content-Length: 99000000\r\n\r\n", *[b" " * 1_000_000] * 99),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n", *[b"f4240\r\n" + b" " * 1_000_000 + b"\r\n"] * 99),
    ],
)
def test_who_does_not_stop_sending_is_cut_off(impatient: tuple[str, int], pieces: tuple[bytes, ...]) -> None:
    base_url, pid = impatient
    assert talk(base_url, *pieces)[9:12] in (b"", b"431", b"413")  # a reset may overtake what was said
    assert psutil.Process(pid).memory_info().rss < 300_000_000
    assert alive(base_url)


def test_a_second_head_that_never_ends_is_cut_off(impatient: tuple[str, int]) -> None:
    base_url, _ = impatient
    url = urlsplit(base_url)
    with socket.create_connection((url.hostname or "", url.port or 0), timeout=30) as connection:
        connection.sendall(b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = b""
        while not answer.endswith(b"}]}"):
            answer += connection.recv(65536)
        connection.sendall(b"GET /v1")
        assert connection.recv(65536)[9:12] == b"408"
        assert connection.recv(65536) == b""


def test_a_head_that_drips_in_is_cut_off(impatient: tuple[str, int]) -> None:
    base_url, _ = impatient
    url = urlsplit(base_url)
    end = time.monotonic() + 30
    with socket.create_connection((url.hostname or "", url.port or 0), timeout=30) as connection:
        try:
            for byte in POST + b"X-A: b\r\n" * 1000:
                assert time.monotonic() < end, "it was not cut off"
                connection.sendall(bytes([byte]))
                time.sleep(0.05)
        except ConnectionError:
            return
    raise AssertionError("the whole head was read")


def test_too_many_connections_are_turned_away_and_leave_nothing_behind(impatient: tuple[str, int]) -> None:
    base_url, pid = impatient
    url = urlsplit(base_url)
    crowd = [socket.create_connection((url.hostname or "", url.port or 0), timeout=30) for _ in range(400)]
    try:
        statuses = set()
        for connection in crowd[:200]:
            try:
                connection.sendall(b"GET /v1/models HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                statuses.add(connection.recv(64)[9:12])
            except ConnectionError:
                pass
        assert statuses <= {b"200", b"503", b""}
        assert b"503" in statuses
    finally:
        for connection in crowd:
            connection.close()
    server = psutil.Process(pid)
    wait_until(lambda: server.num_fds() < 50, seconds=30)
    assert alive(base_url)


def test_a_request_behind_one_that_is_not_answered_ends_the_connection(impatient: tuple[str, int]) -> None:
    base_url, _ = impatient
    body = json.dumps(body_of("Repeat: a b c", stream=True)).encode()
    one = POST + b"Content-Length: %d\r\n\r\n" % len(body) + body
    assert talk(base_url, one + one) == b""
    wait_until(lambda: httpx2.get(f"{base_url.removesuffix('/v1')}/sim/stats").json()["streams_open"] == 0)


def test_random_bytes_do_not_hurt(impatient: tuple[str, int]) -> None:
    base_url, pid = impatient
    noise = random.Random(1)
    for _ in range(50):
        talk(base_url, noise.randbytes(noise.randrange(1, 3000)) + b"\r\n\r\n")
    server = psutil.Process(pid)
    wait_until(lambda: server.num_fds() < 50, seconds=30)
    assert server.memory_info().rss < 300_000_000
    assert alive(base_url)
