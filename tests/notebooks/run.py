"""Run the course's notebooks without a browser: as shipped, or with the references in the stubs' place."""

from __future__ import annotations

import ast
import inspect
import json
import os
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
from IPython.core.inputtransformer2 import TransformerManager
from jupyter_client.client import KernelClient
from nbclient import NotebookClient
from nbformat import NotebookNode

from streamlib.exercises import find
from streamlib.lab import deliver, prefer_this_environment

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"
CELL_SECONDS = 120  # no cell comes near it; it only keeps a broken one from hanging the run

# Runs after a cell that ends in check(...): says what the verdict was.
REPORT = """\
import json as _json
_last = Out[max(Out)]
print(_json.dumps({"state": _last.state, "mistake": _last.mistake, "message": _last.message}))
"""


def lessons() -> list[Path]:
    return sorted(NOTEBOOKS.glob("*.ipynb"))


def read(path: Path) -> NotebookNode:
    return nbformat.read(path, as_version=4)


def parsed(source: str) -> ast.Module:
    """A cell as Python: top-level await is allowed, magics become calls."""
    python = TransformerManager().transform_cell(source)
    flags = ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    tree = compile(python, "cell", "exec", flags, dont_inherit=True)
    assert isinstance(tree, ast.Module)
    return tree


def checked_name(source: str) -> str | None:
    """The name in ``check(NAME)`` when that is a cell's last statement."""
    body = parsed(source).body
    match body[-1:] and body[-1]:
        case ast.Expr(value=ast.Call(func=ast.Name(id="check"), args=[ast.Name(id=name), *_])):
            return name
    return None


def stub(source: str, name: str) -> ast.FunctionDef | ast.AsyncFunctionDef | None:
    """The definition of that function in a cell."""
    for node in parsed(source).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name:
            return node
    return None


def exercise_cells(notebook: NotebookNode) -> dict[int, str]:
    """Index -> exercise, for the cells that end in check(...)."""
    names = {
        i: checked_name(cell.source) for i, cell in enumerate(notebook.cells) if cell.cell_type == "code"
    }
    return {i: name for i, name in names.items() if name}


def with_references(notebook: NotebookNode) -> NotebookNode:
    """The notebook as the course's author would fill it in: each stub replaced by its reference's source."""
    for index, name in exercise_cells(notebook).items():
        cell = notebook.cells[index]
        old = stub(cell.source, name)
        assert old is not None, f"the cell that checks {name} does not define it"
        lines = cell.source.split("\n")
        new = solution_source(find(name).reference)
        cell.source = "\n".join([*lines[: old.lineno - 1], new, *lines[old.end_lineno :]])
    return notebook


def solution_source(reference: Callable[..., Any]) -> str:
    """A function's source, and the import of whatever it takes from its own module."""
    source = textwrap.dedent(inspect.getsource(reference))
    names = {node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)}
    borrowed = sorted(names & reference.__globals__.keys() - {reference.__name__})
    if not borrowed:
        return source
    return f"from {reference.__module__} import {', '.join(borrowed)}\n{source}"


@dataclass(frozen=True, slots=True)
class Checked:
    """A verdict, as the notebook showed it."""

    state: str
    mistake: str | None
    message: str


class Client(NotebookClient):
    """Does not watch the kernel's heart.

    At the end of a run nbclient ends the kernel and then closes the sockets of all channels. While the kernel
    takes more than a second to end, the thread that misses its heartbeat opens new ones: when one comes in
    between, closing waits for it for ever (jupyter_client, issue 771).
    """

    async def async_start_new_kernel_client(self) -> KernelClient:
        client = await super().async_start_new_kernel_client()
        client.hb_channel.stop()
        return client


def execute(notebook: NotebookNode, exercises: dict[int, str], folder: Path) -> dict[str, Checked]:
    """Run every cell in a fresh kernel, in a work folder as a learner has it: exercise -> verdict.

    `exercises` are its `exercise_cells`, which the caller looks for: two threads that parse at the same time
    can make Python 3.11 raise a SystemError. Raises nbclient.exceptions.CellExecutionError at the first cell
    that raises.
    """
    deliver(NOTEBOOKS, folder)
    prefer_this_environment()
    cells = []
    reports = {}
    for index, cell in enumerate(notebook.cells):
        cells.append(cell)
        if name := exercises.get(index):
            reports[name] = nbformat.v4.new_code_cell(REPORT)
            cells.append(reports[name])
    notebook.cells = cells
    client = Client(
        notebook, timeout=CELL_SECONDS, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    client.execute(env=os.environ | {"STREAMLIB_HOME": str(folder / "home")})
    return {
        name: Checked(
            **json.loads("".join(output.text for output in report.outputs if output.get("name") == "stdout"))
        )
        for name, report in reports.items()
    }
