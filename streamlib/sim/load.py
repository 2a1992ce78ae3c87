"""How load slows the model down: a batch of so many answers at once, and a queue before it (lesson 7).

A real server generates for all answers of its batch in the same step, and a step takes longer the fuller
the batch is; what does not fit waits in a queue, first come first served (vLLM: ``max_num_seqs``). With n
answers in a batch of N, every time in an answer is multiplied by

    1 + (slowdown - 1) * (n - 1) / (N - 1)

which is 1 for a lonely answer and ``slowdown`` for a full batch: the linear factor of llm-d-inference-sim
(``--time-factor-under-load``, ``--max-num-seqs``; ``getCurrLoadFactor`` in its ``latencies.go``). So up to N
streams at once each costs the others a little; beyond N nothing is gained, and the time to the first token
grows by the wait. That is the knee. The order of arrivals decides everything: no chance is involved.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

from .model import Frame


class Batch:
    """The answers that are generated together, ``size`` at most, and those that wait for a place."""

    def __init__(self, size: int, slowdown: float) -> None:
        self.size = size
        self.slowdown = slowdown
        self.running = 0
        self.waiting: deque[Seat] = deque()

    @property
    def factor(self) -> float:
        """How many times longer everything takes than for an answer alone."""
        return 1 + (self.slowdown - 1) * max(0, self.running - 1) / (self.size - 1)


class Seat:
    """The place of one answer: taken when the answer begins, left when it ends, however it ends."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch

    @property
    def ahead(self) -> int | None:
        """How many wait before this answer; None when it does not wait."""
        return self.batch.waiting.index(self) if self in self.batch.waiting else None

    def take(self) -> None:
        """A place in the batch, or in the queue."""
        if self.batch.running < self.batch.size:
            self.batch.running += 1
        else:
            self.batch.waiting.append(self)

    def leave(self) -> None:
        """Give the place to the next in the queue, or leave the queue."""
        if self in self.batch.waiting:
            self.batch.waiting.remove(self)
        elif self.batch.waiting:
            self.batch.waiting.popleft()
        else:
            self.batch.running -= 1


def under_load(frames: Iterable[Frame], seat: Seat, step: float, start: float = 0.0) -> Iterator[Frame]:
    """The frames of an answer as late as the load makes them: first the wait for a place, then longer gaps.

    The load is looked at when a frame is asked for, which is when the one before it has left; in the queue
    every ``step`` seconds, more seldom far behind in it: those frames are empty. ``start`` is where the
    model's own time begins, in seconds after the request.
    """
    at = last = start
    while (ahead := seat.ahead) is not None:
        at += step * (1 + ahead // seat.batch.size)
        yield Frame(at)
    for frame in frames:
        at += (frame.at - last) * seat.batch.factor
        last = frame.at
        yield Frame(at, frame.data, frame.made, frame.sent, frame.then)
