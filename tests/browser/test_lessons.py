"""Every notebook in a real JupyterLab: Run All, no error, everything drawn. The pictures are kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.notebooks.run import lessons

from .lab import OpenNotebook

ARTIFACTS = Path(__file__).resolve().parents[2] / "test-artifacts" / "notebooks"


# Together they take longer than everything else: three processes share them.
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(path.name, marks=pytest.mark.xdist_group(f"lessons {number % 3}"))
        for number, path in enumerate(lessons())
    ],
)
def test_runs_in_jupyterlab(name: str, open_notebook: Callable[[str], OpenNotebook]) -> None:
    notebook = open_notebook(name)
    try:
        notebook.run_all()
        assert notebook.problems() == []
    finally:
        notebook.shoot(ARTIFACTS / name.removesuffix(".ipynb"))
