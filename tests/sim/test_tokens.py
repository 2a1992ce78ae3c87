"""The simulator's tokenizer."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamlib.sim.tokens import count_tokens, split_tokens


@given(st.text())
def test_joined_tokens_are_the_text(text: str) -> None:
    assert "".join(split_tokens(text)) == text


@given(st.text(), st.text())
def test_a_cut_between_two_tokens_changes_no_token_before_it(first: str, second: str) -> None:
    tokens = split_tokens(first + second)
    for n in range(len(tokens)):
        assert split_tokens("".join(tokens[:n])) == tokens[:n]


def test_a_word_takes_its_leading_space_and_long_words_are_cut() -> None:
    assert split_tokens("Streaming tokens, naïvely.") == [
        "Stream",
        "ing",
        " tokens",
        ",",
        " naïvel",
        "y",
        ".",
    ]


def test_english_has_about_four_characters_to_a_token() -> None:
    text = "A model reads and writes tokens, and a token is often a common word with the space before it."
    assert 3.5 < len(text) / count_tokens(text) < 5
