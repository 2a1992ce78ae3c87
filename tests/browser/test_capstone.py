"""The capstone in a real browser: its page streams, mends, says what it cannot mend, and stops the model."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import Browser, FrameLocator, expect

from tests.notebooks.run import NOTEBOOKS

from .lab import Lab, OpenNotebook, new_page
from .test_serving import until

SKIPPED = {"show-run", "stop-run", "serve-read"}  # they take their time, and nothing needs them
PROGRESS = re.compile(r"^\d+ tokens, [\d.]+ s, [\d.]+ \$$")
MINE = """\
from streamlib.tokens import TokenCounter

async def token_counter(stream):
    counter = TokenCounter()
    async for text in stream:
        yield text, counter.add(text)
"""


@dataclass(frozen=True)
class Capstone:
    notebook: OpenNotebook
    frame: FrameLocator
    model: str

    def run(self, code: str) -> None:
        """Code in the notebook's kernel, as in a cell of its own."""
        kernel = "window.jupyterapp.shell.currentWidget.sessionContext.session.kernel"
        self.notebook.page.evaluate(
            f"async code => {{ await {kernel}.requestExecute({{code}}).done; }}", code
        )

    def streams_open(self) -> int:
        with urllib.request.urlopen(f"{self.model}/sim/stats") as response:
            return int(json.load(response)["streams_open"])

    def answer(self) -> str:
        return self.frame.locator("#answer").text_content() or ""

    def note(self) -> str:
        return self.frame.locator("#note").inner_text()

    def ask(self, *trouble: str) -> None:
        self.run(f"trouble[:] = {list(trouble)}")
        self.frame.locator("#ask").click()

    def is_over(self) -> bool:
        return self.frame.locator("#ask").is_enabled()


@pytest.fixture(scope="module")
def capstone(work: Path, jupyterlab: Lab, browser: Browser) -> Iterator[Capstone]:
    """The lesson's own cells up to its page, beside a notebook with one answer of a learner."""
    lesson = nbformat.read(NOTEBOOKS / "10_capstone.ipynb", 4)
    last = [cell.id for cell in lesson.cells].index("serve-page")
    lesson.cells = [cell for cell in lesson.cells[: last + 1] if cell.id not in SKIPPED]
    lesson.cells.append(nbformat.v4.new_code_cell("print(model.base_url)"))
    nbformat.write(lesson, work / "page.ipynb")
    answers = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(MINE)])
    nbformat.write(answers, work / "mine.ipynb")
    notebook = OpenNotebook(new_page(browser), jupyterlab, "page.ipynb")
    cells = notebook.run_all()
    url = cells[-1]["outputs"][0]["text"].strip().removesuffix("/v1")
    yield Capstone(notebook, notebook.page.frame_locator(".jp-Notebook iframe"), url)
    notebook.close()


def test_a_learner_s_own_function_is_used(capstone: Capstone) -> None:
    assert capstone.notebook.problems() == []
    texts = [
        "".join(output.get("text", "") for output in cell["outputs"])
        for cell in capstone.notebook.cells()["cells"]
    ]
    assert any("token_counter: yours, from mine.ipynb\nttft: the course's" in text for text in texts)


# The page itself notes what it shows: on a busy machine, who asks from outside sees two states of many.
WATCH = """body => {
  window.seen = [];
  const note = () => window.seen.push(['#answer', '#note'].map(id => body.querySelector(id).textContent));
  new MutationObserver(note).observe(body, {childList: true, subtree: true, characterData: true});
}"""


def test_a_summary_appears_piece_by_piece_with_its_progress(capstone: Capstone) -> None:
    body = capstone.frame.locator("body")
    body.evaluate(WATCH)
    capstone.ask()
    until(capstone.is_over)
    seen = [(len(answer), note) for answer, note in body.evaluate("() => window.seen")]
    assert len({length for length, _ in seen}) > 3
    assert len({note for _, note in seen if PROGRESS.match(note)}) > 3
    assert PROGRESS.match(capstone.note())


def test_what_can_be_mended_leaves_no_trace(capstone: Capstone) -> None:
    capstone.ask()
    until(capstone.is_over)
    calm = capstone.answer()
    capstone.ask("status=503", "cut-after=10", "truncate-after=4")
    until(capstone.is_over, 40)
    assert capstone.answer() == calm
    assert PROGRESS.match(capstone.note())


def test_what_cannot_be_mended_is_told_and_the_half_is_kept(capstone: Capstone) -> None:
    capstone.ask("cut-after=10", "status=400")
    expect(capstone.frame.locator("#note")).to_contain_text("The answer broke off")
    assert capstone.is_over()
    assert len(capstone.answer()) > 10


def test_a_refusal_is_told(capstone: Capstone) -> None:
    capstone.ask("status=400")
    expect(capstone.frame.locator("#note")).to_contain_text("status 500")
    assert capstone.answer() == ""


def test_stop_stops_the_model(capstone: Capstone) -> None:
    capstone.ask("stall-after=10")
    until(lambda: bool(PROGRESS.match(capstone.note())))
    assert capstone.streams_open() == 1
    capstone.frame.locator("#stop").click()
    until(lambda: capstone.streams_open() == 0, 3)  # a stall is given up after 5 s, and mended
    assert "stopped" in capstone.note()
