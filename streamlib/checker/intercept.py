"""What judged code meets in place of the real `time`, `print` and `input`.

The functions of the modules are replaced while a check runs. Each replacement asks whether the current thread
is being judged, and calls the real function when it is not: other threads notice nothing.
"""

from __future__ import annotations

import builtins
import re
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Self

if TYPE_CHECKING:
    from .stage import Stage

EPOCH = 1_800_000_000.0 - 1024.0  # `time.time()` starts on 15 January 2027, the same in every run


class Halt(SystemExit):
    """Thrown into judged code by the guard when real time or memory runs out."""


_here = threading.local()  # .stage: what this thread plays on; .mute: it prints nothing outside of that
_recorded: list[warnings.WarningMessage] = []


def stage_here() -> Stage | None:
    """The stage this thread plays on, or None when nothing is judged here."""
    return getattr(_here, "stage", None)


def mute_this_thread(mute: bool = True) -> None:
    """From now on what this thread prints goes to a stage or nowhere."""
    _here.mute = mute


@contextmanager
def judged(stage: Stage) -> Iterator[None]:
    """Within it, this thread's time is the stage's clock and its prints go to the stage."""
    before = stage_here()
    _here.stage = stage
    seen = len(_recorded)
    try:
        yield
    finally:
        _here.stage = before
        for warning in _recorded[seen:]:
            if found := re.match(r"coroutine '(.+)' was never awaited", str(warning.message)):
                stage.unawaited.append(found[1].rpartition(".")[2])


class _Print:
    """Stands for `sys.stdout` or `sys.stderr`: what judged code writes goes to its stage."""

    def __init__(self, real: Any) -> None:
        self.real = real

    def write(self, text: str) -> int:
        if stage := stage_here():
            stage.printed.write(str(text))
        elif not getattr(_here, "mute", False):
            self.real.write(text)
        return len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        if stage_here() is None and not getattr(_here, "mute", False):
            self.real.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


def _virtual(real: Callable[..., Any], virtual: Callable[..., Any]) -> Callable[..., Any]:
    """`real`, but `virtual(clock, …)` in a judged thread."""

    def function(*args: Any) -> Any:
        stage = stage_here()
        return real(*args) if stage is None else virtual(stage.clock, *args)

    function.__name__ = function.__qualname__ = real.__name__
    return function


def _unraisable(real: Callable[[sys.UnraisableHookArgs], Any]) -> Callable[[sys.UnraisableHookArgs], Any]:
    """`sys.unraisablehook`, for what a `__del__` raises: in a judged thread it is printed, so it goes to the
    stage, and `Halt` to nowhere, whatever hook the notebook or a test runner has."""

    def hook(unraisable: sys.UnraisableHookArgs) -> None:
        judged_here = stage_here() is not None or getattr(_here, "mute", False)
        (sys.__unraisablehook__ if judged_here else real)(unraisable)

    return hook


def _no_input(clock: object, *prompt: object) -> str:
    raise RuntimeError("input() asks a person; a checked function gets all it needs as arguments")


_VIRTUAL_TIME: dict[str, Callable[..., Any]] = {
    "sleep": lambda clock, seconds: clock.sleep(seconds),
    "time": lambda clock: EPOCH + clock.time(),
    "time_ns": lambda clock: round((EPOCH + clock.time()) * 1e9),
    "monotonic": lambda clock: clock.time(),
    "monotonic_ns": lambda clock: round(clock.time() * 1e9),
    "perf_counter": lambda clock: clock.time(),
    "perf_counter_ns": lambda clock: round(clock.time() * 1e9),
}


class Interception:
    """The replacements, from `__enter__` to `__exit__`. One at a time: the judge holds a lock around it.

    `names` is the module namespace of the judged function: what it imported with `from time import sleep` is
    replaced there too.
    """

    _muted: ClassVar[list[Callable[[], bool]]] = []

    def __init__(self, names: dict[str, Any]) -> None:
        self._names = names
        self._undo: list[Callable[[], None]] = []

    def mute_while(self, may_print: Callable[[], bool]) -> None:
        """A thread could not be ended: what it prints is held back as long as it may print."""
        self._muted.append(may_print)

    def __enter__(self) -> Self:
        replaced: dict[int, tuple[Any, Any]] = {}
        for name, virtual in _VIRTUAL_TIME.items():
            real = getattr(time, name)
            replaced[id(real)] = (real, _virtual(real, virtual))
            self._set(time.__dict__, name, replaced[id(real)][1])
        for name, value in list(self._names.items()):
            if id(value) in replaced and value is replaced[id(value)][0]:
                self._set(self._names, name, replaced[id(value)][1])
        self._set(builtins.__dict__, "input", _virtual(builtins.input, _no_input))
        self._set(sys.__dict__, "unraisablehook", _unraisable(sys.unraisablehook))
        for name in ("stdout", "stderr"):
            if not isinstance(getattr(sys, name), _Print):
                setattr(sys, name, _Print(getattr(sys, name)))
        catcher = warnings.catch_warnings(record=True)
        recorded = catcher.__enter__()
        self._undo.append(lambda: catcher.__exit__(None, None, None))
        warnings.simplefilter("always")
        global _recorded
        _recorded = recorded if recorded is not None else []
        return self

    def __exit__(self, *exc: object) -> None:
        while self._undo:
            self._undo.pop()()
        self._muted[:] = [may_print for may_print in self._muted if may_print()]
        for name in ("stdout", "stderr"):
            if not self._muted and isinstance(printer := getattr(sys, name), _Print):
                setattr(sys, name, printer.real)

    def _set(self, names: dict[str, Any], name: str, value: Any) -> None:
        """Replace, and remember how to put the old value back unless somebody else has changed it."""
        old = names[name]
        names[name] = value

        def undo() -> None:
            if names.get(name) is value:
                names[name] = old

        self._undo.append(undo)
