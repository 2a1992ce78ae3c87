"""Lesson 9: the events of three providers, and the one stream of text in them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable
from contextlib import aclosing
from enum import StrEnum
from types import SimpleNamespace
from typing import Any

from ..chat import StreamTruncated
from ..checker import Case, Exercise, Source, Stage
from ..closing import closing

# Events as the three clients give them. The clients themselves take seconds to import, so these only have
# the same attributes.


class Event(SimpleNamespace):
    """Something with attributes, shown in a few words."""

    def __repr__(self) -> str:
        return show(self) or super().__repr__()


class Finish(StrEnum):
    """Why Google's answer ended."""

    STOP = "STOP"
    MAX_TOKENS = "MAX_TOKENS"


def chunk(text: str | None = None, finish_reason: str | None = None, **delta: Any) -> Event:
    """A chunk of OpenAI's."""
    said = Event(**{"content": text, "role": None, "tool_calls": None, "refusal": None, **delta})
    choice = Event(index=0, delta=said, finish_reason=finish_reason, logprobs=None)
    return Event(object="chat.completion.chunk", choices=[choice], usage=None)


def usage_chunk() -> Event:
    """OpenAI's chunk that brings the counts, and no choices."""
    usage = Event(prompt_tokens=9, completion_tokens=2, total_tokens=11)
    return Event(object="chat.completion.chunk", choices=[], usage=usage)


def block_delta(kind: str, index: int = 0, **fields: str) -> Event:
    """A piece of one of Anthropic's blocks: `text_delta`, `thinking_delta`, `input_json_delta` …"""
    return Event(type="content_block_delta", index=index, delta=Event(type=kind, **fields))


def named(kind: str, **fields: Any) -> Event:
    """Another of Anthropic's events."""
    return Event(type=kind, **fields)


class GoogleChunk(Event):
    """Google's `GenerateContentResponse`."""

    @property
    def text(self) -> str | None:
        """As the real one: the text of the parts that are no thoughts, None when there are no parts."""
        if not self.candidates or not self.candidates[0].content or not self.candidates[0].content.parts:
            return None
        texts = [part.text for part in self.candidates[0].content.parts if part.text and not part.thought]
        return "".join(texts) if texts else None


def part(text: str | None, *, thought: bool | None = None, call: str | None = None) -> Event:
    """A part of Google's content."""
    return Event(
        text=text,
        thought=thought,
        function_call=Event(name=call, args={}) if call else None,
        inline_data=None,
    )


def generated(*parts: Event, finish: Finish | None = None, content: bool = True) -> GoogleChunk:
    """A chunk of Google's with one candidate."""
    said = Event(role="model", parts=list(parts) or None) if content else None
    candidate = Event(index=0, content=said, finish_reason=finish)
    return GoogleChunk(candidates=[candidate], usage_metadata=None, prompt_feedback=None)


def google_usage() -> Event:
    """Google's counts, before there is an answer."""
    return Event(prompt_token_count=9, candidates_token_count=None, thoughts_token_count=None)


def events_of(provider: str, *texts: str, finish: str = "") -> list[Event]:
    """The events of a whole answer; `finish="length"` is one that hit its limit."""
    cut = finish == "length"
    match provider:
        case "openai":
            said = [chunk(text) for text in texts]
            return [chunk("", role="assistant"), *said, chunk(None, "length" if cut else "stop")]
        case "anthropic":
            usage = Event(input_tokens=9, output_tokens=1)
            return [
                named("message_start", message=Event(role="assistant", content=[], usage=usage)),
                named("content_block_start", index=0, content_block=Event(type="text", text="")),
                *(block_delta("text_delta", text=text) for text in texts),
                named("content_block_stop", index=0),
                stop_reason("max_tokens" if cut else "end_turn"),
                named("message_stop"),
            ]
    last = Finish.MAX_TOKENS if cut else Finish.STOP
    return [*(generated(part(text)) for text in texts), generated(part(""), finish=last)]


def stop_reason(why: str) -> Event:
    """Anthropic's event that says why the answer ended and what it cost."""
    return named(
        "message_delta",
        delta=Event(stop_reason=why, stop_sequence=None),
        usage=Event(output_tokens=2),
    )


def show(value: object) -> str | None:
    """An event in a few words."""
    if isinstance(value, GoogleChunk):
        if not value.candidates:
            return "<google: no candidates>"
        first = value.candidates[0]
        parts = first.content.parts if first.content else None
        words = [_part_in_words(one) for one in parts or []] or ["no parts"]
        words += [first.finish_reason.value] if first.finish_reason else []
        return f"<google: {', '.join(words)}>"
    if not isinstance(value, Event):
        return None
    if "choices" in value.__dict__:
        if not value.choices:
            return "<openai: choices=[]>"
        choice = value.choices[0]
        words = [repr(choice.delta.content)]
        words += [f"finish_reason={choice.finish_reason!r}"] if choice.finish_reason is not None else []
        return f"<openai: {', '.join(words)}>"
    if "type" in value.__dict__:
        delta = getattr(value, "delta", None)
        inner = {**vars(delta)} if delta else {}
        inner.pop("stop_sequence", None)
        return f"<anthropic: {' '.join([value.type, *(f'{v!r}' for v in inner.values())])}>"
    return None


def _part_in_words(given: Event) -> str:
    if given.function_call:
        return f"a call of {given.function_call.name}"
    return f"thought {given.text!r}" if given.thought else repr(given.text)


async def answer_of(provider: str, *texts: str) -> AsyncGenerator[Event, None]:
    """The events of a whole answer, as a stream to try your function on."""
    for event in events_of(provider, *texts):
        yield event


# text_deltas


async def text_deltas(events: AsyncIterable[Any], provider: str) -> AsyncIterator[str]:
    """The text of an answer, piece by piece: `provider` is "openai", "anthropic" or "google".

    Events without text give nothing, and thoughts are no text. All events are read. When they end and none of
    them said why the answer ended, the answer is not whole: raise a `ConnectionError`.

    >>> [text async for text in text_deltas(answer_of("anthropic", "Hel", "lo"), "anthropic")]
    ['Hel', 'lo']
    """
    ended = False
    async for event in events:
        text = ""
        match provider:
            case "openai":
                for choice in event.choices:
                    text = choice.delta.content
                    ended = ended or bool(choice.finish_reason)
            case "anthropic":
                if event.type == "content_block_delta" and event.delta.type == "text_delta":
                    text = event.delta.text
                ended = ended or event.type == "message_stop"
            case "google":
                for candidate in event.candidates or []:
                    parts = candidate.content.parts if candidate.content else None
                    text = "".join(part.text or "" for part in parts or [] if not part.thought)
                    ended = ended or bool(candidate.finish_reason)
        if text:
            yield text
    if not ended:
        raise ConnectionError("the events ended before the answer did")


KINDS = {"openai": "response", "anthropic": "response", "google": "async generator"}


def sent(provider: str, *events: Event, error: Exception | None = None, note: str, **case: Any) -> Case:
    """A case: these events of a provider, one every half a second."""
    source = Source(events, every=0.5, error=error, kind=KINDS[provider])  # type: ignore[arg-type]
    return Case(source, provider, note=f"{provider}: {note}", **case)


def whole_text(provider: str, *events: Event, note: str) -> Case:
    """A case where only the text as a whole counts, however it is cut."""

    async def play(solution: Callable[..., AsyncIterator[str]], stage: Stage) -> object:
        source = stage.open_source(Source(events, every=0.5, kind=KINDS[provider]))  # type: ignore[arg-type]
        return "".join([text async for text in solution(source, provider)])

    return Case(play=play, note=f"{provider}: {note}")


PROVIDERS = ("openai", "anthropic", "google")

adapting = Exercise(
    text_deltas,
    cases=[
        *(sent(who, *events_of(who, "Hel", "lo", "!"), note="a whole answer") for who in PROVIDERS),
        *(
            sent(who, *events_of(who, "Half")[:-3], note="nothing comes after the text")
            for who in ("anthropic",)
        ),
        sent("openai", *events_of("openai", "Half an", " answ")[:-1], note="the events end after some text"),
        sent("google", *events_of("google", "Half an", " answ")[:-1], note="the events end after some text"),
        *(sent(who, note="no event at all") for who in PROVIDERS),
        sent(
            "openai", *events_of("openai", "Hi"), usage_chunk(), note="the usage comes last, without choices"
        ),
        sent(
            "openai",
            chunk(None, role="assistant"),
            *events_of("openai", "Hi")[1:],
            note="a first chunk whose content is None",
        ),
        sent("openai", chunk("Hi"), chunk("!", "stop"), note="the last text comes with the finish reason"),
        sent(
            "openai",
            *events_of("openai", "Hi"),
            chunk(None),
            note="a gateway sends one more chunk after the last",
        ),
        sent("openai", chunk("Half", ""), chunk(" an", ""), note='the finish reason is "" all the time'),
        sent(
            "openai",
            chunk("Hi", ""),
            chunk("!", ""),
            chunk("", "stop"),
            note='the finish reason is "" until it is "stop"',
        ),
        sent(
            "anthropic",
            named("message_start", message=Event(content=[], usage=Event(input_tokens=9, output_tokens=1))),
            named(
                "content_block_start",
                index=0,
                content_block=Event(type="thinking", thinking="", signature=""),
            ),
            block_delta("thinking_delta", thinking="They greet me."),
            block_delta("signature_delta", signature="EqQ="),
            named("content_block_stop", index=0),
            named("content_block_start", index=1, content_block=Event(type="text", text="")),
            block_delta("text_delta", 1, text="Hi"),
            named("content_block_stop", index=1),
            stop_reason("end_turn"),
            named("message_stop"),
            note="it thinks before it speaks",
        ),
        sent(
            "anthropic",
            *events_of("anthropic", "Let me look.")[:-2],
            named(
                "content_block_start",
                index=1,
                content_block=Event(type="tool_use", id="toolu_1", name="weather", input={}),
            ),
            block_delta("input_json_delta", 1, partial_json='{"city":'),
            block_delta("input_json_delta", 1, partial_json=' "Rome"}'),
            named("content_block_stop", index=1),
            stop_reason("tool_use"),
            named("message_stop"),
            note="a tool call after the text",
        ),
        sent(
            "google",
            generated(part("They greet me.", thought=True)),
            *events_of("google", "Hi"),
            note="it thinks before it speaks",
        ),
        sent(
            "google",
            generated(part("They greet me.", thought=True), part("Hi there")),
            generated(part("!"), finish=Finish.STOP),
            note="a thought and a text in one chunk, and the last text with the finish reason",
        ),
        whole_text(
            "google",
            generated(part("Hi"), part(" there")),
            generated(part("!"), finish=Finish.STOP),
            note="two texts in one chunk, given as one piece or as two",
        ),
        sent(
            "google",
            generated(part("Let me look.")),
            generated(part(None, call="weather")),
            generated(content=False, finish=Finish.STOP),
            note="a function call, and a last chunk without content",
        ),
        sent(
            "google",
            GoogleChunk(candidates=None, usage_metadata=google_usage(), prompt_feedback=None),
            generated(),
            *events_of("google", "Hi"),
            note="chunks without candidates and without parts",
        ),
        sent(
            "google",
            *events_of("google", "Hi"),
            generated(content=False),
            note="one more chunk after the one with the reason",
        ),
        *(
            sent(who, *events_of(who, "Too", " long", finish="length"), note="an answer that hit its limit")
            for who in PROVIDERS
        ),
        *(
            sent(who, *events_of(who, "Half")[:2], error=TimeoutError("silence"), note="the client raises")
            for who in PROVIDERS
        ),
        *(
            sent(who, *events_of(who, "a", "b", "c"), take=1, note="the reader stops after one")
            for who in PROVIDERS
        ),
    ],
    hints=(
        "Three questions for each provider: where is the text, when is there none, and which event says that the answer "
        "is over? The table above has a row for each.",
        "Keep one thing in mind while you read: whether the end was announced. In OpenAI's chunks it is a "
        "`finish_reason` that is neither None nor empty, in Anthropic's events `message_stop`, in Google's chunks the candidate's "
        "`finish_reason`. If it never came, raise after the loop.",
        "Inside `async for event in events`: for OpenAI loop over `event.choices` (it may be empty); for Anthropic look at "
        '`event.type` first, then at `event.delta.type == "text_delta"`; for Google loop over the parts of the first '
        "candidate and leave out those with `thought`. Then `if text: yield text`. After the loop: "
        "`if not ended: raise ConnectionError(…)`.",
    ),
    show=show,
)


# Right answers in other styles


@adapting.right
async def one_small_function_each(events: AsyncIterable[Any], provider: str) -> AsyncIterator[str]:
    def openai(event: Any) -> tuple[str | None, bool]:
        if not event.choices:
            return None, False
        return event.choices[0].delta.content, bool(event.choices[0].finish_reason)

    def anthropic(event: Any) -> tuple[str | None, bool]:
        delta = getattr(event, "delta", None)
        return getattr(delta, "text", None), getattr(delta, "stop_reason", None) is not None

    def google(event: Any) -> tuple[str | None, bool]:
        return event.text, bool(event.candidates and event.candidates[0].finish_reason)

    read = {"openai": openai, "anthropic": anthropic, "google": google}[provider]
    over = False
    async with closing(events) as items:
        async for event in items:
            text, last = read(event)
            over = over or last
            if text:
                yield text
    if not over:
        raise ConnectionError(f"{provider} stopped in the middle")


@adapting.right
async def a_generator_for_each(events: AsyncIterable[Any], provider: str) -> AsyncIterator[str]:
    class Truncated(ConnectionError):
        pass

    async def from_openai() -> AsyncIterator[str]:
        reason = None
        async for item in events:
            for choice in item.choices:
                reason = choice.finish_reason or reason
                if choice.delta.content:
                    yield choice.delta.content
        if reason is None:
            raise Truncated

    async def from_anthropic() -> AsyncIterator[str]:
        last = None
        async for item in events:
            last = item.type
            if last == "content_block_delta" and item.delta.type == "text_delta":
                yield item.delta.text
        if last != "message_stop":
            raise Truncated

    async def from_google() -> AsyncIterator[str]:
        reason = None
        async for item in events:
            if not item.candidates:
                continue
            candidate = item.candidates[0]
            reason = candidate.finish_reason or reason
            if candidate.content and candidate.content.parts:
                said = [part.text for part in candidate.content.parts if part.text and not part.thought]
                if said:
                    yield "".join(said)
        if not reason:
            raise Truncated

    source = {"openai": from_openai, "anthropic": from_anthropic, "google": from_google}[provider]()
    async with aclosing(source):  # type: ignore[type-var]
        async for text in source:
            yield text


@adapting.right
async def by_what_an_event_has(events: AsyncIterable[Any], provider: str) -> AsyncIterator[str]:
    reasons = []
    async for event in events:
        if hasattr(event, "choices"):
            reasons += [choice.finish_reason for choice in event.choices]
            text = "".join(choice.delta.content or "" for choice in event.choices)
        elif hasattr(event, "candidates"):
            reasons += [candidate.finish_reason for candidate in event.candidates or ()]
            text = event.text or ""
        else:
            reasons.append(event.type if event.type == "message_stop" else None)
            text = getattr(getattr(event, "delta", None), "text", "")
        if text:
            yield text
    if not any(reasons):
        raise ConnectionError("half an answer")


@adapting.right
async def every_part_by_itself(events: AsyncIterable[Any], provider: str) -> AsyncIterator[str]:
    over = False
    async for event in events:
        if provider == "openai":
            for choice in event.choices:
                if choice.delta.content:
                    yield choice.delta.content
                over = over or bool(choice.finish_reason)
        elif provider == "anthropic":
            if event.type == "content_block_delta" and event.delta.type == "text_delta":
                yield event.delta.text
            elif event.type == "message_stop":
                over = True
        else:
            for candidate in event.candidates or []:
                for piece in (candidate.content and candidate.content.parts) or []:
                    if piece.text and not piece.thought:
                        yield piece.text
                over = over or bool(candidate.finish_reason)
    if not over:
        raise ConnectionError(provider)


# Mistakes


@adapting.mistake(
    "The events end, and nothing is raised: half an answer looks like a whole one. No client tells you; the event that "
    "says why the answer ended does, by not being there."
)
async def half_is_whole(events: AsyncIterable[Any], provider: str) -> AsyncIterator[str]:
    async for event in events:
        text = _text(event, provider)
        if text:
            yield text


def _text(event: Any, provider: str) -> str:
    """The text of an event, read as it should be."""
    if provider == "openai":
        return "".join(choice.delta.content or "" for choice in event.choices)
    if provider == "anthropic":
        return str(getattr(getattr(event, "delta", None), "text", ""))
    return str(event.text or "")


def _ended(event: Any, provider: str) -> bool:
    """Whether an event says why the answer ended."""
    if provider == "anthropic":
        return bool(event.type == "message_stop")
    choices = event.choices if provider == "openai" else event.candidates or ()
    return any(choice.finish_reason for choice in choices)


@adapting.mistake(
    "You take the first of a chunk's choices without asking whether there is one. OpenAI's usage chunk has none: its "
    "`choices` is an empty list."
)
async def no_guard_for_choices(events: AsyncIterable[Any], provider: str) -> AsyncIterator[str]:
    over = False
    async for event in events:
        text = event.choices[0].delta.content if provider == "openai" else _text(event, provider)
        over = over or _ended(event, provider)
        if text:
            yield text
    if not over:
        raise ConnectionError


@adapting.mistake(
    "You give on every event's text, also where there is none. Whoever joins the pieces or counts them has no use for `None` "
    'and `""`: yield only what has characters.'
)
async def yields_what_is_not_there(events: AsyncIterable[Any], provider: str) -> AsyncIterator[str]:
    over = False
    async for event in events:
        over = over or _ended(event, provider)
        yield _text(event, provider)
    if not over:
        raise ConnectionError


@adapting.mistake(
    'You give on what is no text: the content of OpenAI\'s first chunk is `""`, of its last `None`. Ask whether there is text '
    "before you yield it."
)
async def yields_none(events: AsyncIterable[Any], provider: str) -> AsyncIterator[Any]:
    over = False
    async for event in events:
        over = over or _ended(event, provider)
        if provider == "openai":
            for choice in event.choices:
                yield choice.delta.content
        elif text := _text(event, provider):
            yield text
    if not over:
        raise ConnectionError


@adapting.mistake(
    "Not every event has a `delta`. Anthropic names its events: look at `event.type` before you look into one."
)
async def every_event_has_a_delta(events: AsyncIterable[Any], provider: str) -> AsyncIterator[str]:
    over = False
    async for event in events:
        over = over or _ended(event, provider)
        text = event.delta.text if provider == "anthropic" else _text(event, provider)
        if text:
            yield text
    if not over:
        raise ConnectionError


@adapting.mistake(
    "Not every `content_block_delta` brings text: thoughts, a signature and the input of a tool come in deltas of their own. "
    "The delta has a `type`, too."
)
async def every_block_delta_is_text(events: AsyncIterable[Any], provider: str) -> AsyncIterator[str]:
    over = False
    async for event in events:
        over = over or _ended(event, provider)
        if provider == "anthropic":
            text = event.delta.text if event.type == "content_block_delta" else ""
        else:
            text = _text(event, provider)
        if text:
            yield text
    if not over:
        raise ConnectionError


@adapting.mistake(
    "The model's thoughts are in your text. Google sends them as parts like the others; what marks them is `thought`."
)
async def thoughts_are_text(events: AsyncIterable[Any], provider: str) -> AsyncIterator[str]:
    over = False
    async for event in events:
        over = over or _ended(event, provider)
        if provider == "google":
            parts = [
                part
                for candidate in event.candidates or ()
                for part in (candidate.content and candidate.content.parts) or ()
            ]
            text = "".join(part.text or "" for part in parts)
        else:
            text = _text(event, provider)
        if text:
            yield text
    if not over:
        raise ConnectionError


@adapting.mistake(
    "The model's thoughts are in your text. Anthropic sends them as `thinking_delta`, in blocks of their own."
)
async def thinking_is_text(events: AsyncIterable[Any], provider: str) -> AsyncIterator[str]:
    over = False
    async for event in events:
        over = over or _ended(event, provider)
        text = _text(event, provider)
        if provider == "anthropic" and event.type == "content_block_delta":
            text = text or getattr(event.delta, "thinking", "")
        if text:
            yield text
    if not over:
        raise ConnectionError


@adapting.mistake(
    "You strip the pieces. Blanks and newlines at their ends are part of the answer: without them the words run together."
)
async def strips(events: AsyncIterable[Any], provider: str) -> AsyncIterator[str]:
    over = False
    async for event in events:
        over = over or _ended(event, provider)
        if text := _text(event, provider).strip():
            yield text
    if not over:
        raise ConnectionError


@adapting.mistake(
    "You read one part of Google's content, and there can be several, or none at all. Go through `parts`, and mind that "
    "`candidates`, `content` and `parts` may each be missing."
)
async def the_first_part_only(events: AsyncIterable[Any], provider: str) -> AsyncIterator[str]:
    over = False
    async for event in events:
        over = over or _ended(event, provider)
        if provider == "google":
            first = event.candidates[0].content.parts[0]
            text = "" if first.thought else first.text
        else:
            text = _text(event, provider)
        if text:
            yield text
    if not over:
        raise ConnectionError


@adapting.mistake(
    "Something of what you read is not there: `candidates`, `content` and `parts` of Google's chunks may each be None."
)
async def google_has_it_all(events: AsyncIterable[Any], provider: str) -> AsyncIterator[str]:
    over = False
    async for event in events:
        if provider == "google":
            parts = event.candidates[0].content.parts
            text = "".join(part.text or "" for part in parts if not part.thought)
        else:
            text = _text(event, provider)
        over = over or _ended(event, provider)
        if text:
            yield text
    if not over:
        raise ConnectionError


@adapting.mistake(
    "An answer that hit its limit did end, and it says so: `length`, `max_tokens`, `MAX_TOKENS`. Short is not broken. Raise "
    "only when no reason came."
)
async def only_a_natural_end_counts(events: AsyncIterable[Any], provider: str) -> AsyncIterator[str]:
    over = False
    async for event in events:
        if provider == "openai":
            over = over or any(choice.finish_reason == "stop" for choice in event.choices)
        elif provider == "google":
            over = over or any(candidate.finish_reason == "STOP" for candidate in event.candidates or ())
        else:
            reason = getattr(getattr(event, "delta", None), "stop_reason", None)
            over = over or reason in ("end_turn", "tool_use")
        if text := _text(event, provider):
            yield text
    if not over:
        raise ConnectionError


@adapting.mistake(
    "You know three words for the end, and there are more: `tool_use`, `tool_calls`, `length`, `MAX_TOKENS` … Each says that "
    "the answer did end. Raise only when no reason came."
)
async def knows_three_words(events: AsyncIterable[Any], provider: str) -> AsyncIterator[str]:
    why = None
    async for event in events:
        if provider == "anthropic":
            why = getattr(getattr(event, "delta", None), "stop_reason", None) or why
        else:
            for choice in (event.choices if provider == "openai" else event.candidates) or ():
                why = choice.finish_reason or why
        if text := _text(event, provider):
            yield text
    if why not in ("stop", "end_turn", "STOP"):
        raise ConnectionError


@adapting.mistake(
    "You ask whether the answer has ended while it is still coming. Only when the events have ended can one be missing: ask "
    "after the loop."
)
async def asks_too_early(events: AsyncIterable[Any], provider: str) -> AsyncIterator[str]:
    async for event in events:
        if text := _text(event, provider):
            yield text
        if not _ended(event, provider):
            raise ConnectionError


@adapting.mistake(
    "`StreamTruncated` is what the library raises, and no `ConnectionError`: whoever waits for the one does not catch the other."
)
async def raises_the_library_s(events: AsyncIterable[Any], provider: str) -> AsyncIterator[str]:
    over = False
    async for event in events:
        over = over or _ended(event, provider)
        if text := _text(event, provider):
            yield text
    if not over:
        raise StreamTruncated("half an answer")


@adapting.mistake(
    'A `finish_reason` of `""` is no reason, and you take it for one. Some servers send it in every chunk where others send '
    "`None`: ask whether it says something, not whether it is there."
)
async def empty_is_a_reason(events: AsyncIterable[Any], provider: str) -> AsyncIterator[str]:
    over = False
    async for event in events:
        if provider == "openai":
            over = over or any(choice.finish_reason is not None for choice in event.choices)
        else:
            over = over or _ended(event, provider)
        if text := _text(event, provider):
            yield text
    if not over:
        raise ConnectionError


@adapting.mistake(
    "You remember the reason of the last event only. After the one with the reason others may come, without: keep what you "
    "have seen."
)
async def forgets_the_reason(events: AsyncIterable[Any], provider: str) -> AsyncIterator[str]:
    over = False
    async for event in events:
        over = _ended(event, provider)
        if text := _text(event, provider):
            yield text
    if not over:
        raise ConnectionError


@adapting.mistake(
    "The text of a chunk that has a finish reason is lost. A last piece can come together with it: read the text first, then "
    "note the reason."
)
async def the_last_chunk_is_empty(events: AsyncIterable[Any], provider: str) -> AsyncIterator[str]:
    over = False
    async for event in events:
        if _ended(event, provider):
            over = True
            continue
        if text := _text(event, provider):
            yield text
    if not over:
        raise ConnectionError


@adapting.mistake(
    "You read everything and then give it out: nothing is a stream any more. `yield` inside the loop, as soon as there is text."
)
async def collects_first(events: AsyncIterable[Any], provider: str) -> AsyncIterator[str]:
    everything = [event async for event in events]
    for event in everything:
        if text := _text(event, provider):
            yield text
    if not any(_ended(event, provider) for event in everything):
        raise ConnectionError


@adapting.mistake(
    "The client raised, and you end as if the answer were whole. Let its errors through: it knows what happened."
)
async def swallows_errors(events: AsyncIterable[Any], provider: str) -> AsyncIterator[str]:
    over = False
    try:
        async for event in events:
            over = over or _ended(event, provider)
            if text := _text(event, provider):
                yield text
    except Exception:
        return
    if not over:
        raise ConnectionError


@adapting.mistake(
    "`async with` works with the streams of OpenAI and Anthropic. Google's is an async generator and has no such thing. "
    "Here it is enough to read: whoever opened the stream closes it."
)
async def async_with_for_all(events: Any, provider: str) -> AsyncIterator[str]:
    over = False
    async with events:
        async for event in events:
            over = over or _ended(event, provider)
            if text := _text(event, provider):
                yield text
    if not over:
        raise ConnectionError


@adapting.mistake(
    "You stop at the event with the reason. Others come after it, OpenAI's counts for one, and the client gives the "
    "connection back when its events have come to their end. Read all of them."
)
async def stops_at_the_reason(events: Any, provider: str) -> AsyncIterator[str]:
    async for event in events:
        if text := _text(event, provider):
            yield text
        if _ended(event, provider):
            return
    raise ConnectionError


@adapting.mistake(
    "A plain `for` cannot wait for events that are still on their way: they are read with `async for`."
)
async def a_plain_for(events: Any, provider: str) -> AsyncIterator[str]:
    for event in events:
        if text := _text(event, provider):
            yield text
