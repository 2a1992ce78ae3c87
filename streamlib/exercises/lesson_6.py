"""Lesson 6: one event as text, and a stream of tokens as a stream of events."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, suppress
from typing import Any

from ..checker import Case, Exercise, Stage
from ..sse import ServerSentEvent, SSEParser, encode

# sse_format


def sse_format(data: str, event: str | None = None, id: str | None = None) -> str:
    r"""One event as text, from its first field to the empty line that ends it.

    The fields come in the order `event`, `id`, `data`; a name or an id that is None has no line. Each line of
    the data is a `data` line. Whatever the data holds, a reader gets it back, with LF for every CR, LF and
    CR LF: to the format they are one line end. A name or an id with a line end in it is a `ValueError`.

    >>> sse_format("Hello", id="7")
    'id: 7\ndata: Hello\n\n'
    >>> sse_format("two\nlines")
    'data: two\ndata: lines\n\n'
    """
    lines = []
    for name, value in (("event", event), ("id", id)):
        if value is not None:
            if "\n" in value or "\r" in value:
                raise ValueError(f"a line end in {name}: {value!r}")
            lines.append(f"{name}: {value}\n")
    for line in data.replace("\r\n", "\n").replace("\r", "\n").split("\n"):
        lines.append(f"data: {line}\n")
    return "".join(lines) + "\n"


formatting = Exercise(
    sse_format,
    cases=[
        Case("Hello"),
        Case("two\nlines", note="a line end in the data"),
        Case("Hello", kwargs={"event": "token"}),
        Case("Hello", kwargs={"id": "7"}),
        Case("two\nlines", kwargs={"event": "token", "id": "7"}),
        Case(" a space on either side ", note="spaces that belong to the data"),
        Case("ends in a line end\n", note="the data ends in a line end"),
        Case("\n\nbegins with two", note="the data begins with line ends"),
        Case("a\n\nb", note="an empty line in the data"),
        Case("a\r\nb\rc", note="every kind of line end: CR LF and a lone CR"),
        Case("a\u2028b\x0cc\x85d", note="characters that Python's splitlines takes for line ends"),
        Case("", note="empty data"),
        Case("x", kwargs={"id": ""}, note="an empty id, which resets it"),
        Case("x", kwargs={"event": ""}, note="an empty name"),
        Case("data: x\n: y", note="data that looks like fields"),
        Case("x", kwargs={"event": "a\nb"}, note="a line end in the name"),
        Case("x", kwargs={"id": "a\nb"}, note="a line end in the id"),
        Case("x", kwargs={"event": "a\rb"}, note="a CR in the name"),
        Case("x", kwargs={"id": "a\rb"}, note="a CR in the id"),
    ],
    hints=(
        "What would a reader make of your text? Read it with `iter_events` of `streamlib.sse`, which takes a list of bytes: "
        "`list(iter_events([text.encode()]))`.",
        "The format has three line ends, and it has one way to say a line end inside the data: one more `data` line. So cut "
        "the data into lines first, at those three and at nothing else.",
        'Collect lines. `event` and `id` first, each only if it is not None and after a look for `"\\n"` and `"\\r"`. Then '
        '`data.replace("\\r\\n", "\\n").replace("\\r", "\\n").split("\\n")` gives the lines of the data. Each line ends in `\\n`, '
        "and one more `\\n` ends the event.",
    ),
)


@formatting.right
def with_a_pattern(data: str, event: str | None = None, id: str | None = None) -> str:
    fields = {"event": event, "id": id}
    text = ""
    for name in fields:
        value = fields[name]
        if value is None:
            continue
        if re.search(r"[\r\n]", value):
            raise ValueError(name)
        text += f"{name}: {value}\n"
    for line in re.split(r"\r\n|\r|\n", data):
        text += f"data: {line}\n"
    return text + "\n"


@formatting.right
def with_one_join(data: str, event: str | None = None, id: str | None = None) -> str:
    def one_line(value: str) -> str:
        if len(value.splitlines()) > 1 or value.endswith(("\r", "\n")):
            if "\n" not in value and "\r" not in value:
                return value
            raise ValueError("one line only")
        return value

    lines: list[str] = []
    if event is not None:
        lines.append("event: " + one_line(event))
    if id is not None:
        lines.append("id: " + one_line(id))
    normal = data.replace("\r\n", "\n").replace("\r", "\n")
    lines.extend("data: " + part for part in normal.split("\n"))
    lines += ["", ""]
    return "\n".join(lines)


@formatting.right
def with_bytes_that_split_as_the_format_does(
    data: str, event: str | None = None, id: str | None = None
) -> str:
    def lines(text: str) -> list[str]:
        # bytes.splitlines cuts where the format does; the x keeps a last empty line
        return [line.decode() for line in (text + "x").encode().splitlines()]

    out = []
    for name, value in (("event", event), ("id", id)):
        if value is None:
            continue
        if len(lines(value)) != 1:
            raise ValueError(f"a line end in {name}: {value!r}")
        out.append(f"{name}: {value}")
    *full, last = lines(data)
    out += [f"data: {line}" for line in [*full, last[:-1]]]
    return "\n".join(out) + "\n\n"


@formatting.right
def with_the_library(data: str, event: str | None = None, id: str | None = None) -> str:
    return encode(data, event=event, id=id).decode()


@formatting.mistake(
    "A line end in the data ends the `data` line: the rest is taken for a field of an unknown name, and dropped. Each line "
    "of the data needs a `data: ` of its own."
)
def one_data_line(data: str, event: str | None = None, id: str | None = None) -> str:
    text = ""
    for name, value in (("event", event), ("id", id)):
        if value is not None:
            if "\n" in value or "\r" in value:
                raise ValueError(name)
            text += f"{name}: {value}\n"
    return text + f"data: {data}\n\n"


@formatting.mistake(
    "`splitlines` cuts in more places than the format does (lesson 1), so the reader gets line ends that were none. And it "
    "drops a line end at the end."
)
def with_splitlines(data: str, event: str | None = None, id: str | None = None) -> str:
    text = ""
    for name, value in (("event", event), ("id", id)):
        if value is not None:
            if "\n" in value or "\r" in value:
                raise ValueError(name)
            text += f"{name}: {value}\n"
    for line in data.splitlines():
        text += f"data: {line}\n"
    return text + "\n"


@formatting.mistake(
    "`splitlines` cuts in more places than the format does (lesson 1), so the reader gets line ends that were none. And of "
    "empty data it makes no line at all, so no event."
)
def with_splitlines_and_a_patch(data: str, event: str | None = None, id: str | None = None) -> str:
    text = ""
    for name, value in (("event", event), ("id", id)):
        if value is not None:
            if "\n" in value or "\r" in value:
                raise ValueError(name)
            text += f"{name}: {value}\n"
    lines = data.splitlines() + ([""] if data.endswith(("\n", "\r")) else [])
    for line in lines:
        text += f"data: {line}\n"
    return text + "\n"


@formatting.mistake(
    "The empty line that ends the event is missing, so the reader waits for it and delivers nothing."
)
def no_empty_line(data: str, event: str | None = None, id: str | None = None) -> str:
    return sse_format(data, event, id)[:-1]


@formatting.mistake(
    "A CR ends a line as well, alone or before an LF. Your reader takes what stands after it for a field, and drops it."
)
def forgets_cr(data: str, event: str | None = None, id: str | None = None) -> str:
    text = ""
    for name, value in (("event", event), ("id", id)):
        if value is not None:
            if "\n" in value or "\r" in value:
                raise ValueError(name)
            text += f"{name}: {value}\n"
    for line in data.split("\n"):
        text += f"data: {line}\n"
    return text + "\n"


@formatting.mistake(
    "A CR LF is one line end, not two. You replace CR and LF one by one, so an empty line appears between them."
)
def cr_lf_counts_twice(data: str, event: str | None = None, id: str | None = None) -> str:
    return sse_format(data.replace("\r", "\n"), event, id)


@formatting.mistake(
    "Without the space after the colon a reader still takes one space away, if there is one. Then it is one of the data's "
    "own, and words run together."
)
def no_space_after_the_colon(data: str, event: str | None = None, id: str | None = None) -> str:
    return (
        sse_format(data, event, id)
        .replace("data: ", "data:")
        .replace("id: ", "id:")
        .replace("event: ", "event:")
    )


@formatting.mistake(
    "A line end in the name or the id would end the field, and what follows would be a field of its own: whoever chooses the "
    "name could write events. Raise a `ValueError`."
)
def trusts_the_name(data: str, event: str | None = None, id: str | None = None) -> str:
    text = f"event: {event}\n" if event is not None else ""
    text += f"id: {id}\n" if id is not None else ""
    return text + sse_format(data)


@formatting.mistake(
    "A CR ends a line as well. In a name or an id it would end the field: raise a `ValueError` for it too."
)
def trusts_a_cr_in_the_name(data: str, event: str | None = None, id: str | None = None) -> str:
    for value in (event, id):
        if value is not None and "\n" in value:
            raise ValueError(value)
    return trusts_the_name(data, event, id)


@formatting.mistake(
    'You ask whether the value is true. An empty id is a value too: it says "forget the last one". Ask for `is not None`.'
)
def leaves_out_what_is_empty(data: str, event: str | None = None, id: str | None = None) -> str:
    return sse_format(data, event or None, id or None)


@formatting.mistake("A name or an id that is None has no line: yours reads `event: None`.")
def writes_none(data: str, event: str | None = None, id: str | None = None) -> str:
    return sse_format(data, str(event), str(id))


@formatting.mistake("You take spaces off the data. They belong to it: a token often begins with one.")
def strips_the_data(data: str, event: str | None = None, id: str | None = None) -> str:
    return sse_format(data.strip(), event, id)


# A model that takes its time, for trying out answers


async def slow(tokens: Sequence[str], every: float) -> AsyncGenerator[str, None]:
    """Each token `every` seconds after the one before it, and the end as long after the last."""
    for token in tokens:
        await asyncio.sleep(every)
        yield token
    await asyncio.sleep(every)


# event_stream


async def event_stream(tokens: AsyncGenerator[str, None], heartbeat: float) -> AsyncIterator[bytes]:
    r"""What goes over the wire for a stream of tokens, each piece as soon as it can be sent.

    Each token is an event whose data is the token as JSON. Whenever `heartbeat` seconds have passed without a
    token there is a comment, `b": still here\n\n"`, and again after as many more. After the last token there
    is an event named `done` with the data `{}`. An error of `tokens` goes through. For a slow reader, at most
    three tokens are made ahead of what it took. When it leaves, at whatever moment, `tokens` is closed.

    >>> async for piece in event_stream(slow(["Hel", "lo"], every=0.8), heartbeat=0.5):
    ...     print(piece)
    b': still here\n\n'
    b'data: "Hel"\n\n'
    b': still here\n\n'
    b'data: "lo"\n\n'
    b': still here\n\n'
    b'event: done\ndata: {}\n\n'
    """
    waiting = None
    try:
        while True:
            waiting = waiting or asyncio.ensure_future(anext(tokens, None))
            done, _ = await asyncio.wait([waiting], timeout=heartbeat)
            if done:
                token = waiting.result()
                waiting = None
                if token is None:
                    break
                yield encode(json.dumps(token))
            else:
                yield b": still here\n\n"
    finally:
        if waiting:
            waiting.cancel()
            await asyncio.wait([waiting])
        await tokens.aclose()
    yield encode("{}", event="done")


DONE = ServerSentEvent("{}", event="done")
Said = Sequence[tuple[float, str | Exception]]


class Model:
    """A model that is watched: its tokens arrive at fixed instants, however late somebody asks."""

    def __init__(self, says: Said) -> None:
        self.log: list[str] = []
        self.made = 0
        self._says = says
        self._start = asyncio.get_running_loop().time()

    async def tokens(self) -> AsyncGenerator[str, None]:
        try:
            for at, item in self._says:
                await asyncio.sleep(self._start + at - asyncio.get_running_loop().time())
                if isinstance(item, Exception):
                    raise item
                self.made += 1
                yield item
        except (asyncio.CancelledError, GeneratorExit):
            await asyncio.sleep(0.01)  # to close a connection takes a moment
            self.note("the model is stopped")
            raise

    def note(self, line: str) -> None:
        self.log.append(f"{asyncio.get_running_loop().time() - self._start:5.2f} s  {line}")


def shown(piece: object) -> str:
    """What a reader makes of one piece: JSON may be written in more ways than one."""
    if piece == b": still here\n\n":
        return "a heartbeat"
    with suppress(TypeError, ValueError):
        parser = SSEParser()
        [event] = parser.feed(piece)  # type: ignore[arg-type]
        parser.close()
        if event.event == "message" and not parser.truncated:
            return f"the token {event.json()!r}"
        if event == DONE and not parser.truncated:
            return "done"
    return repr(piece)


def streamed(
    note: str,
    says: Said,
    heartbeat: float = 1.0,
    *,
    take: int = 100,
    leave_at: float = 100,
    pause: float = 0.0,
) -> Case:
    """What a reader gets and when, and what the model sees of the reader.

    The reader leaves after `take` pieces, between two of them, or at the instant `leave_at`, while it waits:
    Starlette cancels what is awaited then.
    """

    async def play(solution: Callable[..., AsyncGenerator[bytes, None]], stage: Stage) -> object:
        model = Model(says)
        ahead = 0

        async def read() -> None:
            nonlocal ahead
            pieces = 0
            async with aclosing(solution(model.tokens(), heartbeat)) as stream:
                async for piece in stream:
                    model.note(f"the reader gets {shown(piece)}")
                    pieces += 1
                    ahead = max(ahead, model.made - pieces)
                    if pieces == take:
                        break
                    await asyncio.sleep(pause)

        reader = stage.spawn(read())
        await asyncio.wait([reader], timeout=leave_at)
        left = not reader.done() or take < 100
        if not reader.done():
            reader.cancel()
            await asyncio.wait([reader])
        if not reader.cancelled() and reader.exception():
            model.note(f"the reader gets {reader.exception()!r}")
        model.note("the reader has left" if left else "the reader has come to the end")
        if pause:
            model.log.append(f"tokens are made and kept for a reader who is slow: {ahead > 3}")
        return model.log

    return Case(play=play, note=note)


CUT = ConnectionError("cut")
A_B = [(0.5, "a"), (0.7, "b"), (0.8, "c")]

serving = Exercise(
    event_stream,
    cases=[
        streamed("a quick model", A_B),
        streamed("the first token takes 3.5 s", [(3.5, "a"), (3.6, "b")]),
        streamed("a silence in the middle", [(0.2, "a"), (2.9, "b"), (3.0, "c")]),
        streamed("a token every 0.7 s, a heartbeat after 1 s", [(0.7 * n, "x") for n in range(1, 6)]),
        streamed("a line end in a token, and one that is no ASCII", [(0.1, "one\n\ntwo"), (0.2, " é")]),
        streamed("an empty token", [(0.1, "a"), (0.2, ""), (0.3, "b")]),
        streamed("an empty answer", []),
        streamed("the model fails after a token", [(0.3, "a"), (0.6, CUT)]),
        streamed("the model fails at once, and late", [(2.5, CUT)]),
        streamed("the reader leaves after two pieces", A_B, take=2),
        streamed("the reader leaves after a heartbeat", [(5.0, "a")], take=1),
        streamed("the reader leaves while the model thinks", [(5.0, "a")], leave_at=2.4),
        streamed(
            "the reader leaves while it waits for the second token", [(0.3, "a"), (9.0, "b")], leave_at=3.7
        ),
        streamed("the reader leaves before the first heartbeat", [(5.0, "a")], leave_at=0.4),
        streamed(
            "a reader who takes 2 s for each piece", [(0.1 * n, "x") for n in range(1, 12)], 30.0, pause=2.0
        ),
        streamed("a slower heartbeat", [(3.5, "a"), (3.6, "b")], 3.0),
    ],
    hints=(
        "`asyncio.wait_for(anext(tokens), heartbeat)` looks right. What does it do to `tokens` when the time is up? (Lesson 5 "
        "has an experiment.)",
        "The wait for a token must outlive a heartbeat. Make it a task, `asyncio.ensure_future(anext(tokens, None))`, and wait "
        "for it with `asyncio.wait([task], timeout=heartbeat)`, which cancels nothing. A task nobody waits for any more is "
        "yours to cancel.",
        "In `try`, an endless loop: if there is no task, make one. `done, _ = await asyncio.wait([task], timeout=heartbeat)`. "
        "Not done: yield the comment. Done: take its `result()`, forget the task, `break` at None, yield the event. In "
        "`finally`: if there is a task, `cancel()` it and `await asyncio.wait([task])`; then `await tokens.aclose()`. After "
        "all that the event `done`.",
    ),
)


@serving.right
async def with_a_shielded_task(tokens: AsyncGenerator[str, None], heartbeat: float) -> AsyncIterator[bytes]:
    async def ask() -> list[str]:
        async for token in tokens:
            return [token]
        return []

    task = None
    async with aclosing(tokens):
        try:
            while True:
                if task is None:
                    task = asyncio.create_task(ask())
                try:
                    got = await asyncio.wait_for(asyncio.shield(task), heartbeat)
                except TimeoutError:
                    yield b": still here\n\n"
                    continue
                task = None
                if not got:
                    break
                yield f"data: {json.dumps(got[0])}\n\n".encode()
        finally:
            if task is not None and not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
    yield b"event: done\ndata: {}\n\n"


@serving.right
async def with_a_queue(tokens: AsyncGenerator[str, None], heartbeat: float) -> AsyncIterator[bytes]:
    queue: asyncio.Queue[str | None] = asyncio.Queue(maxsize=1)

    async def pump() -> None:
        async with aclosing(tokens):
            async for token in tokens:
                await queue.put(token)
        await queue.put(None)

    task = asyncio.create_task(pump())
    take = None
    try:
        while True:
            take = take or asyncio.create_task(queue.get())
            await asyncio.wait([take, task], timeout=heartbeat, return_when=asyncio.FIRST_COMPLETED)
            if take.done():
                token = take.result()
                take = None
                if token is None:
                    break
                yield encode(json.dumps(token))
            elif task.done() and task.exception():
                task.result()
            elif not task.done():
                yield b": still here\n\n"
    finally:
        for each in (task, take):
            if each is not None:
                each.cancel()
        await asyncio.wait([each for each in (task, take) if each is not None])
    yield encode("{}", event="done")


@serving.right
async def with_an_event(tokens: AsyncGenerator[str, None], heartbeat: float) -> AsyncIterator[bytes]:
    """One waits for the token in a task of its own, and rings when it is there."""
    ring = asyncio.Event()
    task: asyncio.Task[str | None] | None = None

    async def next_token() -> str | None:
        try:
            return await anext(tokens)
        except StopAsyncIteration:
            return None
        finally:
            ring.set()

    try:
        token: str | None = ""
        while token is not None:
            ring.clear()
            task = asyncio.create_task(next_token())
            while not task.done():
                try:
                    async with asyncio.timeout(heartbeat):
                        await ring.wait()
                except TimeoutError:
                    yield b": still here\n\n"
                else:
                    await asyncio.wait([task])
            token = task.result()
            if token is not None:
                yield encode(json.dumps(token))
    finally:
        if task and task.cancel():
            await asyncio.wait([task])
        await tokens.aclose()
    yield encode("{}", event="done")


@serving.mistake(
    "Your stream ends at the first heartbeat, and says `done`. `wait_for` (and so does `asyncio.timeout`) cancels what it waits for when "
    "the time is up, and a generator that was cancelled is over (lesson 5). The wait for a token has to outlive a heartbeat: make it a task, and wait "
    "for that with `asyncio.wait`, which cancels nothing."
)
async def waits_with_wait_for(tokens: AsyncGenerator[str, None], heartbeat: float) -> AsyncIterator[bytes]:
    async with aclosing(tokens):
        while True:
            try:
                token = await asyncio.wait_for(anext(tokens), heartbeat)
            except TimeoutError:
                yield b": still here\n\n"
                continue
            except StopAsyncIteration:
                break
            yield encode(json.dumps(token))
    yield encode("{}", event="done")


@serving.mistake(
    "There are no heartbeats. An `async for` waits as long as the model does, and leaves you no moment to write one."
)
async def no_heartbeat(tokens: AsyncGenerator[str, None], heartbeat: float) -> AsyncIterator[bytes]:
    async with aclosing(tokens):
        async for token in tokens:
            yield encode(json.dumps(token))
    yield encode("{}", event="done")


@serving.mistake(
    "You look at the clock when a token is there, so the comment comes after the silence. It is for the silence itself: "
    "something has to wake you while you wait."
)
async def heartbeat_afterwards(tokens: AsyncGenerator[str, None], heartbeat: float) -> AsyncIterator[bytes]:
    clock = asyncio.get_running_loop().time
    last = clock()
    async with aclosing(tokens):
        async for token in tokens:
            if clock() - last > heartbeat:
                yield b": still here\n\n"
            yield encode(json.dumps(token))
            last = clock()
    yield encode("{}", event="done")


@serving.mistake(
    "One comment for each silence is not enough: a proxy counts from the last byte it saw, so there is one after every "
    "`heartbeat` seconds."
)
async def one_heartbeat_only(tokens: AsyncGenerator[str, None], heartbeat: float) -> AsyncIterator[bytes]:
    waiting = None
    try:
        while True:
            waiting = asyncio.ensure_future(anext(tokens, None))
            done, _ = await asyncio.wait([waiting], timeout=heartbeat)
            if not done:
                yield b": still here\n\n"
                await asyncio.wait([waiting])
            token = waiting.result()
            if token is None:
                break
            yield encode(json.dumps(token))
    finally:
        if waiting:
            waiting.cancel()
            await asyncio.wait([waiting])
        await tokens.aclose()
    yield encode("{}", event="done")


@serving.mistake(
    "Your heartbeat keeps a time of its own and comes in the midst of tokens too. Count from the last token: only silence "
    "needs one."
)
async def heartbeat_by_the_clock(tokens: AsyncGenerator[str, None], heartbeat: float) -> AsyncIterator[bytes]:
    clock = asyncio.get_running_loop().time
    waiting, due = None, clock() + heartbeat
    try:
        while True:
            waiting = waiting or asyncio.ensure_future(anext(tokens, None))
            done, _ = await asyncio.wait([waiting], timeout=max(0.0, due - clock()))
            if done:
                token = waiting.result()
                waiting = None
                if token is None:
                    break
                yield encode(json.dumps(token))
            else:
                due += heartbeat
                yield b": still here\n\n"
    finally:
        if waiting:
            waiting.cancel()
            await asyncio.wait([waiting])
        await tokens.aclose()
    yield encode("{}", event="done")


@serving.mistake(
    "Each heartbeat asks the model for another token while the first question is still open. An async generator answers one "
    "at a time. Keep the task until it is done."
)
async def asks_twice(tokens: AsyncGenerator[str, None], heartbeat: float) -> AsyncIterator[bytes]:
    waiting = None
    try:
        while True:
            waiting = asyncio.ensure_future(anext(tokens, None))
            done, _ = await asyncio.wait([waiting], timeout=heartbeat)
            if not done:
                yield b": still here\n\n"
                continue
            token = waiting.result()
            if token is None:
                break
            yield encode(json.dumps(token))
    finally:
        if waiting:
            waiting.cancel()
            await asyncio.wait([waiting])
        await tokens.aclose()
    yield encode("{}", event="done")


@serving.mistake(
    "That is text, of type `str`. What goes over the wire is bytes: `encode` of `streamlib.sse` gives them, and for the comment "
    "there is the `b` before the quotes."
)
async def gives_text(tokens: AsyncGenerator[str, None], heartbeat: float) -> AsyncIterator[Any]:
    async with aclosing(event_stream(tokens, heartbeat)) as events:  # type: ignore[type-var]
        async for event in events:
            yield event.decode()


@serving.mistake(
    "A token goes out as it is. One with a line end in it breaks the event; `json.dumps` makes one line of every token."
)
async def without_json(tokens: AsyncGenerator[str, None], heartbeat: float) -> AsyncIterator[bytes]:
    async with aclosing(event_stream(tokens, heartbeat)) as events:  # type: ignore[type-var]
        async for event in events:
            if event.startswith(b"data: "):
                event = f"data: {json.loads(event[6:])}\n\n".encode()
            yield event


@serving.mistake(
    "The answer is whole, and the reader cannot know: the event `done` is missing. Without it a browser's `EventSource` takes "
    "the end for a broken connection, and asks again."
)
async def never_says_done(tokens: AsyncGenerator[str, None], heartbeat: float) -> AsyncIterator[bytes]:
    async with aclosing(event_stream(tokens, heartbeat)) as events:  # type: ignore[type-var]
        async for event in events:
            if not event.startswith(b"event: done"):
                yield event


@serving.mistake(
    "The reader has left, and the model goes on: nothing stops it. Whatever happens, `finally` runs: cancel the task that "
    "reads the model, wait until it is over, then close `tokens`."
)
async def never_closes(tokens: AsyncGenerator[str, None], heartbeat: float) -> AsyncIterator[bytes]:
    waiting = None
    while True:
        waiting = waiting or asyncio.ensure_future(anext(tokens, None))
        done, _ = await asyncio.wait([waiting], timeout=heartbeat)
        if done:
            token = waiting.result()
            waiting = None
            if token is None:
                break
            yield encode(json.dumps(token))
        else:
            yield b": still here\n\n"
    yield encode("{}", event="done")


@serving.mistake(
    "When the reader leaves during a wait, your task still waits for a token, so the generator is busy and cannot be closed. "
    "Cancel the task first and wait until it is over."
)
async def closes_while_it_waits(tokens: AsyncGenerator[str, None], heartbeat: float) -> AsyncIterator[bytes]:
    waiting = None
    async with aclosing(tokens):
        while True:
            waiting = waiting or asyncio.ensure_future(anext(tokens, None))
            done, _ = await asyncio.wait([waiting], timeout=heartbeat)
            if done:
                token = waiting.result()
                waiting = None
                if token is None:
                    break
                yield encode(json.dumps(token))
            else:
                yield b": still here\n\n"
    yield encode("{}", event="done")


@serving.mistake(
    "You cancel the task and do not wait for it. To cancel is to ask: closing a connection takes some turns of the loop. "
    "`await asyncio.wait([task])` before you go on."
)
async def cancels_and_leaves(tokens: AsyncGenerator[str, None], heartbeat: float) -> AsyncIterator[bytes]:
    waiting = None
    try:
        while True:
            waiting = waiting or asyncio.ensure_future(anext(tokens, None))
            done, _ = await asyncio.wait([waiting], timeout=heartbeat)
            if done:
                token = waiting.result()
                waiting = None
                if token is None:
                    break
                yield encode(json.dumps(token))
            else:
                yield b": still here\n\n"
    finally:
        if waiting:
            waiting.cancel()
        else:
            await tokens.aclose()
    yield encode("{}", event="done")


@serving.mistake(
    "You close on `CancelledError` only. A reader may also leave between two pieces: then your generator is closed, which is "
    "another exception, `GeneratorExit`. `finally` covers every way out."
)
async def closes_on_cancel_only(tokens: AsyncGenerator[str, None], heartbeat: float) -> AsyncIterator[bytes]:
    waiting = None
    try:
        while True:
            waiting = waiting or asyncio.ensure_future(anext(tokens, None))
            done, _ = await asyncio.wait([waiting], timeout=heartbeat)
            if done:
                token = waiting.result()
                waiting = None
                if token is None:
                    break
                yield encode(json.dumps(token))
            else:
                yield b": still here\n\n"
    except asyncio.CancelledError:
        if waiting:
            waiting.cancel()
            await asyncio.wait([waiting])
        await tokens.aclose()
        raise
    yield encode("{}", event="done")


@serving.mistake(
    "The reader has left, and you go on to say `done`: you caught the `CancelledError`. Clean up in `finally`, which lets it "
    "through."
)
async def swallows_the_cancellation(
    tokens: AsyncGenerator[str, None], heartbeat: float
) -> AsyncIterator[bytes]:
    waiting = None
    try:
        while True:
            waiting = waiting or asyncio.ensure_future(anext(tokens, None))
            done, _ = await asyncio.wait([waiting], timeout=heartbeat)
            if done:
                token = waiting.result()
                waiting = None
                if token is None:
                    break
                yield encode(json.dumps(token))
            else:
                yield b": still here\n\n"
    except asyncio.CancelledError:
        pass
    finally:
        if waiting:
            waiting.cancel()
            await asyncio.wait([waiting])
        await tokens.aclose()
    yield encode("{}", event="done")


@serving.mistake(
    "`done` stands in the `finally`, so it also comes after an error, where the answer is not whole. And when the reader has "
    "left, a generator may not yield any more. It belongs after everything."
)
async def says_done_in_finally(tokens: AsyncGenerator[str, None], heartbeat: float) -> AsyncIterator[bytes]:
    waiting = None
    try:
        while True:
            waiting = waiting or asyncio.ensure_future(anext(tokens, None))
            done, _ = await asyncio.wait([waiting], timeout=heartbeat)
            if done:
                token = waiting.result()
                waiting = None
                if token is None:
                    break
                yield encode(json.dumps(token))
            else:
                yield b": still here\n\n"
    finally:
        if waiting:
            waiting.cancel()
            await asyncio.wait([waiting])
        await tokens.aclose()
        yield encode("{}", event="done")


@serving.mistake(
    "The model failed, and your stream says `done`: half an answer is taken for a whole one. Let the error through."
)
async def takes_an_error_for_the_end(
    tokens: AsyncGenerator[str, None], heartbeat: float
) -> AsyncIterator[bytes]:
    try:
        async with aclosing(event_stream(tokens, heartbeat)) as events:  # type: ignore[type-var]
            async for event in events:
                yield event
    except Exception:
        yield encode("{}", event="done")


@serving.mistake(
    "An empty token ends your stream: it is false, but it is a token. Ask for `is None`, with `anext(tokens, None)`."
)
async def takes_empty_for_the_end(
    tokens: AsyncGenerator[str, None], heartbeat: float
) -> AsyncIterator[bytes]:
    waiting = None
    try:
        while True:
            waiting = waiting or asyncio.ensure_future(anext(tokens, None))
            done, _ = await asyncio.wait([waiting], timeout=heartbeat)
            if done:
                token = waiting.result()
                waiting = None
                if not token:
                    break
                yield encode(json.dumps(token))
            else:
                yield b": still here\n\n"
    finally:
        if waiting:
            waiting.cancel()
            await asyncio.wait([waiting])
        await tokens.aclose()
    yield encode("{}", event="done")


@serving.mistake(
    "Your task reads the model as fast as it can, into a queue with no limit, or a large one. When a slow reader leaves, "
    "you have paid for tokens that nobody saw. `asyncio.Queue(maxsize=1)` makes the task wait."
)
async def queue_without_a_limit(tokens: AsyncGenerator[str, None], heartbeat: float) -> AsyncIterator[bytes]:
    queue: asyncio.Queue[Any] = asyncio.Queue()

    async def pump() -> None:
        try:
            async with aclosing(tokens):
                async for token in tokens:
                    queue.put_nowait(token)
            queue.put_nowait(None)
        except Exception as error:
            queue.put_nowait(error)

    task = asyncio.create_task(pump())
    try:
        while True:
            try:
                token = await asyncio.wait_for(queue.get(), heartbeat)
            except TimeoutError:
                yield b": still here\n\n"
                continue
            if token is None:
                break
            if isinstance(token, Exception):
                raise token
            yield encode(json.dumps(token))
    finally:
        task.cancel()
        await asyncio.wait([task])
    yield encode("{}", event="done")


@serving.mistake(
    "All pieces come out together at the end: you collect the answer first. `yield` each piece as soon as there is one."
)
async def collects_first(tokens: AsyncGenerator[str, None], heartbeat: float) -> AsyncIterator[bytes]:
    async with aclosing(event_stream(tokens, heartbeat)) as events:  # type: ignore[type-var]
        pieces = [event async for event in events]
    for piece in pieces:
        yield piece
