"""How values and calls look in a sentence: short, and of two long values the place where they differ."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from itertools import zip_longest
from math import isclose

from .exercise import Build, Case, Exercise, Source

Show = Callable[[object], str | None]

SHORT = 90  # characters of a value in a sentence


def text_of(value: object, show: Show) -> str:
    """The whole value as text: its repr, with the exercise's own `show` for what is inside."""
    if (shown := show(value)) is not None:
        return shown
    if isinstance(value, (list, tuple)) and type(value) in (list, tuple):
        inside = ", ".join(text_of(item, show) for item in value)
        return f"[{inside}]" if type(value) is list else f"({inside},)" if len(value) == 1 else f"({inside})"
    if isinstance(value, dict) and type(value) is dict:
        return "{" + ", ".join(f"{key!r}: {text_of(item, show)}" for key, item in value.items()) + "}"
    if isinstance(value, Build):
        return value.shown
    if isinstance(value, Source):
        return text_of_source(value, show)
    try:
        return repr(value)
    except Exception:
        return f"<{type(value).__name__}>"


def text_of_source(source: Source, show: Show) -> str:
    """A source as the person who reads the message thinks of it: the values it will deliver."""
    first = [text_of(value, show) for value in source.values[:6]]
    if len(source.values) > 6:
        first.append(f"… {len(source.values)} in all")
    if source.error is not None:
        first.append(f"then {type(source.error).__name__}")
    kind = "iterator" if source.kind == "iterator" else "stream"
    return f"<{kind}: {', '.join(first)}>" if first else f"<{kind} without values>"


def short(value: object, show: Show, limit: int = SHORT) -> str:
    """The value's text, its middle left out when it is long."""
    return shortened(text_of(value, show), limit)


def shortened(text: str, limit: int = SHORT) -> str:
    tail = limit // 4
    return text if len(text) <= limit else f"{text[: limit - tail - 3]} … {text[-tail:]}"


def call_text(exercise: Exercise, case: Case) -> str:
    """The call of a case, as it would be written."""
    if case.play is not None:
        return f"{exercise.name}(…)"
    arguments = [short(value, exercise.show, 120) for value in case.args]
    arguments += [f"{name}={short(value, exercise.show)}" for name, value in case.kwargs.items()]
    return f"{exercise.name}({', '.join(arguments)})"


def contrast(expected: object, got: object, show: Show) -> str:
    """What was expected and what came instead, at the first place where they differ. Without a full stop."""
    wanted, given = text_of(expected, show), text_of(got, show)
    if max(len(wanted), len(given)) > SHORT:
        if type(expected) is type(got) and type(expected) in (list, tuple):
            return contrast_items(expected, got, show)  # type: ignore[arg-type]
        if isinstance(expected, str) and isinstance(got, str):
            return contrast_strings(expected, got)
        if dataclasses.is_dataclass(expected) and type(expected) is type(got):
            for field in dataclasses.fields(expected):
                one, other = getattr(expected, field.name), getattr(got, field.name)
                if not same(one, other):
                    return f"in `.{field.name}`, {contrast(one, other, show)}"
    if wanted == given:
        wanted, given = f"{wanted} ({type(expected).__name__})", f"{given} ({type(got).__name__})"
    return f"expected `{shortened(wanted)}`, got `{shortened(given)}`"


def contrast_items(
    expected: list[object] | tuple[object, ...],
    got: list[object] | tuple[object, ...],
    show: Show,
    item: str = "item",
) -> str:
    """The first item that differs, that is missing, or that is too many."""
    for number, (one, other) in enumerate(zip_longest(expected, got, fillvalue=_NOTHING), 1):
        where = f"{item} {number} of {len(expected)}"
        if other is _NOTHING:
            return f"{where} is missing: expected `{short(one, show)}`, got only {len(got)}"
        if one is _NOTHING:
            count = f"{len(expected)} {item}{'' if len(expected) == 1 else 's'}"
            return f"expected {count}, got {len(got)}: `{short(other, show)}` is too many"
        if not same(one, other):
            return f"{where} differs: {contrast(one, other, show)}"
    return f"expected `{short(expected, show)}`, got `{short(got, show)}`"


def contrast_strings(expected: str, got: str) -> str:
    """Two long strings around the first character that differs."""
    place = next((i for i, (a, b) in enumerate(zip(expected, got, strict=False)) if a != b), None)
    if place is None:
        place = min(len(expected), len(got))
    start = max(0, place - 20)
    dots = "…" if start else ""
    one, other = expected[start : start + SHORT // 2], got[start : start + SHORT // 2]
    return f"from character {place + 1} on, expected `{dots}{one!r}`, got `{dots}{other!r}`"


_NOTHING = object()


def same(a: object, b: object) -> bool:
    """Whether an answer is as good as the expected one.

    Numbers are equal up to a millionth (a time is a sum of many small ones), but `True` is not `1`. A list is
    not a tuple. A dataclass is equal to another of the same name with equal fields, so that a learner's own
    copy of a class counts.
    """
    if isinstance(a, bool) or isinstance(b, bool):
        return type(a) is type(b) and a == b
    if isinstance(a, (int, float)) and isinstance(b, (int, float)):
        return a == b or (float in (type(a), type(b)) and isclose(a, b, rel_tol=1e-6, abs_tol=1e-6))
    for kind in (list, tuple):
        if isinstance(a, kind) or isinstance(b, kind):
            return isinstance(a, kind) and isinstance(b, kind) and _same_items(a, b)  # type: ignore[arg-type]
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if dataclasses.is_dataclass(a) and dataclasses.is_dataclass(b) and not isinstance(a, type):
        names = [field.name for field in dataclasses.fields(a)]
        return (
            type(a).__name__ == type(b).__name__
            and names == [field.name for field in dataclasses.fields(b)]
            and all(same(getattr(a, name), getattr(b, name)) for name in names)
        )
    if isinstance(a, BaseException) and isinstance(b, BaseException):
        return type(a) is type(b) and a.args == b.args
    try:
        return bool(a == b)
    except Exception:
        return False


def _same_items(a: list[object], b: list[object]) -> bool:
    return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
