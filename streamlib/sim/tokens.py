"""Text to tokens and back: a tokenizer small enough to read, with no vocabulary file (lessons 2 and 4).

Like the tokenizers of real models it puts a word's leading space into the word's first token, cuts long
words, and loses nothing: ``"".join(split_tokens(text)) == text``. Unlike them it cuts by rule, not by
frequency, so its counts are near, not equal, to theirs. A token never ends inside a character.
"""

from __future__ import annotations

import re

# Letters in pieces of up to six, digits in threes, punctuation in twos, newlines together, a blank alone.
_TOKEN = re.compile(r" ?[^\W\d_]{1,6}| ?\d{1,3}| ?(?:[^\w\s]|_){1,2}|\n+|\s")


def split_tokens(text: str) -> list[str]:
    """The tokens of ``text``, in order."""
    return _TOKEN.findall(text)


def count_tokens(text: str) -> int:
    """How many tokens ``text`` is."""
    return len(split_tokens(text))
