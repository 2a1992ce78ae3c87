"""The verdict on one answer: its state, the sentence that explains it, and the card that shows both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ..card import Block, Card, Mood, Text

State = Literal["not attempted", "right", "wrong", "raised", "stuck"]

_MOOD: dict[State, Mood] = {
    "not attempted": "neutral",
    "right": "good",
    "wrong": "bad",
    "raised": "bad",
    "stuck": "bad",
}


class CheckFailed(AssertionError):
    """A check that a graded cell requires did not pass. In a notebook it shows its message alone."""

    def _render_traceback_(self) -> list[str]:
        return [str(self)]


@dataclass(frozen=True)
class Verdict:
    """What the judge says of one answer.

    state: "not attempted", "right", "wrong", "raised" (an exception of the answer) or "stuck" (it never
        ends).
    message: why, in a sentence or two. mistake: the id of a recognised mistake, or None.
    details: what else the card shows: a picture, what was printed.
    """

    exercise: str
    state: State
    message: str
    mistake: str | None = None
    details: Sequence[Block] = ()

    @property
    def passed(self) -> bool:
        return self.state == "right"

    def __bool__(self) -> bool:
        return self.passed

    def require(self) -> None:
        """Nothing when right, else raise `CheckFailed`. For graded cells."""
        if not self.passed:
            raise CheckFailed(f"{self.exercise}: {self.state}. {self.message}")

    @property
    def card(self) -> Card:
        heading = f"{self.exercise}: {self.state}"
        return Card(heading, _MOOD[self.state], [Text(self.message), *self.details])

    def __repr__(self) -> str:
        return repr(self.card)

    def _repr_html_(self) -> str:
        return self.card._repr_html_()
