"""The learner's own functions, found again: out of the notebooks they were written in, into the capstone.

`yours("resume")` looks through the notebooks beside the running one for the cell that defines `resume`, plays
it through the exercise's check, and gives it back when it passes. Otherwise it gives the course's answer, and
says so. Of a notebook only imports, functions, classes and constants are run, down to the cell that defines the
function, and there every assignment; never its experiments. A function at hand is passed as it is: `summarise = yours(summarise)`.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..checker import judge
from . import find, name_of

STATES = {"wrong": "is wrong", "raised": "raises an error", "stuck": "does not end"}


def yours(what: str | Callable[..., Any], folder: Path | None = None) -> Callable[..., Any]:
    """The learner's function (or the one of that name), if it passes its check; else the course's own.

    `folder` is where the notebooks are: by default where this one runs. Only what is saved is found. Raises
    NoSuchExercise for a name that is none.
    """
    name = what if isinstance(what, str) else name_of(what)
    exercise = find(name)
    if what is exercise.reference:  # of an earlier call
        print(f"{name}: the course's")
        return exercise.reference
    written = [("this notebook", what)] if callable(what) else in_notebooks(name, folder or Path.cwd())
    state = "is not attempted"
    for place, function in written:
        verdict = judge(function, exercise)
        if verdict.passed:
            print(f"{name}: yours, from {place}")
            return function
        if verdict.state != "not attempted":
            state = STATES[verdict.state]
    print(f"{name}: the course's (yours {state})")
    return exercise.reference


def in_notebooks(name: str, folder: Path) -> Iterator[tuple[str, Callable[..., Any]]]:
    """The functions of that name in the notebooks of a folder, each with the notebook it is from."""
    for path in sorted(folder.glob("*.ipynb")):
        function = defined_in(path, name)
        if function is not None:
            yield path.name, function


def defined_in(path: Path, name: str) -> Callable[..., Any] | None:
    """The function `name` of a notebook, with what the cells down to its own define; None if there is none.

    Also None when the notebook cannot be read. What cannot be run is left out.
    """
    cells = list(code_cells(path))
    defining = [n for n, cell in enumerate(cells) if any(_defines(statement, name) for statement in cell)]
    if not defining:
        return None
    names: dict[str, Any] = {"__name__": f"notebook {path.stem}"}
    for n, cell in enumerate(cells[: defining[-1] + 1]):
        for statement in cell:
            if not _is_definition(statement, calls=n == defining[-1]):
                continue
            # Whatever a learner's code raises: if it was needed, the check will say so.
            with suppress(Exception):
                exec(compile(ast.Module([statement], []), str(path), "exec"), names)
    function: Callable[..., Any] | None = names.get(name)
    return function


def code_cells(path: Path) -> Iterator[list[ast.stmt]]:
    """The statements of each code cell. Cells with magics or mistakes of syntax are left out."""
    try:
        cells = json.loads(path.read_bytes())["cells"]
        sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    except (OSError, ValueError, KeyError, TypeError):
        return
    for source in sources:
        try:
            # a cell may await at its top level, which a module may not
            tree = compile(source, str(path), "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        except (SyntaxError, ValueError):
            continue
        yield tree.body


def _defines(statement: ast.stmt, name: str) -> bool:
    return isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef) and statement.name == name


def _is_definition(statement: ast.stmt, calls: bool) -> bool:
    match statement:
        case ast.Import() | ast.ImportFrom() | ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            return True
        case ast.Assign(value=value) | ast.AnnAssign(value=ast.expr() as value):
            return calls or not any(isinstance(part, ast.Call) for part in ast.walk(value))
    return False
