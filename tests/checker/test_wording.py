"""When two values are the same, and how values look in a sentence."""

from __future__ import annotations

from collections import namedtuple
from dataclasses import dataclass
from typing import Any

import pytest

from streamlib.checker import Build, Source
from streamlib.checker.wording import contrast, same, short, text_of


@dataclass
class Completion:
    text: str
    usage: float | None = None


def learners_own(text: str) -> Any:
    """Another class of the same name with the same fields, as in a notebook."""

    @dataclass(frozen=True)
    class Completion:
        text: str
        usage: float | None = None

    return Completion(text)


def another(text: str) -> Any:
    @dataclass
    class Answer:
        text: str
        usage: float | None = None

    return Answer(text)


def with_other_fields(text: str) -> Any:
    @dataclass
    class Completion:
        text: str
        cost: float | None = None

    return Completion(text)


class Incomparable:
    def __eq__(self, other: object) -> bool:
        raise ValueError


Point = namedtuple("Point", "x y")
INCOMPARABLE = Incomparable()

SAME = [
    (True, True, True),
    (True, False, False),
    (False, 0, False),
    (0, 1, False),
    (1_000_000, 1_000_001, False),
    (1_000_000.0, 1_000_000.5, True),
    (1_000_000.0, 1_000_002.0, False),
    (0.0, 5e-7, True),
    (0.0, 2e-6, False),
    (3, 3.0000001, True),
    (float("inf"), float("inf"), True),
    (0.5, float("inf"), False),
    (float("inf"), 0.5, False),
    (float("inf"), float("-inf"), False),
    ([1.0, [2.0]], [1.0, [2.0000001]], True),
    ([1, 2], [2, 1], False),
    ([], (), False),
    ((), [], False),
    ((1,), (True,), False),
    ([1], None, False),
    (None, [1], False),
    (Point(1, 2), (1, 2), True),
    ({"a": 1}, {"b": 1}, False),
    ({"a": 1}, {"a": 1, "b": 2}, False),
    ({"a": 1, "b": 2}, {"a": 1}, False),
    ({"a": 1.0}, {"a": 1.0000001}, True),
    ({}, None, False),
    (None, {}, False),
    (Completion("a"), Completion("a"), True),
    (Completion("a"), Completion("b"), False),
    (Completion("a", 1.0), Completion("a", 1.0000001), True),
    (Completion("a"), learners_own("a"), True),
    (Completion("a"), learners_own("b"), False),
    (Completion("a"), another("a"), False),
    (Completion("a"), with_other_fields("a"), False),
    (Completion("a"), "a", False),
    ("a", Completion("a"), False),
    (Completion, Completion, True),
    (Completion, Completion("a"), False),
    (ValueError("a"), ValueError("a"), True),
    (ValueError("a"), ValueError("b"), False),
    (ValueError("a"), KeyError("a"), False),
    (ValueError("a"), "a", False),
    ("a", ValueError("a"), False),
    (INCOMPARABLE, INCOMPARABLE, False),
    ("a\n", "a", False),
]


@pytest.mark.parametrize(("expected", "got", "equal"), SAME, ids=range(len(SAME)))
def test_same(expected: object, got: object, equal: bool) -> None:
    assert same(expected, got) is equal


def show(value: object) -> str | None:
    return f"<{value.real:g} {value.imag:g}i>" if isinstance(value, complex) else None


class Unshowable:
    def __repr__(self) -> str:
        raise ValueError


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a\n`b`", r"'a\n`b`'"),
        ([1, (2,), (3, 4), ()], "[1, (2,), (3, 4), ()]"),
        ([1j, {"k": 2j}], "[<0 1i>, {'k': <0 2i>}]"),
        ({"a": [1], "b": 2}, "{'a': [1], 'b': 2}"),
        (Point(1, 2), "Point(x=1, y=2)"),
        (Unshowable(), "<Unshowable>"),
        (Build("queue of 'a'", lambda stage: None), "queue of 'a'"),
        (Source(["a", 1j]), "<stream: 'a', <0 1i>>"),
        (Source([b"a"], kind="iterator"), "<iterator: b'a'>"),
        (Source([], kind="iterator"), "<iterator without values>"),
        (Source(["a"], kind="response", error=OSError("cut")), "<stream: 'a', then OSError>"),
        (Source(list("abcdef")), "<stream: 'a', 'b', 'c', 'd', 'e', 'f'>"),
        (Source(list("abcdefg")), "<stream: 'a', 'b', 'c', 'd', 'e', 'f', … 7 in all>"),
    ],
)
def test_how_a_value_looks(value: object, text: str) -> None:
    assert text_of(value, show) == text


def test_a_long_value_loses_its_middle() -> None:
    assert short("a" * 88, show) == repr("a" * 88)
    text = short("a" * 50 + "b" * 50, show)
    assert len(text) == 90
    assert text.startswith("'aaa")
    assert text.endswith("bbb'")
    assert " … " in text


LONG = "0123456789" * 12


@pytest.mark.parametrize(
    ("expected", "got", "words"),
    [
        ("ab", "ac", "expected `'ab'`, got `'ac'`"),
        (
            LONG,
            LONG[:60] + "x" + LONG[61:],
            f"from character 61 on, expected `…{LONG[40:85]!r}`, got `…{LONG[40:60] + 'x' + LONG[61:85]!r}`",
        ),
        (LONG, "x" + LONG[1:], f"from character 1 on, expected `{LONG[:45]!r}`, got `{'x' + LONG[1:45]!r}`"),
        (LONG, LONG[:110], f"from character 111 on, expected `…{LONG[90:]!r}`, got `…{LONG[90:110]!r}`"),
        (LONG, None, f"expected `{short(LONG, show)}`, got `None`"),
        (None, LONG, f"expected `None`, got `{short(LONG, show)}`"),
        ([LONG], (LONG,), f"expected `{short([LONG], show)}`, got `{short((LONG,), show)}`"),
        ([LONG, 1], [LONG, 2], "item 2 of 2 differs: expected `1`, got `2`"),
        ((LONG, 1), (LONG,), "item 2 of 2 is missing: expected `1`, got only 1"),
        ([LONG], [LONG, 1], "expected 1 item, got 2: `1` is too many"),
        (Completion(LONG, 1), Completion(LONG, 2), "in `.usage`, expected `1`, got `2`"),
        (
            Completion(LONG),
            Completion(LONG[:110]),
            f"in `.text`, from character 111 on, expected `…{LONG[90:]!r}`, got `…{LONG[90:110]!r}`",
        ),
        (Completion("a"), learners_own("a"), "expected `Completion(text='a', usage=None)`, got"),
        (LONG, [LONG], f"expected `{short(LONG, show)}`, got `{short([LONG], show)}`"),
        (
            type("Same", (), {"__repr__": lambda self: "same"})(),
            type("Other", (), {"__repr__": lambda self: "same"})(),
            "expected `same (Same)`, got `same (Other)`",
        ),
    ],
    ids=range(15),
)
def test_how_two_values_that_differ_look(expected: object, got: object, words: str) -> None:
    assert contrast(expected, got, show).startswith(words)
