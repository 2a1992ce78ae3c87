"""The README keeps its word: its program runs, its commands exist, its links lead somewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from streamlib.__main__ import build_parser

TOP = Path(__file__).resolve().parents[1]
README = (TOP / "README.md").read_text(encoding="utf-8")
CONTRIBUTING = (TOP / "CONTRIBUTING.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("program", re.findall(r"```python\n(.*?)```", README, re.DOTALL))
def test_its_program_runs(program: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "stop" in done.stdout


@pytest.mark.parametrize("text", [README, CONTRIBUTING], ids=["README", "CONTRIBUTING"])
def test_links_lead_somewhere(text: str) -> None:
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if not re.match(r"[a-z]+:", link)]
    assert [link for link in links if not (TOP / link).exists()] == []


@pytest.mark.parametrize(
    "command", sorted(set(re.findall(r"streamlib ((?:lab|serve|doctor|progress)\b[^`\n]*)", README)))
)
def test_a_command_it_names_is_one(command: str) -> None:
    words = re.split(r" (?=[a-z]+ )|[.,:]", command)[0].split()  # up to where the prose goes on
    build_parser().parse_args(words)


@pytest.mark.parametrize("target", sorted(set(re.findall(r"make ([a-z]+)", README + CONTRIBUTING))))
def test_a_make_target_it_names_is_one(target: str) -> None:
    assert re.search(rf"^{target}:", (TOP / "Makefile").read_text(), re.MULTILINE)


def test_its_table_lists_the_lessons_that_there_are() -> None:
    linked = re.findall(r"^\| \d+ \| \[[^\]]+\]\(notebooks/([\w.]+)\)", README, re.MULTILINE)
    assert linked == sorted(path.name for path in (TOP / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize(
    "module", re.findall(r"`(\w+)`", "".join(re.findall(r"^\| \d+ \| \[.*$", README, re.MULTILINE)))
)
def test_a_module_of_a_lesson_is_there(module: str) -> None:
    assert (TOP / "streamlib" / f"{module}.py").is_file()
