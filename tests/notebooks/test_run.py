"""Every notebook runs from top to bottom: stubs as shipped, and with the references in their place."""

from __future__ import annotations

import tempfile
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from pathlib import Path

import pytest
from nbformat import NotebookNode

from .run import Checked, execute, exercise_cells, lessons, read, with_references

# one lesson, one process of pytest-xdist: its two runs are shared by its two tests
each_lesson = pytest.mark.parametrize(
    "path", [pytest.param(path, marks=pytest.mark.xdist_group(path.stem), id=path.stem) for path in lessons()]
)


def verdicts(notebook: NotebookNode, exercises: dict[int, str]) -> dict[str, Checked]:
    with tempfile.TemporaryDirectory() as folder:
        return execute(notebook, exercises, Path(folder))


@cache
def both_ways(path: Path) -> tuple[Future[dict[str, Checked]], Future[dict[str, Checked]]]:
    """As shipped and with the references, at the same time: most of a lesson is waiting for tokens."""
    shipped, solved = read(path), with_references(read(path))
    exercises = exercise_cells(shipped)
    with ThreadPoolExecutor(2) as pool:
        return pool.submit(verdicts, shipped, exercises), pool.submit(verdicts, solved, exercises)


@each_lesson
def test_as_shipped_no_cell_raises_and_no_exercise_counts_as_attempted(path: Path) -> None:
    states = {name: verdict.state for name, verdict in both_ways(path)[0].result().items()}
    assert states == dict.fromkeys(states, "not attempted")


@each_lesson
def test_with_the_references_every_check_is_right(path: Path) -> None:
    wrong = {
        name: verdict for name, verdict in both_ways(path)[1].result().items() if verdict.state != "right"
    }
    assert not wrong
