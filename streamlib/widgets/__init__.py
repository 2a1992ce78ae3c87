"""Live views: what a learner watches while tokens arrive. Lessons 0 to 7.

One small class per view, one line in a notebook, any OpenAI-compatible server (the one `connect()` or the
environment names)::

    await Race("Why is the sky blue?", model=model.name)
    await Wire("Why is the sky blue?", model=model.name)

`view.py` has what they share: how a view starts, stops, draws, and leaves a picture behind.
"""

from .race import Race
from .timeline import chunk_timeline, lanes
from .view import View
from .wire import Wire

__all__ = ["Race", "View", "Wire", "chunk_timeline", "lanes"]
