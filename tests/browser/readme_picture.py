"""The picture in the README: lesson 0 in the middle of a race. ``python -m tests.browser.readme_picture``"""

from __future__ import annotations

import tempfile
from pathlib import Path

from .lab import OpenNotebook, new_page, open_browser, running_lab

PICTURE = Path(__file__).resolve().parents[2] / "docs" / "lesson-0.png"


def main() -> None:
    with tempfile.TemporaryDirectory() as work, running_lab(Path(work)) as lab, open_browser() as browser:
        notebook = OpenNotebook(new_page(browser), lab, "00_start_here.ipynb")
        page = notebook.page
        page.set_viewport_size({"width": 1100, "height": 860})
        page.locator(".jp-CodeCell").first.click()
        for _ in range(3):  # connect, the text before the race, the race
            page.keyboard.press("Shift+Enter")
        page.locator(".jp-OutputArea >> text=Streaming").first.wait_for(timeout=60_000)
        page.evaluate("() => { document.querySelector('.jp-WindowedPanel-outer').scrollTop = 190; }")
        page.wait_for_timeout(2500)  # the streaming half has text, the blocking half has none
        page.screenshot(path=PICTURE)
        page.wait_for_timeout(5000)


if __name__ == "__main__":
    main()
