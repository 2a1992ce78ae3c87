"""Time that costs nothing: a clock that jumps, and an event loop that runs on it.

When every task waits, the loop does not wait: it sets the clock to the next instant at which something is
due. So a minute of `asyncio.sleep` takes microseconds, and each instant is known exactly. The loop touches no
file descriptor and starts no thread, which lets it run anywhere, a browser's kernel included.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextvars import Context
from typing import Any, TypeVar

T = TypeVar("T")

START = 1024.0  # what the clock shows first: not 0, so that `if not started:` works as with a real clock
TURNS = 100_000  # turns of the loop at one instant after which it is called spinning


class Stuck(SystemExit):
    """The judged code does not come to an end. The words say why.

    A SystemExit, because asyncio lets that one out of any task, straight to whoever runs the loop.
    """


class Clock:
    """Virtual seconds. `blocked` counts those that judged code spent in `time.sleep`."""

    def __init__(self, limit: float) -> None:
        self.now = START
        self.limit = START + limit
        self.blocked = 0.0
        self.offloaded: float | None = None  # inside a worker thread: seconds passed there, else None

    @property
    def elapsed(self) -> float:
        """Seconds since the beginning."""
        return self.now - START

    def time(self) -> float:
        return self.now + (self.offloaded or 0.0)

    def jump(self, instant: float) -> None:
        """Be at that instant, if it is not past."""
        if self.offloaded is not None:
            self.offloaded = max(self.offloaded, instant - self.now)
            return
        self.now = max(self.now, instant)
        if self.now > self.limit:
            raise Stuck(f"it goes on for more than {self.limit - START:,.0f} seconds of its own time")

    def sleep(self, seconds: float) -> None:
        """What `time.sleep` does to judged code."""
        if seconds < 0:
            raise ValueError("sleep length must be non-negative")
        if self.offloaded is None:
            self.blocked += seconds
        self.jump(self.time() + seconds)


class VirtualLoop(asyncio.BaseEventLoop):
    """An event loop on a `Clock`. What needs the outside world (sockets, processes, signals) is not there."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock
        self.set_debug(False)
        self._clock_resolution = 1e-6  # two instants closer than this are one
        self._selector = _Jump(self)  # BaseEventLoop asks its selector to wait until something is due
        self._woken = threading.Event()
        self._threads = threading.active_count()

    def __del__(self) -> None:
        """Where the guard ended the thread before `close()`: quietly, not with asyncio's ResourceWarning."""
        if not self.is_running():
            self.close()

    def time(self) -> float:
        return self.clock.time()

    def allow(self, seconds: float) -> None:
        """Go on after it was stuck, for so many virtual seconds at most."""
        self.clock.limit = self.clock.now + seconds
        self._selector.turns = 0

    def run_in_executor(  # type: ignore[override]
        self, executor: object, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        """A worker thread, played: `func` runs now; its result arrives after the time it slept."""
        played: asyncio.Future[T] = self.create_future()
        self.clock.offloaded = 0.0
        try:
            played.set_result(func(*args))
        except Exception as error:
            played.set_exception(error)
        finally:
            spent, self.clock.offloaded = self.clock.offloaded, None

        async def later() -> T:
            await asyncio.sleep(spent)
            return played.result()

        return self.create_task(later())

    def call_soon_threadsafe(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        if self.clock.offloaded is not None:  # called from a played thread, at that thread's own instant
            return self.call_at(self.clock.time(), callback, *args, context=context)
        return super().call_soon_threadsafe(callback, *args, context=context)

    def due(self) -> float | None:
        """The instant of the next timer."""
        return self._scheduled[0].when() if self._scheduled else None  # type: ignore[attr-defined]

    def real_threads_at_work(self) -> bool:
        return threading.active_count() > self._threads

    def _write_to_self(self) -> None:  # another thread has called `call_soon_threadsafe`
        self._woken.set()

    def _process_events(self, event_list: object) -> None:
        pass


class _Jump:
    """The loop's selector: it never waits, it moves the clock."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.loop = loop
        self.turns = 0

    def select(self, timeout: float | None) -> tuple[()]:
        if timeout == 0:
            self.turns += 1
            if self.turns > TURNS:
                raise Stuck("it keeps the loop busy without letting any time pass")
            return ()
        self.turns = 0
        due = self.loop.due()
        if due is not None:
            self.loop.clock.jump(due)
            return ()
        while self.loop.real_threads_at_work():  # somebody's own thread may still wake the loop
            if self.loop._woken.wait(0.01):
                self.loop._woken.clear()
                return ()
        if self.loop._woken.is_set():
            self.loop._woken.clear()
            return ()
        raise Stuck("it waits for something that never comes")
