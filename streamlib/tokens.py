"""Text as it arrives -> exact token counts, cost, and a stop when the budget is spent. Lesson 4.

The encoding is OpenAI's o200k_base (gpt-4o and its successors), read by `tiktoken` from a vocabulary that
comes with this package: nothing is downloaded. For OpenAI's models the counts are exact. Other vendors have
vocabularies of their own, so for them they are estimates. What the API reports is the truth for all models:
`token_usage` prefers it, and says which of the two it used.

Adding up ``len(encode(chunk))`` is wrong, because chunks cut tokens: " stream" and "ing" are two tokens,
" streaming" is one. Encoding everything again at every chunk is right, and quadratic. `TokenCounter` is right
and linear. The vocabulary is loaded by the first count, which takes a fraction of a second longer.
"""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Literal

from .closing import closing

if TYPE_CHECKING:
    from tiktoken import Encoding

__all__ = ["BudgetExceeded", "Price", "TokenCounter", "TokenUsage", "budget", "cost"]
__all__ += ["count_message_tokens", "count_tokens", "encoding", "token_usage"]

# How o200k_base cuts text into pieces: a word with the blank before it, up to three digits, punctuation, …
_PIECE = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@cache
def encoding() -> Encoding:
    """The o200k_base encoding: the `tiktoken` object you know, without its download.

    Use its ``encode_ordinary``. Its ``encode`` fails on ``<|endoftext|>``, which a model may well write.
    """
    from tiktoken import Encoding

    packed = gzip.decompress(files(__package__).joinpath("vocab/o200k_base.gz").read_bytes())
    at = size = 199_998  # first the length of each token, one byte each, then the tokens
    ranks = {}
    for rank, length in enumerate(packed[:size]):
        ranks[packed[at : at + length]] = rank
        at += length
    special = {"<|endoftext|>": 199_999, "<|endofprompt|>": 200_018}
    return Encoding("o200k_base", pat_str=_PIECE, mergeable_ranks=ranks, special_tokens=special)


@cache
def _cut() -> Callable[[str], list[str]]:
    """Text -> its pieces. A token never reaches from one piece into the next."""
    import regex  # the standard `re` has no \p{L}

    return regex.compile(_PIECE).findall  # type: ignore[no-any-return]


@cache
def _encode_piece() -> Callable[[bytes], list[int]]:
    """One piece -> its tokens: tiktoken without its own cutting, which crashes on a million blanks."""
    return encoding()._encode_single_piece


def count_tokens(text: str) -> int:
    """How many o200k_base tokens `text` is. Half a surrogate pair counts as U+FFFD."""
    return sum([len(_encode_piece()(piece.encode())) for piece in _cut()(_whole_characters(text))])


class TokenCounter:
    """Counts tokens while the text arrives: after each `add`, `count` is that of all the text so far.

    >>> counter = TokenCounter()
    >>> [counter.add(chunk) for chunk in [" stream", "ing", " is", " fun"]]
    [1, 1, 2, 3]

    It equals `count_tokens` of the whole text, for every text and every chunking, in time linear in the text.
    Why that is possible: what comes later changes at most the last two pieces. ("it" and "'r" become one when
    "e" follows.) They are kept, and cut again with the new text behind them. Of all before, a number is kept.
    """

    __slots__ = ("_open", "_settled", "count")

    def __init__(self) -> None:
        self.count = 0
        self._settled = 0  # tokens of the pieces that nothing can change any more
        self._open: list[_Piece] = []  # the last two

    def add(self, text: str) -> int:
        """Take the next bit of text; return the count of everything so far."""
        if not isinstance(text, str):
            hint = "chunk.choices[0].delta.content or ''"
            raise TypeError(f"add() takes text, got {type(text).__name__}; of an API chunk that is {hint}")
        before, self._open = self._open, []
        for found in _cut()("".join([piece.shape for piece in before]) + _whole_characters(text)):
            piece, covered = _Piece(), 0
            while before and covered + len(before[0].shape) <= len(found):  # as it was, or it has grown
                known = before.pop(0)
                if covered:  # and has swallowed its neighbour
                    piece.grow(known.shape, encoding().decode_bytes(known.tokens))
                else:
                    piece = known
                covered += len(known.shape)
            if (
                before and not covered
            ):  # it has shrunk: of a run of blanks, the last goes to the word that follows
                known = before.pop(0)
                lost = len(known.shape[len(found) :].encode())
                piece.grow(found, encoding().decode_bytes(known.tokens)[:-lost])
            else:
                piece.grow(found[covered:], found[covered:].encode())
            self._open.append(piece)
        self._settled += sum([len(piece.tokens) for piece in self._open[:-2]])
        del self._open[:-2]
        self.count = self._settled + sum([len(piece.tokens) for piece in self._open])
        return self.count


class _Piece:
    """A piece that may still grow. A model that repeats itself makes very long ones: "====…", "漢漢漢…"."""

    __slots__ = ("shape", "tokens")

    def __init__(self) -> None:
        self.shape = ""  # its two ends: enough to cut it again, since what stands between makes no difference
        self.tokens: list[int] = []

    def grow(self, shape: str, data: bytes) -> None:
        """Add `data` at the end, in time linear in `data`, however long the piece is.

        Only the last few tokens are encoded again, with `data` behind them. If the first of them comes out as
        it was, both encodings share that token and may be joined there; if not, more are taken. (Corollary
        III in github/rust-gems, crates/bpe/README.md. It asks that each token encodes to itself: these do.)
        """
        self.shape += shape
        if len(self.shape) > 16:
            self.shape = self.shape[:8] + self.shape[-8:]
        for at in range(0, len(data), 256):
            take = 4
            while True:
                seam = self.tokens[-take:]
                again = _encode_piece()(encoding().decode_bytes(seam) + data[at : at + 256])
                if take >= len(self.tokens) or again[0] == seam[0]:
                    break
                take *= 2
            self.tokens[-take:] = again


def _whole_characters(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:  # JSON can carry half a surrogate pair; tiktoken does the same with it
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def count_message_tokens(messages: Iterable[Mapping[str, Any]]) -> int:
    """An estimate of the prompt tokens the API will report for `messages`, in OpenAI's chat shape.

    Exact: the tokens of role, content and name. Assumed: 3 around each message, 1 for a name, 3 that prime
    the reply. OpenAI's cookbook found these for gpt-4o ("How to count tokens with tiktoken"); they may change
    any day. Not in it: tools, tool calls, response formats, and what a vendor adds out of sight.

    Raises ValueError for content other than text: how many tokens an image is, only the vendor knows.
    """
    total = 3
    for message in messages:
        content = message.get("content") or ""
        for part in [{"type": "text", "text": content}] if isinstance(content, str) else content:
            if part.get("type") != "text":
                raise ValueError(f"cannot count a part of type {part.get('type')!r}, only text")
            total += count_tokens(part["text"])
        if message.get("name"):
            total += 1 + count_tokens(message["name"])
        total += 3 + count_tokens(message["role"])
    return total


@dataclass(frozen=True, slots=True)
class TokenUsage:
    """Tokens of one call. `cached` of the `input` came from the API's cache; `source` says who counted."""

    input: int
    output: int
    cached: int = 0
    source: Literal["api", "counted"] = "counted"


def token_usage(prompt: str | Iterable[Mapping[str, Any]], text: str, reported: Any = None) -> TokenUsage:
    """What a call used: the API's numbers if `reported` has them, else counted from `prompt` and `text`.

    `reported` is the usage of OpenAI's chat completions or Responses, as an object or a dict. It is None for
    a stream that was stopped or not asked for it. Then reasoning that was never shown is not counted.
    """
    for given, made in (("prompt_tokens", "completion_tokens"), ("input_tokens", "output_tokens")):
        if _get(reported, made) is not None:
            cached = _get(_get(reported, f"{given}_details"), "cached_tokens") or 0
            return TokenUsage(_get(reported, given) or 0, _get(reported, made), cached, "api")
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    return TokenUsage(count_message_tokens(messages), count_tokens(text))


def _get(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, Mapping) else getattr(value, name, None)


@dataclass(frozen=True, slots=True)
class Price:
    """What a million tokens cost, in any currency. `cached` is the input price unless given."""

    input: float
    output: float
    cached: float | None = None


def cost(usage: TokenUsage, price: Price) -> float:
    """What a call costs, in the currency of `price`. With your own table: ``cost(usage, prices[model])``."""
    cached = price.input if price.cached is None else price.cached
    fresh = usage.input - usage.cached
    return (fresh * price.input + usage.cached * cached + usage.output * price.output) / 1_000_000


class BudgetExceeded(Exception):
    """The budget is spent, the stream closed. `text` is all that arrived, `usage` what was used for it."""

    def __init__(self, message: str, text: str, usage: TokenUsage) -> None:
        super().__init__(message)
        self.text, self.usage = text, usage


def budget(
    *,
    tokens: int | None = None,
    money: float | None = None,
    price: Price | None = None,
    prompt_tokens: int = 0,
) -> Callable[[AsyncIterable[str]], AsyncIterator[str]]:
    """A stage that stops a stream of text when the answer is over `tokens`, or the call over `money`.

    `money` needs a `price`; the `prompt_tokens` are spent before the first word. The chunk that goes over has
    arrived and is paid for: the source is closed at once, the chunk handed on, then `BudgetExceeded` raised.
    To use up the budget exactly is allowed. Counted here, so reasoning out of sight is not in it.

    >>> stage = budget(money=0.001, price=Price(input=2.50, output=10.00), prompt_tokens=40)
    """
    limit = tokens if money is None else money
    if limit is None or (tokens is not None and money is not None) or (money is None) != (price is None):
        raise ValueError("budget() takes either tokens=…, or money=… together with price=…")
    if min(limit, prompt_tokens) < 0:
        raise ValueError(f"a budget cannot be negative: {tokens=}, {money=}, {prompt_tokens=}")

    def spent(usage: TokenUsage) -> float:
        return usage.output if price is None else cost(usage, price)

    async def stage(stream: AsyncIterable[str]) -> AsyncIterator[str]:
        usage = TokenUsage(prompt_tokens, 0)
        counter = TokenCounter()
        parts: list[str] = []
        async with closing(stream) as texts:
            if spent(usage) <= limit:
                async for text in texts:
                    parts.append(text)
                    usage = TokenUsage(prompt_tokens, counter.add(text))
                    if spent(usage) > limit:
                        break
                    yield text
                else:
                    return
        if parts:
            yield parts[-1]
        message = f"{spent(usage):g} spent of a budget of {limit:g}; the text so far is in .text"
        raise BudgetExceeded(message, "".join(parts), usage)

    return stage
