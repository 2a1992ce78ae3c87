"""Live views: what a learner watches while tokens arrive. Lessons 0 to 10.

One small class per view, one line in a notebook, any OpenAI-compatible server (the one `connect()` or the
environment names)::

    await Race("Why is the sky blue?", model=model.name)
    await Wire("Why is the sky blue?", model=model.name)
    await Flow(source, redact(["secret"]), sentences, consume=speak)
    await Retries("Why is the sky blue?", model=model.name, faults=["status=503", "cut-after=12"])
    await Board("Why is the sky blue?", model=model.name)

`view.py` has what they share: how a view starts, stops, draws, and leaves a picture behind; `painter.py` is
the process that draws.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .board import Board
    from .flow import Flow
    from .lines import Lines
    from .race import Race
    from .rate_windows import windows
    from .retries import Retries
    from .timeline import chunk_timeline, lanes
    from .view import View
    from .wire import Wire

__all__ = ["Board", "Flow", "Lines", "Race", "Retries", "View", "Wire", "chunk_timeline", "lanes", "windows"]

_MODULES = {
    "Board": "board",
    "Flow": "flow",
    "Lines": "lines",
    "Race": "race",
    "Retries": "retries",
    "View": "view",
    "Wire": "wire",
    "chunk_timeline": "timeline",
    "lanes": "timeline",
    "windows": "rate_windows",
}


def __getattr__(name: str) -> Any:
    """Load a view when it is first asked for (PEP 562): the painter process imports only what it draws."""
    if name in _MODULES:
        return getattr(import_module(f".{_MODULES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
