"""JupyterLab and Chromium for the tests of a module: started once, closed with it.

Not for the whole session: while playwright runs, no other event loop can, and the other tests need theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from .lab import Lab, OpenNotebook, find_chromium, new_page, open_browser, running_lab


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Under pytest-xdist a module's tests stay in one process, with one JupyterLab and one Chromium, unless
    they say themselves who stays together."""
    for item in items:
        if item.path.parent == Path(__file__).parent and not item.get_closest_marker("xdist_group"):
            item.add_marker(pytest.mark.xdist_group(item.path.stem))


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The learner's work folder, which `streamlib lab` fills."""
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def jupyterlab(work: Path) -> Iterator[Lab]:
    with running_lab(work) as lab:
        yield lab


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if find_chromium() is None:
        pytest.skip("Chromium is not installed (Debian, Ubuntu: apt install chromium)")
    with open_browser() as browser:
        yield browser


@pytest.fixture
def open_notebook(jupyterlab: Lab, browser: Browser) -> Iterator[Callable[[str], OpenNotebook]]:
    """Open a notebook of the work folder in a page of its own; its kernel ends with the test."""
    opened: list[OpenNotebook] = []

    def open_(path: str) -> OpenNotebook:
        opened.append(OpenNotebook(new_page(browser), jupyterlab, path))
        return opened[-1]

    yield open_
    for notebook in opened:
        notebook.close()
