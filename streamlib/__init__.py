"""streamlib: the library of *Token by Token: LLM streaming in Python*.

Each lesson has one module here that does for real what the lesson builds by hand. The names below are what a
notebook uses in every lesson; they load on first use, so that ``import streamlib`` stays instant.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .exercises import check, hint, progress, solution

__version__ = "0.1.0"
__all__ = ["__version__", "check", "hint", "progress", "solution"]


def __getattr__(name: str) -> Any:
    """Load the exercises' front desk when one of its four functions is first asked for (PEP 562)."""
    if name in ("check", "hint", "progress", "solution"):
        return getattr(import_module(".exercises", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
