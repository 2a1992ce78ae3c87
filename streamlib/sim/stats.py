"""What the simulated model counts: streams, tokens made and delivered, and how late they left (lesson 7)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection
from types import TracebackType

from .load import Batch, Seat
from .model import Frame
from .verdict import Exchange


class Stats:
    """What ``GET /sim/stats`` tells: counts since the start, and how late frames left."""

    def __init__(self, batches: Collection[Batch] = ()) -> None:
        self.batches = batches  # of the profiles that load slows down
        self.requests_total = 0
        self.streams_open = 0
        self.streams_total = 0
        self.clients_left = 0  # answers that nobody waited for to the end
        self.tokens_produced = 0
        self.tokens_delivered = 0
        self.tokens_saved = 0  # never produced, because the client left
        self.late: deque[float] = deque(maxlen=10_000)  # seconds, of the latest frames
        self.exchanges: deque[Exchange] = deque(maxlen=1000)  # the latest requests to the model

    def as_dict(self) -> dict[str, object]:
        late = sorted(self.late)
        return {
            "requests_total": self.requests_total,
            "streams_open": self.streams_open,
            "streams_total": self.streams_total,
            "clients_left": self.clients_left,
            "tokens_produced": self.tokens_produced,
            "tokens_delivered": self.tokens_delivered,
            "tokens_wasted": self.tokens_produced - self.tokens_delivered,
            "tokens_saved": self.tokens_saved,
            "answers_running": sum(batch.running for batch in self.batches),
            "answers_waiting": sum(len(batch.waiting) for batch in self.batches),
            "schedule_lag": {
                "frames": len(late),
                "p50": late[len(late) // 2] if late else 0.0,
                "p99": late[len(late) * 99 // 100] if late else 0.0,
            },
        }


class Delivery:
    """Follows one answer on its way out, as a context manager around the sending.

        with response.delivery.timed(clock, t0) as delivery: …

    ``clock`` gives seconds from any origin; ``t0`` is when the request came, by that clock.
    """

    def __init__(
        self, stats: Stats, *, tokens: int = 0, stream: bool = False, seat: Seat | None = None
    ) -> None:
        self._stats = stats
        self._seat = seat
        self._left_to_make = tokens
        self._stream = stream
        self._clock: Callable[[], float] = float
        self._t0 = 0.0
        self.finished = False
        self.ended = False
        self.exchange = Exchange(stream=stream)  # what the verdict goes by
        self.noted = False  # whether it is one for the verdict

    def timed(self, clock: Callable[[], float], t0: float) -> Delivery:
        self._clock, self._t0 = clock, t0
        return self

    def __enter__(self) -> Delivery:
        self._stats.requests_total += 1
        self._stats.streams_total += self._stream
        self._stats.streams_open += self._stream
        if self._seat:
            self._seat.take()
        self.exchange.at = self._t0
        if self.noted:
            self._stats.exchanges.append(self.exchange)
        return self

    def made(self, frame: Frame) -> None:
        """The frame is due: its tokens exist."""
        self._stats.tokens_produced += frame.made
        self.exchange.made += frame.made
        self._left_to_make -= frame.made
        if frame.data:
            self._stats.late.append(max(0.0, self._clock() - self._t0 - frame.at))
        if frame.then == "stall":
            self.exchange.silent_since = self._clock()

    def sent(self, frame: Frame) -> None:
        """The frame's bytes are handed to a connection that is still there."""
        self._stats.tokens_delivered += frame.sent
        self.exchange.delivered += frame.sent

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def end(self) -> None:
        """The answer is over, however it ended. Once is enough; before its last bytes is best: who has read
        them and asks for the counts finds it in them."""
        if self.ended:
            return
        self.ended = True
        self._stats.streams_open -= self._stream
        if self._seat:
            self._seat.leave()
        self.exchange.ended = self._clock()
        self.exchange.finished = self.finished
        if not self.finished:
            self._stats.clients_left += 1
            self._stats.tokens_saved += self._left_to_make
