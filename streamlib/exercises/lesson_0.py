"""Lesson 0: one small exercise to practise with: how checking, verdicts, hints and solutions work."""

from __future__ import annotations

from collections.abc import Iterable

from ..checker import Case, Exercise, Source


def first_text(pieces: Iterable[str | None]) -> str:
    """The first piece with text in it, as soon as it is there; "" when no piece has any.

    >>> first_text([None, "", "Hello", " world"])
    'Hello'
    """
    for piece in pieces:
        if piece:
            return piece
    return ""


warm_up = Exercise(
    first_text,
    cases=[
        Case(["Hello", " world"], note="text at once"),
        Case([None, "", "Hello", " world"], note="two pieces without text come first"),
        Case(["", " Hello"], note="text that begins with a space"),
        Case(["", " ", "Hello"], note="a piece that is only a space, which is text too"),
        Case(
            Source([None, "Hello", " world", "!"], every=0.5, kind="iterator"),
            note="a stream with a piece every half second",
        ),
        Case(Source(["", None], every=0.5, kind="iterator"), note="a stream that ends without text"),
        Case([], note="no pieces at all"),
    ],
    hints=(
        "Take the pieces one by one, as they come. What do you do with one that has text, and with one that has none?",
        "A `for` loop asks for one piece at a time, and `return` leaves it at once, in the middle of the stream.",
        '`if piece:` is true for text, and false for `None` and for `""`. What is left to say after the loop?',
    ),
)


@warm_up.right
def with_next(pieces: Iterable[str | None]) -> str:
    return next((piece for piece in pieces if piece), "")


@warm_up.right
def with_filter(pieces: Iterable[str | None]) -> str:
    return next(filter(None, pieces), None) or ""


@warm_up.right
def skipping_the_rest(pieces: Iterable[str | None]) -> str:
    for piece in pieces:
        if piece is None or piece == "":
            continue
        return piece
    else:
        return ""


@warm_up.right
def with_break(pieces: Iterable[str | None]) -> str:
    text = ""
    for piece in pieces:
        text = piece or ""
        if len(text) > 0:
            break
    return text


@warm_up.mistake("The first piece need not have text in it. Go on until you find one that has.")
def takes_the_first_piece(pieces: Iterable[str | None]) -> str | None:
    return next(iter(pieces), "")


@warm_up.mistake("An empty string is not `None`, and has no text in it either.")
def looks_for_none_only(pieces: Iterable[str | None]) -> str:
    for piece in pieces:
        if piece is not None:
            return piece
    return ""


@warm_up.mistake(
    "Your loop ends with its first piece, whatever that is. What belongs after the loop, not into it?"
)
def gives_up_at_the_first_piece(pieces: Iterable[str | None]) -> str:
    for piece in pieces:
        if piece:
            return piece
        return ""
    return ""


@warm_up.mistake(
    "You look at every piece before you answer. The text was there earlier: give it back at that moment, and leave "
    "the rest of the stream unread."
)
def waits_for_the_end(pieces: Iterable[str | None]) -> str:
    texts = [piece for piece in pieces if piece]
    return texts[0] if texts else ""


@warm_up.mistake("That is the whole answer. Only its first piece with text is asked for.")
def joins_all_pieces(pieces: Iterable[str | None]) -> str:
    return "".join(piece or "" for piece in pieces)


@warm_up.mistake(
    "A function that comes to its end without `return` gives back `None`. What should it say then?"
)
def says_nothing_at_the_end(pieces: Iterable[str | None]) -> str | None:
    for piece in pieces:
        if piece:
            return piece
    return None


@warm_up.mistake(
    "`next` without a second argument raises StopIteration when nothing is left. Give it what to say then."
)
def next_without_a_default(pieces: Iterable[str | None]) -> str:
    return next(piece for piece in pieces if piece)


@warm_up.mistake(
    "A stream has no length and no positions: what is not there yet cannot be counted. Ask it for one piece after "
    "the other."
)
def counts_positions(pieces: list[str | None]) -> str:
    for i in range(len(pieces)):
        if text := pieces[i]:
            return text
    return ""


@warm_up.mistake(
    "You pass over a piece that is only a space. A space is text: without it the words of an answer run together."
)
def passes_over_spaces(pieces: Iterable[str | None]) -> str:
    for piece in pieces:
        if piece and piece.strip():
            return piece
    return ""


@warm_up.mistake("Give the piece back as it came: its spaces belong to the answer.")
def strips_the_piece(pieces: Iterable[str | None]) -> str:
    for piece in pieces:
        if piece and piece.strip():
            return piece.strip()
    return ""
