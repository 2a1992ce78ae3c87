"""What a picture of the board is drawn from: runs that are over and loads that run -> a `Scene`. Lesson 7.

It is made in the loop that receives, at most 12 times a second, and sent to the painter process: plain
numbers, and no more of them than the picture shows.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from .board_run import (
    Run,
    Summary,
    by_label,
    failures,
    rates,
    remarks,
    tally_of,
    together_of,
    why_invalid,
)

if TYPE_CHECKING:  # the painter has no use for it
    from .board_load import Load

# (seconds to the first token, tokens per second) of stream after stream: x, y, x, y, …
# An array, and no tuple of pairs: it is copied and pickled as one block of bytes.
Points: TypeAlias = "array[float]"


@dataclass(frozen=True, slots=True)
class Group:
    """What the picture shows of one label."""

    summary: Summary
    done: Points
    streaming: Points
    waiting: tuple[float, ...]  # the seconds that each has waited
    failed: Points
    faint: Points  # of invalid runs, and stopped: shown, counted nowhere
    rates: tuple[tuple[float, float], ...]  # tokens/s of all streams of its last run, over its seconds


@dataclass(frozen=True, slots=True)
class Scene:
    """All that a picture is drawn from."""

    title: str
    groups: tuple[Group, ...]
    remarks: tuple[str, ...]
    seconds: float  # how long the longest run took


class Ended:
    """What the streams of one label come to that have ended: of runs that are over, and of loads that run."""

    def __init__(self, over: Sequence[Run], loads: Sequence[Load]) -> None:
        self.over, self.loads = list(over), list(loads)
        self.tally = tally_of(over)
        self.together, self.invalid, self.remarks = together_of(over), why_invalid(over), remarks(over)
        self.taken = [0 for _ in loads]  # how many of each load's results

    def is_of(self, over: Sequence[Run], loads: Sequence[Load]) -> bool:
        """Whether these are the runs and loads that it was made of: all but the new results is known."""
        return (
            len(over) == len(self.over)
            and all(a is b for a, b in zip(over, self.over, strict=True))
            and loads == self.loads
        )

    def take(self) -> None:
        """What has ended since."""
        for place, load in enumerate(self.loads):
            for result in load.results[self.taken[place] :]:
                self.tally.add(result)
            self.taken[place] = len(load.results)


def make_scene(over: Sequence[Run], loads: Sequence[Load], known: dict[str, Ended]) -> Scene:
    """The scene of this moment. `known`, by label, is what was worked out for the scenes before."""
    runs = by_label(over)
    running = by_label(loads)
    labels = dict.fromkeys((*runs, *running))
    groups = tuple(_group(label, runs.get(label, []), running.get(label, []), known) for label in labels)
    words = [word for label in runs for word in known[label].remarks]
    words += [word for load in loads for word in failures(load.label, load.errors)]
    seconds = max((group.rates[-1][0] for group in groups if group.rates), default=0.0)
    return Scene(_title(over, loads), groups, tuple(dict.fromkeys(words)), seconds)


def _group(label: str, over: Sequence[Run], loads: Sequence[Load], known: dict[str, Ended]) -> Group:
    if label not in known or not known[label].is_of(over, loads):
        known[label] = Ended(over, loads)
    ended = known[label]
    ended.take()
    tally = ended.tally
    together = [*ended.together, *(load.tokens / load.clock() for load in loads if load.tokens)]
    streaming: Points = array("d")
    waiting: list[float] = []
    for load in loads:
        now = load.clock()
        for stream in load.streams:
            rate = stream.rate(now)
            if rate is None:
                waiting.append(stream.ttft(now))
            else:
                streaming.extend((stream.ttft(now), rate))
    return Group(
        tally.summary(label, together, ended.invalid),
        tally.done[:],  # the tally grows, a scene does not
        streaming,
        tuple(waiting),
        tally.broken[:],
        tally.faint[:],
        rates(loads[-1].bins, loads[-1].clock()) if loads else over[-1].rates,
    )


def _title(runs: Sequence[Run], loads: Sequence[Load]) -> str:
    if loads:
        return "; ".join(_progress(load) for load in loads)
    if not runs:
        return "nothing measured yet: choose, and press Start"
    streams = sum(len(run.whole) for run in runs if run.valid)
    invalid = sum(not run.valid for run in runs)
    words = f", {invalid} of the runs invalid" if invalid else ""
    return f"{counted(len(runs), 'run')}, {counted(streams, 'stream')} measured{words}"


def _progress(load: Load) -> str:
    """How far a run has come."""
    waiting = sum(stream.first is None for stream in load.streams)
    return (
        f"{load.label}: {load.clock():.1f} s, of {counted(load.requests, 'stream')} "
        f"{len(load.results)} ended, {len(load.streams) - waiting} streaming, {waiting} waiting"
    )


def counted(number: int, name: str) -> str:
    """So many things, in words."""
    return f"{number} {name}{'' if number == 1 else 's'}"
