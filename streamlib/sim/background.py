"""Responses in the background: an answer that is made whether anybody reads it or not (lesson 5).

https://developers.openai.com/api/docs/guides/background: ``background: true`` starts it, ``GET
/v1/responses/{id}`` tells how far it is, ``?stream=true&starting_after=N`` gives its events after the N-th,
those of the past at once. So a reader whose connection broke loses nothing and pays nothing twice.

Nothing runs here in the meantime. An answer is decided when it is asked for, so a job is the recipe of its
events, and a reader gets those whose time has come at once and the others when they are due.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from random import Random
from typing import Any

from . import responses
from .model import Answer, ApiError, Ask, Frame, Labels
from .timing import ROLE_AT, Profile, due_times, pieces, time_to_first_token

MOST_JOBS = 200  # the oldest is forgotten


@dataclass(slots=True)
class Job:
    """An answer in the making. ``started`` and ``cancelled`` are Unix seconds."""

    ask: Ask
    answer: Answer
    labels: Labels
    profile: Profile
    seed: int
    started: float
    wait: float = 0.0  # seconds before the model begins
    cancelled: float | None = None
    delivered: int = 0  # tokens that some reader has got

    def events(self) -> Iterator[Frame]:
        """All events, each with one token at most, so that any of them can be the last before a break."""
        rng = Random(self.seed)
        ttft = time_to_first_token(self.profile, rng, self.answer.prompt_tokens)
        due = due_times(self.profile, rng, first=self.wait + ttft)
        single = replace(self.profile, chunk=(1.0,))
        chunks = pieces(self.answer.parts, single, rng, due)
        return responses.stream(self.ask, self.answer, chunks, self.labels, self.wait + ttft * ROLE_AT)

    def stream(self, now: float, after: int = -1) -> Iterator[Frame]:
        """The events after number ``after`` as one reader gets them, who begins to read at ``now``.

        Cancelling ends the stream without a last event. The tokens count as made when the job began.
        """
        for number, frame in enumerate(self.events()):
            if self.cancelled is not None and self.started + frame.at > self.cancelled:
                return
            if number > after:
                yield replace(frame, at=max(0.0, self.started + frame.at - now), made=0)

    def first_time(self, frames: Iterable[Frame], after: int = -1) -> Iterator[Frame]:
        """The frames of ``stream`` with only those tokens as sent that no reader has got before."""
        tokens = self.tokens_until(after)
        for frame in frames:
            tokens += frame.sent
            new = max(0, tokens - self.delivered)
            self.delivered += new
            yield replace(frame, sent=new)

    def tokens_until(self, after: int) -> int:
        """How many tokens the events up to number ``after`` carry."""
        return sum(frame.sent for frame in islice(self.events(), max(0, after + 1)))

    def made_until(self, now: float) -> int:
        """How many tokens exist at ``now``."""
        return sum(frame.made for frame in self.events() if self.started + frame.at <= now)

    def response(self, now: float) -> dict[str, Any]:
        """The response object as it is at ``now``: its output is there when it has ended."""
        times = [self.started + frame.at for frame in self.events()]
        if self.cancelled is not None and self.cancelled < times[-1]:
            status = "cancelled"
        elif now >= times[-1]:
            status = "incomplete" if self.answer.finish == "length" else "completed"
        else:
            status = "in_progress" if now >= times[0] else "queued"
        return responses.response(self.answer, self.labels, status, background=True)

    def body(self, now: float) -> Frame:
        """The response object as the one frame of an answer."""
        response = self.response(now)
        new = self.answer.completion_tokens - self.delivered if response["output"] else 0
        self.delivered += new
        return Frame(0.0, json.dumps(response, ensure_ascii=False).encode(), sent=new)


class Jobs:
    """The latest jobs, by id."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}

    def add(self, job: Job) -> None:
        self._jobs[job.labels.id] = job
        if len(self._jobs) > MOST_JOBS:
            del self._jobs[next(iter(self._jobs))]

    def find(self, name: str) -> Job:
        """The job of that id; an ``ApiError`` 404 when there is none."""
        if name not in self._jobs:
            raise ApiError(
                404,
                f"Response with id {name!r} not found: this server keeps the latest {MOST_JOBS} that were "
                "made with background=True, and no others.",
                param="id",
            )
        return self._jobs[name]

    def forget(self, name: str) -> None:
        del self._jobs[self.find(name).labels.id]


def resume_after(query: dict[str, list[str]]) -> int | None:
    """The event to go on after, from ``?stream=true&starting_after=N``; None when no stream is asked for.

    -1 is before the first. What is no number is an ``ApiError`` 400.
    """
    if query.get("stream", ["false"])[-1].lower() != "true":
        return None
    given = query.get("starting_after", ["-1"])[-1]
    if not re.fullmatch(r"-1|[0-9]{1,9}", given):
        raise ApiError(400, f"starting_after is an event's number, got {given!r}.", param="starting_after")
    return int(given)
