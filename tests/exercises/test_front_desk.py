"""check, hint, solution and progress, as a notebook calls them."""

from __future__ import annotations

import functools
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import streamlib
from streamlib import check, hint, progress, solution
from streamlib.exercises import lessons

NAME = "parse_sse_messages"
EXERCISE = lessons()[1][NAME]
right = EXERCISE.reference


def parse_sse_messages(raw: str) -> list[dict[str, Any]]:
    raise NotImplementedError


def wrong(raw: str) -> list[dict[str, Any]]:
    return [{"n": 0}]


def test_the_exercise_is_found_by_the_functions_name() -> None:
    assert check(parse_sse_messages).state == "not attempted"
    assert check(right).passed


def test_a_name_may_be_given() -> None:
    assert check(wrong, name=NAME).state == "wrong"
    assert check(lambda raw: right(raw), name=NAME).passed
    assert check(functools.partial(right)).passed


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("parse_sse_message", "Did you mean parse_sse_messages?"),
        ("parse_messages", "parse_sse_messages"),
        ("qqqqqqq", "There are: .*parse_sse_messages"),
    ],
)
def test_an_unknown_name_is_told_with_names_that_are_near(name: str, words: str) -> None:
    for ask in (lambda: check(right, name=name), lambda: hint(name), lambda: solution(name)):
        with pytest.raises(ValueError, match=words):
            ask()


async def a_coroutine_function() -> None:
    pass


async def an_async_generator() -> Any:
    yield


def a_generator() -> Any:
    yield


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (a_coroutine_function, r"write check\(a_coroutine_function\), without \(\)"),
        (an_async_generator, r"write check\(an_async_generator\), without \(\)"),
        (a_generator, r"write check\(a_generator\), without \(\)"),
        (lambda: NAME, r"write check\(parse_sse_messages\), without quotes"),
        (lambda: [1], "got list"),
        (lambda: None, "got NoneType"),
    ],
)
def test_what_is_no_function_is_told_what_to_pass(make: Callable[[], Any], words: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # "never awaited" would be one
        with pytest.raises(TypeError, match=words):
            check(make())


def test_a_lambda_needs_a_name() -> None:
    with pytest.raises(ValueError, match="name="):
        check(lambda raw: [])


def test_an_answer_redefined_after_a_wrong_one_is_judged_anew() -> None:
    assert not check(wrong, name=NAME).passed
    assert check(right).passed
    assert not check(wrong, name=NAME).passed


def test_the_last_line_of_a_verdict_says_what_to_do_next() -> None:
    assert repr(check(wrong, name=NAME)).endswith('`hint("parse_sse_messages")` gives a hint.')
    check(wrong, name=NAME)
    assert repr(check(wrong, name=NAME)).endswith('`solution("parse_sse_messages")` is open now.')
    assert repr(check(right)).endswith('`solution("parse_sse_messages")` shows how others wrote it.')


# -- hints -------------------------------------------------------------------------------------------------


def test_hints_come_one_after_the_other_and_the_last_one_stays() -> None:
    shown = [repr(hint(NAME)) for _ in range(5)]
    for number, text in enumerate(EXERCISE.hints):
        assert text in shown[number]
    assert EXERCISE.hints[2] in shown[4]
    assert "hint 1 of 3" in shown[0]
    assert "last hint" in shown[2]


def test_a_hint_may_be_asked_for_with_the_function() -> None:
    assert EXERCISE.hints[0] in repr(hint(parse_sse_messages))


# -- solutions ---------------------------------------------------------------------------------------------


def is_open() -> bool:
    return "def parse_sse_messages" in repr(solution(NAME))


def test_the_solution_opens_on_success() -> None:
    check(right)
    assert is_open()


def test_the_solution_opens_after_three_attempts_that_are_none_of_them_stubs() -> None:
    for _ in range(5):
        check(parse_sse_messages)
    for _ in range(2):
        check(wrong, name=NAME)
    shown = repr(solution(NAME))
    assert "after 1 more attempt." in shown
    assert "def parse_sse_messages" not in shown


def test_the_third_attempt_opens_the_solution() -> None:
    for _ in range(3):
        check(wrong, name=NAME)
    assert is_open()


def test_the_solution_opens_when_asked_for_twice() -> None:
    assert not is_open()
    assert is_open()


def test_a_solution_shows_other_right_answers_without_their_decorators() -> None:
    solution(NAME)
    shown = repr(solution(NAME))
    assert len(EXERCISE.right_answers) == shown.count("Another right answer")
    assert ".right" not in shown


# -- progress ----------------------------------------------------------------------------------------------


def test_progress_shows_every_exercise_by_lesson_and_how_it_stands() -> None:
    check(wrong, name=NAME)
    check(wrong, name=NAME)
    shown = repr(progress())
    assert "Lesson 1" in shown
    assert f"✗ {NAME} (tried 2 times)" in shown
    check(right)
    assert f"✓ {NAME}" in repr(progress())
    assert f"✓ {NAME}" in progress()._repr_html_()
    total = sum(len(exercises) for exercises in lessons().values())
    assert f"1 of {total} exercises solved" in repr(progress())


def test_without_a_disk_checking_still_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("STREAMLIB_HOME", str(tmp_path / "file"))
    verdict = check(right)
    assert verdict.passed
    assert "could not be saved" in repr(verdict)
    assert [text in repr(hint(NAME)) for text in EXERCISE.hints] == [True, True, True]
    assert is_open()
    assert f"✓ {NAME}" in repr(progress())


def test_the_home_is_asked_for_at_every_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check(right)
    monkeypatch.setenv("STREAMLIB_HOME", str(tmp_path / "another"))
    assert os.environ["STREAMLIB_HOME"].endswith("another")
    assert f"○ {NAME}" in repr(progress())


def test_the_four_names_are_the_packages() -> None:
    assert (streamlib.check, streamlib.hint, streamlib.solution, streamlib.progress) == (
        check,
        hint,
        solution,
        progress,
    )
