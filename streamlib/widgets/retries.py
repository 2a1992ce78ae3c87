"""Retries: the attempts at one answer, on a time axis: waiting, tokens, fault, backoff, and on. Lesson 5.

What asks again, waits and resumes is the function that you name: `streamlib.retry.retry` or `resume`, or one
of yours. The view hands it streams that note when they are opened, what they bring, and how they end; and it
listens where the function says how long it will wait (`on_retry`).
"""

from __future__ import annotations

from array import array
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Mapping, Sequence
from functools import partial
from inspect import signature
from time import perf_counter
from typing import Any

import httpx2

from ..backoff import retry_after
from ..chat import stream_chat
from ..closing import closing
from ..patience import Opened, opening
from ..retry import resume
from . import view
from .ask import Ask
from .flow import name_of
from .retries_picture import Attempt, Scene, draw_retries, meaning, rows

LIVE_PIECES = 200  # pieces of text in a picture that moves: more than its box has room for


class Retries(view.View):
    """Attempts on a time axis: connection, waiting, first token, tokens, fault, backoff, resume.

    Two ways to use it. With a prompt it asks an OpenAI-compatible server; `faults` go along, one with each
    attempt, for the embedded model (``X-Sim-Fault``), and further keywords go into the request::

        await Retries("Why is the sky blue?", model=model.name, faults=["status=503", "cut-after=12"])

    Or with a function that opens a stream, the one that you would give to `retry` or `resume`::

        await Retries(lambda said: ask(said, fault=next(faults, "")), how=resume)

    how: what asks again: `resume`, `retry`, or a function of yours that takes `open_stream` first; settings
    go in by ``partial(resume, attempts=3)``. After it, `.attempts` has an entry for each, `.answer` is the
    text that was handed on, and `.error` the error that ended it all: it is shown, and not raised.
    """

    draw = staticmethod(draw_retries)

    def __init__(
        self,
        ask: str | Sequence[Mapping[str, Any]] | Callable[..., Opened[Any]],
        *,
        how: Callable[..., AsyncIterable[Any]] = resume,
        faults: Sequence[str] = (),
        model: str | None = None,
        base_url: str | None = None,
        api_key: str | None = None,
        headers: Mapping[str, str] | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        self.attempts: list[Attempt] = []
        self.handed_on: list[tuple[float, str]] = []  # seconds since the start, and the text
        self._handed_at = array("d")  # the seconds alone: quick to pickle however many they are
        self.error: Exception | None = None
        self._how = how
        self._started: float | None = None
        self._ended: float | None = None
        self._ask: Ask | None = None
        self._faults = list(faults)
        self._errors: list[BaseException] = []  # those of the attempts
        if callable(ask):
            if faults or model or base_url or api_key or headers or options:
                raise TypeError("faults, model and the like go with a prompt; a function asks in its own way")
            self._open = ask
        else:
            if model is None:
                raise TypeError("which model? As in Retries('…', model=model.name)")
            self._ask = Ask(ask, model, base_url, api_key, headers, options)

    @property
    def answer(self) -> str:
        return "".join(text for _, text in self.handed_on)

    async def receive(self) -> None:
        if self._ask is None:
            await self._read(self._open)
            return
        async with self._ask.client() as client:
            client.event_hooks = {"request": [self._sent], "response": [self._answered]}
            await self._read(partial(self._chat, self._ask, client))

    async def _read(self, open_stream: Callable[..., Opened[Any]]) -> None:
        """Do what a reader does: read to the end. An error is kept when a stream raised it."""
        listening = {"on_retry": self._on_retry} if takes(self._how, "on_retry") else {}
        self._started = perf_counter()
        try:
            stream = self._how(partial(self._watched, open_stream), **listening)
            async with closing(stream) as items:
                async for item in items:
                    self.handed_on.append((self.clock(), as_text(item)))
                    self._handed_at.append(self.handed_on[-1][0])
        except Exception as error:
            self.error = error
            if isinstance(error, TimeoutError) and self.attempts:  # a limit that struck from outside
                self._note(error)
            if error not in self._errors and error.__cause__ not in self._errors:
                raise  # the function itself is broken
        finally:
            self._ended = perf_counter()

    async def _watched(
        self, open_stream: Callable[..., Opened[Any]], *said: str
    ) -> AsyncGenerator[Any, None]:
        """One attempt: the stream as it is, with its instants written down."""
        attempt = Attempt(self.clock(), said=len("".join(said)))
        self.attempts.append(attempt)
        try:
            async with opening(open_stream(*said)) as items:
                async for item in items:
                    if item != "":
                        attempt.pieces.append(self.clock())
                        attempt.characters += len(as_text(item))
                    yield item
            attempt.complete = True
        except Exception as error:
            self._note(error)
            raise
        finally:
            attempt.ended = self.clock()

    def _note(self, error: Exception) -> None:
        """What went wrong in the last attempt. The first word counts: later ones follow from it."""
        attempt = self.attempts[-1]
        self._errors.append(error)
        if not attempt.fault:
            attempt.fault, attempt.detail = short(error), f"{type(error).__name__}: {error}"
            attempt.told = retry_after(error)

    def _on_retry(self, error: Exception, delay: float) -> None:
        if self.attempts:
            self._note(error)
            self.attempts[-1].delay = delay

    # -- asking an OpenAI-compatible server --------------------------------------------------------------

    def _chat(self, ask: Ask, client: httpx2.AsyncClient, said: str = "") -> Opened[str]:
        messages = ask.body(stream=True)["messages"]
        if said:
            messages = [*messages, {"role": "assistant", "content": said}]
        return stream_chat(
            messages,
            model=ask.model,
            base_url=ask.base_url,
            api_key=ask.api_key,
            client=client,
            **ask.options,
        )

    async def _sent(self, request: httpx2.Request) -> None:
        number, attempt = len(self.attempts), self.attempts[-1]
        if number <= len(self._faults) and self._faults[number - 1]:
            request.headers["X-Sim-Fault"] = self._faults[number - 1]

        async def trace(name: str, _: Any) -> None:
            if name == "connection.connect_tcp.started":
                attempt.connects = True
            elif name == "http11.send_request_headers.started":
                attempt.sent = self.clock()

        request.extensions["trace"] = trace

    async def _answered(self, response: httpx2.Response) -> None:
        self.attempts[-1].answered = (self.clock(), response.status_code)

    # -- what it looks like ------------------------------------------------------------------------------

    def clock(self, now: float | None = None) -> float:
        """Seconds since the start; it stands still after the end."""
        if self._started is None:
            return 0.0
        return (self._ended or now or perf_counter()) - self._started

    def scene(self, now: float | None) -> Scene:
        error = "" if self.error is None else f"{type(self.error).__name__}: {self.error}"
        name = name_of(self._how)
        live = now is not None
        text = self.handed_on[-LIVE_PIECES:] if live else self.handed_on
        return Scene(name, self.attempts, text, self._handed_at, self.clock(now), live, error, self.stopped)

    def text(self) -> str:
        scene = self.scene(None)
        table = rows(scene)
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in table
        ]
        return "\n".join([f"Retries: one answer, by {scene.name}", *lines, *meaning(scene), self.answer])


def takes(function: Callable[..., Any], name: str) -> bool:
    """Whether a function has this parameter, and a partial of it has not filled it in."""
    filled = function.keywords if isinstance(function, partial) else {}
    return name in signature(function).parameters and name not in filled


def as_text(item: Any) -> str:
    return item if isinstance(item, str) else repr(item)


def short(error: Exception) -> str:
    """A word or two for an error: its HTTP status where it has one, else its name."""
    status = getattr(error, "status", None) or getattr(error, "status_code", None)
    return str(status) if isinstance(status, int) else type(error).__name__
