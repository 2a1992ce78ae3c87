"""What lesson 0 promises of its practice exercise: each body in its table gets the verdict beside it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest

from streamlib.checker import judge
from streamlib.exercises.lesson_0 import warm_up

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "00_start_here.ipynb"
ROW = re.compile(r"^\| `(?P<body>.+)` \| \*\*(?P<state>.+?)\*\*", re.MULTILINE)


def table() -> list[tuple[str, str]]:
    """(body, verdict) of each row in the notebook's table."""
    cells = nbformat.read(NOTEBOOK, 4).cells
    (text,) = [cell.source for cell in cells if cell.id == "ex-states"]
    return ROW.findall(text)


def test_the_table_shows_the_four_verdicts_that_need_no_solution() -> None:
    assert [state for _, state in table()] == ["not attempted", "wrong", "raised", "stuck"]


@pytest.mark.parametrize(("body", "state"), table())
def test_a_body_gets_the_verdict_the_lesson_says(body: str, state: str) -> None:
    names: dict[str, Any] = {"__name__": "learner"}
    exec(f"def first_text(pieces):\n    {body}\n", names)
    assert judge(names["first_text"], warm_up, seconds=1.0).state == state
