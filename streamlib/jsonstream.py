"""JSON that is still arriving: the value so far, after every piece of its text. Lesson 4, RFC 8259.

The time must be linear in the length of the text, however it is cut. To parse all of it again for each token
is quadratic, and felt when a tool call writes a long file. So the reader here stops where the text stops, and
goes on from there with the next piece; and what it builds is one value that grows.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator, AsyncIterable
from typing import Any

from .closing import closing

__all__ = ["PartialJSONError", "partial_json"]


class PartialJSONError(ValueError):
    """The text is not JSON, or ended too early. `.value` is what was read before (None: nothing)."""

    def __init__(self, message: str, value: Any) -> None:
        super().__init__(message)
        self.value = value


async def partial_json(stream: AsyncIterable[str]) -> AsyncGenerator[Any, None]:
    """The JSON value so far, each time a piece of text has made it grow.

    It is the same object each time, grown: copy it (`copy.deepcopy`) to keep a moment of it. A string is
    shown as far as it has come, a key once its value begins, a number once its last digit is known.

    Raises
    ------
    PartialJSONError
        At the first character that cannot be JSON, or when the text ends before the value does; its `.value`
        is the value so far. Stricter than `json.loads`, which reads NaN and Infinity.
    """
    reader = _Reader()
    async with closing(stream) as texts:
        async for text in texts:
            if reader.feed(text):
                yield reader.value
        if reader.feed("", last=True):
            yield reader.value
    reader.check_complete()


# Inside a string: a run of plain characters, two escapes that make one character, or one escape.
_STRING_PART = re.compile(
    r"""[^"\\\x00-\x1f]+"""
    r"""|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"""
    r"""|\\u[0-9a-fA-F]{4}"""
    r"""|\\["\\/bfnrt]"""
)
# The beginning of an escape, at the end of the text: more of it has to come before it can be read.
_ESCAPE_BEGINS = re.compile(
    r"""\\(?:u(?:[0-9a-fA-F]{0,3}"""
    r"""|[dD][89abAB][0-9a-fA-F]{2}(?:\\(?:u(?:[dD](?:[c-fC-F][0-9a-fA-F]?)?)?)?)?))?"""
)
_SPACES = re.compile(r"[ \t\n\r]+")
_SCALAR = re.compile(r"[-+.\w]{1,4300}")  # Python reads no longer integers either
_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][-+]?\d+)?", re.ASCII)
_WORDS = {"true": True, "false": False, "null": None}

# What may come next, in the words an error message uses.
_VALUE, _VALUE_OR_END = "a value", "a value or ]"
_KEY, _KEY_OR_END = "a key in double quotes", "a key in double quotes or }"
_COLON, _COMMA_OR_END, _NOTHING = ":", ", or the closing bracket", "nothing more"
_END_OF_STRING = "the rest of a string"
_MAY_CLOSE: set[tuple[str, type, str]] = {("}", dict, _KEY_OR_END), ("}", dict, _COMMA_OR_END)}
_MAY_CLOSE |= {("]", list, _VALUE_OR_END), ("]", list, _COMMA_OR_END)}


class _Reader:
    """Reads JSON text piece by piece into one value."""

    def __init__(self) -> None:
        self._root: list[Any] = []  # a list of one, so that the whole value needs no code of its own
        self._open: list[Any] = [self._root]  # the lists and dicts around the place where the text stops
        self._next = _VALUE
        self._key = ""  # of the dict on top of `_open`: the key whose value is read
        self._key_parts: list[str] | None = None  # inside a key: what has come of it
        self._in_string = False
        self._tail = ""  # the end of the text that cannot be read yet: half a number, half an escape
        self._offset = 0  # where in the whole text `_tail` begins
        self._grown = False

    @property
    def value(self) -> Any:
        return self._root[0] if self._root else None

    def feed(self, text: str, *, last: bool = False) -> bool:
        """Read one more piece of text. Did the value grow?"""
        text = self._tail + text
        self._grown = False
        at = 0
        while at < len(text):
            read = self._string if self._in_string else self._token
            end = read(text, at, last)
            if end == at:
                break
            at = end
        self._tail = text[at:]
        self._offset += at
        return self._grown

    def check_complete(self) -> None:
        """Raise `PartialJSONError` unless the value is whole."""
        if self._next is not _NOTHING:
            expected = _END_OF_STRING if self._in_string else self._next
            message = f"the JSON ended too early, after {self._offset} characters: expected {expected}"
            raise PartialJSONError(message, self.value)

    # Each reader below reads one thing at `at` and returns where it ends: at `at` if more has to come first.

    def _token(self, text: str, at: int, last: bool) -> int:
        if spaces := _SPACES.match(text, at):
            return spaces.end()
        token, inside = text[at], self._open[-1]
        if token == '"' and self._next in (_KEY, _KEY_OR_END):
            self._key_parts = []
            self._in_string = True
        elif token == "," and self._next is _COMMA_OR_END:
            self._next = _KEY if isinstance(inside, dict) else _VALUE
        elif token == ":" and self._next is _COLON:
            self._next = _VALUE
        elif (token, type(inside), self._next) in _MAY_CLOSE:
            self._open.pop()
            self._value_is_whole()
        elif self._next in (_VALUE, _VALUE_OR_END):
            return self._begin_value(text, at, last)
        else:
            raise self._error(text, at, self._next)
        return at + 1

    def _begin_value(self, text: str, at: int, last: bool) -> int:
        token = text[at]
        if token == '"':
            self._put("")
            self._in_string = True
        elif token in "{[":
            container: Any = {} if token == "{" else []
            self._put(container)
            self._open.append(container)
            self._next = _KEY_OR_END if token == "{" else _VALUE_OR_END
        elif scalar := _SCALAR.match(text, at):
            if scalar.end() == len(text) and not last:
                return at
            word = scalar[0]
            if word in _WORDS:
                self._put(_WORDS[word])
            elif _NUMBER.fullmatch(word):
                self._put(json.loads(word))
            else:
                raise self._error(text, at, self._next)
            self._value_is_whole()
            return scalar.end()
        else:
            raise self._error(text, at, self._next)
        return at + 1

    def _string(self, text: str, at: int, last: bool) -> int:
        parts = []
        while part := _STRING_PART.match(text, at):
            escaped = part[0][0] == "\\"
            if escaped and not last and _ESCAPE_BEGINS.fullmatch(text, at):
                break  # perhaps half of a pair
            parts.append(json.loads(f'"{part[0]}"') if escaped else part[0])
            at = part.end()
        if parts:
            self._grow("".join(parts))
        if text.startswith('"', at):
            self._in_string = False
            if self._key_parts is None:
                self._value_is_whole()
            else:
                self._key, self._key_parts, self._next = "".join(self._key_parts), None, _COLON
            return at + 1
        if at < len(text) and not _ESCAPE_BEGINS.fullmatch(text, at):
            raise self._error(text, at, _END_OF_STRING)
        return at

    def _put(self, value: Any) -> None:
        self._grown = True
        inside = self._open[-1]
        if isinstance(inside, list):
            inside.append(value)
        else:
            inside[self._key] = value

    def _grow(self, more: str) -> None:
        if self._key_parts is not None:
            self._key_parts.append(more)
            return
        # CPython makes a string longer in place, without a copy, only if one local name holds it.
        # So it leaves its container for that moment.
        inside = self._open[-1]
        text = inside.pop() if isinstance(inside, list) else inside.pop(self._key)
        text += more
        self._put(text)

    def _value_is_whole(self) -> None:
        self._next = _NOTHING if len(self._open) == 1 else _COMMA_OR_END

    def _error(self, text: str, at: int, expected: str) -> PartialJSONError:
        return PartialJSONError(
            f"not JSON at character {self._offset + at}: expected {expected}, got {text[at : at + 20]!r}",
            self.value,
        )
