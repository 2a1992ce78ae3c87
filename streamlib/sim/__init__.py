"""The embedded model: what it says (``text``), when (``timing``), how it breaks (``faults``), on which wire
(``chat``, ``responses``, ``anthropic``, ``google``).

``core`` joins them without any I/O; ``server`` puts the core on a socket, ``transport`` into an httpx2
client. It is the course's stage: honest about being a simulation, with a real model's timing, formats and
failures.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .core import Simulator
    from .transport import SimTransport

__all__ = ["SimTransport", "Simulator"]

_HOME = {"SimTransport": ".transport", "Simulator": ".core"}


def __getattr__(name: str) -> Any:
    """Load on first use: the server has no need of httpx2, and starts faster without it."""
    if name in _HOME:
        return getattr(import_module(_HOME[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
