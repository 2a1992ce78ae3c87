"""A measurement that is over: a `Run`, runs as a table of words, runs as CSV. Lesson 7.

Numbers are those of `streamlib.metrics`. Only streams that came to their end count: a stream that failed or
was stopped has no time to finish in. Nor does a run count that is marked invalid.
"""

from __future__ import annotations

import csv
import io
from array import array
from bisect import insort
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Protocol, TypeVar

from ..metrics import StreamStats, percentile_in_order

BIN = 0.25  # seconds: how finely the tokens of a run are counted over time
STOPPED = "stopped"  # the `error` of a stream that was stopped with its run: neither whole nor failed

# The tail of a time is where it is long, the tail of a rate is where it is low.
TTFT_PERCENTILES = (50, 90, 99)
RATE_PERCENTILES = (50, 10, 1)


@dataclass(frozen=True, slots=True)
class Settings:
    """What was asked of the model: by how many at once, how many times, with what."""

    model: str
    concurrency: int
    requests: int
    prompt_words: int
    max_tokens: int | None = None  # or max_completion_tokens, whichever was sent
    headers: str = ""  # of its first stream, as "X-Sim-Profile: slow"


@dataclass(frozen=True, slots=True)
class Result:
    """One stream of a run: when it was sent (seconds after the run began), its numbers, why it failed."""

    number: int
    started: float
    stats: StreamStats
    error: str = ""

    @property
    def failed(self) -> bool:
        return bool(self.error) and self.error != STOPPED


@dataclass(frozen=True, slots=True)
class Run:
    """What a load on a model came to: as many streams as were asked for, or fewer when it was stopped.

    `streams` are the numbers of all of them; those that failed or were stopped have `completed` False.
    `invalid` says why the run must not be used. `rates` is the throughput of all streams together over time:
    (seconds since the run began, tokens/s over the second before).
    """

    label: str
    settings: Settings
    results: tuple[Result, ...]
    seconds: float
    rates: tuple[tuple[float, float], ...] = field(default=(), repr=False)
    invalid: str = ""

    @property
    def streams(self) -> tuple[StreamStats, ...]:
        return tuple(result.stats for result in self.results)

    @property
    def whole(self) -> tuple[StreamStats, ...]:
        """The streams that came to their end: those that count."""
        return tuple(result.stats for result in self.results if not result.error)

    @property
    def failed(self) -> int:
        return sum(result.failed for result in self.results)

    @property
    def valid(self) -> bool:
        return not self.invalid

    @property
    def tokens_per_second(self) -> float:
        """Of all streams together, over the whole run: what the server gave."""
        return sum(stats.tokens for stats in self.streams) / self.seconds if self.seconds else 0.0

    def __repr__(self) -> str:
        return text_table([self])


def put(bins: dict[int, float], at: float, tokens: float) -> None:
    """Count tokens that came `at` seconds after a run began."""
    number = int(at / BIN)
    bins[number] = bins.get(number, 0) + tokens


def rates(bins: Mapping[int, float], seconds: float) -> tuple[tuple[float, float], ...]:
    """Tokens per second of all streams together, over the second that ends at each point of time."""
    window = round(1 / BIN)
    full = int(seconds / BIN)  # the bin of this moment is still filling
    before = list(accumulate((bins.get(number, 0) for number in range(full)), initial=0.0))
    return tuple(
        (end * BIN, (before[end] - before[max(0, end - window)]) / min(1.0, end * BIN))
        for end in range(1, full + 1)
    )


def bins_of(streams: Iterable[StreamStats]) -> dict[int, float]:
    """The bins of streams that began together. Which chunk brought how many tokens is not known any more:
    each is given the same share of them."""
    bins: dict[int, float] = {}
    for stats in streams:
        if stats.ttft is not None:
            for at in accumulate(stats.gaps, initial=stats.ttft):
                put(bins, at, stats.tokens / (len(stats.gaps) + 1))
    return bins


@dataclass(frozen=True, slots=True)
class Summary:
    """The numbers of the runs with one label: what a row of the table says."""

    label: str
    streams: int  # that came to their end, in runs that are valid
    failed: int
    stopped: int
    ttft: tuple[float | None, ...]  # by TTFT_PERCENTILES, in seconds
    rate: tuple[float | None, ...]  # by RATE_PERCENTILES, in tokens/s of a stream while it streams
    together: float | None  # tokens/s of all streams of a run, the mean over the runs
    counted_by: str
    invalid: tuple[str, ...]


class Labelled(Protocol):
    @property
    def label(self) -> str: ...


Some = TypeVar("Some", bound=Labelled)


def by_label(runs: Iterable[Some]) -> dict[str, list[Some]]:
    """The runs of each label, in the order of their first runs."""
    groups: dict[str, list[Some]] = {}
    for run in runs:
        groups.setdefault(run.label, []).append(run)
    return groups


class Tally:
    """What streams of one label come to that have ended. It grows: none of them is looked at twice.

    Points are (seconds to the first token, tokens per second), one after the other: x, y, x, y, …
    """

    def __init__(self) -> None:
        self.streams = self.failed = self.stopped = 0
        self.ttfts: list[float] = []  # in order
        self.rates: list[float] = []
        self.counted_by: set[str] = set()
        self.done = array("d")
        self.broken = array("d")
        self.faint = array("d")  # of invalid runs, and stopped: shown, counted nowhere

    def add(self, result: Result, valid: bool = True) -> None:
        """A stream has ended, of a run that is valid, or not."""
        stats = result.stats
        rate = stats.output_rate or 0.0
        counts = valid and not result.error
        if result.failed:
            self.failed += 1
            self.broken.extend((stats.ttft or stats.end_to_end or 0.0, rate))
        elif stats.ttft is not None:
            (self.done if counts else self.faint).extend((stats.ttft, rate))
        self.stopped += result.error == STOPPED
        if counts:
            self.streams += 1
            self.counted_by.add(stats.counted_by)
            if stats.ttft is not None:
                insort(self.ttfts, stats.ttft)
            if stats.output_rate is not None:
                insort(self.rates, stats.output_rate)

    def summary(self, label: str, together: Sequence[float], invalid: Iterable[str]) -> Summary:
        """A row of the table. `together` are the tokens/s of each valid run, `invalid` why others are not."""
        return Summary(
            label,
            self.streams,
            self.failed,
            self.stopped,
            tuple(percentile_in_order(self.ttfts, q) for q in TTFT_PERCENTILES),
            tuple(percentile_in_order(self.rates, q) for q in RATE_PERCENTILES),
            sum(together) / len(together) if together and self.streams else None,
            " and ".join(sorted(self.counted_by)),
            tuple(dict.fromkeys(invalid)),
        )


def tally_of(runs: Iterable[Run]) -> Tally:
    """The tally of runs that are over."""
    tally = Tally()
    for run in runs:
        for result in run.results:
            tally.add(result, run.valid)
    return tally


def summary_of(label: str, runs: Sequence[Run]) -> Summary:
    """The summary of the runs with this label."""
    return tally_of(runs).summary(label, together_of(runs), why_invalid(runs))


def together_of(runs: Iterable[Run]) -> list[float]:
    """Of each valid run, the tokens/s of all its streams."""
    return [run.tokens_per_second for run in runs if run.valid]


def why_invalid(runs: Iterable[Run]) -> list[str]:
    return [run.invalid for run in runs if run.invalid]


def head() -> list[str]:
    """The head of the table, as long as a row."""
    return [
        "label",
        "streams",
        "failed",
        *(f"TTFT p{q} (s)" for q in TTFT_PERCENTILES),
        *(f"rate p{q} (tokens/s)" for q in RATE_PERCENTILES),
        "together (tokens/s)",
        "tokens by",
    ]


def row(summary: Summary) -> list[str]:
    """A summary in words; what does not exist is a dash."""

    def shown(value: float | None, digits: int) -> str:
        return "-" if value is None else f"{value:.{digits}f}"

    return [
        summary.label + (" (invalid)" if summary.invalid and not summary.streams else ""),
        str(summary.streams) + (f" (+{summary.stopped} stopped)" if summary.stopped else ""),
        str(summary.failed),
        *(shown(value, 3) for value in summary.ttft),
        *(shown(value, 1) for value in summary.rate),
        shown(summary.together, 1),
        summary.counted_by or "-",
    ]


def text_table(runs: Sequence[Run]) -> str:
    """The board in plain text."""
    rows = [head(), *(row(summary_of(label, same)) for label, same in by_label(runs).items())]
    widths = [max(len(cells[column]) for cells in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(cell.ljust(width) if column == 0 else cell.rjust(width) for column, (cell, width) in line)
        for line in (list(enumerate(zip(cells, widths, strict=True))) for cells in rows)
    ]
    return "\n".join([*lines, *remarks(runs)])


def remarks(runs: Sequence[Run]) -> list[str]:
    """What a reader must know beside the numbers: runs that do not count, and why streams failed."""
    sentences = [f"{run.label}: invalid, {run.invalid}." for run in runs if run.invalid]
    for run in runs:
        sentences += failures(run.label, Counter(result.error for result in run.results if result.failed))
    return list(dict.fromkeys(sentences))


def failures(label: str, errors: Mapping[str, int]) -> list[str]:
    """How many streams of a run failed, by why."""
    return [f"{label}: {count} failed. {error}" for error, count in errors.items()]


OF_RUN = (
    "run",
    "label",
    "valid",
    "model",
    "concurrency",
    "requests",
    "prompt_words",
    "max_tokens",
    "headers",
)
OF_STREAM = ("stream", "started", "error")
OF_STATS = (
    *("ttft", "ttfo", "itl", "tpot", "throughput", "output_rate", "end_to_end"),
    *("tokens", "counted_by", "completed"),
)


def to_csv(runs: Iterable[Run]) -> str:
    """A line for each stream, with its run's settings. Times in seconds, rates in tokens per second.

    What does not exist is an empty field. `started` counts from the run's beginning. `headers` are those of
    the stream's run, `error` says why a stream failed, or "stopped".
    """
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow((*OF_RUN, *OF_STREAM, *OF_STATS))
    for number, run in enumerate(runs, 1):
        of_run = [number, run.label, run.valid, *(getattr(run.settings, name) for name in OF_RUN[3:])]
        for result in run.results:
            of_stats = [getattr(result.stats, name) for name in OF_STATS]
            values = [*of_run, result.number, result.started, result.error, *of_stats]
            writer.writerow([f"{value:.6g}" if isinstance(value, float) else value for value in values])
    return table.getvalue().encode(errors="replace").decode()  # half a character cannot be written
