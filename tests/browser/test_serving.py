"""Lesson 6's pages in a real browser: what it says about EventSource and fetch, and that its cells work."""

from __future__ import annotations

import ast
import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import nbformat
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, StreamingResponse
from playwright.sync_api import Browser, Page, expect
from pydantic import BaseModel

from streamlib.backstage import page, start
from streamlib.closing import closing
from streamlib.serve import Replay, sse_response
from streamlib.sse import encode
from streamlib.streams import take
from tests.notebooks.run import NOTEBOOKS

from .lab import OpenNotebook, new_page

NOTEBOOK = NOTEBOOKS / "06_serving.ipynb"
WORDS = ["One", " word", "\n\nafter", " another", ", at", " its", " own", " pace."]


class Question(BaseModel):
    text: str


def scripts() -> dict[str, str]:
    """The lesson's JavaScript, as its cells have it."""
    found = {}
    for cell in nbformat.read(NOTEBOOK, 4).cells:
        if cell.id in ("page-eventsource", "page-fetch"):
            assign = ast.parse(cell.source).body[0]
            assert isinstance(assign, ast.Assign)
            found[cell.id.removeprefix("page-")] = ast.literal_eval(assign.value)
    return found


class Served:
    """A site as the lesson builds it, with a model that is watched, in a thread of its own."""

    def __init__(self) -> None:
        self.app = FastAPI()
        self.asked: list[str] = []
        self.seen_ids: list[str | None] = []
        self.made = 0
        self.closed = 0
        self.url = ""
        self.every = 0.15
        self.error: Exception | None = None

    async def answer(self, question: str) -> AsyncIterator[str]:
        self.asked.append(question)
        try:
            for word in WORDS:
                await asyncio.sleep(self.every)
                self.made += 1
                yield word
            if self.error:
                raise self.error
        finally:
            self.closed += 1

    def build(self) -> None:
        for path, script in scripts().items():
            self.app.add_route(f"/{path}", partial(_page, page(script)))

        @self.app.get("/answers")
        async def answers(question: str) -> Any:
            return sse_response(self.answer(question))

        @self.app.post("/ask")
        async def ask(question: Question) -> Any:
            return sse_response(self.answer(question.text))


async def _page(html: str, request: Request) -> HTMLResponse:
    return HTMLResponse(html)


@contextmanager
def in_a_thread(app: Any) -> Iterator[str]:
    """playwright holds this thread's event loop."""
    ready, stop = threading.Event(), threading.Event()
    urls = []

    async def serve() -> None:
        site = await start(app)
        urls.append(site.url)
        ready.set()
        await asyncio.to_thread(stop.wait)
        await site.stop()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        assert ready.wait(20)
        yield urls[0]
    finally:
        stop.set()
        thread.join(20)


@pytest.fixture
def site() -> Iterator[Served]:
    served = Served()
    served.build()
    with in_a_thread(served.app) as served.url:
        yield served


@pytest.fixture
def tab(browser: Browser) -> Iterator[Page]:
    tab = new_page(browser)
    yield tab
    tab.close()


both = pytest.mark.parametrize("way", ["eventsource", "fetch"])


def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@both
def test_tokens_appear_one_by_one(site: Served, tab: Page, way: str) -> None:
    tab.goto(f"{site.url}/{way}")
    tab.click("#ask")
    lengths = set()

    def over() -> bool:
        lengths.add(len(tab.text_content("#answer") or ""))
        return tab.is_enabled("#ask")

    until(over)
    assert tab.text_content("#answer") == "".join(WORDS)
    assert len(lengths) > 3
    assert f"{len(WORDS)} pieces" in tab.inner_text("#note")


def test_an_event_source_that_hears_done_does_not_come_back(site: Served, tab: Page) -> None:
    site.every = 0.01
    tab.goto(f"{site.url}/eventsource")
    tab.click("#ask")
    expect(tab.locator("#ask")).to_be_enabled()
    tab.wait_for_timeout(5000)  # Chromium's EventSource would come back after 3 seconds
    assert len(site.asked) == 1


@both
def test_stop_stops_the_model(site: Served, tab: Page, way: str) -> None:
    tab.goto(f"{site.url}/{way}")
    tab.click("#ask")
    until(lambda: site.made >= 2)
    tab.click("#stop")
    until(lambda: site.closed == 1)
    assert site.made < len(WORDS)
    assert "stopped" in tab.inner_text("#note")


@both
def test_closing_the_tab_stops_the_model(site: Served, browser: Browser, way: str) -> None:
    tab = new_page(browser)
    tab.goto(f"{site.url}/{way}")
    tab.click("#ask")
    until(lambda: site.made >= 2)
    tab.close()
    until(lambda: site.closed == 1)
    assert site.made < len(WORDS)


@both
def test_a_model_that_fails_is_told_on_the_page(site: Served, tab: Page, way: str) -> None:
    site.error, site.every = ConnectionError("a secret address"), 0.01
    tab.goto(f"{site.url}/{way}")
    tab.click("#ask")
    expect(tab.locator("#note")).to_contain_text("The answer broke off")
    assert "secret" not in tab.inner_text("body")


def test_an_event_source_cannot_post_and_sends_no_headers(site: Served, tab: Page) -> None:
    tab.goto(f"{site.url}/fetch")
    statuses = []
    tab.on("response", lambda response: statuses.append((response.request.method, response.status)))
    seen = tab.evaluate("""() => new Promise(resolve => {
        const source = new EventSource("/ask", {method: "POST", headers: {Authorization: "Bearer x"}});
        source.onerror = event => resolve([source.readyState, event.data === undefined]);
    })""")
    assert seen == [2, True]  # closed for good, and no reason given
    assert statuses == [("GET", 405)]


def test_an_event_source_comes_back_when_nobody_says_done(site: Served, tab: Page) -> None:
    site.every = 0.01
    tab.goto(f"{site.url}/eventsource")
    tab.evaluate("() => { window.source = new EventSource('/answers?question=again'); }")
    until(lambda: len(site.asked) == 2)


def test_an_event_source_that_lost_its_connection_gets_the_rest(tab: Page) -> None:
    served, replay, ids = Served(), Replay(), []
    served.build()
    served.every = 0.01

    @served.app.get("/kept")
    async def kept(request: Request) -> StreamingResponse:
        ids.append(request.headers.get("last-event-id"))

        async def three_events() -> AsyncIterator[bytes]:
            async with closing(take(replay(served.answer("kept"), ids[-1]), 3)) as events:
                async for event in events:
                    name = None if event.event == "message" else event.event
                    yield encode(event.data, event=name, id=event.id, retry=50)

        return StreamingResponse(three_events(), media_type="text/event-stream")

    with in_a_thread(served.app) as url:
        tab.goto(f"{url}/fetch")
        text = tab.evaluate("""() => new Promise(resolve => {
            let text = "";
            const source = new EventSource("/kept");
            source.onmessage = event => { text += JSON.parse(event.data); };
            source.addEventListener("done", () => { source.close(); resolve(text); });
        })""")
    assert text == "".join(WORDS)
    assert len(served.asked) == 1
    assert ids[0] is None
    assert len(ids) == 3


def test_in_the_notebook_a_click_on_ask_brings_tokens(
    work: Path, open_notebook: Callable[[str], OpenNotebook]
) -> None:
    """The lesson's own cells, up to its pages: a learner clicks in the notebook and sees an answer."""
    lesson = nbformat.read(NOTEBOOK, 4)
    last = [cell.id for cell in lesson.cells].index("page-show-eventsource")
    lesson.cells = lesson.cells[: last + 1]
    nbformat.write(lesson, work / "pages.ipynb")
    notebook = open_notebook("pages.ipynb")
    notebook.run_all()
    assert notebook.problems() == []
    for way in ("fetch", "eventsource"):
        frame = notebook.page.frame_locator(f"iframe[src$='/{way}']")
        frame.locator("#ask").click()
        expect(frame.locator("#note")).to_contain_text("pieces, the first after")
        expect(frame.locator("#ask")).to_be_enabled()
        assert len((frame.locator("#answer").text_content() or "").split()) > 10
