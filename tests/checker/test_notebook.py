"""The judge in a real kernel: cells as a learner writes them, run by nbclient."""

from __future__ import annotations

import os
from typing import Any

import nbformat
import pytest

from tests.notebooks.run import Client

STUB = '''
from streamlib import check

def parse_sse_messages(raw: str) -> list[dict]:
    """The messages."""
    raise NotImplementedError

check(parse_sse_messages)
'''
WRONG = """
import json

def parse_sse_messages(raw: str) -> list[dict]:
    print("looking at", raw)
    return [json.loads(line[5:]) for line in raw.split("\\n") if line.startswith("data:")]

check(parse_sse_messages)
"""
RIGHT = WRONG.replace('"data:")]', '"data:") and line[5:].strip() != "[DONE]"]')
STUCK = """
def parse_sse_messages(raw: str) -> list[dict]:
    while True:
        try:
            print("still here")
        except BaseException:
            pass

check(parse_sse_messages)
"""
AFTERWARDS = """
import asyncio
await asyncio.sleep(0.2)
print("alive")
"""
GRADED = "check(parse_sse_messages).require()"


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """The cells of one notebook after a run."""
    sources = [STUB, WRONG, GRADED, RIGHT, GRADED, STUCK, AFTERWARDS]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    client = Client(notebook, timeout=60, kernel_name="python3", allow_errors=True)
    client.execute(env=os.environ | {"STREAMLIB_HOME": str(tmp_path_factory.mktemp("home"))})
    return list(notebook.cells)


def shown(cell: Any) -> tuple[str, str]:
    """The plain and the rich form of a cell's only output."""
    (output,) = cell.outputs
    assert output.output_type == "execute_result", output
    return output.data["text/plain"], output.data["text/html"]


def test_a_stub_is_not_attempted(cells: list[Any]) -> None:
    plain, rich = shown(cells[0])
    assert plain.startswith("○ parse_sse_messages: not attempted")
    assert "not attempted" in rich


def test_a_wrong_answer_shows_a_card_and_nothing_else(cells: list[Any]) -> None:
    plain, rich = shown(cells[1])
    assert plain.startswith("✗ parse_sse_messages: raised")
    assert "line 5" in plain
    assert "looking at data:" in plain
    assert "<details>" in rich


def test_a_graded_cell_fails_with_the_message_alone(cells: list[Any]) -> None:
    (output,) = cells[2].outputs
    assert (output.output_type, output.ename) == ("error", "CheckFailed")
    assert output.traceback == [output.evalue]
    assert output.evalue.startswith("parse_sse_messages: raised. For `parse_sse_messages(")


def test_a_redefined_answer_is_judged_anew(cells: list[Any]) -> None:
    plain, _ = shown(cells[3])
    assert plain.startswith("✓ parse_sse_messages: right")


def test_a_graded_cell_that_passes_is_silent(cells: list[Any]) -> None:
    assert cells[4].outputs == []


def test_a_stuck_answer_leaves_the_kernel_alive_and_silent(cells: list[Any]) -> None:
    plain, _ = shown(cells[5])
    assert plain.startswith("✗ parse_sse_messages: stuck")
    (output,) = cells[6].outputs
    assert output.text == "alive\n"
