"""Attempts survive a restart, a torn line, another program's line and a disk that cannot be written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from streamlib.checker import Attempts, Verdict
from streamlib.checker.progress import attempts_file


def wrong(name: str = "take") -> Verdict:
    return Verdict(name, "wrong", "No.")


def test_attempts_are_counted_over_restarts() -> None:
    for _ in range(3):
        Attempts().add_check(wrong())
    Attempts().add_check(wrong("other"))
    assert Attempts().of("take").attempts == 3
    assert not Attempts().of("take").solved


def test_solved_once_is_solved() -> None:
    attempts = Attempts()
    attempts.add_check(Verdict("take", "right", "Yes."))
    attempts.add_check(wrong())
    assert attempts.of("take").solved


def test_a_stub_is_no_attempt() -> None:
    attempts = Attempts()
    attempts.add_check(Verdict("take", "not attempted", "Not yet."))
    assert attempts.of("take").attempts == 0


def test_hints_and_solution_requests_are_counted() -> None:
    attempts = Attempts()
    attempts.add_hint("take")
    attempts.add_hint("take")
    attempts.add_solution_request("take")
    assert (attempts.of("take").hints, attempts.of("take").solution_requests) == (2, 1)


def test_each_line_is_json_with_time_event_and_exercise() -> None:
    attempts = Attempts()
    attempts.add_check(Verdict("take", "wrong", "No.", "collects_first"))
    (line,) = attempts.path.read_text().splitlines()
    assert json.loads(line).keys() == {"time", "event", "exercise", "state", "mistake"}


@pytest.mark.parametrize(
    "foreign",
    [
        b'{"event": "check", "exerc',
        b"\xff\xfe not text\n",
        b"[1, 2]\n",
        b'"take"\n',
        b'{"exercise": "take"}\n',
        b'{"exercise": 5, "event": "check"}\n',
        b'{"exercise": "take", "event": "check"}\n',
        b'{"exercise": "take", "event": "dance"}\n',
        b"\n\n",
    ],
)
def test_a_torn_or_foreign_line_is_skipped(foreign: bytes) -> None:
    attempts = Attempts()
    attempts.add_check(wrong())
    with attempts.path.open("ab") as file:
        file.write(foreign)
    attempts.add_check(wrong())
    assert attempts.of("take").attempts == 2
    assert attempts.problem == ""


def test_lines_are_only_appended() -> None:
    attempts = Attempts()
    attempts.add_check(wrong())
    before = attempts.path.read_bytes()
    attempts.add_check(wrong())
    assert attempts.path.read_bytes().startswith(before)


def test_a_folder_that_cannot_be_written_is_a_problem_not_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    attempts = Attempts(tmp_path / "file" / "attempts.jsonl")
    attempts.add_check(wrong())
    assert "could not be saved" in attempts.problem
    assert attempts.of("take").attempts == 1  # for as long as the kernel lives


def test_the_folder_is_where_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMLIB_HOME", str(tmp_path / "here"))
    assert attempts_file() == tmp_path / "here" / "attempts.jsonl"
    monkeypatch.delenv("STREAMLIB_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert attempts_file() == tmp_path / ".streamlib" / "attempts.jsonl"
