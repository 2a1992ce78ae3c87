"""Answers on disk: a file of JSON lines that a batch finds again after it was killed. Lesson 8.

Each answer is one line, written at once and forced to the disk (fsync) before anything else happens. The file
is only ever appended to, so whatever moment the process dies at, the lines before it are whole. The last one
may be half: it does not count, and the next line is begun below it.

    {"key": "a.txt", "prompt": "5d2e…", "text": "…", "usage": {"input": 40, …}, "seconds": 2.1, "error": null}
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from .tokens import Price, TokenUsage, cost

__all__ = ["Journal", "Prompt", "Result"]

Prompt: TypeAlias = str | Sequence[Mapping[str, Any]]

_BEGIN = b'{"key": '


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a job.

    state: "done"; "failed", and then `error` says why and `text` is what came before it; "not run", when the
        budget did not allow it. usage: the tokens of its request, None when it was refused or never sent.
    cost: in the currency of the price, in tokens without one. seconds: from its start to its end, the wait
        for a permit included.
    """

    key: str
    state: Literal["done", "failed", "not run"]
    text: str = ""
    usage: TokenUsage | None = None
    cost: float = 0.0
    seconds: float = 0.0
    error: Exception | None = None


class Journal:
    """The answers in the file at `path`, and those that are added. Close it, or use it by `with`.

    spent: what all lines together cost, failed ones too. Raises ValueError for a file that is no journal.
    """

    def __init__(self, path: str | os.PathLike[str], price: Price) -> None:
        self.spent = 0.0
        self._done: dict[tuple[str, str], Result] = {}
        before = Path(path).read_bytes() if Path(path).exists() else b""
        for number, line in enumerate(before.split(b"\n"), 1):
            if not (line.startswith(_BEGIN) or _BEGIN.startswith(line)):
                raise ValueError(
                    f"{path} holds something else than answers, see line {number}: take a new file"
                )
            self._take(line, price)
        self._file = Path(path).open("ab", buffering=0)  # noqa: SIM115  (closed by `close`)
        if before and not before.endswith(b"\n"):
            self._file.write(b"\n")

    def _take(self, line: bytes, price: Price) -> None:
        try:
            entry = json.loads(line)
            usage = TokenUsage(**entry["usage"]) if entry["usage"] else None
            paid = cost(usage, price) if usage else 0.0
            result = Result(entry["key"], "done", entry["text"], usage, paid, entry["seconds"])
            id, error = (entry["key"], entry["prompt"]), entry["error"]
        except (ValueError, TypeError, KeyError):
            return  # half a line: the process was killed while it was written
        self.spent += paid
        if error is None:
            self._done[id] = result

    def find(self, key: str, prompt: Prompt) -> Result | None:
        """The answer to exactly this prompt, if the file has it."""
        return self._done.get((key, _fingerprint(prompt)))

    def add(self, prompt: Prompt, result: Result) -> None:
        """Write one line. It is on the disk when this returns: a short stop of the event loop."""
        usage = asdict(result.usage) if result.usage else None
        error = f"{type(result.error).__name__}: {result.error}" if result.error else None
        entry = {
            "key": result.key,
            "prompt": _fingerprint(prompt),
            "text": result.text,
            "usage": usage,
            "seconds": round(result.seconds, 3),
            "error": error,
        }
        self._file.write(json.dumps(entry).encode() + b"\n")
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def _fingerprint(prompt: Prompt) -> str:
    """Tells a prompt from another one. The prompt itself is not in the file: it may be long, or private."""
    return hashlib.sha256(json.dumps(prompt, sort_keys=True).encode()).hexdigest()[:16]
