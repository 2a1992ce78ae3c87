"""Is it still the stub? Told from a function's byte code before it runs, not guessed from a failure.

A stub's body is a docstring, `pass`, `...`, `return` or `raise NotImplementedError`, in a plain or an async
function, with or without a `yield` that is never reached. Such bodies are compiled here and compared, so that
this holds for the byte code of any version of Python.
"""

from __future__ import annotations

import dis
import functools
import itertools
from types import FunctionType

Pattern = tuple[tuple[str, object], ...]

_RAISE = "raise NotImplementedError"
_BODIES = ("pass", _RAISE, f"{_RAISE}()", f'{_RAISE}("words")', "return; yield", f"{_RAISE}; yield")


def is_stub(function: FunctionType) -> bool:
    """Whether nothing has been written yet."""
    return _pattern(function) in _stub_patterns()


@functools.cache
def _stub_patterns() -> frozenset[Pattern]:
    patterns = set()
    for kind, body in itertools.product(("", "async "), _BODIES):
        names: dict[str, FunctionType] = {}
        exec(f"{kind}def stub(): {body}", names)
        patterns.add(_pattern(names["stub"]))
    return frozenset(patterns)


def _pattern(function: FunctionType) -> Pattern:
    """A function's instructions. The words of a message in it do not count."""
    return tuple(
        (step.opname, "" if isinstance(step.argval, str) and step.opname == "LOAD_CONST" else step.argval)
        for step in dis.get_instructions(function)
        if step.opname not in ("NOP", "RESUME", "COPY_FREE_VARS", "MAKE_CELL")
    )
