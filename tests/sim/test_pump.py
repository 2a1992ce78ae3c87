"""How frames leave: at their time, in order, and only while there is room. No socket, a virtual clock."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from typing import Any, cast

import pytest

from streamlib.sim.core import Response
from streamlib.sim.model import Frame
from streamlib.sim.server import SimProtocol, send_response
from streamlib.sim.stats import Delivery, Stats
from tests.stream_helpers import now, virtual


class Connection:
    """Stands for uvicorn's protocol, its cycle, its flow control and its transport at once."""

    def __init__(self, *, chunked: bool = True) -> None:
        self.cycle = self.flow = self.transport = self
        self.chunked_encoding = chunked
        self.written: list[tuple[float, bytes]] = []
        self.messages: list[dict[str, Any]] = []
        self.write_paused = False
        self.room = asyncio.Event()

    def write(self, data: bytes) -> None:
        self.written.append((round(now(), 3), data))

    async def send(self, message: dict[str, Any]) -> None:
        assert not self.write_paused
        self.messages.append(message)
        if message.get("body"):
            self.write(message["body"])

    async def drain(self) -> None:
        await self.room.wait()

    async def hang_up(self) -> None:
        self.messages.append({"type": "hang up"})
        await asyncio.Event().wait()


def response_of(frames: Iterable[Frame], headers_at: float | None = 0.5) -> Response:
    delivery = Delivery(Stats(), tokens=10, stream=True)
    return Response(200, (("content-type", "text/event-stream"),), frames, delivery, headers_at)


def sending(response: Response, connection: Connection) -> Any:
    """What the app does, from now on."""
    return send_response(response, now(), cast(Any, connection.send), cast(SimProtocol, connection))


FRAMES = [Frame(1.0, b"a", 1, 1), Frame(1.5, made=1), Frame(2.0, b"bc", 1, 2)]


def test_each_frame_leaves_at_its_time_as_a_chunk() -> None:
    async def run() -> None:
        connection, response = Connection(), response_of(FRAMES)
        await sending(response, connection)
        assert connection.written == [(1.0, b"1\r\na\r\n"), (2.0, b"2\r\nbc\r\n")]
        assert [message["type"] for message in connection.messages] == [
            "http.response.start",
            "http.response.body",
        ]
        stats = response.delivery._stats
        assert (stats.tokens_produced, stats.tokens_delivered, stats.streams_open) == (3, 3, 0)

    virtual(run())


def test_headers_leave_with_the_first_bytes_unless_they_have_a_time() -> None:
    async def run() -> None:
        connection = Connection(chunked=False)
        await sending(response_of(FRAMES, headers_at=None), connection)
        assert connection.written == [(1.0, b"a"), (2.0, b"bc")]
        assert connection.messages[0]["type"] == "http.response.start"

    virtual(run())


@pytest.mark.parametrize("chunked", [True, False])
def test_when_the_last_byte_leaves_the_answer_is_over(chunked: bool) -> None:
    """A client that has a whole answer may ask again on the same connection, and may ask for the counts."""

    async def run() -> None:
        connection, response = Connection(chunked=chunked), response_of(FRAMES)
        seen: list[tuple[bool, int]] = []
        write = connection.write

        def look() -> None:
            over = connection.messages[-1].get("more_body") is False
            seen.append((over, response.delivery._stats.streams_open))

        def write_and_look(data: bytes) -> None:
            write(data)
            asyncio.get_running_loop().call_soon(look)  # before anything that waits is woken

        connection.write = write_and_look  # type: ignore[method-assign]
        await sending(response, connection)
        assert seen == [(False, 1), (True, 0)]

    virtual(run())


def test_without_room_nothing_is_sent_and_nothing_is_lost() -> None:
    async def run() -> None:
        connection, made = Connection(), []

        def frames() -> Iterator[Frame]:
            for number in range(5):
                made.append(number)
                yield Frame(1.0 + number, b"%d" % number, 1, 1)

        task = asyncio.create_task(sending(response_of(frames()), connection))
        await asyncio.sleep(2.5)
        connection.write_paused = True
        await asyncio.sleep(10)
        assert [data for _, data in connection.written] == [b"1\r\n0\r\n", b"1\r\n1\r\n"]
        assert made == [0, 1, 2]  # the model waits, too
        connection.write_paused = False
        connection.room.set()
        await task
        assert b"".join(data[3:4] for _, data in connection.written) == b"01234"

    virtual(run())


def test_a_client_that_leaves_stops_the_timer() -> None:
    async def run() -> None:
        connection, response = Connection(), response_of(FRAMES)
        task = asyncio.create_task(sending(response, connection))
        await asyncio.sleep(1.2)
        task.cancel()
        await asyncio.wait([task])
        await asyncio.sleep(5)
        assert len(connection.written) == 1
        assert response.delivery._stats.streams_open == 0

    virtual(run())


def test_an_error_while_a_frame_is_made_is_raised() -> None:
    async def run() -> None:
        def frames() -> Iterator[Frame]:
            yield FRAMES[0]
            raise KeyError("a bug")

        with pytest.raises(KeyError, match="a bug"):
            await sending(response_of(frames()), Connection())

    virtual(run())


@pytest.mark.parametrize(("then", "messages"), [("cut", 2), ("stall", 1)])
def test_after_a_cut_and_in_a_stall_the_answer_has_no_end(then: Any, messages: int) -> None:
    async def run() -> None:
        connection = Connection()
        response = response_of([FRAMES[0], Frame(2.0, b"b", 1, 1, then), FRAMES[2]])
        task = asyncio.create_task(sending(response, connection))
        await asyncio.sleep(100)
        assert not task.done()
        assert [data for _, data in connection.written] == [b"1\r\na\r\n", b"1\r\nb\r\n"]
        assert len(connection.messages) == messages
        task.cancel()
        await asyncio.wait([task])
        assert response.delivery.finished == (then == "cut")

    virtual(run())
