"""The painter: a process of its own that draws, so that the loop which receives tokens never does. Lesson 7.

``await painter().paint(draw, scene)`` is ``draw(scene)``, computed in another process: while it is drawn, the
loop goes on receiving. What is left to the loop is to pickle a small scene.

- One process per kernel. It starts with the first picture, starts again when it died, and ends with the
  kernel, also a killed one: the system then closes the pipe that the process reads.
- One picture at a time. A view asks for the next one when it has the last one, so nothing queues up.
- A thread of its own writes and reads the pipes: both may block, and not every loop has pipes of its own.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import pickle
import signal
import struct
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import IO, Any, TypeVar

Scene = TypeVar("Scene")
Picture = TypeVar("Picture")

SECONDS = 30.0  # for one picture, the start of the process included
_LENGTH = struct.Struct("<I")  # stands before every message


class PainterError(RuntimeError):
    """The process ended, or took too long, while it drew."""


class Painter:
    """Draws in another process. Use the one of this kernel: `painter()`."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._thread: threading.Thread | None = None
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._last: tuple[bytes, Any] = (b"", None)
        self._closed = False
        # a browser has no processes; elsewhere the first attempt tells
        self._in_place = sys.platform == "emscripten"

    @property
    def pid(self) -> int | None:
        """The process that draws, when there is one."""
        return self._process.pid if self._process is not None else None

    async def paint(self, draw: Callable[[Scene], Picture], scene: Scene) -> Picture:
        """``draw(scene)``, in the painter process. The same scene again is the same picture, not drawn again.

        `draw` travels by its name: a function at the top level of a module, which the process imports; what
        it keeps in its module (a matplotlib figure) is there for the next picture. `scene` and the picture
        are pickled. A function of the notebook itself has no module to import and is drawn in place, and so
        is everything where no process can be started.

        Raises
        ------
        Exception
            What `draw` raised, with a note that says where.
        PainterError
            The process died while it drew, twice, or drew for more than 30 seconds.
        """
        if self._in_place or getattr(draw, "__module__", "") == "__main__":
            return draw(scene)
        request = pickle.dumps((draw, scene), pickle.HIGHEST_PROTOCOL)
        if request == self._last[0]:
            return self._last[1]  # type: ignore[no-any-return]
        if self._closed:
            raise PainterError("this painter is closed: painter() gives a new one")
        job = _Job(request)
        self._hand_over(job)
        name = getattr(draw, "__qualname__", repr(draw))
        try:
            async with asyncio.timeout(SECONDS) as limit:
                kind, value = await job.answer
        except TimeoutError:
            if limit.expired():
                self._kill()
                raise PainterError(f"{name} drew for more than {SECONDS:g} s") from None
            raise
        if kind == "no process":
            self._in_place = True
            return draw(scene)
        if kind == "died":
            raise PainterError(f"the painter process died while it drew: {name}, exit code {value}")
        if kind == "error":
            raise value
        self._last = (request, value)
        return value  # type: ignore[no-any-return]

    def close(self) -> None:
        """End the process and the thread. Who waits for a picture gets a PainterError."""
        self._closed = True
        self._kill()
        self._jobs.put(None)
        if self._thread is not None:
            self._thread.join(5)

    def _kill(self) -> None:
        if self._process is not None:
            self._process.kill()

    # -- the thread: writes what to draw, reads the picture ----------------------------------------------

    def _hand_over(self, job: _Job) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name="streamlib.painter", daemon=True)
            self._thread.start()
        self._jobs.put(job)

    def _serve(self) -> None:
        while (job := self._jobs.get()) is not None:
            job.settle(self._talk(job))
        self._forget()

    def _talk(self, job: _Job) -> tuple[str, Any]:
        """Send one request and read its answer; once more with a new process when this one is dead."""
        code: Any = None
        for _ in range(2):
            if self._closed or job.answer.done():  # nobody waits for it any more
                break
            if self._process is None:
                try:
                    self._process = _start()
                    assert self._process.stdout is not None
                    _receive(self._process.stdout)  # it says that it is there
                except (OSError, EOFError):
                    self._forget()
                    return "no process", None
            process = self._process
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                _send(process.stdin, job.request)
                answer = _receive(process.stdout)
            except (OSError, EOFError):
                self._forget()
                code = process.returncode
            else:
                return _read(answer)
        return "died", code

    def _forget(self) -> None:
        if self._process is not None:
            _end(self._process)
            self._process = None


class _Job:
    """A picture that somebody waits for."""

    def __init__(self, request: bytes) -> None:
        self.request = request
        self.loop = asyncio.get_running_loop()
        self.answer: asyncio.Future[tuple[str, Any]] = self.loop.create_future()

    def settle(self, answer: tuple[str, Any]) -> None:
        """From the thread: hand the answer to who waits, if they still do."""

        def settle() -> None:
            if not self.answer.done():
                self.answer.set_result(answer)

        with suppress(RuntimeError):  # the loop is closed
            self.loop.call_soon_threadsafe(settle)


def _read(answer: bytes) -> tuple[str, Any]:
    try:
        return pickle.loads(answer)  # type: ignore[no-any-return]
    except Exception as error:  # it holds what only the other process can import
        return "error", error


def _start() -> subprocess.Popen[bytes]:
    """The process. Raises OSError where there can be none."""
    # A group of its own: the Stop button interrupts the kernel and everything in the kernel's group.
    group: dict[str, Any] = {"start_new_session": True}
    if sys.platform == "win32":
        group = {"creationflags": subprocess.CREATE_NO_WINDOW | subprocess.BELOW_NORMAL_PRIORITY_CLASS}
    return subprocess.Popen(
        [sys.executable, "-P", "-m", __spec__.name],  # -P: it finds what this process finds, and no more
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # in a notebook what a process complains about would land under a cell
        env=os.environ
        | {
            "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path),
            "MPLBACKEND": "agg",  # the notebook's own draws into cells
        },
        **group,
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(OSError):  # what was still to be written cannot be
                pipe.close()


def _send(pipe: IO[bytes], message: bytes) -> None:
    pipe.write(_LENGTH.pack(len(message)) + message)
    pipe.flush()


def _receive(pipe: IO[bytes]) -> bytes:
    head = pipe.read(_LENGTH.size)
    if len(head) == _LENGTH.size:
        message = pipe.read(_LENGTH.unpack(head)[0])
        if len(message) == _LENGTH.unpack(head)[0]:
            return message
    raise EOFError("the pipe ended")


# -- the painter of this kernel --------------------------------------------------------------------------

_painter: Painter | None = None


def painter() -> Painter:
    """The painter of this kernel."""
    global _painter
    if _painter is None or _painter._closed:
        _painter = Painter()
    return _painter


@atexit.register
def _close() -> None:
    if _painter is not None:
        _painter.close()


def _leave_to_parent() -> None:
    """In a forked child: the process is the parent's. Let go of its pipe, or it would live as long as the
    child does."""
    global _painter
    if _painter is not None and _painter._process is not None:
        for pipe in (_painter._process.stdin, _painter._process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    os.close(pipe.fileno())
    _painter = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)


# -- in the painter process ------------------------------------------------------------------------------


def main() -> None:
    """Read a function's name and a scene, write the picture, until the pipe ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is for the kernel
    if hasattr(os, "nice"):
        os.nice(5)  # where processors are few, receiving comes before drawing
    pictures = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a drawing function prints must not come between the pictures
    with suppress(OSError, EOFError):  # the kernel is gone
        _send(pictures, b"")
        while True:
            _send(pictures, _answer(_receive(sys.stdin.buffer)))


def _answer(request: bytes) -> bytes:
    try:
        draw, scene = pickle.loads(request)
        return pickle.dumps(("picture", draw(scene)), pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        at = traceback.extract_tb(error.__traceback__)[-1]
        note = f"in the painter process: {at.filename}, line {at.lineno}, in {at.name}"
        with suppress(Exception):  # not every exception can be pickled, or read again
            error.add_note(note)
            return pickle.dumps(("error", pickle.loads(pickle.dumps(error))))
        plain = RuntimeError(f"{type(error).__name__}: {error}")
        plain.add_note(note)
        return pickle.dumps(("error", plain))


if __name__ == "__main__":
    main()
