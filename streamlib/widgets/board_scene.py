"""What a picture of the board is drawn from: runs that are over and loads that run -> a `Scene`. Lesson 7.

It is made in the loop that receives, at most 12 times a second, and sent to the painter process: plain
numbers, and no more of them than the picture shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from .board_run import Run, Summary, remarks, summaries

if TYPE_CHECKING:  # the painter has no use for it
    from .board_load import Load

Point: TypeAlias = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Group:
    """What the picture shows of one label. Points are (seconds to the first token, tokens per second)."""

    summary: Summary
    done: tuple[Point, ...]
    streaming: tuple[Point, ...]
    waiting: tuple[float, ...]  # the seconds that each has waited
    failed: tuple[Point, ...]
    faint: tuple[Point, ...]  # of invalid runs, and stopped: shown, counted nowhere
    rates: tuple[Point, ...]  # tokens/s of all streams of its last run, over the seconds of the run


@dataclass(frozen=True, slots=True)
class Scene:
    """All that a picture is drawn from."""

    title: str
    groups: tuple[Group, ...]
    remarks: tuple[str, ...]
    seconds: float  # how long the longest run took


def make_scene(over: Sequence[Run], loads: Sequence[Load]) -> Scene:
    """The scene of this moment."""
    runs = [*over, *(load.so_far() for load in loads)]
    groups = tuple(_group(summary, runs, loads) for summary in summaries(runs))
    seconds = max((group.rates[-1][0] for group in groups if group.rates), default=0.0)
    return Scene(_title(over, loads), groups, tuple(remarks(runs)), seconds)


def _group(summary: Summary, runs: Sequence[Run], loads: Sequence[Load]) -> Group:
    same = [run for run in runs if run.label == summary.label]
    done: list[Point] = []
    failed: list[Point] = []
    faint: list[Point] = []
    for run in same:
        for result in run.results:
            stats = result.stats
            point = (stats.ttft or stats.end_to_end or 0.0, stats.output_rate or 0.0)
            if result.failed:
                failed.append(point)
            elif stats.ttft is not None:
                (done if run.valid and not result.error else faint).append(point)
    streaming: list[Point] = []
    waiting: list[float] = []
    for load in loads:
        now = load.clock()
        for stream in load.streams if load.label == summary.label else ():
            if stream.ended is None:
                rate = stream.rate(now)
                if rate is None:
                    waiting.append(stream.ttft(now))
                else:
                    streaming.append((stream.ttft(now), rate))
    return Group(
        summary,
        tuple(done),
        tuple(streaming),
        tuple(waiting),
        tuple(failed),
        tuple(faint),
        same[-1].rates,
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
    ended = sum(stream.ended is not None for stream in load.streams)
    waiting = sum(stream.ended is None and stream.first is None for stream in load.streams)
    return (
        f"{load.label}: {load.clock():.1f} s, of {counted(load.requests, 'stream')} {ended} ended, "
        f"{len(load.streams) - ended - waiting} streaming, {waiting} waiting"
    )


def counted(number: int, name: str) -> str:
    """So many things, in words."""
    return f"{number} {name}{'' if number == 1 else 's'}"
