"""The live views in a real JupyterLab: press Start and Stop, read the numbers, reload, find the picture.

Pictures are kept in test-artifacts/views: light and dark, 1280 and 800 pixels wide, while it runs and after.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from .lab import OpenNotebook, new_page
from .test_lab import write

Open = Callable[[str], OpenNotebook]

ARTIFACTS = Path(__file__).resolve().parents[2] / "test-artifacts" / "views"
SIZES = (1280, 800)
CONNECT = "from streamlib.connect import connect\nmodel = connect()"
BOARD = "from streamlib.widgets import Board\nboard = Board(model=model.name)\nboard"
STILL = ".streamlib-still"
LIVE = ".streamlib-live"
IDLE = f"{LIVE} .jupyter-button:not([disabled]) >> text=Start"
PICTURE = "svg[role=img]"

VIEWS = {  # each takes some seconds: there is time to press Stop
    "Race": "await Race('Tell me about streaming in detail.', model=model.name)",
    "Wire": "await Wire('Tell me about streaming in detail.', model=model.name)",
    "Retries": "await Retries('Tell me about streaming in detail.', model=model.name,"
    " faults=['status=503', 'cut-after=12'])",
    "Flow": "await Flow(stream_chat('Tell me about streaming in detail.', model=model.name), sentences)",
}
IMPORTS = """
from streamlib.widgets import Flow, Race, Retries, Wire
from streamlib.chat import stream_chat
from streamlib.text import sentences
"""


# Where pictures end that are wider than what is around them. The letters at the end of an axis need room.
TOO_WIDE = """() => Array.from(document.querySelectorAll('.jp-OutputArea-output svg[role=img]'), picture => {
  const right = picture.closest('.jp-OutputArea-output').getBoundingClientRect().right;  // 0: hidden
  return [picture.getBoundingClientRect().right, right];
}).filter(([picture, around]) => around && picture > around - 9)"""


def shoot(notebook: OpenNotebook, name: str) -> None:
    """The page in both widths; in both the pictures fit."""
    ARTIFACTS.mkdir(parents=True, exist_ok=True)
    for width in SIZES:
        notebook.page.set_viewport_size({"width": width, "height": 1000})
        notebook.page.wait_for_timeout(150)
        notebook.page.screenshot(path=ARTIFACTS / f"{name}-{width}.png")
        assert notebook.page.evaluate(TOO_WIDE) == [], f"{name} at {width} pixels"


def shoot_dark(notebook: OpenNotebook, name: str) -> None:
    notebook.command("apputils:change-theme", {"theme": "JupyterLab Dark"})
    notebook.page.wait_for_timeout(500)
    shoot(notebook, f"{name}-dark")
    notebook.command("apputils:change-theme", {"theme": "JupyterLab Light"})


def press(page: Page, words: str) -> None:
    page.locator(f"{LIVE} .jupyter-button >> text={words}").click()


def run_next(notebook: OpenNotebook) -> None:
    notebook.page.keyboard.press("Shift+Enter")


def open_board(work: Path, open_notebook: Open, name: str) -> OpenNotebook:
    """A notebook with a board on the screen."""
    notebook = open_notebook(write(work, name, CONNECT, BOARD))
    notebook.page.locator(".jp-CodeCell").first.click()
    run_next(notebook)
    run_next(notebook)
    notebook.page.locator(f"{LIVE} {PICTURE}").first.wait_for()
    return notebook


def reload(notebook: OpenNotebook) -> None:
    """Save the notebook and open the page anew."""
    notebook.command("docmanager:save")
    notebook.page.reload()
    notebook.page.wait_for_function("() => window.jupyterapp?.shell.currentWidget?.context?.isReady")


def row(page: Page, number: int) -> list[str]:
    """A row of the table that is on the screen."""
    cells = page.locator(f"{LIVE} table tr:has(td)").nth(number).locator("td")
    return [text.strip() for text in cells.all_inner_texts()]


def test_the_board(work: Path, open_notebook: Open) -> None:
    notebook = open_board(work, open_notebook, "board.ipynb")
    page = notebook.page
    assert not page.locator(STILL).is_visible()  # the widgets stand there instead
    page.get_by_label("Profile", exact=True).wait_for()  # it has seen that the embedded model answers

    page.get_by_label("Streams", exact=True).fill("18")  # some seconds, also for a browser that is busy
    page.get_by_label("At once", exact=True).fill("3")
    press(page, "Start")
    page.locator(f"{LIVE} >> text=/of 18 streams/").wait_for()
    page.wait_for_timeout(1500)
    shoot(notebook, "board-runs")
    shoot_dark(notebook, "board-runs")
    page.locator(IDLE).wait_for()
    label, done, failed, *numbers = row(page, 0)
    assert "3 at once" in label
    assert failed == "0"
    if "invalid" in label:  # this machine was too busy: then there is no number
        assert (done, numbers[0]) == ("0", "-")
        page.locator(f"{LIVE} >> text=/this machine was too busy/").wait_for()
    else:
        assert done == "18"
        assert 0.1 < float(numbers[0]) < 2
        assert 30 < float(numbers[3]) < 70

    page.get_by_label("Streams", exact=True).fill("6")
    page.get_by_label("1 in 4 breaks").select_option("cut-after=20")
    press(page, "Start")
    page.locator(f"{LIVE} >> text=/1 failed/").wait_for()
    page.locator(IDLE).wait_for()
    assert row(page, 1)[2] == "1"

    page.get_by_label("Streams", exact=True).fill("200")
    press(page, "Start")
    page.locator(f"{LIVE} >> text=/of 200 streams/").wait_for()
    page.wait_for_timeout(1000)
    press(page, "Stop")
    page.locator(IDLE).wait_for()
    assert "stopped" in row(page, 1)[1]
    shoot(notebook, "board-done")
    shoot_dark(notebook, "board-done")

    links = page.locator(f"{LIVE} a[download]")
    assert links.all_inner_texts() == ["board.csv", "board.png"]
    with page.expect_download() as download:
        links.first.click()
    assert Path(download.value.path()).read_text().startswith("run,label,")
    assert notebook.problems() == []


def test_the_board_after_a_reload(work: Path, open_notebook: Open, browser: Browser) -> None:
    notebook = open_board(work, open_notebook, "reload.ipynb")
    page = notebook.page
    page.get_by_label("Streams", exact=True).fill("4")
    press(page, "Start")
    page.locator(f"{LIVE} >> text=/1 run, /").wait_for()
    page.locator(IDLE).wait_for()

    reload(notebook)  # the kernel lives: the controls work
    page.locator(IDLE).wait_for()
    press(page, "Start")
    page.locator(f"{LIVE} >> text=/2 runs, /").wait_for()
    page.locator(IDLE).wait_for()
    assert not page.locator(STILL).is_visible()

    page.evaluate("async () => { await window.jupyterapp.shell.currentWidget.sessionContext.shutdown(); }")
    # The kernel is gone: a picture stays, with its numbers. It is that of before the first reload, since
    # JupyterLab forgets at a reload which output an update is for.
    reload(notebook)
    page.locator(f"{STILL} {PICTURE}").first.wait_for()
    page.wait_for_timeout(3000)
    assert page.locator(f"{STILL} >> text=/1 run, /").is_visible()
    assert (
        page.locator("text=model not found").count() == 0
        or not page.locator("text=model not found").is_visible()
    )
    assert notebook.problems() == []
    shoot(notebook, "board-reloaded")

    html = work / "reload.html"
    export = [sys.executable, "-m", "nbconvert", "--to", "html", str(work / "reload.ipynb")]
    subprocess.run(export, check=True, capture_output=True)
    exported = new_page(browser)
    exported.goto(html.as_uri())
    exported.locator(f"{STILL} {PICTURE}").first.wait_for()
    exported.screenshot(path=ARTIFACTS / "board-exported.png")
    exported.close()


@pytest.mark.parametrize("name", VIEWS)
def test_a_view(name: str, work: Path, open_notebook: Open) -> None:
    notebook = open_notebook(write(work, f"{name}.ipynb", CONNECT + IMPORTS, VIEWS[name]))
    page = notebook.page
    page.locator(".jp-CodeCell").first.click()
    run_next(notebook)
    page.locator("text=All is well").wait_for()
    run_next(notebook)
    page.locator(f".widget-html-content {PICTURE}").first.wait_for()
    page.wait_for_timeout(1500)
    shoot(notebook, f"{name}-runs")
    page.locator(f".jp-OutputArea-output.jp-RenderedHTMLCommon {PICTURE}").first.wait_for()
    shoot(notebook, f"{name}-done")
    shoot_dark(notebook, f"{name}-done")
    words = page.locator(".jp-OutputArea-output.jp-RenderedHTMLCommon").last.inner_text()
    assert re.search(r"\d (s|ms)\b", words)
    assert notebook.problems() == []

    page.locator(".jp-CodeCell").nth(1).locator(".cm-content").click()
    notebook.command("notebook:run-cell", wait=False)
    button = page.locator(".jupyter-button >> text=Stop")
    button.wait_for()
    page.wait_for_timeout(1500)
    button.click()
    page.locator(".jupyter-button").wait_for(state="detached")
    page.locator(f".jp-OutputArea-output.jp-RenderedHTMLCommon {PICTURE}").first.wait_for()
    page.evaluate("async () => { await window.jupyterapp.shell.currentWidget.sessionContext.shutdown(); }")
    reload(notebook)
    page.locator(f".jp-OutputArea-output {PICTURE}").first.wait_for()
    assert notebook.problems() == []
