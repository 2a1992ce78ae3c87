"""Lesson 10, the capstone: one exercise, a summariser that survives a hostile server.

The server is the embedded model with its real wire format and its real faults, in this process and on the
judge's clock. What counts is what a reader and the server see, not at which instant: see `Report`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import httpx2

from ..backoff import backoff_delays, is_transient, retry_after
from ..chat import stream_chat
from ..checker import Case, Exercise, Stage
from ..checker.exercise import Solution
from ..patience import timeouts
from ..retry import resume
from ..sim.core import Simulator
from ..sim.model import MODEL_NAME
from ..sim.transport import SimTransport

Messages: TypeAlias = Sequence[Mapping[str, str]]
Ask: TypeAlias = Callable[[Messages], AsyncGenerator[str, None]]

DOCUMENT = (
    "A streamed answer lives for many seconds on a connection that crosses many machines. Any of them can close it. "
    "A client that waits for the end and a client that reads along see the same failure in different ways: the first "
    "has nothing, the second has half of the answer on the screen. Half an answer cannot be taken back, so the second "
    "client asks for the rest. It keeps what was said, it waits as the server tells it to, and it stops after a while."
)

HOUR, LONG = 3600.0, 60.0
FINE, AS_THEY_COME, SHORT = "fine", "as they come", "under a minute"


@dataclass
class HostileServer:
    """The embedded model; each request meets the next of `faults`, and the last of them for ever."""

    faults: Sequence[str]
    simulator: Simulator = field(default_factory=lambda: Simulator(profile="fast"))
    asked: list[Messages] = field(default_factory=list)
    asked_at: list[float] = field(default_factory=list)
    told: list[float | None] = field(default_factory=list)  # per failed request: the wait it was told, if any

    async def ask(self, messages: Messages) -> AsyncGenerator[str, None]:
        """One answer, as text. Raises the errors of `streamlib.chat`."""
        fault = self.faults[min(len(self.asked), len(self.faults) - 1)]
        self.asked.append([dict(message) for message in messages])
        self.asked_at.append(asyncio.get_running_loop().time())
        self.told.append(None)
        try:
            async with aclosing(self._answer(messages, fault)) as texts:
                async for text in texts:
                    yield text
        except Exception as error:
            self.told[-1] = retry_after(error) or 0.0
            raise

    async def whole(self) -> str:
        """What the first request would have got from a server that nothing happens to."""
        return "".join([text async for text in self._answer(self.asked[0], "")]) if self.asked else ""

    async def _answer(self, messages: Messages, fault: str) -> AsyncGenerator[str, None]:
        transport = SimTransport(self.simulator)
        async with (
            httpx2.AsyncClient(transport=transport, headers={"X-Sim-Fault": fault}, trust_env=False) as http,
            stream_chat(messages, model=MODEL_NAME, base_url="http://sim/v1", client=http) as stream,
        ):
            async for text in stream:
                yield text

    def first_request(self) -> str:
        """What is wrong with it, if anything."""
        contents = [str(message.get("content", "")) for message in (self.asked or [[]])[0]]
        if not any(DOCUMENT in content for content in contents):
            return "without the document"
        return FINE if all(contents) else "with an empty message"

    def waits(self) -> str:
        """How the client waited after what failed."""
        gaps = [later - sooner for sooner, later in zip(self.asked_at, self.asked_at[1:], strict=False)]
        floors = [floor for floor in self.told[: len(gaps)] if floor is not None]
        if any(gap < (floor or 0.0) for gap, floor in zip(gaps, self.told, strict=False)):
            return "shorter than told"
        return "none" if len(floors) > 2 and not any(gaps) else FINE


@dataclass(frozen=True)
class Report:
    """What a reader of the summary and the server saw. As text it leaves out what is as it should be.

    text: "whole", "half" (its beginning), "nothing", "some of it twice", or "something else".
    """

    text: str
    error: bool
    first_request: str
    requests: int | str  # "6 to 12", say, of a server that never recovers: when to give up is free
    waits: str
    pieces: str
    longest_silence: str
    streams_left_open: int

    def __repr__(self) -> str:
        said = [
            f"text: {self.text}",
            f"error raised: {'yes' if self.error else 'no'}",
            f"requests: {self.requests}",
        ]
        said += [] if self.first_request == FINE else [f"first request: {self.first_request}"]
        said += [] if self.waits == FINE else [f"waits: {self.waits}"]
        said += [] if self.pieces == AS_THEY_COME else [f"pieces: {self.pieces}"]
        said += [] if self.longest_silence == SHORT else [f"longest silence: {self.longest_silence}"]
        said += [f"streams left open: {self.streams_left_open}"] if self.streams_left_open else []
        return "; ".join(said)


def told_apart(text: str, whole: str) -> str:
    """How a text stands to the whole answer."""
    if text == whole:
        return "whole"
    if not text:
        return "nothing"
    if whole.startswith(text):
        return "half"
    return "some of it twice" if text.startswith(whole[:12]) and len(text) > len(whole) else "something else"


def as_stream(given: Any) -> AsyncGenerator[str, None]:
    """What a solution gave back, if it can be read piece by piece and left. Raises TypeError."""
    if isinstance(given, Coroutine):
        given.close()
        raise TypeError(
            "the call gives a coroutine, not a stream: `async def` with `yield` in it makes a stream"
        )
    if not hasattr(given, "__aiter__"):
        raise TypeError(f"the call gives a {type(given).__name__}: `async for` needs an async generator")
    if not hasattr(given, "aclose"):
        raise TypeError(
            f"the call gives an object ({type(given).__name__}) without `aclose`, so a reader who leaves cannot close it: "
            "`async def` with `yield` has one"
        )
    stream: AsyncGenerator[str, None] = given
    return stream


def is_of_the_stream(error: BaseException | None) -> bool:
    """Whether a broken stream is what was raised, or what was raised in its place (``raise … from error``)."""
    while error is not None:
        if hasattr(error, "text") or isinstance(error, OSError):
            return True
        error = error.__cause__
    return False


def how_many(requests: int, at_least: int | None) -> int | str:
    """The number of requests; with `at_least` it is free, from that to twelve."""
    if requests > 12:
        return "too many"
    return f"{at_least} to 12" if at_least and requests >= at_least else requests


def hostile(note: str, *faults: str, leave_after: int | None = None, at_least: int | None = None) -> Case:
    """A case: each request meets the next of `faults`; the reader leaves after so many pieces.

    at_least: for a server that never recovers. How long to go on there is free, and so is the silence in
    all, but there are at least so many requests.
    """

    async def play(solution: Solution, stage: Stage) -> Report:
        server = HostileServer(faults)
        clock = asyncio.get_running_loop().time
        pieces: list[str] = []
        arrivals = [clock()]
        error = False
        stream = as_stream(solution(DOCUMENT, server.ask))
        try:
            async with aclosing(stream):
                async for piece in stream:
                    pieces.append(piece)
                    arrivals.append(clock())
                    if len(pieces) == leave_after:
                        break
        except Exception as caught:
            if not is_of_the_stream(caught):
                raise  # a bug
            error = True
        left_open = server.simulator.stats.streams_open
        silence = max(b - a for a, b in zip(arrivals, [*arrivals[1:], clock()], strict=True))
        text, whole = "".join(pieces), await server.whole()
        await asyncio.sleep(
            max(0.0, HOUR - stage.clock.elapsed)
        )  # how long it took is in the report, roughly
        at_once = len(pieces) > 3 and arrivals[-1] - arrivals[1] < 1e-6
        return Report(
            text="left early" if leave_after else told_apart(text, whole),
            error=error,
            first_request=server.first_request(),
            requests=how_many(len(server.asked), at_least),
            waits=server.waits(),
            pieces="all at once" if at_once or (len(pieces) == 1 and whole == text) else AS_THEY_COME,
            longest_silence=SHORT if at_least or silence < LONG else "over a minute",
            streams_left_open=left_open,
        )

    return Case(play=play, note=note)


async def summarise(document: str, ask: Ask) -> AsyncGenerator[str, None]:
    """The pieces of a summary of `document`, as they come; none is lost and none comes twice.

    `ask(messages)` opens one answer of the model: an async generator of texts, which is yours to close. It
    breaks in every way of lesson 5. Then ask again, or for the rest. How long you go on when nothing gets
    better is yours to choose, within six to twelve attempts in all. Wait between them, and never shorter than
    you are told. Silence is a fault too: a model may take ten seconds to begin, so bear that; but bear no
    single silence for a minute. What cannot be mended is raised: the error itself, or your own `from` it.

    >>> from streamlib.exercises.lesson_10 import HostileServer
    >>> server = HostileServer(["cut-after=5", "status=503", ""])
    >>> summary = [piece async for piece in summarise("Streams break. Good clients go on.", server.ask)]
    >>> "".join(summary) == await server.whole()
    True
    """
    question = {"role": "user", "content": f"Summarise this text in three sentences:\n\n{document}"}

    def rest(said: str) -> AsyncGenerator[str, None]:
        messages = [question, {"role": "assistant", "content": said}] if said else [question]
        return timeouts(ask(messages), first=20, between=5)

    async with aclosing(resume(rest, attempts=8, min_overlap=None)) as stream:
        async for text in stream:
            yield text


exercise = Exercise(
    summarise,
    cases=[
        hostile("nothing breaks", ""),
        hostile("refused, then an error 503", "refuse", "status=503", ""),
        hostile("told to wait 9 s", "status=429; retry-after=9", ""),
        hostile("cut after 5 tokens", "cut-after=5", ""),
        hostile("ends too early, without an error of the connection", "truncate-after=5", ""),
        hostile("cut inside an event", "cut-mid-event=5", ""),
        hostile("an error object inside the stream", "error-event=5", ""),
        hostile("one event is broken JSON", "bad-json=5", ""),
        hostile("stalls after 5 tokens", "stall-after=5", ""),
        hostile("slow to begin", "slow-first-byte=8", ""),
        hostile("no [DONE] at the end", "no-done"),
        hostile("a wrong request", "status=400"),
        hostile("overloaded for ever", "status=503", at_least=6),
        hostile("cut, and then refused for ever", "cut-after=5", "refuse", at_least=6),
        hostile("cut, and then cut for ever, at once", "cut-after=5", "cut-after=0", at_least=6),
        hostile(
            "stalls after 5 tokens, and then says nothing for ever",
            "stall-after=5",
            "stall-after=0",
            at_least=2,
        ),
        hostile(
            "breaks again and again", "cut-after=3", "status=500", "stall-after=4", "truncate-after=3", ""
        ),
        hostile("the reader leaves after 3 pieces", "", leave_after=3),
        hostile(
            "cut, told to wait 9 s, and cut", "cut-after=4", "status=429; retry-after=9", "cut-after=6", ""
        ),
    ],
    hints=(
        "Which of the functions of lesson 5 do you need? One limits the silence, one goes on after a break.",
        "`streamlib.retry.resume` calls a function with the text so far. That function makes the messages, with the text so "
        "far as the last one, of the assistant, and gives `timeouts(ask(messages), …)`.",
        "`rest(said)` is `timeouts(ask([question, {'role': 'assistant', 'content': said}] if said else [question]), first=20, "
        "between=5)`. Read `resume(rest, attempts=8, min_overlap=None)` inside `aclosing` and yield what comes.",
    ),
)


def opening_question(document: str) -> dict[str, str]:
    return {"role": "user", "content": f"Summarise:\n\n{document}"}


def with_rest(document: str, said: str) -> list[dict[str, str]]:
    """The messages that ask for a summary, or for the rest of it."""
    more = [{"role": "assistant", "content": said}] if said else []
    return [opening_question(document), *more]


@exercise.right
async def by_hand(document: str, ask: Ask) -> AsyncGenerator[str, None]:
    said, delays = "", iter(backoff_delays(base=0.5, cap=8))
    for attempt in range(1, 9):
        try:
            async with aclosing(ask(with_rest(document, said))) as texts:
                while True:
                    async with asyncio.timeout(30):
                        text = await anext(texts, None)
                    if text is None:
                        return
                    said += text
                    yield text
        except Exception as error:
            if attempt == 8 or not is_transient(error):
                raise
            await asyncio.sleep(max(next(delays), retry_after(error) or 0))


@exercise.right
async def with_a_queue_of_delays(document: str, ask: Ask) -> AsyncGenerator[str, None]:
    pieces: list[str] = []
    told: list[float | None] = []
    delays = backoff_delays(told, base=1, cap=4)
    while True:
        stream = timeouts(ask(with_rest(document, "".join(pieces))), first=15, between=10)
        try:
            async for piece in stream:
                pieces.append(piece)
                yield piece
            return
        except Exception as error:
            told.append(retry_after(error))
            if len(told) == 7 or not is_transient(error):
                raise
        finally:
            await stream.aclose()
        await asyncio.sleep(next(delays))


@exercise.right
async def silent_for_just_under_a_minute(document: str, ask: Ask) -> AsyncGenerator[str, None]:
    said = ""
    for attempt in range(1, 7):
        try:
            async with aclosing(timeouts(ask(with_rest(document, said)), first=10, between=5)) as texts:
                async for text in texts:
                    said += text
                    yield text
            return
        except Exception as error:
            if attempt == 6 or not is_transient(error):
                raise
            await asyncio.sleep(max(0.5, retry_after(error) or 0))


@exercise.right
async def with_long_pauses_at_the_end(document: str, ask: Ask) -> AsyncGenerator[str, None]:
    said = ""
    for attempt in range(1, 10):
        try:
            async with aclosing(timeouts(ask(with_rest(document, said)), first=15, between=8)) as texts:
                async for text in texts:
                    said += text
                    yield text
            return
        except Exception as error:
            if attempt == 9 or not is_transient(error):
                raise
            await asyncio.sleep(max(2.0 ** (attempt - 1), retry_after(error) or 0))


@exercise.right
async def with_a_default_overlap(document: str, ask: Ask) -> AsyncGenerator[str, None]:
    stream = resume(lambda said: timeouts(ask(with_rest(document, said)), first=30, between=30), attempts=10)
    try:
        async for text in stream:
            yield text
    finally:
        await stream.aclose()


@exercise.mistake(
    "That is not what the model said. Hand every piece on as it is, with its spaces. And do not ask for the rest in words: "
    "the model goes on in other words. It goes on exactly where the last message, of the role `assistant`, stops."
)
async def changes_the_pieces(document: str, ask: Ask) -> AsyncGenerator[str, None]:
    async with aclosing(summarise(document, ask)) as texts:
        async for text in texts:
            yield text.strip()


@exercise.mistake("The model never saw the document. Put it into the first request, behind your instruction.")
async def forgets_the_document(document: str, ask: Ask) -> AsyncGenerator[str, None]:
    async with aclosing(summarise("", ask)) as texts:
        async for text in texts:
            yield text


@exercise.mistake(
    "While nothing has been said, your request ends in an empty message of the assistant. Some servers refuse that: leave it "
    "out at first."
)
async def sends_an_empty_message(document: str, ask: Ask) -> AsyncGenerator[str, None]:
    def rest(said: str) -> AsyncGenerator[str, None]:
        messages = [opening_question(document), {"role": "assistant", "content": said}]
        return timeouts(ask(messages), first=20, between=5)

    async with aclosing(resume(rest, attempts=8, min_overlap=None)) as stream:
        async for text in stream:
            yield text


@exercise.mistake(
    "You have left while the server let you wait. Nine seconds are not long for a reader who is told: wait them, and ask again."
)
async def leaves_instead_of_waiting(document: str, ask: Ask) -> AsyncGenerator[str, None]:
    async with asyncio.timeout(5), aclosing(summarise(document, ask)) as texts:
        async for text in texts:
            yield text


@exercise.mistake(
    "Nothing is asked again. A refused connection and a 503 are over in a moment: `streamlib.retry.resume` goes on after them."
)
async def never_asks_again(document: str, ask: Ask) -> AsyncGenerator[str, None]:
    async with aclosing(timeouts(ask(with_rest(document, "")), first=20, between=5)) as texts:
        async for text in texts:
            yield text


@exercise.mistake(
    "You ask for the whole answer again when its beginning is on the screen. Keep what was said, and ask for the rest: the "
    "text so far is the last message, with the role `assistant`."
)
async def begins_again(document: str, ask: Ask) -> AsyncGenerator[str, None]:
    stream = resume(
        lambda said: timeouts(ask(with_rest(document, "")), first=20, between=5), attempts=8, min_overlap=None
    )
    async with aclosing(stream) as texts:
        async for text in texts:
            yield text


@exercise.mistake(
    "It only asks again before the first token: `retry` does that. After it, the reader has half a summary; `resume` gets the rest."
)
async def gives_up_after_the_first_token(document: str, ask: Ask) -> AsyncGenerator[str, None]:
    from ..retry import retry

    stream = retry(lambda: timeouts(ask(with_rest(document, "")), first=20, between=5), attempts=8)
    async with aclosing(stream) as texts:
        async for text in texts:
            yield text


@exercise.mistake(
    "The stream stalls, and your reader looks at nothing for minutes. Put limits on the silence: `timeouts(…, first=…, between=…)`."
)
async def waits_for_ever(document: str, ask: Ask) -> AsyncGenerator[str, None]:
    async with aclosing(
        resume(lambda said: ask(with_rest(document, said)), attempts=8, min_overlap=None)
    ) as texts:
        async for text in texts:
            yield text


@exercise.mistake(
    "One limit is too tight: a model that takes eight seconds to begin is not broken. The first token may take long, the "
    "others may not."
)
async def too_impatient(document: str, ask: Ask) -> AsyncGenerator[str, None]:
    stream = resume(
        lambda said: timeouts(ask(with_rest(document, said)), first=2, between=2),
        attempts=8,
        min_overlap=None,
    )
    async with aclosing(stream) as texts:
        async for text in texts:
            yield text


@exercise.mistake(
    "The server said how long to wait (`retry_after(error)`), and you came back sooner. It will refuse you again."
)
async def comes_back_too_soon(document: str, ask: Ask) -> AsyncGenerator[str, None]:
    said = ""
    for attempt in range(1, 9):
        try:
            async with aclosing(timeouts(ask(with_rest(document, said)), first=20, between=5)) as texts:
                async for text in texts:
                    said += text
                    yield text
            return
        except Exception as error:
            if attempt == 8 or not is_transient(error):
                raise
            await asyncio.sleep(0.5 * attempt)


@exercise.mistake(
    "You ask again after every error. A request that is wrong (400) stays wrong: `is_transient(error)` tells which may pass."
)
async def asks_again_after_everything(document: str, ask: Ask) -> AsyncGenerator[str, None]:
    said = ""
    for attempt in range(1, 9):
        try:
            async with aclosing(timeouts(ask(with_rest(document, said)), first=20, between=5)) as texts:
                async for text in texts:
                    said += text
                    yield text
            return
        except Exception as error:
            if attempt == 8:
                raise
            await asyncio.sleep(0.5 + (retry_after(error) or 0))


@exercise.mistake(
    "You come back at once, again and again. A server that is overloaded needs a pause: `backoff_delays`, or `resume`, which "
    "has it built in."
)
async def hammers(document: str, ask: Ask) -> AsyncGenerator[str, None]:
    said = ""
    for attempt in range(1, 9):
        try:
            async with aclosing(timeouts(ask(with_rest(document, said)), first=20, between=5)) as texts:
                async for text in texts:
                    said += text
                    yield text
            return
        except Exception as error:
            if attempt == 8 or not is_transient(error):
                raise
            if wait := retry_after(error):
                await asyncio.sleep(wait)


@exercise.mistake(
    "When all attempts have failed your summary ends as if it were whole, or empty. Raise the last error: the reader must learn of it."
)
async def ends_in_silence(document: str, ask: Ask) -> AsyncGenerator[str, None]:
    said, delays = "", iter(backoff_delays())
    for _attempt in range(8):
        try:
            async with aclosing(timeouts(ask(with_rest(document, said)), first=20, between=5)) as texts:
                async for text in texts:
                    said += text
                    yield text
            return
        except Exception as error:
            if not is_transient(error):
                raise
            await asyncio.sleep(max(next(delays), retry_after(error) or 0))


@exercise.mistake(
    "A model that falls silent for ever ends your summary as if it were whole: the last `TimeoutError` is swallowed. Let it be "
    "raised, as every last error: the reader must learn of it."
)
async def takes_silence_for_the_end(document: str, ask: Ask) -> AsyncGenerator[str, None]:
    try:
        async with aclosing(summarise(document, ask)) as texts:
            async for text in texts:
                yield text
    except TimeoutError:
        return


@exercise.mistake(
    "You gather the summary and hand it on at the end. That is safe, and it is no stream: yield each piece when it comes."
)
async def gathers_first(document: str, ask: Ask) -> AsyncGenerator[str, None]:
    async with aclosing(summarise(document, ask)) as texts:
        pieces = [text async for text in texts]
    for piece in pieces:
        yield piece


@exercise.mistake(
    "The error has become a piece of the summary. No program can tell it from the model's words: let it be raised."
)
async def says_the_error(document: str, ask: Ask) -> AsyncGenerator[str, None]:
    try:
        async with aclosing(summarise(document, ask)) as texts:
            async for text in texts:
                yield text
    except Exception as error:
        yield f"Error: {error}"


@exercise.mistake(
    "You limit how long the whole may take. A long wait that the server asked for is no fault, and neither is a long "
    "summary: limit the silence, with `timeouts(…, first=…, between=…)`."
)
async def limits_the_whole(document: str, ask: Ask) -> AsyncGenerator[str, None]:
    async with asyncio.timeout(9.7), aclosing(summarise(document, ask)) as texts:
        async for text in texts:
            yield text


@exercise.mistake(
    "The reader has left, and your stream is still open: the model writes on, and somebody pays. Read inside `aclosing(…)`."
)
async def leaves_the_stream_open(document: str, ask: Ask) -> AsyncGenerator[str, None]:
    opened = resume(
        lambda said: timeouts(ask(with_rest(document, said)), first=20, between=5),
        attempts=8,
        min_overlap=None,
    )
    kept_open[:] = [opened]
    async for text in opened:
        yield text


kept_open: list[AsyncGenerator[str, None]] = []  # as a notebook's global names keep a stream alive


@exercise.mistake(
    "It stops too early: three attempts are not enough on a bad day. The task wants six to be possible."
)
async def three_attempts(document: str, ask: Ask) -> AsyncGenerator[str, None]:
    stream = resume(
        lambda said: timeouts(ask(with_rest(document, said)), first=20, between=5),
        attempts=3,
        min_overlap=None,
    )
    async with aclosing(stream) as texts:
        async for text in texts:
            yield text


@exercise.mistake(
    "`resume` makes five attempts when you say nothing. The task wants six to be possible: `attempts=…`."
)
async def attempts_by_default(document: str, ask: Ask) -> AsyncGenerator[str, None]:
    stream = resume(
        lambda said: timeouts(ask(with_rest(document, said)), first=20, between=5), min_overlap=None
    )
    async with aclosing(stream) as texts:
        async for text in texts:
            yield text


@exercise.mistake(
    "It asks for ever, or nearly so. Somebody must learn that the server is gone: stop after some attempts, six to twelve of "
    "them, and raise the last error. (A retry around a retry multiplies them.)"
)
async def never_gives_up(document: str, ask: Ask) -> AsyncGenerator[str, None]:
    said, delays = "", iter(backoff_delays())
    for _ in range(200):
        try:
            async with aclosing(timeouts(ask(with_rest(document, said)), first=20, between=5)) as texts:
                async for text in texts:
                    said += text
                    yield text
            return
        except Exception as error:
            if not is_transient(error):
                raise
            await asyncio.sleep(max(next(delays), retry_after(error) or 0))
    raise ConnectionError("gone")
