"""What every notebook has in common, on disk and on the page, as far as a program can see it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import nbformat
import pytest

from streamlib import exercises

from .clean import cleaned
from .run import NOTEBOOKS, checked_name, exercise_cells, lessons, parsed, read, stub

each_notebook = pytest.mark.parametrize("path", lessons(), ids=lambda path: path.stem)
each_lesson = pytest.mark.parametrize(
    "path", [path for path in lessons() if "01" <= path.stem[:2] <= "09"], ids=lambda path: path.stem
)

FIRST_CELL = "from streamlib.connect import connect\n\nmodel = connect()"
LONGEST_CELL = 30
MODEL_NAME = re.compile(
    r"\b(gpt-\d|o[1345](-mini|-preview)?\b|claude-|gemini-|llama-?\d|qwen|mistral-|deepseek-|sim-1)",
    re.IGNORECASE,
)


def code_cells(path: Path) -> list[str]:
    return [cell.source for cell in read(path).cells if cell.cell_type == "code"]


def text_cells(path: Path) -> list[str]:
    return [cell.source for cell in read(path).cells if cell.cell_type == "markdown"]


def headings(path: Path) -> list[str]:
    return [line for cell in text_cells(path) for line in cell.splitlines() if re.match("#+ ", line)]


def test_lessons_are_numbered_without_a_gap() -> None:
    assert [path.stem[:2] for path in lessons()] == [f"{number:02d}" for number in range(len(lessons()))]


@each_notebook
def test_form_on_disk(path: Path) -> None:
    """No outputs, no counts, minimal metadata, one order. Mend: python -m tests.notebooks.clean NOTEBOOK"""
    content = path.read_text(encoding="utf-8")
    if content != cleaned(content):  # not an assert: its diff of two whole notebooks helps nobody
        pytest.fail(f"run: python -m tests.notebooks.clean notebooks/{path.name}")


@each_notebook
def test_is_a_valid_notebook_with_unique_cell_ids(path: Path) -> None:
    notebook = read(path)
    nbformat.validate(notebook)
    ids = [cell.id for cell in notebook.cells]
    assert len(set(ids)) == len(ids)


@each_notebook
def test_opens_with_its_title_and_the_first_cell_of_every_lesson(path: Path) -> None:
    first = read(path).cells[0]
    assert first.cell_type == "markdown"
    assert first.source.startswith("# ")
    assert code_cells(path)[0] == FIRST_CELL
    assert len([line for line in headings(path) if line.startswith("# ")]) == 1


@each_notebook
def test_no_code_cell_is_too_long(path: Path) -> None:
    long = [source for source in code_cells(path) if len(source.splitlines()) > LONGEST_CELL]
    assert not long


@each_notebook
def test_no_code_cell_is_empty(path: Path) -> None:
    assert all(source.strip() for source in code_cells(path))


@each_notebook
def test_no_model_name_is_typed(path: Path) -> None:
    found = [
        match.group() for cell in read(path).cells for match in [MODEL_NAME.search(cell.source)] if match
    ]
    assert not found, "model.name comes from the first cell"


@each_notebook
def test_links_to_other_files_lead_somewhere(path: Path) -> None:
    links = [link for cell in text_cells(path) for link in re.findall(r"\]\(([^)#\s]+)", cell)]
    local = [link for link in links if not re.match(r"[a-z]+:", link)]
    assert not [link for link in local if not (NOTEBOOKS / link).exists()]


@each_notebook
def test_the_exercises_are_those_of_its_module(path: Path) -> None:
    number = int(path.stem[:2])
    known = list(exercises.lesson(number)) if number in exercises.lesson_numbers() else []
    assert sorted(exercise_cells(read(path)).values()) == sorted(known)


@each_notebook
def test_check_is_called_only_at_the_end_of_a_cell(path: Path) -> None:
    for source in code_cells(path):
        calls = [
            node
            for node in ast.walk(parsed(source))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "check"
        ]
        assert len(calls) == (1 if checked_name(source) else 0), source


@each_notebook
def test_what_the_cards_name_is_imported(path: Path) -> None:
    """A card says `hint("name")`, a later one `solution("name")`: they run where they are typed."""
    if exercise_cells(read(path)):
        imports = re.findall("^from streamlib import (.*)$", "\n".join(code_cells(path)), re.MULTILINE)
        assert {"check", "hint", "solution"} <= {name for names in imports for name in names.split(", ")}


@each_notebook
def test_a_stub_says_what_to_do_and_is_left_to_do(path: Path) -> None:
    notebook = read(path)
    for index, name in exercise_cells(notebook).items():
        source = notebook.cells[index].source
        function = stub(source, name)
        assert function is not None, f"{name} is not defined in the cell that checks it"
        assert ">>> " in (ast.get_docstring(function) or ""), f"{name}: the docstring shows no example"
        assert isinstance(function.body[-1], ast.Raise), (
            f"{name}: the stub does not end in NotImplementedError"
        )
        assert function.returns is not None, f"{name}: no return type"


@each_lesson
def test_a_lesson_has_what_every_lesson_has(path: Path) -> None:
    assert any("What went wrong here" in line for line in headings(path))
    assert headings(path)[-1] == "## What to remember"
    assert len(re.findall("^- ", text_cells(path)[-1], re.MULTILINE)) <= 5
    assert 1 <= len(exercise_cells(read(path))) <= 5
    assert re.search(r"`streamlib[./]\w+", text_cells(path)[-1]), (
        "the last lines name the module that does it"
    )
