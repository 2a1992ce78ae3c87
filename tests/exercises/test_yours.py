"""The learner's own functions, found in their notebooks."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest

from streamlib.exercises import NoSuchExercise, find
from streamlib.exercises.yours import yours

RIGHT = (
    "def first_text(pieces):\n    return next((piece for piece in pieces if piece), '')\n\ncheck(first_text)"
)
WRONG = "def first_text(pieces):\n    return 'Hello'\n\ncheck(first_text)"
STUB = "def first_text(pieces):\n    raise NotImplementedError\n\ncheck(first_text)"


def notebook(folder: Path, *sources: str, name: str = "00_start_here.ipynb") -> None:
    cells = [nbformat.v4.new_markdown_cell("# A lesson"), *map(nbformat.v4.new_code_cell, sources)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), folder / name)


def test_a_right_answer_is_found_in_its_notebook(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    notebook(tmp_path, RIGHT)
    function = yours("first_text", tmp_path)
    assert function.__module__ == "notebook 00_start_here"
    assert function([None, "a"]) == "a"
    assert capsys.readouterr().out == "first_text: yours, from 00_start_here.ipynb\n"


@pytest.mark.parametrize(("source", "state"), [(WRONG, "wrong"), (STUB, "not attempted")])
def test_otherwise_it_is_the_course_s(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], source: str, state: str
) -> None:
    notebook(tmp_path, source)
    assert yours("first_text", tmp_path) is find("first_text").reference
    assert capsys.readouterr().out == f"first_text: the course's (yours is {state})\n"


def test_without_notebooks_it_is_the_course_s(tmp_path: Path) -> None:
    assert yours("first_text", tmp_path) is find("first_text").reference


def test_imports_of_other_cells_are_there_and_experiments_do_not_run(tmp_path: Path) -> None:
    experiment = "from itertools import chain\n\nraise SystemExit('an experiment ran')"
    uses_it = RIGHT.replace("in pieces if", "in chain(pieces) if")
    notebook(tmp_path, experiment, "await something()", "%magic", "def broken(:", uses_it)
    assert yours("first_text", tmp_path)(["", "b"]) == "b"


def test_the_last_definition_of_a_notebook_counts(tmp_path: Path) -> None:
    notebook(tmp_path, WRONG, RIGHT)
    assert yours("first_text", tmp_path)([None]) == ""


def test_a_right_answer_in_any_notebook_will_do(tmp_path: Path) -> None:
    notebook(tmp_path, WRONG, name="00_a.ipynb")
    notebook(tmp_path, RIGHT, name="00_b.ipynb")
    assert yours("first_text", tmp_path).__module__ == "notebook 00_b"


def test_what_other_cells_define_is_there(tmp_path: Path) -> None:
    helpers = "NOTHING: str = ''\nchunk = slow()\n\ndef full(pieces):\n    return filter(None, pieces)"
    uses_them = "empty = str(NOTHING)\n\ndef first_text(pieces):\n    return next(full(pieces), empty)"
    notebook(tmp_path, helpers, uses_them)
    function = yours("first_text", tmp_path)
    assert function.__module__ == "notebook 00_start_here"
    assert (function([None, "b"]), function([])) == ("b", "")


def test_what_cells_below_define_is_not(tmp_path: Path) -> None:
    uses_it = RIGHT.replace("in pieces if", "in full(pieces) if")
    notebook(tmp_path, "full = list", uses_it, "full = None")
    assert yours("first_text", tmp_path)(["", "b"]) == "b"


@pytest.mark.parametrize("experiment", ["pieces = print('run')", "pieces = await ask()", "print('run')"])
def test_no_call_is_made(tmp_path: Path, capsys: pytest.CaptureFixture[str], experiment: str) -> None:
    notebook(tmp_path, experiment, RIGHT)
    yours("first_text", tmp_path)
    assert capsys.readouterr().out == "first_text: yours, from 00_start_here.ipynb\n"


def test_a_notebook_that_cannot_be_read_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "broken.ipynb").write_text('{"cells": 7')
    (tmp_path / "other.ipynb").write_text('["no notebook"]')
    assert yours("first_text", tmp_path) is find("first_text").reference


def test_a_line_that_cannot_be_run_is_left_out(tmp_path: Path) -> None:
    notebook(tmp_path, "import no_such_module\n\n" + RIGHT)
    assert yours("first_text", tmp_path).__module__ == "notebook 00_start_here"


def test_a_function_that_needs_such_a_line_is_the_course_s(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    notebook(
        tmp_path,
        "import no_such_module\n\n" + RIGHT.replace("return next", "no_such_module\n    return next"),
    )
    assert yours("first_text", tmp_path) is find("first_text").reference
    assert capsys.readouterr().out == "first_text: the course's (yours raises an error)\n"


def test_the_course_s_own_is_not_called_yours(capsys: pytest.CaptureFixture[str]) -> None:
    reference = find("first_text").reference
    assert yours(reference) is reference
    assert capsys.readouterr().out == "first_text: the course's\n"


def test_a_function_at_hand_need_not_be_looked_for(capsys: pytest.CaptureFixture[str]) -> None:
    def first_text(pieces):  # type: ignore[no-untyped-def]
        return next((piece for piece in pieces if piece), "")

    assert yours(first_text) is first_text
    assert capsys.readouterr().out == "first_text: yours, from this notebook\n"

    def first_text(pieces):  # type: ignore[no-untyped-def]
        raise NotImplementedError

    assert yours(first_text) is find("first_text").reference


def test_a_name_that_is_no_exercise(tmp_path: Path) -> None:
    with pytest.raises(NoSuchExercise):
        yours("frist_text", tmp_path)
