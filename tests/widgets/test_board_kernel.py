"""The board in a real kernel, spoken to as JupyterLab does: what is shown, what clicks do, what stays."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import nbformat
import pytest
from jupyter_client.manager import start_new_kernel

from tests.notebooks.run import Client

from .test_kernel import WIDGET, Cell, click

SETUP = """
import asyncio
from comm import get_comm_manager
from streamlib.widgets import Board
from tests.widgets.scripted import *
from contextlib import AsyncExitStack
servers = AsyncExitStack()
server = await servers.enter_async_context(serving(*answer("Hel", "lo")))
hanging = await servers.enter_async_context(serving(ROLE, event("Hel"), HANG))
"""
NEW = "board = Board(model='model-1', base_url={}.base_url)\n"
LEFT = """
def tasks():
    return sum("streamlib" in repr(task) for task in asyncio.all_tasks())
await until(lambda: server.open_connections + hanging.open_connections + tasks() == 0)
print(len(get_comm_manager().comms), tasks(), server.open_connections, hanging.open_connections)
"""


class AnyCell(Cell):
    """A cell that also sees what the clicks on its widgets bring about."""

    def until(self, condition: Any) -> None:
        deadline = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < deadline, [message["msg_type"] for message in self.messages]
            message = self.client.get_iopub_msg(timeout=30)
            mine = message["parent_header"].get("msg_id") == self.id
            if mine or message["msg_type"] in ("comm_msg", "update_display_data"):
                self.messages.append(message)


@pytest.fixture(scope="module")
def kernel() -> Iterator[Any]:
    """Runs code as a cell of the notebook: with the name that JupyterLab gives to a cell."""
    manager, client = start_new_kernel(kernel_name="python3")
    try:

        def run(code: str, name: str = "a cell") -> Cell:
            content = {"code": code, "silent": False, "store_history": True, "allow_stdin": False}
            message = client.session.msg("execute_request", content, metadata={"cellId": name})
            client.shell_channel.send(message)
            return AnyCell(client, message["header"]["msg_id"])

        run.manager, run.client = manager, client  # type: ignore[attr-defined]
        setup = run(SETUP).finish()
        assert not setup.of("error"), setup.of("error")
        yield run
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def button(cell: Cell, words: str) -> str:
    """The model id of a button."""
    return next(
        content["comm_id"]
        for content in cell.of("comm_open")
        if content["data"]["state"].get("description") == words
    )


def shown(cell: Cell) -> str:
    """All that the widgets of a cell were told to show."""
    return str([content["data"] for content in cell.of("comm_msg")])


def stills(cell: Cell) -> list[dict[str, str]]:
    """What the notebook was told to keep, one after the other."""
    return [content["data"] for content in cell.of("update_display_data")]


def test_as_the_last_line_of_a_cell_it_stands_there_with_its_controls(kernel: Any) -> None:
    cell = kernel(NEW.format("server") + "board").finish()
    still, live = (content["data"] for content in cell.of("display_data"))
    assert set(still) == {"text/html", "text/plain"}
    assert still["text/plain"] == "Board: no run yet"
    assert set(live) == {WIDGET}
    assert not cell.of("execute_result")
    cell.until(lambda: "<svg" in shown(cell))
    assert {"Start", "Stop", "Clear history"} <= {
        content["data"]["state"].get("description") for content in cell.of("comm_open")
    }


def test_a_click_on_start_makes_a_run(kernel: Any) -> None:
    cell = kernel(NEW.format("server") + "board").finish()
    click(kernel, button(cell, "Start"))
    cell.until(lambda: any("12 streams measured" in still["text/html"] for still in stills(cell)))
    assert "model-1, 4 at once" in stills(cell)[-1]["text/plain"]
    cell.until(lambda: "board.png" in shown(cell))
    assert kernel("print(len(board.runs), len(board.runs[0].whole))").finish().text == "1 12\n"


def test_a_click_on_stop_ends_it(kernel: Any) -> None:
    cell = kernel(NEW.format("hanging") + "board").finish()
    click(kernel, button(cell, "Start"))
    cell.until(lambda: "4 streaming, 0 waiting" in shown(cell))
    click(kernel, button(cell, "Stop"))
    cell.until(lambda: any("(+4 stopped)" in still["text/plain"] for still in stills(cell)))
    assert kernel(LEFT, "count").finish().text.endswith(" 0\n")


def test_an_awaited_run_stands_where_the_board_stands_else_in_its_own_cell(kernel: Any) -> None:
    kernel(NEW.format("server") + "board", "first").finish()
    second = kernel("run = await board.run('x', requests=2); print(len(run.whole))", "second").finish()
    assert second.text == "2\n"
    assert not second.of("display_data")
    code = NEW.format("server") + "run = await board.run('x', requests=2)"
    third = kernel(code, "third").finish()
    assert len(third.of("display_data")) == 2
    assert "<svg" in stills(third)[-1]["text/html"]
    kernel("board.close()").finish()


def test_a_cell_that_runs_again_shows_the_board_again(kernel: Any) -> None:
    kernel(NEW.format("server"), "first").finish()
    for _ in range(2):
        cell = kernel("run = await board.run('x', requests=2)", "second").finish()
        assert len(cell.of("display_data")) == 2


def test_close_leaves_the_picture_and_nothing_else(kernel: Any) -> None:
    before = kernel(LEFT).finish().text
    kernel(NEW.format("server") + "await board.run(requests=2)\nboard.close()", "closed").finish()
    assert kernel(LEFT).finish().text == before
    assert before.endswith(" 0 0 0\n")
    again = kernel("board", "elsewhere").finish()
    again.until(lambda: any("<svg" in still["text/html"] for still in stills(again)))


def test_running_the_cell_again_leaves_nothing_of_the_board_before(kernel: Any) -> None:
    code = NEW.format("hanging") + "board"
    cell = kernel(code).finish()
    cell.until(lambda: "<svg" in shown(cell))
    before = kernel(LEFT, "count").finish().text
    click(kernel, button(cell, "Start"))
    cell.until(lambda: "4 streaming, 0 waiting" in shown(cell))
    again = kernel(code).finish()
    again.until(lambda: "<svg" in shown(again))
    assert kernel(LEFT, "count").finish().text == before


def test_an_interrupt_keeps_what_had_come(kernel: Any) -> None:
    cell = kernel(NEW.format("hanging") + "await board.run('x', requests=2)")
    cell.until(lambda: "2 streaming, 0 waiting" in shown(cell))
    kernel.manager.interrupt_kernel()
    cell.finish()
    assert cell.of("error")[0]["ename"] in ("CancelledError", "KeyboardInterrupt")
    assert kernel("print(len(board.runs[0].results))").finish().text == "2\n"
    assert kernel(LEFT).finish().text.endswith(" 0 0 0\n")


def test_nbclient_keeps_the_picture_and_the_table() -> None:
    code = SETUP + NEW.format("server") + "run = await board.run('x', requests=2)"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    Client(notebook, kernel_name="python3").execute()
    still = notebook.cells[0].outputs[0].data
    assert "<svg" in still["text/html"]
    assert still["text/plain"].startswith("Board: 1 run")
