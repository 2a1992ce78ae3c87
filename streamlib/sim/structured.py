"""Answers with a shape: JSON for ``response_format``, arguments for tool calls (lessons 2 and 4).

``fill`` builds a value that a JSON schema allows: whatever the prompt offers first (a quoted string, a
name, a number), a sentence of the model's text where the prompt offers nothing.
"""

from __future__ import annotations

from .model import Ask, ToolCall


def reply(ask: Ask) -> str:
    raise NotImplementedError


def choose_calls(ask: Ask) -> list[ToolCall]:
    return []
