"""Exact counts while text arrives, and what they cost: against tiktoken's own cutting and encoding."""

from __future__ import annotations

import base64
import hashlib
import subprocess
import sys
from collections.abc import AsyncIterator
from itertools import pairwise
from types import SimpleNamespace

import pytest
import tiktoken_ext.openai_public
from hypothesis import given, settings
from hypothesis import strategies as st

from streamlib.tokens import (
    BudgetExceeded,
    Price,
    TokenCounter,
    TokenUsage,
    budget,
    cost,
    count_message_tokens,
    count_tokens,
    encoding,
    token_usage,
)

# ---------------------------------------------------------------- the vocabulary


def test_the_vocabulary_is_the_one_that_tiktoken_downloads(monkeypatch):
    """Written in tiktoken's format it has the SHA-256 that tiktoken demands. The pattern is the same, too."""
    demanded = {}
    ranks = encoding()._mergeable_ranks

    def instead_of_a_download(url, expected_hash):
        demanded["sha256"] = expected_hash
        return ranks

    monkeypatch.setattr(tiktoken_ext.openai_public, "load_tiktoken_bpe", instead_of_a_download)
    theirs = tiktoken_ext.openai_public.o200k_base()
    written = b"".join(base64.b64encode(token) + b" %d\n" % rank for token, rank in ranks.items())
    assert hashlib.sha256(written).hexdigest() == demanded["sha256"]
    assert encoding()._pat_str == theirs["pat_str"]
    assert encoding()._special_tokens == theirs["special_tokens"]


def test_each_token_of_the_vocabulary_encodes_to_itself():
    """`_Piece.grow` rests on it. Not asked of tiktoken, which looks a whole token up in its table."""
    ranks = encoding()._mergeable_ranks
    for token in sorted(ranks)[::97]:
        parts = [token[i : i + 1] for i in range(len(token))]
        while len(parts) > 1:  # textbook byte pair encoding, without any short cut
            pairs = [ranks.get(a + b, len(ranks)) for a, b in pairwise(parts)]
            at = pairs.index(min(pairs))
            if pairs[at] == len(ranks):
                break
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
        assert parts == [token]


def test_importing_loads_neither_tokenizer_nor_vocabulary():
    code = "import sys, streamlib.tokens; print([m for m in ('tiktoken', 'regex') if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"


def test_counting_opens_no_socket():
    code = (
        "import socket\n"
        "def refuse(*a, **k): raise AssertionError('a socket was opened')\n"
        "socket.socket.connect = socket.create_connection = refuse\n"
        "from streamlib.tokens import count_tokens\n"
        "print(count_tokens('tiktoken is great!'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout.strip(), done.stderr) == ("6", "")


# ---------------------------------------------------------------- counting


def tiktoken_count(text: str) -> int:
    return len(encoding().encode_ordinary(text))


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", 0),
        (" streaming", 1),
        ("antidisestablishmentarianism", 6),  # the counts of OpenAI's cookbook for o200k_base
        ("2 + 2 = 4", 7),
        ("お誕生日おめでとう", 8),
    ],
)
def test_published_counts(text, tokens):
    assert count_tokens(text) == tokens


def test_a_special_token_in_the_text_counts_as_the_text_it_is():
    assert count_tokens("<|endoftext|>") == len(encoding().encode("<|endoftext|>", disallowed_special=())) > 1


def test_a_million_blanks_are_counted_where_tiktoken_gives_up():
    assert count_tokens(" " * 1_000_000) == 1_000_000 // 128 + 1


# What decides where a piece ends, and what changes an earlier piece; repeated, it makes long pieces.
ATOMS = [
    *("a", "B", "ab CD", "Foo", "e", "s", "it", "ll", "'", "'r", "'RE", "\u017f", "é", "e\u0301", "\u0301"),
    *(" ", "\n", "\r", "\t", "\x1c", "\xa0", "\u3000", "!", "!!", "/", "-", "_", "=", "。", "、", "1", "23"),
    *("漢", "字の", "한국", "ก็", "ि", "ʰ", "😀", "👍🏽", "\u200d", "<|endoftext|>", "½", "Dž"),
]  # fmt: skip


# No unassigned characters: tiktoken (Unicode 16) and regex (newer) may class them differently.
TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=("Cs", "Cn")), max_size=80),
    st.lists(
        st.builds(str.__mul__, st.sampled_from(ATOMS), st.sampled_from([1, 1, 1, 2, 3, 9, 20, 300])),
        max_size=12,
    ).map("".join),
)


@settings(max_examples=300, deadline=None)
@given(text=TEXTS, sizes=st.lists(st.integers(0, 40), min_size=1))
def test_after_every_chunk_the_count_is_that_of_the_text_so_far(text, sizes):
    counter = TokenCounter()
    at = turn = 0
    while at < len(text):
        size = sizes[turn % len(sizes)] if any(sizes) else 1
        turn += 1
        assert counter.add(text[at : at + size]) == counter.count == tiktoken_count(text[: at + size])
        at += size
    assert counter.count == count_tokens(text)


@pytest.mark.parametrize(
    "unit", ["漢字", "あ", "ก็", "a", "ACGT", "=", " ", "\n ", "\n", "1", "漢A", "👍🏽", "'s"]
)
def test_one_endless_piece_one_character_at_a_time(unit):
    text = (unit * 400)[:400]
    counter = TokenCounter()
    assert [counter.add(c) for c in text] == [tiktoken_count(text[: n + 1]) for n in range(len(text))]


def test_one_letter_can_change_six_tokens_before_it():
    text = "appropriateabcdefghijklmnopqrstuvwxyzwrdd"
    before, after = encoding().encode_ordinary(text[:-1]), encoding().encode_ordinary(text)
    assert before[0] == after[0] and before[1] != after[1] and len(before) == 7
    counter = TokenCounter()
    assert [counter.add(c) for c in text] == [tiktoken_count(text[: n + 1]) for n in range(len(text))]


@pytest.mark.parametrize("blank", [" ", "\t", "\u3000"])
@pytest.mark.parametrize("length", [1, 2, 3, 16, 17, 129, 257])
def test_the_last_of_many_blanks_goes_to_the_word_that_follows(blank, length):
    counter = TokenCounter()
    for text in ("a", blank * length, "b", " c", " d"):
        counter.add(text)
    assert counter.count == tiktoken_count("a" + blank * length + "b c d")


@pytest.mark.parametrize("unit", ["漢字の", "=", " ", "\n ", "word "])
def test_the_text_that_is_cut_again_stays_short(unit):
    """The work of one `add` depends on these two: what is cut again, and how many bytes are encoded again."""
    counter = TokenCounter()
    for _ in range(3000):
        counter.add(unit)
        assert sum(len(piece.shape) for piece in counter._open) <= 2 * 16


@pytest.mark.parametrize("unit", ["漢字の", "=", " ", "\n ", "word "])
def test_few_bytes_are_encoded_again_however_long_the_piece(unit, monkeypatch):
    encoded = []
    real = encoding()._encode_single_piece

    def watched(data: bytes) -> list[int]:
        encoded.append(len(data))
        return real(data)

    monkeypatch.setattr("streamlib.tokens._encode_piece", lambda: watched)
    counter = TokenCounter()
    for _ in range(3000):
        counter.add(unit)
    assert max(encoded) < 4 * 128 + 256 + 1


def test_characters_and_words_summed_up_are_too_many():
    """What lesson 4 shows: why adding up the counts of chunks is wrong."""
    text = "Streaming answers arrive token by token, and tokenizers disagree with chunks."
    words = [word + " " for word in text.split()]
    assert sum(map(count_tokens, words)) > 1.5 * count_tokens("".join(words))


@pytest.mark.parametrize("half", ["\ud83d", "a\ude00b", "\ud83d\ude00"])
def test_half_a_surrogate_pair_counts_as_with_tiktoken(half):
    assert TokenCounter().add(half) == count_tokens(half) == tiktoken_count(half)


@pytest.mark.parametrize("chunk", [None, b"text", SimpleNamespace(choices=[])])
def test_a_chunk_that_is_not_text_is_refused_with_the_mend(chunk):
    with pytest.raises(TypeError, match=r"choices\[0\]\.delta\.content or ''"):
        TokenCounter().add(chunk)


def test_the_example_in_the_docstring():
    counter = TokenCounter()
    assert [counter.add(chunk) for chunk in [" stream", "ing", " is", " fun"]] == [1, 1, 2, 3]


# ---------------------------------------------------------------- messages


def test_messages_of_the_cookbook_count_as_the_api_reported_for_gpt_4o():
    """The example of "How to count tokens with tiktoken", where the API's prompt_tokens were 124."""
    system = (
        "You are a helpful, pattern-following assistant that translates corporate jargon into plain English."
    )
    dialogue = [
        ("example_user", "New synergies will help drive top-line growth."),
        ("example_assistant", "Things working well together will increase revenue."),
        (
            "example_user",
            "Let's circle back when we have more bandwidth "
            "to touch base on opportunities for increased leverage.",
        ),
        ("example_assistant", "Let's talk later when we're less busy about how to do better."),
    ]
    last = "This late pivot means we don't have time to boil the ocean for the client deliverable."
    messages = [
        {"role": "system", "content": system},
        *({"role": "system", "name": name, "content": content} for name, content in dialogue),
        {"role": "user", "content": last},
    ]
    assert count_message_tokens(messages) == 124


def test_a_message_has_an_overhead_and_so_has_the_reply():
    assert count_message_tokens([]) == 3
    assert count_message_tokens([{"role": "user", "content": "hi"}]) == 3 + 3 + 1 + 1


def test_content_in_text_parts_counts_as_its_text():
    parts = [{"type": "text", "text": "hello"}, {"type": "text", "text": " world"}]
    assert count_message_tokens([{"role": "user", "content": parts}]) == count_message_tokens(
        [{"role": "user", "content": "hello world"}]
    )


def test_no_content_is_no_text():
    assert count_message_tokens([{"role": "assistant", "content": None}]) == 3 + 3 + 1


def test_an_image_is_refused():
    with pytest.raises(ValueError, match="image_url"):
        count_message_tokens([{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}])


# ---------------------------------------------------------------- usage and cost

CHAT = {"prompt_tokens": 100, "completion_tokens": 20, "prompt_tokens_details": {"cached_tokens": 64}}
RESPONSES = {"input_tokens": 100, "output_tokens": 20, "input_tokens_details": {"cached_tokens": 64}}


def as_object(value):
    return (
        SimpleNamespace(**{k: as_object(v) for k, v in value.items()}) if isinstance(value, dict) else value
    )


@pytest.mark.parametrize("reported", [CHAT, RESPONSES, as_object(CHAT), as_object(RESPONSES)])
def test_what_the_api_reports_is_preferred_and_named(reported):
    assert token_usage("any prompt", "any text", reported) == TokenUsage(100, 20, 64, "api")


@pytest.mark.parametrize("details", [None, {}, {"cached_tokens": None}])
def test_a_report_without_cache_details_has_no_cached_tokens(details):
    reported = {"prompt_tokens": 5, "completion_tokens": 0, "prompt_tokens_details": details}
    assert token_usage("p", "t", reported) == TokenUsage(5, 0, 0, "api")


@pytest.mark.parametrize("reported", [None, {}, SimpleNamespace()])
def test_without_a_report_the_text_is_counted_and_that_is_said(reported):
    assert token_usage("hello", " streaming is fun", reported) == TokenUsage(3 + 3 + 1 + 1, 3, 0, "counted")


def test_a_usage_object_of_the_openai_package_is_read():
    from openai.types import CompletionUsage

    usage = CompletionUsage(prompt_tokens=7, completion_tokens=3, total_tokens=10)
    assert token_usage("p", "t", usage) == TokenUsage(7, 3, 0, "api")


@pytest.mark.parametrize(
    ("usage", "price", "expected"),
    [
        (TokenUsage(1_000_000, 0), Price(2.5, 10.0), 2.5),
        (TokenUsage(0, 1_000_000), Price(2.5, 10.0), 10.0),
        (TokenUsage(1_000_000, 0, cached=400_000), Price(2.5, 10.0, cached=1.0), 0.6 * 2.5 + 0.4 * 1.0),
        (TokenUsage(1_000_000, 0, cached=400_000), Price(2.5, 10.0), 2.5),
        (TokenUsage(10, 10), Price(0, 0), 0.0),
    ],
)
def test_cost_is_per_million_and_cached_tokens_have_their_own_price(usage, price, expected):
    assert cost(usage, price) == pytest.approx(expected)


# ---------------------------------------------------------------- the budget


class Source:
    """A stream of chunks that remembers how far it was read and whether it was closed."""

    def __init__(self, *chunks: str, fails: bool = False) -> None:
        self.chunks, self.fails, self.sent, self.closed = chunks, fails, 0, False

    async def stream(self) -> AsyncIterator[str]:
        try:
            for chunk in self.chunks:
                self.sent += 1
                yield chunk
            if self.fails:
                raise ConnectionError("cut")
        finally:
            self.closed = True


async def test_a_budget_hands_on_what_arrived_then_stops_the_source():
    source = Source("one", " two", " three", " four", " five")
    got = []
    with pytest.raises(BudgetExceeded, match="4 spent of a budget of 3") as stopped:
        async for text in budget(tokens=3)(source.stream()):
            got.append((text, source.closed))
    assert got == [("one", False), (" two", False), (" three", False), (" four", True)]
    assert source.sent == 4
    assert stopped.value.text == "one two three four"
    assert stopped.value.usage == TokenUsage(0, 4)


async def test_a_budget_used_up_exactly_is_not_exceeded():
    source = Source("one", " two", " three")
    assert [text async for text in budget(tokens=3)(source.stream())] == ["one", " two", " three"]
    assert source.closed


async def test_a_budget_counts_the_text_and_not_the_chunks():
    source = Source(*" streaming is fun")
    assert len([text async for text in budget(tokens=3)(source.stream())]) == len(" streaming is fun")


async def test_money_is_spent_by_the_prompt_too():
    price = Price(input=1_000_000, output=2_000_000)  # 1 and 2 a token
    source = Source("one", " two", " three")
    with pytest.raises(BudgetExceeded, match="14 spent of a budget of 13") as stopped:
        [_ async for _ in budget(money=13, price=price, prompt_tokens=10)(source.stream())]
    assert (stopped.value.text, stopped.value.usage) == ("one two", TokenUsage(10, 2))
    assert cost(stopped.value.usage, price) == 14


async def test_a_prompt_that_is_too_dear_opens_nothing_and_closes_the_source():
    class Closable:
        closed = asked = False

        def __aiter__(self):
            return self

        async def __anext__(self):
            self.asked = True
            return "text"

        async def aclose(self):
            self.closed = True

    source = Closable()
    with pytest.raises(BudgetExceeded) as stopped:
        [_ async for _ in budget(money=1, price=Price(1_000_000, 0), prompt_tokens=2)(source)]
    assert (stopped.value.text, source.asked, source.closed) == ("", False, True)


async def test_an_error_of_the_source_passes_through_a_budget():
    source = Source("one", fails=True)
    got = []
    with pytest.raises(ConnectionError, match="cut"):
        async for text in budget(tokens=99)(source.stream()):
            got.append(text)
    assert (got, source.closed) == (["one"], True)


async def test_closing_a_budget_closes_its_source():
    source = Source("one", " two")
    stage = budget(tokens=99)(source.stream())
    assert await anext(stage) == "one"
    await stage.aclose()
    assert source.closed


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"tokens": 1, "money": 1.0, "price": Price(1, 1)},
        {"money": 1.0},
        {"tokens": 5, "price": Price(1, 1)},
        {"tokens": -1},
        {"money": -0.1, "price": Price(1, 1)},
        {"tokens": 1, "prompt_tokens": -1},
    ],
)
def test_a_budget_that_makes_no_sense_is_refused_at_once(wrong):
    with pytest.raises(ValueError, match=r"budget"):
        budget(**wrong)
