"""A bound on real time and memory: run a function in a thread of its own, and end that thread if it must be.

A thread is ended by throwing `Halt` into it. Code that swallows whatever is thrown is put to sleep for good.
Code that sits in one long call into C (`threading.Event().wait()`) is reached when that call returns; until
then it is left behind, mute.
"""

from __future__ import annotations

import ctypes
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Generic, TypeVar

from .intercept import Halt, mute_this_thread

T = TypeVar("T")

INSISTING = 0.3  # seconds
MIB = 2**20
STEPS = 5  # so many times the time of one step is the time of all


class Overrun(Exception):
    """The function had to be stopped. `frame` is where it was then.

    `may_print()` says whether its thread could not be stopped and may still print.
    """

    def __init__(self, reason: str, frame: FrameType | None, may_print: Callable[[], bool]) -> None:
        super().__init__(reason)
        self.reason = reason
        self.frame = frame
        self.may_print = may_print


class _Worker(threading.Thread, Generic[T]):
    """The thread. As long as it is `open_to_halt`, `Halt` may be thrown into it. It never prints."""

    def __init__(self, work: Callable[[], T]) -> None:
        super().__init__(name="streamlib check", daemon=True)
        self._work = work
        self._turnstile = threading.Lock()
        self.open_to_halt = True
        self.asleep = False
        self.results: list[T] = []
        self.error: BaseException | None = None
        self.done = threading.Event()

    def run(self) -> None:
        try:
            try:
                mute_this_thread()
                self.results.append(self._work())
            finally:
                # From here on nothing is thrown in: inside `threading` itself an exception would do damage.
                # At most one was under way. It is raised in the next line or the one after, or taken back.
                self.open_to_halt = False
                with self._turnstile:
                    _throw(self, None)
        except Halt:
            pass
        except BaseException as error:
            self.error = error
        self.done.set()

    def may_print(self) -> bool:
        """Whether it was left behind and may still come to life."""
        return self.is_alive() and not self.asleep

    def throw(self, exception: type[Halt]) -> None:
        with self._turnstile:
            if self.open_to_halt:
                _throw(self, exception)


def _throw(thread: threading.Thread, exception: type[BaseException] | None) -> None:
    """Raise `exception` in a thread at its next step; None takes back one that has not been raised yet."""
    ident = ctypes.c_ulong(thread.ident or 0)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, ctypes.py_object(exception) if exception else None)


def run_guarded(
    work: Callable[[], T],
    *,
    step: Callable[[], int] = lambda: 0,
    seconds: float,
    memory: int = 400 * MIB,
) -> T:
    """The result of `work()`, or its exception. Raises `Overrun` after `seconds` or `memory` more bytes.

    Work in steps has `seconds` for each of them, and `STEPS` times as long for all: what is slow is not
    endless. `step()` says at which one it is. Where no thread can be started (a browser's kernel) `work`
    runs here, unguarded.
    """
    worker = _Worker(work)
    try:
        with _address_space(2 * memory):
            try:
                worker.start()
            except RuntimeError:
                return work()
            reason = _watch(worker.done, step, seconds, memory)
    except BaseException:  # the person pressed Stop
        _end(worker)
        raise
    if reason:
        frame = sys._current_frames().get(worker.ident or 0)
        _end(worker)
        raise Overrun(reason, frame, worker.may_print)
    if worker.error is not None:
        raise worker.error
    return worker.results[0]


def _watch(done: threading.Event, step: Callable[[], int], seconds: float, memory: int) -> str:
    """Wait until it is done, or return why it must be ended."""
    import psutil

    process = psutil.Process()
    allowed = process.memory_info().rss + memory
    at, begun = step(), time.perf_counter()
    deadline, last_deadline = begun + seconds, begun + STEPS * seconds
    while not done.wait(0.02):
        now = time.perf_counter()
        if at != step():
            at, deadline = step(), min(now + seconds, last_deadline)
        if now > deadline:
            limit = seconds if deadline < last_deadline else STEPS * seconds
            return f"it was still running after {limit:g} seconds"
        if process.memory_info().rss > allowed:
            return f"it took more than {memory / MIB:.0f} MiB of memory"
    return ""


def _end(worker: _Worker[T]) -> None:
    """Throw `Halt`; if the code swallows that, throw it faster; if it swallows that too, put it to sleep."""
    worker.throw(Halt)
    if worker.done.wait(0.1):
        return
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)  # the next one arrives while the handler of the last one still runs
    try:
        deadline = time.perf_counter() + INSISTING
        while not worker.done.is_set() and time.perf_counter() < deadline:
            worker.throw(Halt)
            time.sleep(0)
    finally:
        sys.setswitchinterval(interval)
    worker.throw(_Sleep)
    worker.done.wait(0.02)


class _Sleep(Halt):
    """Python makes an exception in the thread it is thrown into, before any handler sees it: sleep there."""

    def __init__(self) -> None:
        worker = threading.current_thread()
        if isinstance(worker, _Worker):
            worker.asleep = True
            threading.Event().wait()


@contextmanager
def _address_space(more: int) -> Iterator[None]:
    """On Linux, let the process grow by so many bytes and no further: then it is a MemoryError.

    `list(itertools.count())` never lets another thread run, so watching would not stop it.
    """
    if sys.platform != "linux":
        yield
        return
    import resource

    import psutil

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    bound = psutil.Process().memory_info().vms + more
    bound = bound if soft == resource.RLIM_INFINITY else min(soft, bound)
    resource.setrlimit(resource.RLIMIT_AS, (bound, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
