"""The views in a real kernel, spoken to as a front end does: what is shown, what a click does, what stays."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import nbformat
import psutil
import pytest
from jupyter_client.blocking import BlockingKernelClient
from jupyter_client.manager import start_new_kernel

from tests.notebooks.run import Client

SETUP = """
import asyncio
import psutil
from comm import get_comm_manager
from streamlib.chat import stream_chat
from streamlib.pipeline import sentences
from streamlib.widgets import Flow, Race, Retries, Wire
from tests.widgets.scripted import *
from contextlib import AsyncExitStack
servers = AsyncExitStack()
server = await servers.enter_async_context(serving(*answer("Hel", "lo")))
hanging = await servers.enter_async_context(serving(ROLE, event("Hel"), HANG))
"""
VIEWS = {
    "Race": "Race('Hi', model='m', base_url={}.base_url)",
    "Wire": "Wire('Hi', model='m', base_url={}.base_url)",
    "Flow": "Flow(stream_chat('Hi', model='m', base_url={}.base_url), sentences)",
    "Retries": "Retries('Hi', model='m', base_url={}.base_url)",
}
LEFT = """
print(len(get_comm_manager().comms), sum("streamlib" in repr(task) for task in asyncio.all_tasks()),
      server.open_connections, hanging.open_connections, len(psutil.Process().children(recursive=True)))
"""
NOTHING_LEFT = "0 0 0 0 1\n"  # the one process is the painter
STILL = """
from tests.widgets.test_view import Still
await Still()
"""
PAINTED = """
from streamlib.widgets.painter import painter
from tests.widgets.test_painter import whereabouts
print((await painter().paint(whereabouts, 1))[0])
"""
WIDGET = "application/vnd.jupyter.widget-view+json"


@dataclass
class Cell:
    """A cell that runs; its messages up to now."""

    client: BlockingKernelClient
    id: str
    messages: list[dict[str, Any]] = field(default_factory=list)

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [message["content"] for message in self.messages if message["msg_type"] == kind]

    @property
    def text(self) -> str:
        return "".join(content["text"] for content in self.of("stream"))

    @property
    def picture(self) -> dict[str, str]:
        """What the cell shows in the end."""
        updates = self.of("update_display_data")
        assert len(updates) == 1
        data: dict[str, str] = updates[0]["data"]
        return data

    def until(self, condition: Any) -> None:
        deadline = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < deadline, [message["msg_type"] for message in self.messages]
            message = self.client.get_iopub_msg(timeout=30)
            if message["parent_header"].get("msg_id") == self.id:
                self.messages.append(message)

    def finish(self) -> Cell:
        self.until(lambda: any(content["execution_state"] == "idle" for content in self.of("status")))
        return self

    def stop_button(self) -> str:
        """The model id of its Stop button, once a frame shows that text has come."""
        self.until(lambda: "Hel" in str([content["data"] for content in self.of("comm_msg")]))
        return next(
            content["comm_id"]
            for content in self.of("comm_open")
            if content["data"]["state"].get("_model_name") == "ButtonModel"
        )


@pytest.fixture(scope="module")
def kernel() -> Iterator[Any]:
    manager, client = start_new_kernel(kernel_name="python3")
    try:

        def run(code: str) -> Cell:
            return Cell(client, client.execute(code))

        run.manager, run.client = manager, client  # type: ignore[attr-defined]
        setup = run(SETUP).finish()
        assert not setup.of("error"), setup.of("error")
        yield run
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def click(kernel: Any, button: str) -> None:
    data = {"method": "custom", "content": {"event": "click"}}
    message = kernel.client.session.msg("comm_msg", {"comm_id": button, "data": data})
    kernel.client.shell_channel.send(message)


@pytest.mark.parametrize("view", VIEWS)
def test_an_awaited_view_ends_as_a_static_picture_and_leaves_nothing(kernel: Any, view: str) -> None:
    cell = kernel(f"await {VIEWS[view].format('server')}").finish()
    assert not cell.of("error")
    assert WIDGET in cell.of("display_data")[0]["data"]
    assert set(cell.picture) == {"text/html", "text/plain"}
    assert "<svg" in cell.picture["text/html"]
    assert cell.picture["text/plain"].startswith(view)
    assert not cell.of("execute_result")
    assert cell.text == ""
    assert kernel(LEFT).finish().text == NOTHING_LEFT


def test_the_first_picture_is_there_when_the_widget_is_shown(kernel: Any) -> None:
    cell = kernel("await Wire('Hi', model='m', base_url=server.base_url)").finish()
    kinds = [message["msg_type"] for message in cell.messages]
    opened = [content["data"]["state"] for content in cell.of("comm_open")]
    picture = next(state for state in opened if state.get("_model_name") == "HTMLModel")
    assert "<svg" in picture["value"]
    assert kinds.index("display_data") > kinds.index("comm_open")


@pytest.mark.parametrize("view", VIEWS)
def test_a_click_on_stop_closes_all_that_it_opened(kernel: Any, view: str) -> None:
    cell = kernel(f"await {VIEWS[view].format('hanging')}")
    click(kernel, cell.stop_button())
    cell.finish()
    assert "Stopped" in cell.picture["text/plain"]
    assert "Stopped" in cell.picture["text/html"]
    assert kernel(LEFT).finish().text == NOTHING_LEFT


def test_a_click_on_stop_while_the_cell_awaits(kernel: Any) -> None:
    cell = kernel("wire = await Wire('Hi', model='m', base_url=hanging.base_url); print('goes on')")
    click(kernel, cell.stop_button())
    cell.finish()
    assert cell.text == "goes on\n"
    assert "Stopped." in cell.picture["text/plain"]
    assert "Hel" in kernel("print(wire.answer)").finish().text
    assert kernel(LEFT).finish().text == NOTHING_LEFT


def test_an_interrupt_while_the_cell_awaits(kernel: Any) -> None:
    cell = kernel("await Wire('Hi', model='m', base_url=hanging.base_url)")
    cell.stop_button()
    kernel.manager.interrupt_kernel()
    cell.finish()
    assert cell.of("error")[0]["evalue"] == "Wire was interrupted"
    assert "Stopped." in cell.picture["text/plain"]
    assert kernel(LEFT).finish().text == NOTHING_LEFT


def test_without_await_the_cell_ends_and_the_view_goes_on(kernel: Any) -> None:
    cell = kernel("Wire('Hi', model='m', base_url=hanging.base_url)").finish()
    assert not cell.of("update_display_data")
    click(kernel, cell.stop_button())
    cell.until(lambda: cell.of("update_display_data"))
    assert "Stopped." in cell.picture["text/plain"]
    assert kernel(LEFT).finish().text == NOTHING_LEFT


def test_running_the_cell_again_stops_the_view_that_still_runs(kernel: Any) -> None:
    code = "Wire('Hi', model='m', base_url=hanging.base_url)"
    first = kernel(code)
    first.stop_button()
    second = kernel(code)
    button = second.stop_button()
    assert kernel("print(hanging.open_connections)").finish().text == "1\n"
    click(kernel, button)
    second.until(lambda: second.of("update_display_data"))
    assert kernel(LEFT).finish().text == NOTHING_LEFT


def test_a_picture_that_does_not_change_is_not_sent_again(kernel: Any) -> None:
    cell = kernel(STILL).finish()
    assert "drawn once" in str(cell.of("comm_open"))
    frames = [content["data"] for content in cell.of("comm_msg") if "drawn once" in str(content["data"])]
    assert frames == []
    assert "drawn once" in cell.picture["text/html"]


def test_a_kernel_that_ends_takes_the_painter_along() -> None:
    manager, client = start_new_kernel(kernel_name="python3")
    try:
        cell = Cell(client, client.execute(PAINTED)).finish()
        pid = int(cell.text)
        assert psutil.pid_exists(pid)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    assert psutil.wait_procs([psutil.Process(pid)] if psutil.pid_exists(pid) else [], timeout=30)[1] == []


def test_a_finished_view_shows_its_picture_again(kernel: Any) -> None:
    kernel("race = await Race('Hi', model='m', base_url=server.base_url)").finish()
    again = kernel("race").finish()
    data = again.of("display_data")[0]["data"]
    assert "<svg" in data["text/html"]
    assert data["text/plain"].startswith("Race")


def test_nbclient_keeps_the_static_picture_in_the_notebook() -> None:
    code = SETUP + "await Race('Hi', model='m', base_url=server.base_url)"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    Client(notebook, kernel_name="python3").execute()
    outputs = notebook.cells[0].outputs
    assert [output.output_type for output in outputs] == ["display_data"]
    assert set(outputs[0].data) == {"text/html", "text/plain"}
    assert outputs[0].data["text/plain"].startswith("Race: one prompt, two ways")
