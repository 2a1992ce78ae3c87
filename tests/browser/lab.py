"""A real JupyterLab in headless Chromium, as a learner has it in front of them.

``running_lab(folder)`` starts the server, ``open_browser()`` the browser; ``OpenNotebook`` is one notebook on
the screen: run it, look at its cells, take pictures of it.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from playwright.sync_api import Browser, Page, expect, sync_playwright

CHROMIUM_ARGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WIDTH, HEIGHT = 1280, 1000

# Milliseconds for something to appear. It takes seconds; but a new machine that still compiles everything, or
# a busy one, is no reason for a test to fail.
PATIENCE = 180_000
expect.set_options(timeout=PATIENCE)

# Every cell stays in the page, so that a picture shows all of them, and no news of JupyterLab's lies over it.
SETTINGS = {
    "@jupyterlab/notebook-extension:tracker": {"windowingMode": "none", "scrollPastEnd": False},
    "@jupyterlab/apputils-extension:notification": {"checkForUpdates": False, "fetchNews": "false"},
}

CELLS = """() => {
  const panel = window.jupyterapp.shell.currentWidget;
  return {
    kernel: panel.sessionContext.session?.kernel?.status ?? 'none',
    cells: panel.content.widgets.filter(w => w.model.type === 'code').map(w => ({
      source: w.model.sharedModel.getSource(),
      count: w.model.executionCount,
      state: w.model.executionState,
      outputs: w.model.outputs.toJSON(),
    })),
  };
}"""

PROBLEMS = """() => {
  const problems = [];
  const failed = /^\\s*(Error (displaying|creating) widget|Loading widget|No JavaScript renderer)/;
  for (const output of document.querySelectorAll('.jp-Notebook .jp-OutputArea-output'))
    if (output.checkVisibility() && failed.test(output.innerText))
      problems.push('widget: ' + output.innerText.slice(0, 300));
  for (const image of document.querySelectorAll('.jp-Notebook img'))
    if (!image.complete || image.naturalWidth === 0)
      problems.push('broken picture: ' + image.outerHTML.slice(0, 200));
  for (const dialog of document.querySelectorAll('.jp-Dialog'))
    problems.push('dialog: ' + dialog.innerText.slice(0, 300));
  return problems;
}"""


@dataclass(frozen=True, slots=True)
class Lab:
    """A JupyterLab server: where it is and its token."""

    url: str
    token: str


@contextmanager
def running_lab(folder: Path, *, environment: dict[str, str] | None = None) -> Iterator[Lab]:
    """``streamlib lab`` on the work folder `folder`, away from the user's own Jupyter settings."""
    with tempfile.TemporaryDirectory(prefix="lab-") as name:
        home = Path(name)
        (home / "config" / "labconfig").mkdir(parents=True)
        (home / "config" / "labconfig" / "default_setting_overrides.json").write_text(json.dumps(SETTINGS))
        (home / "config" / "jupyter_lab_config.json").write_text(
            json.dumps({"LabApp": {"expose_app_in_browser": True}})
        )
        env = {
            name: value for name, value in os.environ.items() if not name.startswith(("OPENAI_", "JUPYTER_"))
        }
        env |= {
            "JUPYTER_CONFIG_DIR": str(home / "config"),
            "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
            "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
            "STREAMLIB_HOME": str(home / "streamlib"),
        } | (environment or {})
        # Several that look for a free port at the same time may find the same one.
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = str(free.getsockname()[1])
        command = [sys.executable, "-m", "streamlib", "lab", "--no-browser", "--work", str(folder)]
        command += ["--port", port]
        with (home / "log").open("wb") as log:
            server = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            yield _wait_for_server(server, home)
        finally:
            server.terminate()
            try:
                server.wait(10)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def _wait_for_server(server: subprocess.Popen[bytes], home: Path) -> Lab:
    deadline = time.monotonic() + PATIENCE / 1000
    while time.monotonic() < deadline:
        for path in (home / "runtime").glob("jpserver-*.json"):
            try:
                facts = json.loads(path.read_text())
            except ValueError:  # written this instant
                continue
            with suppress(OSError):  # it writes this file, and then looks whether it gets its port
                socket.create_connection(("127.0.0.1", facts["port"]), timeout=5).close()
                if server.poll() is None:
                    return Lab(url=facts["url"], token=facts["token"])
        if server.poll() is not None:
            break
        time.sleep(0.1)
    raise RuntimeError(f"JupyterLab did not start:\n{(home / 'log').read_text()}")


def find_chromium() -> str | None:
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@contextmanager
def open_browser() -> Iterator[Browser]:
    """Headless Chromium."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=CHROMIUM_ARGS)
        try:
            yield browser
        finally:
            browser.close()


class OpenNotebook:
    """One notebook, open in JupyterLab, with its kernel."""

    def __init__(self, page: Page, lab: Lab, path: str, *, dark: bool = False) -> None:
        self.page = page
        # A workspace of its own: else JupyterLab also opens the tabs of the page before.
        page.goto(f"{lab.url}lab/workspaces/{uuid4().hex}/tree/{path}?token={lab.token}")
        page.wait_for_function("() => window.jupyterapp?.shell.currentWidget?.context?.isReady")
        self.wait_for_kernel()
        self.command("application:toggle-left-area")
        if dark:
            self.command("apputils:change-theme", {"theme": "JupyterLab Dark"})

    def wait_for_kernel(self) -> None:
        """Until the kernel has started and is idle: JupyterLab drops a cell that is run before."""
        status = "window.jupyterapp.shell.currentWidget.sessionContext.session?.kernel?.status"
        self.page.wait_for_function(f"() => {status} === 'idle'")

    def command(self, name: str, args: dict[str, Any] | None = None, *, wait: bool = True) -> None:
        """Run one of JupyterLab's commands, as its menus do."""
        call = f"window.jupyterapp.commands.execute({name!r}, {json.dumps(args or {})})"
        self.page.evaluate(f"async () => {{ {'await ' if wait else ''}{call}; }}")

    def close(self) -> None:
        """Shut the kernel down and close the page; what was typed or run is not saved."""
        self.page.evaluate(
            "async () => { await window.jupyterapp.shell.currentWidget.sessionContext.shutdown(); }"
        )
        self.page.close()

    def cells(self) -> dict[str, Any]:
        """The kernel's status and every code cell: source, execution count, state, outputs."""
        state: dict[str, Any] = self.page.evaluate(CELLS)
        return state

    def run_all(self, *, timeout: float = 300, while_running: Any = None) -> list[dict[str, Any]]:
        """Run > Run All Cells; returns the code cells when all have run, or one has raised."""
        self.command("notebook:run-all-cells", wait=False)
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if while_running is not None:
                while_running()
            self.page.wait_for_timeout(250)
            state = self.cells()
            cells = [cell for cell in state["cells"] if cell["source"].strip()]
            raised = any(output["output_type"] == "error" for cell in cells for output in cell["outputs"])
            all_ran = all(cell["count"] and cell["state"] != "running" for cell in cells)
            if state["kernel"] == "idle" and (all_ran or raised):
                self.settle()
                return self.cells()["cells"]  # type: ignore[no-any-return]
        raise TimeoutError(
            f"not all cells ran in {timeout:.0f} s; the first without a number:\n" + _first_unrun(cells)
        )

    def settle(self, *, quiet: float = 1.0, timeout: float = 20) -> None:
        """Wait until the outputs on the page have not changed for `quiet` seconds."""
        html, since, deadline = "", time.monotonic(), time.monotonic() + timeout
        while time.monotonic() < deadline and time.monotonic() - since < quiet:
            self.page.wait_for_timeout(200)
            now = self.page.evaluate(
                "() => document.querySelector('.jp-Notebook').innerHTML.length.toString()"
            )
            if now != html:
                html, since = now, time.monotonic()

    def problems(self, *, patience: float = 20) -> list[str]:
        """What a learner would see go wrong: errors, widgets not drawn, broken pictures, open dialogs.

        What is still being drawn is no problem: it has `patience` seconds.
        """
        raised = [
            f"{output['ename']}: {output['evalue']}\nin the cell\n{cell['source']}"
            for cell in self.cells()["cells"]
            for output in cell["outputs"]
            if output["output_type"] == "error"
        ]
        deadline = time.monotonic() + patience
        while (seen := self.page.evaluate(PROBLEMS)) and time.monotonic() < deadline:
            self.page.wait_for_timeout(250)
        return raised + seen

    def shoot(self, folder: Path, *, prefix: str = "") -> list[Path]:
        """The whole notebook as numbered pictures, one screen each; each begins with the last one's end."""
        folder.mkdir(parents=True, exist_ok=True)
        scroller = "document.querySelector('.jp-NotebookPanel:not(.lm-mod-hidden) .jp-WindowedPanel-outer')"
        top, pictures = 0, []
        while True:
            self.page.evaluate(f"() => {{ {scroller}.scrollTop = {top}; }}")
            self.page.wait_for_timeout(250)
            path = folder / f"{prefix}{len(pictures) + 1:02d}.png"
            self.page.screenshot(path=path)
            pictures.append(path)
            height, visible = self.page.evaluate(f"() => [{scroller}.scrollHeight, {scroller}.clientHeight]")
            if top + visible >= height - 1 or len(pictures) >= 60:
                return pictures
            top += visible - 40


def new_page(browser: Browser) -> Page:
    """A new tab. All are of one session: what JupyterLab is made of is fetched and compiled once."""
    session = browser.contexts[0] if browser.contexts else browser.new_context()
    page = session.new_page()
    page.set_viewport_size({"width": WIDTH, "height": HEIGHT})
    page.set_default_timeout(PATIENCE)
    return page


def _first_unrun(cells: list[dict[str, Any]]) -> str:
    return next((cell["source"] for cell in cells if not cell["count"]), "(all have a number)")
