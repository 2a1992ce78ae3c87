"""A bound on real time and memory: run a function in a thread of its own, and end that thread if it must be.

A thread is ended by throwing `Halt` into it, again and again, since code may catch it. Code that sits in one
long call into C (`threading.Event().wait()`) cannot be reached; it is left behind as a daemon thread, mute,
and ends when that call returns.
"""

from __future__ import annotations

import ctypes
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Generic, TypeVar

from .intercept import Halt, mute_this_thread

T = TypeVar("T")

KILL_SECONDS = 0.5
GIB = 2**30


class Overrun(Exception):
    """The function had to be stopped. `frame` is where it was then; its `thread` may still be alive."""

    def __init__(self, reason: str, frame: FrameType | None, thread: threading.Thread) -> None:
        super().__init__(reason)
        self.reason = reason
        self.frame = frame
        self.thread = thread


class _Worker(threading.Thread, Generic[T]):
    """The thread. As long as it is `open_to_halt`, `Halt` may be thrown into it. It never prints."""

    def __init__(self, work: Callable[[], T]) -> None:
        super().__init__(name="streamlib check", daemon=True)
        self._work = work
        self._turnstile = threading.Lock()
        self.open_to_halt = True
        self.results: list[T] = []
        self.error: BaseException | None = None
        self.done = threading.Event()

    def run(self) -> None:
        try:
            mute_this_thread()
            self.results.append(self._work())
        except Halt:
            pass
        except BaseException as error:
            self.error = error
        self._leave()

    def _leave(self) -> None:
        """From here on nothing is thrown in: inside `threading` itself an exception would do damage."""
        while self.open_to_halt:
            try:
                with self._turnstile:
                    _throw(self, None)
                    self.open_to_halt = False
            except Halt:
                continue
        self.done.set()

    def halt(self) -> None:
        with self._turnstile:
            if self.open_to_halt:
                _throw(self, Halt)


def _throw(thread: threading.Thread, exception: type[BaseException] | None) -> None:
    """Raise `exception` in a thread at its next step; None takes back one that has not been raised yet."""
    ident = ctypes.c_ulong(thread.ident or 0)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, ctypes.py_object(exception) if exception else None)


def run_guarded(work: Callable[[], T], *, seconds: float, memory: int = GIB) -> T:
    """The result of `work()`, or its exception. Raises `Overrun` after `seconds` or `memory` more bytes.

    Where no thread can be started (a browser's kernel) `work` runs here, unguarded.
    """
    worker = _Worker(work)
    try:
        worker.start()
    except RuntimeError:
        return work()
    try:
        reason = _watch(worker.done, seconds, memory)
    except BaseException:  # the person pressed Stop
        _end(worker)
        raise
    if reason:
        frame = sys._current_frames().get(worker.ident or 0)
        _end(worker)
        raise Overrun(reason, frame, worker)
    if worker.error is not None:
        raise worker.error
    return worker.results[0]


def _watch(done: threading.Event, seconds: float, memory: int) -> str:
    """Wait until it is done, or return why it must be ended."""
    import psutil

    process = psutil.Process()
    deadline = time.perf_counter() + seconds
    allowed = process.memory_info().rss + memory
    while not done.wait(0.02):
        if time.perf_counter() > deadline:
            return f"it was still running after {seconds:g} seconds"
        if process.memory_info().rss > allowed:
            return f"it took more than {memory / GIB:g} GiB of memory"
    return ""


def _end(worker: _Worker[T]) -> None:
    """Throw `Halt` once, and if the code swallows that, throw it until the thread is over.

    With a short switch interval the next one arrives while the handler of the last one still runs, which gets
    it out of `except BaseException: pass` in a loop.
    """
    worker.halt()
    if worker.done.wait(0.1):
        return
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        deadline = time.perf_counter() + KILL_SECONDS
        while not worker.done.is_set() and time.perf_counter() < deadline:
            worker.halt()
            time.sleep(0)
    finally:
        sys.setswitchinterval(interval)
