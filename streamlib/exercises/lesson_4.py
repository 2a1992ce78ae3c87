"""Lesson 4: stages, and the chain that owns them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, aclosing

from ..checker import Case, Exercise, Source, Stage
from ..tokens import TokenCounter, count_tokens


async def pieces(*texts: str) -> AsyncGenerator[str, None]:
    """A stream of these texts."""
    for text in texts:
        yield text


# content_filter


async def content_filter(
    stream: AsyncIterable[str], blocklist: Sequence[str], mask: str = "***"
) -> AsyncIterator[str]:
    """The text of a stream with `mask` in place of each phrase of `blocklist`, however the text is cut.

    Held back are fewer characters than the longest phrase has: the rest goes out as soon as it comes.

    >>> "".join([text async for text in content_filter(pieces("top se", "cret!"), ["secret"])])
    'top ***!'
    """
    beginnings = {phrase[:end] for phrase in blocklist for end in range(1, len(phrase))}
    held = ""
    async for piece in stream:
        held += piece
        for phrase in blocklist:
            held = held.replace(phrase, mask)
        # from here on a phrase may have begun
        cut = next((at for at in range(len(held)) if held[at:] in beginnings), len(held))
        if cut:
            yield held[:cut]
        held = held[cut:]
    if held:
        yield held


Play = Callable[[Callable[..., AsyncIterator[str]], Stage], Awaitable[object]]


def filtered(texts: Sequence[str], blocklist: Sequence[str], mask: str = "***") -> Case:
    """The filtered text of a stream, its pieces joined: where they are cut is the solution's own business."""

    async def play(solution: Callable[..., AsyncIterator[str]], stage: Stage) -> object:
        return "".join([text async for text in solution(pieces(*texts), list(blocklist), mask)])

    shown = ", ".join(map(repr, texts))
    phrases = ", ".join(map(repr, blocklist)) or "nothing"
    return Case(play=play, note=f"from the pieces {shown} it takes out {phrases}")


def prompt(texts: Sequence[str], blocklist: Sequence[str]) -> Case:
    """How much harmless text is ever held back: less than the longest phrase is allowed."""
    allowed = max(map(len, blocklist), default=1) - 1

    async def play(solution: Callable[..., AsyncIterator[str]], stage: Stage) -> object:
        came = gone = late = 0

        async def source() -> AsyncGenerator[str, None]:
            nonlocal came, late
            for text in texts:
                late = max(late, came - gone)
                came += len(text)
                yield text
            late = max(late, came - gone)

        async for text in solution(source(), list(blocklist), "***"):
            gone += len(text)
        if gone != came:
            return f"{gone} of {came} characters came out"
        return f"{late} characters held back" if late > allowed else "no more held back than it must"

    phrases = ", ".join(map(repr, blocklist)) or "nothing"
    note = (
        f"harmless text in {len(texts)} pieces, and how much is held back when {phrases} is to be taken out"
    )
    return Case(play=play, note=note)


def cut_off(texts: Sequence[str], blocklist: Sequence[str]) -> Case:
    """What the reader learns when the stream breaks. What was held back may come before the error, or not."""

    async def play(solution: Callable[..., AsyncIterator[str]], stage: Stage) -> object:
        async def source() -> AsyncGenerator[str, None]:
            for text in texts:
                yield text
            raise ConnectionError("cut")

        async for _ in solution(source(), list(blocklist), "***"):
            pass
        return "an end as if all were well"

    return Case(play=play, note="the stream breaks: the reader must learn of it")


filtering = Exercise(
    content_filter,
    cases=[
        filtered(["a secret plan"], ["secret"]),
        filtered(["nothing to hide"], ["secret"]),
        filtered(["a se", "cret plan"], ["secret"]),
        filtered(["a s", "e", "c", "r", "e", "t", " plan"], ["secret"]),
        filtered(["secret and sec", "ret again"], ["secret"]),
        filtered(["secret, secret"], ["secret"]),
        filtered(["the password", " is swordfish now"], ["password", "swordfish"]),
        filtered(["the swordf", "ish plan"], ["plan", "swordfish"]),
        filtered(["two word", "s: red h", "erring!"], ["red herring"]),
        filtered(["sesec", "ret"], ["secret"]),
        filtered(["it ends with sec"], ["secret"]),
        filtered(["", "sec", "", "ret", ""], ["secret"], "[removed]"),
        filtered(["not Secret"], ["secret"]),
        filtered(["an axb, and an a", ".b"], ["a.b"]),
        filtered(["x", "y"], []),
        prompt(
            ["Long harmless text, ", "and more of it, ", "and more, ", "and the end."], ["secret", "password"]
        ),
        prompt(["Harmless, ", "with one letter ", "on the list."], ["x"]),
        prompt(["Harmless, ", "and an ", "empty list."], []),
        cut_off(["a harmless text ", "and then"], ["secret"]),
    ],
    hints=(
        "A phrase may begin in one piece and end in the next. What must you still have in your hands when the next "
        "piece comes?",
        "Keep the end of the text back: only so much that a phrase could still begin there. Filter what you hold, hand "
        "on the part in which no phrase can begin any more, and at the end hand on the rest.",
        "With `keep = longest - 1`: `held += piece`, replace the phrases in `held`, then `yield held[:-keep]` and go on "
        "with `held[-keep:]`. (Careful when `keep` is 0.) After the loop, `yield held`.",
    ),
)


@filtering.right
async def holding_a_fixed_window(
    stream: AsyncIterable[str], blocklist: Sequence[str], mask: str = "***"
) -> AsyncIterator[str]:
    keep = max((len(phrase) for phrase in blocklist), default=1) - 1
    held = ""
    async for piece in stream:
        held += piece
        for phrase in blocklist:
            held = held.replace(phrase, mask)
        cut = max(0, len(held) - keep)
        if cut:
            yield held[:cut]
        held = held[cut:]
    yield held


@filtering.right
async def with_a_regular_expression(
    stream: AsyncIterable[str], blocklist: Sequence[str], mask: str = "***"
) -> AsyncIterator[str]:
    pattern = re.compile("|".join(map(re.escape, blocklist)) or r"(?!)")
    beginnings = {phrase[:end] for phrase in blocklist for end in range(1, len(phrase))}
    held = ""
    async for piece in stream:
        held = pattern.sub(mask, held + piece)
        cut = next((at for at in range(len(held)) if held[at:] in beginnings), len(held))
        yield held[:cut]
        held = held[cut:]
    yield held


@filtering.right
async def letter_by_letter(
    stream: AsyncIterable[str], blocklist: Sequence[str], mask: str = "***"
) -> AsyncIterator[str]:
    held = ""
    async for piece in stream:
        for letter in piece:
            held += letter
            if held in blocklist:
                yield mask
                held = ""
            while held and not any(phrase.startswith(held) for phrase in blocklist):
                yield held[0]
                held = held[1:]
    if held:
        yield held


@filtering.mistake(
    "You hold back one word. A phrase can have a space in it: hold back by its length, not by words."
)
async def word_by_word(
    stream: AsyncIterable[str], blocklist: Sequence[str], mask: str = "***"
) -> AsyncIterator[str]:
    held = ""
    async for piece in stream:
        held += piece
        *words, held = re.split(r"(?<= )", held)
        for word in words:
            for phrase in blocklist:
                word = word.replace(phrase, mask)
            yield word
    for phrase in blocklist:
        held = held.replace(phrase, mask)
    yield held


@filtering.mistake(
    "You look back one piece. With small pieces a phrase reaches over many: hold back by its length, not by pieces."
)
async def one_piece_back(
    stream: AsyncIterable[str], blocklist: Sequence[str], mask: str = "***"
) -> AsyncIterator[str]:
    before = ""
    async for piece in stream:
        both = before + piece
        for phrase in blocklist:
            both = both.replace(phrase, mask)
        cut = max(0, len(both) - len(piece))
        yield both[:cut]
        before = both[cut:]
    yield before


@filtering.mistake(
    "When the text goes on in another way than the phrase, you let go of all you hold. The phrase may begin anew in the "
    "middle of it."
)
async def forgets_a_new_beginning(
    stream: AsyncIterable[str], blocklist: Sequence[str], mask: str = "***"
) -> AsyncIterator[str]:
    held = ""
    async for piece in stream:
        for letter in piece:
            held += letter
            if held in blocklist:
                yield mask
                held = ""
            elif not any(phrase.startswith(held) for phrase in blocklist):
                yield held
                held = ""
    yield held


@filtering.mistake(
    "You filter each piece by itself. A phrase that is split over two pieces is in neither: hold back the end of the "
    "text until you know how it goes on."
)
async def piece_by_piece(
    stream: AsyncIterable[str], blocklist: Sequence[str], mask: str = "***"
) -> AsyncIterator[str]:
    async for piece in stream:
        for phrase in blocklist:
            piece = piece.replace(phrase, mask)
        yield piece


@filtering.mistake("The end of the text is missing: what you hold back has to go out when the stream ends.")
async def loses_the_end(
    stream: AsyncIterable[str], blocklist: Sequence[str], mask: str = "***"
) -> AsyncIterator[str]:
    keep = max((len(phrase) for phrase in blocklist), default=1) - 1
    held = ""
    async for piece in stream:
        held += piece
        for phrase in blocklist:
            held = held.replace(phrase, mask)
        cut = max(0, len(held) - keep)
        yield held[:cut]
        held = held[cut:]


@filtering.mistake(
    "Nothing comes out before the end: you hold back the whole text. A phrase can only begin in its last few characters."
)
async def holds_everything(
    stream: AsyncIterable[str], blocklist: Sequence[str], mask: str = "***"
) -> AsyncIterator[str]:
    text = "".join([piece async for piece in stream])
    for phrase in blocklist:
        text = text.replace(phrase, mask)
    yield text


@filtering.mistake(
    "You notice the phrase, but its first half had gone out already: you look back at text that you no longer hold."
)
async def notices_too_late(
    stream: AsyncIterable[str], blocklist: Sequence[str], mask: str = "***"
) -> AsyncIterator[str]:
    before = ""
    async for piece in stream:
        found = [phrase for phrase in blocklist if phrase in before + piece]
        for phrase in found:
            piece = piece.replace(phrase, mask) if phrase in piece else mask
        yield piece
        before = piece


@filtering.mistake(
    "You keep as much as the shortest phrase needs. A longer one can have begun before that: its first letters are out."
)
async def keeps_for_the_shortest(
    stream: AsyncIterable[str], blocklist: Sequence[str], mask: str = "***"
) -> AsyncIterator[str]:
    keep = min((len(phrase) for phrase in blocklist), default=1) - 1
    held = ""
    async for piece in stream:
        held += piece
        for phrase in blocklist:
            held = held.replace(phrase, mask)
        cut = max(0, len(held) - keep)
        yield held[:cut]
        held = held[cut:]
    yield held


@filtering.mistake(
    "When there is nothing to keep, `held[:-0]` is empty and `held[-0:]` is everything: no text comes out before the "
    "end. Count from the front: `held[: len(held) - keep]`."
)
async def minus_zero(
    stream: AsyncIterable[str], blocklist: Sequence[str], mask: str = "***"
) -> AsyncIterator[str]:
    keep = max((len(phrase) for phrase in blocklist), default=1) - 1
    held = ""
    async for piece in stream:
        held += piece
        for phrase in blocklist:
            held = held.replace(phrase, mask)
        yield held[:-keep]
        held = held[-keep:]
    yield held


@filtering.mistake(
    "In a regular expression `.` stands for any character, and `+` or `?` have a meaning too. A phrase is meant as it "
    "is written: `re.escape(phrase)`."
)
async def phrases_as_patterns(
    stream: AsyncIterable[str], blocklist: Sequence[str], mask: str = "***"
) -> AsyncIterator[str]:
    keep = max((len(phrase) for phrase in blocklist), default=1) - 1
    held = ""
    async for piece in stream:
        held += piece
        for phrase in blocklist:
            held = re.sub(phrase, mask, held)
        cut = max(0, len(held) - keep)
        yield held[:cut]
        held = held[cut:]
    yield held


@filtering.mistake(
    "There is no `yield` in it: `async def` with `return` gives one value, to whoever awaits it. A stream needs `yield`."
)
async def returns_the_text(stream: AsyncIterable[str], blocklist: Sequence[str], mask: str = "***") -> str:
    text = "".join([piece async for piece in stream])
    for phrase in blocklist:
        text = text.replace(phrase, mask)
    return text


@filtering.mistake("Only the first phrase of the list is taken out. Go through all of them.")
async def only_the_first_phrase(
    stream: AsyncIterable[str], blocklist: Sequence[str], mask: str = "***"
) -> AsyncIterator[str]:
    async for text in content_filter(stream, blocklist[:1], mask):
        yield text


# sentences


async def sentences(stream: AsyncIterable[str]) -> AsyncIterator[str]:
    """Whole sentences, each as soon as its end is sure: at `.`, `!` or `?` with white space behind it.

    White space around a sentence is left out. What stands after the last end comes when the stream ends.

    >>> [sentence async for sentence in sentences(pieces("Pi is 3.1", "4. Good", "! And then"))]
    ['Pi is 3.14.', 'Good!', 'And then']
    """
    text = ""
    async for piece in stream:
        text += piece
        *complete, text = re.split(r"(?<=[.!?])\s+", text)
        for sentence in complete:
            yield sentence.strip()
    if text.strip():
        yield text.strip()


speaking = Exercise(
    sentences,
    cases=[
        Case(Source(["One. Two! Three? Four. Five"]), note="several sentences in one piece"),
        Case(Source(["It is ", "short", ". So is ", "this."]), note="a sentence in several pieces"),
        Case(Source(["Done.", " Next", " one."]), note="the white space comes with the next piece"),
        Case(Source(["Pi is 3.", "14, they say. ", "Yes."]), note="a point inside a number"),
        Case(Source(["Really?! ", "Wait... ", "what?"]), note="several marks in a row"),
        Case(Source(["No end here"]), note="a text without an end"),
        Case(Source(["It says so. and  goes\non. ", "Good."]), note="a small letter, and white space inside"),
        Case(Source(["One.\n", "\nTwo.  ", "Three."]), note="newlines and several spaces"),
        Case(Source(["", "A.", "", " ", "B."]), note="empty pieces"),
        Case(Source([]), note="an empty stream"),
        Case(Source(["A. B", ". C. ", "D"], every=1.0), take=1, note="the reader stops after one"),
        Case(Source(["A. B", ". "], error=ConnectionError("cut")), note="the stream breaks"),
    ],
    hints=(
        "When a point has come, can you know already whether the sentence is over?",
        "Keep the text that has not been handed on. After each piece, look for a mark with white space behind it; "
        "hand on what stands before, keep what stands after.",
        '`re.split(r"(?<=[.!?])\\s+", text)` cuts behind such marks; the last part is not finished. After the loop, '
        "hand on what is left, if anything is.",
    ),
)


@speaking.right
async def with_search(stream: AsyncIterable[str]) -> AsyncIterator[str]:
    end = re.compile(r"[.!?]\s")
    rest = ""
    async for piece in stream:
        rest += piece
        while found := end.search(rest):
            sentence, rest = rest[: found.start() + 1].strip(), rest[found.end() :]
            yield sentence
    if rest := rest.strip():
        yield rest


@speaking.right
async def character_by_character(stream: AsyncIterable[str]) -> AsyncIterator[str]:
    sentence = ""
    async for piece in stream:
        for character in piece:
            if character.isspace() and sentence.endswith((".", "!", "?")):
                yield sentence
                sentence = ""
            elif sentence or not character.isspace():
                sentence += character
    if sentence.strip():
        yield sentence.strip()


@speaking.right
async def with_finditer(stream: AsyncIterable[str]) -> AsyncIterator[str]:
    buffer = ""
    async for piece in stream:
        buffer += piece
        done = 0
        for match in re.finditer(r"\s*(.*?[.!?])(?=\s)", buffer, re.DOTALL):
            yield match[1]
            done = match.end()
        buffer = buffer[done:]
    if buffer.strip():
        yield buffer.strip()


@speaking.mistake(
    "You end a sentence at every point. In `3.14` there is one too: wait for the white space behind it."
)
async def ends_at_every_point(stream: AsyncIterable[str]) -> AsyncIterator[str]:
    text = ""
    async for piece in stream:
        text += piece
        *complete, text = re.split(r"(?<=[.!?])", text)
        for sentence in complete:
            if sentence.strip():
                yield sentence.strip()
    if text.strip():
        yield text.strip()


@speaking.mistake("A sentence can also end at `!` or `?`: you look for points only.")
async def at_points_only(stream: AsyncIterable[str]) -> AsyncIterator[str]:
    text = ""
    async for piece in stream:
        text += piece
        *complete, text = re.split(r"(?<=[.])\s+", text)
        for sentence in complete:
            yield sentence.strip()
    if text.strip():
        yield text.strip()


@speaking.mistake(
    "The marks are gone: `re.split` drops what it splits at. Keep them with the sentence they end."
)
async def drops_the_marks(stream: AsyncIterable[str]) -> AsyncIterator[str]:
    text = ""
    async for piece in stream:
        text += piece
        *complete, text = re.split(r"[.!?]\s+", text)
        for sentence in complete:
            yield sentence.strip()
    if text.strip():
        yield text.strip()


@speaking.mistake(
    "You look only at the end of what you hold. One piece can bring the end of a sentence and the beginning of the "
    "next: look for the end inside as well."
)
async def looks_at_the_end_only(stream: AsyncIterable[str]) -> AsyncIterator[str]:
    text = ""
    async for piece in stream:
        text += piece
        if text.rstrip().endswith((".", "!", "?")):
            yield text.strip()
            text = ""
    if text.strip():
        yield text.strip()


@speaking.mistake("The last sentence is missing. What you still hold has to go out when the stream ends.")
async def loses_the_last(stream: AsyncIterable[str]) -> AsyncIterator[str]:
    text = ""
    async for piece in stream:
        text += piece
        *complete, text = re.split(r"(?<=[.!?])\s+", text)
        for sentence in complete:
            yield sentence.strip()


@speaking.mistake(
    "You look for sentences in each piece by itself. A sentence usually comes in many pieces: keep what is not finished."
)
async def in_each_piece(stream: AsyncIterable[str]) -> AsyncIterator[str]:
    async for piece in stream:
        for sentence in re.split(r"(?<=[.!?])\s+", piece):
            if sentence.strip():
                yield sentence.strip()


@speaking.mistake(
    "All sentences come at the end. A voice could have begun to speak with the first: hand each on when it is complete."
)
async def all_at_the_end(stream: AsyncIterable[str]) -> AsyncIterator[str]:
    text = "".join([piece async for piece in stream])
    for sentence in re.split(r"(?<=[.!?])\s+", text.strip()):
        if sentence:
            yield sentence


@speaking.mistake(
    "One sentence per piece is not enough: a piece can bring the end of one sentence and all of the next. Go on looking "
    "until there is no end left in what you hold."
)
async def one_per_piece(stream: AsyncIterable[str]) -> AsyncIterator[str]:
    text = ""
    async for piece in stream:
        text += piece
        first, *rest = re.split(r"(?<=[.!?])\s+", text, maxsplit=1)
        if rest:
            yield first.strip()
            text = rest[0]
    if text.strip():
        yield text.strip()


# token_counter


async def token_counter(stream: AsyncIterable[str]) -> AsyncIterator[tuple[str, int]]:
    """Each piece of text with the number of tokens in all the text so far.

    >>> [pair async for pair in token_counter(pieces(" stream", "ing", " is", " fun"))]
    [(' stream', 1), ('ing', 1), (' is', 2), (' fun', 3)]
    """
    counter = TokenCounter()
    async for piece in stream:
        yield piece, counter.add(piece)


counting = Exercise(
    token_counter,
    cases=[
        Case(Source(["Hello", " world"]), note="a token in each piece"),
        Case(Source([" stream", "ing", " is", " fun", "ny"]), note="pieces that join the one before them"),
        Case(Source(["Server-Sent ", "Events ", "are ", "text."]), note="words with the space behind them"),
        Case(Source(["s", "t", "r", "e", "a", "m", "!"]), note="letter by letter"),
        Case(Source(["A whole sentence, in one piece.", " And one more."]), note="many tokens in a piece"),
        Case(Source(["", "a", ""]), note="empty pieces"),
        Case(Source([]), note="an empty stream"),
        Case(Source(["one", " two"], error=ConnectionError("cut")), note="the stream breaks"),
        Case(Source(["a", " b", " c"], every=1.0), take=2, note="the reader stops after two"),
    ],
    hints=(
        "Is the number of tokens of two pieces together always the sum of their numbers? Try `count_tokens` on "
        '`" stream"`, `"ing"` and `" streaming"`.',
        "What you count must be all the text so far. Either put it together and count it, or use something that "
        "remembers.",
        "`text += piece`, then `yield piece, count_tokens(text)`. (`TokenCounter` does the same without counting "
        "everything again.)",
    ),
)


@counting.right
async def counting_everything_again(stream: AsyncIterable[str]) -> AsyncIterator[tuple[str, int]]:
    text = ""
    async for piece in stream:
        text += piece
        yield piece, count_tokens(text)


@counting.right
async def with_a_list_of_pieces(stream: AsyncIterable[str]) -> AsyncIterator[tuple[str, int]]:
    parts: list[str] = []
    async for piece in stream:
        parts.append(piece)
        yield piece, count_tokens("".join(parts))


@counting.right
async def adding_differences(stream: AsyncIterable[str]) -> AsyncIterator[tuple[str, int]]:
    text, count = "", 0
    async for piece in stream:
        longer = text + piece
        count += count_tokens(longer) - count_tokens(text)
        text = longer
        yield piece, count


@counting.mistake(
    "You add up the tokens of each piece. A piece may end in the middle of a token, so the parts do not add up to "
    'the whole: " stream" + "ing" is one token. Count all the text so far.'
)
async def adds_up_the_pieces(stream: AsyncIterable[str]) -> AsyncIterator[tuple[str, int]]:
    count = 0
    async for piece in stream:
        count += count_tokens(piece)
        yield piece, count


@counting.mistake(
    "You look back one piece only. A token can reach over more of them: count all the text so far."
)
async def looks_back_one_piece(stream: AsyncIterable[str]) -> AsyncIterator[tuple[str, int]]:
    count, before = 0, ""
    async for piece in stream:
        count += count_tokens(before + piece) - count_tokens(before)
        before = piece
        yield piece, count


@counting.mistake("You count pieces. A piece can hold many tokens, or a part of one.")
async def counts_pieces(stream: AsyncIterable[str]) -> AsyncIterator[tuple[str, int]]:
    count = 0
    async for piece in stream:
        count += 1
        yield piece, count


@counting.mistake(
    "You count words. A token is often a part of a word, and punctuation has tokens of its own: ask the tokenizer."
)
async def counts_words(stream: AsyncIterable[str]) -> AsyncIterator[tuple[str, int]]:
    text = ""
    async for piece in stream:
        text += piece
        yield piece, len(text.split())


@counting.mistake(
    "That is the number of tokens in this piece alone. The reader wants to know how many so far."
)
async def of_the_piece_alone(stream: AsyncIterable[str]) -> AsyncIterator[tuple[str, int]]:
    async for piece in stream:
        yield piece, count_tokens(piece)


@counting.mistake(
    "You read the whole stream before the first count comes out. A budget that is checked at the end saves nothing."
)
async def counts_at_the_end(stream: AsyncIterable[str]) -> AsyncIterator[tuple[str, int]]:
    counter = TokenCounter()
    pairs = [(piece, counter.add(piece)) async for piece in stream]
    for pair in pairs:
        yield pair


# pipe


async def pipe(
    source: AsyncGenerator[object, None], *stages: Callable[..., AsyncGenerator[object, None]]
) -> AsyncGenerator[object, None]:
    """The items of `source` after all `stages`, in reading order; at the end every part is closed.

    However the reading ends (the last item, a reader who stops, an error, a cancellation), the last stage is closed
    first, then the one before it, and the source at the end.

    >>> [text async for text in pipe(pieces("one", " two"), shout)]
    ['ONE', ' TWO']
    """
    async with AsyncExitStack() as stack:
        stream = await stack.enter_async_context(aclosing(source))
        for stage in stages:
            stream = await stack.enter_async_context(aclosing(stage(stream)))
        async for item in stream:
            yield item


async def shout(stream: AsyncIterable[str]) -> AsyncGenerator[str, None]:
    """A stage: the text in capital letters."""
    async for text in stream:
        yield text.upper()


def piped(
    names: str, note: str, *, take: int = 100, fails: str = "", slow: str = "", cancel_at: float = 0
) -> Case:
    """What comes out of a chain of stages with these one-letter names, and in which order all is closed."""

    async def play(solution: Callable[..., AsyncGenerator[str, None]], stage: Stage) -> object:
        log: list[str] = []

        async def source() -> AsyncGenerator[str, None]:
            try:
                for number in range(4):
                    await asyncio.sleep(1)
                    yield str(number)
            finally:
                log.append("source closed")

        def named(name: str) -> Callable[[AsyncIterable[str]], AsyncGenerator[str, None]]:
            async def part(stream: AsyncIterable[str]) -> AsyncGenerator[str, None]:
                try:
                    async for text in stream:
                        if name == fails and text.startswith("2"):
                            raise ValueError("this stage fails")
                        if name == slow:
                            await asyncio.sleep(1)
                        yield text + name
                finally:
                    await asyncio.sleep(0.1)  # saying goodbye takes a moment
                    log.append(f"stage {name} closed")

            return part

        async def read() -> None:
            async with aclosing(solution(source(), *map(named, names))) as stream:
                async for item in stream:
                    log.append(item)
                    if len(log) == take:
                        break
            log.append("the reader goes on")

        reader = asyncio.create_task(read())
        if cancel_at:
            await asyncio.sleep(cancel_at)
            reader.cancel()
        await asyncio.wait([reader])
        if not reader.cancelled() and (error := reader.exception()):
            log.append(repr(error))
        return log

    return Case(play=play, note=note)


piping = Exercise(
    pipe,
    cases=[
        piped("ab", "two stages, read to the end"),
        piped("", "no stages, only the source"),
        piped("abc", "three stages, and the reader stops after two items", take=2),
        piped("ab", "the second stage raises an error", fails="b"),
        piped("ab", "the first stage raises an error", fails="a"),
        piped("ab", "the reader is cancelled while the source works", cancel_at=2.5),
        piped("ab", "the reader is cancelled while the second stage works", slow="b", cancel_at=1.5),
    ],
    hints=(
        "Two jobs: connect the stages, which is one line in a loop, and close them all, whatever happens.",
        "A stage is a function: `stream = stage(stream)`. For the closing, remember every stream you made; "
        "`contextlib.AsyncExitStack` closes what you give it, the last first.",
        "`async with AsyncExitStack() as stack:`, then for the source and each stage `stream = await "
        "stack.enter_async_context(aclosing(…))`, then hand on the items of the last one.",
    ),
)


@piping.right
async def with_a_list_to_close(
    source: AsyncGenerator[object, None], *stages: Callable[..., AsyncGenerator[object, None]]
) -> AsyncGenerator[object, None]:
    streams = [source]
    for stage in stages:
        streams.append(stage(streams[-1]))
    try:
        async for item in streams[-1]:
            yield item
    finally:
        for stream in reversed(streams):
            await stream.aclose()


@piping.right
async def one_inside_the_other(
    source: AsyncGenerator[object, None], *stages: Callable[..., AsyncGenerator[object, None]]
) -> AsyncGenerator[object, None]:
    async with aclosing(source):
        if not stages:
            async for item in source:
                yield item
        else:
            async with aclosing(one_inside_the_other(stages[0](source), *stages[1:])) as rest:
                async for item in rest:
                    yield item


@piping.right
async def with_callbacks(
    source: AsyncGenerator[object, None], *stages: Callable[..., AsyncGenerator[object, None]]
) -> AsyncGenerator[object, None]:
    stack = AsyncExitStack()
    stream = source
    stack.push_async_callback(stream.aclose)
    for stage in stages:
        stream = stage(stream)
        stack.push_async_callback(stream.aclose)
    try:
        while True:
            try:
                item = await anext(stream)
            except StopAsyncIteration:
                return
            yield item
    finally:
        await stack.aclose()


@piping.mistake(
    "The stages are connected, and nobody closes them when the reader stops early: they stay open, the source with "
    "them. (A line behind the loop is reached only when the loop ends by itself.) Close each one, the last first, in "
    "`finally` or at the end of a `with`."
)
async def closes_nothing(
    source: AsyncGenerator[object, None], *stages: Callable[..., AsyncGenerator[object, None]]
) -> AsyncGenerator[object, None]:
    stream = source
    for stage in stages:
        stream = stage(stream)
    async for item in stream:
        yield item


@piping.mistake(
    "You close the last stage only. A stage that is closed does not close the one it reads: that takes a loop over "
    "all of them."
)
async def closes_the_last_stage_only(
    source: AsyncGenerator[object, None], *stages: Callable[..., AsyncGenerator[object, None]]
) -> AsyncGenerator[object, None]:
    stream = source
    for stage in stages:
        stream = stage(stream)
    async with aclosing(stream):
        async for item in stream:
            yield item


@piping.mistake(
    "You forget one way to the end: a cancellation. `asyncio.CancelledError` is no `Exception`, so `except Exception` does "
    "not see it. `finally` runs on every way."
)
async def not_when_cancelled(
    source: AsyncGenerator[object, None], *stages: Callable[..., AsyncGenerator[object, None]]
) -> AsyncGenerator[object, None]:
    streams = [source]
    for stage in stages:
        streams.append(stage(streams[-1]))
    try:
        async for item in streams[-1]:
            yield item
    except (Exception, GeneratorExit):
        for stream in reversed(streams):
            await stream.aclose()
        raise


@piping.mistake(
    "You close all parts at the same time. A stage may still need the one it reads while it says goodbye: close one, wait "
    "until it is closed, then the next."
)
async def closes_all_at_once(
    source: AsyncGenerator[object, None], *stages: Callable[..., AsyncGenerator[object, None]]
) -> AsyncGenerator[object, None]:
    streams = [source]
    for stage in stages:
        streams.append(stage(streams[-1]))
    try:
        async for item in streams[-1]:
            yield item
    finally:
        await asyncio.gather(*(stream.aclose() for stream in reversed(streams)))


@piping.mistake(
    "`return` in an `async def` gives one value, to whoever awaits it. A stream needs `yield`: go through the items of the "
    "last stage and hand each one on."
)
async def returns_the_last_stage(
    source: AsyncGenerator[object, None], *stages: Callable[..., AsyncGenerator[object, None]]
) -> AsyncGenerator[object, None]:
    for stage in stages:
        source = stage(source)
    return source


@piping.mistake(
    "You close the source first. A stage that wants to say a last word, or to read on while it is closed, finds nothing "
    "left: begin at the reader's end."
)
async def closes_the_source_first(
    source: AsyncGenerator[object, None], *stages: Callable[..., AsyncGenerator[object, None]]
) -> AsyncGenerator[object, None]:
    streams = [source]
    for stage in stages:
        streams.append(stage(streams[-1]))
    try:
        async for item in streams[-1]:
            yield item
    finally:
        for stream in streams:
            await stream.aclose()


@piping.mistake(
    "Your stages are connected the wrong way round: the first one named is the first to get the items."
)
async def in_reverse_order(
    source: AsyncGenerator[object, None], *stages: Callable[..., AsyncGenerator[object, None]]
) -> AsyncGenerator[object, None]:
    async with aclosing(pipe(source, *reversed(stages))) as stream:
        async for item in stream:
            yield item
