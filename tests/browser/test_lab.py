"""What a learner sees who calls `streamlib lab`: JupyterLab, the notebooks, widgets that work."""

from __future__ import annotations

import sys
import textwrap
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import Browser, expect

from .lab import Lab, OpenNotebook, new_page

Open = Callable[[str], OpenNotebook]


def write(work: Path, name: str, *sources: str) -> str:
    """A notebook in the work folder; returns its name."""
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(source) for source in sources],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
    )
    nbformat.write(notebook, work / name)
    return name


def test_the_first_screen_is_the_first_notebook(jupyterlab: Lab, browser: Browser) -> None:
    page = new_page(browser)
    page.goto(f"{jupyterlab.url}?token={jupyterlab.token}")
    page.wait_for_selector(".jp-NotebookPanel .jp-Notebook h1")
    assert page.url.endswith("/lab/tree/00_start_here.ipynb")
    assert page.locator(".jp-Dialog, .jp-toast-button").count() == 0  # no news, no question
    page.close()


def test_streamed_text_breaks_between_words(work: Path, open_notebook: Open) -> None:
    """JupyterLab's own style breaks it inside them; the course's own custom.css says otherwise."""
    notebook = open_notebook(write(work, "words.ipynb", "print('streaming ' * 100)"))
    notebook.run_all()
    style = "getComputedStyle(document.querySelector('.jp-OutputArea-output pre')).wordBreak"
    assert notebook.page.evaluate(style) == "normal"


def test_without_the_token_nothing_is_served(jupyterlab: Lab) -> None:
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(f"{jupyterlab.url}api/contents")


def test_a_healthy_notebook_has_no_problems(work: Path, open_notebook: Open) -> None:
    name = write(
        work,
        "healthy.ipynb",
        "import sys\nprint(sys.prefix)",
        "import ipywidgets\nslider = ipywidgets.IntSlider(3)\nslider",
        "import matplotlib.pyplot as plt\nplt.plot([1, 2]);",
    )
    notebook = open_notebook(name)
    cells = notebook.run_all()
    assert notebook.problems() == []
    assert [cell["count"] for cell in cells] == [1, 2, 3]
    assert cells[0]["outputs"][0]["text"].strip() == sys.prefix  # this environment's Python, no other
    expect(notebook.page.locator(".jupyter-widgets.widget-slider")).to_have_count(1)


def test_the_harness_sees_every_kind_of_problem(work: Path, open_notebook: Open) -> None:
    broken = """
        from IPython.display import Image, display
        display(Image(data=b"x", format="png"))
        view = {"model_id": "none", "version_major": 2, "version_minor": 0}
        display({"application/vnd.jupyter.widget-view+json": view}, raw=True)
        1 / 0
    """
    notebook = open_notebook(write(work, "broken.ipynb", textwrap.dedent(broken), "'after'"))
    notebook.run_all()
    problems = "\n".join(notebook.problems(patience=0))
    assert "ZeroDivisionError" in problems
    assert "broken picture" in problems
    assert "widget" in problems.replace("widget-view", "")


def test_stop_ends_a_cell_and_restart_gives_a_fresh_kernel(work: Path, open_notebook: Open) -> None:
    notebook = open_notebook(write(work, "stop.ipynb", "x = 1\nprint('begun')", "while True:\n    pass", "x"))
    notebook.command("notebook:run-all-cells", wait=False)
    notebook.page.wait_for_selector(".jp-OutputArea >> text=begun")
    notebook.page.wait_for_timeout(1000)  # well inside the endless loop
    notebook.command("notebook:interrupt-kernel")
    notebook.page.wait_for_selector(".jp-OutputArea >> text=KeyboardInterrupt")
    notebook.command("kernelmenu:restart", wait=False)
    notebook.page.locator(".jp-Dialog .jp-mod-accept").click()
    notebook.page.wait_for_selector(".jp-Dialog", state="detached")
    notebook.wait_for_kernel()
    notebook.page.locator(".jp-CodeCell").last.click()
    notebook.command("notebook:run-cell")
    notebook.page.wait_for_selector(".jp-OutputArea >> text=name 'x' is not defined")
