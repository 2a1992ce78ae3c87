"""A card: a heading and a few blocks, drawn once as plain text and once as HTML, so that both say the same.

What the judge and the embedded model tell a learner. Everything a learner or a model wrote is text and is
escaped. Between backticks stands code.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal, Protocol

from .palette import ERROR, EXPECTED, WAITING

Mood = Literal["good", "bad", "neutral"]

_COLOUR: dict[Mood, str] = {"good": EXPECTED, "bad": ERROR, "neutral": WAITING}
_SIGN: dict[Mood, str] = {"good": "✓", "bad": "✗", "neutral": "○"}

_FRAME = "padding:2px 12px;margin:4px 0;color:var(--jp-ui-font-color1, #222)"
_CODE = "font-family:var(--jp-code-font-family, monospace);font-size:0.92em"


class Block(Protocol):
    """One part of a card."""

    def plain(self) -> str: ...
    def html(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Text:
    """A paragraph. Code stands between backticks."""

    words: str

    def plain(self) -> str:
        return self.words

    def html(self) -> str:
        return f'<p style="margin:4px 0">{_inline(self.words)}</p>'


@dataclass(frozen=True, slots=True)
class Code:
    """Lines of code or output, with a title. Folded in HTML when `folded`."""

    title: str
    lines: str
    folded: bool = False

    def plain(self) -> str:
        body = "\n".join("    " + line for line in self.lines.splitlines())
        return f"{self.title}\n{body}" if self.title else body

    def html(self) -> str:
        pre = f'<pre style="margin:4px 0;white-space:pre-wrap;{_CODE}">{escape(self.lines)}</pre>'
        if self.folded:
            return f"<details><summary>{_inline(self.title)}</summary>{pre}</details>"
        return (f'<p style="margin:4px 0">{_inline(self.title)}</p>' if self.title else "") + pre


@dataclass(frozen=True, slots=True)
class Card:
    """A heading, and blocks under it."""

    heading: str
    mood: Mood
    blocks: Sequence[Block]

    def __repr__(self) -> str:
        return "\n".join([f"{_SIGN[self.mood]} {self.heading}", *(block.plain() for block in self.blocks)])

    def _repr_html_(self) -> str:
        body = "".join(block.html() for block in self.blocks)
        return (
            f'<div style="{_FRAME};border-left:4px solid {_COLOUR[self.mood]}">'
            f'<p style="margin:4px 0"><b>{_SIGN[self.mood]} {_inline(self.heading)}</b></p>{body}</div>'
        )


def _inline(words: str) -> str:
    """Escaped, with `code` between backticks set as code."""
    return re.sub(r"`([^`]+)`", rf'<code style="{_CODE}">\1</code>', escape(words))
