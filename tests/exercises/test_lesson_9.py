"""Lesson 9's check, by answers that are neither its reference nor among its named ones."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator
from typing import Any

from streamlib.checker import judge
from streamlib.exercises.lesson_9 import adapting
from streamlib.providers import PROVIDERS
from streamlib.providers import text_deltas as library_s


async def with_the_library_s_functions(events: AsyncIterable[Any], provider: str) -> AsyncIterator[str]:
    over = False
    async for event in events:
        piece = PROVIDERS[provider](event)
        over = over or piece.finish_reason is not None
        if piece.text:
            yield piece.text
    if not over:
        raise ConnectionError(provider)


def test_the_library_s_functions_can_read_the_events() -> None:
    verdict = judge(with_the_library_s_functions, adapting)
    assert verdict.passed, verdict


async def two_texts_as_two(events: AsyncIterable[Any], provider: str) -> AsyncIterator[str]:
    over = False
    async for event in events:
        if provider != "google":
            piece = PROVIDERS[provider](event)
            texts, over = [piece.text], over or piece.finish_reason is not None
        else:
            first = event.candidates[0] if event.candidates else None
            parts = (first.content.parts if first and first.content else None) or []
            texts = [part.text for part in parts if not part.thought]
            over = over or bool(first and first.finish_reason)
        for text in filter(None, texts):
            yield text
    if not over:
        raise ConnectionError(provider)


def test_how_a_chunk_s_texts_are_cut_is_free() -> None:
    verdict = judge(two_texts_as_two, adapting)
    assert verdict.passed, verdict


def test_the_library_s_error_is_told_from_the_one_asked_for() -> None:
    assert judge(library_s, adapting).mistake == "raises_the_library_s"
