"""Streams that break: how long to wait, when to ask again, how to go on where an answer broke off. Lesson 5.

Before the first token a failed request can be repeated: nobody has seen anything yet (`retry`). After it the
same request would print the beginning twice: ask for the rest (`resume`), or let a server that keeps its
streams send what is missing (`resume_events`). `timeouts` turns silence into an error, which both take like
any other. All of them read and close one stream at a time, and close a failed one before they wait.

Which errors are worth another attempt, and how long to wait, is in `streamlib.backoff`; `timeouts` is in
`streamlib.patience`. All of it can be imported from here.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator
from contextlib import AsyncExitStack, suppress
from typing import Any, TypeAlias, TypeVar

from .backoff import backoff_delays, is_transient, retry_after
from .closing import closing
from .patience import Opened, StreamTimeout, opening, timeouts
from .sse import ServerSentEvent

__all__ = [
    "StreamTimeout",
    "backoff_delays",
    "is_transient",
    "resume",
    "resume_events",
    "retry",
    "retry_after",
]
__all__ += ["timeouts"]

T = TypeVar("T")

Delays: TypeAlias = Callable[[Iterable[float | None]], Iterator[float]]

_END: Any = object()


class _Failures:
    """The failed attempts of one call, and the rule that they share: wait how long, or give up."""

    def __init__(
        self,
        attempts: int,
        give_up_after: float,
        when: Callable[[Exception], bool],
        delays: Delays,
        on_retry: Callable[[Exception, float], object] | None,
    ) -> None:
        if attempts < 1:
            raise ValueError(f"attempts counts the first one too: it is at least 1, got {attempts}")
        self._left = attempts - 1
        self._seconds = give_up_after
        self._when = when
        self._on_retry = on_retry
        self._told: list[float | None] = []
        self._delays = delays(self._told)  # it reads a list that grows: one entry more, one delay more
        self._clock = asyncio.get_running_loop().time
        self.progress()

    def progress(self) -> None:
        """An item arrived: the time to give up is counted from here."""
        self._give_up_at = self._clock() + self._seconds

    def seconds_left(self) -> float:
        return self._give_up_at - self._clock()

    def delay(self, error: Exception) -> float:
        """How long to wait before the next attempt. Raises `error` when there shall be none."""
        if not self._left or not self._when(error):
            raise error
        self._told.append(retry_after(error))
        delay = next(self._delays)
        if delay >= self.seconds_left():
            raise error  # the wait alone would take all the time that is left
        self._left -= 1
        if self._on_retry is not None:
            self._on_retry(error, delay)
        return delay


async def retry(
    open_stream: Callable[[], Opened[T]],
    *,
    attempts: int = 4,
    give_up_after: float = 60.0,
    when: Callable[[Exception], bool] = is_transient,
    delays: Delays = backoff_delays,
    on_retry: Callable[[Exception, float], object] | None = None,
) -> AsyncGenerator[T, None]:
    """The items of ``open_stream()``; opened again after an error, as long as no item has been handed on.

    After the first item every error goes through: a second attempt would begin from the beginning. An empty
    text is no item yet. So let `open_stream` give text, not the chunks of a client: the first of those holds
    a role and no text. A stream that ends without an item ends here too; that is an answer, not a failure.

    attempts: how often it is opened at most, the first time included.
    give_up_after: seconds from the start to the first item, for all attempts and waits together. A server
        that asks to wait longer is not waited for.
    when: which errors deserve another attempt. delays: how long to wait, as `backoff_delays` does; settings
        go in by ``partial(backoff_delays, cap=5)``. on_retry: called with the error and the seconds to wait.

    Raises the error of the last attempt.
    """
    started = False

    def before_the_first_item(error: Exception) -> bool:
        return not started and when(error)

    failures = _Failures(attempts, give_up_after, before_the_first_item, delays, on_retry)
    async with closing(_again(open_stream, failures)) as items:
        async for item in items:
            started = started or item != ""
            yield item


async def _again(open_next: Callable[[], Opened[T]], failures: _Failures) -> AsyncGenerator[T, None]:
    """The items of ``open_next()``, and of the next one after each error, until one of them ends."""
    while True:
        async with AsyncExitStack() as attempt:  # left, and so closed, before it sleeps
            items: AsyncIterator[T] | None = None
            while True:
                try:
                    if items is None:
                        opened = timeouts(open_next(), first=max(failures.seconds_left(), 0.001))
                        items = await attempt.enter_async_context(closing(opened))
                    item = await anext(items, _END)
                except Exception as error:
                    delay = failures.delay(error)
                    break
                if item is _END:
                    return
                failures.progress()
                yield item
        await asyncio.sleep(delay)


async def resume(
    open_stream: Callable[[str], Opened[str]],
    *,
    min_overlap: int | None = 12,
    attempts: int = 5,
    give_up_after: float = 60.0,
    when: Callable[[Exception], bool] = is_transient,
    delays: Delays = backoff_delays,
    on_retry: Callable[[Exception, float], object] | None = None,
) -> AsyncGenerator[str, None]:
    """The text of ``open_stream("")``; after an error ``open_stream(text so far)`` gives the rest of it.

    `open_stream` asks the model to go on: the text so far as a last message of the assistant, which some
    servers continue exactly, or an instruction such as "Continue exactly where this stops: …". Told in words,
    a model often repeats the end of what it said, or all of it. The longest beginning of the new text that is
    also the end of the old is left out, if it has at least `min_overlap` characters; shorter ones are chance.
    Until that is clear the new text is held back. With ``min_overlap=None`` nothing is left out: right for a
    server that continues exactly.

    It must raise when an answer is cut short. `streamlib.chat` does; an official client ends in silence: look
    for the finish reason.

    What nobody can promise: that the rest is what the first answer would have said; that a repetition shorter
    than `min_overlap`, or in other words, is noticed; that a text which repeats itself ("ha ha ha") is not
    shortened at the seam; that a model which had said all, and is told to go on, says nothing more. The text
    so far is paid for again, as input. Not for tool calls or JSON: half a call, completed by another answer,
    may do harm.

    attempts, when, delays, on_retry: as in `retry`. give_up_after: seconds without a new item,
    attempts and waits together. Raises the error of the last attempt; its `text` is all that was handed on.
    """
    parts: list[str] = []

    def open_next() -> Opened[str]:
        said = "".join(parts)
        if not said or min_overlap is None:
            return open_stream(said)
        return _without_overlap(open_stream(said), said, min_overlap)

    async with closing(
        _again(open_next, _Failures(attempts, give_up_after, when, delays, on_retry))
    ) as texts:
        try:
            async for text in texts:
                parts.append(text)  # what is handed on counts as said, also when the reader stops here
                yield text
        except Exception as error:
            with suppress(AttributeError):
                error.text = "".join(parts)  # type: ignore[attr-defined]
            raise


async def _without_overlap(opened: Opened[str], said: str, least: int) -> AsyncGenerator[str, None]:
    """The text without its longest beginning that `said` ends with, if that has `least` characters."""
    held = ""
    async with opening(opened) as texts:
        async for text in texts:
            held += text
            # An overlap longer than `held` is a piece of `said` that begins with `held`. None: it is clear.
            if held not in said:
                break
        if rest := held[overlap(said, held, least) :]:
            yield rest
        async for text in texts:
            yield text


def overlap(said: str, new: str, least: int) -> int:
    """How many characters at the beginning of `new` repeat the end of `said`; 0 for fewer than `least`."""
    longest = min(len(said), len(new))
    return next((n for n in range(longest, max(least, 1) - 1, -1) if said.endswith(new[:n])), 0)


async def resume_events(
    open_stream: Callable[[str], Opened[ServerSentEvent]],
    *,
    attempts: int = 5,
    give_up_after: float = 60.0,
    when: Callable[[Exception], bool] = is_transient,
    delays: Delays = backoff_delays,
    on_retry: Callable[[Exception, float], object] | None = None,
) -> AsyncGenerator[ServerSentEvent, None]:
    """The events of ``open_stream("")``; after an error of ``open_stream(id of the last event)``.

    For servers that keep their streams: send the id as the header ``Last-Event-ID`` (WHATWG HTML, 9.2.4), or
    as the server wants it. This is exact, where `resume` is not, if the server keeps its side: each event is
    stored before it is sent, and only later ones are sent again. What comes twice at the seam is dropped.
    Events that came before any id may come again: without an id there is no place to name.

    Arguments and errors: as in `resume`.
    """
    last = ""

    def open_next() -> Opened[ServerSentEvent]:
        return _without_id(open_stream(last), last) if last else open_stream(last)

    failures = _Failures(attempts, give_up_after, when, delays, on_retry)
    async with closing(_again(open_next, failures)) as events:
        async for event in events:
            last = event.id or last
            yield event


async def _without_id(opened: Opened[ServerSentEvent], last: str) -> AsyncGenerator[ServerSentEvent, None]:
    """The events but those at the beginning that have the id `last`."""
    async with opening(opened) as events:
        again = True
        async for event in events:
            again = again and event.id == last
            if not again:
                yield event
