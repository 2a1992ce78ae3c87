"""Timeouts that fit a stream. All on a virtual clock."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from streamlib.closing import closing
from streamlib.patience import StreamTimeout, opening, timeouts

from .stream_helpers import Watched, now, stream_of, virtual


class Timed(Watched[str]):
    """Items, each after its own wait."""

    def __init__(self, *waits: float) -> None:
        super().__init__(str(n) for n in range(len(waits)))
        self._waits = iter(waits)

    async def __anext__(self) -> str:
        await asyncio.sleep(next(self._waits, 0))
        return await super().__anext__()


async def read(stream: Any, pause: float = 0) -> tuple[list[str], str | None, float]:
    """What came, which limit was broken, and when it was over."""
    got: list[str] = []
    try:
        async with closing(stream) as items:
            async for item in items:
                got.append(item)
                await asyncio.sleep(pause)
    except StreamTimeout as error:
        assert error.items == len([item for item in got if item])
        return got, error.limit, now()
    return got, None, now()


@pytest.mark.parametrize(
    ("waits", "limits", "expected"),
    [
        ((1, 1, 1), {}, (["0", "1", "2"], None, 3)),
        ((1, 1, 1), {"first": 2, "between": 2, "total": 4}, (["0", "1", "2"], None, 3)),
        ((5, 1), {"first": 2}, ([], "first", 2)),
        ((5, 1), {"between": 2}, (["0", "1"], None, 6)),
        ((1, 5, 1), {"between": 2}, (["0"], "between", 3)),
        ((1, 5, 1), {"first": 2}, (["0", "1", "2"], None, 7)),
        ((1, 1, 1, 1), {"total": 2.5}, (["0", "1"], "total", 2.5)),
        ((5,), {"first": 9, "total": 2}, ([], "total", 2)),
        ((1, 1, 9), {"between": 3, "total": 4}, (["0", "1"], "total", 4)),
    ],
)
def test_each_limit_strikes_at_its_instant_and_no_other(
    waits: tuple[float, ...], limits: dict[str, float], expected: tuple[list[str], str | None, float]
) -> None:
    source = Timed(*waits)
    assert virtual(read(timeouts(source, **limits))) == expected
    assert source.closed == 1


def test_the_readers_own_time_does_not_count_between_tokens() -> None:
    assert virtual(read(timeouts(Timed(1, 1, 1), between=2), pause=60))[:2] == (["0", "1", "2"], None)


def test_the_readers_own_time_counts_in_total() -> None:
    assert virtual(read(timeouts(Timed(1, 1, 1), total=30), pause=60))[:2] == (["0"], "total")


def test_a_text_that_is_empty_is_no_first_token() -> None:
    async def role_then_silence() -> AsyncIterator[str]:
        yield ""
        await asyncio.sleep(8)
        yield "token"
        await asyncio.sleep(2)

    assert virtual(read(timeouts(role_then_silence(), first=5, between=1))) == ([""], "first", 5)
    assert virtual(read(timeouts(role_then_silence(), first=9, between=1)))[1] == "between"


def test_empty_texts_do_not_put_the_first_token_off() -> None:
    async def keep_alives() -> AsyncIterator[str]:
        for _ in range(20):
            await asyncio.sleep(3)
            yield ""

    assert virtual(read(timeouts(keep_alives(), first=7))) == (["", ""], "first", 7)


def test_the_end_of_a_slow_stream_is_an_error_also_when_the_source_ends_on_cancellation() -> None:
    """The silent end: `wait_for(anext(…))` cancels the source, and this one then ends like a whole answer."""

    async def swallows() -> AsyncIterator[str]:
        yield "0"
        try:
            await asyncio.sleep(99)
        except asyncio.CancelledError:
            return

    assert virtual(read(timeouts(swallows(), between=3))) == (["0"], "between", 3)


def test_the_message_says_which_limit_and_how_many_came() -> None:
    error = StreamTimeout("between", 2.5, 7)
    assert str(error) == "the next item did not come within 2.5 s (7 items came before)"
    assert isinstance(error, TimeoutError)


def test_a_timeout_of_the_stream_itself_passes_as_it_is() -> None:
    async def slow_socket() -> AsyncIterator[str]:
        yield "0"
        raise TimeoutError("the socket's own")

    async def main() -> None:
        with pytest.raises(TimeoutError, match="the socket's own"):
            async for _ in timeouts(slow_socket(), between=9):
                pass

    virtual(main())


def test_a_cancelled_reader_is_cancelled_not_timed_out() -> None:
    async def main() -> int:
        source = Timed(1, 99)
        task = asyncio.create_task(read(timeouts(source, between=50)))
        await asyncio.sleep(5)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        return source.closed

    assert virtual(main()) == 1


def test_the_source_is_closed_when_an_anyio_scope_ends_the_reading() -> None:
    async def main() -> int:
        source = Timed(1, 99)
        with anyio.move_on_after(5):
            await read(timeouts(source, between=50))
        return source.closed

    assert virtual(main()) == 1


@pytest.mark.parametrize("limit", ["first", "between", "total"])
@pytest.mark.parametrize("seconds", [0, -1, float("nan")])
async def test_a_limit_is_above_zero(limit: str, seconds: float) -> None:
    with pytest.raises(ValueError, match=f"{limit} above 0"):
        await read(timeouts(stream_of(["a"]), **{limit: seconds}))


# --- opening --------------------------------------------------------------------------------------


class Response(Watched[str]):
    """A stream that must be entered, like `stream_chat(...)`."""

    entered = False

    async def __aenter__(self) -> Response:
        self.entered = True
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()


@pytest.mark.parametrize("kind", ["stream", "awaitable", "context manager", "generator context"])
def test_whatever_opening_gives_is_read_and_closed(kind: str) -> None:
    async def main() -> None:
        source = Response("ab")

        async def create() -> Response:
            await asyncio.sleep(1)
            return source

        @asynccontextmanager
        async def opened() -> AsyncIterator[Response]:
            yield source

        made: Any = {
            "stream": lambda: source,
            "awaitable": create,
            "context manager": lambda: source,
            "generator context": opened,
        }[kind]()
        async with opening(made) as items:
            assert [item async for item in items] == ["a", "b"]
            assert source.closed == 0
        assert source.closed >= 1
        assert source.entered or kind == "generator context"

    virtual(main())


def test_the_time_to_open_counts_for_the_first_token() -> None:
    async def create() -> AsyncIterator[str]:
        await asyncio.sleep(10)
        return stream_of(["late"])

    assert virtual(read(timeouts(create(), first=3))) == ([], "first", 3)
