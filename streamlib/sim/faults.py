"""How the simulated model breaks: a fault's name and number in, a changed answer out (lesson 5).

``parse_faults("cut-after=5; crlf")`` reads the header ``X-Sim-Fault``. Each fault is one line of
``FAULTS``. Those that change the bytes are generators from frames to frames, so they join freely and work
on every wire.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from email.utils import formatdate

from .model import MODEL_NAME, ApiError, Frame


@dataclass(frozen=True, slots=True)
class Fault:
    """A way to break, and the numbers it takes; without a default it takes none."""

    name: str
    what: str
    default: float | None = None
    least: float = 0
    most: float = 8192


FAULTS = {
    fault.name: fault
    for fault in (
        Fault("refuse", "close the connection without an answer"),
        Fault("status", "answer with this error status instead: 429, 500, 503, …", 500, 400, 599),
        Fault("retry-after", "with status: a Retry-After header, in seconds", 1, 0, 3600),
        Fault(
            "retry-after-date", "with status: a Retry-After header, as the date that far ahead", 2, 0, 3600
        ),
        Fault("slow-first-byte", "send nothing at all for this many seconds more", 3, 0, 600),
        Fault("cut-after", "break the connection after this many tokens", 5),
        Fault("truncate-after", "end cleanly after this many tokens: no finish reason, no error", 5),
        Fault("cut-mid-event", "after this many tokens send half an event, then break the connection", 5),
        Fault("stall-after", "fall silent after this many tokens, with the connection open", 5),
        Fault("error-event", "after this many tokens send an error object in the stream, then end", 5),
        Fault("bad-json", "after this many tokens send one event with broken JSON, then go on", 5),
        Fault("no-done", "leave out the last event, [DONE]"),
        Fault("clump", "release events every so many seconds, as a buffering proxy does", 1, 0.05, 60),
        Fault("split-utf8", "send each event in two pieces, cut inside a character where that can be"),
        Fault("crlf", "end lines with CR LF"),
        Fault("comments", "send comment lines between the events, as keep-alives"),
    )
}

STRIKES = ("cut-after", "truncate-after", "cut-mid-event", "stall-after", "error-event", "bad-json")


@dataclass(frozen=True, slots=True)
class Faults:
    """The faults of one request: name to number (0 where the fault takes none)."""

    chosen: dict[str, float]

    def __contains__(self, name: str) -> bool:
        return name in self.chosen

    def get(self, name: str, default: float) -> float:
        return self.chosen.get(name, default)

    @property
    def strike(self) -> tuple[str, int] | None:
        """The fault that strikes within the answer, and after how many tokens."""
        for name in STRIKES:
            if name in self.chosen:
                return name, int(self.chosen[name])
        return None

    def strike_only(self) -> Faults:
        """These faults without those that a blocking answer, which is no event stream, cannot have."""
        return Faults({name: number for name, number in self.chosen.items() if name in STRIKES})


NO_FAULTS = Faults({})


def parse_faults(text: str) -> Faults:
    """``"status=429; retry-after=2"`` as ``Faults``. What is not on the list is an ``ApiError`` 400."""
    chosen: dict[str, float] = {}
    for item in filter(None, (part.strip() for part in text.split(";"))):
        name, given, number = (part.strip() for part in item.partition("="))
        if name not in FAULTS:
            raise ApiError(
                400, f"X-Sim-Fault: there is no fault {name!r}. {fault_list()}", code="unknown_fault"
            )
        fault = FAULTS[name]
        if fault.default is None:
            if given:
                raise ApiError(400, f"X-Sim-Fault: {name} takes no number, got {item!r}.", code="bad_fault")
            chosen[name] = 0
            continue
        try:
            value = float(number) if given else fault.default
        except ValueError:
            value = math.nan
        if not fault.least <= value <= fault.most:
            raise ApiError(
                400,
                f"X-Sim-Fault: {name} takes a number from {fault.least:g} to {fault.most:g}, got {number!r}.",
                code="bad_fault",
            )
        chosen[name] = value
    struck = [name for name in STRIKES if name in chosen]
    if len(struck) > 1:
        raise ApiError(
            400, f"X-Sim-Fault: only one of {', '.join(struck)} can happen to one answer.", code="bad_fault"
        )
    return Faults(chosen)


def break_frames(frames: Iterable[Frame], faults: Faults, tokens: int, error_event: bytes) -> Iterable[Frame]:
    """The frames of an answer of ``tokens`` tokens as the faults leave them."""
    if "no-done" in faults:
        frames = without_last(frames)
    if faults.strike:
        name, after = faults.strike
        frames = strike(frames, name, min(after, tokens), error_event)
    if "comments" in faults:
        frames = comments(frames)
    if "crlf" in faults:
        frames = crlf(frames)
    if "clump" in faults:
        frames = clump(frames, faults.chosen["clump"])
    if "split-utf8" in faults:
        frames = split_utf8(frames)
    return frames


def fault_list() -> str:
    """One sentence that names every fault."""
    names = [fault.name if fault.default is None else f"{fault.name}=N" for fault in FAULTS.values()]
    return f"The faults are: {', '.join(names)}; join several with ';'."


# --- instead of an answer --------------------------------------------------------------------------

STATUS_MESSAGES: dict[int, tuple[str, str, str | None]] = {
    429: (f"Rate limit reached for {MODEL_NAME}.", "requests", "rate_limit_exceeded"),
    500: ("The server had an error while processing your request.", "server_error", None),
    503: ("The engine is currently overloaded.", "service_unavailable_error", None),
}


def status_fault(faults: Faults, now: float) -> ApiError | None:
    """The error that ``status`` and ``retry-after`` ask for; ``retry-after`` alone means 429."""
    waits = [name for name in ("retry-after", "retry-after-date") if name in faults]
    if "status" not in faults and not waits:
        return None
    status = int(faults.get("status", 429))
    headers: tuple[tuple[str, str], ...] = ()
    again = ""
    if "retry-after-date" in faults:
        when = formatdate(math.ceil(now + faults.get("retry-after-date", 0)), usegmt=True)
        headers, again = (("retry-after", when),), f" Please try again after {when}."
    elif "retry-after" in faults or status == 429:
        seconds = faults.get("retry-after", 1.0)
        headers, again = (("retry-after", f"{seconds:g}"),), f" Please try again in {seconds:g} s."
    message, kind, code = STATUS_MESSAGES.get(status, ("This request fails.", "server_error", None))
    return ApiError(
        status, f"{message}{again} (Simulated: X-Sim-Fault.)", kind=kind, code=code, headers=headers
    )


# --- faults that strike after N tokens ------------------------------------------------------------


def strike(frames: Iterable[Frame], name: str, after: int, error_event: bytes) -> Iterator[Frame]:
    """The frames up to the ``after``-th token, then what the fault ``name`` does to the next one.

    A streamed answer has a chunk that ends with that token (``timing.pieces`` sees to it). The body of a
    blocking answer is one frame with all tokens in it: half of it is sent.
    """
    sent = 0
    frames = iter(frames)
    for frame in frames:
        if not frame.data or (sent < after and sent + frame.sent <= after):
            yield frame
            sent += frame.sent
            continue
        half = frame.data[: len(frame.data) // 2]
        before = half if sent < after and not frame.data.endswith(b"\n\n") else b""  # an event stays whole
        match name:
            case "cut-after":
                yield Frame(frame.at, before, then="cut")
            case "truncate-after":
                yield Frame(frame.at, before)
            case "stall-after":
                yield Frame(frame.at, before, then="stall")
            case "cut-mid-event":
                yield Frame(frame.at, half, then="cut")
            case "error-event":
                yield Frame(frame.at, error_event)
            case "bad-json":
                yield replace(frame, data=without_end(frame.data))
                yield from frames
        return


def without_end(event: bytes) -> bytes:
    """An event whose JSON lacks its last characters, and so every closing bracket it needs."""
    text = event.rstrip(b"\n")
    return text[:-5] + event[len(text) :]


def without_last(frames: Iterable[Frame]) -> Iterator[Frame]:
    """All frames but the last, which says that the answer is complete."""
    frames = iter(frames)
    held = next(frames, None)
    for frame in frames:
        if held:
            yield held
        held = frame


# --- faults of the bytes --------------------------------------------------------------------------


def clump(frames: Iterable[Frame], seconds: float) -> Iterator[Frame]:
    """Frames held back and sent together every ``seconds``."""
    held: list[Frame] = []
    for frame in frames:
        if held and frame.at > math.ceil(held[0].at / seconds) * seconds:
            yield _joined(held, math.ceil(held[0].at / seconds) * seconds)
            held = []
        yield Frame(frame.at, made=frame.made)
        held.append(frame)
    if held:
        yield _joined(held, held[-1].at)


def _joined(held: list[Frame], at: float) -> Frame:
    data = b"".join(frame.data for frame in held)
    return Frame(at, data, sent=sum(frame.sent for frame in held), then=held[-1].then)


def split_utf8(frames: Iterable[Frame]) -> Iterator[Frame]:
    """Each frame as two, cut after the first byte of its first long character, else in the middle."""
    for frame in frames:
        cut = next((i + 1 for i, byte in enumerate(frame.data) if byte > 0x7F), len(frame.data) // 2)
        if cut:
            yield Frame(frame.at, frame.data[:cut], made=frame.made)
            frame = replace(frame, at=frame.at + 0.004, data=frame.data[cut:], made=0)  # apart on the wire
        yield frame


def crlf(frames: Iterable[Frame]) -> Iterator[Frame]:
    """Line ends as CR LF; a newline inside the data is escaped by JSON and stays as it is."""
    for frame in frames:
        yield replace(frame, data=frame.data.replace(b"\n", b"\r\n"))


def comments(frames: Iterable[Frame]) -> Iterator[Frame]:
    """A comment before the first frame and before every fifth one after it."""
    for i, frame in enumerate(frames):
        yield replace(frame, data=b": keep-alive\n\n" + frame.data) if i % 5 == 0 and frame.data else frame
