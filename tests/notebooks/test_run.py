"""Every notebook runs from top to bottom: stubs as shipped, and with the references in their place."""

from __future__ import annotations

from pathlib import Path

import pytest

from .run import execute, exercise_cells, lessons, read, with_references

each_lesson = pytest.mark.parametrize("path", lessons(), ids=lambda path: path.stem)


@each_lesson
def test_as_shipped_no_cell_raises_and_no_exercise_counts_as_attempted(path: Path, tmp_path: Path) -> None:
    verdicts = execute(read(path), tmp_path)
    assert {name: verdict.state for name, verdict in verdicts.items()} == dict.fromkeys(
        verdicts, "not attempted"
    )


@each_lesson
def test_with_the_references_every_check_is_right(path: Path, tmp_path: Path) -> None:
    if not exercise_cells(read(path)):
        return  # a lesson without exercises has run as shipped
    verdicts = execute(with_references(read(path)), tmp_path)
    wrong = {name: verdict for name, verdict in verdicts.items() if verdict.state != "right"}
    assert not wrong
