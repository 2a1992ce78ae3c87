"""The picture in the README: the board while streams arrive. ``python -m tests.browser.readme_picture``

Take it on a quiet machine: the board shows no numbers of a run that a busy one has spoiled.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import nbformat

from .lab import OpenNotebook, new_page, open_browser, running_lab

PICTURE = Path(__file__).resolve().parents[2] / "docs" / "board.png"
CELLS = (
    "from streamlib.connect import connect\nmodel = connect()",
    "from streamlib.widgets import Board\nboard = Board(model=model.name)\nboard",
    "slow, congested = ({'X-Sim-Profile': name} for name in ('slow', 'congested'))\n"
    'await board.run("slow to begin", concurrency=4, requests=8, headers=slow, max_tokens=60)\n'
    'await board.run("congested", concurrency=6, requests=12, headers=congested, max_tokens=60)\n'
    'await board.run("server and queue", concurrency=14, requests=28, headers={"X-Sim-Profile": "loaded"})',
)


def main() -> None:
    with tempfile.TemporaryDirectory() as work, running_lab(Path(work)) as lab, open_browser() as browser:
        cells = [nbformat.v4.new_code_cell(source) for source in CELLS]
        spec = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(
            nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": spec}), Path(work) / "board.ipynb"
        )
        notebook = OpenNotebook(new_page(browser), lab, "board.ipynb")
        page = notebook.page
        page.set_viewport_size({"width": 1150, "height": 860})
        notebook.command("notebook:run-all-cells", wait=False)
        page.locator(".streamlib-live >> text=/and queue: .* of 28 streams 8 ended/").wait_for()
        top = page.locator(".jp-CodeCell").nth(1)
        top.evaluate("cell => cell.scrollIntoView()")
        page.wait_for_timeout(1200)  # some stream, some wait, some are done
        page.screenshot(path=PICTURE)
        notebook.close()


if __name__ == "__main__":
    main()
