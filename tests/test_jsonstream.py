"""partial_json: the value so far after every piece; at the end what json.loads says, for every chunking."""

from __future__ import annotations

import copy
import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlib.jsonstream import PartialJSONError, partial_json
from streamlib.streams import collect, run

from .stream_helpers import chunkings, cut, fails_after, stream_of


def seen(chunks: list[str]) -> list[Any]:
    """A copy of each value on the way."""

    async def main() -> list[Any]:
        return [copy.deepcopy(value) async for value in partial_json(stream_of(chunks))]

    return run(main())


def is_beginning(part: Any, whole: Any) -> bool:
    """May `part` be seen on the way to `whole`?"""
    if isinstance(part, str) and isinstance(whole, str):
        return whole.startswith(part)
    if isinstance(part, list) and isinstance(whole, list):
        return len(part) <= len(whole) and all(map(is_beginning, part, whole))
    if isinstance(part, dict) and isinstance(whole, dict):
        keys = list(whole)[: len(part)]
        return list(part) == keys and all(is_beginning(part[key], whole[key]) for key in keys)
    return type(part) is type(whole) and bool(part == whole)


STEPS: list[tuple[list[str], list[Any]]] = [
    (['{"na', 'me": "An', 'n"}'], [{}, {"name": "An"}, {"name": "Ann"}]),
    (["[1", "2, 3", "]"], [[], [12], [12, 3]]),
    (["[tr", "ue, ", "null ]"], [[], [True], [True, None]]),
    (["4", "2"], [42]),
    (['"a', 'b"'], ["a", "ab"]),
    (['"\\', "n", '\\u00', 'e9"'], ["", "\n", "\né"]),
    (['"\\ud83d', "\\ude00", '"'], ["", "😀"]),
    (['"\\ud83d', 'x"'], ["", "\ud83dx"]),
    (['{"a": {"b": [', '{"c": "d'], [{"a": {"b": []}}, {"a": {"b": [{"c": "d"}]}}]),
    (["[ ", "\n", " ] "], [[]]),
    (["{}"], [{}]),
]  # fmt: skip


@pytest.mark.parametrize(("chunks", "values"), STEPS, ids=["".join(chunks) for chunks, _ in STEPS])
def test_the_value_so_far(chunks: list[str], values: list[Any]) -> None:
    async def main() -> list[Any]:
        out = []
        try:
            async for value in partial_json(stream_of(chunks)):
                out.append(copy.deepcopy(value))
        except PartialJSONError:
            assert "{" in chunks[0]  # the one that is cut off
        return out

    assert run(main()) == values


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


@st.composite
def json_texts(draw: st.DrawFn) -> str:
    indent = draw(st.sampled_from([None, 0, 2]))
    return json.dumps(draw(json_values), ensure_ascii=draw(st.booleans()), indent=indent)


@given(chunkings(json_texts()))
def test_for_every_value_and_chunking_the_last_is_what_json_loads_gives(chunks: list[str]) -> None:
    whole = json.loads("".join(chunks))
    values = seen(chunks)
    assert values[-1] == whole
    assert is_beginning(whole, values[-1])  # also the types, and the order of the keys
    assert all(is_beginning(value, later) for value, later in pairwise(values))


@st.composite
def nearly_json(draw: st.DrawFn) -> str:
    """JSON with one piece of it replaced by something else, often by nothing."""
    text = draw(json_texts())
    start = draw(st.integers(0, len(text)))
    end = draw(st.integers(start, min(start + 3, len(text))))
    return text[:start] + draw(st.text(JSON_SIGNS, max_size=2)) + text[end:]


JSON_SIGNS = '{}[]",: \\01-.eEtrufalsn\x01d8c\n'


@given(chunkings(st.one_of(nearly_json(), st.text(JSON_SIGNS, max_size=12))))
def test_it_accepts_exactly_what_json_loads_accepts(chunks: list[str]) -> None:
    try:
        whole = json.loads("".join(chunks))
    except ValueError:
        with pytest.raises(PartialJSONError):
            seen(chunks)
    else:
        assert seen(chunks)[-1] == whole


@given(json_texts())
def test_one_character_at_a_time_every_value_is_the_beginning_of_the_whole(text: str) -> None:
    whole = json.loads(text)
    assert all(is_beginning(value, whole) for value in seen(cut(text, 1)))


async def test_it_is_one_object_that_grows() -> None:
    values = await collect(partial_json(stream_of(cut('{"a": [1, 2, "xyz"]}', 1))))
    assert len(values) > 4
    assert all(value is values[0] for value in values)


def test_only_pieces_that_make_it_grow_are_shown() -> None:
    assert len(seen(['{"a"', " ", ":", " ", "1", "}"])) == 2


def test_a_long_string_in_a_dict_grows_in_place() -> None:
    """The order of keys and the rest of the object stay as they are while a string grows."""
    text = json.dumps({"first": 1, "body": "x" * 5000, "last": 2})
    values = seen(cut(text, 7))
    assert values[-1] == json.loads(text)
    assert list(values[-1]) == ["first", "body", "last"]


WRONG: list[tuple[str, str, Any]] = [
    ("Sure! {}", "at character 0: expected a value, got 'Sure! {}'", None),
    ("```json\n{}", "at character 0: expected a value, got '```json", None),
    ('{"a" 1}', "at character 5: expected :, got '1}'", {}),
    ("{a: 1}", "at character 1: expected a key in double quotes or }, got 'a: 1}'", {}),
    ('{"a": 1,}', "at character 8: expected a key in double quotes, got '}'", {"a": 1}),
    ("[1, 2,]", "at character 6: expected a value, got ']'", [1, 2]),
    ("[1 2]", "at character 3: expected , or the closing bracket, got '2]'", [1]),
    ("[01]", "at character 1: expected a value or ], got '01]'", []),
    ("[1}", "at character 2: expected , or the closing bracket, got '}'", [1]),
    ('["a\nb"]', "at character 3: expected the rest of a string, got '\\nb\"]'", ["a"]),
    ('["\\x"]', "at character 2: expected the rest of a string", [""]),
    ("{} {}", "at character 3: expected nothing more, got '{}'", {}),
    ("[NaN]", "at character 1: expected a value or ], got 'NaN]'", []),
    ('{"a": [1, "b', "ended too early, after 12 characters: expected the rest of a string", {"a": [1, "b"]}),
    ('{"a": 1', "ended too early, after 7 characters: expected , or the closing bracket", {"a": 1}),
    ("", "ended too early, after 0 characters: expected a value", None),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message", "value"), WRONG, ids=[repr(row[0]) for row in WRONG])
@pytest.mark.parametrize("size", [1, 1000])
def test_what_is_not_json_is_said_in_words_and_nothing_is_lost(
    text: str, message: str, value: Any, size: int
) -> None:
    with pytest.raises(PartialJSONError) as caught:
        seen(cut(text, size))
    if size == 1000:  # with one character at a time fewer are there to be quoted
        assert message in str(caught.value)
    assert caught.value.value == value


async def test_an_error_of_the_source_arrives_as_it_is() -> None:
    got = []
    with pytest.raises(KeyError):
        async for value in partial_json(fails_after(['{"a": "b', "c"], KeyError("cut off"))):
            got.append(copy.deepcopy(value))
    assert got == [{"a": "b"}, {"a": "bc"}]


def test_integers_longer_than_python_reads_are_refused_not_crashed_on() -> None:
    with pytest.raises(PartialJSONError):
        seen(["[" + "1" * 5000 + "]"])


def test_deep_nesting_is_no_recursion() -> None:
    depth = 20_000
    run(collect(partial_json(stream_of(["[" * depth, "]" * depth]))))
