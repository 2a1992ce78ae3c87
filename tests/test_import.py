"""What `import streamlib` costs, and which module may import which (the layout of the house)."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import streamlib

PACKAGE = Path(streamlib.__file__).parent
HEAVY = [
    "matplotlib",
    "numpy",
    "openai",
    "httpx2",
    "fastapi",
    "uvicorn",
    "ipywidgets",
    "IPython",
    "tiktoken",
    "asyncio",
]

# A learner opens a lesson's module after the lesson: the machinery may import it, never the other way round.
MACHINERY = {"checker", "exercises", "widgets", "sim", "connect", "lab", "doctor"}
# How things look. Everybody may import it, and it imports nothing but itself.
LOOKS = {"palette", "drawing", "card"}
LESSONS = sorted(
    path.stem
    for path in PACKAGE.glob("*.py")
    if path.stem not in MACHINERY | LOOKS | {"__init__", "__main__"}
)


def test_import_streamlib_imports_nothing_heavy() -> None:
    code = "import streamlib, sys; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert [name for name in HEAVY if name in loaded] == []


@pytest.mark.parametrize("command", ["--help", "--version"])
def test_the_command_line_imports_nothing_heavy(command: str) -> None:
    code = (
        "import sys\nfrom streamlib.__main__ import main\n"
        f"try: main(['{command}'])\nexcept SystemExit: print(*sys.modules)"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert [name for name in HEAVY if name in loaded] == []


@pytest.mark.parametrize("name", ["check", "hint", "solution", "progress"])
def test_the_four_functions_of_a_lesson_load_on_first_use(name: str) -> None:
    assert callable(getattr(streamlib, name))


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'chekc'"):
        streamlib.chekc  # noqa: B018


def imports(path: Path) -> Iterator[str]:
    """The modules of the package, as paths like ``sim.core``, that a file imports, wherever it does."""
    package = [*path.relative_to(PACKAGE).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
            yield from (name.removeprefix("streamlib.") for name in names if name.startswith("streamlib."))
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                base = package[: len(package) - node.level + 1]
            elif (node.module or "").split(".")[0] == "streamlib":
                base = []
            else:
                continue
            module = (node.module or "").removeprefix("streamlib").strip(".")
            start = [*base, *([module] if module else [])]
            # `from . import sse` names a module, `from .sse import encode` does not
            yield from (
                ".".join([*start, alias.name]) if not module else ".".join(start) for alias in node.names
            )


def files(part: str) -> list[Path]:
    """The files of one part of the package: a module, or a folder."""
    single = PACKAGE / f"{part}.py"
    return [single] if single.exists() else sorted((PACKAGE / part).rglob("*.py"))


def used_by(part: str) -> dict[str, set[str]]:
    """File -> parts of the package that it imports, other than its own."""
    found = {}
    for path in files(part):
        parts = {name.split(".")[0] for name in imports(path)} - {part, "__version__"}
        found[str(path.relative_to(PACKAGE))] = parts
    return found


@pytest.mark.parametrize("lesson", LESSONS)
def test_a_lesson_module_imports_no_machinery(lesson: str) -> None:
    for path, parts in used_by(lesson).items():
        assert not parts & MACHINERY, path


@pytest.mark.parametrize(
    ("part", "forbidden"),
    [
        ("sse", set(LESSONS) | MACHINERY),
        ("checker", {"exercises"}),
        ("sim", (set(LESSONS) | MACHINERY) - {"sse", "sim"}),
        *((part, set(LESSONS) | MACHINERY) for part in sorted(LOOKS)),
    ],
)
def test_imports_run_downhill_only(part: str, forbidden: set[str]) -> None:
    for path, parts in used_by(part).items():
        assert not parts & forbidden, path


def test_lesson_modules_import_each_other_in_no_circle() -> None:
    graph = {lesson: set().union(*used_by(lesson).values()) & set(LESSONS) for lesson in LESSONS}
    done: set[str] = set()
    while ready := {lesson for lesson in graph.keys() - done if graph[lesson] <= done}:
        done |= ready
    assert done == graph.keys(), f"a circle among {sorted(graph.keys() - done)}"
