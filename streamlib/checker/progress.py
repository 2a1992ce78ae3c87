"""What a learner has tried, kept over kernel restarts: one JSON object a line, only ever appended.

The file is `attempts.jsonl` in `$STREAMLIB_HOME` (default `~/.streamlib`). Each line has `time` (UTC, ISO
8601), `event` ("check", "hint" or "solution") and `exercise`; a check also has `state` and `mistake`. A line
that is torn, or that another program wrote, is skipped.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .verdict import Verdict


def attempts_file() -> Path:
    """Where the attempts are, now: the environment variable is read at each call."""
    home = os.environ.get("STREAMLIB_HOME")
    return (Path(home).expanduser() if home else Path.home() / ".streamlib") / "attempts.jsonl"


@dataclass
class Tally:
    """What is known of one exercise."""

    solved: bool = False
    attempts: int = 0  # checks that were wrong, raised, stuck or right; a stub does not count
    hints: int = 0
    solution_requests: int = 0


_unsaved: dict[Path, list[bytes]] = {}  # lines that could not be written; they last as long as the kernel


@dataclass
class Attempts:
    """The attempts file. `problem` says why the last write failed, or is empty."""

    path: Path = field(default_factory=attempts_file)
    problem: str = ""

    def tally(self) -> dict[str, Tally]:
        """What has happened so far, by exercise. A file that cannot be read counts as empty."""
        tallies: dict[str, Tally] = {}
        for line in self._lines():
            tally = tallies.setdefault(line["exercise"], Tally())
            match line["event"]:
                case "check" if line.get("state") in ("wrong", "raised", "stuck", "right"):
                    tally.attempts += 1
                    tally.solved = tally.solved or line["state"] == "right"
                case "hint":
                    tally.hints += 1
                case "solution":
                    tally.solution_requests += 1
        return tallies

    def of(self, exercise: str) -> Tally:
        return self.tally().get(exercise, Tally())

    def add_check(self, verdict: Verdict) -> None:
        self._add("check", verdict.exercise, state=verdict.state, mistake=verdict.mistake)

    def add_hint(self, exercise: str) -> None:
        self._add("hint", exercise)

    def add_solution_request(self, exercise: str) -> None:
        self._add("solution", exercise)

    def _add(self, event: str, exercise: str, **more: Any) -> None:
        """Append one line, in one write, so that two kernels do not mix their lines."""
        time = datetime.now(UTC).isoformat(timespec="seconds")
        line = json.dumps({"time": time, "event": event, "exercise": exercise, **more}).encode() + b"\n"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab+") as file:
                if file.tell() and file.seek(-1, os.SEEK_END) and file.read(1) != b"\n":
                    line = b"\n" + line  # the last line is torn: start a new one
                file.write(line)
            self.problem = ""
        except OSError as error:
            self.problem = f"Your progress could not be saved in {self.path}: {error.strerror or error}."
            _unsaved.setdefault(self.path, []).append(line)

    def _lines(self) -> list[dict[str, Any]]:
        try:
            raw = self.path.read_bytes()
        except OSError:
            raw = b""
        lines = []
        for piece in [*raw.splitlines(), *_unsaved.get(self.path, [])]:
            try:
                line = json.loads(piece)
            except ValueError:
                continue
            if (
                isinstance(line, dict)
                and isinstance(line.get("exercise"), str)
                and isinstance(line.get("event"), str)
            ):
                lines.append(line)
        return lines
