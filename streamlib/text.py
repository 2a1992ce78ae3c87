"""Stages for text that arrives in pieces cut anywhere: `redact` and `sentences`. Lesson 4.

A filter that looks at one token at a time misses a word that is split over two. So these stages look back:
they hold text until what it means can no longer change, and give it out then. The goals, in this order: the
result is the same for every way to cut the text; nothing is held longer than needed; nothing is lost at the
end.
"""

# ruff: noqa: RUF001, RUF002, SIM905 - the punctuation of other scripts is meant, and words read best in one string
from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable

from .closing import closing

__all__ = ["redact", "sentences"]


def redact(
    blocklist: Iterable[str], mask: str = "***", *, ignore_case: bool = False, whole_words: bool = False
) -> Callable[[AsyncIterable[str]], AsyncGenerator[str, None]]:
    """A stage that puts `mask` in the place of every phrase of `blocklist`.

    However the text is cut, the output is that of the same filter on the whole text: from left to right, of
    several phrases that begin at one place the longest. Held back is only the longest end of the text that
    is the beginning of a phrase; every other character passes at once.

    `ignore_case` compares letter by letter, so "ß" and "ss" stay different. With `whole_words` a phrase
    counts only where no letter, digit or underscore touches it; one that ends the text so far waits for the
    next character.
    """
    if isinstance(blocklist, str) or not isinstance(blocklist, Iterable):
        raise TypeError(f"redact(blocklist) needs several phrases, as in redact(['foo']), got {blocklist!r}")
    fold = _fold if ignore_case else str
    phrases = sorted({fold(phrase) for phrase in blocklist})
    if "" in phrases:
        raise ValueError("redact(blocklist): an empty phrase is everywhere, leave it out")
    longest = max(map(len, phrases), default=0)
    first_letters = {phrase[0] for phrase in phrases}  # nearly every letter is ruled out by this alone
    # Of alternatives a regular expression takes the first that fits, so the longest stand first.
    either = "|".join(re.escape(phrase) for phrase in sorted(phrases, key=len, reverse=True)) or "(?!)"
    banned = re.compile(rf"(?<!\w)(?:{either})(?!\w)" if whole_words else either)
    # A whole phrase is a hit already, unless the next character decides whether a word ends there.
    bisect = bisect_left if whole_words else bisect_right

    def open_end(text: str, start: int) -> int:
        """Where in `text`, from `start` on, its longest end begins that may still become a phrase."""
        for at in range(max(start, len(text) - longest), len(text)):
            if text[at] not in first_letters or (whole_words and at and _WORD.match(text, at - 1)):
                continue
            end = text[at:]
            # In sorted order, the phrases that begin with `end` stand right behind it.
            after = bisect(phrases, end)
            if after < len(phrases) and phrases[after].startswith(end):
                return at
        return len(text)

    def settle(text: str, start: int, ended: bool) -> tuple[str, int]:
        """What `text[start:]` turns into, up to the index where it is not sure yet, and that index."""
        folded = fold(text)
        parts = []
        while True:
            sure = len(text) if ended else open_end(folded, start)
            hit = banned.search(folded, start)
            if hit is None or hit.start() >= sure:
                parts.append(text[start:sure])
                return "".join(parts), sure
            parts += [text[start : hit.start()], mask]
            start = hit.end()

    async def stage(stream: AsyncIterable[str]) -> AsyncGenerator[str, None]:
        text, start = "", 0  # text[start:] is held back; before it stands the one character already given out
        async with closing(stream) as tokens:
            try:
                async for token in tokens:
                    text += _checked(token, "redact")
                    out, sure = settle(text, start, ended=False)
                    text, start = text[max(sure - 1, 0) :], min(sure, 1)
                    if out:
                        yield out
            except Exception:
                if text[start:]:
                    yield settle(text, start, ended=True)[0]
                raise
            if text[start:]:
                yield settle(text, start, ended=True)[0]

    return stage


_WORD = re.compile(r"\w")


def _fold(text: str) -> str:
    """`text` without upper and lower case, as many characters as before.

    `str.casefold` alone makes two of some letters, and `str.lower` looks at the letters around; with
    either the result would depend on where the text is cut.
    """
    if text.isascii():
        return text.lower()
    return "".join(folded if len(folded := letter.casefold()) == 1 else letter for letter in text)


def _checked(token: str, stage: str) -> str:
    if not isinstance(token, str):
        raise TypeError(f"{stage} works on a stream of str, got {type(token).__name__}: {token!r}")
    return token


async def sentences(stream: AsyncIterable[str]) -> AsyncGenerator[str, None]:
    """Whole sentences, each as soon as it is sure that it ends, for example to speak them.

    A sentence ends with . ! ? or … before white space, with 。！？ anywhere, at a blank line, and at a line
    break before a list item or a heading. It does not end inside 3.14, example.com or v2.0, nor after "Dr.",
    "e.g.", the initials of "J. S. Bach" or the number of a list item. White space around a sentence is left
    out, nothing else: the last one comes at the end of the stream, finished or not. Rules cannot know
    everything: in doubt ("in the U.S. He …") two sentences stay together.
    """
    text, seen = "", 0  # `text` is the open sentence; up to `seen` no end was found in it
    async with closing(stream) as tokens:
        try:
            async for token in tokens:
                text += _checked(token, "sentences")
                start = 0
                while True:
                    end, seen = _find_end(text, start, seen)
                    if end is None:
                        break
                    if sentence := text[start:end].strip():
                        yield sentence
                    start = end
                if start:
                    text, seen = text[start:], seen - start
        except Exception:
            if rest := text.strip():
                yield rest
            raise
        if rest := text.strip():
            yield rest


# What may end a sentence: marks that need white space behind them, marks that do not, and line breaks.
# Quotes, brackets and Markdown's stars that close right behind a mark belong to it.
_CLOSERS = r"""["'”’»›)\]}」』）】》*_`]*"""
_MARK = re.compile(rf"(?P<spaced>[.!?…؟।۔]+)({_CLOSERS})|(?P<wide>[。！？｡]+)({_CLOSERS})|(?P<line>\n\s*)")
_ITEM = re.compile(r"(?:[-*+•>|]|\d{1,3}[.)]|#{1,6})\s")
_ITEM_BEGINS = re.compile(r"(?:[-*+•>|]|\d{1,3}[.)]?|#{1,6})?")
_LAST_WORD = re.compile(r"""[^\s"'“‘«([{*_]*\Z""")
_INITIALS = re.compile(r"(?:[^\W\d_]\.)+[^\W\d_]|[A-HJ-Z]")  # "e.g", "J"; "I" is a word
_NOT_SPACE = re.compile(r"\S")

# After these a sentence goes on ...
_GOES_ON = frozenset(
    "mr mrs ms mx dr prof st mt rev hon gen col capt lt sgt gov sen rep pres messrs mme mlle "
    "vs cf viz approx ca fig figs eq eqs vol ch pp ed eds bzw bspw ggf".split()
)
# ... and after these it does if a small letter or a digit follows.
_MAY_END = frozenset(
    "etc al inc ltd co corp jr sr no nos p sec min max est dept a.m p.m ph.d b.c a.d usw "
    "jan feb aug sept oct nov dec".split()
)


def _find_end(text: str, start: int, seen: int) -> tuple[int | None, int]:
    """Where the sentence that begins at `start` ends, None if unknown as yet; and how far is searched."""
    while mark := _MARK.search(text, seen):
        ends = _ends(text, start, mark)
        if ends is None:
            return None, mark.start()
        seen = mark.end()
        if ends:
            return seen, seen
    return None, len(text)


def _ends(text: str, start: int, mark: re.Match[str]) -> bool | None:
    """Does the sentence that begins at `start` end at `mark`? None: that depends on what has yet to come."""
    end = mark.end()
    if mark["line"]:
        if mark["line"].count("\n") > 1 or _ITEM.match(text, end):
            return True
        return None if _ITEM_BEGINS.fullmatch(text, end) else False
    if end == len(text):
        return None
    closed = mark[0][-1] not in ".!?…؟।۔。！？｡"
    if mark["wide"]:
        return not (closed and text[end] in "と、，")  # 「はい。」と言った: a quotation inside a sentence
    if not text[end].isspace():
        return False

    unsure = closed or (mark["spaced"] != "." and set(mark["spaced"]) <= {".", "…"})
    if mark[0] == ".":
        found = _LAST_WORD.search(text[max(start, mark.start() - 20) : mark.start()])
        word = found[0] if found else ""
        unsure = word.lower() in _MAY_END
        if word.lower() in _GOES_ON or (_INITIALS.fullmatch(word) and not unsure):
            return False
        line = max(start, text.rfind("\n", start, mark.start()) + 1) if word.isdigit() else start
        if word.isdigit() and text[line : mark.start()].strip(" \t*>#-") == word:
            return False  # "1." before a list item
    if not unsure:
        return True
    # An ellipsis, a quotation, such an abbreviation: the next word tells, by its first letter.
    following = _NOT_SPACE.search(text, end)
    if following is None:
        return None
    return not (following[0].islower() or (following[0].isdigit() and mark[0] == "."))
